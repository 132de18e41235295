"""Formulas of the statistics against other derivations: scipy's, closed testing, the jackknife, exact power."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clinical_asr.error_count import ErrorCount
from clinical_asr.statistics import (
    SHARES,
    clustered_counts_interval,
    compare_by_term,
    design_effect,
    holm,
    intracluster_correlation,
    mean_difference_interval,
    minimum_detectable_difference,
    non_inferiority,
    proportion_interval,
    sign_flip_test,
    terms_needed,
)
from test_statistics import clustered_outcomes

RNG = np.random.default_rng


def false_positives(rows: int, terms: int, icc: float, runs: int, seed: int) -> float:
    """Share of p < 0.05 that the shipped test gives, from rows to p value, where nothing has changed on average."""
    draw = RNG(seed)
    before, after = (clustered_outcomes(draw, runs, terms, rows // terms, icc) for _ in range(2))
    labels = [f"term{t}" for t in range(terms) for _ in range(rows // terms)]
    found = [compare_by_term(labels, b.ravel(), a.ravel()).p_value for b, a in zip(before, after, strict=True)]
    return float(np.mean([p is not None and p < 0.05 for p in found]))


@pytest.mark.parametrize("icc", [0.0, 0.07, 0.22])
@pytest.mark.parametrize(("rows", "terms"), [(100, 20), (500, 25)])
def test_the_shipped_test_keeps_its_level(rows: int, terms: int, icc: float) -> None:
    assert 0.03 <= false_positives(rows, terms, icc, runs=600, seed=21) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.0, 0.07, 0.22])
@pytest.mark.parametrize(("rows", "terms"), [(100, 20), (500, 25)])
def test_the_shipped_test_keeps_its_level_in_many_runs(rows: int, terms: int, icc: float) -> None:
    assert 0.03 <= false_positives(rows, terms, icc, runs=4000, seed=22) <= 0.07


def test_a_test_over_rows_would_not_keep_it() -> None:
    """What the test over terms is there for: shared changes of a term fool McNemar-like tests over rows."""
    draw = RNG(23)
    before, after = (clustered_outcomes(draw, 400, 25, 20, 0.22) for _ in range(2))
    over_rows = stats.ttest_rel(before.reshape(400, -1), after.reshape(400, -1), axis=1).pvalue
    assert np.mean(over_rows < 0.05) > 0.2


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=8))
@settings(max_examples=40, deadline=None)
def test_sign_flips_equal_scipys_permutation_test(values: list[int]) -> None:
    theirs = stats.permutation_test((np.array(values, float),), np.sum, permutation_type="samples", n_resamples=np.inf,
                                    alternative="two-sided")  # fmt: skip
    assert sign_flip_test(values) == pytest.approx(min(1.0, theirs.pvalue), abs=1e-9)


def test_the_exact_and_the_drawn_test_agree_where_they_meet() -> None:
    values = RNG(2).normal(0.4, 1, 20)
    exact = sign_flip_test(values)
    drawn = sign_flip_test([*values, 1e-13])  # 21 terms, the last of no weight
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 100_000) + 1e-4)


def test_the_t_interval_is_scipys_with_terms_less_one_degrees_of_freedom() -> None:
    values = RNG(3).normal(0.1, 0.3, 9)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_difference_interval(values) == pytest.approx((theirs.low, theirs.high))


def test_intervals_of_shares_are_cut_and_those_of_wer_are_not() -> None:
    found = compare_by_term(["a", "b"], [1, 0], [0, 0])
    assert (found.low, found.high) == SHARES
    free = compare_by_term(["a", "b"], [1, 0], [0, 0], bounds=None)
    assert free.low is not None and free.low < -5 and free.p_value == found.p_value


def test_the_icc_is_the_one_of_a_one_way_analysis_of_variance() -> None:
    """Donner (1986): (F - 1) / (F + m0 - 1), m0 the mean size less its spread."""
    sizes, draw = [3, 5, 2, 8, 4], RNG(4)
    groups = [draw.normal(draw.normal(), 1, size) for size in sizes]
    f = stats.f_oneway(*groups).statistic
    m0 = (sum(sizes) - sum(m * m for m in sizes) / sum(sizes)) / (len(sizes) - 1)
    labels = [place for place, size in enumerate(sizes) for _ in range(size)]
    found = intracluster_correlation(np.concatenate(groups).tolist(), labels)
    assert found == pytest.approx((f - 1) / (f + m0 - 1))


def test_the_design_effect_is_the_variance_it_costs() -> None:
    """The mean of clustered rows varies by 1 + (m - 1) ICC times what independent rows would."""
    outcomes = clustered_outcomes(RNG(5), 4000, 10, 8, 0.22)
    inflated = outcomes.mean(axis=(1, 2)).var() / (0.4 * 0.6 / 80)
    assert inflated == pytest.approx(1 + 7 * 0.22, rel=0.1)
    many = clustered_outcomes(RNG(6), 1, 3000, 8, 0.22)[0]
    labels = [term for term in range(3000) for _ in range(8)]
    assert design_effect(many.ravel().tolist(), labels) == pytest.approx(1 + 7 * 0.22, rel=0.06)


def exact_power(difference: float, sd: float, n: int) -> float:
    """Power of the two-sided paired t test by the noncentral t distribution."""
    limit, shift = stats.t.ppf(0.975, n - 1), difference / sd * np.sqrt(n)
    return float(stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift))


@pytest.mark.parametrize("n", [5, 8, 12, 20, 40, 100])
def test_the_detectable_difference_has_the_power_it_promises(n: int) -> None:
    found = minimum_detectable_difference(0.3, n)
    assert found is not None and exact_power(found, 0.3, n) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("difference", [0.1, 0.2, 0.35])
def test_the_terms_needed_are_those_of_exact_power_give_or_take_one(difference: float) -> None:
    exact = next(n for n in itertools.count(2) if exact_power(difference, 0.3, n) >= 0.8)
    assert abs((terms_needed(difference, 0.3) or 0) - exact) <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_holm_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    """Marcus, Peritz and Gabriel (1976): a hypothesis falls if every set that holds it does."""
    places = range(len(p_values))
    sets = [one for size in places for one in itertools.combinations(places, size + 1)]
    closed = [max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if place in s) for place in places]
    assert holm(p_values) == pytest.approx(closed)


def guard_rows(seed: int, k: int, length: int = 20) -> tuple[list[ErrorCount], list[ErrorCount]]:
    draw = RNG(seed)
    pairs = draw.integers(0, 6, (k, 2)).tolist()
    return tuple([ErrorCount(e, 0, 0, length - e, length) for e in side] for side in zip(*pairs, strict=True))  # type: ignore[return-value]


def test_non_inferiority_of_equal_rows_is_a_one_sided_t_interval() -> None:
    before, after = guard_rows(7, 30)
    found = non_inferiority(before, after, margin=0.1)
    rises = [(b.errors - a.errors) / 20 for a, b in zip(before, after, strict=True)]
    theirs = stats.ttest_1samp(rises, 0).confidence_interval(0.90)  # both one-sided 95 % bounds
    assert (found.lower, found.upper) == pytest.approx((theirs.low, theirs.high))


def test_non_inferiority_of_unequal_rows_is_near_the_jackknife() -> None:
    draw = RNG(8)
    lengths = draw.integers(5, 40, 200)
    old, new = (np.minimum(draw.poisson(0.1 * lengths), lengths) for _ in range(2))
    counts = [[ErrorCount(int(e), 0, 0, int(m - e), int(m)) for e, m in zip(side, lengths, strict=True)]
              for side in (old, new)]  # fmt: skip
    found, k = non_inferiority(counts[0], counts[1], margin=0.1), len(lengths)
    rise = new - old
    left_out = (rise.sum() - rise) / (lengths.sum() - lengths)
    error = np.sqrt((k - 1) / k * ((left_out - left_out.mean()) ** 2).sum())
    assert found.upper is not None and found.difference is not None
    assert found.upper - found.difference == pytest.approx(stats.t.ppf(0.95, k - 1) * error, rel=0.03)


def test_the_verdict_of_non_inferiority_is_one_sided() -> None:
    """The upper bound alone decides "not worse": at the margin it errs in 5 %, not in 2.5 % of the cases."""
    draw, said, runs = RNG(9), 0, 1500
    for extra in draw.normal(1.0, 2.0, (runs, 60)):  # true rise: 1 word in 20, which is the margin
        errors = np.clip(np.rint(extra + draw.uniform(-0.5, 0.5, 60)), -8, 12).astype(int)
        old = [ErrorCount(8, 0, 0, 12, 20)] * 60
        new = [ErrorCount(8 + int(e), 0, 0, 12 - int(e), 20) for e in errors]
        said += non_inferiority(old, new, margin=0.05).verdict == "not worse"
    assert 0.035 <= said / runs <= 0.068


@pytest.mark.parametrize(("mean", "icc"), [(0.05, 0.07), (0.1, 0.22), (0.5, 0.22), (0.9, 0.07)])
def test_the_clustered_interval_covers_near_the_ends_too(mean: float, icc: float) -> None:
    sums = clustered_outcomes(RNG(10), 1500, 25, 8, icc, mean).sum(axis=2)
    covered = [low <= mean <= high for low, high in (clustered_counts_interval(one, [8] * 25) for one in sums)]
    assert 0.92 <= np.mean(covered) <= 0.995


def test_one_row_a_cluster_is_nearly_the_plain_interval() -> None:
    plain, clustered = proportion_interval(30, 100), clustered_counts_interval([1] * 30 + [0] * 70, [1] * 100)
    assert clustered == pytest.approx(plain, abs=0.004)
