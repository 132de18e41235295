"""Lines of a board: sums over the columns of its rows' counts, and the intervals of such sums. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from clinical_asr.board_columns import Columns
from clinical_asr.mishearings import ListedTerms, Misheard, wordings
from clinical_asr.statistics import clustered_counts_interval, proportion_interval
from clinical_asr.tally import Line, Score
from clinical_asr.variants import Variants

Interval = tuple[float, float] | tuple[None, None]


class BoardTable:
    """The counts of rows, ready to be summed by group, and what the rows mixed up.

    Rows are read once. ``variants`` adds the variant-aware misses, ``signature_rows`` is how many rows there must be.
    """

    def __init__(
        self,
        rows: Iterable[Score],
        listed: ListedTerms,
        normaliser: str,
        variants: Variants | None = None,
        signature_rows: int | None = None,
    ) -> None:
        if variants is not None:
            variants.refuse_strangers(sorted(listed.spellings))
        self.misheard = Misheard(listed)
        self._columns = Columns(self.misheard, variants)
        self._columns.gather(wordings(rows, normaliser), signature_rows)
        self.column = self._columns.column

    def headline(self) -> Line:
        """The line of all rows."""
        return self.line("all", slice(None))

    def section(self, name: str) -> list[Line]:
        """One line per group of that name (``board_columns.GROUPS``), by its key."""
        return [self.line(key, index) for key, index in self._columns.groups(name).items()]

    def by_term(self) -> list[Line]:
        """One line a term, worst first; of equal ones the better measured first."""
        lines = []
        for name, index in self._columns.groups("term").items():
            category, _, term = name.partition("\x1f")
            lines.append(replace(self.line(term, index), entity_category=category))
        return sorted(lines, key=lambda line: (-(line.ker or 0.0), -line.occurrences, line.key))

    def line(self, key: str, index: np.ndarray | slice) -> Line:
        """The line of the rows at ``index``."""
        column = {name: values[index] for name, values in self.column.items()}
        rows = len(column["wrong"])
        cluster = np.unique(column["cluster"], return_inverse=True)[1]
        errors, words = column["words"].sum(axis=0).tolist()
        character_errors, characters = column["characters"].sum(axis=0).tolist()
        misses, occurrences = column["keywords"].sum(axis=0).tolist()
        wrong = int(column["wrong"].sum())
        wer_low, wer_high = ratio_interval(column["words"], cluster)
        cer_low, cer_high = ratio_interval(column["characters"], cluster)
        row_rates = float(column["row_rates"].sum())
        ker_low, ker_high = _proportion(column["keywords"], cluster)
        ser_low, ser_high = _proportion(np.stack([column["wrong"], np.ones(rows, np.uint8)], axis=1), cluster)
        found = Line(
            key=key, rows=rows,
            wer=_rate(errors, words), cer=_rate(character_errors, characters), ker=_rate(misses, occurrences),
            ser=_rate(wrong, rows), wer_row_mean=_rate(row_rates, rows),
            terms=len(np.unique(cluster[column["has_term"]])),
            words=words, characters=characters, occurrences=occurrences, misses=misses,
            false_insertions=int(column["false_insertions"].sum()),
            wer_low=wer_low, wer_high=wer_high, cer_low=cer_low, cer_high=cer_high,
            ker_low=ker_low, ker_high=ker_high, ser_low=ser_low, ser_high=ser_high,
        )  # fmt: skip
        return found if "loose" not in column else _with_variants(found, column["loose"], cluster)


def _with_variants(line: Line, loose: np.ndarray, cluster: np.ndarray) -> Line:
    misses, occurrences = loose.sum(axis=0).tolist()
    low, high = _proportion(loose, cluster)
    return replace(line, variant_misses=misses, variant_ker=_rate(misses, occurrences),
                   variant_ker_low=low, variant_ker_high=high)  # fmt: skip


def _rate(count: float, of: int) -> float | None:
    return count / of if of else None


def ratio_interval(counts: np.ndarray, cluster: np.ndarray, level: float = 0.95) -> Interval:
    """t interval of sum(errors) / sum(length), counts (n, 2), by linearisation over clusters (Cochran 1977, 6.3).

    ``cluster`` numbers the clusters from 0, none left out. One cluster alone falls back to its rows; a single row has
    no interval.

    >>> low, high = ratio_interval(np.array([[1, 10], [2, 10], [3, 10]]), np.array([0, 1, 2]))
    >>> round(low, 3), round(high, 3)
    (0.0, 0.448)
    """
    total = counts[:, 1].sum()
    sums = _by_cluster(counts, cluster)
    if len(sums) == 1:
        sums = counts.astype(float)
    if len(sums) < 2 or total == 0:
        return None, None
    rate = counts[:, 0].sum() / total
    residuals = sums[:, 0] - rate * sums[:, 1]
    error = np.sqrt(len(sums) / (len(sums) - 1) * (residuals**2).sum()) / total
    half = stdtrit(len(sums) - 1, (1 + level) / 2) * error
    return max(0.0, float(rate - half)), float(rate + half)


def _by_cluster(counts: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(cluster, weights=counts[:, column]) for column in (0, 1)], axis=1)


def _proportion(counts: np.ndarray, cluster: np.ndarray) -> Interval:
    """Interval of a share of yes/no outcomes, counts (n, 2) of yes and all; Wilson's for one cluster alone."""
    yes, trials = counts.sum(axis=0).tolist()
    if not trials:
        return None, None
    by_cluster = _by_cluster(counts, cluster)
    if len(by_cluster) == 1:
        return proportion_interval(yes, trials)
    return clustered_counts_interval(*by_cluster.T)
