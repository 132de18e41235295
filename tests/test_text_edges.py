"""Every character and word that clinical-v1 has a rule for, one by one, with what it must not touch beside it."""

from __future__ import annotations

import pytest

from clinical_asr.text import clinical_v1, flywheel_v1


def cases(rules: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """``{"characters": ("text with ~", "normalised")}`` -> one case a character."""
    return [(before.replace("~", one), after) for some, (before, after) in rules.items() for one in some]


@pytest.mark.parametrize(
    ("written", "normalised"),
    cases({
        "'‘’ʼ′´＇‛": ("the patient don~t", "the patient dont"),
        "-\u2010\u2011\u2012\u2013\u2014\u2015\u2043\ufe58\ufe63\uff0d": ("X~ray 10~20", "x ray 10 20"),
        ".·‧⋅∙٫": ("2~5", "2.5"),
        "/⁄∕": ("120~80", "120/80"),
        "®™℠©°º…": ("Xa~ 37~C", "xa 37 c"),
        "≤⩽≦": ("X ~ 5", "x <=5"),
        "≥⩾≧": ("X ~5", "x >=5"),
        "æÆ": ("X h~moglobin", "x haemoglobin"),
        "œŒ": ("X ~dema", "x oedema"),
        "øØ": ("Br~nsted", "bronsted"),
        "łŁ": ("X ~ukasz", "x lukasz"),
        "ßẞ": ("X Wei~", "x weiss"),
        ",٬": ("1~000", "1,000"),
        "×": ("X 2~3", "x 2 x 3"),
        "№": ("X~5", "x number 5"),
        "℃": ("X 37~", "x 37 c"),
        "℉": ("X 98~", "x 98 f"),
    }),
)  # fmt: skip
def test_look_alike_characters_are_spelled_plainly(written: str, normalised: str) -> None:
    assert clinical_v1(written) == normalised


INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2064\ufeff"


@pytest.mark.parametrize("character", INVISIBLE)
def test_invisible_characters_vanish_except_between_two_digits(character: str) -> None:
    assert clinical_v1(f"cefa{character}zolin") == "cefazolin"
    assert clinical_v1(f"2{character}5") == clinical_v1(f"2{character * 2}5") == "2 5"
    assert clinical_v1(f"{character}5") == clinical_v1(f"5{character}") == "5"
    assert clinical_v1(f"a{character}5") == "a5" and clinical_v1(f"5{character}a") == "5a"


CONTRACTED = ("it", "he", "she", "that", "there", "here", "what", "who", "where", "how", "when", "why", "let")


@pytest.mark.parametrize("word", CONTRACTED)
def test_contractions_close_up_and_possessives_that_end_like_them_do_not(word: str) -> None:
    assert clinical_v1(f"{word}'s fine") == f"{word}s fine"
    assert clinical_v1(f"x{word}'s fine") == f"x{word} fine"


UNITS = [
    "mg",
    "mcg",
    "ng",
    "kg",
    "g",
    "ml",
    "dl",
    "cl",
    "l",
    "mmol",
    "mol",
    "meq",
    "mmhg",
    "mm",
    "cm",
    "iu",
    "bpm",
    "unit",
    "units",
]


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_comes_off_its_number_only_where_it_is_a_whole_unit_on_a_whole_number(unit: str) -> None:
    for number in ("5", "2.5", "1,000", "120/80"):
        assert clinical_v1(f"{number}{unit.upper()} now") == f"{number} {unit} now"
    assert clinical_v1(f"5{unit}x 5") == f"5{unit}x 5"
    assert clinical_v1(f"b5{unit}") == f"b5{unit}", "a name with a digit, not a number"


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("\u22125 mmol", "minus 5 mmol"), ("\u2212 .5", "minus 0.5"), ("at \u22125", "at minus 5"),
        ("10\u22125", "10 5"), ("10 \u22125", "10 5"), ("a \u2212 b", "a b"), ("-5", "5"),
    ],
)  # fmt: skip
def test_a_true_minus_sign_is_a_word_before_a_number_that_nothing_stands_before(written: str, normalised: str) -> None:
    assert clinical_v1(written) == normalised


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("10⁹/L", "10^9 l"), ("10⁹5", "10^9 5"), ("10¹²", "10^12"), ("x²y", "x2y"), ("²5", "2 5"), ("5²", "5^2"),
        ("CO₂", "co2"), ("CO₂2", "co2 2"), ("1₂", "1 2"), ("1₁₂3", "1 12 3"), ("10^9", "10^9"), ("10 ^ 9", "10 9"),
    ],
)  # fmt: skip
def test_raised_and_lowered_digits_never_run_into_plain_ones(written: str, normalised: str) -> None:
    assert clinical_v1(written) == normalised


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("µg", "mcg"), ("250μg", "250 mcg"), ("µgx", "μgx"), ("kµg", "kμg"),
        ("5 < 6", "5 <6"), ("a < b", "a b"), ("5 <", "5"), ("> x", "x"), (">= 5 %", ">=5%"), ("a % b", "a % b"),
        ("120 /80", "120/80"), ("120/ 80", "120/80"), ("120 / 80", "120/80"), ("mg / kg", "mg kg"), ("1 / a", "1 a"),
        ("a_b", "a b"), ("_", ""), ("2_5", "2 5"), ("120/_80", "120/80"),
        ("e.g. x", "eg x"), ("p.r.n. dose.", "prn dose"), ("dr. smith", "dr smith"), ("ab.c", "ab c"),
        (".5", "0.5"), ("x.5", "x 5"), ("..5", "5"), ("5.", "5"), ("5.5.5", "5.5.5"), ("'.5", "5"),
        ("1,000,000", "1,000,000"), ("1,000.5", "1,000.5"), ("1,00", "1 00"), ("1,0000", "1 0000"),
        ("1234,567", "1234 567"), ("a1,000", "a1 000"), ("1,000/2", "1,000/2"), ("1,000,00", "1 000 00"),
        ("٣٤", "34"), ("①5", "1 5"), ("1½", "1 1/2"), ("½5", "1/2 5"), ("Ⅳ", "iv"),
        ("5's", "5"), ("o'clock", "oclock"), ("5'10\"", "5 10"), ("rock 'n' roll", "rock n roll"),
        ("$5+3=8 #9 @home a&b", "5 3 8 9 home a b"),
        ('stop; "then, go": now? yes! (maybe)', "stop then go now yes maybe"),
        ("one.  ", "one"), ("", ""), ("...", ""),
    ],
)  # fmt: skip
def test_each_rule_between_what_it_merges_and_what_it_leaves(written: str, normalised: str) -> None:
    assert clinical_v1(written) == normalised
    assert clinical_v1(normalised) == normalised


@pytest.mark.parametrize(
    ("written", "normalised"),
    [("a\u0300b", "ab"), ("a\u036fb", "ab"), ("ŉı", "nı"), ("X ađa", "x ađa")],
)
def test_accents_go_from_the_first_to_the_last_and_letters_of_their_own_stay(written: str, normalised: str) -> None:
    assert clinical_v1(written) == normalised


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("Ménière’s", "menieres"),
        ("Weiß ı", "weiß ı"),
        ("ＡＢ－c", "ab-c"),
        ("ﬁ X_Y", "fi x_y"),
        ("a - b\tc\nd", "a - b c d"),
    ],
)
def test_the_published_recipe_keeps_hyphens_and_underscores(written: str, normalised: str) -> None:
    assert flywheel_v1(written) == normalised
