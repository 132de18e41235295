"""Moving a manifest to another host: a new file whose audio paths begin elsewhere, the original untouched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

from clinical_asr.containment import refused_fields, refused_path
from clinical_asr.errors import FlywheelError, ManifestError
from clinical_asr.jsonl import iter_objects, write_rows
from clinical_asr.records import LedgerEntry, Outcome, Row

R = TypeVar("R", bound=Row)


@dataclass
class Rewrite:
    """What :func:`rewrite` did: how many paths changed, which lines did not match, one ledger entry per row."""

    count: int = 0
    unmatched: list[int] = field(default_factory=list)
    entries: list[LedgerEntry] = field(default_factory=list)

    @property
    def declared(self) -> list[str]:
        """What :func:`clinical_asr.cycle.account` compares the entries with."""
        return [entry.id for entry in self.entries]


def rewrite(source: Path, target: Path, from_prefix: str, to_prefix: str, *, force: bool = False) -> Rewrite:
    """Write a copy of a manifest whose audio paths begin with another folder. All other fields stay as they are.

    Whole folders match: ``/data`` is no prefix of ``/database``. Rows that do not match are copied and reported.

    Raises:
        FlywheelError: the target is the source, or exists and ``force`` is not given, or no row matches.
        ManifestError: a line of the source is not a JSON object with an ``audio_filepath``.
    """
    _require_new(source, target, force)
    done = Rewrite()
    rows = [_moved(source, number, fields, from_prefix, to_prefix, done) for number, fields in iter_objects(source)]
    if not rows:
        raise ManifestError(source, None, "", "is empty", "write one JSON object a line")
    if not done.count:
        raise FlywheelError(f"no audio path begins with {from_prefix}", str(source), "check --from")
    write_rows(target, rows)
    return done


def _require_new(source: Path, target: Path, force: bool) -> None:
    same_file = target.exists() and source.exists() and target.samefile(source)
    if same_file or target.absolute() == source.absolute():
        raise FlywheelError("would overwrite the manifest it reads", str(target), "write to another file")
    if target.is_dir():
        raise FlywheelError("is a folder", str(target), "name the new file itself")
    if target.exists() and not force:
        raise FlywheelError("exists already", str(target), "choose another file, or overwrite it with --force")


def _moved(source: Path, number: int, fields: dict[str, Any], old: str, new: str, done: Rewrite) -> Row:
    audio = fields.get("audio_filepath")
    if not isinstance(audio, str) or not audio:
        raise ManifestError(source, number, "audio_filepath", "is not a path", "write the audio's path")
    _refuse_foreign(source, number, fields, audio)
    moved = replace_prefix(audio, old, new)
    if moved is None:
        done.unmatched.append(number)
    else:
        done.count += 1
    identity = fields.get("id")
    entry_id = identity if isinstance(identity, str) and identity else f"line {number}"
    reason = "" if moved is not None else f"does not begin with {old}: copied unchanged"
    done.entries.append(LedgerEntry(id=entry_id, outcome=Outcome.PASSED, reason=reason, audio_filepath=moved or audio))
    return Row(extra={**fields, "audio_filepath": moved or audio})


def _refuse_foreign(source: Path, number: int, fields: dict[str, Any], audio: str) -> None:
    """A path that is no path, or a field that leads NeMo elsewhere, is not carried to another machine."""
    if why := refused_path(audio):
        raise ManifestError(source, number, "audio_filepath", why, "write the path of a recording, without it")
    for name, why, mend in refused_fields(fields):
        raise ManifestError(source, number, name, why, mend)


def replace_prefix(path: str, old: str, new: str) -> str | None:
    """``path`` with its leading folders ``old`` replaced; ``None`` if it does not begin with them.

    >>> replace_prefix("/data/a/b.wav", "/data/", "/workspace")
    '/workspace/a/b.wav'
    >>> replace_prefix("/database/b.wav", "/data", "/workspace") is None
    True
    >>> replace_prefix("audio/b.wav", ".", "/workspace")
    '/workspace/audio/b.wav'
    """
    whole, prefix = PurePosixPath(path), PurePosixPath(old)
    if whole.is_absolute() != prefix.is_absolute() or not whole.is_relative_to(prefix):
        return None
    return str(PurePosixPath(new) / whole.relative_to(prefix))


def seen_from(folder: Path, rows: Sequence[R], old_folder: Path) -> list[R]:
    """Rows with an ``audio_filepath``, out of a file in ``old_folder``, for one in ``folder``: same recordings.

    Paths that would need ``..``, which no manifest may hold, become absolute.
    """
    return list(iter_seen_from(folder, rows, old_folder))


def iter_seen_from(folder: Path, rows: Iterable[R], old_folder: Path) -> Iterator[R]:
    """The same, row by row."""
    if folder.resolve() == old_folder.resolve():
        yield from rows
        return
    for row in rows:
        yield msgspec.structs.replace(row, audio_filepath=_path_from(folder, row, old_folder))


def _path_from(folder: Path, row: Any, old_folder: Path) -> str:
    if not row.audio_filepath:
        return ""
    path, home = Path(old_folder.resolve(), row.audio_filepath), folder.resolve()
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else path.as_posix()
