"""Pairs that must not be compared, rows without a term or a category, and a guard set of almost nothing."""

from __future__ import annotations

import math

import msgspec
import pytest
from scipy import stats

from board import guard, rows, scored
from clinical_asr.changes import (
    by_category,
    by_stratum,
    by_term,
    change_of,
    guard_of,
    paired_rows,
    paired_test,
    relative_change,
    side_of,
)
from clinical_asr.errors import ScoringError
from clinical_asr.records import Stratum


def test_a_row_that_stands_twice_in_one_cycle_is_named() -> None:
    old, _ = scored(rows(4, 1))
    for before, after in (([*old, old[2]], old), (old, [*old, old[2]])):
        with pytest.raises(ScoringError, match="row r00002: stands twice; score each row once"):
            paired_rows(before, after)


def test_rows_come_in_the_order_of_their_ids_each_with_its_own_other_half() -> None:
    old, _ = scored(rows(5, 0))
    new, _ = scored(rows(5, 5))
    pairs = paired_rows(old[::-1], [new[i] for i in (2, 0, 4, 1, 3)])
    assert [(one.id, other.id) for one, other in pairs] == [(f"r0000{i}", f"r0000{i}") for i in range(5)]
    assert {one.tally.ker for one, _ in pairs} == {0.0} and {other.tally.ker for _, other in pairs} == {1.0}


def test_general_speech_beside_clinical_rows_belongs_to_no_category_and_no_term() -> None:
    old, _ = scored(rows(6, 3, terms=2))
    pairs = paired_rows([*old, *guard(3, 1)], [*old, *guard(3, 1)])
    assert len(pairs) == 9
    assert [(change.key, change.rows) for change in by_category(pairs)] == [("drug", 6)]
    assert [(change.key, change.rows) for change in by_term(pairs)] == [("term1", 3), ("term0", 3)]
    assert change_of("all", pairs).terms == 2
    found = paired_test(pairs)
    assert found is not None and found.n_rows == 6, "a row without a term has no KER to test"
    assert paired_test(paired_rows(guard(3, 1), guard(3, 1))) is None


def test_a_new_cut_of_the_same_file_is_another_recording() -> None:
    """Rows of one long file differ by their offset; a row added to the second cycle is no changed one."""
    (one,), (other,) = scored(rows(1, 0))[0], scored(rows(1, 0, start=1))[0]
    day = [msgspec.structs.replace(row, audio_filepath="day.wav", term="term0", extra={"offset": 2.0 * i})
           for i, row in enumerate((one, other, msgspec.structs.replace(other, id="r2")))]  # fmt: skip
    assert [pair[0].id for pair in paired_rows(day[:2], [day[0], day[2]])] == [day[0].id]


def test_a_file_listed_under_a_second_id_in_one_cycle_only_does_not_make_the_shared_row_a_changed_one() -> None:
    (one,), _ = scored(rows(1, 0))
    again = msgspec.structs.replace(one, id="again")
    assert len(paired_rows([one, again], [one])) == len(paired_rows([one], [one, again])) == 1


def test_rows_without_a_recording_are_told_apart_by_their_ids_alone() -> None:
    bare = [msgspec.structs.replace(row, audio_filepath="", term="term0") for row in scored(rows(3, 0))[0]]
    assert [pair[0].id for pair in paired_rows(bare[:2], [bare[0], bare[2]])] == [bare[0].id]


def test_each_stratum_has_its_own_rows() -> None:
    pairs = paired_rows(scored(rows(10, 4))[0], scored(rows(10, 1))[0])
    labels = {pair[0].id: Stratum.NEW_VOICE if pair[0].id < "r00003" else Stratum.TRAINED for pair in pairs}
    found = {change.key: (change.rows, change.misses_before) for change in by_stratum(pairs, labels)}
    assert found == {"new voice": (3, 0), "trained": (7, 4)}


def test_terms_come_with_what_is_missed_most_now_then_before_then_in_the_most_rows() -> None:
    missed = {"b": (2, 0, 0), "f": (2, 2, 0), "d": (2, 1, 1), "c": (2, 1, 1), "a": (4, 2, 2), "e": (4, 4, 2)}
    pairs = []
    for number, (term, (n, before, after)) in enumerate(missed.items()):
        sides = (scored(rows(n, misses, start=10 * number))[0] for misses in (before, after))
        pairs += paired_rows(*([msgspec.structs.replace(row, term=term) for row in side] for side in sides))
    assert [change.key for change in by_term(pairs)] == ["e", "a", "c", "d", "f", "b"]


def test_terms_are_tested_on_after_minus_before() -> None:
    """Five terms of two rows: one of each missed before in four terms, in one term after."""
    found = paired_test(paired_rows(scored(rows(10, 4))[0], scored(rows(10, 1))[0]))
    assert found is not None and (found.n_terms, found.n_rows) == (5, 10)
    assert found.mean_difference == pytest.approx(0.1 - 0.4)


