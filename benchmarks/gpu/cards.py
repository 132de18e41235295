"""Fine-tuning on small cards: does the batch fit, and what becomes of one that does not?

    python benchmarks/gpu/cards.py --out /tmp/cards --record benchmarks/gpu/records/NAME.json

A large card is made small by a second process that holds the rest of its memory, so that what is free, and what is
refused, is what it would be on a card of that size. Weights of Parakeet TDT 0.6B v2's shape are drawn; every run is the
command that a user would type, on clips of up to 10 s. Asked are: batch 4 in 12 GB and batch 16 in 24 GB, each as it
is and ``frugal``, with ``--fit``; and batch 16 in 16 GB, with ``--fit`` and by trying, where a run that meets the end
of the memory halves its batch and goes on. A refusal is a result. Exit code 1 if a run fails otherwise, or if MUST_FIT
names a batch that did not fit. ``--tiny`` rehearses all of it on a two-layer model; without a GPU nothing is held.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parents[1] / "tests"), str(HERE)]
HOLDER = """
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(max(0, free - int(float(sys.argv[1]) * 1e9)), dtype=torch.uint8, device="cuda")
print(held.numel(), flush=True)
sys.stdin.read()
"""
"""Holds all of a card's memory but so many GB, until its input ends."""


@dataclass(frozen=True)
class Case:
    """One run: how large the card is in GB, rows of a batch, and how it is trained."""

    gb: float
    batch: int
    frugal: bool
    fit: bool

    @property
    def name(self) -> str:
        """For the record, and for its recipe's file.

        >>> Case(12, 4, True, True).name
        '12-4-frugal'
        """
        return "-".join([f"{self.gb:g}", str(self.batch), *["frugal"] * self.frugal])


CASES = (
    Case(12, 4, frugal=True, fit=True),
    Case(24, 16, frugal=True, fit=True),
    Case(24, 16, frugal=False, fit=True),
    Case(12, 4, frugal=False, fit=True),
    Case(16, 16, frugal=False, fit=True),
    Case(16, 16, frugal=False, fit=False),
)
MUST_FIT = CASES[:2]
"""Batch 4 on a card of 12 GB, batch 16 on one of 24 GB."""


@contextmanager
def card_of(gb: float) -> Iterator[int]:
    """While open, no more than ``gb`` is free on the GPU; bytes that are held, 0 without a GPU."""
    import torch

    if not torch.cuda.is_available():
        yield 0
        return
    command = [sys.executable, "-c", HOLDER, str(gb)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        told = holder.stdout.readline()
        if not told:
            sys.exit("the rest of the card's memory could not be held")
        try:
            yield int(told)
        finally:
            holder.stdin.close()


def tried(case: Case, base: Path, data: Path) -> dict[str, Any]:
    """One run, and what counts of it; of one that was refused, why."""
    from scaling import SLOWLY, Refused, finetuned

    recipe = data.parent / f"{case.name}.yaml"
    recipe.write_text(f"epochs: 1\nbatch_size: {case.batch}\nfrugal: {str(case.frugal).lower()}\n{SLOWLY}")
    with card_of(case.gb) as held:
        asked = asdict(case) | {"held_gb": round(held / 1e9, 1)}
        try:
            info = finetuned(base, data, recipe, *(["--fit"] if case.fit else []))
        except Refused as why:
            return asked | {"fits": False, "refused": str(why)}
    effective = info["effective"]
    return asked | {
        "ran_with": effective["batch_size"],
        "accumulated": effective["accumulate_grad_batches"],
        "fits": effective["batch_size"] == case.batch,
        "peak_gb": round(info["peak_memory_mb"] / 1024, 2),
        "seconds": info["seconds"],
        "notes": info["notes"],
        "hardware": info["hardware"],
        "versions": info["versions"],
    }


def main() -> None:
    """Make the base, run all cases, write the record after each."""
    from cycle import make_base
    from scaling import write_data
    from transcription import write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of base, data and runs; start empty")
    parser.add_argument("--record", type=Path, help="JSON file to write; printed in any case")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tiny", action="store_true", help="a two-layer model: rehearse on any machine")
    asked = parser.parse_args()
    out = asked.out.resolve()
    base = make_base(out / "base.nemo", asked.tiny)
    data = write_data(out / "data", asked.rows, 0.05 if asked.tiny else 0.165)
    found: dict[str, Any] = {"date": date.today().isoformat(), "rows": asked.rows, "cases": []}
    for case in CASES:
        found["cases"].append(tried(case, base, data))
        write(found, asked.record)
    print(json.dumps(found, indent=2))
    ran = dict(zip(CASES, found["cases"], strict=True))
    missed = [case.name for case in MUST_FIT if not ran[case]["fits"]]
    sys.exit(f"does not fit: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
