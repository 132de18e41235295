"""Long texts are cut only where every alignment with the fewest errors passes: nothing that is counted moves."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from clinical_asr import alignment, anchors, metrics
from clinical_asr.alignment import SCALE, WEIGHTS, align_words, encode_words

ANY = st.text(st.sampled_from("abcdefghijklmnop"), max_size=40)
NEW = st.lists(st.characters(min_codepoint=0x4E00, max_codepoint=0x4E40), max_size=60, unique=True).map("".join)


@st.composite
def misheard(draw: st.DrawFn) -> tuple[str, str]:
    """A text of rare and common words, and the text with some of them lost, replaced, added or moved."""
    said = "".join(draw(st.permutations([*draw(NEW), *draw(ANY)])))
    edits = draw(st.lists(st.tuples(st.sampled_from("sdim"), st.integers(0, 99), st.sampled_from("axz\u4e01"))))
    heard = list(said)
    for kind, at, word in edits:
        place = at % (len(heard) + 1)
        if kind == "m":
            heard[place : place + 10] = heard[place + 4 : place + 10] + heard[place : place + 4]
        else:
            heard[place : place + (kind != "i")] = [] if kind == "d" else [word]
    return said, "".join(heard)


PAIRS = st.one_of(misheard(), st.tuples(ANY, ANY))


@pytest.fixture(autouse=True, scope="module")
def short_is_short() -> object:
    """So that texts of a few words are cut as long ones are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchors, "_APART", 2)
        for module in (anchors, alignment, metrics):
            patch.setattr(module, "SHORT", 3)
        yield


def weighted(left: str, right: str) -> int:
    return Levenshtein.distance(left, right, weights=WEIGHTS)


@settings(max_examples=300, deadline=None)
@given(PAIRS)
def test_the_pieces_are_the_texts_and_their_best_alignments_the_best_of_the_whole(pair: tuple[str, str]) -> None:
    left, right = pair
    cut = list(anchors.pieces(left, right))
    assert ("".join(one for _, one, _ in cut), "".join(other for *_, other in cut)) == pair
    for (i, j), one, other in cut:
        assert (left[i : i + len(one)], right[j : j + len(other)]) == (one, other)
    assert sum(weighted(one, other) for _, one, other in cut) == weighted(left, right)


@settings(max_examples=300, deadline=None)
@given(PAIRS)
def test_every_alignment_with_the_fewest_errors_passes_an_anchor(pair: tuple[str, str]) -> None:
    """Checked the long way: what it costs to pass the same word of the reference anywhere else."""
    left, right = pair
    least = Levenshtein.distance(left, right)
    for i, j in anchors.anchors(left, right):
        before = [Levenshtein.distance(left[:i], right[:at]) for at in range(len(right) + 1)]
        after = [Levenshtein.distance(left[i:], right[at:]) for at in range(len(right) + 1)]
        passed = [at for at in range(len(right) + 1) if before[at] + after[at] == least]
        assert j in passed and left[i] == right[j]
        if len(passed) > 1:  # then by insertions before the word, which all of them hit
            assert passed[-1] == j
            assert Levenshtein.distance(left[:i] + "\0" + left[i + 1 :], right) == least + 1


@settings(max_examples=300, deadline=None)
@given(PAIRS)
def test_alignment_and_counts_are_as_good_as_those_of_the_uncut_texts(pair: tuple[str, str]) -> None:
    left, right = pair
    errors, substitutions = divmod(weighted(left, right), SCALE)
    steps = align_words(left, right)
    found = Counter(operation for operation, _, _ in steps)
    assert (len(steps) - found["hit"], found["substitution"]) == (errors, substitutions)
    assert [i for _, i, _ in steps if i >= 0] == list(range(len(left)))
    assert [j for *_, j in steps if j >= 0] == list(range(len(right)))
    assert all((left[i] == right[j]) == (kind == "hit") for kind, i, j in steps if i >= 0 and j >= 0)
    counts = metrics.word_counts([" ".join(left)], [" ".join(right)])[0].tolist()
    assert counts[:3] == [found["substitution"], found["deletion"], found["insertion"]]


@pytest.mark.parametrize("rare_every", [10, 4000])
def test_a_long_transcript_falls_into_pieces_of_a_few_words(rare_every: int) -> None:
    """3,000 words of which every tenth is rare, or none; one in ten misheard."""
    draw = random.Random(1)
    said = [f"rare{n}" if (n + 1) % rare_every == 0 else f"word{draw.randrange(50)}" for n in range(3000)]
    heard = [f"word{draw.randrange(50)}" if draw.random() < 0.1 else word for word in said]
    [[left], [right]] = encode_words([" ".join(said)], [" ".join(heard)])
    assert max(len(one) for _, one, _ in anchors.pieces(left, right)) < 250


def test_of_two_phrases_that_changed_places_neither_is_an_anchor() -> None:
    """Either can be taken as heard and the other as lost and added, unless one of them is longer."""
    assert anchors.anchors("-abcdef+ghijkl*", "-ghijkl+abcdef*") == []
    assert anchors.anchors("-abcdef+ghijklmnop*", "-ghijklmnop+abcdef*") == [(9, 2), (11, 4), (13, 6), (15, 8)]


@pytest.mark.parametrize(
    ("said", "heard", "found"),
    [("aa", "aaa", []), ("aaa", "aa", []), ("cbbb", "bb", []), ("bccc", "bc", [(1, 1)])],
    ids=["one word further on does as well", "one word before does", "so does the very end", "there and nowhere else"],
)
def test_the_smallest_texts_in_which_passing_elsewhere_costs_no_more(
    said: str, heard: str, found: list[tuple[int, int]]
) -> None:
    assert anchors.anchors(said, heard) == found


def test_texts_with_nothing_rare_in_them_stay_whole() -> None:
    assert list(anchors.pieces("ab" * 50, "ba" * 50)) == [((0, 0), "ab" * 50, "ba" * 50)]
    assert list(anchors.pieces("", "abc" * 50)) == [((0, 0), "", "abc" * 50)]
