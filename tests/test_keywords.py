"""Keywords, the term index, confusions and doses: what must hold beyond the examples in the modules."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinical_asr.alignment import align_words
from clinical_asr.errors import ScoringError
from clinical_asr.keywords import (
    KeywordCount,
    TermIndex,
    confusions,
    count_occurrences,
    ker_row,
    keyword_hits,
    number_errors,
)
from clinical_asr.metrics import word_errors
from clinical_asr.number_words import _run, tokens

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8)


@pytest.mark.parametrize("term", ["", "  ", "...", "'"])
def test_an_empty_term_is_an_error_and_never_a_hit(term: str) -> None:
    with pytest.raises(ScoringError, match="is empty"):
        keyword_hits("give it", "give it", term)


@pytest.mark.parametrize("hypothesis", ["", "cefazolin", "cefa zolin", "cefazolins", "give it"])
def test_a_term_absent_from_its_reference_is_an_error(hypothesis: str) -> None:
    with pytest.raises(ScoringError, match="not in its reference"):
        keyword_hits("give it", hypothesis, "cefazolin")


@pytest.mark.parametrize(
    ("hypothesis", "ker"),
    [
        ("give heparin sodium now", 0.0),
        ("utter nonsense heparin sodium", 0.0),
        ("give heparin and sodium now", 1.0),
        ("give sodium heparin now", 1.0),
        ("give heparins sodium now", 1.0),
        ("", 1.0),
    ],
)
def test_words_in_order_and_adjacent(hypothesis: str, ker: float) -> None:
    assert ker_row("Give heparin-sodium now.", hypothesis, "Heparin sodium") == ker


def test_whether_a_hyphen_parts_words_is_for_the_normaliser_to_say() -> None:
    row = ("give co-trimoxazole", "give co trimoxazole", "co-trimoxazole")
    assert (ker_row(*row), ker_row(*row, "clinical-v1"), ker_row(*row, "flywheel-v1")) == (0.0, 0.0, 1.0)


@given(WORDS, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3))
def test_occurrences_equal_a_search_over_marked_words(words: list[str], term: list[str]) -> None:
    marked = "".join(f"<{word}>" for word in words).count("".join(f"<{word}>" for word in term))
    assert count_occurrences(" ".join(words), " ".join(term)) == marked


@given(st.lists(WORDS.filter(lambda words: "a" in words), max_size=6), st.randoms())
def test_pooled_ker_is_the_sum_of_its_rows_in_any_order(rows: list[list[str]], draw: random.Random) -> None:
    counts = [keyword_hits(" ".join(row), " ".join(draw.sample(row, len(row) // 2)), "a") for row in rows]
    total = sum(counts, KeywordCount.zero())
    assert total == sum(draw.sample(counts, len(counts)), KeywordCount.zero())
    assert total.occurrences == sum(row.count("a") for row in rows)


INDEX = TermIndex([("a", "drug"), ("a b", "drug"), ("c", "lab", ["b b"])])


@given(WORDS, WORDS)
@settings(max_examples=400, deadline=None)
def test_index_counts_are_possible_and_perfect_on_equal_text(left: list[str], right: list[str]) -> None:
    reference, hypothesis = " ".join(left), " ".join(right)
    found = INDEX.find(reference)
    scored, same = INDEX.score(reference, hypothesis), INDEX.score(reference, reference)
    for term, count in scored.items():
        assert count.occurrences == sum(one.term == term for one in found)
        assert count.hits <= count_occurrences(hypothesis, term)
    assert all(one.misses == 0 and one.false_insertions == 0 for one in same.values())
    spans = [(one.start, one.end) for one in found]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


APART = TermIndex([("a", "drug"), ("b b", "drug"), ("c", "lab", ["d e", "f"])])
"""Terms that share no word: then each occurrence in the hypothesis is either a hit or a false insertion."""
MANY = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "x", "y"]), max_size=14)


@given(MANY, MANY, st.booleans())
@settings(max_examples=1500, deadline=None)
def test_every_occurrence_said_and_every_one_heard_is_accounted_for_once(
    left: list[str], right: list[str], variants: bool
) -> None:
    scored = APART.score(" ".join(left), " ".join(right), variants)
    said, heard = (Counter(one.term for one in APART.find_words(words, variants)) for words in (left, right))
    for term, count in scored.items():
        assert count.hits + count.misses == said[term]
        assert count.hits + count.false_insertions == heard[term], (term, count)


@given(MANY, MANY)
@settings(max_examples=800, deadline=None)
def test_counting_by_the_row_and_by_the_place_differ_by_the_terms_that_moved(left: list[str], right: list[str]) -> None:
    """A board counts by the row, ``scores --terms`` by the place: what moved is missed and inserted by the place."""
    placed = APART.score(" ".join(left), " ".join(right))
    said, heard = (Counter(one.term for one in APART.find_words(words)) for words in (left, right))
    for term, count in placed.items():
        hits, surplus = min(said[term], heard[term]), max(0, heard[term] - said[term])
        assert hits - count.hits == count.false_insertions - surplus >= 0


@given(WORDS, WORDS, st.booleans())
@settings(max_examples=600, deadline=None)
def test_terms_inside_other_terms_are_never_counted_beyond_what_was_heard(
    left: list[str], right: list[str], variants: bool
) -> None:
    scored = INDEX.score(" ".join(left), " ".join(right), variants)
    said, heard = (Counter(one.term for one in INDEX.find_words(words, variants)) for words in (left, right))
    for term, count in scored.items():
        standing = sum(count_occurrences(" ".join(right), " ".join(form)) for form in INDEX.forms(term, variants))
        assert count.hits + count.misses == said[term]
        assert count.false_insertions <= heard[term]
        assert count.hits + count.false_insertions <= max(standing, heard[term])


@pytest.mark.parametrize(
    ("said", "heard", "expected"),
    [
        ("give cefazolin not heparin", "give cefa zolin not heparin heparin", (1, 1, 1)),
        ("give heparin now", "give heparin heparin heparin now", (1, 1, 2)),
        ("heparin heparin", "heparin", (2, 1, 0)),
        ("heparin then heparin", "heparin heparin then", (2, 1, 1)),
        ("heparin", "", (1, 0, 0)),
        ("nothing", "heparin heparin", (0, 0, 2)),
    ],
)
def test_copies_side_by_side(said: str, heard: str, expected: tuple[int, int, int]) -> None:
    count = TermIndex([("heparin", "drug"), ("cefazolin", "drug")]).score(said, heard)["heparin"]
    assert (count.occurrences, count.hits, count.false_insertions) == expected


def test_part_of_a_longer_term_is_no_false_insertion() -> None:
    index = TermIndex([("heparin", "drug"), ("heparin sodium", "drug")])
    scored = index.score("give heparin sodium now", "give heparin now")
    assert scored["heparin sodium"].misses == 1 and scored["heparin"].false_insertions == 0
    scored = index.score("give heparin now", "give heparin sodium now")
    assert scored["heparin"].hits == 1 and scored["heparin sodium"].false_insertions == 1


def test_terms_listed_twice_or_empty_are_refused() -> None:
    with pytest.raises(ScoringError, match="listed twice"):
        TermIndex([("HbA1c", "lab"), ("hba1c", "lab")])
    with pytest.raises(ScoringError, match="is empty"):
        TermIndex([("--", "drug")])


def consultation(words: int, terms: list[str], seed: int) -> tuple[str, str]:
    """A long transcript with terms strewn in, and a hearing of it with 8 % of the words damaged."""
    draw = random.Random(seed)
    said = [draw.choice(terms) if draw.random() < 0.05 else f"w{draw.randrange(2000)}" for _ in range(words)]
    heard = [f"w{draw.randrange(2000)}" if draw.random() < 0.08 else word for word in said if draw.random() > 0.02]
    return " ".join(said), " ".join(heard)


def test_a_long_consultation_is_scored_in_well_under_a_second() -> None:
    terms = [f"term{number}" for number in range(48)] + ["heparin sodium", "heparin"]
    index = TermIndex([(term, "drug") for term in terms])
    said, heard = consultation(10_000, terms, seed=2)
    began = time.perf_counter()
    total = sum(index.score(said, heard).values(), KeywordCount.zero())
    assert time.perf_counter() - began < 2.0  # about 0.25 s on an idle core; the bound leaves room for a busy one
    assert total.occurrences > 400 and 0.05 < (total.ker or 0) < 0.2 and total.false_insertions == 0


def test_hits_do_not_come_from_elsewhere_in_a_long_transcript() -> None:
    filler = " ".join(f"w{number}" for number in range(300))
    scored = TermIndex([("heparin", "drug")]).score(f"heparin {filler} stop", f"happy {filler} heparin")["heparin"]
    assert (scored.hits, scored.misses, scored.false_insertions) == (0, 1, 1)


def test_confusions_are_sorted_gravest_first() -> None:
    index = TermIndex([("heparin", "drug"), ("insulin", "drug"), ("sepsis", "condition"), ("femur", "anatomy")])
    found = confusions("femur x sepsis y heparin z heparin", "x stepsis y insulin z happarin", index)
    assert [one.kind for one in found] == ["listed drug", "look-alike", "look-alike", "deleted"]
    assert found[0].heard == "insulin"


@given(WORDS, WORDS)
@settings(max_examples=300, deadline=None)
def test_every_miss_has_one_confusion(left: list[str], right: list[str]) -> None:
    reference, hypothesis = " ".join(left), " ".join(right)
    missed = sum(count.misses for count in INDEX.score(reference, hypothesis).values())
    assert len(confusions(reference, hypothesis, INDEX)) == missed


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("two point five milligrams", "2.5 mg"), ("point five", "0.5"), ("two hundred and fifty", "250"),
        ("a hundred", "a 100"),
        ("twenty five", "25"), ("one thousand two hundred", "1,200"), ("one and a half", "1 1/2"), ("half", "½"),
        ("zero point zero five", "0.05"), ("zero point oh five", "0.05"),
        ("five percent", "5%"), ("ten units", "10 iu"), ("five micrograms", "5 µg"),
        ("five hundred micrograms per kilogram", "500 mcg per kg"), ("one hundred twenty over eighty", "120/80"),
        ("5.0 mg", "5 mg"), ("three five", "3 5"), ("two million", "2,000,000"), ("every four hours", "every 4 h"),
    ],
)  # fmt: skip
def test_spoken_and_written_doses_agree(spoken: str, written: str) -> None:
    for kind, count in number_errors(spoken, written).items():
        assert count.errors == 0, kind
    assert number_errors(spoken, written)["value"].length > 0


@pytest.mark.parametrize(
    ("said", "heard", "kind"),
    [
        ("2.5 mg", "25 mg", "value"), ("fifteen mg", "fifty mg", "value"), ("5 mg", "5 mcg", "unit"),
        (">=5", "<=5", "value"),
        ("no fever", "fever", "negation"), ("does not drink", "does drink", "negation"),
        ("left hip", "right hip", "laterality"),
        ("bilateral knees", "left knees", "laterality"), ("5 mg", "5", "unit"), ("120/80", "120/90", "value"),
        ("he can't walk", "he can walk", "negation"), ("every 4 hours", "every 4 days", "unit"),
        ("10^9", "109", "value"),
    ],
)  # fmt: skip
def test_a_changed_order_is_one_error_of_its_kind(said: str, heard: str, kind: str) -> None:
    found = number_errors(said, heard)
    assert found.pop(kind).errors == 1
    assert all(count.errors == 0 for count in found.values())


SPOKEN = (
    "two hundred and five point oh half quarter a per of 1/2 2.5 120/80 mg kg units unit no left the x thousand twenty"
)


@given(st.lists(st.sampled_from(SPOKEN.split()), max_size=12))
@settings(max_examples=600, deadline=None)
def test_numbers_read_run_by_run_are_the_numbers_read_from_the_whole_text(words: list[str]) -> None:
    assert tokens(" ".join(words)) == list(_run(tuple(words)))


@given(MANY, MANY)
@settings(max_examples=600, deadline=None)
def test_an_alignment_has_as_few_errors_and_as_many_hits_as_the_counts_say(left: list[str], right: list[str]) -> None:
    operations = Counter(operation for operation, _, _ in align_words(left, right))
    count = word_errors(" ".join(left), " ".join(right))
    names = ("substitution", "deletion", "insertion", "hit")
    assert tuple(operations[name] for name in names) == (
        count.substitutions, count.deletions, count.insertions, count.hits,
    )  # fmt: skip


def test_an_extra_word_beside_a_wrong_dose_is_still_one_substitution() -> None:
    assert number_errors("give 5 mg", "give about 50 mg")["value"].substitutions == 1
    assert number_errors("the intensive care unit", "the intensive care")["unit"].length == 0
