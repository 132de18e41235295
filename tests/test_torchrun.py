"""Real torchrun through the command line: two processes, two nodes on loopback, a process that is killed. Slow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.records import Utterance
from patience import within

pytest.importorskip("nemo")
pytestmark = [pytest.mark.nemo, pytest.mark.slow, pytest.mark.xdist_group("processes")]
STAND_INS = Path(__file__).parent / "stand_ins"
PATIENCE = 120.0  # seconds; far more than it takes, far less than for ever


@pytest.fixture
def data(tiny_manifest: Path, tmp_path: Path) -> dict[str, Path]:
    """Nine rows to learn, three to choose by, beside their audio."""
    folder = shutil.copytree(tiny_manifest.parent, tmp_path / "data")
    rows = read_rows(tiny_manifest, Utterance)
    for name, part in (("train", rows[:9]), ("validation", rows[9:])):
        write_rows(folder / f"{name}.jsonl", part)
    return {name: folder / f"{name}.jsonl" for name in ("train", "validation")}


def finetune(base: Path, data: dict[str, Path], recipe: Path, output: Path) -> list[str]:
    options = {"train": data["train"], "validation": data["validation"], "base": base, "recipe": recipe,
               "output": output}  # fmt: skip
    return ["finetune", *(word for name, path in options.items() for word in (f"--{name}", str(path)))]


def recipe(folder: Path, epochs: int) -> Path:
    path = folder / f"r{epochs}.yaml"
    path.write_text(f"epochs: {epochs}\nlearning_rate: 1.0e-4\ndistortion: false\nprecision: 32-true\n")
    return path


def run(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **environment}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=told, timeout=400)


def losses(output: Path) -> list[float]:
    info = json.loads(output.with_name("training_run_info.json").read_text())
    assert all(epoch["rows"] == 9 for epoch in info["metrics_per_epoch"])
    return [epoch["loss"] for epoch in info["metrics_per_epoch"]]


def test_one_process_two_processes_and_two_nodes_learn_alike(
    tiny_nemo: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    """--runner local, --runner torchrun:2, --runner slurm with two torchrun agents, and torchrun by hand."""
    here = [sys.executable, "-m", "clinical_asr"]
    by_hand = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "clinical_asr",
    ]
    ways = {
        "local": (here, []),
        "torchrun": (here, ["--runner", "torchrun:2"]),
        "slurm": (here, ["--runner", "slurm", "--nodes", "2", "--yes", "--remote-python", sys.executable]),
        "by hand": (by_hand, []),
    }
    stand_ins = {"PATH": f"{STAND_INS}{os.pathsep}{os.environ['PATH']}", "STAND_IN_CALLS": str(tmp_path / "calls")}
    found = {}
    for name, (program, options) in ways.items():
        output = tmp_path / name / "adapted.nemo"
        words = finetune(tiny_nemo, data, recipe(tmp_path, 2), output)
        done = run([*program, *words, *options], **stand_ins)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("written: ") == 1, "one process speaks"
        found[name] = losses(output)
        assert not list(output.parent.glob("*.part*"))
    for name, curve in found.items():
        assert curve == pytest.approx(found["local"], rel=1e-3), name


def processes() -> dict[int, str]:
    lines = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {int(line.split(maxsplit=1)[0]): line.split(maxsplit=1)[1] for line in lines[1:]}


def workers(output: Path) -> list[int]:
    """Processes that train into ``output``; not torchrun itself, nor who started it."""
    return [
        pid for pid, args in processes().items() if f"{output}.stage.part" in args and "distributed.run" not in args
    ]


@pytest.fixture
def long_run(tiny_nemo: Path, data: dict[str, Path], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Two processes in the middle of a long training, and where they write."""
    output = tmp_path / "long" / "adapted.nemo"
    words = finetune(tiny_nemo, data, recipe(tmp_path, 9_000), output)
    command = [sys.executable, "-m", "clinical_asr", *words, "--runner", "torchrun:2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        saved = output.with_name("adapted.nemo.stage.part") / "out" / "adapted_model.nemo.work.part" / "last.pt"
        assert within(PATIENCE + 60, saved.exists), output.with_name("adapted.nemo.log").read_text()
        yield process, output
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_is_killed_ends_the_command(long_run: tuple[subprocess.Popen[str], Path]) -> None:
    process, output = long_run
    os.kill(workers(output)[1], signal.SIGKILL)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "training ended with exit code 1" in told and "run the command again" in told
    assert "Signal 9 (SIGKILL)" in told, "whose fault it was is said"
    assert within(30, lambda: not workers(output)), "a process was left behind"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind_however_the_command_ends(
    how: signal.Signals, long_run: tuple[subprocess.Popen[str], Path]
) -> None:
    process, output = long_run
    process.send_signal(how)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert within(60, lambda: not workers(output)), "a process was left behind"
