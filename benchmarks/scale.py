"""Seconds and memory of the stages that hear nothing, from a thousand rows to a million.

    python benchmarks/scale.py --rows 1000 10000 100000 1000000

Each stage runs in a process of its own, on files, as its command would: check (fields and texts; the recordings are not
decoded), scores, leaderboard with its page, gate of hypotheses, split of rows that are checked already. CPU seconds and
the largest resident memory (VmHWM, Linux) are those of that process; ``start`` is a process that only imports. Rows
have 14 words, of 200 terms in six categories; one in three is misheard. ``docs/lab-notes.md`` has what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CATEGORIES = ("drug", "drug", "drug", "procedure", "anatomy", "condition", "lab", "role")
TEXT = "the patient was given two grams of in theatre before skin and again after four hours with no reaction seen by "
WORDS = (TEXT + "nurse pressure stable at pending continue twice daily review tomorrow 2.5 mg").split()


# --- the files --------------------------------------------------------------------------------------------------------


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Rows of hypotheses, with all fields of the clinical extension."""
    draw = random.Random(0)
    terms = [(f"{draw.choice(WORDS[:20])}azolin{n}", CATEGORIES[n % len(CATEGORIES)]) for n in range(200)]
    for number in range(count):
        term, category = terms[draw.randrange(len(terms))]
        said = draw.choices(WORDS, k=13)
        said.insert(draw.randrange(14), term)
        heard = [word if draw.random() > 0.03 else draw.choice(WORDS) for word in said]
        yield {
            "id": f"{number:016x}", "audio_filepath": f"audio/{number:07d}.wav", "text": " ".join(said),
            "duration": 4.25, "term": term, "entity_category": category,
            "ipa_source": draw.choice(("g2p", "override", "merriam-webster")), "voice_id": f"voice{number % 24}",
            "noise_level": draw.choice(("clean", "snr_15db", "snr_5db")), "context_type": "dictation",
            "pred_text": " ".join(heard), "model": "base", "model_digest": "0123456789abcdef", "frame": number % 7,
        }  # fmt: skip


def write_files(folder: Path, count: int) -> None:
    """``manifest.jsonl`` and ``hyps.jsonl`` of the same rows."""
    with (folder / "manifest.jsonl").open("w") as manifest, (folder / "hyps.jsonl").open("w") as hyps:
        for row in rows(count):
            hyps.write(json.dumps(row) + "\n")
            heard = {"pred_text", "model", "model_digest"}
            manifest.write(json.dumps({name: value for name, value in row.items() if name not in heard}) + "\n")


# --- the stages -------------------------------------------------------------------------------------------------------


def start(folder: Path) -> int:
    """Nothing but the imports of all stages."""
    import clinical_asr.cli.scored
    import clinical_asr.gate
    import clinical_asr.leaderboard
    import clinical_asr.manifest
    import clinical_asr.split  # noqa: F401

    return 0


def check(folder: Path) -> int:
    """Every field of every line; findings are counted."""
    from clinical_asr import intake, preflight
    from clinical_asr.records import ClinicalUtterance, Utterance

    path, passed = folder / "manifest.jsonl", 0
    for number, content in intake.lines(path):
        line = preflight.Line(path, number)
        fields = preflight.parse(line, content)
        row = preflight.typed(line, fields, ClinicalUtterance) if isinstance(fields, dict) else fields
        passed += isinstance(row, Utterance) and not list(preflight.row_findings(line, row))
    return passed


def scores(folder: Path) -> int:
    """Hypotheses in; the summary, the counts of each row and their signature out."""
    from clinical_asr.cli.scoring import summarised
    from clinical_asr.transcripts import iter_transcripts

    rows = iter_transcripts(folder / "hyps.jsonl")
    return summarised(rows, None, "clinical-v1", folder / "scores.jsonl", folder).rows


def leaderboard(folder: Path) -> int:
    """Scores in; all sections as JSON and the page out."""
    from clinical_asr.cli.scored import stream_scored
    from clinical_asr.html_report import PageRows, write_page
    from clinical_asr.jsonl import write_json
    from clinical_asr.leaderboard import leaderboard as build
    from clinical_asr.mishearings import ListedTerms

    scored, page = stream_scored(folder / "scores.jsonl"), PageRows()
    board = build(page.watch(scored.rows()), scored.signature, about=scored.about)
    write_json(folder / "board.json", board)
    write_page(folder / "board.html", board, page, ListedTerms(scored.about, "clinical-v1"))
    return board.headline.rows


def gate(folder: Path) -> int:
    """Hypotheses in, the decision out."""
    from clinical_asr.cli.scored import stream_scored
    from clinical_asr.gate import gate as decide
    from clinical_asr.jsonl import write_json
    from clinical_asr.leaderboard import leaderboard as build

    scored = stream_scored(folder / "hyps.jsonl")
    board = build(scored.rows(), scored.signature, about=scored.about)
    write_json(folder / "gate.json", decide(board))
    return board.headline.rows


def split(folder: Path) -> int:
    """A checked manifest in, both sides out, with a voice and a tenth of the sentences held out."""
    from clinical_asr.config import SplitConfig
    from clinical_asr.jsonl import write_rows
    from clinical_asr.records import ClinicalUtterance
    from clinical_asr.row_file import RowFile
    from clinical_asr.split import Division

    with RowFile(folder / "manifest.jsonl", ClinicalUtterance) as rows:
        found = Division(rows, SplitConfig(hold_out_voices=1, hold_out_sentences=0.1))
        write_rows(folder / "train.jsonl", found.train())
        write_rows(folder / "validation.jsonl", found.validation())
        return len(rows)


STAGES: dict[str, Callable[[Path], int]] = {
    stage.__name__: stage for stage in (start, check, scores, leaderboard, gate, split)
}  # in this order: a leaderboard needs scores, a gate a leaderboard


# --- the ruler --------------------------------------------------------------------------------------------------------


def run(stage: str, folder: Path, count: int) -> dict[str, float]:
    """One stage in a process of its own: CPU seconds and peak memory. Exits if it did not see all rows."""
    command = [sys.executable, str(Path(__file__).resolve()), "--stage", stage, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    if stage != "start" and found["rows"] != count:
        sys.exit(f"{stage} saw {found['rows']} rows of {count}")
    return found


def needed(stage: str, folder: Path) -> dict[str, float]:
    """Run a stage here and say what this process needed."""
    seen = STAGES[stage](folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return {"rows": seen, "cpu_s": round(used.ru_utime + used.ru_stime, 2), "rss_mb": round(peak / 1024)}


def main() -> None:
    """Print a table of Markdown: a line a stage, a column a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stage:
        print(json.dumps(needed(asked.stage, asked.folder)))
        return
    table: dict[str, list[str]] = {stage: [] for stage in asked.stages}
    for count in asked.rows:
        with tempfile.TemporaryDirectory() as scratch:
            write_files(Path(scratch), count)
            for stage in asked.stages:
                found = run(stage, Path(scratch), count)
                table[stage].append(f"{found['cpu_s']:.2f} s, {found['rss_mb']:.0f} MB")
                print(f"{count:>9} {stage:<12} {table[stage][-1]}", file=sys.stderr, flush=True)
    print("| stage | " + " | ".join(f"{count:,} rows" for count in asked.rows) + " |")
    print("|---|" + "---:|" * len(asked.rows))
    for stage, cells in table.items():
        print(f"| {stage} | " + " | ".join(cells) + " |")
    print(f"\nCPU seconds and peak memory of one process each; {os.cpu_count()} cores, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
