"""One whole cycle on a random-weight base of Parakeet's shape: seconds, seconds a step, peak memory.

    python benchmarks/gpu/cycle.py --out /tmp/cycle --record benchmarks/gpu/records/NAME.json

Speed and memory depend on the shape of a model, not on what it has learnt, so no download is needed. The base is made
first (about half a minute, not counted), the cycle runs in a process of its own, as a user would start it, and the
record holds what the cycle itself wrote down. ``--tiny`` rehearses the same on a two-layer model, on any machine.

With ``--stock-script`` and ``--stock-config`` the same run then times the published way on the same base and rows: see
``stock.py``. NeMo has no TDT loss for a CPU, so without a GPU that is rehearsed with ``--tiny --kind ctc``.
``--clips N`` adds the speed of transcription, ours against NeMo's: see ``transcription.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import stock
import transcription
from watched import watch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WAIVER = "Benchmark of speed and memory on random weights: nobody listens, nothing is promoted."


def make_base(path: Path, tiny: bool, kind: str = "tdt") -> Path:
    """The ``.nemo`` to start from, made once."""
    if not path.exists():
        shape = ["--kind", kind, *(["--vocabulary", "512"] if tiny else ["--parakeet"])]
        subprocess.run([sys.executable, str(ROOT / "tests" / "tiny_model.py"), str(path), *shape], check=True)
    return path


def command(base: Path, out: Path, recipe: str, fit: bool = False) -> list[str]:
    """135 rows, as in a first benchmark of a ward: 45 terms in three contexts, one voice each."""
    return [
        "-m", "clinical_asr", "cycle", "--terms", str(ROOT / "examples" / "terms.csv"),
        "--base", str(base), "--out", str(out), "--recipe", recipe, "--contexts-per-term", "3",
        "--voices-per-sentence", "1", "--waive-audition", WAIVER, *(["--fit"] if fit else []),
    ]  # fmt: skip


def record(out: Path, run: dict[str, Any]) -> dict[str, Any]:
    """What a stranger needs to compare: seconds, memory, the stages, the machine, the versions.

    ``run`` is what :func:`watched.watch` found of the cycle's process.
    """
    folder = out / "cycle1"
    info = json.loads((folder / "training_run_info.json").read_text())
    stages = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    trained = sum(epoch["seconds"] for epoch in info["metrics_per_epoch"])
    heard = [stage for stage in stages if stage["stage"] == "hypotheses"]
    return {
        "date": date.today().isoformat(),
        "hardware": info["hardware"],
        "versions": info["versions"],
        "recipe": info["recipe"]["name"],
        "rows": {name: info["data"][name]["rows"] for name in ("train", "replay", "validation")},
        "exit_code": run["exit_code"],
        "cycle_s": round(run["wall_s"], 1),
        "step_s": round(trained / info["effective"]["steps"], 4),
        "peak_gb": round(info["peak_memory_mb"] / 1024, 2),
        "rss_gb": run["rss_gb"],
        "written_gb": run["written_gb"],
        "hypotheses_s": [stage["seconds"] for stage in heard],
        "effective": info["effective"],
        "notes": info["notes"],
        "epoch_s": [round(epoch["seconds"], 2) for epoch in info["metrics_per_epoch"]],
        "loss_per_epoch": [epoch["loss"] for epoch in info["metrics_per_epoch"]],
        "stages": {f"{index} {stage['stage']}": stage["seconds"] for index, stage in enumerate(stages, 1)},
    }


def arguments() -> argparse.Namespace:
    """What the command line asks for, with whole paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the base and of the cycle; start empty")
    parser.add_argument("--record", type=Path, help="JSON file to write; printed in any case")
    parser.add_argument("--recipe", default="smoke")
    parser.add_argument("--fit", action="store_true", help="try the longest rows on the card first, as `cycle --fit`")
    parser.add_argument("--tiny", action="store_true", help="a two-layer model: rehearse on any machine")
    parser.add_argument("--kind", default="tdt", choices=("tdt", "rnnt", "ctc"), help="the base's decoder")
    parser.add_argument("--clips", type=int, default=0, help="also time transcription, with so many clips")
    stock.add_options(parser, required=False)
    asked = parser.parse_args()
    if (asked.stock_script is None) != (asked.stock_config is None):
        parser.error("--stock-script and --stock-config go together")
    for name in ("out", "stock_script", "stock_config"):
        if getattr(asked, name) is not None:
            setattr(asked, name, getattr(asked, name).resolve())
    return asked


def main() -> None:
    """Make the base, run the cycle, then what it is compared with; write the record after each."""
    asked = arguments()
    base = make_base(asked.out / "base.nemo", asked.tiny, asked.kind)
    run = watch(command(base, asked.out, asked.recipe, asked.fit), asked.out / "cycle.json")
    if run["exit_code"] not in (0, 4, 5):
        sys.exit(f"the cycle ended with exit code {run['exit_code']}: no decision about a trained model")
    found = record(asked.out, run)
    transcription.write(found, asked.record)
    cycle = asked.out / "cycle1"
    if asked.clips:
        found |= transcription.measure(base, cycle / "manifest.jsonl", asked.clips)
        transcription.write(found, asked.record)
    if asked.stock_script:
        # The published recipe, whatever ours was: the script can do no other.
        found |= stock.measure(cycle, base, asked.out / "stock", asked.stock_script, asked.stock_config, "smoke")
        found["times_faster"] = round(found["stock_s"] / found["cycle_s"], 2)
        transcription.write(found, asked.record)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
