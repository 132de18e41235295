"""Error counts at their edges: impossible counts, long transcripts among short ones, rates of nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from clinical_asr import corpus_score, metrics
from clinical_asr.corpus_score import CorpusScore, score_chunk
from clinical_asr.error_count import ErrorCount, counts_from_row
from clinical_asr.metrics import (
    character_counts,
    character_distances,
    character_errors_batch,
    word_counts,
    word_errors_batch,
)


@pytest.mark.parametrize("counts", [(-1, 0, 0, 4, 3), (0, -1, 0, 4, 3), (0, 0, -1, 3, 3), (2, 2, 0, -1, 3)])
def test_a_count_below_zero_is_refused_even_where_the_sum_is_right(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a negative count"):
        ErrorCount(*counts)


@pytest.mark.parametrize("counts", [(1, 0, 0, 0, 5), (0, 1, 0, 0, 5), (0, 0, 5, 0, 5), (1, 1, 0, 4, 5)])
def test_hits_substitutions_and_deletions_make_up_the_reference_and_insertions_do_not(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is not the reference length 5"):
        ErrorCount(*counts)
    assert ErrorCount(1, 2, 30, 2, 5).rate == 33 / 5


def test_adding_adds_each_count_to_its_own_kind() -> None:
    assert ErrorCount(1, 2, 3, 4, 7) + ErrorCount(10, 20, 30, 40, 70) == ErrorCount(11, 22, 33, 44, 77)
    one = CorpusScore(ErrorCount(1, 2, 3, 4, 7), 1, 2, 3, 4, 0.5, 6)
    assert one + one == CorpusScore(ErrorCount(2, 4, 6, 8, 14), 2, 4, 6, 8, 1.0, 12)
    assert CorpusScore.zero() + one == one


def test_a_count_that_was_handed_out_stays_as_it_is() -> None:
    count = ErrorCount(1, 2, 3, 4, 7)
    with pytest.raises(AttributeError):
        count.hits = 5  # type: ignore[misc]
    assert {count, ErrorCount(1, 2, 3, 4, 7)} == {count}


def test_what_metric_version_1_means() -> None:
    """Boards of different releases are laid side by side by this number: other counts need another one."""
    told = {
        ("a b", "b c"): (0, 1, 1, 1, 2), ("a b c", "a x c"): (1, 0, 0, 2, 3), ("a b", "x y z"): (2, 0, 1, 0, 2),
        ("", "a"): (0, 0, 1, 0, 0), ("a", ""): (0, 1, 0, 0, 1), ("ab", "a b"): (1, 0, 1, 0, 1),
    }  # fmt: skip
    counts = word_counts([said for said, _ in told], [heard for _, heard in told]).tolist()
    assert (metrics.METRIC_VERSION, [*map(tuple, counts)]) == ("1", [*told.values()])


def test_long_and_short_transcripts_in_one_batch_keep_their_own_counts() -> None:
    """The long one (over 4000 characters) takes another road; the row order must not notice."""
    long_said, long_heard = "ab " * 1500 + "end", "ab " * 1500 + "an"
    batch = character_errors_batch(["no", long_said, "yes"], ["now", long_heard, "yes"])
    assert batch[0] == ErrorCount(0, 0, 1, 2, 2) and batch[2] == ErrorCount(0, 0, 0, 3, 3)
    assert (batch[1].errors, batch[1].length) == (2, 4503)
    assert character_errors_batch([long_said], [long_heard]) == batch[1:2]
    assert {type(n) for n in character_counts(["no", long_said], ["now", long_heard]).ravel().tolist()} == {int}
    assert character_errors_batch([long_said[:-1]], [long_said])[0] == ErrorCount(0, 0, 1, 4502, 4502)
    assert character_errors_batch([long_said], [long_said[:-1]])[0] == ErrorCount(0, 1, 0, 4502, 4503)


@pytest.mark.parametrize("n", [255, 256, 300, 3000])
def test_more_errors_than_a_32_bit_distance_can_hold_are_counted(n: int) -> None:
    """A weighted distance is 2**24 an error: 256 of them need 33 bits."""
    every = ErrorCount(n, 0, 0, 0, n)
    assert character_errors_batch(["a" * n], ["b" * n]) == word_errors_batch(["a " * n], ["b " * n]) == [every]
    assert {type(count) for count in word_counts(["a " * n], ["b " * n]).ravel().tolist()} == {int}
    assert character_distances(["a" * n], ["b"]).dtype == np.int64


def test_the_longer_side_decides_when_the_exact_split_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the two ways to count "ab" against "bc", only the exact split finds the hit between two errors."""
    monkeypatch.setattr(metrics, "LONG", 2)
    monkeypatch.setattr(metrics, "_any_split", lambda said, heard: (2, 0, 0, 0, 2))
    assert character_counts(["ab"], ["bc"]).tolist() == [[0, 1, 1, 1, 2]]
    assert character_counts(["ab"], ["bcc"]).tolist() == [[2, 0, 0, 0, 2]]
    assert character_counts(["ab", "ab"], ["bcc", "bc"]).tolist() == [[2, 0, 0, 0, 2], [0, 1, 1, 1, 2]]


def test_counts_are_plain_whole_numbers_that_json_can_hold() -> None:
    counts = counts_from_row(word_counts(["a b"], ["a c d"])[0])
    assert counts == ErrorCount(1, 0, 1, 1, 2) and type(counts.hits) is int
    for count in (word_counts, character_counts):
        for pairs in ((["a b"], ["a c"]), (["a"], ["a"]), ([], [])):
            assert count(*pairs).shape == (len(pairs[0]), 5) and count(*pairs).dtype.kind == "i"
    score = score_chunk(["a b"], ["a c"])
    fields = (score.character_errors, score.characters, score.rows, score.rows_different, score.rows_with_reference)
    assert fields == (1, 3, 1, 1, 1) and {type(value) for value in fields} == {int}
    assert type(score.row_rate_sum) is float


def test_a_corpus_is_read_so_many_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory does not grow with its rows: no row is drawn before those of the chunk before it are scored."""
    drawn, seen = list[int](), list[tuple[int, int]]()

    def pairs() -> Iterator[tuple[str, str]]:
        for number in range(5):
            drawn.append(number)
            yield "a b", "a"

    def scored(references: Sequence[str], hypotheses: Sequence[str]) -> CorpusScore:
        seen.append((len(references), len(drawn)))
        return score_chunk(references, hypotheses)

    monkeypatch.setattr(corpus_score, "score_chunk", scored)
    assert corpus_score.score_stream(pairs(), chunk=2).wer == 1 / 2
    assert seen == [(2, 2), (2, 4), (1, 5)]


def test_rows_without_a_reference_count_as_different_but_not_in_the_row_mean() -> None:
    score = score_chunk(["", "a b", "c"], ["noise", "a", "c"])
    assert (score.wer, score.wer_row_mean) == (2 / 3, (1 / 2 + 0) / 2)
    assert (score.ser, score.cer, score.rows_with_reference) == (2 / 3, 7 / 4, 2)


def test_pairs_are_counted_across_the_border_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CHUNK", 2)
    assert word_counts(["a", "b", "c d", "e", "f"], ["a", "x", "c", "e", ""])[:, 1].tolist() == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("count", [metrics.word_counts, metrics.character_counts, metrics.character_distances])
def test_every_way_to_count_refuses_sides_of_different_number(count: object) -> None:
    with pytest.raises(metrics.ScoringError, match="1 references but 2 hypotheses"):
        count(["a"], ["a", "b"])  # type: ignore[operator]
