"""Terms in a text, at the edges: an empty term, an empty list, a normaliser of one's own, other spellings."""

from __future__ import annotations

import pytest

from clinical_asr.alignment import align, align_words
from clinical_asr.errors import ScoringError
from clinical_asr.matching import Matching, windows
from clinical_asr.occurrences import Occurrence, TermIndex, count_keyword, keyword_hits


@pytest.mark.parametrize("reference", ["", "give", "give it now"])
def test_an_empty_term_is_refused_whatever_was_said(reference: str) -> None:
    with pytest.raises(ScoringError, match=r"^term is empty; correct the term or the reference$"):
        count_keyword(reference, reference, "")


def test_a_normaliser_of_ones_own_is_asked_for_both_sides_and_the_term() -> None:
    assert keyword_hits("Give-Heparin", "GIVE-HEPARIN", "Give-heparin", str.lower).ker == 0.0
    assert keyword_hits("Give-Heparin", "give heparin", "Give-heparin", str.lower).ker == 1.0


def test_a_list_without_terms_finds_nothing() -> None:
    assert TermIndex([]).find("give heparin", variants=True) == [] and TermIndex([]).score("a", "b") == {}


def test_other_spellings_are_found_in_a_raw_text_only_where_they_are_asked_for() -> None:
    index = TermIndex([("HbA1c", "lab", ["hemoglobin A1c"])])
    assert index.forms("HbA1c") == [("hba1c",)] != index.forms("HbA1c", variants=True)
    assert index.find("Hemoglobin A1c, HbA1c") == [Occurrence("HbA1c", 2, 3)]
    assert index.find("Hemoglobin A1c, HbA1c", variants=True) == [Occurrence("HbA1c", 0, 2), Occurrence("HbA1c", 2, 3)]


@pytest.mark.parametrize(
    ("said", "heard", "span", "window"),
    [
        ("heparin now", "happy rain now", (0, 1), (0, 2)),
        ("give heparin", "give happy rain", (1, 2), (1, 3)),
        ("give heparin now", "give happy rain now", (1, 2), (1, 3)),
        ("heparin", "happy rain it is", (0, 1), (0, 4)),
        ("give heparin now", "give now", (1, 2), (1, 1)),
    ],
    ids=["first word", "last word", "in the middle", "nothing else", "lost"],
)
def test_a_term_is_looked_for_between_the_nearest_words_that_were_heard(
    said: str, heard: str, span: tuple[int, int], window: tuple[int, int]
) -> None:
    assert list(windows([Occurrence("heparin", *span)], align(said, heard))) == [window]


def test_the_beginning_of_a_longer_term_is_no_insertion_however_many_words_it_has() -> None:
    index = TermIndex([("heparin sodium", "drug"), ("heparin sodium lock flush", "drug")])
    found = index.score("give heparin sodium lock flush now", "give heparin sodium now")
    assert (found["heparin sodium"].false_insertions, found["heparin sodium lock flush"].misses) == (0, 1)


A1C = TermIndex([("HbA1c", "lab", ["A1c", "glycated hemoglobin"])])
HEPARIN = TermIndex([("sodium heparin", "drug", ["heparin"]), ("heparin lock", "drug"), ("insulin", "drug")])


def unsaid(index: TermIndex, said: str, heard: str) -> list[tuple[str, int]]:
    """Terms that were heard and not said, each with its place; other spellings count."""
    left, right = said.split(), heard.split()
    matching = Matching(index, left, right, align_words(left, right), variants=True)
    return [(one.term, one.start) for one in matching.unsaid()]


@pytest.mark.parametrize(
    ("index", "said", "heard", "inserted"),
    [
        (A1C, "a1c", "hba1c a1c", [("HbA1c", 0)]),
        (A1C, "glycated hemoglobin", "glycated hemoglobin hba1c", [("HbA1c", 2)]),
        (A1C, "hba1c", "hba1c hba1c", [("HbA1c", 1)]),
        (A1C, "hba1c", "a1c hba1c", [("HbA1c", 0)]),
        (A1C, "the hba1c", "the glycated hemoglobin", []),
        (HEPARIN, "sodium heparin now", "heparin heparin lock now", [("heparin lock", 1)]),
        (HEPARIN, "sodium heparin now", "heparin lock heparin now", [("heparin lock", 0)]),
        (HEPARIN, "give sodium heparin insulin", "give heparin heparin insulin", [("sodium heparin", 2)]),
    ],
    ids=[
        "the aligned word was said",
        "the aligned words were said",
        "the first of two",
        "the second of two",
        "another spelling",
        "by itself before a longer term",
        "by itself after a longer term",
        "twice before another term",
    ],
)
def test_of_several_places_the_term_takes_the_one_that_was_said(
    index: TermIndex, said: str, heard: str, inserted: list[tuple[str, int]]
) -> None:
    assert unsaid(index, said, heard) == inserted
    assert all(count.misses == 0 for count in index.score(said, heard, variants=True).values())


@pytest.mark.parametrize(
    ("said", "heard", "missed"),
    [("a1c hba1c", "hba1c", (0, "")), ("a1c then a1c a1c a1c", "a1c then hba1c a1c", (3, "hba1c"))],
    ids=["the first of two", "the second of three, of which the first was heard in another spelling"],
)
def test_each_place_that_was_heard_answers_for_its_neighbour_alone(
    said: str, heard: str, missed: tuple[int, str]
) -> None:
    left, right = said.split(), heard.split()
    matching = Matching(A1C, left, right, align_words(left, right), variants=True)
    assert [(one.start, " ".join(window)) for one, window in matching.missed()] == [missed]
