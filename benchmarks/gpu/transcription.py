"""Seconds of speech per second (RTFx), ours against NeMo's ``transcribe()``, on the same clips in the same run.

    python benchmarks/gpu/transcription.py --base mini --manifest MANIFEST.jsonl --rows 2000

Each side is a process of its own that loads the model once and then makes passes over all clips, in turn: ours,
NeMo's, ours, ... The first pass of each is cold, the median of the others is warm. Ours is the stage ``hypotheses``
itself, files and ledger included; NeMo gets the same paths, longest first, batch 128, bf16 autocast where there is a
GPU. Both read the audio from disk. Results must come back in the order of the manifest, in fp32 with equal texts row by
row, and memory must not grow from the first tenth of the first pass to the end of the last: else the exit code is 1.
After each pass stderr and ``--record`` have what is known so far: a run that is cut off has not been for nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.records import Utterance

SIDES = ("ours", "nemo")
PREFIXES = dict(zip(SIDES, ("", "nemo_"), strict=True))
"""What the names of a side's numbers begin with."""
GROWTH = 0.05
"""Share by which resident memory may grow: the allocators of two libraries are not of one mind."""


def so_far(found: dict[str, Any], path: Path | None = None) -> None:
    """What is known after a pass, as a line of stderr and in the file that will hold the record."""
    print(json.dumps(found), file=sys.stderr, flush=True)
    write(found, path)


def write(found: dict[str, Any], path: Path | None) -> None:
    """The record, where one is wanted."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=2) + "\n")


def measure(
    base: Path, manifest: Path, rows: int, batch: int = 128, precision: str = "auto", passes: int = 4,
    workers: int = 0, tell: Callable[[dict[str, Any]], None] = so_far,
) -> dict[str, Any]:  # fmt: skip
    """Time both sides on ``rows`` clips of ``manifest``, repeated as often as it takes.

    ``workers`` are processes that read audio for NeMo; its own default is none. ``tell`` hears after each pass what is
    known by then.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        speech = sum(row.duration for row in lay_out(manifest, folder / "clips.jsonl", rows))
        asked_for = {"batch": batch, "passes": passes, "nemo_workers": workers}
        asked = ["--base", str(base), "--out", scratch, "--batch", str(batch), "--precision", precision]
        sides = {name: Side(name, [*asked, "--nemo-workers", str(workers)]) for name in SIDES}
        told: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
        for _ in range(passes):
            for name, side in sides.items():
                told[name].append(side.run())
                tell({"unfinished": True, "clips": rows, **_speeds(told, speech), **asked_for})
        ends = {name: side.end() for name, side in sides.items()}
        texts = {name: json.loads((folder / f"{name}.json").read_text()) for name in SIDES}
    return _record(told, ends, texts, speech) | asked_for


def lay_out(manifest: Path, clips: Path, rows: int) -> list[Utterance]:
    """Write ``rows`` rows in the order of ids, from the manifest again and again, each under an id of its own."""
    given = read_rows(manifest, Utterance)
    laid = []
    for number in range(rows):
        row = given[number % len(given)]
        audio = str((manifest.parent / row.audio_filepath).resolve())
        laid.append(msgspec.structs.replace(row, id=f"clip{number:07d}", audio_filepath=audio, extra={}))
    write_rows(clips, laid)
    return laid


