"""Normalisers: the rules are doctests in the module; here are the properties that hold for every text."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clinical_asr.errors import FlywheelError
from clinical_asr.text import DEFAULT_NORMALISER, clinical_v1, normalise, normaliser, normaliser_names

CLINICAL_CHARACTERS = st.text(
    alphabet="0123456789 abgls.,/%<>=^'’_-–—:;½²₂≥±·\u00a0\t\n\u2212\u00ad\u0301éµmgst", max_size=40
)
ANY_TEXT = st.one_of(st.text(max_size=40), CLINICAL_CHARACTERS)


@pytest.mark.parametrize("name", normaliser_names())
@given(text=ANY_TEXT)
@settings(max_examples=1500, deadline=None)
@example(text="5 . % % 5mg_ _5mg x.5mg 5's.5 a'.b")
@example(text="1,000,00 1,000/2,000.5 > < 5 >= <= % 3")
@example(text="a\u05bd\u0304 \u01eb\U00011082 \u00b5'g")  # accents behind other scripts' marks; a unit that comes apart
def test_idempotent(name: str, text: str) -> None:
    once = normalise(text, name)
    assert normalise(once, name) == once


ASCII_CHARACTERS = st.text(alphabet="0123456789 abglst.,/%<>=^'`\"_-:;mg", max_size=40)


@pytest.mark.parametrize("name", normaliser_names())
@given(text=st.one_of(st.text(st.characters(max_codepoint=127), max_size=40), ASCII_CHARACTERS))
@settings(max_examples=1000, deadline=None)
@example(text="don`t give cefazolin`s")
def test_ascii_text_reads_the_same_beside_a_word_that_is_not(name: str, text: str) -> None:
    """All-ASCII text takes a shorter road, which must end in the same place."""
    assert normalise(f"Zo\u00eb now {text}", name) == f"zoe now {normalise(text, name)}".rstrip()


@pytest.mark.parametrize("name", normaliser_names())
@given(text=ANY_TEXT)
@settings(max_examples=500, deadline=None)
def test_composition_does_not_matter(name: str, text: str) -> None:
    composed, decomposed = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert normalise(composed, name) == normalise(decomposed, name)


CHARACTERS = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cs", "Cn", "Co", "Lo")]
"""Every assigned character but surrogates and the letters without case, which no rule touches."""


def test_every_character_is_idempotent_composed_or_not() -> None:
    wrong = []
    for character in CHARACTERS:
        for text in (f"2{character}5", f"a{character}b", f"x{character}'s"):
            once = clinical_v1(text)
            composed, decomposed = (clinical_v1(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
            if clinical_v1(once) != once or composed != decomposed:
                wrong.append(text)
    assert wrong == []


def test_no_character_between_digits_merges_them() -> None:
    gaps = [c for c in CHARACTERS if not any(map(str.isnumeric, unicodedata.normalize("NFKD", c)))]
    assert [gap for gap in gaps if "25" in clinical_v1(f"2{gap}5")] == []


@given(text=ANY_TEXT)
@settings(max_examples=500, deadline=None)
def test_single_spaces_and_lower_case(text: str) -> None:
    out = clinical_v1(text)
    assert out == " ".join(out.split()) and not re.search(r"[A-Z]", out)


def holds_letters_or_digits(gap: str) -> bool:
    """True for text that separates nothing: letters, digits of any script, and signs that are spelled with them."""
    return any(c.isalnum() for c in gap + unicodedata.normalize("NFKD", gap))


SPELLED_WITH_SIGNS = ("रोगी", "पानी", "மருத்துவர்", "كَتَبَ", "שָׁלוֹם", "ยาน้ำ", "во\u0301ды")


@given(st.lists(st.sampled_from(SPELLED_WITH_SIGNS), min_size=1))
def test_words_that_are_spelled_with_signs_stay_whole(words: list[str]) -> None:
    out = clinical_v1(", ".join(words) + "!")
    assert len(out.split()) == len(words) and clinical_v1(out) == out
    assert len({*out.split()}) == len({*words})


@given(
    left=st.text("0123456789", min_size=1, max_size=4),
    gap=st.text(min_size=1, max_size=3).filter(lambda gap: not holds_letters_or_digits(gap)),
    right=st.text("0123456789", min_size=1, max_size=4),
)
@settings(max_examples=3000, deadline=None)
@example(left="2", gap="\ufe0f", right="5")
@example(left="2", gap="\u0301", right="5")
def test_digits_never_merge_across_a_removed_separator(left: str, gap: str, right: str) -> None:
    runs = re.findall(r"[0-9]+", clinical_v1(f"{left}{gap}{right}"))
    assert [run for run in runs if run != "0"] == [run for run in (left, right) if run != "0"]


@given(
    parts=st.lists(
        st.sampled_from(["2", "5", "10", ".", ",", "/", "-", " ", "½", "²", "'", "mg", "\u00ad", "^", "%"]),
        max_size=8,
    )
)
@settings(max_examples=2000, deadline=None)
def test_no_new_digit_run_appears(parts: list[str]) -> None:
    """Every run of digits in the output stood as one run in the input (or is a spelled fraction, power or zero)."""
    allowed = {run.replace("²", "2") for run in re.findall("[0-9]+|²+", "".join(parts))} | {"0", "1", "2"}
    assert set(re.findall(r"[0-9]+", clinical_v1("".join(parts)))) <= allowed


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("2.5 mg", "25 mg"),
        ("0.5 mg", "5 mg"),
        (".5 mg", "5 mg"),
        ("120/80", "12080"),
        ("½", "12"),
        ("1½", "11/2"),
        ("10–20", "1020"),
        ("1,000", "1000.0"),
        ("10⁹", "109"),
        ("≥5", "5"),
        ("<5", ">5"),
        ("5%", "5"),
        ("≥5", ">5"),
        ("5 mg", "5 mcg"),
        ("HbA1c", "hba 1 c"),
        ("cefazolin", "cefa zolin"),
        ("पानी", "पाना"),
        ("it's", "it"),
        ("№ 5", "no 5"),
        ("5'10", "510"),
        ("1:1000", "11000"),
        ("2\u200b5", "25"),
        ("\u22125", "5"),
        ("1①", "11"),
        ("٢٫٥", "25"),
    ],
)
def test_kept_apart(left: str, right: str) -> None:
    assert clinical_v1(left) != clinical_v1(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("post-cefazolin", "post cefazolin"), ("cefazolin's dose", "Cefazolin dose"),
        ("NB\u00a0SP", "nb sp"), ("a\tb", "a b"),
        ("2·5", "2.5"), ("≥ 5", ">=5"), ("½", "1/2"), ("1 ½", "1½"), ("5 %", "5%"), ("120 / 80", "120/80"),
        ("b.i.d.", "bid"), ("Ménière’s", "Meniere's"), ("µg", "μg"), ("10 µg", "10mcg"), ("word,word", "word word"),
        ("cefa\u200bzolin", "cefazolin"), ("Lantus™", "lantus"), ("２．５", "2.5"), ("٢٫٥", "2.5"), ("<= 5", "≤5"),
    ],
)  # fmt: skip
def test_merged(left: str, right: str) -> None:
    assert clinical_v1(left) == clinical_v1(right)


def test_unknown_name_is_one_line_with_the_known_ones() -> None:
    with pytest.raises(FlywheelError, match="clinical-v1, flywheel-v1"):
        normaliser("whisper")
    assert DEFAULT_NORMALISER in normaliser_names()
