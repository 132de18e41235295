"""What counting stands on, at its edges: too many words, counts that cannot be, bounded memory, ids asked for twice."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest

from clinical_asr import alignment
from clinical_asr.errors import ScoringError
from clinical_asr.keyword_count import KeywordCount
from clinical_asr.metrics import word_errors
from clinical_asr.number_words import _Telling
from clinical_asr.row_ids import IdCodes, IdColumn, SeenIds


def test_more_different_words_than_there_are_characters_are_refused_and_not_confused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each different word is one character: a wrapped code would make two words equal."""
    monkeypatch.setattr(alignment, "_LAST_CODE", alignment._FIRST_CODE + 2)
    assert word_errors("a b c a", "a b c").errors == 1
    with pytest.raises(ScoringError, match="more than 3 different words in one comparison; score fewer or shorter"):
        word_errors("a b c a", "a b c d")


def test_each_of_60000_words_has_a_character_of_its_own_and_the_last_one_there_is_can_be_had() -> None:
    [[text]] = alignment.encode_words([" ".join(f"w{number}" for number in range(60_000))])
    assert len(text) == len(set(text)) == 60_000 and "\0" not in text
    last = sys.maxunicode - alignment._FIRST_CODE
    assert alignment._code(last) == chr(sys.maxunicode)
    with pytest.raises(ScoringError, match="different words in one comparison"):
        alignment._code(last + 1)


def test_a_side_that_has_no_word_is_told_as_minus_one() -> None:
    assert alignment.align("a b c", "a x b c") == [("hit", 0, 0), ("insertion", -1, 1), ("hit", 1, 2), ("hit", 2, 3)]
    assert alignment.align("a b c", "a c") == [("hit", 0, 0), ("deletion", 1, -1), ("hit", 2, 1)]
    assert alignment.align("", "a b") == [("insertion", -1, 0), ("insertion", -1, 1)]
    assert alignment.align("a b", "") == [("deletion", 0, -1), ("deletion", 1, -1)]
    assert alignment.align("x a b y", "x b c y") == [
        ("hit", 0, 0), ("deletion", 1, -1), ("hit", 2, 1), ("insertion", -1, 2), ("hit", 3, 3),
    ]  # fmt: skip


def test_of_alignments_that_cost_the_same_the_one_that_misses_words_first_is_told() -> None:
    """Which one it is does not matter, that it is the same one on every machine does."""
    assert alignment.align("a a c", "c c b") == [
        ("deletion", 0, -1), ("substitution", 1, 0), ("hit", 2, 1), ("insertion", -1, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("counts", [(1, 2, 0), (1, -1, 0), (-1, 0, 0), (1, 1, -1)])
def test_more_hits_than_occurrences_and_counts_below_zero_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="counts that cannot be"):
        KeywordCount(*counts)


def test_counts_of_terms_add_each_to_its_own_kind_and_stay_as_they_are() -> None:
    count = KeywordCount(5, 3, 2) + KeywordCount(50, 30, 20)
    assert count == KeywordCount(55, 33, 22) and KeywordCount(1, 1) == KeywordCount(1, 1, 0)
    assert (count.misses, count.ker, count.recall, count.precision) == (22, 22 / 55, 33 / 55, 33 / 55)
    with pytest.raises(AttributeError):
        count.hits = 0  # type: ignore[misc]


def test_no_share_is_made_of_nothing_said_or_nothing_heard() -> None:
    only_heard, only_said = KeywordCount(0, 0, 2), KeywordCount(2, 0)
    assert (only_heard.ker, only_heard.recall, only_heard.precision) == (None, None, 0.0)
    assert (only_said.ker, only_said.recall, only_said.precision) == (1.0, 0.0, None)


def test_answers_about_words_are_kept_for_so_many_words_and_stay_right_beyond() -> None:
    telling = _Telling()
    assert not any(telling[f"word{number}"] for number in range(1 << 16))
    assert len(telling) == 1 << 16
    assert telling["milligram"] and telling["2.5"] and not telling["another"] and len(telling) == 1 << 16


def test_codes_can_be_asked_for_again_and_after_more_were_given() -> None:
    codes = IdCodes()
    codes.add(["b", "a"], 1)
    assert codes.of(["a", "c"]) == codes.of(["a", "c"]) == [1, None]
    codes.add(["c"], 2)
    assert codes.of(["a", "c"]) == [1, 2]


def test_where_no_id_was_added_none_is_found_and_a_code_is_one_byte() -> None:
    assert (list(IdColumn().sorted()), IdColumn().doubled(), len(IdColumn())) == ([], None, 0)
    assert IdCodes().of(["a"]) == [None]
    with pytest.raises(OverflowError):
        IdCodes().add(["a"], 256)


def test_many_ids_one_by_one_are_kept_in_few_runs() -> None:
    """Each id is looked for in every run: they must not become as many as the ids."""
    seen = SeenIds()
    for number in range(1, 400):
        assert seen.repeated([f"r{number}"]) is None
        assert all(len(longer) > 2 * len(shorter) for longer, shorter in pairwise(seen._runs))
    assert len(seen._runs) < 9 and seen.repeated(["new", "r7"]) == "r7"


def test_ids_that_differ_only_at_their_end_are_different_however_long_they_are() -> None:
    rows = [f"consultation-2026-11-27-room-{number:05d}" for number in range(300)]
    seen = SeenIds()
    assert seen.repeated(rows[:200]) is None and seen.repeated(rows[200:]) is None
    assert seen.repeated(["another", rows[123]]) == rows[123]


def test_half_a_surrogate_pair_is_an_id_like_any_other() -> None:
    """JSON can hold one; no encoding can."""
    half = "row\ud800"
    seen, column, codes = SeenIds(), IdColumn(), IdCodes()
    assert (seen.repeated([half, "a"]), seen.repeated([half])) == (None, half)
    column.add([half, half])
    codes.add([half], 3)
    assert list(column.sorted()) == [half, half] and column.doubled() == half and codes.of([half]) == [3]
