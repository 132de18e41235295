"""finetune: training rows and replayed general rows in, an adapted model and the full story of its making out.

The training engine and the recogniser that judges each epoch are handed in.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import __version__
from clinical_asr.config import TrainingConfig
from clinical_asr.cycle import account, manifest_digest
from clinical_asr.errors import ConfigError, TrainingError
from clinical_asr.jsonl import read_json, to_dict, write_json, write_rows
from clinical_asr.judge import Judge, Listen, Recordings, rates
from clinical_asr.records import LedgerEntry, Outcome, Stratum, Utterance, row_id
from clinical_asr.selection import carve
from clinical_asr.training import Example, Margins, OnStep, Selection, TrainingJob, TrainingReport, TrainModel

__all__ = ["Base", "Listen", "Outputs", "Recordings", "draw_replay", "finetune", "rates", "require_apart"]

NOTHING, MARGINS = Recordings(), Margins()


@dataclass(frozen=True)
class Base:
    """What fine-tuning starts from."""

    name: str
    """As the user gave it."""
    path: Path
    digest: str
    """SHA-256 of the file."""


@dataclass(frozen=True)
class Outputs:
    """What the stage writes; ``info`` comes last, so that its presence means that all is there."""

    model: Path
    info: Path
    ledger: Path


def finetune(
    base: Base,
    config: TrainingConfig,
    train: Recordings,
    validation: Recordings,
    replay: Recordings,
    outputs: Outputs,
    train_model: TrainModel,
    listen: Listen,
    *,
    selection_guard: Recordings = NOTHING,
    margins: Margins = MARGINS,
    on_step: OnStep | None = None,
) -> TrainingReport:
    """Fine-tune ``base``; write the model, its story and the ledger of the clinical rows.

    Rows longer than ``config.max_duration`` are excluded with that reason. ``config.selection_fraction`` of the others
    choose among epochs and candidates, together with ``selection_guard``, instead of being trained on; without it
    ``validation`` chooses, and its rows are then not fit to decide. General rows are drawn from ``replay``,
    ``config.replay_ratio`` for each clinical one, never a row that also stands in another set.

    Raises TrainingError if the engine did not train exactly the declared rows, ConfigError if replay is asked for and
    there is none, or if a recording that is learnt from chooses or judges as well, or one that chooses judges.
    """
    require_apart({"train": train, "replay": replay}, {"selection guard": selection_guard}, {"validation": validation})
    parts = parts_of(config, train, validation, replay, selection_guard)
    selecting = parts["selection"].rows
    ledger = [_fate(row, config, {row.id for row in selecting}) for row in train.rows]
    account("finetune", [row.id for row in train.rows], ledger)
    choosing = parts["selection"] if selecting else validation
    judge = Judge(choosing, selection_guard, listen) if choosing.rows else None
    job = _job(base, config, outputs, parts, choosing, margins)
    report = train_model(job, judge, on_step)
    report = replace(report, notes=(*report.notes, *(judge.notes if judge else ())))
    _check_rows(report, len(job.examples))
    write_rows(outputs.ledger, ledger)
    data = _data(ledger, {name: part.rows for name, part in parts.items()})
    how = _selection(report, selecting, selection_guard, margins)
    write_json(outputs.info, {**_story(base, config, report), "data": data, "selection": how})
    return report


def parts_of(
    config: TrainingConfig, train: Recordings, validation: Recordings, replay: Recordings, selection_guard: Recordings
) -> dict[str, Recordings]:
    """Who is trained on, who chooses and who judges, by the names of ``training_run_info.json``.

    Raises ConfigError if replay is asked for and there is none.
    """
    clinical, selecting = divide(train.rows, config)
    pool = draw_replay(replay.rows, config, len(clinical), _ids(train, validation, selection_guard))
    return {
        "train": Recordings(clinical, train.folder),
        "replay": Recordings(pool, replay.folder),
        "selection": Recordings(selecting, train.folder),
        "selection_guard": selection_guard,
        "validation": validation,
    }


def _job(
    base: Base, config: TrainingConfig, outputs: Outputs, parts: dict[str, Recordings], choosing: Recordings,
    margins: Margins,
) -> TrainingJob:  # fmt: skip
    """Every clinical row and the first epoch's general ones, the other epochs' apart."""
    clinical, general = _examples(parts["train"]), _examples(parts["replay"], replayed=True)
    each_epoch = round(config.replay_ratio * len(clinical))
    return TrainingJob(
        base=base.path,
        examples=tuple(clinical + general[:each_epoch]),
        config=msgspec.structs.replace(config, selection_fraction=0.0),  # divided already, whoever trains
        output=outputs.model,
        validation=tuple(_examples(choosing)),
        more_replay=tuple(general[each_epoch:]),
        margins=margins,
        selection_guard=tuple(_examples(parts["selection_guard"])),
    )


def _selection(report: TrainingReport, rows: Sequence[Utterance], general: Recordings, margins: Margins) -> Selection:
    ids = tuple(row.id for row in rows)
    here = margins.on(report.base_metrics)
    return Selection(ids, len(general.rows), report.base_metrics, report.candidates, report.chosen, here)


def read_selection(info: Path) -> Selection | None:
    """How the model of a ``training_run_info.json`` was chosen; None for one that had no candidates."""
    told = read_json(info).get("selection")
    return msgspec.convert(told, Selection) if told and told["candidates"] else None


def model_of(info: Path) -> str:
    """SHA-256 of the model that a ``training_run_info.json`` was written with; empty where it does not say."""
    return str((read_json(info).get("model") or {}).get("sha256", ""))


def require_trained_on(info: Path, strata: Mapping[str, Stratum]) -> None:
    """Refuse a split whose training rows are not those of a ``training_run_info.json``. Raises ConfigError.

    Rows that chose or were left out stand on the training side of a split, and were not trained on.
    """
    story = read_json(info)
    data = story.get("data") or {}
    told = (data.get("train") or {}).get("manifest_digest")
    apart = {row["id"] for row in data.get("excluded") or ()} | set((story.get("selection") or {}).get("rows") or ())
    trained = (row_id for row_id, stratum in strata.items() if not stratum.held_out and row_id not in apart)
    if told and manifest_digest(trained) != told:
        what = "tells of a model that was trained on other rows than this split's"
        raise ConfigError(what, str(info), "give the split that it was trained on, or train it on this one")


def divide(rows: Sequence[Utterance], config: TrainingConfig) -> tuple[list[Utterance], list[Utterance]]:
    """Rows to train on and rows to choose by; those that are too long are in neither."""
    usable = [row for row in rows if not _too_long(row, config)]
    chosen = carve(usable, config.selection_fraction, config.seed)
    return [row for row in usable if row.id not in chosen], [row for row in usable if row.id in chosen]


def require_apart(*uses: Mapping[str, Recordings]) -> None:
    """Refuse a row, or its recording under another text, that is put to two uses; keys name sides without a source.

    What a model was trained on or chosen by says nothing when it is judged on it. Raises ConfigError.
    """
    filled = [use for use in uses if any(side.rows for side in use.values())]
    seen: dict[str, tuple[int, str]] = {}
    sides = [(use, name, side) for use, named in enumerate(filled) for name, side in named.items()]
    for use, name, side in sides if len(filled) > 1 else ():
        mine = (use, side.source or name)
        for row, digest in side.digests():
            known = row.id or row_id(digest, row.text)
            for key in filter(None, (row.id, digest)):
                if (other := seen.setdefault(key, mine))[0] != use:
                    what = f"row {known} ({row.audio_filepath}) stands in {other[1]} as well"
                    mend = "take it out of one of the two: what is learnt from, chosen by and judged on must be apart"
                    raise ConfigError(what, mine[1], mend)


def _ids(*sides: Recordings) -> set[str]:
    return {row.id for side in sides for row in side.rows}


def _too_long(row: Utterance, config: TrainingConfig) -> bool:
    return row.duration > config.max_duration


CHOOSES = "chooses among epochs and candidates, so it is not trained on"


def _fate(row: Utterance, config: TrainingConfig, choosing: set[str]) -> LedgerEntry:
    long = f"is {row.duration:.1f} s long, the recipe's max_duration is {config.max_duration:g} s"
    reason = long if _too_long(row, config) else CHOOSES if row.id in choosing else ""
    outcome = Outcome.EXCLUDED if reason else Outcome.TRAINED
    return LedgerEntry(id=row.id, outcome=outcome, reason=reason, audio_filepath=row.audio_filepath)


def draw_replay(
    general: Sequence[Utterance], config: TrainingConfig, clinical: int, taken: set[str]
) -> list[Utterance]:
    """A seeded draw of ``replay_ratio * clinical`` general rows for each epoch, or all of them if there are fewer.

    Raises ConfigError if the recipe replays and no usable row is there.
    """
    wanted = round(config.replay_ratio * clinical) * config.epochs
    pool = [row for row in general if row.id not in taken and not _too_long(row, config)]
    if wanted and not pool:
        mend = "give general speech with --replay, or set replay_ratio: 0 and expect the base to forget"
        raise ConfigError(f"is {config.replay_ratio:g}, but there is no general speech", "replay_ratio", mend)
    pool.sort(key=lambda row: row.id)
    return random.Random(f"replay/{config.seed}").sample(pool, min(wanted, len(pool)))


def _examples(side: Recordings, replayed: bool = False) -> list[Example]:
    return [Example(row.id, side.audio(row), row.text, row.duration, to_dict(row), replayed) for row in side.rows]


def _check_rows(report: TrainingReport, declared: int) -> None:
    for epoch in report.epochs:
        if epoch.rows != declared:
            what = f"{epoch.rows} rows were trained, {declared} declared"
            raise TrainingError(what, f"epoch {epoch.epoch}", "this is a fault of the engine; do not use the model")


def _story(base: Base, config: TrainingConfig, report: TrainingReport) -> dict[str, Any]:
    """All but the data: who, with what, on what, how it went."""
    told = asdict(report)
    for name in ("base_metrics", "candidates", "chosen"):  # they stand under "selection"
        told.pop(name)
    effective = ("batch_size", "accumulate_grad_batches", "warmup_steps", "precision", "steps", "loss")
    return {
        "package": __version__,
        "recipe": msgspec.to_builtins(config),
        "effective": {name: told.pop(name) for name in effective},
        "base": {"name": base.name, "sha256": base.digest},
        "model": {"sha256": told.pop("digest")},
        "metrics_per_epoch": told.pop("epochs"),
        **told,
    }


def _data(ledger: Sequence[LedgerEntry], parts: dict[str, Sequence[Utterance]]) -> dict[str, Any]:
    left_out = [entry for entry in ledger if entry.outcome is Outcome.EXCLUDED and entry.reason != CHOOSES]
    excluded = [{"id": entry.id, "reason": entry.reason} for entry in left_out]
    return {**{name: _count(rows) for name, rows in parts.items()}, "excluded": excluded}


def _count(rows: Sequence[Utterance]) -> dict[str, Any]:
    seconds = round(sum(row.duration for row in rows), 3)
    return {"rows": len(rows), "seconds": seconds, "manifest_digest": manifest_digest(row.id for row in rows)}
