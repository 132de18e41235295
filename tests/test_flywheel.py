"""The whole wheel: with fakes for every turn of events, and once for real, killed and continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clinical_asr.config import GateConfig, SynthesisConfig, TrainingConfig
from clinical_asr.cycle import Cycle
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.flywheel import turn
from clinical_asr.jsonl import iter_objects, read_json
from wheel import KilledError, Works, engines, request

STAGES = ["terms", "sentences", "audio", "manifest", "guard", "hypotheses", "leaderboard", "gate", "split", "replay",
          "finetune", "hypotheses", "leaderboard", "comparison"]  # fmt: skip


def run(folder: Path, works: Works, **changes: object) -> tuple[object, Cycle, list[str]]:
    cycle, told = Cycle(folder / "cycles"), list[str]()
    return turn(cycle, request(folder, **changes), engines(works, cycle, told)), cycle, told


def test_a_model_that_learns_its_terms_and_keeps_its_language_is_promoted(tmp_path: Path) -> None:
    decision, cycle, told = run(tmp_path, Works())
    assert (decision.verdict, decision.exit_code) == ("promote", 0)
    assert [line.split()[0] for line in told] == STAGES
    found = read_json(cycle.comparison("json"))
    assert found["held_out"]["ker_before"] == 1.0 and found["held_out"]["ker_after"] == 0.0
    assert found["held_out"]["rows"] + found["trained_on"]["rows"] == 80  # ten drugs, four sentences, two voices
    assert found["guard"]["rows"] == 40
    assert set(read_json(cycle.decision)) >= {"verdict", "reason", "next_stage", "evidence"}
    board = read_json(cycle.leaderboard("after", "json"))
    assert set(board["headline"]) >= {"rows", "wer", "cer", "ker", "ser"} and board["signature"]["rows"] == 112
    for page in (cycle.leaderboard("before", "md"), cycle.comparison("html"), cycle.notes, cycle.training_run_info):
        assert page.stat().st_size > 200


@pytest.mark.parametrize(
    ("works", "verdict", "code"),
    [(Works(general_errors=60), "not promoted", 5), (Works(knows=0.0), "no change", 5), (Works(knows=0.12), "grow", 5)],
    ids=["forgets its language", "learns nothing", "learns a little"],
)
def test_other_models_are_not_promoted(tmp_path: Path, works: Works, verdict: str, code: int) -> None:
    decision, _, _ = run(tmp_path, works)
    assert (decision.verdict, decision.exit_code) == (verdict, code)


def test_the_gate_sends_back_without_training(tmp_path: Path) -> None:
    works = Works()
    decision, cycle, _ = run(tmp_path, works, gate=GateConfig(min_rows=200))
    assert decision.exit_code == 3 and "train" not in works.calls
    assert read_json(cycle.decision)["next_stage"] == "build" and not cycle.train.exists()


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    _, cycle, _ = run(tmp_path, Works())
    ids = {row["id"] for _, row in iter_objects(cycle.manifest)}
    train, held = ({row["id"] for _, row in iter_objects(path)} for path in (cycle.train, cycle.validation))
    assert train | held == ids and not train & held
    for stage in ("hypotheses_before", "hypotheses_after"):
        assert {row["id"] for _, row in iter_objects(cycle.ledger(stage))} == ids
    assert {row["id"] for _, row in iter_objects(cycle.ledger("finetune"))} == train


def test_what_a_split_cannot_judge_is_told_and_kept(tmp_path: Path) -> None:
    """A benchmark with one row of a role: as ``clinical-asr split`` warns of it."""
    _, first, told = run(tmp_path / "one", Works())
    assert not [line for line in told if "warning" in line]
    rows = [row for _, row in iter_objects(first.manifest)]
    roles = [row for row in rows if row["entity_category"] == "role"]
    given = first.folder / "given.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows if row not in roles[1:]))
    _, cycle, told = run(tmp_path / "two", Works(), manifest=given, terms=None)
    warned = "; warning: role has one row: it is trained on and nothing of it is judged"
    kept = [row["line"] for _, row in iter_objects(cycle.timings) if row["stage"] == "split"]
    assert len(kept) == 1 and kept[0].endswith(warned)
    assert [warned in line for line in told if line.startswith("split")] == [True]


@pytest.mark.parametrize(
    "dies_at",
    [("synthesise", 1), ("synthesise", 37), ("synthesise", 100), ("transcribe", 3), ("transcribe", 7), ("train", 1),
     ("transcribe", 10), ("transcribe", 15)],
    ids=lambda at: f"{at[0]} {at[1]}",
)  # fmt: skip
def test_killed_anywhere_the_same_command_finishes_and_repeats_nothing(
    tmp_path: Path, dies_at: tuple[str, int]
) -> None:
    whole = Works()
    expected, _, _ = run(tmp_path / "whole", whole)
    first, second = Works(dies_at), Works()
    with pytest.raises(KilledError):
        run(tmp_path / "cut", first)
    decision, cycle, _ = run(tmp_path / "cut", second)
    assert decision == expected
    calls = {name: first.calls.get(name, 0) + second.calls.get(name, 0) for name in whole.calls}
    assert calls == {name: n + (name == dies_at[0]) for name, n in whole.calls.items()}  # only the call that died
    assert not list(cycle.folder.rglob("*.part"))


def test_a_finished_cycle_is_not_run_again(tmp_path: Path) -> None:
    expected, _, _ = run(tmp_path, Works())
    works = Works()
    decision, _, told = run(tmp_path, works)
    assert decision == expected and works.calls == {} and [line.split()[0] for line in told] == ["comparison"]


def test_another_request_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run(tmp_path, Works())
    with pytest.raises(ConfigError, match=r"recipe.epochs: 1 then, 2 now"):
        run(tmp_path, Works(), recipe=TrainingConfig(name="fake", epochs=2, replay_ratio=0.5))
    with pytest.raises(ConfigError, match=r"synthesis.noise_levels: \['clean'\] then, \['clean', 'snr_5db'\] now"):
        run(tmp_path, Works(), synthesis=SynthesisConfig(voices=("v1", "v2"), noise_levels=("clean", "snr_5db")))


def test_nobody_listened_and_nobody_waived_then_the_waiver_is_given(tmp_path: Path) -> None:
    with pytest.raises(FlywheelError, match="nobody has listened to 14 terms"):
        run(tmp_path, Works(), waiver="")
    decision, cycle, _ = run(tmp_path, Works())
    assert decision.exit_code == 0 and "nobody to listen" in cycle.notes.read_text()


def cycle_command(folder: Path, *more: str) -> list[str]:
    recipe, terms = folder / "quick.yaml", folder / "terms.csv"
    recipe.write_text("epochs: 1\nreplay_ratio: 0.5\nbatch_size: 4\nlearning_rate: 3.0e-4\n")
    names = ("cefazolin", "apixaban", "enoxaparin", "tacrolimus", "ondansetron", "gentamicin")
    terms.write_text("term,entity_category\n" + "".join(f"{name},drug\n" for name in names))
    return [
        sys.executable, "-m", "clinical_asr", "cycle", "--terms", str(terms), "--base", "mini",
        "--out", str(folder / "c"), "--recipe", str(recipe), "--guard-rows", "20", "--min-rows", "20",
        "--waive-audition", "a test: there is nobody to listen", *more,
    ]  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"ended with {process.returncode} before {path.name} was there"
        assert time.monotonic() < end, f"{path.name} did not appear"
        time.sleep(0.1)


@pytest.mark.nemo
@pytest.mark.timeout(1500)
def test_the_wheel_for_real_on_the_mini_base_killed_twice(tmp_path: Path) -> None:
    """eSpeak NG, NeMo and SFT as users have them; SIGKILL while hearing and while training."""
    command, folder = cycle_command(tmp_path), tmp_path / "c" / "cycle1"
    for sign in (folder / "baseline_hyps.jsonl.part", folder / "train.jsonl"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        wait_for(sign, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    decision = json.loads((folder / "decision.json").read_text())
    assert done.returncode == {"promote": 0, "inconclusive": 4}.get(decision["verdict"], 5), done.stderr
    assert decision["verdict"].upper() in done.stdout and "Traceback" not in done.stderr
    assert (folder / "adapted_model.nemo").is_file() and (folder / "adapted_model.nemo.sha256").is_file()
    found = json.loads((folder / "comparison.json").read_text())
    assert found["held_out"]["ker_before"] >= 0.7 and found["guard"]["wer_before"] < 0.15
    assert not [path for path in folder.rglob("*") if ".part" in path.name]
