"""Sentences that a ward would say: right length, one term, one style, and no two terms in one set of frames."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinical_asr.errors import ConfigError, ManifestError
from clinical_asr.records import EntityCategory, Sentence, Term
from clinical_asr.sentences import CONTEXTS, SLOT, build_sentences, fill, load_frames
from clinical_asr.text import normalise

FRAMES = load_frames()
ALL = [(c, x, frame) for c, cells in FRAMES.items() for x, cell in cells.items() for frame in cell]


def terms(count: int, category: EntityCategory = EntityCategory.DRUG) -> list[Term]:
    return [Term(term=f"term{chr(97 + n // 26)}{chr(97 + n % 26)}", entity_category=category) for n in range(count)]


def frame_sets(sentences: list[Sentence]) -> list[frozenset[str]]:
    by_term: dict[str, set[str]] = defaultdict(set)
    for sentence in sentences:
        by_term[sentence.term].add(sentence.frame)
    return [frozenset(frames) for frames in by_term.values()]


def test_every_cell_has_eight_frames_and_no_frame_stands_twice() -> None:
    assert set(FRAMES) == set(EntityCategory)
    for cells in FRAMES.values():
        assert tuple(cells) == CONTEXTS
        assert all(len(cell) >= 8 for cell in cells.values())
    assert len({frame for _, _, frame in ALL}) == len(ALL) >= 192


@pytest.mark.parametrize(("category", "context", "frame"), ALL)
def test_frames_are_well_formed(category: EntityCategory, context: str, frame: str) -> None:
    assert frame.count(SLOT) == 1
    assert not re.search(r"\b[Aa]n? \{term\}", frame), "a or an depends on the term"
    assert not re.search(r"^\{|\{term\}['s]|\w\{term\}", frame)
    assert not re.search(r"\d", re.sub(r"\{[^{}]*\}", "", frame)), "a number stands in a slot"
    assert frame[0].isupper() and frame[-1] in ".?"
    for term in ("stent", "stents", "transurethral resection of the prostate"):
        text, written = fill(frame, term), fill(frame, term, "written")
        assert 10 <= len(text.split()) <= 30 and 10 <= len(written.split()) <= 30
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", text)
        assert f" {term} " in f" {text} " and term in written
        assert not re.search(r"[{}|]| [,.]|  ", written)


def test_most_drug_frames_name_a_dose_or_a_time() -> None:
    numbers = re.compile(r"\b(one|two|three|four|five|ten|fifty|half|twelve|seven|twenty|hundred|thirty|six|nine)\b")
    drug = [fill(frame, "it") for category, _, frame in ALL if category is EntityCategory.DRUG]
    assert sum(bool(numbers.search(frame)) for frame in drug) > len(drug) / 2
    assert sum("point" in frame for frame in drug) >= 3


def test_four_contexts_each_in_its_own_frame() -> None:
    sentences = build_sentences(terms(20))
    assert len(sentences) == 80
    assert all(
        Counter(s.context_type for s in sentences if s.term == t.term).keys() == set(CONTEXTS) for t in terms(20)
    )
    assert {sentence.source for sentence in sentences} == {"template"}


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 90), st.integers(3, 6), st.integers(0, 5), st.sampled_from(list(EntityCategory)))
def test_no_two_terms_share_their_set_of_frames(count: int, each: int, seed: int, category: EntityCategory) -> None:
    sentences = build_sentences(terms(count, category), each, seed)
    sets = frame_sets(sentences)
    assert len(set(sets)) == len(sets) == count
    assert all(len(frames) == each for frames in sets)
    assert all(len({s.context_type for s in sentences if s.term == t}) >= 3 for t in {s.term for s in sentences})


def test_frames_are_spread_over_terms() -> None:
    used = Counter(sentence.frame for sentence in build_sentences(terms(32)))
    assert len(used) == 32 and set(used.values()) == {4}


def test_same_seed_same_sentences_and_growing_keeps_what_was() -> None:
    few, many = build_sentences(terms(10), seed=3), build_sentences(terms(30), seed=3)
    assert many[: len(few)] == few
    assert build_sentences(terms(10), seed=4) != few


def test_hyphens_and_capitals_follow_the_style() -> None:
    term = Term(term="Beta-Blocker", entity_category=EntityCategory.DRUG)
    for lower, full in zip(build_sentences([term]), build_sentences([term], style="written"), strict=True):
        assert "beta blocker" in lower.text and "Beta-Blocker" in full.text
        assert lower.frame == full.frame and full.text[-1] in ".?"


@pytest.mark.parametrize("each", [0, 2, 33])
def test_too_few_or_too_many_contexts_are_refused(each: int) -> None:
    with pytest.raises(ConfigError, match="contexts-per-term"):
        build_sentences(terms(1), each)


def test_a_term_that_makes_a_sentence_too_long_is_refused() -> None:
    with pytest.raises(ManifestError, match="10 to 30 words"):
        build_sentences([Term(term="very " * 25 + "long", entity_category=EntityCategory.LAB)])


@pytest.mark.parametrize(
    "document", ["drug: [", "drug: {dictation: ['no slot here']}", "colour: {dictation: []}", "[]"]
)
def test_frames_of_ones_own_are_checked(tmp_path: Path, document: str) -> None:
    path = tmp_path / "frames.yaml"
    path.write_text(document)
    with pytest.raises(ManifestError, match=r"frames\.yaml"):
        load_frames(path)


def test_frames_of_ones_own_bring_their_own_contexts() -> None:
    cells = {context: [f"We spoke about {SLOT} for a while during {context} number {n} today." for n in "ab"]
             for context in ("phone", "clinic", "ward")}  # fmt: skip
    sentences = build_sentences(terms(4), 3, frames={EntityCategory.DRUG: cells})
    assert {sentence.context_type for sentence in sentences} == {"phone", "clinic", "ward"}
    with pytest.raises(ManifestError, match="lab: has no frames"):
        build_sentences(terms(1, EntityCategory.LAB), 3, frames={EntityCategory.DRUG: cells})


SINGULAR_ONLY = re.compile(r"vertebrae (?:is|was|has|wants|gets|explains|settles|agrees|hasn't)\b")
OTHER_SUBJECT = re.compile(r"\b(?:of|for|on|over|near|around|about)(?: the)? vertebrae")


@pytest.mark.parametrize(("category", "context", "frame"), ALL)
def test_a_verb_right_after_a_plural_term_is_plural(category: EntityCategory, context: str, frame: str) -> None:
    text = fill(frame, "vertebrae")
    assert OTHER_SUBJECT.search(text) or not SINGULAR_ONLY.search(text)


def test_number_and_article_can_be_told_in_the_list() -> None:
    cells = {c: [f"In this {c} we asked {{a}} {SLOT} who {{was|were}} here for {{2.5 mg}} and some rest today."] * 1
             for c in ("phone", "clinic", "ward")}  # fmt: skip
    frames = {EntityCategory.ROLE: cells}

    def first(term: str, **extra: str) -> str:
        said = Term(term=term, entity_category=EntityCategory.ROLE, extra=extra)
        return build_sentences([said], 3, frames=frames, style="written")[0].text

    assert "asked an anesthetist who was here for 2.5 milligrams" in first("anesthetist")
    assert "asked a urologist who was" in first("urologist")
    assert "asked paramedics who were" in first("paramedics")
    assert "asked a SWAT medic who was" in first("SWAT medic", article="a")
    assert "asked tactical ops who were" in first("tactical ops", number="plural")
    assert "asked a head of ops who was" in first("head of ops", number="singular")


@pytest.mark.parametrize(
    "frame", ["Give {dose} of {term}.", "Give {term} {", "Give {is|are|be} {term}.", "Take {5 cups} of {term}."]
)
def test_a_slot_that_means_nothing_is_refused(tmp_path: Path, frame: str) -> None:
    path = tmp_path / "frames.yaml"
    path.write_text(f"drug: {{dictation: [{frame!r}]}}")
    with pytest.raises(ManifestError, match="dictation frame 1"):
        load_frames(path)


@pytest.mark.parametrize("name", [
    "insulin, regular", 'heparin "low dose"', "Beta-Blocker", "5-fluorouracil", "St. John's wort", "Crohn’s disease",
    "co-trimoxazole (oral)", "HbA1c", "sodium chloride 0.9%", "Ménière's disease", "Lactated Ringer's",
])  # fmt: skip
def test_an_awkward_term_is_found_in_its_sentence_by_the_normaliser_of_the_scores(name: str) -> None:
    term = Term(term=name, entity_category=EntityCategory.CONDITION)
    for sentence in [*build_sentences([term]), *build_sentences([term], style="written")]:
        assert f" {normalise(name)} " in f" {normalise(sentence.text)} "
