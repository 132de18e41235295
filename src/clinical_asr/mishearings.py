"""What a board's rows mixed up: listed terms nobody said, what came instead of a term, numbers and doses. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol

from clinical_asr.confusions import GRAVITY, word_confusions
from clinical_asr.doses import word_number_errors
from clinical_asr.error_count import ErrorCount
from clinical_asr.keywords import TermIndex
from clinical_asr.number_words import KINDS, kind_counts
from clinical_asr.records import EntityCategory
from clinical_asr.tally import ConfusionLine, FalseInsertion, NumberLine, Score
from clinical_asr.text import normaliser, term_key

Words = Sequence[str]


class About(Protocol):
    """What a row is about, whatever has been heard of it."""

    @property
    def id(self) -> str: ...
    @property
    def term(self) -> str: ...
    @property
    def entity_category(self) -> EntityCategory | None: ...


class ListedTerms:
    """The terms of a board's rows as one list. Of several spellings of a term, that of the smallest id names it.

    A false insertion is a listed term that a row hears more often than it is said there:

    >>> from clinical_asr.tally import Subject
    >>> listed = ListedTerms([Subject("1", "cefazolin"), Subject("2", "heparin")], "clinical-v1")
    >>> listed.unsaid("give cefazolin".split(), "give heparin cefazolin heparin".split())
    ['heparin', 'heparin']
    >>> listed.unsaid("cefazolin then heparin".split(), "heparin then cefazolin".split())
    []
    """

    def __init__(self, board: Iterable[About], normaliser_name: str) -> None:
        clean = lru_cache(maxsize=None)(normaliser(normaliser_name))  # forgotten with this call
        spelled: dict[str, tuple[str, str, str]] = {}
        self.spellings: set[str] = set()
        """As the rows write them."""
        for row in board:
            if row.term:
                self.spellings.add(row.term)
                first = spelled.get(term := clean(row.term))
                if first is None or row.id < first[0]:
                    spelled[term] = (row.id, row.term, row.entity_category or "")
        self.index = TermIndex([named for _, *named in spelled.values()], normaliser_name)
        named_first = {term_key(term): term for _, term, _ in sorted(spelled.values(), reverse=True)}
        self.names = {spelling: named_first[term_key(spelling)] for spelling in self.spellings}
        """What the term of each spelling is called: as one it is counted, whichever normaliser tells two apart."""

    def unsaid(self, said: Words, heard: Words) -> list[str]:
        """Listed terms heard more often than said, one entry each time. Counted by the row, as KER on a board is."""
        found = [one.term for one in self.index.find_words(heard)]
        if not found:
            return []
        spoken = [one.term for one in self.index.find_words(said)]
        return [] if found == spoken else sorted((Counter(found) - Counter(spoken)).elements())


def wordings(rows: Iterable[Score], normaliser_name: str) -> Iterator[tuple[Score, str, str]]:
    """Each row with both sides normalised, which are the same object where it was heard as it was said."""
    clean = normaliser(normaliser_name)
    for row in rows:
        reference = clean(row.reference)
        yield row, reference, clean(row.hypothesis) if row.tally.wrong_rows else reference


class Misheard:
    """Listed terms nobody said, what came instead of missed ones, and wrong numbers, added up row by row."""

    def __init__(self, listed: ListedTerms) -> None:
        self.listed = listed
        self._unsaid: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._confusions: Counter[tuple[str, str, str, float]] = Counter()
        self._numbers = NumberTotals()

    def add(self, reference: str, hypothesis: str) -> int:
        """Count one row of normalised texts (one object, if nothing differs); how many terms it hears unsaid."""
        said = reference.split()
        if hypothesis is reference:
            self._numbers.add(said, said)
            return 0
        heard = hypothesis.split()
        self._numbers.add(said, heard)
        found = word_confusions(self.listed.index, said, heard)
        self._confusions.update((one.term, one.heard, one.kind, one.similarity) for one in found)
        unsaid = self.listed.unsaid(said, heard)
        self._unsaid.update(unsaid)
        self._rows.update(set(unsaid))
        return len(unsaid)

    @property
    def unsaid(self) -> int:
        """How often a listed term was heard that nobody said."""
        return self._unsaid.total()

    def false_insertions(self) -> list[FalseInsertion]:
        """Terms nobody said, most often heard first."""
        categories = self.listed.index.categories
        order = sorted(self._unsaid, key=lambda term: (-self._unsaid[term], term))
        return [FalseInsertion(term, self._unsaid[term], self._rows[term], categories[term]) for term in order]

    def confusions(self) -> list[ConfusionLine]:
        """What was heard instead of missed terms, gravest first, then most often."""
        lines = [
            ConfusionLine(term, heard, n, kind, alike, self.listed.index.categories[term])
            for (term, heard, kind, alike), n in self._confusions.items()
        ]
        return sorted(lines, key=lambda c: (_GRAVITY[c.kind], -c.count, -c.similarity, c.term, c.heard))

    def numbers(self) -> list[NumberLine]:
        """Errors in numbers, units, negations and sides."""
        return self._numbers.lines()


def misheard(rows: Iterable[Score], listed: ListedTerms, normaliser_name: str) -> Misheard:
    """What some rows mixed up, of the terms of a board."""
    total = Misheard(listed)
    for _, said, heard in wordings(rows, normaliser_name):
        total.add(said, heard)
    return total


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
