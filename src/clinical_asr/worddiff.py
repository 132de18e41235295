"""One row's words as a reader wants them: what was said, what was heard instead, and where the term stands. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from clinical_asr.alignment import Operation, Step, align
from clinical_asr.occurrences import TermIndex
from clinical_asr.tally import Score
from clinical_asr.text import normaliser as normaliser_named

Mark = Literal["", "hit", "miss", "unsaid", "confused"]
"""The row's own term, heard or missed; a listed term heard that nobody said; or both: one term heard as another."""


class Segment(NamedTuple):
    """Neighbouring words that share a fate. ``said`` is empty in an insertion, ``heard`` in a deletion."""

    operation: Operation
    said: str
    heard: str
    mark: Mark = ""


def word_diff(row: Score, normaliser: str, unsaid: Sequence[str] = ()) -> list[Segment]:
    """Aligned words of a row as they were scored, that is, normalised.

    ``unsaid`` are listed terms that the row hears although nobody says them; they are marked where they stand.

    >>> from clinical_asr.records import Hypothesis
    >>> from clinical_asr.scores import score
    >>> [row] = score([Hypothesis(id="a", audio_filepath="a.wav", duration=1.0, text="Give cefazolin now, please.",
    ...                           pred_text="give cefa zolin now", term="cefazolin", entity_category="drug")])
    >>> for segment in word_diff(row, "clinical-v1"):
    ...     print(segment.operation, repr(segment.said), repr(segment.heard), segment.mark or "-")
    hit 'give' 'give' -
    insertion '' 'cefa' -
    substitution 'cefazolin' 'zolin' miss
    hit 'now' 'now' -
    deletion 'please' '' -
    """
    left, right = (normaliser_named(normaliser)(text) for text in (row.reference, row.hypothesis))
    steps = align(left, right)
    said, heard = left.split(), right.split()
    term_marks = _term_marks(row, said, steps, normaliser)
    unsaid_marks = _unsaid_marks(heard, steps, unsaid, normaliser)
    return list(_merged([_segment(step, said, heard, term_marks, unsaid_marks) for step in steps]))


def _segment(
    step: Step, said: Sequence[str], heard: Sequence[str], term_marks: dict[int, Mark], unsaid_marks: dict[int, Mark]
) -> Segment:
    operation, i, j = step
    mark: Mark = term_marks.get(i) or unsaid_marks.get(j) or ""
    if mark == "miss" and j in unsaid_marks:
        mark = "confused"
    return Segment(operation, said[i] if i >= 0 else "", heard[j] if j >= 0 else "", mark)


@lru_cache(maxsize=4096)
def _index(term: str, normaliser: str) -> TermIndex:
    return TermIndex([(term, "")], normaliser)


def _term_marks(row: Score, said: Sequence[str], steps: Sequence[Step], normaliser: str) -> dict[int, Mark]:
    """Reference position -> hit or miss. The row's count decides; only where it is split does the place tell which."""
    count = row.tally.keywords
    if not row.term or not count.occurrences:
        return {}
    matched = {i for operation, i, _ in steps if operation == "hit"}
    marks: dict[int, Mark] = {}
    for occurrence in _index(row.term, normaliser).find_words(said):
        places = range(occurrence.start, occurrence.end)
        in_place = all(place in matched for place in places)
        hit = in_place if count.hits and count.misses else not count.misses
        marks.update(dict.fromkeys(places, "hit" if hit else "miss"))
    return marks


def _unsaid_marks(
    heard: Sequence[str], steps: Sequence[Step], unsaid: Sequence[str], normaliser: str
) -> dict[int, Mark]:
    """Hypothesis positions of listed terms that are not aligned with the same words."""
    matched = {j for operation, _, j in steps if operation == "hit"}
    marks: dict[int, Mark] = {}
    for term in set(unsaid):
        for occurrence in _index(term, normaliser).find_words(heard):
            places = range(occurrence.start, occurrence.end)
            if not all(place in matched for place in places):
                marks.update(dict.fromkeys(places, "unsaid"))
    return marks


def _merged(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Neighbours with one operation and one mark as one."""
    last: Segment | None = None
    for segment in segments:
        if last is not None and (last.operation, last.mark) == (segment.operation, segment.mark):
            said, heard = f"{last.said} {segment.said}".strip(), f"{last.heard} {segment.heard}".strip()
            last = Segment(segment.operation, said, heard, segment.mark)
            continue
        if last is not None:
            yield last
        last = segment
    if last is not None:
        yield last
