"""What clustered rows are worth: textbook values, and where there is no answer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clinical_asr.power import (
    design_effect,
    effective_n,
    grouped,
    intracluster_correlation,
    minimum_detectable_difference,
    terms_needed,
    worth_of_counts,
)


def test_each_outcome_needs_its_cluster() -> None:
    with pytest.raises(ValueError, match="2 outcomes but 1 cluster labels"):
        grouped([1, 0], ["a"])


def test_sums_squares_and_sizes_stand_in_the_order_of_first_appearance() -> None:
    sums, squares, sizes = grouped([2, 3, -1, 0.5], ["b", "a", "b", "a"])
    assert (sums.tolist(), squares.tolist(), sizes.tolist()) == ([1, 3.5], [5, 9.25], [2, 2])
    assert {column.dtype for column in (sums, squares, sizes)} == {np.dtype(float)}
    assert [column.tolist() for column in grouped([], [])] == [[], [], []]


def test_the_icc_of_clusters_of_unequal_size_is_the_anova_estimator() -> None:
    """By the mean squares of a one-way analysis of variance, as a textbook prints them; values beyond 0 and 1 too."""
    groups = [[1.0, 1, 0, 3], [0.0, 0], [1.0, 0, 2], [2.0, 2, 1]]
    flat = [x for group in groups for x in group]
    labels = [i for i, group in enumerate(groups) for _ in group]
    n, k, mean = len(flat), len(groups), np.mean(flat)
    between = sum(len(g) * (np.mean(g) - mean) ** 2 for g in groups) / (k - 1)
    within = sum(((np.array(g) - np.mean(g)) ** 2).sum() for g in groups) / (n - k)
    size = (n - sum(len(g) ** 2 for g in groups) / n) / (k - 1)
    icc = (between - within) / (between + (size - 1) * within)
    assert intracluster_correlation(flat, labels) == pytest.approx(icc)
    weighted = sum(len(g) ** 2 for g in groups) / n
    assert design_effect(flat, labels) == pytest.approx(1 + (weighted - 1) * icc)
    assert effective_n(flat, labels) == pytest.approx(n / (1 + (weighted - 1) * icc))


@pytest.mark.parametrize(
    ("outcomes", "labels"),
    [([], ""), ([1, 0, 1], "aaa"), ([1, 0, 1], "abc"), ([1, 1, 1, 1], "aabb")],
    ids=["no rows", "one cluster", "one row each", "all outcomes equal"],
)
def test_where_clustering_cannot_be_seen_nothing_is_claimed(outcomes: list[float], labels: str) -> None:
    with np.errstate(all="raise"):  # nor is anything divided by nothing
        assert intracluster_correlation(outcomes, list(labels)) is None
        assert design_effect(outcomes, list(labels)) is None


def test_rows_count_fully_where_each_is_its_own_cluster_and_are_unknown_where_one_cluster_is_all() -> None:
    assert effective_n([1, 1], ["a", "b"]) == 2.0
    assert effective_n([1, 0], ["a", "a"]) is None and effective_n([], []) is None


def test_two_terms_detect_a_difference_though_a_large_one() -> None:
    assert minimum_detectable_difference(0.3, 1) is None
    found = minimum_detectable_difference(0.3, 2)
    assert found == pytest.approx((stats.t.ppf(0.975, 1) + stats.t.ppf(0.8, 1)) * 0.3 / 2**0.5)
    assert minimum_detectable_difference(0.3, 9, level=0.9, power=0.5) == pytest.approx(stats.t.ppf(0.95, 8) * 0.1)


@pytest.mark.parametrize(("level", "power"), [(0.95, 0.8), (0.99, 0.8), (0.95, 0.9), (0.8, 0.5)])
@pytest.mark.parametrize("difference", [0.05, 0.3, 2.0])
def test_one_term_fewer_would_not_do(difference: float, level: float, power: float) -> None:
    n = terms_needed(difference, 0.3, level, power)
    assert n is not None and n >= 2
    assert (minimum_detectable_difference(0.3, n, level, power) or 9) <= difference + 1e-12
    fewer = minimum_detectable_difference(0.3, n - 1, level, power)
    assert fewer is None or fewer > difference


def test_no_spread_needs_two_terms_and_no_difference_needs_no_number() -> None:
    assert terms_needed(0.1, 0.0) == 2 and terms_needed(0.0, 0.3) is None and terms_needed(-1e-13, 0.3) is None


@pytest.mark.parametrize("n", [2, 3, 20, 73, 500])
def test_what_so_many_terms_can_tell_takes_so_many_terms(n: int) -> None:
    """There and back, whatever the last bit of the difference is."""
    detectable = minimum_detectable_difference(0.3, n)
    assert detectable is not None
    assert {terms_needed(detectable * wobble, 0.3) for wobble in (1, 1 - 1e-15, 1 + 1e-15)} == {n}


def test_counts_in_one_byte_each_do_not_wrap_around_when_they_are_squared() -> None:
    """Columns of boards are that narrow."""
    hits, sizes = [200, 10, 90], [250, 250, 100]
    narrow = worth_of_counts(np.array(hits, np.uint8), np.array(sizes, np.uint8))  # type: ignore[arg-type]
    assert narrow == worth_of_counts(hits, sizes)
    _, squares, _ = grouped(np.array([20, 3], np.uint8), ["a", "a"])  # type: ignore[arg-type]
    assert squares.tolist() == [409.0]
