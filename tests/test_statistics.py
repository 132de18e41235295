"""Intervals and tests: known values, and error rates measured by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clinical_asr.error_count import ErrorCount
from clinical_asr.errors import FlywheelError
from clinical_asr.statistics import (
    clustered_counts_interval,
    clustered_proportion_interval,
    compare_by_term,
    effective_n,
    holm,
    intracluster_correlation,
    mean_difference_interval,
    minimum_detectable_difference,
    non_inferiority,
    proportion_interval,
    sign_flip_test,
    terms_needed,
)


def clustered_outcomes(
    draw: np.random.Generator, runs: int, clusters: int, size: int, icc: float, mean: float = 0.4
) -> np.ndarray:
    """Beta-binomial 0/1 outcomes, (runs, clusters, size), whose rows of one cluster correlate by ``icc``."""
    if icc == 0:
        shares = np.full((runs, clusters), mean)
    else:
        shares = draw.beta(mean * (1 / icc - 1), (1 - mean) * (1 / icc - 1), (runs, clusters))
    return (draw.random((runs, clusters, size)) < shares[..., None]).astype(float)


@pytest.mark.parametrize("icc", [0.0, 0.07, 0.22])
@pytest.mark.parametrize(("rows", "terms"), [(100, 20), (500, 25)])
def test_t_interval_of_the_mean_difference_covers_zero(rows: int, terms: int, icc: float) -> None:
    draw = np.random.default_rng(12)
    before, after = (clustered_outcomes(draw, 4000, terms, rows // terms, icc) for _ in range(2))
    intervals = [mean_difference_interval(one) for one in (after - before).mean(axis=2)]
    excluded = np.mean([not low <= 0 <= high for low, high in intervals])
    assert 0.03 <= excluded <= 0.07


@pytest.mark.parametrize("icc", [0.0, 0.07, 0.22])
def test_clustered_interval_covers_where_the_row_wise_one_does_not(icc: float) -> None:
    draw = np.random.default_rng(13)
    sums = clustered_outcomes(draw, 2000, 25, 20, icc).sum(axis=2)
    covered = [low <= 0.4 <= high for low, high in (clustered_counts_interval(one, [20] * 25) for one in sums)]
    assert 0.93 <= np.mean(covered) <= 0.99
    naive = [low <= 0.4 <= high for low, high in (proportion_interval(one.sum(), 500) for one in sums)]
    assert icc < 0.2 or np.mean(naive) < 0.75


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
@settings(max_examples=200, deadline=None)
def test_sign_flip_equals_enumeration(values: list[int]) -> None:
    every = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    assert sign_flip_test(values) == pytest.approx(np.mean([total >= abs(sum(values)) for total in every]))


def test_sign_flip_beyond_twenty_terms_is_seeded_and_near_t() -> None:
    values = np.random.default_rng(1).normal(0.25, 1, 60)
    assert sign_flip_test(values) == sign_flip_test(values)
    assert sign_flip_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (2, 5), (37, 100)])
def test_intervals_equal_scipy(k: int, n: int) -> None:
    theirs = stats.binomtest(k, n)
    for ours, name in (("wilson", "wilson"), ("exact", "exact")):
        expected = theirs.proportion_ci(method=name)
        assert proportion_interval(k, n, method=ours) == pytest.approx((expected.low, expected.high), abs=1e-9)  # type: ignore[arg-type]
    assert proportion_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(FlywheelError):
        proportion_interval(6, 5)


def test_icc_is_recovered_and_shrinks_the_effective_n() -> None:
    outcomes = clustered_outcomes(np.random.default_rng(3), 1, 2000, 10, 0.22)[0]
    labels = [str(term) for term in range(2000) for _ in range(10)]
    flat = outcomes.ravel().tolist()
    assert intracluster_correlation(flat, labels) == pytest.approx(0.22, abs=0.02)
    assert effective_n(flat, labels) == pytest.approx(20_000 / (1 + 9 * 0.22), rel=0.06)
    assert intracluster_correlation([1.0] * 4, list("aabb")) is None


def test_rows_and_counts_give_the_same_clustered_interval() -> None:
    rows, labels = [1, 0, 0, 1, 1, 0], list("aabbcc")
    assert clustered_proportion_interval(rows, labels) == clustered_counts_interval([1, 1, 1], [2, 2, 2])
    numbered = clustered_proportion_interval(np.array([1.0, 0, 0]), [7, 7, 8])  # numbers are labels like any other
    assert numbered == clustered_counts_interval([1, 0], [2, 1])


@pytest.mark.parametrize("difference", [0.1, -0.25])
def test_the_terms_needed_give_the_power_promised(difference: float) -> None:
    n = terms_needed(difference, 0.3)
    assert n is not None
    enough, one_less = (minimum_detectable_difference(0.3, terms) or 0.0 for terms in (n, n - 1))
    assert enough <= abs(difference) < one_less
    draws = np.random.default_rng(4).normal(difference, 0.3, (4000, n))
    found = np.abs(draws.mean(axis=1) / draws.std(axis=1, ddof=1) * np.sqrt(n)) > stats.t.ppf(0.975, n - 1)
    assert found.mean() == pytest.approx(0.8, abs=0.03)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_monotone_and_never_below_the_raw_value(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(raw <= one <= 1 for raw, one in zip(p_values, adjusted, strict=True) if one is not None)
    order = np.argsort(p_values, kind="stable")
    assert all(adjusted[a] <= adjusted[b] for a, b in itertools.pairwise(order))  # type: ignore[operator]
    assert holm([0.01, None]) == [0.01, None]


def test_comparison_does_not_depend_on_row_order_and_says_when_it_cannot_tell() -> None:
    terms, before, after = list("aabbcc"), [1, 1, 1, 0, 1, 1], [0, 1, 0, 0, 1, 0]
    found = compare_by_term(terms, before, after)
    order = [5, 0, 3, 2, 4, 1]
    again = compare_by_term(*([side[i] for i in order] for side in (terms, before, after)))
    assert found.mean_difference == pytest.approx(again.mean_difference) and found.p_value == again.p_value
    assert not found.conclusive and found.more_terms_needed is not None
    assert compare_by_term([], [], []).p_value is None
    assert compare_by_term(["a"], [1], [0]).low is None
    with pytest.raises(FlywheelError, match="pair rows by id"):
        compare_by_term(["a"], [1], [])


def test_non_inferiority_keeps_its_level_with_clusters() -> None:
    """At a true difference equal to the margin, "not worse" is said about 5 % of the time."""
    draw = np.random.default_rng(6)
    said = 0
    for _ in range(600):
        shift = draw.normal(0.02 * 20, 1.0, 40).repeat(3)  # extra errors per 20-word utterance, shared by a sentence
        extra = np.clip(np.rint(shift + draw.normal(0, 0.5, 120)), -5, 15).astype(int)
        before = [ErrorCount(5, 0, 0, 15, 20)] * 120
        after = [ErrorCount(5 + e, 0, 0, 15 - e, 20) for e in extra]
        clusters = [sentence for sentence in range(40) for _ in range(3)]
        said += non_inferiority(before, after, margin=0.02, clusters=clusters).verdict == "not worse"
    assert 0.02 <= said / 600 <= 0.08


def test_guard_sets_that_do_not_match_are_refused() -> None:
    with pytest.raises(FlywheelError, match="pair rows by id"):
        non_inferiority([ErrorCount(0, 0, 0, 1, 1)], [ErrorCount(0, 0, 0, 2, 2)], 0.01)
