"""``pronunciation_overrides.csv``: pronunciations that a person has listened to and vouches for.

The file only ever grows, across all cycles: a mistake is corrected by a later line, never by deleting an earlier one.
"""

from __future__ import annotations

from pathlib import Path

from clinical_asr.errors import FlywheelError, ManifestError
from clinical_asr.ipa import require_ipa
from clinical_asr.jsonl import append_csv, read_csv
from clinical_asr.records import Row

COLUMNS = ("term", "ipa", "verified_by", "verified_at", "notes")


class Override(Row, frozen=True, kw_only=True):
    """One line of the file: a term, how it sounds, who says so and when."""

    term: str
    ipa: str
    verified_by: str
    verified_at: str
    """ISO 8601 date or time."""
    notes: str = ""


def read_overrides(path: Path) -> list[Override]:
    """All lines of the file, in order; none if there is no such file.

    Raises ManifestError for an empty field or an ``ipa`` that is none; it names the line.
    """
    if not path.exists():
        return []
    overrides = read_csv(path, Override, required=COLUMNS)
    for number, override in enumerate(overrides, 2):
        _check(override, path, number)
    return overrides


def append_override(path: Path, override: Override) -> None:
    """Add one line; on disk when this returns. The file is made, with its header, if there is none.

    A file that has further columns, another order of them, a byte order mark or no newline at its end keeps them.

    Raises ManifestError for a field that is empty or breaks the line, an ``ipa`` that is none, or a file that has not
    the columns; nothing is written then.
    """
    _check(override, path, None)
    append_csv(path, override, COLUMNS)


def _check(override: Override, path: Path, line: int | None) -> None:
    for field in COLUMNS:
        value = getattr(override, field)
        if field != "notes" and not value.strip():
            raise ManifestError(path, line, field, "is empty", "a person has to vouch for every line")
        if not value.isprintable():
            raise ManifestError(path, line, field, "holds a line break or control character", "write it on one line")
    try:
        require_ipa(override.ipa)
    except FlywheelError as error:
        raise ManifestError(path, line, "ipa", error.what, error.mend) from None