class Side:
    """The process of one side: a line in, one pass over the clips, a line of JSON out."""

    def __init__(self, name: str, asked: list[str]) -> None:
        self.name = name
        command = [sys.executable, str(Path(__file__).resolve()), "--side", name, *asked]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.loaded = self._answer()

    def run(self) -> dict[str, Any]:
        """One pass."""
        assert self.process.stdin is not None
        print("again", file=self.process.stdin, flush=True)
        return self._answer()

    def end(self) -> dict[str, Any]:
        """What the process needed in all."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        answer = self._answer() | {"load_s": self.loaded["seconds"], "precision": self.loaded["precision"]}
        self.process.wait()
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"transcription: a side ended with exit code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _record(
    told: dict[str, list[dict[str, Any]]], ends: dict[str, Any], texts: dict[str, Any], speech: float
) -> dict[str, Any]:
    record: dict[str, Any] = {"clips": len(texts["ours"]), **_speeds(told, speech)}
    for name, prefix in PREFIXES.items():
        record[f"{prefix}transcription"] |= ends[name]
    first, last = told["ours"][0]["rss_warm_mb"], told["ours"][-1]["rss_mb"]
    record["memory"] = {"rss_after_warm_up_mb": first, "rss_end_mb": last, "growth": round(last / first - 1, 4)}
    record["characters_per_second"] = round(sum(map(len, texts["ours"].values())) / speech, 2)
    record["in_id_order"] = all(list(side) == sorted(side) for side in texts.values())
    differing = [row for row, text in texts["ours"].items() if texts["nemo"].get(row) != text]
    record["rows_that_differ"] = len(differing)
    return record


def _speeds(told: dict[str, list[dict[str, Any]]], speech: float) -> dict[str, Any]:
    """The part of a record that is known after any pass: seconds, and what follows from them."""
    speeds: dict[str, Any] = {"speech_s": round(speech, 1)}
    for name, prefix in PREFIXES.items():
        if not told[name]:
            continue
        cold, *warm = told[name]
        speeds[f"{prefix}rtfx"] = round(speech / statistics.median(one["seconds"] for one in warm or [cold]), 1)
        speeds[f"{prefix}rtfx_cold"] = round(speech / cold["seconds"], 1)
        speeds[f"{prefix}cpu_s"] = round(statistics.median(one["cpu_seconds"] for one in warm or [cold]), 2)
        each = {kind: [one[kind] for one in told[name]] for kind in ("seconds", "cpu_seconds", "rss_mb")}
        speeds[f"{prefix}transcription"] = each
    return speeds


def faults(record: dict[str, Any]) -> list[str]:
    """What in a record is not as it must be.

    >>> faults({"in_id_order": True, "rows_that_differ": 2, "memory": {"growth": 0.2},
    ...         "transcription": {"precision": "bf16"}})
    ['memory grew by 20 %']
    """
    found = [] if record["in_id_order"] else ["the results are not in the order of ids"]
    exact = record["transcription"]["precision"] == "fp32"
    if exact and record["rows_that_differ"]:
        found.append(f"{record['rows_that_differ']} rows differ in fp32")
    if record["memory"]["growth"] > GROWTH:
        found.append(f"memory grew by {record['memory']['growth']:.0%}".replace("%", " %"))
    return found


# --- the process of one side ------------------------------------------------------------------------------------------

Pass = Callable[[], tuple[dict[str, str], float]]
"""A pass over all clips: what was heard by row id, and MB of memory after a tenth of it."""


def serve(name: str, base: Path, folder: Path, batch: int, precision: str, workers: int) -> None:
    """Load, then make a pass for every line that comes in. Whatever libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    start = time.perf_counter()
    prepare = prepare_ours if name == "ours" else prepare_nemo
    hear, exact = prepare(base, folder / "clips.jsonl", batch, precision, workers)
    _tell(answers, {"seconds": round(time.perf_counter() - start, 2), "precision": exact})
    for _ in sys.stdin:
        start, spent = time.perf_counter(), time.process_time()
        heard, warm = hear()
        seconds, cpu = time.perf_counter() - start, time.process_time() - spent
        (folder / f"{name}.json").write_text(json.dumps(heard))
        _tell(answers, {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "rss_mb": _rss(),
                        "rss_warm_mb": warm})  # fmt: skip
    _tell(answers, {"rss_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, **_gpu()})


def _tell(answers: Any, answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=answers, flush=True)


def _rss() -> float:
    """Resident memory now, MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def _gpu() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"hardware": f"CPU, {torch.get_num_threads()} threads"}
    peak = torch.cuda.max_memory_allocated() / 2**30
    return {"hardware": torch.cuda.get_device_name(0), "peak_gb": round(peak, 2)}


def prepare_ours(base: Path, clips: Path, batch: int, precision: str, _: int) -> tuple[Pass, str]:
    """The stage, as ``clinical-asr hypotheses`` runs it."""
    from clinical_asr.config import TranscriptionConfig
    from clinical_asr.engines.nemo_asr import NemoTranscriber
    from clinical_asr.hypotheses import transcribe_rows
    from clinical_asr.records import Hypothesis

    transcriber = NemoTranscriber(base, TranscriptionConfig(batch_size=batch, precision=precision))
    rows = read_rows(clips, Utterance)
    output, ledger = clips.with_name("hyps.jsonl"), clips.with_name("ledger.jsonl")

    def hear() -> tuple[dict[str, str], float]:
        output.unlink(missing_ok=True)
        memory: list[float] = []

        def watched(batches: Sequence[Any], _: str) -> Iterator[Any]:
            for number, one in enumerate(batches):
                yield one
                if number <= len(batches) // 10:
                    memory[:] = [_rss()]

        transcribe_rows(rows, clips.parent, transcriber, output, ledger, progress=watched)
        return {row.id: row.pred_text for row in read_rows(output, Hypothesis)}, memory[0]

    return hear, transcriber.precision


def prepare_nemo(base: Path, clips: Path, batch: int, precision: str, workers: int) -> tuple[Pass, str]:
    """NeMo's public call, as its documentation shows it, with what its best users add: sorting and autocast."""
    import torch
    from nemo.collections.asr.models import ASRModel

    place = "cuda" if torch.cuda.is_available() else "cpu"
    model = ASRModel.restore_from(str(base), map_location=place).eval()
    rows = read_rows(clips, Utterance)
    sorted_rows = sorted(rows, key=lambda row: (-row.duration, row.id))
    half = place == "cuda" and precision != "fp32"

    def hear() -> tuple[dict[str, str], float]:
        with torch.autocast(place, torch.bfloat16, enabled=half):
            audio = [row.audio_filepath for row in sorted_rows]
            heard = model.transcribe(audio, batch_size=batch, num_workers=workers, verbose=False)
        told = {row.id: str(getattr(one, "text", one)).strip() for row, one in zip(sorted_rows, heard, strict=True)}
        return {row.id: told[row.id] for row in rows}, _rss()

    return hear, "bf16" if half else "fp32"


def arguments(words: Iterable[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a .nemo file, or mini")
    parser.add_argument("--manifest", type=Path, help="NeMo JSONL whose recordings are transcribed")
    parser.add_argument("--rows", type=int, default=2000, help="clips a pass; 10000 shows whether memory grows")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--passes", type=int, default=4, help="the first one is cold")
    parser.add_argument("--nemo-workers", type=int, default=0, help="processes that read audio for NeMo")
    parser.add_argument("--record", type=Path, help="JSON file to write; printed in any case")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(None if words is None else list(words))
    if not asked.side and not (asked.manifest and asked.manifest.is_file()):
        parser.error("--manifest: name a manifest that is there")
    if min(asked.rows, asked.batch, asked.passes) < 1:
        parser.error("--rows, --batch and --passes are at least 1")
    return asked


def main() -> None:
    """Measure, print the record, exit 1 if something in it is not as it must be."""
    from clinical_asr.cli.engines import resolve

    asked = arguments()
    if asked.side:
        serve(asked.side, Path(asked.base), asked.out, asked.batch, asked.precision, asked.nemo_workers)
        return
    base, manifest = resolve(asked.base, "--base"), asked.manifest.resolve()
    tell = partial(so_far, path=asked.record)
    found = measure(base, manifest, asked.rows, asked.batch, asked.precision, asked.passes, asked.nemo_workers, tell)
    print(json.dumps(found, indent=2))
    write(found, asked.record)
    if wrong := faults(found):
        sys.exit("transcription: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
