"""Intervals and tests where there is next to nothing to test."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from clinical_asr.errors import FlywheelError
from clinical_asr.statistics import (
    PairedComparison,
    clustered_counts_interval,
    clustered_proportion_interval,
    compare_by_term,
    holm,
    mean_difference_interval,
    minimum_detectable_difference,
    proportion_interval,
    sign_flip_test,
    terms_needed,
)


def test_a_method_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(FlywheelError, match="unknown interval 'wald'; use one of: wilson, exact"):
        proportion_interval(1, 2, method="wald")  # type: ignore[arg-type]


@pytest.mark.parametrize("successes", [-1, 6])
def test_successes_lie_among_the_rows(successes: int) -> None:
    with pytest.raises(FlywheelError, match=f"{successes} successes of 5 rows"):
        proportion_interval(successes, 5)


@pytest.mark.parametrize("level", [0.8, 0.99])
def test_the_level_widens_the_interval_as_scipy_s(level: float) -> None:
    for method in ("wilson", "exact"):
        expected = stats.binomtest(3, 11).proportion_ci(level, method=method)
        found = proportion_interval(3, 11, level, method)  # type: ignore[arg-type]
        assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("method", ["wilson", "exact"])
@pytest.mark.parametrize("successes", [0, 1, 10, 11])
def test_one_success_or_one_failure_is_no_certainty(successes: int, method: Literal["wilson", "exact"]) -> None:
    low, high = proportion_interval(successes, 11, method=method)
    expected = stats.binomtest(successes, 11).proportion_ci(method=method)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (low == 0.0, high == 1.0) == (successes == 0, successes == 11)


@pytest.mark.parametrize("n", [1, 5, 10, 11, 35, 39, 100, 399])
def test_an_interval_ends_at_nothing_and_at_all_to_the_last_bit(n: int) -> None:
    """Of 35 rows, of which none was missed, the formula alone says 6e-18 at least."""
    assert proportion_interval(0, n)[0] == 0.0 and proportion_interval(n, n)[1] == 1.0
    for nearly in (1e-9, n - 1e-9):
        low, high = proportion_interval(nearly, n)
        assert 0.0 <= low <= nearly / n <= high <= 1.0


def test_without_a_row_a_share_may_be_anything() -> None:
    assert clustered_counts_interval([], []) == (0.0, 1.0) == clustered_counts_interval([0, 0], [0, 0])


def test_clusters_without_rows_do_not_count_as_clusters() -> None:
    assert clustered_counts_interval([1, 0, 2, 0], [2, 0, 3, 0]) == clustered_counts_interval([1, 2], [2, 3])


def test_one_cluster_is_worth_one_row_whatever_its_size() -> None:
    assert clustered_counts_interval([30], [60]) == proportion_interval(0.5, 1)


def test_the_clustered_interval_of_a_worked_example() -> None:
    """Three terms of 4 rows, 1, 2 and 4 missed: p = 7/12. By hand: ratio variance, effective n, t quantiles, Wilson."""
    hits, n, share = np.array([1.0, 2, 4]), 12, 7 / 12
    variance = 3 / 2 * ((hits - share * 4) ** 2).sum() / n**2
    shrink = (stats.t.ppf(0.975, 11) / stats.t.ppf(0.975, 2)) ** 2
    worth = max(1.0, share * (1 - share) / variance * shrink)
    assert clustered_counts_interval(hits, [4, 4, 4]) == pytest.approx(proportion_interval(share * worth, worth))


def by_hand(hits: list[float], rows: list[float], level: float) -> tuple[float, float]:
    """Ratio variance, effective n, t quantiles, Wilson, for terms of any size."""
    n, k, share = sum(rows), len(rows), sum(hits) / sum(rows)
    variance = k / (k - 1) * sum((hit - share * of) ** 2 for hit, of in zip(hits, rows, strict=True)) / n**2
    quantile = (1 + level) / 2
    shrink = (stats.t.ppf(quantile, n - 1) / stats.t.ppf(quantile, k - 1)) ** 2
    worth = min(share * (1 - share) / variance, n) * shrink
    assert worth >= 1
    return proportion_interval(share * worth, worth, level)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(
    ("hits", "rows"),
    [([1, 0, 0, 1, 1, 0, 0, 0], [1] * 8), ([1, 2, 4, 0, 1], [1, 4, 6, 1, 1]), ([60, 45], [100, 80])],
    ids=["one row each", "one row or several", "two terms"],
)
def test_terms_of_one_row_and_two_terms_count_by_the_same_formula(
    hits: list[float], rows: list[float], level: float
) -> None:
    assert clustered_counts_interval(hits, rows, level) == pytest.approx(by_hand(hits, rows, level))
    outcomes = [float(place < hit) for hit, of in zip(hits, rows, strict=True) for place in range(int(of))]
    labels = [term for term, of in enumerate(rows) for _ in range(int(of))]
    assert clustered_proportion_interval(outcomes, labels, level) == clustered_counts_interval(hits, rows, level)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_where_all_outcomes_are_equal_each_term_is_worth_one_row(level: float) -> None:
    assert clustered_counts_interval([5, 5, 5], [5, 5, 5], level) == proportion_interval(3, 3, level)
    assert clustered_counts_interval([0, 0, 0], [5, 5, 5], level) == proportion_interval(0, 3, level)


def test_terms_that_contradict_each_other_are_worth_one_row_at_least() -> None:
    assert clustered_counts_interval([5, 0], [5, 5]) == proportion_interval(0.5, 1)


def test_terms_that_agree_too_well_are_never_worth_more_than_their_rows() -> None:
    """Half of each term's rows are missed: the variance between terms is 0, yet 40 rows stay 40 rows at most."""
    shrink = (stats.t.ppf(0.975, 39) / stats.t.ppf(0.975, 9)) ** 2
    found = clustered_counts_interval([2] * 10, [4] * 10)
    assert found == pytest.approx(proportion_interval(20 * shrink, 40 * shrink))
    assert clustered_counts_interval([2] * 10, [4] * 10, 0.5)[0] > found[0]


