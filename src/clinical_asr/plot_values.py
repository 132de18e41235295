"""Points, slopes and cells for the report's plots, out of the values that hold their numbers. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from clinical_asr.changes import Change
from clinical_asr.keyword_count import KeywordCount
from clinical_asr.plots import Cell, Slope
from clinical_asr.records import Decibels
from clinical_asr.statistics import clustered_proportion_interval, proportion_interval
from clinical_asr.svg import Point
from clinical_asr.tally import Line, Score, pooled
from clinical_asr.text import term_key

TERMS_IN_HEAT_MAP = 24
"""As many lines as fit a page."""

HeatMap = tuple[list[str], list[tuple[str, list[Cell]]]]
"""Columns, and per term its cells."""


def points(lines: Iterable[Line]) -> list[Point]:
    """A board's lines as points."""
    return [
        Point(line.key, line.ker, line.ker_low, line.ker_high, line.misses, line.occurrences, snr_of(line.key))
        for line in lines
        if line.occurrences
    ]


def slopes(changes: Iterable[Change]) -> list[Slope]:
    """Changes as slopes; groups without an occurrence of a term have none."""
    return [
        Slope(change.key, change.ker_before, change.ker_after, change.occurrences)
        for change in changes
        if change.ker_before is not None and change.ker_after is not None
    ]


def snr_of(level: str) -> Decibels | None:
    """SNR of a noise level by its name; ``None`` for clean speech and for names nobody knows.

    >>> snr_of("snr_5db"), snr_of("snr_-2.5db"), snr_of("clean"), snr_of("ward")
    (5.0, -2.5, None, None)
    """
    try:
        return float(level.removeprefix("snr_").removesuffix("db")) if level.startswith("snr_") else None
    except ValueError:
        return None


def with_snr(found: Sequence[Point]) -> list[Point]:
    """Points that have a place on the axis of the SNR: the levels in dB and clean speech."""
    return [point for point in found if point.snr is not None or point.label == "clean"]


def noise_points(rows: Iterable[Score]) -> list[Point]:
    """KER by noise level, with the same intervals as a board's lines."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for row in rows:
        if row.noise_level and row.tally.keywords.occurrences:
            groups[row.noise_level].append(row)
    return with_snr([_point(level, group) for level, group in groups.items()])


def _point(level: str, rows: Sequence[Score]) -> Point:
    total = pooled(rows).keywords
    terms = [term_key(row.term) for row in rows for _ in range(row.tally.keywords.occurrences)]
    missed = [
        float(place < row.tally.keywords.misses) for row in rows for place in range(row.tally.keywords.occurrences)
    ]
    one_term = len(set(terms)) == 1
    low, high = (
        proportion_interval(total.misses, total.occurrences)
        if one_term
        else clustered_proportion_interval(missed, terms)
    )
    return Point(level, total.ker, low, high, total.misses, total.occurrences, snr_of(level))


class Heat:
    """Misses of each term in each column, counted as rows pass. The spelling of the smallest id names a term.

    >>> heat = Heat(lambda row: row.noise_level)
    >>> list(heat.watch([])), heat.map(["clean"])
    ([], (['clean'], []))
    """

    def __init__(self, key: Callable[[Score], str]) -> None:
        self._key = key
        self._counts: dict[str, dict[str, KeywordCount]] = defaultdict(lambda: defaultdict(KeywordCount.zero))
        self._names: dict[str, tuple[str, str]] = {}

    def watch(self, rows: Iterable[Score]) -> Iterator[Score]:
        """The same rows."""
        for row in rows:
            if row.term:
                term, column, name = term_key(row.term), self._key(row), (row.id, row.term)
                self._counts[term][column] += row.tally.keywords
                self._names[term] = min(name, self._names.get(term, name))
            yield row

    def map(self, columns: Sequence[str]) -> HeatMap:
        """The worst terms first (by share, then by how often they were said), as many as fit a page."""
        found = self._counts.items()
        lines = [(self._names[term][1], [_cell(cells[column]) for column in columns]) for term, cells in found]
        lines.sort(key=lambda line: (-_share(line[1]), -sum(cell.of for cell in line[1]), line[0]))
        return list(columns), lines[:TERMS_IN_HEAT_MAP]


def heat_of(rows: Iterable[Score], columns: Sequence[str], key: Callable[[Score], str]) -> HeatMap:
    """:class:`Heat` of rows that are all there."""
    heat = Heat(key)
    deque(heat.watch(rows), maxlen=0)
    return heat.map(columns)


def _cell(count: KeywordCount) -> Cell:
    return Cell(count.misses, count.occurrences)


def _share(cells: Sequence[Cell]) -> float:
    said = sum(cell.of for cell in cells)
    return sum(cell.misses for cell in cells) / said if said else 0.0
