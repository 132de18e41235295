"""Rows' counts as columns, so that a line of a board is a sum over an index; and the intervals of such sums. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit

from clinical_asr.errors import ScoringError
from clinical_asr.mishearings import ListedTerms, Wording
from clinical_asr.statistics import clustered_counts_interval, proportion_interval
from clinical_asr.tally import Line, Score, Signature
from clinical_asr.variants import Variants

Key = Callable[[Score], str]
Interval = tuple[float, float] | tuple[None, None]


def checked(scores: Sequence[Score], signature: Signature) -> list[Score]:
    """The rows by id. Raises ScoringError without rows, on one that stands twice, or if the signature counts others."""
    rows = sorted(scores, key=lambda row: row.id)
    if not rows:
        raise ScoringError("has no rows", where="leaderboard", mend="score at least one row")
    doubled = [one.id for one, other in pairwise(rows) if one.id == other.id]
    if doubled:
        raise ScoringError("stands twice", where=f"row {doubled[0]}", mend="score each row once")
    if len(rows) != signature.rows:
        raise ScoringError(f"{len(rows)} rows, but the signature says {signature.rows}", where="leaderboard")
    return rows


class BoardTable:
    """The counts of rows, ready to be summed by group. ``variants`` adds the variant-aware misses."""

    def __init__(
        self, rows: Sequence[Score], wording: Wording, listed: ListedTerms, variants: Variants | None = None
    ) -> None:
        self.rows = rows
        tallies = [row.tally for row in rows]
        self._wrong = np.array([t.wrong_rows for t in tallies])
        self._words = np.array([(t.words.errors, t.words.length) for t in tallies])
        self._characters = np.array([(t.characters.errors, t.characters.length) for t in tallies])
        self._keywords = np.array([(t.keywords.misses, t.keywords.occurrences) for t in tallies])
        self._loose = _variant_misses(self._keywords, rows, wording, variants) if variants else None
        self._false_insertions = np.array([len(listed.unsaid.get(row.id, ())) for row in rows])
        self._row_rates = np.array([t.row_rates for t in tallies])
        # Rows of one term share their fate; general speech has no term, its sentences are the clusters.
        places: dict[str, int] = {}
        self._cluster = np.array([places.setdefault(row.term or row.reference, len(places)) for row in rows])
        self._has_term = np.array([bool(row.term) for row in rows])

    def headline(self) -> Line:
        """The line of all rows."""
        return self.line("all", np.arange(len(self.rows)))

    def section(self, key: Key) -> list[Line]:
        """One line per value of ``key``, by name; rows whose key is empty belong to none."""
        return [self.line(name, index) for name, index in self._groups(key).items()]

    def by_term(self) -> list[Line]:
        """One line a term, worst first; of equal ones the better measured first."""
        lines = []
        key: Key = lambda row: f"{row.entity_category or ''}\x1f{row.term}" if row.term else ""  # noqa: E731
        for name, index in self._groups(key).items():
            category, _, term = name.partition("\x1f")
            lines.append(replace(self.line(term, index), entity_category=category))
        return sorted(lines, key=lambda line: (-(line.ker or 0.0), -line.occurrences, line.key))

    def _groups(self, key: Key) -> dict[str, np.ndarray]:
        """Value of ``key`` -> positions of its rows."""
        positions: dict[str, list[int]] = {}
        for position, row in enumerate(self.rows):
            positions.setdefault(str(key(row)), []).append(position)
        return {name: np.array(positions[name]) for name in sorted(positions) if name}

    def line(self, key: str, index: np.ndarray) -> Line:
        """The line of the rows at ``index``."""
        rows = len(index)
        cluster = self._cluster[index]
        errors, words = self._words[index].sum(axis=0).tolist()
        character_errors, characters = self._characters[index].sum(axis=0).tolist()
        misses, occurrences = self._keywords[index].sum(axis=0).tolist()
        wer_low, wer_high = ratio_interval(self._words[index], cluster)
        cer_low, cer_high = ratio_interval(self._characters[index], cluster)
        row_rates = float(self._row_rates[index].sum())
        ker_low, ker_high = _proportion(self._keywords[index], cluster)
        ser_low, ser_high = _proportion(np.stack([self._wrong[index], np.ones(rows, int)], axis=1), cluster)
        found = Line(
            key=key, rows=rows,
            wer=_rate(errors, words), cer=_rate(character_errors, characters), ker=_rate(misses, occurrences),
            ser=_rate(int(self._wrong[index].sum()), rows), wer_row_mean=_rate(row_rates, rows),
            terms=len(np.unique(cluster[self._has_term[index]])),
            words=words, characters=characters, occurrences=occurrences, misses=misses,
            false_insertions=int(self._false_insertions[index].sum()),
            wer_low=wer_low, wer_high=wer_high, cer_low=cer_low, cer_high=cer_high,
            ker_low=ker_low, ker_high=ker_high, ser_low=ser_low, ser_high=ser_high,
        )  # fmt: skip
        return found if self._loose is None else _with_variants(found, self._loose[index], cluster)


def _variant_misses(strict: np.ndarray, rows: Sequence[Score], wording: Wording, variants: Variants) -> np.ndarray:
    """The columns of the strict count with the misses that no registered spelling mends."""
    variants.refuse_strangers(sorted({row.term for row in rows if row.term}))
    loose = strict.copy()
    for position, said, heard in wording.differing_texts():
        row = rows[position]
        if row.tally.keywords.misses:
            hits = variants.hits(row.term, said, heard, row.tally.keywords)
            loose[position, 0] = row.tally.keywords.occurrences - hits
    return loose


def _with_variants(line: Line, loose: np.ndarray, cluster: np.ndarray) -> Line:
    misses, occurrences = loose.sum(axis=0).tolist()
    low, high = _proportion(loose, cluster)
    return replace(line, variant_misses=misses, variant_ker=_rate(misses, occurrences),
                   variant_ker_low=low, variant_ker_high=high)  # fmt: skip


def _rate(count: float, of: int) -> float | None:
    return count / of if of else None


def ratio_interval(counts: np.ndarray, cluster: np.ndarray, level: float = 0.95) -> Interval:
    """t interval of sum(errors) / sum(length), counts (n, 2), by linearisation over clusters (Cochran 1977, 6.3).

    One cluster alone falls back to its rows; a single row has no interval.

    >>> low, high = ratio_interval(np.array([[1, 10], [2, 10], [3, 10]]), np.array([0, 1, 2]))
    >>> round(low, 3), round(high, 3)
    (0.0, 0.448)
    """
    total = counts[:, 1].sum()
    names, groups = np.unique(cluster, return_inverse=True)
    if len(names) == 1:
        names, groups = np.arange(len(counts)), np.arange(len(counts))
    if len(names) < 2 or total == 0:
        return None, None
    sums = np.stack([np.bincount(groups, weights=counts[:, column]) for column in (0, 1)], axis=1)
    rate = counts[:, 0].sum() / total
    residuals = sums[:, 0] - rate * sums[:, 1]
    error = np.sqrt(len(names) / (len(names) - 1) * (residuals**2).sum()) / total
    half = stdtrit(len(names) - 1, (1 + level) / 2) * error
    return max(0.0, float(rate - half)), float(rate + half)


def _proportion(counts: np.ndarray, cluster: np.ndarray) -> Interval:
    """Interval of a share of yes/no outcomes, counts (n, 2) of yes and all; Wilson's for one cluster alone."""
    yes, trials = counts.sum(axis=0).tolist()
    if not trials:
        return None, None
    groups = np.unique(cluster, return_inverse=True)[1]
    by_cluster = np.stack([np.bincount(groups, weights=counts[:, column]) for column in (0, 1)], axis=1)
    if len(by_cluster) == 1:
        return proportion_interval(yes, trials)
    return clustered_counts_interval(*by_cluster.T)