def test_each_group_has_the_interval_and_the_p_value_of_its_own_test() -> None:
    pairs = paired_rows(scored(rows(40, 20, terms=10))[0], scored(rows(40, 11, terms=10))[0])
    labels = {pair[0].id: Stratum.NEW_SENTENCE for pair in pairs}
    found = paired_test(pairs)
    assert found is not None and found.low is not None and found.high is not None and found.low < found.high
    wanted = (found.low, found.high, found.p_value)
    for group in (*by_category(pairs), *by_stratum(pairs, labels), side_of(pairs, labels, lambda _: True)):
        assert (group.low, group.high, group.p_value) == wanted


def test_the_guard_shows_both_rates_and_the_two_sided_interval_of_the_rise() -> None:
    """20 sentences of ten words; one error in the first of them before, in the first three after."""
    found = guard_of(paired_rows(guard(20, 1), guard(20, 3)), 0.003, 0.01)
    assert (found.wer_before, found.wer_after, found.difference) == (1 / 200, 3 / 200, 0.01)
    error = math.sqrt(20 / 19 * (2 * 0.9**2 + 18 * 0.1**2)) / 200
    half = stats.t.ppf(0.975, 19) * error
    assert (found.low, found.high) == (pytest.approx(0.01 - half), pytest.approx(0.01 + half))


def test_a_second_take_of_every_guard_sentence_with_the_same_errors_says_nothing_new() -> None:
    once = [guard(30, errors) for errors in (2, 9)]
    twice = [[*side, *(msgspec.structs.replace(row, id=f"{row.id}b") for row in side)] for side in once]
    one, two = (guard_of(paired_rows(*sides), 0.003, 0.01) for sides in (once, twice))
    assert (two.rows, two.difference) == (60, one.difference)
    assert one.high is not None and (two.low, two.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_a_side_names_what_it_is_and_shows_all_categories_beside_the_wanted_ones() -> None:
    pairs = paired_rows(scored(rows(10, 4))[0], scored(rows(10, 1))[0])
    labels = {pair[0].id: Stratum.NEW_SENTENCE for pair in pairs}
    found = side_of(pairs, labels, lambda pair: pair[0].id < "r00004")
    assert (found.key, found.rows, found.strata) == ("priority categories", 4, {"new sentence": 4})
    assert (found.all_categories.key, found.all_categories.rows) == ("all categories", 10)


def test_a_group_of_rows_keeps_before_and_after_apart_in_every_field() -> None:
    pairs = paired_rows(scored(rows(10, 4))[0], scored(rows(10, 1))[0])
    found = change_of("drug", pairs)
    assert (found.key, found.rows, found.terms, found.occurrences) == ("drug", 10, 5, 10)
    assert (found.misses_before, found.misses_after, found.ker_before, found.ker_after) == (4, 1, 0.4, 0.1)
    assert (found.wer_before, found.wer_after, found.ker_relative_change) == (4 / 40, 1 / 40, pytest.approx(-0.75))
    assert found.low is found.high is found.p_value is found.p_holm is None


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [(0.5, 0.25, -0.5), (0.5, 0.0, -1.0), (0.5, None, None), (None, 0.5, None), (0.0, 0.5, None)],
)
def test_a_relative_change_needs_something_to_be_relative_to(
    before: float | None, after: float | None, change: float | None
) -> None:
    assert relative_change(before, after) == change


def test_the_guard_s_margin_and_upper_limit_are_still_allowed_themselves() -> None:
    """20 rows of ten words: two more errors are exactly one point."""
    pairs = paired_rows(guard(20, 0), guard(20, 2))
    found = guard_of(pairs, margin=0.01, upper=1.0)
    assert (found.difference, found.worse, found.proven) == (0.01, False, True)
    assert guard_of(pairs, margin=0.0099, upper=1.0).worse and not guard_of(pairs, margin=0.0099, upper=1.0).proven
    assert found.high is not None and found.high > 0.01
    assert guard_of(pairs, 0.01, upper=found.high).proven
    assert not guard_of(pairs, 0.01, upper=found.high - 1e-9).proven


def test_one_guard_row_has_a_rise_but_no_interval_so_nothing_is_proven() -> None:
    found = guard_of(paired_rows(guard(1, 0), guard(1, 0)), 0.003, 0.01)
    assert (found.rows, found.difference, found.low, found.high) == (1, 0.0, None, None)
    assert not found.worse and not found.proven


def test_no_guard_row_is_neither_worse_nor_proven() -> None:
    found = guard_of([], 0.003, 0.01)
    assert (found.rows, found.difference, found.worse, found.proven) == (0, None, False, False)
    assert (found.margin, found.upper) == (0.003, 0.01)
