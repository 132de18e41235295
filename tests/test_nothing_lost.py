"""What lies where a command writes: its own work is continued, another's is never replaced without a word."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import board
from clinical_asr import finetune as stage
from clinical_asr.bases import adopt, mini_base
from clinical_asr.jsonl import write_rows
from clinical_asr.lock import locked
from clinical_asr.training import EpochReport, TrainingJob, TrainingReport
from commands import Run

# --- finetune: neither its inputs nor another's model -----------------------------------------------------------------


def trained(job: TrainingJob, evaluate: Any, on_step: Any) -> TrainingReport:
    """A trainer that copies the base, and writes it as every trainer does."""
    job.output.parent.mkdir(exist_ok=True)
    part = Path(shutil.copy(job.base, job.output.with_name("made.part")))
    part.write_bytes(part.read_bytes() + b"tuned")
    epoch = EpochReport(1, 1.0, len(job.examples), 0.1)
    return TrainingReport(
        digest=adopt(part, job.output), epochs=(epoch,), best_epoch=1, stopped_early=False, steps=1, batch_size=4,
        accumulate_grad_batches=1, warmup_steps=0, precision="32-true", loss="none", seconds=0.1,
        peak_memory_mb=1.0, resumed_after_epoch=0, notes=(), versions={}, hardware="none",
    )  # fmt: skip


@pytest.fixture
def tune(tiny_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A command without its output, whose trainer trains nothing."""
    monkeypatch.setattr("clinical_asr.cli.engines.trainer", lambda fit: trained)
    folder = Path(shutil.copytree(tiny_manifest.parent, tmp_path / "data"))
    base, recipe = folder / "base.nemo", folder / "recipe.yaml"
    shutil.copy(mini_base(), base)
    recipe.write_text("epochs: 1\nreplay_ratio: 0\nselection_fraction: 0\n", encoding="utf-8")
    return ["finetune", "--train", folder / tiny_manifest.name, "--base", base, "--recipe", recipe]


