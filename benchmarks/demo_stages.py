"""Seconds per stage of the demo on this machine: ``python benchmarks/demo_stages.py`` (also ``make benchmark``).

Runs ``clinical-asr demo`` in an empty folder, then prints one Markdown row per stage and the decision.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run_demo(out: Path) -> tuple[float, int]:
    """Wall seconds and exit code of one demo in ``out``."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "clinical_asr", "demo", "--out", str(out)], check=False)
    return time.perf_counter() - start, done.returncode


def processor() -> str:
    """The processor's name as the kernel tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def report(out: Path, seconds: float) -> str:
    """A Markdown table of the stages, then the decision."""
    folder = out / "cycle1"
    rows = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    lines = ["| stage | seconds | what it did |", "|---|---:|---|"]
    lines += [f"| {row['stage']} | {row['seconds']:.1f} | {row['line']} |" for row in rows]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    lines.append(f"| **whole command** | **{seconds:.0f}** | peak memory {peak:.1f} GiB |")
    decision = json.loads((folder / "decision.json").read_text())
    machine = f"{os.cpu_count()} cores, {processor()}, Python {platform.python_version()}"
    return "\n".join([machine, "", *lines, "", f"{decision['verdict']}: {decision['reason']}"])


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="keep the cycle here (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        seconds, code = run_demo(out)
        if code:
            sys.exit(f"the demo ended with exit code {code}")
        print(report(out, seconds))


if __name__ == "__main__":
    main()
