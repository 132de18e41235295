"""What a board's rows mixed up: listed terms nobody said, what came instead of a term, numbers and doses. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from clinical_asr.confusions import GRAVITY, word_confusions
from clinical_asr.doses import word_number_errors
from clinical_asr.error_count import ErrorCount
from clinical_asr.keywords import TermIndex
from clinical_asr.number_words import KINDS, kind_counts
from clinical_asr.tally import ConfusionLine, FalseInsertion, NumberLine, Score
from clinical_asr.text import normaliser

Words = Sequence[str]


class Wording:
    """Both sides of each row in normalised words, worked out once for all that reads them."""

    def __init__(self, rows: Sequence[Score], normaliser_name: str) -> None:
        clean = normaliser(normaliser_name)
        self._texts: list[tuple[str, str]] = []  # text, not lists of words: half the memory, and nothing to collect
        for row in rows:
            reference = clean(row.reference)
            self._texts.append((reference, clean(row.hypothesis) if row.tally.wrong_rows else reference))

    def sides(self) -> Iterator[tuple[Words, Words]]:
        """Both sides of each row."""
        for said, heard in self._texts:
            words = said.split()
            yield words, words if said is heard else heard.split()

    def differing_texts(self) -> Iterator[tuple[int, str, str]]:
        """Position and normalised texts of each row that was not heard as it was said."""
        for position, (said, heard) in enumerate(self._texts):
            if said is not heard:
                yield position, said, heard

    def differing(self) -> Iterator[tuple[int, Words, Words]]:
        """Position and sides of each row that was not heard as it was said."""
        for position, said, heard in self.differing_texts():
            yield position, said.split(), heard.split()


class ListedTerms:
    """The terms of the rows as one list, and where the rows hear them although nobody says them.

    Counted by the row, as KER on a board is: heard more often in a row than said in it. ``board`` are the rows whose
    terms are listed, where ``rows`` are only some of them.
    """

    def __init__(
        self,
        rows: Sequence[Score],
        normaliser_name: str,
        wording: Wording | None = None,
        board: Sequence[Score] | None = None,
    ) -> None:
        self._wording = wording or Wording(rows, normaliser_name)
        clean = lru_cache(maxsize=None)(normaliser(normaliser_name))  # forgotten with this call
        spelled: dict[str, tuple[str, str]] = {}
        for row in rows if board is None else board:
            if row.term:
                spelled.setdefault(clean(row.term), (row.term, row.entity_category or ""))
        self._index = TermIndex(list(spelled.values()), normaliser_name)
        self.unsaid = {rows[n].id: terms for n, *sides in self._differing() if (terms := self._unsaid(*sides))}
        """Row id -> listed terms heard more often than said, one entry each time."""

    def _differing(self) -> Iterator[tuple[int, Words, Words]]:
        return self._wording.differing() if self._index.categories else iter(())

    def _unsaid(self, reference: Words, hypothesis: Words) -> list[str]:
        heard = [one.term for one in self._index.find_words(hypothesis)]
        if not heard:
            return []
        said = [one.term for one in self._index.find_words(reference)]
        return [] if heard == said else sorted((Counter(heard) - Counter(said)).elements())

    def false_insertions(self) -> list[FalseInsertion]:
        """Terms nobody said, most often heard first."""
        count = Counter(term for terms in self.unsaid.values() for term in terms)
        rows = Counter(term for terms in self.unsaid.values() for term in set(terms))
        order = sorted(count, key=lambda term: (-count[term], term))
        return [FalseInsertion(term, count[term], rows[term], self._index.categories[term]) for term in order]

    def confusions(self) -> list[ConfusionLine]:
        """What was heard instead of missed terms, gravest first, then most often."""
        found = Counter(
            (one.term, one.heard, one.kind, one.similarity)
            for _, reference, hypothesis in self._differing()
            for one in word_confusions(self._index, reference, hypothesis)
        )
        lines = [
            ConfusionLine(term, heard, n, kind, alike, self._index.categories[term])
            for (term, heard, kind, alike), n in found.items()
        ]
        return sorted(lines, key=lambda c: (_GRAVITY[c.kind], -c.count, -c.similarity, c.term, c.heard))


_GRAVITY = {str(kind): place for place, kind in enumerate(GRAVITY)}


class NumberTotals:
    """Errors in numbers, units, negations and sides, by kind, added up row by row."""

    def __init__(self) -> None:
        self._total = {kind: ErrorCount.zero() for kind in KINDS}
        self._wrong: Counter[str] = Counter()
        self._right = [0] * len(KINDS)  # of rows that were heard as they were said

    def add(self, reference: Words, hypothesis: Words) -> None:
        """Count one row, in normalised words."""
        if reference == hypothesis:
            for place, n in enumerate(kind_counts(reference)):
                self._right[place] += n
            return
        for kind, count in word_number_errors(reference, hypothesis).items():
            if count.length or count.errors:
                self._total[kind] = self._total[kind] + count
                self._wrong[kind] += count.errors > 0

    def lines(self) -> list[NumberLine]:
        """One line per kind."""
        lines = []
        for kind, right in zip(KINDS, self._right, strict=True):
            count = self._total[kind] + ErrorCount(0, 0, 0, right, right)
            lines.append(NumberLine(kind, count.errors, count.length, count.rate, self._wrong[kind]))
        return lines


def number_lines(wording: Wording) -> list[NumberLine]:
    """Number errors of all rows."""
    totals = NumberTotals()
    for reference, hypothesis in wording.sides():
        totals.add(reference, hypothesis)
    return totals.lines()
