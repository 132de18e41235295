"""finetune: training rows and replayed general rows in, an adapted model and the full story of its making out.

The training engine and the recogniser that judges each epoch are handed in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import __version__
from clinical_asr.config import TrainingConfig
from clinical_asr.cycle import account, manifest_digest
from clinical_asr.errors import ConfigError, FlywheelError, TrainingError
from clinical_asr.jsonl import to_dict, write_json, write_rows
from clinical_asr.keywords import KeywordCount, keyword_hits
from clinical_asr.metrics import ErrorCount, word_errors_batch
from clinical_asr.records import LedgerEntry, Outcome, Utterance
from clinical_asr.text import DEFAULT_NORMALISER, normalise
from clinical_asr.training import Evaluate, Example, OnStep, TrainingJob, TrainingReport, TrainModel

Listen = Callable[[Any, Mapping[str, Path]], Mapping[str, str | FlywheelError]]
"""(the model in memory, recordings) -> transcripts under the same keys, decoded as the product decodes."""


@dataclass(frozen=True)
class Recordings:
    """Rows of a manifest and the folder their relative audio paths start in."""

    rows: Sequence[Utterance] = ()
    folder: Path = Path()

    def audio(self, row: Utterance) -> Path:
        """Where the recording of ``row`` lies."""
        return self.folder / row.audio_filepath


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
    on_step: OnStep | None = None,
) -> TrainingReport:
    """Fine-tune ``base``; write the model, its story and the ledger of the clinical rows.

    Rows longer than ``config.max_duration`` are excluded with that reason. General rows are drawn from ``replay``,
    ``config.replay_ratio`` for each clinical one, never a row that also stands in ``train`` or ``validation``. Raises
    TrainingError if the engine did not train exactly the declared rows, ConfigError if replay is asked for and
    there is none.
    """
    ledger = [_fate(row, config) for row in train.rows]
    account("finetune", [row.id for row in train.rows], ledger)
    clinical = [row for row, fate in zip(train.rows, ledger, strict=True) if fate.outcome is Outcome.TRAINED]
    replayed = draw_replay(replay.rows, config, len(clinical), _ids(train) | _ids(validation))
    examples = _examples(clinical, train) + _examples(replayed, replay)
    judged = tuple(_examples(validation.rows, validation))
    job = TrainingJob(base.path, tuple(examples), config, outputs.model, judged)
    judge = judge_of(validation, listen) if validation.rows else None
    report = train_model(job, judge, on_step)
    _check_rows(report, len(examples))
    write_rows(outputs.ledger, ledger)
    counted = (clinical, replayed, validation.rows)
    write_json(outputs.info, {**_story(base, config, report), "data": _data(ledger, *counted)})
    return report


def _ids(recordings: Recordings) -> set[str]:
    return {row.id for row in recordings.rows}


def _fate(row: Utterance, config: TrainingConfig) -> LedgerEntry:
    too_long = row.duration > config.max_duration
    reason = f"is {row.duration:.1f} s long, the recipe's max_duration is {config.max_duration:g} s" if too_long else ""
    outcome = Outcome.EXCLUDED if too_long else Outcome.TRAINED
    return LedgerEntry(id=row.id, outcome=outcome, reason=reason, audio_filepath=row.audio_filepath)


def draw_replay(
    general: Sequence[Utterance], config: TrainingConfig, clinical: int, taken: set[str]
) -> list[Utterance]:
    """A seeded draw of ``replay_ratio * clinical`` general rows, or all of them if there are fewer.

    Raises ConfigError if the recipe replays and no usable row is there.
    """
    wanted = round(config.replay_ratio * clinical)
    pool = [row for row in general if row.id not in taken and row.duration <= config.max_duration]
    if wanted and not pool:
        mend = "give a manifest of general speech, or set replay_ratio: 0 and expect the base to forget"
        raise ConfigError(f"is {config.replay_ratio:g}, but there is no general speech", "replay_ratio", mend)
    pool.sort(key=lambda row: row.id)
    return random.Random(f"replay/{config.seed}").sample(pool, min(wanted, len(pool)))


def _examples(rows: Sequence[Utterance], home: Recordings) -> list[Example]:
    return [Example(row.id, home.audio(row), row.text, row.duration, to_dict(row)) for row in rows]


def judge_of(validation: Recordings, listen: Listen) -> Evaluate:
    """What each epoch is judged by: KER and WER of the validation rows, both normalised.

    A row that cannot be transcribed counts as heard as nothing: it must not leave the denominator.
    """

    def judge(model: Any) -> dict[str, float | None]:
        heard = listen(model, {row.id: validation.audio(row) for row in validation.rows})
        return rates(validation.rows, {key: text for key, text in heard.items() if isinstance(text, str)})

    return judge


def rates(rows: Sequence[Utterance], heard: Mapping[str, str]) -> dict[str, float | None]:
    """``ker`` and ``wer`` of transcripts, pooled; None where there is nothing to divide by.

    >>> row = Utterance(audio_filepath="a.wav", text="Give cefazolin.", duration=1.0, id="a")
    >>> rates([row], {"a": "give cefazolin"})
    {'ker': None, 'wer': 0.0}
    """
    references = [normalise(row.text) for row in rows]
    hypotheses = [normalise(heard.get(row.id, "")) for row in rows]
    words = sum(word_errors_batch(references, hypotheses), ErrorCount.zero())
    hits = [keyword_hits(row.text, heard.get(row.id, ""), _term(row), DEFAULT_NORMALISER) for row in rows if _term(row)]
    return {"ker": sum(hits, KeywordCount.zero()).ker, "wer": words.rate}


def _term(row: Utterance) -> str:
    return str(to_dict(row).get("term") or "")


def _check_rows(report: TrainingReport, declared: int) -> None:
    for epoch in report.epochs:
        if epoch.rows != declared:
            what = f"{epoch.rows} rows were trained, {declared} declared"
            raise TrainingError(what, f"epoch {epoch.epoch}", "this is a fault of the engine; do not use the model")


def _story(base: Base, config: TrainingConfig, report: TrainingReport) -> dict[str, Any]:
    """All but the data: who, with what, on what, how it went."""
    told = asdict(report)
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


def _data(
    ledger: Sequence[LedgerEntry],
    clinical: Sequence[Utterance],
    replayed: Sequence[Utterance],
    validation: Sequence[Utterance],
) -> dict[str, Any]:
    excluded = [{"id": entry.id, "reason": entry.reason} for entry in ledger if entry.outcome is Outcome.EXCLUDED]
    parts = {"train": clinical, "replay": replayed, "validation": validation}
    return {**{name: _count(rows) for name, rows in parts.items()}, "excluded": excluded}


def _count(rows: Sequence[Utterance]) -> dict[str, Any]:
    seconds = round(sum(row.duration for row in rows), 3)
    return {"rows": len(rows), "seconds": seconds, "manifest_digest": manifest_digest(row.id for row in rows)}
