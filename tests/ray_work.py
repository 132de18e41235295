"""What Ray's workers do in tests: picklable by name, so that other processes import it. As a script: a whole run."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from clinical_asr.errors import ManifestError
from clinical_asr.hypotheses import Heard, transcribe_rows
from clinical_asr.records import LedgerEntry, Utterance
from clinical_asr.workers import Spread


def who(job: int) -> tuple[int, int, int, str]:
    """The job, who did it, in how many threads OpenMP may work, and whether statistics would be sent."""
    time.sleep(0.05)
    threads, statistics = os.environ.get("OMP_NUM_THREADS", "0"), os.environ.get("RAY_USAGE_STATS_ENABLED", "")
    return job, os.getpid(), int(threads), statistics


def refuses(job: int) -> int:
    raise ManifestError("m.jsonl", job, "text", "is empty")


def slow_then_refuses(job: int) -> int:
    """Refuses any job but 0 at once."""
    if job:
        refuses(job)
    time.sleep(0.4)
    return job


def dies(job: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return job


class Namesake:
    """Hears the name of the file, in its own time; a file named ``deadly`` kills the process that opens it."""

    name, digest, batch_size = "namesake", "0123456789abcdef", 4

    def __init__(self, log: Path, seconds: float = 0.0) -> None:
        self.log, self.seconds = log, seconds

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, Heard]:
        time.sleep(self.seconds)
        for path in audio.values():
            if path.stem == "deadly":
                os.kill(os.getpid(), signal.SIGKILL)
        with self.log.open("a") as log:
            log.write("".join(f"{row_id}\n" for row_id in audio))
        return {row_id: path.stem for row_id, path in audio.items()}


class Unloadable:
    """Takes its process with it when it is unpacked, as a model does that is larger than the memory."""

    def __reduce__(self) -> tuple[object, ...]:
        return dies, (0,)

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, Heard]:
        raise AssertionError


def rows(count: int, deadly: int = -1) -> list[Utterance]:
    names = ["deadly" if number == deadly else f"take{number}" for number in range(count)]
    return [
        Utterance(audio_filepath=f"{name}.wav", text="t", duration=1.0 + number % 3, id=f"row{number:03d}")
        for number, name in enumerate(names)
    ]


def heard(folder: Path, given: list[Utterance], spread: Spread, seconds: float = 0.0) -> list[LedgerEntry]:
    """Rows of a manifest to ``hypotheses.jsonl`` in ``folder``; what workers did stands in ``log``."""
    namesake = Namesake(folder / "log", seconds)
    return transcribe_rows(given, folder, namesake, folder / "hypotheses.jsonl", folder / "ledger.jsonl", spread=spread)


def run(folder: Path) -> None:
    """Slowly, by a Ray of its own."""
    from clinical_asr.engines.ray_crew import cluster

    with cluster(2, "", os.environ, gpus=False) as ray:
        heard(folder, rows(400), ray.rows_in_order, 0.1)


if __name__ == "__main__":
    import ray_work  # not what is called __main__ here and something else in a worker

    ray_work.run(Path(sys.argv[1]))
