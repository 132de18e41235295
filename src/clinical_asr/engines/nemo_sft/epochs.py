"""What happens around the epochs of a Lightning fit: seeding, counting, judging, keeping, stopping."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from clinical_asr.config import TrainingConfig
from clinical_asr.engines.nemo_sft.batches import Batches
from clinical_asr.engines.nemo_sft.store import WorkFolder
from clinical_asr.errors import TrainingError
from clinical_asr.training import EpochReport, Evaluate, OnStep


def score_key(metrics: Mapping[str, float | None]) -> tuple[float, float]:
    """Smaller is better: KER first, then WER, both normalised; what is unknown is worst.

    >>> score_key({"ker": 0.1, "wer": 0.2}) < score_key({"ker": 0.1, "wer": 0.3}) < score_key({"wer": 0.0})
    True
    """
    ker, wer = metrics.get("ker"), metrics.get("wer")
    return (math.inf if ker is None else ker, math.inf if wer is None else wer)


class Keeper:
    """Watches one fit. Every epoch is seeded by (seed, epoch), so a resumed run repeats an uninterrupted one."""

    def __init__(self, config: TrainingConfig, batches: Batches, work: WorkFolder, steps_in_all: int) -> None:
        self.config, self.batches, self.work, self.steps_in_all = config, batches, work, steps_in_all
        self.evaluate: Evaluate | None = None
        self.on_step: OnStep | None = None
        self.reports: list[EpochReport] = []
        self.resumed: dict[str, Any] | None = None
        self.best_epoch = 0
        self.best_weights: dict[str, Any] | None = None
        self.steps, self.stopped_early = 0, False

    def resume(self, state: dict[str, Any] | None) -> None:
        """Take over the finished epochs of a killed run."""
        if state is not None:
            self.resumed = state
            self.reports = [EpochReport(**report) for report in state["reports"]]
            self.best_epoch, self.best_weights = state["best_epoch"], state["best"]
            self.steps = state["steps"]
            self.work.keep_best(self.best_weights)

    @property
    def patience_is_out(self) -> bool:
        """True once ``early_stop_patience`` epochs have passed without a better one."""
        patience = self.config.early_stop_patience
        return patience > 0 and len(self.reports) - self.best_epoch >= patience

    def start_fit(self, trainer: Any) -> None:
        """Give optimiser and schedule their state back."""
        if self.resumed is not None:
            trainer.optimizers[0].load_state_dict(self.resumed.pop("optimizer"))
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self.resumed.pop("scheduler"))

    def start_epoch(self, model: Any) -> None:
        """Seed everything that draws: shuffling, dropout, dither, SpecAugment."""
        self.epoch = len(self.reports) + 1
        self.batches.epoch = self.epoch
        seed_everything(model, self.config.seed, self.epoch)
        self.plan, self.seen, self.loss_sum, self.began = self.batches.plan(self.epoch), 0, 0.0, time.monotonic()

    def end_batch(self, loss: float, rows: int, number: int) -> None:
        """Count the rows; stop at once if the loss is not a number. Raises TrainingError."""
        where = f"epoch {self.epoch}, batch {number + 1}"
        if not math.isfinite(loss):
            mend = "lower learning_rate or use precision 32-true; nothing was written"
            raise TrainingError(f"the loss is {loss}", where, mend)
        if rows != len(self.plan[number]):
            raise TrainingError(f"{rows} rows came where {len(self.plan[number])} were declared", where)
        self.seen, self.loss_sum = self.seen + rows, self.loss_sum + loss
        if (number + 1) % self.config.accumulate_grad_batches == 0 or number + 1 == len(self.plan):
            self.steps += 1
            if self.on_step is not None:
                self.on_step(self.steps, self.steps_in_all, loss)

    def end_epoch(self, trainer: Any, model: Any) -> None:
        """Judge, keep the best, save the state. Raises TrainingError if rows are missing."""
        if self.seen != len(self.batches.examples):
            what = f"{self.seen} rows were trained, {len(self.batches.examples)} declared"
            raise TrainingError(what, where=f"epoch {self.epoch}", mend="nothing was written")
        seconds = time.monotonic() - self.began
        metrics = self._judge(model)
        report = EpochReport(self.epoch, self.loss_sum / len(self.plan), self.seen, seconds, metrics)
        self.reports.append(report)
        weights = weights_of(model)
        if self._is_best(metrics):
            self.best_epoch, self.best_weights = self.epoch, weights
            self.work.keep_best(weights)
        self._save(trainer, weights)
        if self.patience_is_out:
            trainer.should_stop = self.stopped_early = True

    def _judge(self, model: Any) -> dict[str, float | None]:
        if self.evaluate is None:
            return {}
        with left_as_it_was(model):
            return dict(self.evaluate(model))

    def _is_best(self, metrics: Mapping[str, float | None]) -> bool:
        if not self.best_epoch or self.evaluate is None:
            return True
        return score_key(metrics) < score_key(self.reports[self.best_epoch - 1].metrics)

    def _save(self, trainer: Any, weights: Any) -> None:
        if self.epoch == self.config.epochs:
            return
        state = {"epoch": self.epoch, "steps": self.steps, "best_epoch": self.best_epoch, "weights": weights}
        state |= {"reports": [asdict(report) for report in self.reports]}
        state |= {"optimizer": trainer.optimizers[0].state_dict()}
        self.work.save({**state, "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict()})


def weights_of(model: Any) -> dict[str, Any]:
    """A copy of all weights and buffers in main memory."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


@contextmanager
def left_as_it_was(model: Any) -> Iterator[None]:
    """Whatever happens inside, modes and trainable parameters are restored: transcription freezes parts of a model."""
    modes = [(module, module.training) for module in model.modules()]
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)


def seed_everything(model: Any, seed: int, epoch: int) -> None:
    """Torch (dropout, dither, GPU SpecAugment) and the private generators of SpecAugment's masks."""
    import torch

    torch.manual_seed(seed * 1000 + epoch)
    random.seed(seed * 1000 + epoch)
    for index, module in enumerate(model.modules()):
        if isinstance(getattr(module, "_rng", None), random.Random):
            module._rng.seed(f"{seed}/{epoch}/{index}")


def as_callback(keeper: Keeper) -> Any:
    """The keeper as a Lightning callback."""
    from lightning.pytorch import Callback

    class Hooks(Callback):  # type: ignore[misc]
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            keeper.start_fit(trainer)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            keeper.start_epoch(pl_module)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            keeper.end_batch(float(outputs["loss"]), len(batch[0]), batch_idx)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            keeper.end_epoch(trainer, pl_module)

    return Hooks()
