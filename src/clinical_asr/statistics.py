"""Intervals and tests for error rates whose rows share a term. Pure and seeded.

Rows of one term are not independent, so the term is the unit: a cycle is set against a cycle by the sign-flip test over
per-term mean differences, and intervals count terms, not rows.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from clinical_asr.errors import FlywheelError
from clinical_asr.noninferiority import NonInferiority, non_inferiority
from clinical_asr.power import (
    design_effect,
    effective_n,
    fewest_terms,
    grouped,
    intracluster_correlation,
    minimum_detectable_difference,
    terms_needed,
)

__all__ = [
    "NonInferiority",
    "PairedComparison",
    "clustered_counts_interval",
    "clustered_proportion_interval",
    "compare_by_term",
    "design_effect",
    "effective_n",
    "holm",
    "intracluster_correlation",
    "mean_difference_interval",
    "minimum_detectable_difference",
    "non_inferiority",
    "proportion_interval",
    "sign_flip_test",
    "terms_needed",
]

EXACT_TERMS = 20
"""Up to here the sign-flip test visits every pattern of signs (2 to the 20th)."""
FLIPS = 100_000
"""Seeded random patterns beyond that."""
SHARES = (-1.0, 1.0)
"""Where a difference of two shares, such as two KERs, can lie: intervals are cut there."""


def proportion_interval(
    successes: float, n: float, level: float = 0.95, method: Literal["wilson", "exact"] = "wilson"
) -> tuple[float, float]:
    """Two-sided interval of a share of independent rows: Wilson's (1927) score or Clopper-Pearson's (1934) exact.

    Without a row it is (0, 1). Counts may be fractional (effective n).

    >>> [round(x, 3) for x in proportion_interval(2, 5)]
    [0.118, 0.769]
    >>> [round(x, 3) for x in proportion_interval(2, 5, method="exact")]
    [0.053, 0.853]
    """
    if not 0 <= successes <= n:
        raise FlywheelError(f"{successes} successes of {n} rows", mend="count successes among the rows")
    if n == 0:
        return 0.0, 1.0
    if method == "exact":
        tail = (1 - level) / 2
        low = betaincinv(successes, n - successes + 1, tail) if successes > 0 else 0.0
        high = betaincinv(successes + 1, n - successes, 1 - tail) if successes < n else 1.0
        return float(low), float(high)
    if method != "wilson":
        raise FlywheelError(f"unknown interval {method!r}", mend="use one of: wilson, exact")
    z2, share = float(ndtri((1 + level) / 2)) ** 2, successes / n
    centre, half = share + z2 / (2 * n), math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return (0.0 if successes == 0 else max(0.0, low)), (1.0 if successes == n else min(1.0, high))


def clustered_counts_interval(successes: ArrayLike, trials: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Interval of a pooled share from each cluster's successes and trials: Wilson's at the effective n.

    The variance is that of a ratio of cluster totals; effective n = p(1 - p) / variance, shrunk by the squared quotient
    of t quantiles at rows - 1 and clusters - 1 degrees of freedom (Korn and Graubard, 1998) and never above the rows.
    Where all outcomes are equal the variance says nothing: then each cluster counts as one row.

    >>> [round(x, 2) for x in clustered_counts_interval([5, 0, 5, 0], [5, 5, 5, 5])]
    [0.07, 0.93]
    >>> [round(x, 2) for x in clustered_counts_interval([0, 0, 0], [5, 5, 5])]
    [0.0, 0.56]
    """
    hit, tried = np.asarray(successes, float), np.asarray(trials, float)
    hit, tried = hit[tried > 0], tried[tried > 0]
    n, k = float(tried.sum()), len(tried)
    if n == 0:
        return 0.0, 1.0
    share = float(hit.sum() / n)
    worth = float(k)
    if k > 1 and 0 < share < 1:
        variance = k / (k - 1) * float(((hit - share * tried) ** 2).sum()) / n**2
        narrowed = share * (1 - share) / max(variance, 1e-300)
        quantile = (1 + level) / 2
        shrink = (stdtrit(max(n - 1, 1), quantile) / stdtrit(k - 1, quantile)) ** 2
        worth = float(np.clip(min(narrowed, n) * shrink, 1.0, n))
    return proportion_interval(min(share * worth, worth), worth, level)


