"""What a board's rows mixed up: listed terms nobody said, what came instead of a term, numbers and doses. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from clinical_asr.confusions import GRAVITY
from clinical_asr.keywords import TermIndex, confusions, number_errors
from clinical_asr.metrics import ErrorCount
from clinical_asr.tally import ConfusionLine, FalseInsertion, NumberLine, Score
from clinical_asr.text import normaliser

KINDS = ("value", "unit", "negation", "laterality")


class ListedTerms:
    """The terms of the rows as one list, and where the rows hear them although nobody says them."""

    def __init__(self, rows: Sequence[Score], normaliser_name: str) -> None:
        self._rows = rows
        self._clean = normaliser(normaliser_name)
        spelled: dict[str, tuple[str, str]] = {}
        for row in rows:
            if row.term:
                spelled.setdefault(self._clean(row.term), (row.term, row.entity_category or ""))
        self._index = TermIndex(list(spelled.values()), normaliser_name)
        self.unsaid = {row.id: found for row in rows if (found := self._unsaid(row))}
        """Row id -> listed terms heard more often than said, one entry each time."""

    def _unsaid(self, row: Score) -> list[str]:
        if not row.tally.wrong_rows or not self._index.categories:
            return []
        heard = Counter(one.term for one in self._index.find(row.hypothesis))
        if not heard:
            return []
        said = Counter(one.term for one in self._index.find(row.reference))
        return sorted((heard - said).elements())

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
            for row in self._rows
            if row.tally.wrong_rows and self._index.categories
            for one in confusions(row.reference, row.hypothesis, self._index)
        )
        lines = [
            ConfusionLine(term, heard, n, kind, alike, self._index.categories[term])
            for (term, heard, kind, alike), n in found.items()
        ]
        return sorted(lines, key=lambda c: (_GRAVITY[c.kind], -c.count, -c.similarity, c.term, c.heard))


_GRAVITY = {str(kind): place for place, kind in enumerate(GRAVITY)}


class NumberTotals:
    """Errors in numbers, units, negations and sides, by kind, added up row by row."""

    def __init__(self, normaliser_name: str) -> None:
        self._normaliser = normaliser_name
        self._total = {kind: ErrorCount.zero() for kind in KINDS}
        self._wrong: Counter[str] = Counter()

    def add(self, row: Score) -> None:
        """Count one row."""
        for kind, count in number_errors(row.reference, row.hypothesis, self._normaliser).items():
            if count.length or count.errors:
                self._total[kind] = self._total[kind] + count
                self._wrong[kind] += count.errors > 0

    def lines(self) -> list[NumberLine]:
        """One line per kind."""
        return [NumberLine(kind, n.errors, n.length, n.rate, self._wrong[kind]) for kind, n in self._total.items()]


def number_lines(rows: Sequence[Score], normaliser_name: str) -> list[NumberLine]:
    """Number errors of all rows."""
    totals = NumberTotals(normaliser_name)
    for row in rows:
        totals.add(row)
    return totals.lines()
