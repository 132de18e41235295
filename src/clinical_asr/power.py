"""What clustered rows are worth: intracluster correlation, effective n, detectable differences, terms needed.

Rows of one term rise and fall together, so a benchmark of 100 rows on 20 terms holds less than 100 rows' worth of
evidence. All functions are pure; outcomes are numbers (usually 0 or 1), clusters are their terms, one per outcome.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

Floats = NDArray[np.float64]


def grouped(outcomes: Sequence[float], clusters: Sequence[Hashable]) -> tuple[Floats, Floats, Floats]:
    """Sum, sum of squares and size per cluster, in order of first appearance, each (clusters,)."""
    if len(outcomes) != len(clusters):
        raise ValueError(f"{len(outcomes)} outcomes but {len(clusters)} cluster labels")
    places: dict[Hashable, int] = {}
    index = np.fromiter((places.setdefault(c, len(places)) for c in clusters), np.int64, len(clusters))
    values = np.asarray(outcomes, float)
    sums = np.bincount(index, weights=values, minlength=len(places)).astype(np.float64)
    squares = np.bincount(index, weights=values**2, minlength=len(places)).astype(np.float64)
    sizes: Floats = np.bincount(index, minlength=len(places)).astype(np.float64)
    return sums, squares, sizes


def intracluster_correlation(outcomes: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    """ANOVA estimator of the ICC (Donner, 1986): how far rows of one term agree beyond chance, at most 1.

    Chance can take it below 0. ``None`` where it cannot be estimated: fewer than two clusters, no cluster with two
    rows, or all outcomes equal.

    >>> intracluster_correlation([1, 1, 0, 0], list("aabb")), intracluster_correlation([1, 0, 1, 0], list("aabb"))
    (1.0, -1.0)
    >>> intracluster_correlation([1, 0], ["a", "b"]) is None
    True
    """
    return _correlation(*grouped(outcomes, clusters))


def _correlation(sums: Floats, squares: Floats, sizes: Floats) -> float | None:
    n, k = sizes.sum(), len(sizes)
    if k < 2 or n == k:
        return None
    between = ((sums**2 / sizes).sum() - sums.sum() ** 2 / n) / (k - 1)
    within = (squares.sum() - (sums**2 / sizes).sum()) / (n - k)
    typical = (n - (sizes**2).sum() / n) / (k - 1)
    spread = between + (typical - 1) * within
    return float((between - within) / spread) if spread > 1e-12 else None


def design_effect(outcomes: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    """Factor by which clustering widens the variance: 1 + (m - 1) ICC (Kish, 1965).

    m is the size-weighted mean cluster size. A negative ICC counts as 0. ``None`` where the ICC is.

    >>> design_effect([1, 1, 0, 0], ["a", "a", "b", "b"]), design_effect([1, 0, 1, 0], list("aabb"))
    (2.0, 1.0)
    """
    return _design_effect(*grouped(outcomes, clusters))


def _design_effect(sums: Floats, squares: Floats, sizes: Floats) -> float | None:
    correlation = _correlation(sums, squares, sizes)
    if correlation is None:
        return None
    return 1.0 + (float((sizes**2).sum() / sizes.sum()) - 1.0) * max(correlation, 0.0)


def effective_n(outcomes: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    """Independent rows that would say as much: n / design effect. Rows count fully where each is its own cluster.

    >>> effective_n([1, 1, 0, 0], ["a", "a", "b", "b"]), effective_n([1, 0, 1], ["a", "b", "c"])
    (2.0, 3.0)
    """
    return _effective_n(*grouped(outcomes, clusters))


def _effective_n(sums: Floats, squares: Floats, sizes: Floats) -> float | None:
    n = float(sizes.sum())
    if n and n == len(sizes):
        return n
    effect = _design_effect(sums, squares, sizes)
    return None if effect is None else n / effect


def worth_of_counts(successes: Sequence[int], trials: Sequence[int]) -> tuple[float | None, float | None]:
    """ICC and effective n of yes/no outcomes, from each cluster's counts: no list of the outcomes is needed.

    >>> worth_of_counts([2, 0], [2, 2])
    (1.0, 2.0)
    """
    hits, sizes = np.asarray(successes, float), np.asarray(trials, float)
    return _correlation(hits, hits, sizes), _effective_n(hits, hits, sizes)


def fewest_terms(level: float = 0.95) -> int:
    """Terms below which no outcome is significant: a sign-flip test of n terms has no p value below 2^(1 - n).

    >>> fewest_terms(), fewest_terms(0.9)
    (6, 5)
    """
    return math.floor(1 - math.log2(1 - level)) + 1


def minimum_detectable_difference(sd: float, n_terms: int, level: float = 0.95, power: float = 0.8) -> float | None:
    """Smallest mean difference that a two-sided paired t test over ``n_terms`` finds with the stated power.

    ``sd`` is the standard deviation of the per-term mean differences. ``None`` below two terms.

    >>> round(minimum_detectable_difference(0.3, 20), 3), minimum_detectable_difference(0.3, 1) is None
    (0.198, True)
    """
    if n_terms < 2:
        return None
    quantiles = stdtrit(n_terms - 1, (1 + level) / 2) + stdtrit(n_terms - 1, power)
    return float(quantiles * sd / math.sqrt(n_terms))


def terms_needed(difference: float, sd: float, level: float = 0.95, power: float = 0.8) -> int | None:
    """Terms **in total** with which a mean difference of this size would be found with the stated power.

    ``None`` for a difference of zero: no number of terms shows what is not there.

    >>> terms_needed(0.2, 0.3), terms_needed(-0.1, 0.3), terms_needed(0.0, 0.3) is None
    (20, 73, True)
    """
    size = abs(difference)
    if size < 1e-12:
        return None
    quantiles = float(ndtri((1 + level) / 2) + ndtri(power))
    n = max(2, math.floor((quantiles * sd / size) ** 2))  # normal quantiles ask for too few; climb from there
    while (minimum_detectable_difference(sd, n, level, power) or 0.0) > size + 1e-12:
        n += 1
    return n
