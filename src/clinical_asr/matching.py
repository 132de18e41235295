"""Which listed terms of a reference were heard, and which heard ones nobody said: one assignment decides both.

Every place where a term stands in the hypothesis is given to at most one occurrence that was said, and what is left
over is what nobody said. So hits and false insertions of a term never count the same words twice, nor lose any.

This is counting **by the place**, for transcripts of any length. A leaderboard's rows are single sentences, and there a
term is heard if it stands anywhere in the row (strict KER) and inserted if it stands there more often than it was said:
counting **by the row**. A term that only moved within its text is right by the row, and both missed and inserted by the
place; but for such terms the two agree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from clinical_asr.alignment import Step
from clinical_asr.keyword_count import KeywordCount

if TYPE_CHECKING:
    from clinical_asr.occurrences import Occurrence, TermIndex

Span = tuple[int, int]
"""Half-open span of words."""


def windows(occurrences: Sequence[Occurrence], steps: Sequence[Step]) -> Iterator[Span]:
    """For each occurrence the hypothesis words [low, high) between the nearest hits before and after it."""
    hits = [(i, j) for operation, i, j in steps if operation == "hit"]
    said = [i for i, _ in hits]
    end = 1 + max((j for _, _, j in steps), default=-1)
    for occurrence in occurrences:
        before, after = bisect_left(said, occurrence.start) - 1, bisect_left(said, occurrence.end)
        yield (hits[before][1] + 1 if before >= 0 else 0), (hits[after][1] if after < len(hits) else end)


class Matching:
    """The occurrences of listed terms in two aligned texts, and which of them belong together.

    An occurrence that was said is heard if one of its forms stands in its window. Of several places it takes the one
    the alignment gives it, else one that reads as the term by itself, else one inside a longer listed term.
    """

    def __init__(
        self, index: TermIndex, left: Sequence[str], right: Sequence[str], steps: Sequence[Step], variants: bool = False
    ) -> None:
        self._index, self._right, self._variants = index, right, variants
        self.said = index.find_words(left, variants)
        self.found = index.find_words(right, variants)
        self._to = {i: j for operation, i, j in steps if operation == "hit"}
        beginnings = {form[0] for one in self.said for form in index.forms(one.term, variants)}
        self._places: dict[str, list[int]] = {word: [] for word in beginnings}
        for j, word in enumerate(right):
            if word in beginnings:
                self._places[word].append(j)
        self._reads: dict[str, list[Occurrence]] = {}
        for occurrence in self.found:
            self._reads.setdefault(occurrence.term, []).append(occurrence)
        self._alone = {(one.term, (one.start, one.end)) for one in self.found}
        self._taken: set[tuple[str, Span]] = set()
        self.windows = list(windows(self.said, steps))
        self.heard = [self._take(one, low, high) for one, (low, high) in zip(self.said, self.windows, strict=True)]
        """Whether each of ``said`` was heard."""

    @cached_property
    def _from(self) -> dict[int, int]:
        return {j: i for i, j in self._to.items()}

    def unsaid(self) -> Iterator[Occurrence]:
        """Occurrences in the hypothesis that nobody said."""
        for occurrence in self.found:
            span = (occurrence.start, occurrence.end)
            if (occurrence.term, span) not in self._taken and not self._inside_another(occurrence):
                yield occurrence

    def counts(self) -> dict[str, KeywordCount]:
        """Counts per listed term, also of those never said."""
        counts = {term: [0, 0, 0] for term in self._index.categories}
        for occurrence, heard in zip(self.said, self.heard, strict=True):
            counts[occurrence.term][0] += 1
            counts[occurrence.term][1] += heard
        for occurrence in self.unsaid():
            counts[occurrence.term][2] += 1
        return {term: KeywordCount(*count) for term, count in counts.items()}

    def missed(self) -> Iterator[tuple[Occurrence, Sequence[str]]]:
        """Occurrences that were not heard, each with the words in its window."""
        for occurrence, (low, high), heard in zip(self.said, self.windows, self.heard, strict=True):
            if not heard:
                yield occurrence, self._right[low:high]

    def _inside_another(self, heard: Occurrence) -> bool:
        """True where the very words were said as part of another listed term: "heparin" of "heparin sodium"."""
        start = self._from.get(heard.start)
        if start is None or any(self._from.get(heard.start + n) != start + n for n in range(heard.end - heard.start)):
            return False
        end = start + heard.end - heard.start
        place = bisect_left(self.said, end, key=lambda one: one.start) - 1  # only the last to begin before the end can
        before = [one for one in self.said[max(place - 1, 0) : place + 1] if one.end > start]
        return any(one.term != heard.term for one in before)

    def _take(self, said: Occurrence, low: int, high: int) -> bool:
        """Give the occurrence the best free place in its window; ``False`` if there is none."""
        best: tuple[tuple[int, int, int], Span] | None = None
        for order, form in enumerate(self._index.forms(said.term, self._variants)):
            for start in self._standing(form, low, high):
                claim = self._claim(said.term, (start, start + len(form)))
                if claim is not None:
                    aligned = all(self._to.get(said.start + n) == start + n for n in range(len(form)))
                    rank = 0 if aligned else 1 if (said.term, claim) in self._alone else 2
                    best = min(best or ((3, 0, 0), claim), ((rank, order, start), claim))
        if best is not None:
            self._taken.add((said.term, best[1]))
        return best is not None

    def _standing(self, form: Sequence[str], low: int, high: int) -> Iterator[int]:
        """Places in the window where a form's words stand."""
        places = self._places[form[0]]
        for start in places[bisect_left(places, low) : bisect_left(places, high - len(form) + 1)]:
            if tuple(self._right[start : start + len(form)]) == form:
                yield start

    def _claim(self, term: str, place: Span) -> Span | None:
        """What taking a place uses up: the free occurrence it overlaps, or the place itself where it overlaps none."""
        start, end = place
        reads = self._reads.get(term, [])
        first = bisect_left(reads, start, key=lambda one: one.end - 1)
        overlapped = []
        for one in reads[first:]:
            if one.start >= end:
                break
            overlapped.append((one.start, one.end))
        free = [span for span in overlapped or [place] if (term, span) not in self._taken]
        return free[0] if free else None
