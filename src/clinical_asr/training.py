"""What a training engine is handed and what it gives back. Values only: no engine, no files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from clinical_asr.config import TrainingConfig
from clinical_asr.records import Seconds

OnStep = Callable[[int, int, float], None]
"""(optimiser steps done, steps in all, loss of the last batch)."""

Evaluate = Callable[[Any], Mapping[str, float | None]]
"""The model in memory -> its normalised rates: ``ker`` and ``wer`` of clinical rows, and where there are general ones
``guard_wer``, ``guard_rise`` (absolute, since the base) and ``guard_high`` (upper end of the rise's 95 % interval).
``None`` where nothing was counted. The base is judged first."""


@dataclass(frozen=True, slots=True)
class Example:
    """One recording to learn from."""

    id: str
    audio: Path
    text: str
    duration: Seconds
    row: Mapping[str, Any] = field(default_factory=dict)
    """The manifest row it comes from, for engines that write a manifest of their own; may be empty."""
    replayed: bool = False
    """General speech, so that the base keeps its language."""


@dataclass(frozen=True, slots=True)
class Margins:
    """What a candidate may cost: absolute rise of general WER, and the most its 95 % interval may reach."""

    rise: float = 0.003
    high: float = 0.01
    at: float | None = None
    """The base's WER on the rows that the margins were meant for, the guard set's; None: any."""
    times: float = 1.0
    """By what ``rise`` and ``high`` have been multiplied for rows that are harder."""

    def on(self, base: Mapping[str, float | None]) -> Margins:
        """The same margins on other rows of general speech, where the base is told by ``base["guard_wer"]``.

        Where a base errs more, the same drift of its weights makes it err more often in proportion: rows it finds twice
        as hard would refuse what the guard set allows. Measured on 30 trainings (docs/lab-notes.md). Never stricter.

        >>> guard = Margins(rise=0.003, high=0.01, at=0.02)
        >>> [round(guard.on({"guard_wer": wer}).rise, 6) for wer in (0.03, 0.01, None)]
        [0.0045, 0.003, 0.003]
        """
        here = base.get("guard_wer")
        times = max(1.0, here / self.at) if here and self.at else 1.0
        return Margins(self.rise * times, self.high * times, None, times)

    def hold(self, metrics: Mapping[str, float | None]) -> bool:
        """True if general speech is not worse beyond them, as far as the rows can tell that were counted."""
        rise, high = metrics.get("guard_rise"), metrics.get("guard_high")
        return (rise is None or rise <= self.rise) and (high is None or high <= self.high)


class Weighed(Protocol):
    """Something that may be chosen, with its normalised rates as ``Evaluate`` tells them."""

    @property
    def metrics(self) -> Mapping[str, float | None]: ...


AnyWeighed = TypeVar("AnyWeighed", bound=Weighed)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Weights that may be kept: ``(1 - factor) * base + factor * tuned`` after ``epoch`` (Wortsman et al. 2022)."""

    epoch: int
    factor: float
    metrics: dict[str, float | None]

    def inside(self, margins: Margins) -> bool:
        """True if general speech is not worse beyond the margins, as far as the selection rows can tell."""
        return margins.hold(self.metrics)


@dataclass(frozen=True, slots=True)
class Selection:
    """How one of several candidates was chosen. The comparison shows it, and rests on other rows."""

    rows: tuple[str, ...]
    """Ids of the training rows that chose instead of being trained on; none if the validation rows chose."""
    general_rows: int
    """Rows of general speech, none of them replayed and none of the guard set's."""
    base: dict[str, float | None]
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    margins: Margins

    @property
    def inside(self) -> bool:
        """False if every candidate costs more general speech than the margins allow."""
        return self.chosen is None or self.chosen.inside(self.margins)


def choose(candidates: Sequence[AnyWeighed], margins: Margins) -> AnyWeighed:
    """The lowest KER, then WER, among those inside the margins; if there is none, what costs least.

    >>> far, near = ({"ker": k, "wer": 0.1, "guard_rise": r, "guard_high": r} for k, r in ((0.1, 0.02), (0.3, 0.002)))
    >>> both = Candidate(3, 1.0, far), Candidate(3, 0.5, near)
    >>> choose(both, Margins()).factor, choose(both[:1], Margins()).inside(Margins())
    (0.5, False)
    """
    return min(candidates, key=lambda candidate: rank(candidate, margins))


CHANCE = 0.1
"""KER by which two models may differ on the few rows that choose without one being the better: three rows of thirty."""


def strongest(candidates: Sequence[Candidate], margins: Margins) -> Candidate:
    """The largest factor among those inside the margins, unless it clearly hears fewer terms; else what costs least.

    That more of what was learnt hears more terms is known from every training in docs/lab-notes.md; a handful of rows
    tells it worse, and a tie on them would give terms away for nothing. What it may cost, the margins say.

    >>> told = [(factor, {"ker": ker, "guard_rise": rise})
    ...         for factor, ker, rise in ((0.7, 0.35, 0.001), (0.8, 0.4, 0.002), (0.9, 0.4, 0.003), (1.0, 0.3, 0.02))]
    >>> found = [Candidate(5, factor, metrics) for factor, metrics in told]
    >>> strongest(found, Margins()).factor, strongest(found[3:], Margins()).inside(Margins())
    (0.9, False)
    """
    inside = [candidate for candidate in candidates if candidate.inside(margins)]
    if not inside:
        return choose(candidates, margins)
    lowest = min(score_key(candidate.metrics)[0] for candidate in inside)
    able = (candidate for candidate in inside if score_key(candidate.metrics)[0] <= lowest + CHANCE)
    return max(able, key=lambda candidate: candidate.factor)


def rank(candidate: Weighed, margins: Margins) -> tuple[bool, float, float, float]:
    """Smaller is better: inside the margins, then KER, WER and cost; outside of them what costs least.

    An epoch that hears one more term and has left the margin is not the better one.

    >>> told = [{"ker": ker, "guard_rise": rise} for ker, rise in ((0.4, 0.001), (0.1, 0.005), (0.3, 0.009))]
    >>> epochs = [Candidate(number, 1.0, metrics) for number, metrics in enumerate(told)]
    >>> [candidate.epoch for candidate in sorted(epochs, key=lambda one: rank(one, Margins()))]
    [0, 1, 2]
    """
    ker, wer = score_key(candidate.metrics)
    cost = candidate.metrics.get("guard_rise") or 0.0
    return (False, ker, wer, cost) if margins.hold(candidate.metrics) else (True, cost, ker, wer)


def promise(candidate: Weighed) -> tuple[float, float, float]:
    """Smaller is better among epochs that will be set back towards the base: KER, then cost, then WER.

    What an epoch costs, the way back mends; what it has not learnt, nothing does. Ranked by the margins, an early epoch
    that has learnt little wins by having cost little.

    >>> told = [{"ker": ker, "guard_rise": rise} for ker, rise in ((0.4, 0.001), (0.3, 0.009), (0.3, 0.005))]
    >>> min((Candidate(number, 1.0, metrics) for number, metrics in enumerate(told)), key=promise).epoch
    2
    """
    ker, wer = score_key(candidate.metrics)
    return ker, candidate.metrics.get("guard_rise") or 0.0, wer


def as_good(metrics: Mapping[str, float | None], earlier: Sequence[Mapping[str, float | None]]) -> bool:
    """False for an epoch that clearly hears fewer terms than an earlier one.

    For recipes whose schedule ends with their last epoch: that one is meant, and chance should not pick another.

    >>> [as_good({"ker": ker}, [{"ker": 0.5}, {"ker": 0.4}]) for ker in (0.3, 0.45, 0.51)]
    [True, True, False]
    """
    lowest = min((score_key(each)[0] for each in earlier), default=math.inf)
    return score_key(metrics)[0] <= lowest + CHANCE


def score_key(metrics: Mapping[str, float | None]) -> tuple[float, float]:
    """Smaller is better: KER first, then WER, both normalised; what is unknown is worst.

    >>> score_key({"ker": 0.1, "wer": 0.2}) < score_key({"ker": 0.1, "wer": 0.3}) < score_key({"wer": 0.0})
    True
    """
    ker, wer = metrics.get("ker"), metrics.get("wer")
    return (math.inf if ker is None else ker, math.inf if wer is None else wer)


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
    more_replay: tuple[Example, ...] = ()
    """General rows that later epochs take, in turn, in the place of the replayed ones of ``examples``."""
    margins: Margins = Margins()
    """What a candidate may cost in general speech."""
    selection_guard: tuple[Example, ...] = ()
    """General speech that helps to choose, for engines that cannot be handed ``Evaluate``."""


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
    base_metrics: dict[str, float | None] = field(default_factory=dict)
    """What ``Evaluate`` said of the base."""
    candidates: tuple[Candidate, ...] = ()
    """The best epoch at every factor of the recipe."""
    chosen: Candidate | None = None
    """What was written; ``None`` where nothing judged."""


class TrainModel(Protocol):
    """A training engine. Raises TrainingError; a base the method refuses raises ModelError."""

    def __call__(self, job: TrainingJob, evaluate: Evaluate | None, on_step: OnStep | None) -> TrainingReport: ...