def clustered_proportion_interval(
    outcomes: Sequence[float] | NDArray[np.float64], clusters: Sequence[Hashable], level: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of 0/1 outcomes; ``clusters`` holds the label of each one's cluster.

    For rows that are summed already, and for the method, see ``clustered_counts_interval``.

    >>> rows, terms = [1, 1, 0, 0], ["a", "a", "b", "b"]
    >>> clustered_proportion_interval(rows, terms) == clustered_counts_interval([2, 0], [2, 2])
    True
    """
    sums, _, sizes = grouped(list(outcomes), list(clusters))
    return clustered_counts_interval(sums, sizes, level)


def sign_flip_test(differences: Sequence[float] | NDArray[np.float64], seed: int = 0) -> float:
    """Two-sided p-value that per-term mean differences are symmetric about 0 (Fisher, 1935).

    Exact up to 20 terms, else 100,000 seeded random sign patterns with the observed one counted in.

    >>> sign_flip_test([1, 1, 1, 1, 1]), sign_flip_test([1, -1]), sign_flip_test([])
    (0.0625, 1.0, 1.0)
    """
    values = np.asarray(differences, float)
    values = values[values != 0]  # a zero keeps its value under both signs
    if not len(values):
        return 1.0
    observed = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())
    if len(values) <= EXACT_TERMS:
        sums = values[:1]  # the pattern with all signs turned is as extreme: fix the first sign
        for value in values[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= observed).mean())
    draw = np.random.default_rng(seed)
    extreme = 0
    for _ in range(FLIPS // 10_000):
        signs = draw.integers(0, 2, (10_000, len(values)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ values) >= observed).sum())
    return (extreme + 1) / (FLIPS + 1)


def mean_difference_interval(
    differences: Sequence[float] | NDArray[np.float64],
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
) -> tuple[float, float] | None:
    """Student's t interval of the mean of per-term mean differences; ``None`` below two terms.

    With few terms it reaches beyond what the mean can be; ``bounds`` (see ``SHARES``) cut it there, which costs no
    coverage: what is cut off cannot be the truth.

    >>> [round(x, 3) for x in mean_difference_interval([-0.2, -0.4, 0.0])]
    [-0.697, 0.297]
    >>> [round(x, 3) for x in mean_difference_interval([-1.0, 0.0])]
    [-6.853, 5.853]
    >>> mean_difference_interval([-1.0, 0.0], bounds=SHARES)
    (-1.0, 1.0)
    """
    values = np.asarray(differences, float)
    if len(values) < 2:
        return None
    half = float(stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / math.sqrt(len(values)))
    low, high = float(values.mean()) - half, float(values.mean()) + half
    return (low, high) if bounds is None else (max(low, bounds[0]), min(high, bounds[1]))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down adjusted p-values, in the given order; ``None`` stays and does not count as a test.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted: list[float | None] = [None] * len(p_values)
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    worst = 0.0
    for rank, (p, place) in enumerate(tested):
        worst = max(worst, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = worst
    return adjusted


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """After minus before over terms: below 0 is better for an error rate.

    ``mean_difference`` is the mean of per-term mean differences, ``low`` and ``high`` its 95 % t interval, cut at the
    bounds it was given, ``p_value`` the sign-flip test's. ``terms_needed`` counts terms in total, at 80 % power for a
    difference as large as this one; never fewer than can be significant at all, and below so many terms no difference
    is detectable.
    """

    n_terms: int
    n_rows: int
    mean_difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    minimum_detectable_difference: float | None
    terms_needed: int | None

    @property
    def conclusive(self) -> bool:
        """True if p < 0.05."""
        return self.p_value is not None and self.p_value < 0.05

    @property
    def more_terms_needed(self) -> int | None:
        """Terms to add to those at hand; 0 if there are enough, ``None`` where no number would help."""
        return None if self.terms_needed is None else max(0, self.terms_needed - self.n_terms)


def compare_by_term(
    terms: Sequence[Hashable],
    before: Sequence[float],
    after: Sequence[float],
    level: float = 0.95,
    seed: int = 0,
    bounds: tuple[float, float] | None = SHARES,
) -> PairedComparison:
    """Paired comparison of rows both sides hold: ``terms[i]`` is the cluster of ``before[i]`` and ``after[i]``.

    The values are shares; for WER, which has no upper end, hand in ``bounds=None``.

    >>> found = compare_by_term(list("aabbccdd"), [1, 1, 1, 1, 1, 0, 1, 1], [0, 1, 0, 0, 0, 0, 1, 0])
    >>> found.n_terms, found.n_rows, found.mean_difference, found.p_value, found.more_terms_needed
    (4, 8, -0.625, 0.125, 2)
    """
    if not len(terms) == len(before) == len(after):
        raise FlywheelError(
            f"{len(terms)} terms, {len(before)} values before, {len(after)} after", mend="pair rows by id"
        )
    sums, _, sizes = grouped([b - a for a, b in zip(before, after, strict=True)], terms)
    differences = sums / sizes
    n = len(differences)
    if n == 0:
        return PairedComparison(0, 0, None, None, None, None, None, None)
    mean, interval = float(differences.mean()), mean_difference_interval(differences, level, bounds)
    low, high = interval or (None, None)
    sd, fewest = float(differences.std(ddof=1)) if n > 1 else 0.0, fewest_terms(level)
    needed = terms_needed(mean, sd, level) if n > 1 else None
    return PairedComparison(
        n_terms=n,
        n_rows=len(terms),
        mean_difference=mean,
        low=low,
        high=high,
        p_value=sign_flip_test(differences, seed) if n > 1 else None,
        minimum_detectable_difference=minimum_detectable_difference(sd, n, level) if n >= fewest else None,
        terms_needed=None if needed is None else max(needed, fewest),
    )
