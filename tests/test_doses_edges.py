"""Numbers at the edges of an utterance, several at once, and numbers on one side only."""

from __future__ import annotations

import pytest

from clinical_asr.doses import number_errors, word_number_errors
from clinical_asr.error_count import ErrorCount


def nothing_but(**counts: ErrorCount) -> dict[str, ErrorCount]:
    return {kind: counts.get(kind, ErrorCount.zero()) for kind in ("value", "unit", "negation", "laterality")}


def hits(n: int) -> ErrorCount:
    return ErrorCount(0, 0, 0, n, n)


@pytest.mark.parametrize(
    ("said", "heard", "found"),
    [
        ("give 5 mg", "give 5 mg", nothing_but(value=hits(1), unit=hits(1))),
        ("give it", "take it", nothing_but()),
        ("5 mg of it now 7", "5 mg of that now 7", nothing_but(value=hits(2), unit=hits(1))),
        ("", "5 mg", nothing_but(value=ErrorCount(0, 0, 1, 0, 0), unit=ErrorCount(0, 0, 1, 0, 0))),
        ("no 5 mg", "", nothing_but(value=ErrorCount(0, 1, 0, 0, 1), unit=ErrorCount(0, 1, 0, 0, 1),
                                    negation=ErrorCount(0, 1, 0, 0, 1))),
        ("5", "6", nothing_but(value=ErrorCount(1, 0, 0, 0, 1))),
        ("5 7 9", "6 8 x", nothing_but(value=ErrorCount(2, 1, 0, 0, 3))),
        ("5 7", "6 8", nothing_but(value=ErrorCount(2, 0, 0, 0, 2))),
        ("5 7", "9", nothing_but(value=ErrorCount(1, 1, 0, 0, 2))),
        ("left 5 mg", "right 50 mg", nothing_but(value=ErrorCount(1, 0, 0, 0, 1), unit=hits(1),
                                                 laterality=ErrorCount(1, 0, 0, 0, 1))),
    ],
)  # fmt: skip
def test_each_number_is_counted_once_in_its_kind(said: str, heard: str, found: dict[str, ErrorCount]) -> None:
    assert word_number_errors(said.split(), heard.split()) == found
    assert number_errors(said, heard) == found


@pytest.mark.parametrize(
    ("said", "heard", "value", "other"),
    [
        ("x 5", "9 x", ErrorCount(0, 1, 1, 0, 1), {}),  # what both sides hold in between keeps 5 and 9 apart
        ("5 g 7", "7 x mg", ErrorCount(0, 1, 0, 1, 2), {"unit": ErrorCount(0, 1, 0, 0, 1)}),
        ("5 right y", "x 7 5", ErrorCount(0, 0, 1, 1, 1), {"laterality": ErrorCount(0, 1, 0, 0, 1)}),
    ],
)
def test_numbers_are_set_against_each_other_in_their_order(
    said: str, heard: str, value: ErrorCount, other: dict[str, ErrorCount]
) -> None:
    assert number_errors(said, heard) == nothing_but(value=value, **other)


@pytest.mark.parametrize(
    ("said", "heard"), [("twenty five mg", "twenty four mg"), ("two hundred mg", "three hundred mg"),
                        ("one hundred and five", "one hundred and six")],
)  # fmt: skip
def test_a_number_that_is_half_the_same_is_one_wrong_number(said: str, heard: str) -> None:
    """The words both sides share belong to the number that differs, so they are no hit of their own."""
    assert number_errors(f"give {said} now", f"give {heard} now")["value"] == ErrorCount(1, 0, 0, 0, 1)


def test_words_cut_out_of_the_middle_do_not_join_the_numbers_around_them() -> None:
    assert number_errors("give twenty then five mg", "give twenty and then five mg")["value"] == hits(2)
