"""One whole cycle on a random-weight base of Parakeet's shape: seconds, seconds a step, peak memory.

    python benchmarks/gpu/cycle.py --out /tmp/cycle --record benchmarks/gpu/records/NAME.json

Speed and memory depend on the shape of a model, not on what it has learnt, so no download is needed. The base is made
first (about half a minute, not counted), the cycle runs in a process of its own, as a user would start it, and the
record holds what the cycle itself wrote down. ``--tiny`` rehearses the same on a two-layer model, on any machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WAIVER = "Benchmark of speed and memory on random weights: nobody listens, nothing is promoted."


def make_base(path: Path, tiny: bool) -> Path:
    """The ``.nemo`` to start from, made once."""
    if not path.exists():
        shape = ["--vocabulary", "512"] if tiny else ["--parakeet"]
        subprocess.run([sys.executable, str(ROOT / "tests" / "tiny_model.py"), str(path), *shape], check=True)
    return path


def command(base: Path, out: Path, recipe: str) -> list[str]:
    """135 rows, as in a first benchmark of a ward: 45 terms in three contexts, one voice each."""
    return [
        sys.executable, "-m", "clinical_asr", "cycle", "--terms", str(ROOT / "examples" / "terms.csv"),
        "--base", str(base), "--out", str(out), "--recipe", recipe, "--contexts-per-term", "3",
        "--voices-per-sentence", "1", "--waive-audition", WAIVER,
    ]  # fmt: skip


def record(out: Path, seconds: float, code: int) -> dict[str, Any]:
    """What a stranger needs to compare: seconds, memory, the stages, the machine, the versions."""
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
        "exit_code": code,
        "cycle_s": round(seconds, 1),
        "step_s": round(trained / info["effective"]["steps"], 4),
        "peak_gb": round(info["peak_memory_mb"] / 1024, 2),
        "hypotheses_s": [stage["seconds"] for stage in heard],
        "effective": info["effective"],
        "notes": info["notes"],
        "loss_per_epoch": [epoch["loss"] for epoch in info["metrics_per_epoch"]],
        "stages": {f"{index} {stage['stage']}": stage["seconds"] for index, stage in enumerate(stages, 1)},
    }


def main() -> None:
    """Make the base, run the cycle, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the base and of the cycle; start empty")
    parser.add_argument("--record", type=Path, help="JSON file to write; printed in any case")
    parser.add_argument("--recipe", default="smoke")
    parser.add_argument("--tiny", action="store_true", help="a two-layer model: rehearse on any machine")
    arguments = parser.parse_args()
    base = make_base(arguments.out / "base.nemo", arguments.tiny)
    start = time.perf_counter()
    code = subprocess.run(command(base, arguments.out, arguments.recipe), check=False).returncode
    seconds = time.perf_counter() - start
    if code not in (0, 4, 5):
        sys.exit(f"the cycle ended with exit code {code}: no decision about a trained model, nothing to record")
    text = json.dumps(record(arguments.out, seconds, code), indent=2)
    print(text)
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(text + "\n")


if __name__ == "__main__":
    main()
