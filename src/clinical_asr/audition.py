"""Stage audition: no benchmark is spoken in full before a person has listened to one clip of every term.

The gate fails closed. It opens by a verdict per term, or by a waiver that somebody typed and that is kept in the notes.
A verdict vouches for what was heard: once the term is to be said otherwise, or by another speech engine, it is unheard
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from clinical_asr.errors import FlywheelError
from clinical_asr.jsonl import write_text
from clinical_asr.records import Pronunciation, Row, Term

WAIVER_LENGTH = 20  # characters: a reason, not a reflex
ESPEAK = "espeak"
"""The engine of verdicts that name none: earlier versions spoke auditions with no other."""


class Verdict(StrEnum):
    """What the listener says: use it, mend its pronunciation first, or leave the term out."""

    GOOD = "good"
    FIX = "fix"
    DROP = "drop"


class Audition(Row, frozen=True, kw_only=True):
    """One person's verdict on one term; a later one replaces an earlier one.

    Lines written by hand or by an earlier version may hold the term and the verdict alone: they then vouch for the
    speech engine's own pronunciation.
    """

    term: str
    verdict: Verdict
    notes: str = ""
    by: str = ""
    at: str = ""
    """ISO 8601 time."""
    ipa: str = ""
    """The pronunciation heard; empty where the speech engine's own rules decided."""
    new_ipa: str = ""
    """Of a ``fix``: what it shall be instead."""
    voice_id: str = ""
    audio_digest: str = ""
    """SHA-256 of the clip heard."""
    engine: str = ESPEAK
    """The speech engine heard."""
    played: str = ""
    """How it is known that the clip was played: ``browser``, ``player``, or ``said so``."""


class Standing(StrEnum):
    """Where a term stands before the gate."""

    UNHEARD = "unheard"
    CHANGED = "changed"
    """There is a verdict, on another pronunciation than the term has now, or on another speech engine."""
    GOOD = "good"
    FIX = "fix"
    DROP = "drop"

    @property
    def settled(self) -> bool:
        """True where nothing is left to do: it is used, or left out."""
        return self in (Standing.GOOD, Standing.DROP)


def standings(
    terms: Sequence[Term],
    auditions: Sequence[Audition],
    said: Sequence[Pronunciation] = (),
    engine: str = ESPEAK,
) -> dict[str, Standing]:
    """Where each term stands: by its last verdict, and by whether that was on how it is pronounced now.

    ``said`` are the pronunciations of now; ``engine`` is the speech engine that will say them.

    >>> heard = [Audition(term="Heparin", verdict="good"), Audition(term="cefazolin", verdict="good")]
    >>> terms = [Term(term=name, entity_category="drug") for name in ("heparin", "cefazolin", "apixaban")]
    >>> said = [Pronunciation(term="cefazolin", ipa_source="override", ipa="sɛˈfæzəlɪn")]
    >>> [standing.value for standing in standings(terms, heard, said).values()]
    ['good', 'changed', 'unheard']
    >>> set(standings(terms[:2], heard, engine="magpie").values()) == {Standing.CHANGED}
    True
    """
    last = last_verdicts(auditions, engine)
    ipa = {one.term.casefold(): one.ipa.strip("/ ") for one in said}
    keys = {term.term: term.term.casefold() for term in terms}
    return {name: _standing(last.get(key), ipa.get(key), engine) for name, key in keys.items()}


def last_verdicts(auditions: Sequence[Audition], engine: str = ESPEAK) -> dict[str, Audition]:
    """The verdict that counts of each term, by its name in lower case: the last one on this engine, or to drop it.

    Where there is none, the last one on another engine, which vouches for nothing here.
    """
    anywhere = {one.term.casefold(): one for one in auditions}
    here = {one.term.casefold(): one for one in auditions if one.engine == engine or one.verdict == Verdict.DROP}
    return anywhere | here


def _standing(audition: Audition | None, ipa: str | None, engine: str) -> Standing:
    """``ipa`` is ``None`` where nobody says how the term is pronounced now. A dropped term stays dropped."""
    if audition is None:
        return Standing.UNHEARD
    as_heard = engine == audition.engine and (ipa is None or ipa == audition.ipa)
    if not as_heard and audition.verdict != Verdict.DROP:
        return Standing.CHANGED
    return Standing(audition.verdict)


def unheard(
    terms: Sequence[Term],
    auditions: Sequence[Audition],
    said: Sequence[Pronunciation] = (),
    engine: str = ESPEAK,
) -> list[Term]:
    """Terms that nobody has heard as they are pronounced now: those that a waiver has to stand for."""
    of_term = standings(terms, auditions, said, engine)
    return [term for term in terms if of_term[term.term] in (Standing.UNHEARD, Standing.CHANGED)]


def require_heard(
    terms: Sequence[Term],
    auditions: Sequence[Audition],
    waiver: str = "",
    said: Sequence[Pronunciation] = (),
    listen: str = "clinical-asr audition",
    engine: str = ESPEAK,
) -> list[Term]:
    """The terms that ``engine`` may speak in full: all but those a listener dropped.

    A waiver stands for verdicts that are missing, never against a verdict that was given. ``listen`` is the command
    that a person is told to type.

    Raises:
        FlywheelError: unheard terms without a waiver, a waiver too short to be a reason, terms to be mended first, or
            no term left.
    """
    of_term = standings(terms, auditions, said, engine)
    _refuse_unfixed([term for term, standing in of_term.items() if standing is Standing.FIX], listen)
    if unheard(terms, auditions, said, engine):
        _require_waiver(waiver, _missing(of_term, last_verdicts(auditions, engine), engine), listen)
    kept = [term for term in terms if of_term[term.term] is not Standing.DROP]
    if not kept:
        raise FlywheelError("every term was dropped by the listener", "audition", f"hear them again: {listen} --all")
    return kept


def _refuse_unfixed(terms: Sequence[str], listen: str) -> None:
    if terms:
        raise FlywheelError(
            f"{len(terms)} terms were heard and need another pronunciation: {_some(terms)}",
            "audition",
            f"give it and listen again: {listen}",
        )


def _some(terms: Sequence[str], most: int = 8) -> str:
    """The first few names: an error stays one line."""
    more = f" and {len(terms) - most} more" if len(terms) > most else ""
    return ", ".join(terms[:most]) + more


def _missing(of_term: dict[str, Standing], last: dict[str, Audition], engine: str) -> list[str]:
    """Terms that nobody has heard as ``engine`` will say them; first those whose verdict does not count, and why."""
    changed = [(term, last[term.casefold()].engine) for term, now in of_term.items() if now is Standing.CHANGED]
    why = {engine: "pronounced otherwise since"}
    told = [f"{term} ({why.get(heard, f'heard from {heard}')})" for term, heard in changed]
    return told + [term for term, standing in of_term.items() if standing is Standing.UNHEARD]


def _require_waiver(waiver: str, missing: Sequence[str], listen: str) -> None:
    length = len(" ".join(waiver.split()))
    if length >= WAIVER_LENGTH:
        return
    given = f"; the waiver given has {length} characters, {WAIVER_LENGTH} are needed" if waiver else ""
    raise FlywheelError(
        f"nobody has listened to {len(missing)} terms: {_some(missing)}{given}",
        "audition",
        f"listen: {listen} (or waive it: --waive-audition and a sentence of {WAIVER_LENGTH} characters or more)",
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
