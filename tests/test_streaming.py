"""Rows that are read from their file give what rows in memory give, in memory that hardly grows with them."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from board import hypothesis, rows, utterance
from clinical_asr.cli.scored import stream_scored, with_strata
from clinical_asr.config import SplitConfig
from clinical_asr.cycle import manifest_digest, sorted_digest
from clinical_asr.errors import ManifestError, ScoringError
from clinical_asr.html_report import PageRows, leaderboard_html, page_of
from clinical_asr.html_rows import WorstRows, worst_rows
from clinical_asr.jsonl import read_rows, write_json, write_rows, writing
from clinical_asr.leaderboard import leaderboard
from clinical_asr.mishearings import ListedTerms
from clinical_asr.records import ClinicalUtterance, Hypothesis, Stratum
from clinical_asr.row_file import RowFile
from clinical_asr.row_ids import IdCodes, IdColumn, SeenIds
from clinical_asr.scores import iter_scores, score, signature
from clinical_asr.split import Division, split
from clinical_asr.tally import Score, Subject

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), max_size=30)


# --- ids in few bytes ---


@given(st.lists(ids, max_size=6))
def test_an_id_that_came_before_is_known_again(some: list[list[str]]) -> None:
    seen, known = SeenIds(), set[str]()
    for chunk in some:
        plain = next((one for n, one in enumerate(chunk) if one in known or one in chunk[:n]), None)
        assert seen.repeated(chunk) == plain
        if plain is None:
            known |= set(chunk)


@given(ids, st.integers(0, 30))
def test_a_column_of_ids_sorts_as_text_does(some: list[str], cut: int) -> None:
    column = IdColumn()
    for part in (some[:cut], some[cut:]):
        column.add(part)
    assert list(column.sorted()) == sorted(some)
    assert [some[place] for place in column.order().tolist()] == sorted(some)
    twice = sorted({one for one in some if some.count(one) > 1})
    assert column.doubled() == (twice[0] if twice else None)
    assert sorted_digest(column.sorted()) == manifest_digest(some)


@given(ids, ids, ids)
def test_codes_are_those_of_a_dictionary(one: list[str], other: list[str], asked: list[str]) -> None:
    codes = IdCodes()
    for some, code in ((one, 1), (other, 2)):
        codes.add(some, code)
    plain = dict.fromkeys(one, 1) | dict.fromkeys(other, 2)
    assert codes.of([*asked, *one]) == [plain.get(row_id) for row_id in (*asked, *one)]


# --- boards ---


def told(n: int = 300, seed: int = 0) -> list[Hypothesis]:
    """Rows in no order, of which some hear a drug that nobody said."""
    found = [*rows(n, n // 3, terms=15), *rows(n // 3, 20, terms=4, start=n, noise="snr_5db", voice="v2")]
    found += [hypothesis(f"x{i}", term="term3", heard=False) for i in range(5)]
    random.Random(seed).shuffle(found)
    return found


def test_a_board_is_the_same_whatever_the_order_of_its_rows_and_wherever_they_lie(tmp_path: Path) -> None:
    expected = leaderboard(score(told()), signature(told()))
    assert leaderboard(score(told(seed=1)), signature(told(seed=1))) == expected
    write_rows(tmp_path / "hyps.jsonl", told(seed=2))
    write_rows(tmp_path / "scores.jsonl", score(told(seed=3)))
    write_json(tmp_path / "scores.signature.json", signature(told()))
    for name in ("hyps.jsonl", "scores.jsonl"):
        found = stream_scored(tmp_path / name)
        assert leaderboard(found.rows(), found.signature, about=found.about) == expected


def test_a_page_of_rows_that_pass_is_the_page_of_rows_in_memory() -> None:
    scores, signed = score(told()), signature(told())
    passed = PageRows()
    board = leaderboard(passed.watch(iter(scores)), signed, about=scores)
    listed = ListedTerms([Subject(row.id, row.term, row.entity_category) for row in scores], "clinical-v1")
    assert page_of(board, passed, listed) == leaderboard_html(board, scores)


@pytest.mark.parametrize("most", [1, 7, 200, 1000])
def test_the_worst_rows_are_those_of_a_sort(most: int) -> None:
    scores, worst = score(told()), WorstRows(most)
    assert list(worst.watch(scores)) == scores
    assert worst.rows() == worst_rows([scores], most)[0] and worst.total == len(scores)


def test_strata_come_row_by_row_and_another_manifests_split_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "h.jsonl", told())
    judged = [utterance("r00001", stratum="new voice"), utterance("elsewhere", stratum="new term")]
    write_rows(tmp_path / "train.jsonl", [utterance("r00000"), utterance("nowhere")])
    write_rows(tmp_path / "validation.jsonl", judged)
    found = {row.id: row.stratum for row in with_strata(stream_scored(tmp_path / "h.jsonl"), tmp_path).rows()}
    assert (found["r00000"], found["r00001"], found["x1"]) == (Stratum.TRAINED, Stratum.NEW_VOICE, None)
    (tmp_path / "train.jsonl").write_text("")
    write_rows(tmp_path / "validation.jsonl", judged[1:])
    with pytest.raises(ScoringError, match="knows none of the scored rows"):
        list(with_strata(stream_scored(tmp_path / "h.jsonl"), tmp_path).rows())


def test_a_board_needs_some_hundred_bytes_a_row() -> None:
    """Of 20,000 rows that are made on the way; as objects they take 1.5 kB each."""

    class Made:
        def __iter__(self) -> Iterator[Score]:
            return iter_scores(rows(1, 0, start=n)[0] for n in range(20_000))

    signed = signature(rows(1, 0, start=n)[0] for n in range(20_000))
    leaderboard(score(told()), signature(told()))  # what is loaded and remembered once does not count
    tracemalloc.start()
    board = leaderboard(Made(), signed, about=told())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert board.headline.rows == 20_000
    assert (peak - 15e6) / 20_000 < 200, peak  # two chunks of 4,096 rows are in hand at a time


# --- splits and files ---


def test_a_split_of_a_file_is_the_split_of_its_rows(tmp_path: Path) -> None:
    made = [
        utterance(f"{t}{s}{v}", text=f"sentence {s} of term{t}", term=f"term{t}", voice=f"v{v}", ward="4B")
        for t in range(8) for s in range(4) for v in range(3)
    ]  # fmt: skip
    random.Random(4).shuffle(made)
    write_rows(tmp_path / "m.jsonl", made)
    config = SplitConfig(hold_out_voices=1, hold_out_terms=1, hold_out_sentences=0.2)
    whole = split(made, config)
    with RowFile(tmp_path / "m.jsonl", ClinicalUtterance) as rows_of_file:
        found = Division(rows_of_file, config)
        assert list(found.train()) == whole.train and list(found.validation()) == whole.validation
        assert found.warnings == whole.warnings and rows_of_file[3:5] == made[3:5] and len(rows_of_file) == len(made)


def test_a_file_of_rows_names_the_line_that_is_wrong(tmp_path: Path) -> None:
    write_rows(tmp_path / "m.jsonl", [utterance("a")])
    with (tmp_path / "m.jsonl").open("a") as file:
        file.write("\n{}\n")
    with RowFile(tmp_path / "m.jsonl", ClinicalUtterance) as found:
        assert len(found) == 2 and found[0].id == "a"
        with pytest.raises(ManifestError, match="line 3"):
            found[1]
        with pytest.raises(ManifestError, match="line 3"):
            list(found)


def test_rows_are_written_on_their_way_and_a_file_that_is_cut_short_does_not_stand(tmp_path: Path) -> None:
    made, path = rows(5, 1), tmp_path / "rows.jsonl"
    passing = writing(path, made, lambda row: row)
    assert next(passing) == made[0]
    passing.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
    assert list(writing(path, made, lambda row: row)) == made == read_rows(path, Hypothesis)
