"""How long a benchmark takes to speak: clips of about five seconds, three noise levels, eSpeak NG on all cores.

Run: python benchmarks/synthesis.py --clips 1000 --workers 2
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from clinical_asr import audio
from clinical_asr.cli.engines import markup, synthesiser
from clinical_asr.cli.options import VOICES
from clinical_asr.config import SynthesisConfig
from clinical_asr.jsonl import write_rows
from clinical_asr.manifest import iter_build
from clinical_asr.pronunciations import resolve
from clinical_asr.records import EntityCategory, Sentence, Term
from clinical_asr.rendering import iter_render

WORDS = ("cefazolin", "heparin", "apixaban", "warfarin", "vancomycin", "gentamicin", "tacrolimus", "amiodarone")
FRAMES = (
    "please note that {} was given at {} this morning and was tolerated well",
    "the plan for bed {} is to stop {} tonight and to call the ward after the round",
)


def sentences(count: int) -> list[Sentence]:
    """``count`` different sentences of about five seconds."""
    made = []
    for number in range(count):
        term = WORDS[number % len(WORDS)]
        values = (term, number) if number % 2 == 0 else (number, term)
        made.append(Sentence(text=FRAMES[number % 2].format(*values), term=term,
                             entity_category=EntityCategory.DRUG, context_type="handoff"))  # fmt: skip
    return sorted(made, key=lambda sentence: sentence.term)


def cpu_seconds() -> float:
    """Of this process and of its workers that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def main() -> None:
    """Print rows, seconds of audio, wall and processor time, and the largest memory of a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--noise-levels", default="clean,snr_15db,snr_5db")
    given = parser.parse_args()
    known = resolve([Term(term=word, entity_category=EntityCategory.DRUG) for word in WORDS])
    levels = tuple(given.noise_levels.split(","))
    config = SynthesisConfig(voices=tuple(VOICES.split(",")), voices_per_sentence=1, noise_levels=levels)
    plan = audio.Plan(sentences(given.clips), known, config)
    with tempfile.TemporaryDirectory() as name:
        folder, wall, cpu = Path(name), time.perf_counter(), cpu_seconds()
        made = iter_render(plan, folder / "audio", synthesiser(), markup=markup(), workers=given.workers)
        rows = list(iter_build(zip(plan, made, strict=True), folder / "audio", folder))
        write_rows(folder / "manifest.jsonl", rows)
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    seconds = sum(row.duration for row in rows)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    suspect = sum("suspect" in row.extra for row in rows)
    print(f"{len(rows)} clips, {seconds / len(rows):.1f} s each, {suspect} suspect, {given.workers} workers")
    print(f"wall {wall:.1f} s, cpu {cpu:.1f} s, {seconds / cpu:.0f} x real time a core, {peak:.0f} MB a process")


if __name__ == "__main__":
    main()
