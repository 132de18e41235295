"""Typed errors: each says what is wrong, where, and how to mend it, in one line for a person."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a terminal's cursor, turn its writing round, or cannot be written at all."""


def printable(text: str) -> str:
    r"""``text`` as it may be shown in a terminal: in one line, and with nothing in it that a terminal would obey.

    >>> printable("ok\x1b[2Jgone \u202etxt.exe"), printable("two\nlines")
    ('ok\\x1b[2Jgone \\u202etxt.exe', 'two lines')
    """
    return _UNPRINTABLE.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    character = match.group()
    return " " if character in "\t\n\r" else ascii(character)[1:-1]


class FlywheelError(Exception):
    """Anything a person can mend. The command line prints ``str(error)`` and exits with ``exit_code``.

    >>> print(FlywheelError("term is empty", where="terms.csv line 3", mend="write the term or delete the line"))
    terms.csv line 3: term is empty; write the term or delete the line
    """

    exit_code = 2

    def __init__(self, what: str, where: str = "", mend: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.mend = what, where, mend

    def __reduce__(self) -> tuple[object, ...]:
        """As it is, whatever its class is made from: errors travel between processes."""
        return _unpacked, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return printable(f"{place}{self.what}" + (f"; {self.mend}" if self.mend else ""))


def _unpacked(kind: type[FlywheelError], args: tuple[object, ...], state: dict[str, object]) -> FlywheelError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigError(FlywheelError):
    """A flag, a recipe key or a combination of them that cannot be used."""


class ManifestError(FlywheelError):
    """A row of a JSONL or CSV file that breaks the contract.

    >>> print(ManifestError("m.jsonl", 7, "duration", "is null", "run: clinical-asr manifest check --fix"))
    m.jsonl line 7, duration: is null; run: clinical-asr manifest check --fix
    """

    def __init__(self, path: object, line: int | None, field: str, why: str, mend: str = "") -> None:
        where = f"{path}" + (f" line {line}" if line else "") + (f", {field}" if field else "")
        super().__init__(why, where=where, mend=mend)
        self.path, self.line, self.field, self.why = str(path), line, field, why


class AudioError(FlywheelError):
    """An audio file that cannot be decoded or is not what the manifest says it is."""


class ScoringError(FlywheelError):
    """A score that has no meaning: a term missing from its reference, two signatures that differ, ..."""


class ModelError(FlywheelError):
    """A base that cannot be read, or that the method refuses to fine-tune."""


class TrainingError(FlywheelError):
    """Training that stopped, or whose row count does not add up."""


class MissingDependency(FlywheelError):
    """An optional library is not installed.

    >>> print(MissingDependency("NeMo", "nemo"))
    NeMo is not installed; run: pip install 'clinical-asr-flywheel[nemo]'
    """

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed", mend=f"run: pip install 'clinical-asr-flywheel[{extra}]'")
