"""What a training engine is handed and what it gives back. Values only: no engine, no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from clinical_asr.config import TrainingConfig
from clinical_asr.records import Seconds

OnStep = Callable[[int, int, float], None]
"""(optimiser steps done, steps in all, loss of the last batch)."""

Evaluate = Callable[[Any], Mapping[str, float | None]]
"""The model in memory -> its normalised validation rates, ``ker`` and ``wer``; ``None`` where nothing was counted."""


@dataclass(frozen=True, slots=True)
class Example:
    """One recording to learn from."""

    id: str
    audio: Path
    text: str
    duration: Seconds
    row: Mapping[str, Any] = field(default_factory=dict)
    """The manifest row it comes from, for engines that write a manifest of their own; may be empty."""


@dataclass(frozen=True)
class TrainingJob:
    """One fine-tuning: what to start from, what to learn, where to put it."""

    base: Path
    examples: tuple[Example, ...]
    config: TrainingConfig
    output: Path
    """The ``.nemo`` to write; work in progress lies beside it in ``<name>.work.part/`` until the end."""
    validation: tuple[Example, ...] = ()
    """Rows to choose an epoch by, for engines that cannot be handed ``Evaluate``: scripts in other processes."""


@dataclass(frozen=True)
class EpochReport:
    """One pass over the examples."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean over the epoch's batches."""
    rows: int
    """Examples the optimiser really saw."""
    seconds: Seconds
    metrics: dict[str, float | None] = field(default_factory=dict)
    """What ``Evaluate`` said after the epoch; empty without validation rows."""


@dataclass(frozen=True)
class TrainingReport:
    """What happened, for ``training_run_info.json``."""

    digest: str
    """SHA-256 of the written ``.nemo``."""
    epochs: tuple[EpochReport, ...]
    best_epoch: int
    stopped_early: bool
    steps: int
    """Optimiser steps."""
    batch_size: int
    """Rows per forward pass, after any halving for memory."""
    accumulate_grad_batches: int
    warmup_steps: int
    precision: str
    loss: str
    """Which implementation of which loss, and what it lacks."""
    seconds: Seconds
    peak_memory_mb: float
    resumed_after_epoch: int
    """0 if the run was not resumed."""
    notes: tuple[str, ...]
    """What a person should know: a halved batch, a changed precision, ..."""
    versions: dict[str, str]
    hardware: str


class TrainModel(Protocol):
    """A training engine. Raises TrainingError; a base the method refuses raises ModelError."""

    def __call__(self, job: TrainingJob, evaluate: Evaluate | None, on_step: OnStep | None) -> TrainingReport: ...
