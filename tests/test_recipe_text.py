"""The mini base's training text as shipped: plain, big enough, never the demo's terms, held-out apart."""

from __future__ import annotations

import csv
import hashlib
import json
import lzma
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "models" / "recipe"
FILES = ("train", "validation", "heldout_natural")
STYLE = re.compile(r"(?:natural|everyday|ward|coverage)\t[a-z]+(?:'[a-z]+)*(?: [a-z]+(?:'[a-z]+)*){2,21}")


@cache
def shipped(name: str) -> str:
    return lzma.decompress((RECIPE / "text" / f"{name}.txt.xz").read_bytes()).decode()


@cache
def sentences(name: str) -> frozenset[str]:
    return frozenset(line.split("\t", 1)[1] for line in shipped(name).splitlines())


@cache
def excluded() -> tuple[str, ...]:
    return tuple((RECIPE / "excluded_terms.txt").read_text().split("\n")[:-1])


@cache
def terms() -> list[dict[str, str]]:
    with (ROOT / "examples" / "terms.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def guard() -> list[str]:
    return (ROOT / "src" / "clinical_asr" / "data" / "guard_sentences.txt").read_text().splitlines()


@pytest.mark.parametrize("name", FILES)
def test_no_excluded_term_occurs_in_the_shipped_text(name: str) -> None:
    text = shipped(name).lower()
    assert len(excluded()) >= 100 and all(len(term) > 4 and term == term.strip().lower() for term in excluded())
    assert [term for term in excluded() if term in text] == []


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_plain_spoken_english(name: str) -> None:
    assert [line for line in shipped(name).splitlines() if not STYLE.fullmatch(line)] == []


@pytest.mark.parametrize("name", FILES)
def test_summary_tells_the_sha256_and_the_counts(name: str) -> None:
    told = json.loads((RECIPE / "text" / "summary.json").read_text())["files"][name]
    lines = shipped(name).splitlines()
    assert told["sha256"] == hashlib.sha256(shipped(name).encode()).hexdigest()
    assert told["sentences"] == len(lines)
    assert told["kinds"] == dict(Counter(line.split("\t")[0] for line in lines))


def test_text_is_big_enough_and_the_parts_are_disjoint() -> None:
    assert len(sentences("train")) >= 200_000
    assert len(sentences("train")) == shipped("train").count("\n")
    assert len(sentences("validation")) == 1_000
    assert len(sentences("heldout_natural")) >= 2_000
    assert not sentences("train") & sentences("heldout_natural")
    assert not sentences("train") & sentences("validation")
    assert not sentences("validation") & sentences("heldout_natural")


def test_guard_sentences_were_never_trained_on() -> None:
    assert len(guard()) == len(set(guard())) >= 200
    assert not set(guard()) & (sentences("train") | sentences("validation"))
    assert all(re.fullmatch(r"[a-z' ]+", sentence) and 8 <= len(sentence.split()) <= 18 for sentence in guard())
    assert [term for term in excluded() if term in "\n".join(guard())] == []


def test_terms_cover_the_six_categories_and_are_all_excluded() -> None:
    counts = Counter(row["entity_category"] for row in terms())
    names = [row["term"] for row in terms()]
    assert set(counts) == {"drug", "procedure", "anatomy", "condition", "lab", "role"}
    assert len(names) == len(set(names)) >= 40
    assert counts["drug"] >= 15 and min(counts.values()) >= 5
    assert set(names) <= set(excluded())
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", name) for name in names)
