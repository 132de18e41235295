"""Imposed pronunciations anywhere in a text: whole words, the longest first, well-formed, nothing lost."""

from __future__ import annotations

import unicodedata
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_asr.ssml import Terms, pieces, speak, ssml

XML_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=40)
WORDS = st.sampled_from(
    ["heparin", "heparin lock", "lock flush", "Ménière's disease", "X-ray", "β-blocker", "a", "& <b>"]
)
TEXTS = st.lists(st.one_of(XML_TEXT, WORDS, WORDS.map(str.upper), st.sampled_from([" ", "-", ", ", '"'])), max_size=8)


def wrapped(text: str, ipa: dict[str, str]) -> list[tuple[str, str]]:
    root = ElementTree.fromstring(f"<speak>{ssml(text, ipa)}</speak>")
    assert "".join(root.itertext()) == text
    return [(str(word.text), str(word.get("ph"))) for word in root]


@given(TEXTS.map("".join), st.dictionaries(st.one_of(WORDS, XML_TEXT), XML_TEXT.filter(bool), max_size=5))
def test_it_is_well_formed_and_unwrapping_gives_the_text_back(text: str, ipa: dict[str, str]) -> None:
    found = wrapped(text, ipa)
    assert "".join(piece for piece, _ in pieces(text, ipa)) == text
    assert len(found) == sum(sound is not None for _, sound in pieces(text, ipa))


@given(TEXTS.map("".join), st.text(max_size=20))
def test_plain_text_stays_plain(text: str, ipa: str) -> None:
    assert speak(text, {}) == text
    ElementTree.fromstring(f"<speak>{ssml(text + ipa, {})}</speak>")


@pytest.mark.parametrize(
    ("text", "ipa", "found"),
    [
        ("Heparin lock & heparin, not heparins", {"heparin": 'h"1', "heparin lock": "l<2"},
         [("Heparin lock", "l<2"), ("heparin", 'h"1')]),
        ("heparin lock flush solution", {"heparin lock": "1", "lock flush solution": "2", "heparin": "3"},
         [("heparin", "3"), ("lock flush solution", "2")]),  # the longest wherever it stands, then what is left
        ("HEPARIN-induced, anti-heparin", {"heparin": "1"}, [("HEPARIN", "1"), ("heparin", "1")]),
        ("an x‑ray, an X-RAY, x-rays", {"X-ray": "1"}, [("x‑ray", "1"), ("X-RAY", "1")]),
        ("Ménière’s disease", {"Ménière's disease": "1"}, [("Ménière’s disease", "1")]),
        (unicodedata.normalize("NFD", "Ménière's  disease"), {"Ménière's disease": "1"},
         [(unicodedata.normalize("NFD", "Ménière's  disease"), "1")]),
        ("cafe\u0301 cafe", {"cafe": "1"}, [("cafe", "1")]),
        ("vitamin B12, B1", {"vitamin b1": "1", "B1": "2"}, [("B1", "2")]),
        ("5-FU (5-fu)", {"5-FU": "1"}, [("5-FU", "1"), ("5-fu", "1")]),
        ("anything", {"": "1", "  ": "2"}, []),
    ],
)  # fmt: skip
def test_what_is_wrapped(text: str, ipa: dict[str, str], found: list[tuple[str, str]]) -> None:
    assert wrapped(text, ipa) == found


def test_characters_that_xml_cannot_hold_become_spaces() -> None:
    root = ElementTree.fromstring(speak("a\0b\x1b heparin\r\n\ud800", {"heparin": "h\x00"}))
    assert "".join(root.itertext()) == "a b  heparin\r\n "


@pytest.mark.parametrize(
    ("term", "text"),
    [("heparin", "HEPARIN, now"), ("heparin", "heparins"), ("beta-blocker", "a beta blocker"),
     ("insulin, regular", "insulin regular"), ("insulin, regular", "Insulin, regular"), ("Ringer's", "ringerʼs"),
     ("Ringer’s", "ringer's"), ("naïve", "nai\u0308ve cells"), ("5-FU", "5 fu daily"), ("5-FU", "75-FU"),
     ("(R)-warfarin", "(r)-warfarin"), ("+", "a + b"), ("C. difficile", "c difficile"), ("μ", "the μ")],
)  # fmt: skip
def test_many_terms_are_found_as_one_is(term: str, text: str) -> None:
    """The index over first words loses nothing that the search for the term alone would find."""
    alone = any(ipa for _, ipa in pieces(text, {term: "x"}))
    assert Terms(["other", term, "another one"]).within(text) == ([term] if alone else [])
