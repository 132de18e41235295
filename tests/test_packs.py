"""The starter packs: full, disjoint, spelled as other people's word lists spell them, in the wheel."""

from __future__ import annotations

import csv
import runpy
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from clinical_asr.bases import mini_base
from clinical_asr.errors import ConfigError
from clinical_asr.packs import packs, resolve_pack
from clinical_asr.records import EntityCategory, Term
from clinical_asr.sentences import build_sentences
from clinical_asr.spelling import read_vocabulary
from clinical_asr.term_flags import flags
from clinical_asr.terms import read_terms

ROOT = Path(__file__).parents[1]
CHECK = runpy.run_path(str(ROOT / "examples" / "packs" / "check_spelling.py"))
NAMES = ("cardiology", "icu", "infectious_disease", "oncology", "orthopaedics", "psychiatry")


def test_there_are_six_packs_and_an_unknown_one_names_them() -> None:
    assert tuple(packs()) == NAMES
    with pytest.raises(ConfigError, match="cardiology, icu"):
        resolve_pack("dentistry")


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_has_every_category_and_no_near_duplicate(name: str) -> None:
    terms = read_terms(packs()[name])
    counts = Counter(term.entity_category for term in terms)
    assert counts.total() >= 25 and set(counts) == set(EntityCategory)
    assert counts[EntityCategory.DRUG] >= 10 and min(counts.values()) >= 4
    assert {flag.kind for flag in flags(terms, read_vocabulary(mini_base()))} <= {"look-alike"}


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_makes_sentences_that_the_mini_base_can_spell(name: str) -> None:
    known = read_vocabulary(mini_base())
    sentences = build_sentences(read_terms(packs()[name]))
    assert [s.text for s in sentences if known.cannot_spell(s.text)] == []


def test_no_term_stands_in_two_packs() -> None:
    counts = Counter(term.term for path in packs().values() for term in read_terms(path))
    assert [term for term, times in counts.items() if times > 1] == []


def recorded() -> dict[tuple[str, str], str]:
    with (ROOT / "examples" / "packs" / "spelling.tsv").open(encoding="utf-8", newline="") as file:
        return {(row["pack"], row["term"]): row["lists"] for row in csv.DictReader(file, delimiter="\t")}


def test_the_record_names_a_list_for_every_term() -> None:
    terms: dict[tuple[str, str], Term] = {
        (name, term.term): term for name, path in packs().items() for term in read_terms(path)
    }
    assert recorded().keys() == terms.keys()
    for key, lists in recorded().items():
        drug = terms[key].entity_category is EntityCategory.DRUG
        assert set(lists.replace("+", " ").split()) & (
            {"drugs", "medical"} if drug else {"drugs", "medical", "english"}
        )


def test_the_record_is_true_of_every_list_that_is_installed() -> None:
    installed = {name: known for name, known in CHECK["word_lists"]().items() if known}
    if not installed:
        pytest.skip("none of the word lists is installed: see examples/packs/check_spelling.py")
    rows = recorded()
    assert len(rows) >= 25 * len(NAMES)
    for (_, term), lists in rows.items():
        held = {name for name in CHECK["holders"](term, installed) if "+" not in name}
        assert held == set(lists.split()) & installed.keys()


def test_a_misspelled_term_stands_in_no_list() -> None:
    lists = {"drugs": frozenset({"cefazolin"}), "medical": frozenset({"mitral"}), "english": frozenset({"valve"})}
    assert CHECK["holders"]("cefazolin", lists) == ["drugs"]
    assert CHECK["holders"]("mitral valve", lists) == ["medical+english"]
    assert CHECK["holders"]("mitral vavle", lists) == []
    assert CHECK["doubtful"]("drug", ["english"]) and not CHECK["doubtful"]("anatomy", ["medical+english"])


def test_the_wheel_takes_the_packs_along() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "examples/packs/*.csv" in settings["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
