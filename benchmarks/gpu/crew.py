"""Transcription over Ray: rows a second with more and more workers, and with one of them killed.

    python benchmarks/gpu/crew.py --out /tmp/crew --base mini --workers 2 --rows 2000 --record NAME.json

Every run is the command that a user would type, ``clinical-asr hypotheses``: without ``--ray``, then with each number
of workers, one for each GPU or, where there is none, for each core. In the last run a worker is killed once a third of
the rows is written. Told are the whole command's seconds, in which every worker loads libraries and model for itself,
and the rows a second from the first batch written to the last. All runs must write the same bytes and the last must
tell of one death: else the exit code is 1. Clips are tones of about 4 s.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parents[1] / "tests"), str(HERE)]


def write_rows_to_hear(folder: Path, rows: int) -> Path:
    """A manifest of so many rows; the noise under the tones makes each recording another one."""
    from tiny_model import SENTENCES, write_tones

    return write_tones(folder, [SENTENCES[n % len(SENTENCES)] for n in range(rows)], seconds_a_letter=0.1)


class Run:
    """One command under way, watched as it writes."""

    def __init__(self, base: str, manifest: Path, output: Path, workers: int) -> None:
        command = [sys.executable, "-m", "clinical_asr", "hypotheses", "--manifest", str(manifest), "--model", base]
        command += ["--output", str(output), *(["--ray", str(workers)] if workers else [])]
        self.workers, self.output, self.log = workers, output, output.with_suffix(".log")
        self.began = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def growth(self) -> Iterator[tuple[float, int]]:
        """(seconds since the start, rows written), each time there are more. Raises SystemExit if the command fails."""
        rows, part = 0, self.output.with_name(self.output.name + ".part")
        while self.process.poll() is None:
            now = part.read_bytes().count(b"\n") if part.exists() else 0
            if now > rows:
                rows = now
                yield time.monotonic() - self.began, rows
            time.sleep(0.02)
        if self.process.returncode:
            sys.exit(f"{self.log.read_text()}exit code {self.process.returncode}: nothing to record")

    def kill_one(self) -> None:
        """End a worker as a fault of its machine would."""
        from processes import ray_workers

        os.kill(ray_workers(self.process.pid)[0], signal.SIGKILL)

    def measured(self, kill_after: int = 0) -> dict[str, Any]:
        """Wait for the end; kill a worker once ``kill_after`` rows are written, if that is not 0."""
        seen, killed = [], False
        for moment, rows in self.growth():
            seen.append((moment, rows))
            if kill_after and not killed and rows >= kill_after:
                self.kill_one()
                killed = True
        found = {"workers": self.workers, "seconds": round(time.monotonic() - self.began, 1)}
        if kill_after:
            told = " ".join(self.log.read_text().split())
            found |= {"killed": killed, "one_death_told": "deaths of workers: 1;" in told}
        return found | {"first_rows_after_s": round(seen[0][0], 1), "rows_per_s": pace(seen)}


def pace(seen: list[tuple[float, int]]) -> float | None:
    """Rows a second from the first rows written to the last; none if all came at once.

    >>> pace([(10.0, 100), (11.0, 300), (12.0, 500)])
    200.0
    """
    (began, first), (ended, last) = seen[0], seen[-1]
    return round((last - first) / (ended - began), 1) if last > first else None


def hardware() -> str:
    """What the workers share, in words."""
    import torch

    from clinical_asr.engines.nemo_sft import machine

    return machine.hardware(machine.device(), max(1, torch.cuda.device_count()))


def record(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All runs, as far as they have come: once more after each."""
    manifest = asked.manifest or write_rows_to_hear(asked.out / "rows", asked.rows)
    rows = manifest.read_bytes().count(b"\n")
    found: dict[str, Any] = {"date": date.today().isoformat(), "hardware": hardware(), "rows": rows, "runs": []}
    plan = [(workers, 0) for workers in (0, *sorted(asked.workers))] + [(max(asked.workers), rows // 3)]
    written: list[bytes] = []
    for number, (workers, kill_after) in enumerate(plan):
        output = asked.out / f"run{number}" / "hypotheses.jsonl"
        output.parent.mkdir(parents=True)
        found["runs"].append(Run(asked.base, manifest, output, workers).measured(kill_after))
        written.append(output.read_bytes())
        yield found | {"same_bytes": len(set(written)) == 1}


def main() -> None:
    """Run all, write the record after each run; exit 1 if anything was lost or changed."""
    from transcription import so_far

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of clips and runs; start empty")
    parser.add_argument("--record", type=Path, help="JSON file to write; printed in any case")
    parser.add_argument("--base", default="mini", help="the model that hears them")
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="numbers of workers")
    parser.add_argument("--manifest", type=Path, help="rows to hear, instead of tones")
    parser.add_argument("--rows", type=int, default=8000, help="number of tones")
    asked = parser.parse_args()
    asked.out, asked.manifest = asked.out.resolve(), asked.manifest and asked.manifest.resolve()
    found: dict[str, Any] = {}
    for found in record(asked):
        so_far(found, asked.record)
    print(json.dumps(found, indent=2))
    sys.exit(0 if found["same_bytes"] and found["runs"][-1]["one_death_told"] else "something was lost: see the record")


if __name__ == "__main__":
    main()
