"""Fine-tuning on 1, 2 and 4 GPUs at the same global batch: throughput, efficiency, loss curve.

    python benchmarks/gpu/scaling.py --out /tmp/scaling --record benchmarks/gpu/records/NAME.json --processes 1 2 4

Weights of Parakeet TDT 0.6B v2's shape are drawn, not downloaded: speed and memory depend on the shape. Every run is
the command that a user would type, with ``--runner torchrun:N`` (``local`` for one), on the same rows of tones, with
the recipe's own batch shared by the processes (``same``), and with as many rows a process as one process has (``own``):
the first shows that the updates are the same, the second what the GPUs give. Throughput is taken from the last epoch,
when nothing is compiled any more; efficiency is throughput over N times that of one process. ``--tiny`` rehearses all
of it on a two-layer model, on any machine: its efficiency says nothing, the loss curves must agree all the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path += [str(ROOT / "tests"), str(HERE)]
SLOWLY = "learning_rate: 1.0e-5\n"
"""At the recipe's own rate random weights may say nothing but blanks after a step, and the run is broken off."""
AGREE = {"tiny": 2e-3, "parakeet": 2e-2}
"""Largest relative difference of an epoch's loss: fp32 and bf16 noise after some dozens of updates."""


def write_data(folder: Path, rows: int, seconds_a_letter: float) -> Path:
    """Rows to learn and two to choose by, some 40 letters each."""
    from tiny_model import SENTENCES, write_tones

    sentences = [SENTENCES[n % len(SENTENCES)] for n in range(rows + 2)]
    manifest = write_tones(folder, sentences, seconds_a_letter=seconds_a_letter)
    lines = manifest.read_text().splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(lines[:rows]))
    (folder / "validation.jsonl").write_text("".join(lines[rows:]))
    return folder


def write_recipe(path: Path, batch: int, epochs: int) -> Path:
    """The published recipe without what is drawn anew by each process, so that curves can be compared."""
    still = "distortion: false\nfreeze_batch_norm: true\n"
    path.write_text(f"epochs: {epochs}\nbatch_size: {batch}\n{still}{SLOWLY}")
    return path


class Refused(SystemExit):
    """The command ended with exit code 2; its last line says why."""


def finetuned(base: Path, data: Path, recipe: Path, *more: str) -> dict[str, Any]:
    """One fine-tuning through the command line; what it wrote down of itself. Raises Refused, else SystemExit."""
    name = "-".join([recipe.stem, *(word.strip("-") for word in more)]).replace(":", "-")
    output = data.parent / name / "adapted.nemo"
    command = [
        sys.executable, "-m", "clinical_asr", "finetune", "--train", str(data / "train.jsonl"), "--validation",
        str(data / "validation.jsonl"), "--base", str(base), "--recipe", str(recipe), "--output", str(output), *more,
    ]  # fmt: skip
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode == 2:
        raise Refused(done.stderr.splitlines()[-1])
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}; nothing to record")
    return dict(json.loads(output.with_name("training_run_info.json").read_text()))


def measured(info: dict[str, Any], processes: int, batch: int) -> dict[str, Any]:
    """What counts of one run."""
    epochs = info["metrics_per_epoch"]
    return {
        "processes": processes,
        "batch": batch,
        "rows_per_s": round(epochs[-1]["rows"] / epochs[-1]["seconds"], 2),
        "rows_per_epoch": [epoch["rows"] for epoch in epochs],
        "loss_per_epoch": [epoch["loss"] for epoch in epochs],
        "seconds": info["seconds"],
        "peak_gb_of_the_first": round(info["peak_memory_mb"] / 1024, 2),
        "hardware": info["hardware"],
        "notes": info["notes"],
    }


def apart(runs: list[dict[str, Any]]) -> float:
    """Largest relative difference between an epoch's loss and that of the first run.

    >>> apart([{"loss_per_epoch": [10.0, 5.0]}, {"loss_per_epoch": [10.1, 5.0]}])
    0.01
    """
    first = runs[0]["loss_per_epoch"]
    pairs = ((a, b) for each in runs for a, b in zip(first, each["loss_per_epoch"], strict=True))
    return round(max(abs(a - b) / a for a, b in pairs), 6)


def with_efficiency(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Throughput over that of the first run, which has one process, times the number of processes.

    >>> with_efficiency([{"rows_per_s": 10.0, "processes": 1}, {"rows_per_s": 18.0, "processes": 2}])[1]["efficiency"]
    0.9
    """
    alone = runs[0]["rows_per_s"]
    return [{**each, "efficiency": round(each["rows_per_s"] / (alone * each["processes"]), 3)} for each in runs]


def record(base: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Both series and whether their curves agree, as far as they have come: once more after each run."""
    data = write_data(arguments.out / "data", arguments.rows, 0.05 if arguments.tiny else 0.1)
    series: dict[str, list[dict[str, Any]]] = {"same": [], "own": []}
    for number, kinds in plan(arguments.processes):
        batch = arguments.batch * (number if "own" in kinds else 1)
        recipe = write_recipe(arguments.out / f"{kinds[0]}.yaml", batch, arguments.epochs)
        info = finetuned(base, data, recipe, "--runner", "local" if number == 1 else f"torchrun:{number}")
        for kind in kinds:
            series[kind].append(measured(info, number, batch))
        yield told(series, info, arguments)


def plan(processes: Sequence[int]) -> list[tuple[int, tuple[str, ...]]]:
    """What is run, in which order, and which series it belongs to; one process comes first and belongs to both.

    >>> plan([2, 4])
    [(1, ('own', 'same')), (2, ('own',)), (4, ('own',)), (2, ('same',)), (4, ('same',))]
    """
    several = sorted({*processes} - {1})
    return [(1, ("own", "same")), *((number, (kind,)) for kind in ("own", "same") for number in several)]


def told(
    series: dict[str, list[dict[str, Any]]], info: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """The record of what has run so far."""
    limit = AGREE["tiny" if arguments.tiny else "parakeet"]
    return {
        "date": date.today().isoformat(),
        "versions": info["versions"],
        "shape": "tiny" if arguments.tiny else "Parakeet TDT 0.6B v2, random weights",
        "rows": arguments.rows,
        "same_global_batch": with_efficiency(series["same"]),
        "same_batch_a_process": with_efficiency(series["own"]),
        "curves_apart": apart(series["same"]),
        "curves_agree": apart(series["same"]) <= limit,
    }


def main() -> None:
    """Make the base, run all, write the record; exit 1 if the loss curves differ."""
    from cycle import make_base
    from transcription import write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of base, data and runs; start empty")
    parser.add_argument("--record", type=Path, help="JSON file to write; printed in any case")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers of GPUs")
    parser.add_argument("--batch", type=int, default=16, help="rows of the global batch, and of one process's own")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a two-layer model: rehearse on any machine")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    found: dict[str, Any] = {}
    for found in record(make_base(arguments.out / "base.nemo", arguments.tiny), arguments):
        write(found, arguments.record)
    print(json.dumps(found, indent=2))
    sys.exit(0 if found["curves_agree"] else "the loss curves differ: see curves_apart")


if __name__ == "__main__":
    main()
