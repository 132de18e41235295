"""The guard set's test at its edges: no words, one cluster, an interval end exactly on the margin."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from clinical_asr.error_count import ErrorCount
from clinical_asr.noninferiority import non_inferiority


def errors(n: int, length: int = 10) -> ErrorCount:
    return ErrorCount(n, 0, 0, length - n, length)


def test_a_worked_example_by_the_linearised_standard_error() -> None:
    """Three utterances of 10, 20 and 30 words; one, no and two errors more: 3 / 60, spread by d - 0.05 * length."""
    old = [errors(1, 10), errors(2, 20), errors(3, 30)]
    new = [errors(2, 10), errors(2, 20), errors(5, 30)]
    found = non_inferiority(old, new, margin=0.02, level=0.9)
    error = math.sqrt(3 / 2 * sum((d - 0.05 * n) ** 2 for d, n in ((1, 10), (0, 20), (2, 30)))) / 60
    half = stats.t.ppf(0.9, 2) * error
    assert (found.before, found.after, found.difference) == (6 / 60, 9 / 60, 3 / 60)
    assert (found.lower, found.upper) == (pytest.approx(0.05 - half), pytest.approx(0.05 + half))
    assert (found.margin, found.level, found.n_rows, found.n_clusters) == (0.02, 0.9, 3, 3)


def test_takes_of_one_sentence_count_as_one_and_are_summed_first() -> None:
    old, new = [errors(1)] * 6, [errors(2), errors(1), errors(1)] * 2
    by_sentence = non_inferiority(old, new, 0.02, clusters=["a", "a", "b"] * 2)
    summed = non_inferiority([errors(4, 40), errors(2, 20)], [errors(6, 40), errors(2, 20)], 0.02)
    assert (by_sentence.lower, by_sentence.upper) == (summed.lower, summed.upper)
    assert (by_sentence.n_rows, by_sentence.n_clusters) == (6, 2)


@pytest.mark.parametrize(("clusters", "n"), [(["a", "a"], 1), (["a", "b"], 2)])
def test_one_cluster_has_a_difference_without_bounds(clusters: list[str], n: int) -> None:
    found = non_inferiority([errors(0)] * 2, [errors(1)] * 2, 0.02, clusters)
    assert found.difference == 0.1 and found.n_clusters == n
    assert ((found.lower, found.upper) == (None, None)) is (n == 1)
    assert found.verdict == ("inconclusive" if n == 1 else "worse")


def test_without_a_word_nothing_is_known() -> None:
    for rows in ([], [ErrorCount.zero()]):
        found = non_inferiority(rows, rows, 0.02, level=0.9)
        assert (found.before, found.after, found.difference, found.lower, found.upper) == (None,) * 5
        assert (found.verdict, found.n_rows, found.n_clusters) == ("inconclusive", len(rows), len(rows))
        assert (found.margin, found.level) == (0.02, 0.9)


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [
        (-0.01, 0.019, "not worse"),
        (-0.01, 0.02, "inconclusive"),
        (0.02, 0.03, "inconclusive"),
        (0.021, 0.03, "worse"),
        (None, 0.01, "inconclusive"),
        (0.5, None, "inconclusive"),
    ],
)
def test_a_bound_on_the_margin_itself_decides_nothing(lower: float | None, upper: float | None, verdict: str) -> None:
    found = non_inferiority([errors(1)] * 3, [errors(1)] * 3, margin=0.02)
    assert replace(found, lower=lower, upper=upper).verdict == verdict


@pytest.mark.parametrize(
    ("sentences", "words", "verdict"), [(2, 8, "inconclusive"), (20, 10, "inconclusive"), (480, 11, "not worse")]
)
def test_sentences_that_all_agree_prove_as_much_as_so_many_can(sentences: int, words: int, verdict: str) -> None:
    """Of k sentences without a change, 1 - 0.025^(1/k) may still change: by a word each, at least."""
    same = [ErrorCount(1, 0, 0, words - 1, words)] * sentences
    found = non_inferiority(same, same, margin=0.01, level=0.975)
    assert found.difference == 0.0 and found.verdict == verdict
    assert found.upper == pytest.approx((1 - 0.025 ** (1 / sentences)) / words)
    assert found.lower == -found.upper