@pytest.mark.parametrize("option", ["--base", "--train", "--recipe"])
@pytest.mark.parametrize("way", ["itself", "link", "relative"])
def test_finetune_overwrites_nothing_that_it_reads(option: str, way: str, tune: list[Any], tmp_path: Path, run: Run,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    read: Path = tune[tune.index(option) + 1]
    before, output = read.read_bytes(), read
    if way == "link":
        output = tmp_path / "link.nemo"
        output.symlink_to(read)
    elif way == "relative":
        monkeypatch.chdir(tmp_path)
        output = Path(os.path.relpath(read))
    code, _, err = run(*tune, "--output", output)
    assert (code, err) == (2, f"error: {output}: is also what is read; write to another file\n")
    assert read.read_bytes() == before and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("option", ["--validation", "--replay", "--selection-guard"])
def test_nor_what_it_writes_beside_the_model(option: str, tune: list[Any], tmp_path: Path, run: Run) -> None:
    ledger = Path(shutil.copy(tune[2], tmp_path / "data" / "m.ledger.jsonl"))
    code, _, err = run(*tune, option, ledger, "--output", tmp_path / "data" / "m.nemo")
    assert (code, err) == (2, f"error: {ledger}: is also what is read; write to another file\n")
    assert ledger.read_bytes() == tune[2].read_bytes()


@pytest.mark.parametrize("sidecar", [False, True])
@pytest.mark.parametrize("story", [False, True])
def test_another_model_at_the_output_stays(
    story: bool, sidecar: bool, tune: list[Any], tmp_path: Path, run: Run
) -> None:
    """Whether the folder tells of no model or of one that has gone."""
    output = tmp_path / "out" / "m.nemo"
    output.parent.mkdir()
    if story:
        assert run(*tune, "--output", output)[0] == 0
        output.unlink()
    foreign = Path(shutil.copy(mini_base(), tmp_path / "foreign.nemo"))
    if sidecar:
        adopt(foreign, output)
    else:
        output.with_name("m.nemo.sha256").unlink(missing_ok=True)
        shutil.move(foreign, output)
    code, _, err = run(*tune, "--output", output)
    what = "is a model that no training_run_info.json beside it tells of; name another output, or move that model away"
    assert (code, err) == (2, f"error: {output}: {what}\n")
    assert output.read_bytes() == mini_base().read_bytes()


def test_a_learning_curve_writes_no_model_and_asks_for_none(
    tune: list[Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinical_asr.cli.tune._learning_curve", lambda *_: print("a curve"))
    assert run(*tune, "--learning-curve", "--output", tune[4]) == (0, "a curve\n", "")


@pytest.mark.parametrize("again", [False, True], ids=["first", "with the story of a model that has gone"])
def test_a_model_that_a_killed_run_left_is_continued(
    again: bool, tune: list[Any], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed where the model stands and its story does not yet."""
    output = tmp_path / "out" / "m.nemo"
    if again:
        assert run(*tune, "--output", output)[0] == 0
        output.with_name("training_run_info.json").write_text('{"model": {"sha256": "of one that has gone"}}')
        output.unlink()
    with monkeypatch.context() as now:
        now.setattr(stage, "write_rows", lambda *_: sys.exit(9))
        assert run(*tune, "--output", output)[0] == 9
    assert output.is_file()
    code, out, _ = run(*tune, "--output", output)
    assert code == 0 and f"written: {output}" in out
    assert run(*tune, "--output", output) == (0, f"{output}: complete already\n", "")
    assert not list(output.parent.glob("*.part"))


def test_a_run_that_made_no_model_leaves_nothing(
    tune: list[Any], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinical_asr.cli.engines.trainer", lambda fit: lambda *_: sys.exit(9))
    assert run(*tune, "--output", tmp_path / "out" / "m.nemo")[0] == 9
    assert not list((tmp_path / "out").iterdir())


def test_a_note_alone_makes_no_foreign_model_ours(tune: list[Any], tmp_path: Path, run: Run) -> None:
    """Killed before the model stood; then somebody put theirs there."""
    output = tmp_path / "m.nemo"
    output.with_name("m.nemo.begun.part").write_text("m.nemo is being made")
    shutil.copy(mini_base(), output)
    assert run(*tune, "--output", output)[0] == 2 and output.read_bytes() == mini_base().read_bytes()


def test_what_lies_complete_needs_no_note(tune: list[Any], tmp_path: Path, run: Run) -> None:
    """Killed between the story and the end."""
    output = tmp_path / "out" / "m.nemo"
    assert run(*tune, "--output", output)[0] == 0
    note = output.with_name("m.nemo.begun.part")
    note.write_text("m.nemo is being made")
    assert run(*tune, "--output", output) == (0, f"{output}: complete already\n", "") and not note.exists()


# --- general: another manifest stays ----------------------------------------------------------------------------------


@pytest.fixture
def speak(tmp_path: Path) -> list[object]:
    """Two short sentences in two voices and noise; without the folder."""
    said = tmp_path / "said.txt"
    said.write_text("good morning\nsit down\nthank you\n", encoding="utf-8")
    words = ["--rows", 4, "--voices", "en-us+f3-r160-p50,en-gb+m4-r165-p45", "--noise-levels", "clean,snr_5db"]
    return ["general", "--sentences", said, *words]


def test_general_speech_replaces_no_other_manifest_unless_it_is_forced(
    speak: list[object], tmp_path: Path, run: Run
) -> None:
    folder, manifest = tmp_path / "guard", tmp_path / "guard" / "manifest.jsonl"
    assert run(*speak, "--output-folder", folder)[0] == 0
    first, clips = manifest.read_bytes(), sorted(folder.rglob("*.wav"))
    manifest.touch()
    mend = "write to another folder, or replace it with --force"
    for other in (("--seed", 7), ("--rows", 3), ("--rows", 6), ("--noise-levels", "clean")):
        code, _, err = run(*speak, "--output-folder", folder, *other)
        assert (code, err) == (2, f"error: {manifest}: holds another manifest; {mend}\n"), other
    assert manifest.read_bytes() == first and sorted(folder.rglob("*.wav")) == clips, "nor is anything spoken for it"
    assert run(*speak, "--output-folder", folder, "--seed", 7, "--force")[0] == 0
    assert manifest.read_bytes() != first


def test_nor_one_of_a_clinical_benchmark_or_one_to_which_something_was_added(
    speak: list[object], tmp_path: Path, run: Run
) -> None:
    folder, manifest = tmp_path / "b", tmp_path / "b" / "manifest.jsonl"
    assert run(*speak, "--output-folder", folder)[0] == 0
    clinical = manifest.read_bytes().replace(b'"text"', b'"term":"morning","text"')
    manifest.write_bytes(clinical)
    code, _, err = run(*speak, "--output-folder", folder)
    assert code == 2 and "holds another manifest" in err and manifest.read_bytes() == clinical


def test_the_same_general_speech_again_is_finished_and_is_the_same(
    speak: list[object], tmp_path: Path, run: Run
) -> None:
    folder, manifest = tmp_path / "guard", tmp_path / "guard" / "manifest.jsonl"
    assert run(*speak, "--output-folder", folder)[0] == 0
    whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest.unlink()
    next(folder.glob("audio/general-*.wav")).unlink()
    for _ in range(2):
        assert run(*speak, "--output-folder", folder)[0] == 0
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole


# --- scores: rows and signature of one run ----------------------------------------------------------------------------

FULL = """
import resource, signal, sys
from clinical_asr.cli import main
from clinical_asr.jsonl import write_rows
from clinical_asr.lock import locked
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""


def scored_by(output: Path) -> tuple[str, set[str]]:
    """The model of the signature, and what was heard in the rows."""
    rows = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    signature = json.loads(output.with_name("s.signature.json").read_text())
    return signature["model"], {row["hypothesis"] for row in rows}


@pytest.fixture
def score(tmp_path: Path, run: Run) -> list[object]:
    """A command that scores a new model where the scores of an old one lie."""
    write_rows(tmp_path / "old.jsonl", board.rows(12, 0, model="old", digest="aa"))
    write_rows(tmp_path / "new.jsonl", board.rows(12, 12, model="new", digest="bb"))
    assert run("scores", tmp_path / "old.jsonl", "--output", tmp_path / "s.jsonl")[0] == 0
    return ["scores", tmp_path / "new.jsonl", "--output", tmp_path / "s.jsonl"]


def test_scores_that_find_no_room_leave_those_that_are_there(score: list[object], tmp_path: Path) -> None:
    """A file may grow to 5000 bytes: enough for the signature, not for the rows, all of which fit into one buffer."""
    before = scored_by(tmp_path / "s.jsonl")
    assert 5000 < (tmp_path / "s.jsonl").stat().st_size < 8192
    done = subprocess.run([sys.executable, "-c", FULL, "5000", *map(str, score)], capture_output=True, text=True)
    assert done.returncode == 2 and "s.jsonl: file too large" in done.stderr.lower(), done.stderr
    assert scored_by(tmp_path / "s.jsonl") == before and before[0] == "old" and not list(tmp_path.glob("*.part"))


def test_rows_never_stand_beside_a_signature_that_is_not_theirs(
    score: list[object], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the signature is written, or just after."""
    for failing in ("write_json", "settle"):
        with monkeypatch.context() as now:
            now.setattr(f"clinical_asr.jsonl.{failing}", full)
            assert run(*score)[0] == 2
        assert not (tmp_path / "s.jsonl").exists()
    assert run(*score)[0] == 0 and scored_by(tmp_path / "s.jsonl")[0] == "new"


def test_what_has_no_signature_costs_no_scores(score: list[object], tmp_path: Path, run: Run) -> None:
    before = scored_by(tmp_path / "s.jsonl")
    write_rows(tmp_path / "new.jsonl", [*board.rows(3, 0, model="new"), *board.rows(3, 0, model="other", start=3)])
    code, _, err = run(*score)
    assert code == 2 and "hypotheses of several models" in err and scored_by(tmp_path / "s.jsonl") == before


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- two commands in one folder ---------------------------------------------------------------------------------------


@pytest.fixture
def benchmark(tmp_path: Path, run: Run) -> list[object]:
    """A command that speaks one term; without the folder."""
    terms, said, heard = (tmp_path / name for name in ("terms.csv", "sentences.jsonl", "pronunciations.jsonl"))
    terms.write_text("term,entity_category\nheparin,drug\n", encoding="utf-8")
    assert run("sentences", "--terms", terms, "--output", said, "--contexts-per-term", 3)[0] == 0
    assert run("pronunciations", "--terms", terms, "--output", heard)[0] == 0
    return ["audio", "--sentences", said, "--pronunciations", heard, "--noise-levels", "clean"]


WAIVED = ("--waive-audition", "a test, nobody will rely on this audio")


@pytest.mark.parametrize("how", ["waived", "heard", "to be heard", "general"])
def test_a_second_command_in_a_folder_is_told_so(
    how: str, benchmark: list[object], speak: list[object], tmp_path: Path, run: Run
) -> None:
    folder, verdicts = tmp_path / "b", tmp_path / "auditions.jsonl"
    verdicts.write_text('{"term":"heparin","verdict":"good"}\n')
    options = {"waived": WAIVED, "heard": ("--auditions", verdicts), "to be heard": ("--audition-only",)}
    words = [*(speak if how == "general" else [*benchmark, *options[how]]), "--output-folder", folder]
    with locked(folder):
        code, _, err = run(*words)
        wait = "wait until it has ended, or end it"
        assert (code, err) == (2, f"error: {folder}: process {os.getpid()} is at work here; {wait}\n")
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert run(*words)[0] == 0 and list(folder.rglob("*.wav"))


def test_what_would_be_done_is_told_meanwhile(benchmark: list[object], tmp_path: Path, run: Run) -> None:
    with locked(tmp_path / "b"):
        assert run(*benchmark, *WAIVED, "--output-folder", tmp_path / "b", "--dry-run")[0] == 0
    assert run(*benchmark, *WAIVED, "--output-folder", tmp_path / "c", "--dry-run")[0] == 0
    assert not (tmp_path / "c").exists()