def test_sign_flips_of_twenty_terms_are_all_visited_and_of_more_are_drawn_with_the_observed_one() -> None:
    assert sign_flip_test([1.0] * 20) == 2 / 2**20
    assert sign_flip_test([1.0] * 21) == sign_flip_test([1.0] * 40) == 1 / 100_001
    assert sign_flip_test([0.0] * 30 + [1.0] * 5) == sign_flip_test([1.0] * 5) == 2 / 2**5
    some = np.random.default_rng(3).normal(0.2, 1, 30)
    assert sign_flip_test(some, seed=1) != sign_flip_test(some, seed=2)


def test_sums_that_are_equal_but_for_rounding_are_equally_extreme() -> None:
    """0.1 + 0.2 is not 0.3 to a computer; the patterns (+ + -) and (- - +) of it are as extreme as each other."""
    assert sign_flip_test([0.1, 0.2, -0.3]) == 1.0
    assert sign_flip_test([0.3, 0.2, 0.1]) == 0.25


def test_where_every_pattern_of_signs_is_as_extreme_the_p_value_is_one() -> None:
    """As many patterns are drawn as are divided by."""
    assert sign_flip_test([1.0, -1.0] * 15) == 1.0


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 7e5, 1e9])
def test_the_unit_of_the_differences_does_not_matter(scale: float) -> None:
    some = np.array([0.1, 0.2, -0.3, 0.7, 0.4, 0.1])
    assert sign_flip_test(some * scale) == sign_flip_test(some)
    many = np.random.default_rng(5).normal(0.2, 1, 30)
    assert sign_flip_test(many * scale) == pytest.approx(sign_flip_test(many), abs=2e-5)


def test_narrow_differences_are_summed_in_full_width() -> None:
    """Columns of one byte would wrap around, those of four bytes lose digits."""
    short = np.random.default_rng(8).normal(0.2, 1, 50).astype(np.float32)
    assert mean_difference_interval(short) == mean_difference_interval(short.astype(float))  # type: ignore[arg-type]
    assert sign_flip_test(np.array([100] * 5, np.int8)) == 2 / 2**5  # type: ignore[arg-type]
    assert sign_flip_test(np.array([100] * 40, np.int8)) == 1 / 100_001  # type: ignore[arg-type]


def test_an_interval_of_a_mean_needs_two_terms_and_is_student_s() -> None:
    assert mean_difference_interval([]) is None and mean_difference_interval([0.5]) is None
    values = [-0.2, -0.4, 0.0, 0.1]
    for level in (0.8, 0.95):
        expected = stats.t.interval(level, 3, np.mean(values), stats.sem(values))
        assert mean_difference_interval(values, level) == pytest.approx(expected)
    low, high = mean_difference_interval([0.9, 0.5], bounds=(-9.0, 1.0)) or (None, None)
    assert low == pytest.approx(0.7 - stats.t.ppf(0.975, 1) * 0.2) and high == 1.0


