"""Stage audition: no benchmark is spoken in full before a person has listened to one clip of every term.

The gate fails closed. It opens by a verdict per term, or by a waiver that somebody typed and that is kept in the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from clinical_asr.errors import FlywheelError
from clinical_asr.jsonl import write_text
from clinical_asr.records import Row, Term

WAIVER_LENGTH = 20  # characters: a reason, not a reflex


class Verdict(StrEnum):
    """What the listener says: use it, mend its pronunciation first, or leave the term out."""

    GOOD = "good"
    FIX = "fix"
    DROP = "drop"


class Audition(Row, frozen=True, kw_only=True):
    """One person's verdict on one term; a later one replaces an earlier one."""

    term: str
    verdict: Verdict
    notes: str = ""
    by: str = ""
    at: str = ""
    """ISO 8601 time."""


def require_heard(terms: Sequence[Term], auditions: Sequence[Audition], waiver: str = "") -> list[Term]:
    """The terms that may be spoken in full: all but those a listener dropped.

    A waiver stands for verdicts that are missing, never against a verdict that was given.

    Raises:
        FlywheelError: unheard terms without a waiver, a waiver too short to be a reason, or terms to be mended first.
    """
    verdicts = {audition.term.casefold(): audition.verdict for audition in auditions}
    of_term = {term.term: verdicts.get(term.term.casefold()) for term in terms}
    _refuse_unfixed([term for term, verdict in of_term.items() if verdict is Verdict.FIX])
    unheard = [term for term, verdict in of_term.items() if verdict is None]
    if unheard:
        _require_waiver(unheard, waiver)
    return [term for term in terms if of_term[term.term] is not Verdict.DROP]


def _refuse_unfixed(terms: Sequence[str]) -> None:
    if terms:
        raise FlywheelError(
            f"{len(terms)} terms were heard and need another pronunciation: {_some(terms)}",
            "audition",
            "add them to pronunciation_overrides.csv, listen again and record the new verdict",
        )


def _some(terms: Sequence[str], most: int = 8) -> str:
    """The first few names: an error stays one line."""
    more = f" and {len(terms) - most} more" if len(terms) > most else ""
    return ", ".join(terms[:most]) + more


def _require_waiver(unheard: Sequence[str], waiver: str) -> None:
    length = len(" ".join(waiver.split()))
    if length >= WAIVER_LENGTH:
        return
    given = f"; the waiver given has {length} characters, {WAIVER_LENGTH} are needed" if waiver else ""
    raise FlywheelError(
        f"nobody has listened to {len(unheard)} terms: {_some(unheard)}{given}",
        "audition",
        f"record a verdict for each, or waive it deliberately with a sentence of {WAIVER_LENGTH} characters or more",
    )


def record_waiver(notes_path: Path, sentence: str, terms: Sequence[Term], at: datetime | None = None) -> None:
    """Append the waiver, its time (UTC) and the terms it stands for to the cycle's notes; the same one only once."""
    notes = notes_path.read_text(encoding="utf-8") if notes_path.exists() else "# Notes of this cycle\n"
    listed = ", ".join(term.term for term in terms)
    body = f"> {' '.join(sentence.split())}\n\nUnheard terms ({len(terms)}): {listed}\n"
    if body in notes:
        return
    time = (at or datetime.now(UTC)).isoformat(timespec="seconds")
    write_text(notes_path, f"{notes}\n## Audition waived, {time}\n\n{body}")
