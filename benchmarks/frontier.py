"""What a recipe learns and what it costs: KER of held-out rows against WER of general speech, at several ways back.

    python benchmarks/frontier.py CYCLE --out trials.jsonl --trial "" --trial "epochs=3 match_weight=300" --seeds 42 43

CYCLE is the folder of a finished cycle with replayed rows (``clinical-asr demo`` leaves one). Every trial is a recipe
(``--recipe``, with the named keys changed), trained by the product's own engine on the training rows, all of them with
``selection_fraction=0``; the weights of its last epoch are judged at every factor back to the base: held-out rows of
taught terms, the guard set, the rows that choose, and ``--wide`` further rows of general speech, whose many words place
a rise to a tenth of a point. Nothing is chosen here. ``--jobs`` processes work side by side, on one GPU or on the
cores. A line of JSON a trial and seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from clinical_asr.config import TrainingConfig, load_recipe
from clinical_asr.error_count import ErrorCount
from clinical_asr.finetune import divide, draw_replay
from clinical_asr.jsonl import read_rows
from clinical_asr.judge import Recordings, rates
from clinical_asr.metrics import word_errors_batch
from clinical_asr.records import ClinicalUtterance, Utterance
from clinical_asr.text import normalise
from clinical_asr.training import Example, TrainingJob

FACTORS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training: the words of ``--trial``, the recipe they make, the seed."""

    told: str
    config: TrainingConfig


def trial(told: str, recipe: str, seed: int) -> Trial:
    """``key=value`` words over a recipe. Values are YAML, without spaces."""
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in told.split())}
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    config = msgspec.structs.replace(load_recipe(recipe), **changes)
    return Trial(told, msgspec.structs.replace(config, seed=seed, factors=(1.0,)))


def sides(cycle: Path, wide: Path | None) -> dict[str, Recordings]:
    """Everything that is judged, by name. Held-out rows are those of taught terms, as the verdict takes them."""
    held = [row for row in read_rows(cycle / "validation.jsonl", ClinicalUtterance) if stratum(row) != "new term"]
    found = {"held": Recordings(held, cycle)}
    found["drug"] = Recordings([row for row in held if row.entity_category == "drug"], cycle)
    for kind in ("new sentence", "new voice"):
        found[kind] = Recordings([row for row in held if stratum(row) == kind], cycle)
    for kind in ("guard", "selection"):
        path = cycle / "general" / f"{kind}_manifest.jsonl"
        found[kind] = Recordings(read_rows(path, Utterance) if path.exists() else [], path.parent)
    if wide:
        found["wide"] = Recordings(read_rows(wide, Utterance), wide.parent)
    return found


def stratum(row: Utterance) -> str:
    """As ``split`` has written it."""
    return str(row.extra["stratum"])


def job(asked: argparse.Namespace, one: Trial, output: Path) -> TrainingJob:
    """As ``finetune`` makes it; rows that would choose are left out and choose nothing."""
    cycle, spoken = asked.cycle, asked.replay or asked.cycle / "general" / "replay_manifest.jsonl"
    rows, _ = divide(read_rows(cycle / "train.jsonl", ClinicalUtterance), one.config)
    general = read_rows(spoken, Utterance)
    pool = draw_replay(general, one.config, len(rows), set()) if one.config.replay_ratio else []
    clinical = [Example(row.id, cycle / row.audio_filepath, row.text, row.duration) for row in rows]
    replay = [
        Example(row.id, spoken.parent / row.audio_filepath, row.text, row.duration, replayed=True) for row in pool
    ]
    each = round(one.config.replay_ratio * len(rows))
    return TrainingJob(asked.base, (*clinical, *replay[:each]), one.config, output, more_replay=tuple(replay[each:]))


def run(asked: argparse.Namespace, one: Trial) -> dict[str, Any]:
    """Train, then judge at every factor."""
    from clinical_asr.engines.nemo_asr import NemoTranscriber
    from clinical_asr.engines.nemo_sft import train
    from clinical_asr.engines.nemo_sft.epochs import weights_of
    from clinical_asr.nemo_file import restore

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "tuned.nemo"
        report = train(job(asked, one, output))
        before = weights_of(restore(asked.base))
        listener = NemoTranscriber(output, name="trial")
    tuned, points = weights_of(listener.model), []
    for factor in asked.factors:
        pairs = ((name, before[name], value) for name, value in tuned.items())
        mixed = {n: old.lerp(new, factor) if new.is_floating_point() else new for n, old, new in pairs}
        listener.model.load_state_dict(mixed)
        points.append({"factor": factor, **judged(listener, sides(asked.cycle, asked.wide))})
    told = {"trial": one.told or "as it is", "seed": one.config.seed, "train_s": round(report.seconds, 1)}
    losses = [round(epoch.loss, 3) for epoch in report.epochs]
    return {**told, "all_s": round(time.monotonic() - began, 1), "losses": losses, "notes": report.notes,
            "hardware": report.hardware, "points": points}  # fmt: skip


def judged(listener: Any, material: Mapping[str, Recordings]) -> dict[str, Any]:
    """KER where there are terms, else WER and words at fault."""
    audio = {row.id: side.audio(row) for side in material.values() for row in side.rows}
    heard = {key: text for key, text in listener.transcribe(audio).items() if isinstance(text, str)}
    found: dict[str, Any] = {}
    for name, side in material.items():
        told = rates(side.rows, heard)
        found[name] = told["ker"] if name in ("held", "drug", "new sentence", "new voice") else told["wer"]
        if name in ("guard", "wide"):
            found[f"{name}_errors"] = errors(side.rows, heard)
    return found


def errors(rows: Sequence[Utterance], heard: Mapping[str, str]) -> list[int]:
    """Substitutions, deletions, insertions."""
    pairs = [normalise(row.text) for row in rows], [normalise(heard.get(row.id, "")) for row in rows]
    total = sum(word_errors_batch(*pairs), ErrorCount.zero())
    return [total.substitutions, total.deletions, total.insertions]


def line(record: dict[str, Any], point: dict[str, Any]) -> str:
    """A row of the table."""
    rises = [f"{100 * (point.get(kind) or 0):.2f}" for kind in ("guard", "wide", "selection")]
    kers = [f"{point[kind]:.3f}" for kind in ("drug", "held", "new sentence", "new voice")]
    return " | ".join([f"{record['trial']}, {record['seed']}", f"{point['factor']:g}", *kers, *rises])


def _work(task: tuple[argparse.Namespace, Trial]) -> dict[str, Any]:
    return run(*task)


def finished(asked: argparse.Namespace, trials: list[Trial]) -> Iterator[dict[str, Any]]:
    """Records in the order in which they end; each process takes one trial after the other."""
    tasks = [(asked, one) for one in trials]
    if asked.jobs == 1:
        yield from map(_work, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        yield from pool.imap_unordered(_work, tasks)


def main() -> None:
    """Run all trials with all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cycle", type=Path)
    parser.add_argument("--trial", action="append", default=[], help="changed keys of the recipe; may come often")
    parser.add_argument("--recipe", default="keep")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--factors", type=float, nargs="+", default=list(FACTORS))
    parser.add_argument("--wide", type=Path, help="another manifest of general speech, judged beside the guard set")
    parser.add_argument("--replay", type=Path, help="general speech to replay, if the cycle's own is too little")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    trials = [trial(told, asked.recipe, seed) for told in asked.trial or [""] for seed in asked.seeds]
    with asked.out.open("a") as file:
        for record in finished(asked, trials):
            print(json.dumps(record), file=file, flush=True)
            print(*(line(record, point) for point in record["points"]), sep="\n", flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