def test_holm_gives_each_hypothesis_its_own_factor_and_stops_at_one() -> None:
    assert holm([0.5, None, 0.6]) == [1.0, None, 1.0]
    assert holm([0.01, 0.02, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert holm([]) == []


def test_one_term_gives_a_mean_and_nothing_to_test_it_with() -> None:
    with warnings.catch_warnings(action="error"):  # nor does numpy tell the user of a spread of nothing
        found = compare_by_term(["a", "a"], [1, 1], [0, 1])
    assert (found.n_terms, found.n_rows, found.mean_difference) == (1, 2, -0.5)
    assert found.low is found.high is found.p_value is found.minimum_detectable_difference is found.terms_needed is None
    assert not found.conclusive and found.more_terms_needed is None


def test_no_row_gives_no_number_and_two_terms_give_all_of_them() -> None:
    assert compare_by_term([], [], []) == PairedComparison(0, 0, None, None, None, None, None, None)
    two = compare_by_term(["a", "b"], [1, 1], [0, 0.5])
    assert (two.p_value, two.mean_difference) == (0.5, -0.75)
    spread = 0.25 * 2**0.5  # of -1 and -0.5
    assert terms_needed(-0.75, spread) == 4 and two.terms_needed == 6, "fewer cannot be significant"
    assert two.minimum_detectable_difference is None and two.low is not None
    apart = compare_by_term(["a", "b"], [1, 1], [0, 0.9])
    assert apart.terms_needed == terms_needed(-0.55, 0.45 * 2**0.5) == 13, "two have a spread too"


@pytest.mark.parametrize("level", [0.8, 0.99])
def test_the_level_of_a_comparison_is_that_of_its_interval_and_of_what_it_could_have_shown(level: float) -> None:
    after = [0.1, 0.5, 0.2, 0.9, 0.4, 0.3, 0.8, 0.2]
    found = compare_by_term(list("abcdefgh"), [0.6] * 8, after, level)
    differences = [one - 0.6 for one in after]
    spread = float(np.std(differences, ddof=1))
    assert (found.low, found.high) == pytest.approx(mean_difference_interval(differences, level))
    assert found.minimum_detectable_difference == pytest.approx(minimum_detectable_difference(spread, 8, level))
    assert found.terms_needed == terms_needed(float(np.mean(differences)), spread, level)


def test_a_comparison_s_p_value_is_the_sign_flip_test_s_with_the_same_seed() -> None:
    values = np.random.default_rng(3).normal(0.2, 1, 30)
    terms, zeros = list(range(30)), [0.0] * 30
    assert compare_by_term(terms, zeros, values.tolist()).p_value == sign_flip_test(values)
    assert compare_by_term(terms, zeros, values.tolist(), seed=7).p_value == sign_flip_test(values, 7)


def test_conclusive_is_below_five_percent_and_the_terms_at_hand_are_taken_off_those_needed() -> None:
    terms = list("abcdefgh")
    clear = compare_by_term(terms, [1] * 8, [0, 0, 0, 0, 0, 0, 0, 1])
    assert clear.p_value == 2 / 2**7 and clear.conclusive and clear.more_terms_needed == 0
    found = compare_by_term(terms, [1, 0, 1, 0, 1, 0, 1, 1], [0, 1, 0, 1, 0, 1, 0, 0])
    assert not found.conclusive and found.terms_needed is not None
    assert not replace(found, p_value=0.05).conclusive and replace(found, p_value=0.0499).conclusive
    assert found.more_terms_needed == found.terms_needed - 8 > 0


def test_shares_are_cut_at_one_and_word_error_rates_are_not() -> None:
    rates = (list("ab"), [0.0, 0.0], [1.0, 0.2])
    assert compare_by_term(*rates).high == 1.0
    assert (compare_by_term(*rates, bounds=None).high or 0) > 1.0


@pytest.mark.parametrize("terms", range(2, 9))
def test_so_few_terms_as_cannot_be_significant_are_told_how_many_could(terms: int) -> None:
    """All of them cured: the sign-flip test's smallest p value, which six terms take below 0.05."""
    found = compare_by_term(range(terms), [1] * terms, [0] * terms)
    assert found.p_value == 2 ** (1 - terms) and found.conclusive == (terms >= 6)
    assert found.more_terms_needed == max(0, 6 - terms)
    assert (found.minimum_detectable_difference is None) == (terms < 6)
    assert compare_by_term(range(terms), [1] * terms, [1] * terms).terms_needed is None
