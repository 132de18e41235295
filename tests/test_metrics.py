"""Error counts against other tools and against the laws they must obey."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import jiwer
import kaldialign
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from clinical_asr.alignment import align, word_alignment
from clinical_asr.corpus_score import CorpusScore, score_chunk, score_stream
from clinical_asr.error_count import ErrorCount
from clinical_asr.errors import ScoringError
from clinical_asr.metrics import (
    character_distances,
    character_errors,
    character_errors_batch,
    word_counts,
    word_errors,
    word_errors_batch,
)

WORDS = st.lists(st.sampled_from(["a", "b", "c", "é", "薬", "2.5"]), max_size=9).map(" ".join)
VOCABULARY = ["give", "cefazolin", "cefa", "zolin", "2.5", "mg", "naïve", "薬", "ß", "γ", "🩺", "no"]


def random_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of 0 to 12 words: unrelated, damaged copies, and one or both sides empty."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(count):
        reference = draw.choices(VOCABULARY, k=draw.choice((0, 1, 2, 5, 12)))
        damaged = [draw.choice(VOCABULARY) if draw.random() < 0.2 else w for w in reference if draw.random() > 0.1]
        hypothesis = damaged if draw.random() < 0.7 else draw.choices(VOCABULARY, k=draw.choice((0, 3, 9)))
        pairs.append((" ".join(reference), " ".join(hypothesis)))
    return pairs


def test_totals_equal_jiwer_and_kaldialign_on_20000_pairs() -> None:
    pairs = random_pairs(20_000, seed=3)
    ours = word_errors_batch([r for r, _ in pairs], [h for _, h in pairs])
    for (reference, hypothesis), count in zip(pairs, ours, strict=True):
        assert count.errors == kaldialign.edit_distance(reference.split(), hypothesis.split())["total"]
    given_rows = [(pair, count) for pair, count in zip(pairs, ours, strict=True) if pair[0]]
    theirs = jiwer.process_words([p[0] for p, _ in given_rows], [p[1] for p, _ in given_rows])
    total = sum((count for _, count in given_rows), ErrorCount.zero())
    assert total.errors == theirs.substitutions + theirs.deletions + theirs.insertions
    assert total.rate == pytest.approx(theirs.wer)
    assert total.hits >= theirs.hits


def test_character_totals_equal_jiwer() -> None:
    pairs = [pair for pair in random_pairs(4_000, seed=4) if pair[0]]
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    total = sum(character_errors_batch(references, hypotheses), ErrorCount.zero())
    theirs = jiwer.process_characters(references, hypotheses)
    assert total.errors == theirs.substitutions + theirs.deletions + theirs.insertions
    assert total.errors == character_distances(references, hypotheses).sum()


@given(WORDS, WORDS)
@settings(max_examples=800, deadline=None)
def test_swapping_the_sides_swaps_deletions_and_insertions(a: str, b: str) -> None:
    there, back = word_errors(a, b), word_errors(b, a)
    assert (there.substitutions, there.deletions, there.insertions) == (
        back.substitutions,
        back.insertions,
        back.deletions,
    )
    assert there.hits == back.hits and character_errors(a, b).errors == character_errors(b, a).errors


@given(WORDS, WORDS, WORDS)
@settings(max_examples=500, deadline=None)
def test_triangle_inequality(a: str, b: str, c: str) -> None:
    assert word_errors(a, c).errors <= word_errors(a, b).errors + word_errors(b, c).errors


@given(WORDS, WORDS)
@settings(max_examples=1000, deadline=None)
def test_edit_script_turns_the_reference_into_the_hypothesis_and_has_the_counts(a: str, b: str) -> None:
    steps = word_alignment(a, b)
    assert [left for _, left, _ in steps if left is not None] == a.split()
    assert [right for _, _, right in steps if right is not None] == b.split()
    assert all((left == right) == (operation == "hit") for operation, left, right in steps)
    count = word_errors(a, b)
    tally = [sum(step[0] == name for step in steps) for name in ("substitution", "deletion", "insertion", "hit")]
    assert tally == [count.substitutions, count.deletions, count.insertions, count.hits]


def brute_force(a: list[str], b: list[str]) -> tuple[int, int]:
    """(errors, substitutions), smallest first, by the textbook recursion."""
    table = {(0, j): (j, 0) for j in range(len(b) + 1)} | {(i, 0): (i, 0) for i in range(len(a) + 1)}
    for i, left in enumerate(a, 1):
        for j, right in enumerate(b, 1):
            e, s = table[i - 1, j - 1]
            table[i, j] = min(
                (e, s) if left == right else (e + 1, s + 1),
                (table[i - 1, j][0] + 1, table[i - 1, j][1]),
                (table[i, j - 1][0] + 1, table[i, j - 1][1]),
            )
    return table[len(a), len(b)]


@given(WORDS, WORDS)
@settings(max_examples=400, deadline=None)
def test_split_is_the_one_with_most_hits(a: str, b: str) -> None:
    count = word_errors(a, b)
    assert (count.errors, count.substitutions) == brute_force(a.split(), b.split())


@given(st.lists(st.tuples(WORDS, WORDS), max_size=20), st.integers(1, 7), st.randoms())
@settings(max_examples=150, deadline=None)
def test_order_and_chunking_do_not_matter(pairs: list[tuple[str, str]], chunk: int, draw: random.Random) -> None:
    shuffled = draw.sample(pairs, len(pairs))
    whole, parts = score_stream(pairs), score_stream(shuffled, chunk=chunk)
    assert whole.words == parts.words == sum((word_errors(*pair) for pair in pairs), ErrorCount.zero())
    assert (whole.character_errors, whole.rows_different, whole.rows) == (
        parts.character_errors,
        parts.rows_different,
        parts.rows,
    )
    assert whole.wer_row_mean == pytest.approx(parts.wer_row_mean)


def test_no_rows_no_rate() -> None:
    score = CorpusScore.zero() + score_chunk([], [])
    assert (score.wer, score.cer, score.ser, score.wer_row_mean, score.rows) == (None, None, None, None, 0)


def test_ten_thousand_words_a_side_align_with_the_best_split() -> None:
    draw = random.Random(5)
    words = [str(draw.randrange(3000)) for _ in range(10_000)]
    heard = [str(draw.randrange(3000)) if draw.random() < 0.08 else word for word in words if draw.random() > 0.03]
    reference, hypothesis = " ".join(words), " ".join(heard)
    count = word_errors(reference, hypothesis)
    steps = align(reference, hypothesis)
    assert sum(operation == "substitution" for operation, _, _ in steps) == count.substitutions
    assert sum(operation == "hit" for operation, _, _ in steps) == count.hits


def test_pairs_of_different_number_are_refused() -> None:
    with pytest.raises(ScoringError, match="pair them by id"):
        word_counts(["a"], [])


@pytest.mark.skipif(shutil.which("sctk") is None, reason="NIST's scoring toolkit is not installed (Debian: sctk)")
def test_sclite_agrees_on_20000_pairs(tmp_path: Path) -> None:
    """sclite minimises 4 S + 3 D + 3 I, so its cost is checked against that distance and its errors against ours."""
    pairs = random_pairs(20_000, seed=7)
    for name, side in (("reference", 0), ("hypothesis", 1)):
        lines = [f"{pair[side]} (all_{number:05d})\n" for number, pair in enumerate(pairs)]
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    command = [
        "sctk",
        "sclite",
        "-e",
        "utf-8",
        "-i",
        "rm",
        "-o",
        "rsum",
        "stdout",
        "-r",
        str(tmp_path / "reference"),
        "trn",
    ]
    output = subprocess.run(
        [*command, "-h", str(tmp_path / "hypothesis"), "trn"], capture_output=True, text=True, check=True
    )
    line = next(line for line in output.stdout.splitlines() if "Sum" in line)
    _, words, _, substitutions, deletions, insertions, errors = (int(n) for n in re.findall(r"\d+", line)[:7])
    ours = sum((word_errors(*pair) for pair in pairs), ErrorCount.zero())
    cost = sum(Levenshtein.distance(r.split(), h.split(), weights=(3, 3, 4)) for r, h in pairs)
    assert words == ours.length and 4 * substitutions + 3 * (deletions + insertions) == cost
    assert ours.errors <= errors <= ours.errors * 1.01


def test_characters_of_a_long_transcript_are_counted_in_well_under_a_second() -> None:
    draw = random.Random(3)
    said = " ".join(f"w{draw.randrange(3000)}" for _ in range(10_000))
    heard = " ".join(word for word in said.split() if draw.random() > 0.05)
    began = time.perf_counter()
    count = character_errors(said, heard)
    assert time.perf_counter() - began < 3.0  # about 0.2 s on an idle core; the bound leaves room for a busy one
    assert count.length == len(said) and count.hits + count.insertions + count.substitutions == len(heard)
    assert count.errors == int(character_distances([said], [heard])[0]) > 0


@given(st.lists(st.tuples(st.text("ab ", max_size=8), st.text("ab ", max_size=8)), max_size=8))
def test_rows_heard_as_said_count_like_the_others(pairs: list[tuple[str, str]]) -> None:
    mixed = [pair for said, heard in pairs for pair in ((said, heard), (said, said))]
    together = word_errors_batch([said for said, _ in mixed], [heard for _, heard in mixed])
    assert together == [word_errors(said, heard) for said, heard in mixed]
    for (said, heard), count in zip(mixed, together, strict=True):
        assert (count.errors == 0) == (said.split() == heard.split()) and count.length == len(said.split())
