"""Numbers and units as they are said: what is spelled is read back, and each listed word is what it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinical_asr.grammar import said
from clinical_asr.number_words import tokens

UNITS = {
    "mg": "mg milligram milligrams", "mcg": "mcg ug μg microgram micrograms", "ng": "ng nanogram nanograms",
    "g": "g gm gram grams", "kg": "kg kilogram kilograms kilo kilos",
    "ml": "ml milliliter milliliters millilitre millilitres cc", "dl": "dl deciliter deciliters decilitre decilitres",
    "l": "l liter liters litre litres", "mmol": "mmol millimole millimoles", "mol": "mol mole moles",
    "meq": "meq milliequivalent milliequivalents", "unit": "unit units iu", "%": "% percent", "mmhg": "mmhg",
    "mm": "mm millimeter millimeters millimetre millimetres", "cm": "cm centimeter centimeters centimetre centimetres",
    "bpm": "bpm", "second": "second seconds sec s", "minute": "minute minutes min", "hour": "hour hours hr hrs h",
    "day": "day days", "week": "week weeks", "month": "month months", "year": "year years", "tablet": "tablet tablets",
    "drop": "drop drops", "puff": "puff puffs",
}  # fmt: skip
DENIALS = (
    "no not without denies denied deny denying never none neither nor negative cannot absent dont doesnt didnt isnt "
    "wasnt arent werent cant couldnt wont wouldnt hasnt havent hadnt shouldnt"
)
SIDES = {"left": "left", "right": "right", "bilateral": "bilateral", "bilaterally": "bilateral"}


def brief(text: str) -> str:
    """Tokens on a line: values and units as they are, words with a dash before them.

    >>> brief("give two units")
    '-give 2 unit'
    """
    return " ".join(f"-{token}" if kind == "word" else token for kind, token in tokens(text))


# --- what is spelled is read back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [range(1_100), range(1_100, 1_000_000, 997)], ids=["small", "large"])
def test_every_number_that_is_spelled_is_read(numbers: range) -> None:
    assert [tokens(said(str(number))) for number in numbers] == [[("value", str(number))] for number in numbers]


@given(st.integers(0, 999_999), st.integers(1, 999), st.integers(0, 999_999))
@settings(max_examples=300, deadline=None)
def test_with_or_without_and_and_in_millions(below: int, millions: int, thousandths: int) -> None:
    assert tokens(said(str(below)).replace(" and ", " ")) == [("value", str(below))]
    spelled = f"{said(str(millions))} million" + (f" {said(str(below))}" if below else "")
    assert tokens(spelled) == [("value", str(1_000_000 * millions + below))]
    quantity = f"{below}.{thousandths}"
    assert tokens(said(quantity)) == tokens(quantity)


@pytest.mark.parametrize("unit", ["mg", "mcg", "g", "kg", "ml", "l", "mmol", "unit", "cm", "mm", "%"])
def test_a_dose_said_in_full_is_the_dose_in_digits(unit: str) -> None:
    for number in ("1", "2", "0.05", "12.5"):
        assert tokens(said(f"{number} {unit}")) == tokens(f"{number} {unit}")
        assert tokens(f"{number} {unit}")[1] == ("unit", unit)


# --- each listed word -------------------------------------------------------------------------------------------------


def test_every_name_of_a_unit_is_read_after_a_number_and_is_a_word_elsewhere() -> None:
    for unit, names in UNITS.items():
        for name in names.split():
            assert tokens(f"5 {name}") == [("value", "5"), ("unit", unit)]
            assert tokens(f"the {name}") == [("word", "the"), ("word", name)]


def test_every_denial_is_one_and_every_side_is_told() -> None:
    assert [tokens(word) for word in DENIALS.split()] == [[("negation", "no")]] * len(DENIALS.split())
    assert {word: tokens(word) for word in SIDES} == {word: [("laterality", side)] for word, side in SIDES.items()}


# --- where numbers begin and end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("two thousand million", "2000 1000000"),  # two scales in a row are two numbers
        ("one hundred hundred", "100 100"),
        ("two thousand hundred", "2000 100"),
        ("two hundred and hundred", "200 -and 100"),  # "and" belongs to no number
        ("twenty ten", "20 10"),
        ("twenty zero", "20 0"),
        ("twenty thirty", "20 30"),
        ("two five", "2 5"),
        ("two point oh five", "2.05"),
        ("two point 5", "2.5"),
        ("two point ten", "2 -point 10"),  # ten is no digit
        ("no two point five mg", "no 2.5 mg"),
        ("two and a half tablets", "2.5 tablet"),
        ("two a half", "2.5"),  # the "and" was not heard
        ("and a half", "-and -a 0.5"),
        ("two and a", "2 -and -a"),
        ("a quarter", "-a 0.25"),
        ("quarter tablet", "0.25 tablet"),
        ("three quarter", "3.25"),
        ("1/3", "0.3333"),
        ("2/2", "2 2"),
        ("3/2", "3 2"),
        ("120/80", "120 80"),
        ("1 1/2", "1.5"),
        ("1.5 1/2", "1.5 0.5"),
        ("0", "0"),
        ("007", "7"),
        ("2.50", "2.5"),
        ("0.00000001 mg", "0.00000001 mg"),
        ("<5% >=1,000", "<5 % >=1000"),
    ],
)
def test_a_number_begins_and_ends_where_a_listener_would_say(text: str, read: str) -> None:
    assert brief(text) == read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("5 mg kg", "5 mg kg"),  # a unit after a unit
        ("5 mg per kg", "5 mg -per kg"),
        ("5 mg a day", "5 mg -a day"),
        ("20 units an hour", "20 unit -an hour"),
        ("half of tablet", "0.5 -of tablet"),
        ("5 left a tablet", "5 left -a -tablet"),
        ("care unit", "-care -unit"),
    ],
)
def test_a_unit_is_one_after_a_value_or_a_unit_with_a_joint_between_at_most(text: str, read: str) -> None:
    assert brief(text) == read
