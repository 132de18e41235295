"""The comparison command: general speech on both sides or none, and rows that chose the model decide nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

import board
from clinical_asr.cli import app
from clinical_asr.cycle import manifest_digest
from clinical_asr.jsonl import write_rows
from clinical_asr.records import Hypothesis

SENTENCES = [f"one two three four five six seven eight nine word{n}" for n in range(400)]


def speech(path: Path, model: str, digest: str) -> Path:
    """General speech, heard without an error."""
    write_rows(
        path,
        [
            Hypothesis(audio_filepath=f"{n}.wav", text=text, duration=1.0, id=f"g{n}", pred_text=text,
                       model=model, model_digest=digest)
            for n, text in enumerate(SENTENCES)
        ],
    )  # fmt: skip
    return path


@pytest.fixture
def sides(tmp_path: Path) -> list[str]:
    """A base that misses most, a tuned model that misses few; all rows are held out."""
    write_rows(tmp_path / "before.jsonl", board.rows(240, 180, terms=24))
    write_rows(tmp_path / "after.jsonl", board.rows(240, 24, terms=24, model="tuned", digest="bb"))
    (tmp_path / "train.jsonl").write_text("")
    held = [msgspec.to_builtins(board.utterance(row.id)) | {"stratum": "new sentence"} for row in board.rows(240, 0)]
    (tmp_path / "validation.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in held))
    words = ["--before", "before.jsonl", "--after", "after.jsonl"]
    return ["comparison", *(word if word[0] == "-" else str(tmp_path / word) for word in words),
            "--split-folder", str(tmp_path)]  # fmt: skip


def general(
    folder: Path, before: tuple[str, str] = ("base", "aa"), after: tuple[str, str] = ("tuned", "bb")
) -> list[str]:
    return ["--guard-before", str(speech(folder / "g0.jsonl", *before)),
            "--guard-after", str(speech(folder / "g1.jsonl", *after))]  # fmt: skip


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_general_speech_of_the_base_alone_promotes_nothing(sides: list[str], tmp_path: Path) -> None:
    assert run(*sides, *general(tmp_path)).exit_code == 0
    again = run(*sides, *general(tmp_path, after=("base", "aa")))
    assert str(again.exception).startswith("guard set: was heard after by base (aa), the benchmark by tuned (bb)")
    alone = run(*sides, *general(tmp_path)[:2])
    assert "--guard-before stands alone; give --guard-before and --guard-after" in str(alone.exception)


def story(path: Path, digest: str, *, rise: float, rows: tuple[str, ...] = ()) -> Path:
    """How a model was chosen: by one candidate, of which it is known what it costs general speech."""
    only = {"epoch": 1, "factor": 1.0, "metrics": {"ker": 0.1, "guard_rise": rise, "guard_high": rise}}
    margins = {"rise": 0.003, "high": 0.01}
    chosen = {"rows": rows, "general_rows": 40, "base": {}, "candidates": [only], "chosen": only, "margins": margins}
    path.write_text(json.dumps({"model": {"sha256": digest}, "selection": chosen}))
    return path


def test_a_model_without_a_candidate_inside_is_not_promoted_by_hand_either(sides: list[str], tmp_path: Path) -> None:
    """The story that lies beside the transcripts is read where it is of the model that wrote them."""
    story(tmp_path / "training_run_info.json", "bb", rise=0.25)
    ran = run(*sides, *general(tmp_path))
    assert ran.exit_code == 5 and "no candidate stays within 0.30 points" in ran.stdout
    story(tmp_path / "training_run_info.json", "another model", rise=0.25)
    assert run(*sides, *general(tmp_path)).exit_code == 0


def test_rows_that_chose_the_model_decide_nothing(sides: list[str], tmp_path: Path) -> None:
    told = story(tmp_path / "told.json", "bb", rise=0.0, rows=("r00000", "r00239"))
    ran = run(*sides, *general(tmp_path), "--training-run-info", str(told))
    assert ran.exit_code == 0 and json.loads((tmp_path / "comparison.json").read_text())["held_out"]["rows"] == 238


def test_the_story_of_another_model_is_refused_where_it_is_named(sides: list[str], tmp_path: Path) -> None:
    told = story(tmp_path / "told.json", "cc", rise=0.0)
    ran = run(*sides, *general(tmp_path), "--training-run-info", str(told))
    assert "told.json: is of model cc, the transcripts after are of bb; give the training" in str(ran.exception)


def made_of(path: Path, trained: list[str], excluded: tuple[str, ...] = ()) -> Path:
    """A story that names the rows that its model was trained on."""
    told = json.loads(story(path, "bb", rise=0.0, rows=("r00239",)).read_text())
    data = {"train": {"manifest_digest": manifest_digest(trained)}, "excluded": [{"id": id} for id in excluded]}
    path.write_text(json.dumps({**told, "data": data}))
    return path


def test_a_split_that_the_model_was_not_trained_on_proves_nothing(sides: list[str], tmp_path: Path) -> None:
    """Else rows that it learnt by heart could be called held out."""
    rows = (tmp_path / "validation.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(rows[200:]))
    (tmp_path / "validation.jsonl").write_text("".join(rows[:200]))
    told = made_of(tmp_path / "training_run_info.json", [f"r{n:05d}" for n in range(201, 239)], ("r00200",))
    ran = run(*sides, *general(tmp_path))
    assert ran.exit_code == 0 and "not proven" not in ran.stdout, (
        "one row chose, one was left out: the others are these"
    )
    made_of(told, [f"r{n:05d}" for n in range(150, 239)])
    ran = run(*sides, *general(tmp_path))
    assert str(ran.exception).startswith(f"{told}: tells of a model that was trained on other rows than this split's; ")


def test_it_is_said_where_nobody_knows_what_the_model_was_trained_on(sides: list[str], tmp_path: Path) -> None:
    ran = run(*sides, *general(tmp_path))
    assert ran.exit_code == 0 and "that it was trained on this split is not proven" in ran.stdout


def test_the_benchmark_is_no_guard_set(sides: list[str], tmp_path: Path) -> None:
    ran = run(*sides, "--guard-before", str(tmp_path / "before.jsonl"), "--guard-after", str(tmp_path / "after.jsonl"))
    assert "guard set: 240 of its rows stand in the benchmark as well, r00000 for one" in str(ran.exception)


def test_a_margin_in_points_is_no_rate(sides: list[str], tmp_path: Path) -> None:
    ran = run(*sides, *general(tmp_path), "--guard-margin", "0.3")
    assert "--guard-margin: is a rise of WER: 0.003 is 0.3 points, 0.05 the most" in str(ran.exception)


@pytest.mark.parametrize("named", [True, False])
def test_a_cycles_own_decision_stays(sides: list[str], tmp_path: Path, named: bool) -> None:
    (tmp_path / "request.json").write_text("{}")
    ran = run(*sides, *general(tmp_path), *(["--output-folder", str(tmp_path)] if named else []))
    assert (
        f"{tmp_path / 'decision.json'}: is a cycle's own file" in str(ran.exception)
        and not (tmp_path / "decision.json").exists()
    )
    assert run(*sides, *general(tmp_path), "--output-folder", str(tmp_path / "mine")).exit_code == 0


@pytest.mark.parametrize("terms", [24, 2])
def test_rows_of_one_side_alone_are_told_whatever_the_verdict(sides: list[str], tmp_path: Path, terms: int) -> None:
    write_rows(tmp_path / "before.jsonl", board.rows(240, 180, terms=terms))
    heard = board.rows(240, 24, terms=terms, model="tuned", digest="bb")
    write_rows(tmp_path / "after.jsonl", heard)
    assert "rows of one side alone" not in run(*sides, *general(tmp_path)).stdout
    write_rows(tmp_path / "after.jsonl", heard[:-3])
    ran = run(*sides, *general(tmp_path))
    assert ran.exit_code == 4
    assert "rows of one side alone, left out: only before: 3 held-out rows\n" in ran.stdout


def test_clips_that_a_cycle_left_out_are_left_out_by_hand_too(sides: list[str], tmp_path: Path) -> None:
    """They are on neither side of its split."""
    held = (tmp_path / "validation.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "validation.jsonl").write_text("".join(held[1:]))
    assert "1 rows were never split" in str(run(*sides, *general(tmp_path)).exception)
    fates = [{"id": "r00000", "outcome": "excluded", "reason": "suspect"}, {"id": "r00001", "outcome": "scored"}]
    (tmp_path / "ledger_scores.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in fates))
    ran = run(*sides, *general(tmp_path))
    assert ran.exit_code == 0 and f"left out as in {tmp_path / 'ledger_scores.jsonl'}: 1 clip that" in ran.stdout
    assert json.loads((tmp_path / "comparison.json").read_text())["held_out"]["rows"] == 239
