"""What came instead of a term: which listed one, which stretch of words, how alike, and in what order it is told."""

from __future__ import annotations

import pytest

from clinical_asr.confusions import Confusion, confusions, likeness
from clinical_asr.occurrences import TermIndex

LISTED = TermIndex([
    ("cefazolin", "drug"), ("cefa zoli", "drug"), ("cefaxotin", "drug"), ("sepsis", "condition"),
    ("heparin sodium", "drug"), ("dabigatran", "drug"),
])  # fmt: skip


def instead(said: str, heard: str) -> Confusion:
    [found] = confusions(said, heard, LISTED)
    return found


def test_of_two_listed_terms_in_its_place_the_one_written_more_alike_is_told() -> None:
    found = instead("give cefazolin now", "give cefaxotin cefa zoli now")
    assert found == Confusion("cefazolin", "cefa zoli", "listed drug", pytest.approx(8 / 9))


@pytest.mark.parametrize(("said", "heard"), [("cefazolin", "sepsis"), ("sepsis", "cefazolin")])
def test_only_a_drug_that_is_heard_as_a_drug_is_an_order_for_another_one(said: str, heard: str) -> None:
    assert instead(f"give {said} now", f"give {heard} now").kind == "listed term"
    assert instead("give cefazolin now", "give cefaxotin now").kind == "listed drug"


@pytest.mark.parametrize(
    ("heard", "kind", "likeness"),
    [("dabigatxyz", "look-alike", 0.7), ("dabigawxyz", "other", 0.6), ("mum", "other", 0.0)],
)
def test_what_shares_seven_letters_of_ten_looks_alike(heard: str, kind: str, likeness: float) -> None:
    found = instead("give dabigatran now", f"give {heard} now")
    assert found == Confusion("dabigatran", heard, kind, pytest.approx(likeness))  # type: ignore[arg-type]


def test_a_term_of_two_words_is_compared_without_its_space() -> None:
    found = instead("give heparin sodium now", "give hepa rin sodum now")
    assert found == Confusion("heparin sodium", "hepa rin sodum", "look-alike", pytest.approx(12 / 13))


def test_a_stretch_has_two_words_more_than_the_term_at_most() -> None:
    assert instead("please give cefazolin now", "please give ce fa zol in now").heard == "ce fa zol"
    assert instead("please give heparin sodium now", "please give he pa rin sodi um now").heard == "he pa rin sodi"


def test_a_term_of_which_nothing_was_heard_is_like_nothing() -> None:
    assert instead("give cefazolin now", "give now") == Confusion("cefazolin", "", "deleted", 0.0)


def test_of_equal_kind_the_most_alike_comes_first_and_then_the_alphabet() -> None:
    said = "dabigatran a cefazolin b sepsis c heparin sodium"
    heard = "dabigatrax a cefazoxxn b sepsix c heparin sodix"
    found = confusions(said, heard, LISTED)
    assert {one.kind for one in found} == {"look-alike"}
    assert [one.term for one in found] == ["dabigatran", "heparin sodium", "sepsis", "cefazolin"]
    both = confusions("sodium a insulin", "sodiux a insulxx", ["insulin", "sodium", "sodium"])
    assert [one.term for one in both] == ["sodium", "insulin"]
    assert [one.term for one in confusions("b a", "x y", ["b", "a"])] == ["a", "b"]


def test_terms_without_an_index_are_read_by_the_normaliser_that_is_named() -> None:
    row = ("give co-amoxiclav", "give co amoxiclav")
    assert confusions(*row, ["co-amoxiclav"]) == confusions(*row, "co-amoxiclav") == []
    [found] = confusions(*row, ["co-amoxiclav"], "flywheel-v1")
    assert (found.heard, found.kind) == ("co amoxiclav", "look-alike")


def test_likeness_is_of_letters() -> None:
    assert (likeness("ab", "ab"), likeness("ab", "a b"), likeness("ab", "cd"), likeness("a b", "ax")) == (1, 1, 0, 0.5)
