"""Clips whose *sentence* no recogniser could hear: the speech engine stumbled, so the row says nothing about a model.

A round trip tells the engine's fault from the model's. For every row the words around the term are scored, without the
term's own words and what came in their place: whether a term was heard never decides whether its row counts. A clip is
a suspect where most of those words are wrong although its neighbours under the same condition, other sentences in the
same voice and other clips of the same term, are heard well. A model that fails in noise fails on the neighbours too: no
row becomes a suspect for being hard.

Suspects are kept out of the score until a person has listened and cleared them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from statistics import median

from clinical_asr.alignment import align
from clinical_asr.errors import FlywheelError
from clinical_asr.records import Hypothesis, LedgerEntry, Outcome, Row
from clinical_asr.text import DEFAULT_NORMALISER, term_key
from clinical_asr.text import normaliser as normaliser_named

WRONG = 0.5  # share of the words around the term: the sentence failed
FINE = 0.2  # of a neighbour: it was heard
ENOUGH_OF_VOICE = 3  # neighbours in the same voice; fewer prove nothing
ENOUGH_OF_TERM = 1


class Suspect(Row, frozen=True, kw_only=True):
    """A clip to listen to, and what speaks against it."""

    id: str
    audio_filepath: str
    text: str
    pred_text: str
    term: str
    voice_id: str
    noise_level: str
    wer_around: float
    """Errors in the words around the term over their number."""
    wer_voice: float
    """Median of the same over other clips in this voice, under this condition."""
    wer_term: float
    """Median of the same over other clips of this term, under this condition."""

    @property
    def reason(self) -> str:
        """For the ledger and for a person."""
        return (
            f"suspect speech: {self.wer_around:.0%} of the words around the term are wrong, "
            f"{self.wer_voice:.0%} in this voice's other clips, {self.wer_term:.0%} in this term's"
        )


class Clearance(Row, frozen=True, kw_only=True):
    """A person listened to a suspect and found the speech right: the row counts again."""

    id: str
    by: str
    at: str
    """ISO 8601 time, UTC."""
    notes: str = ""


def errors_around(reference: str, hypothesis: str, term: str) -> tuple[int, int]:
    """(errors, words) of a normalised sentence without its term, and without what was heard in the term's place.

    >>> errors_around("give cefazolin one gram now", "give cefa zolin one gram now", "cefazolin")
    (0, 4)
    >>> errors_around("give cefazolin one gram now", "if cefazolin won graham", "cefazolin")
    (4, 4)
    """
    words = reference.split()
    own = _places(words, term.split())
    errors, last, steps = 0, -1, list(align(reference, hypothesis))
    for operation, i, _ in steps:
        if operation == "insertion":
            errors += last not in own and last + 1 not in own
        else:
            errors += operation != "hit" and i not in own
            last = i
    return errors, len(words) - len(own)


def _places(words: Sequence[str], term: Sequence[str]) -> set[int]:
    """Indices of all occurrences of the term's words."""
    size = len(term)
    starts = [at for at in range(len(words) - size + 1) if size and list(words[at : at + size]) == list(term)]
    return {at + step for at in starts for step in range(size)}


def find(rows: Iterable[Hypothesis], normaliser: str = DEFAULT_NORMALISER) -> list[Suspect]:
    """The suspects among the rows of one model, worst first. Rows without a term, or without other words, are none."""
    clean = normaliser_named(normaliser)
    rates: dict[str, float] = {}
    judged: list[Hypothesis] = []
    for row in rows:
        errors, words = errors_around(clean(row.text), clean(row.pred_text), clean(row.term))
        if row.term and words:
            rates[row.id] = errors / words
            judged.append(row)
    of_voice, of_term = _groups(judged, rates)
    found = [_suspect(row, rates, of_voice, of_term) for row in judged if rates[row.id] >= WRONG]
    return sorted((suspect for suspect in found if suspect), key=lambda suspect: (-suspect.wer_around, suspect.id))


Rates = dict[tuple[str, str], list[float]]


def _groups(rows: Sequence[Hypothesis], rates: dict[str, float]) -> tuple[Rates, Rates]:
    """Error rates by (voice, condition) and by (term, condition)."""
    of_voice: Rates = defaultdict(list)
    of_term: Rates = defaultdict(list)
    for row in rows:
        of_voice[row.voice_id, row.noise_level].append(rates[row.id])
        of_term[term_key(row.term), row.noise_level].append(rates[row.id])
    return of_voice, of_term


def _suspect(row: Hypothesis, rates: dict[str, float], of_voice: Rates, of_term: Rates) -> Suspect | None:
    rate = rates[row.id]
    voice = _others(of_voice[row.voice_id, row.noise_level], rate)
    term = _others(of_term[term_key(row.term), row.noise_level], rate)
    if len(voice) < ENOUGH_OF_VOICE or len(term) < ENOUGH_OF_TERM or max(median(voice), median(term)) > FINE:
        return None
    return Suspect(
        id=row.id, audio_filepath=row.audio_filepath, text=row.text, pred_text=row.pred_text, term=row.term,
        voice_id=row.voice_id, noise_level=row.noise_level, wer_around=round(rate, 4),
        wer_voice=round(median(voice), 4), wer_term=round(median(term), 4),
    )  # fmt: skip


def _others(group: Sequence[float], own: float) -> list[float]:
    """The group without this row."""
    rest = list(group)
    rest.remove(own)
    return rest


def standing(suspects: Iterable[Suspect], clearances: Iterable[Clearance]) -> list[Suspect]:
    """Suspects that nobody has cleared."""
    cleared = {clearance.id for clearance in clearances}
    return [suspect for suspect in suspects if suspect.id not in cleared]


def excluded(suspects: Iterable[Suspect]) -> list[LedgerEntry]:
    """How suspects leave the score."""
    return [
        LedgerEntry(id=s.id, outcome=Outcome.EXCLUDED, reason=s.reason, audio_filepath=s.audio_filepath)
        for s in suspects
    ]


def clear(ids: Iterable[str], suspects: Sequence[Suspect], by: str, notes: str = "") -> list[Clearance]:
    """Clearances of these suspects, with the time. Raises FlywheelError: no such suspect, or nobody vouches."""
    if not by.strip():
        raise FlywheelError("nobody is named", "--by", "say who has listened")
    known = {suspect.id for suspect in suspects}
    unknown = [row_id for row_id in ids if row_id not in known]
    if unknown:
        mend = f"one of {', '.join(sorted(known)[:8])}" if known else "the file lists none: there is nothing to clear"
        raise FlywheelError(f"{unknown[0]!r} is no suspect", "suspects", mend)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return [Clearance(id=row_id, by=by.strip(), at=at, notes=notes) for row_id in ids]
