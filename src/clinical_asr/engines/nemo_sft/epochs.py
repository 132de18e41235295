"""What happens around the epochs of a Lightning fit: seeding, counting, judging, keeping, stopping."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from clinical_asr.config import TrainingConfig
from clinical_asr.engines.nemo_sft.anchor import Anchor
from clinical_asr.engines.nemo_sft.batches import Batches
from clinical_asr.engines.nemo_sft.later import Later
from clinical_asr.engines.nemo_sft.sentinels import Collapse, Gradients
from clinical_asr.engines.nemo_sft.store import WorkFolder
from clinical_asr.errors import TrainingError
from clinical_asr.training import Candidate, EpochReport, Evaluate, Margins, OnStep, as_good, promise, rank


class Keeper:
    """Watches one fit. Every epoch is seeded by (seed, epoch), so a resumed run repeats an uninterrupted one."""

    def __init__(self, config: TrainingConfig, batches: Batches, work: WorkFolder, steps_in_all: int) -> None:
        self.config, self.batches, self.work, self.steps_in_all = config, batches, work, steps_in_all
        self.evaluate: Evaluate | None = None
        self.on_step: OnStep | None = None
        self.collapse: Collapse | None = None
        self.gradients = Gradients()
        self.anchor: Anchor | None = None
        self.share, self.world = batches.share, batches.share.world
        self.margins = Margins()
        self.reports: list[EpochReport] = []
        self.resumed: dict[str, Any] | None = None
        self.best_epoch = 0
        self.best_weights: dict[str, Any] | None = None
        self.steps, self.stopped_early = 0, False
        self._told: tuple[int, Later, int, int] | None = None

    def resume(self, state: dict[str, Any] | None) -> None:
        """Take over the finished epochs of a killed run."""
        if state is not None:
            self.resumed = state
            self.reports = [EpochReport(**report) for report in state["reports"]]
            self.best_epoch, self.best_weights = state["best_epoch"], state["best"] if self.world.leads else None
            self.steps = state["steps"]
            self.work.keep_best(self.best_weights)

    @property
    def patience_is_out(self) -> bool:
        """True once ``early_stop_patience`` epochs have passed without a better one."""
        patience = self.config.early_stop_patience
        return patience > 0 and len(self.reports) - self.best_epoch >= patience

    def start_fit(self, trainer: Any) -> None:
        """Give optimiser and schedule their state back."""
        self.world.obeys()
        if self.resumed is not None:
            trainer.optimizers[0].load_state_dict(self.resumed.pop("optimizer"))
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self.resumed.pop("scheduler"))

    def start_epoch(self, model: Any) -> None:
        """Seed everything that draws: shuffling, dropout, dither, SpecAugment."""
        keep_still(model, self.config)
        self.share.lay()
        self.epoch = len(self.reports) + 1
        self.batches.epoch = self.epoch
        seed_everything(model, self.config.seed, self.epoch, self.world.rank)
        self.plan, self.seen, self.loss_sum, self.began = self.batches.plan(self.epoch), 0, 0.0, time.monotonic()

    def start_batch(self, number: int) -> None:
        """Weigh the rows to come; tell the anchor which of them are general speech."""
        self.share.take(self.plan[number], self._ends_a_step(number))
        if self.anchor is not None:
            self.anchor.rows = self.share.fed(self.plan[number])

    def before_step(self, optimizer: Any) -> None:
        """Sum the gradients of the processes and clip them; leave out a step where they are no numbers.

        Raises TrainingError if they never are.
        """
        self.share.add_up()
        where = f"epoch {self.epoch}, step {self.steps + 1}"
        self.gradients.check(optimizer, where, self.config.gradient_clip)

    def end_batch(self, model: Any, loss: Any, rows: int, number: int) -> None:
        """Count the rows; stop if the last batch's loss was not a number, or if the model fell silent.

        The loss, a tensor, is looked at when the next batch is under way: a GPU need not wait for that. Raises
        TrainingError.
        """
        self._settle()
        strangers = len(self.share.fed(self.plan[number])) - len(self.share.mine)
        stepped = self._ends_a_step(number)
        self.steps += stepped
        whole = loss * self.config.accumulate_grad_batches  # Lightning has divided it
        self._told = (number, Later(whole), rows - strangers, self.steps if stepped else 0)
        if stepped and self.steps == 1:
            self._settle()  # on all processes, though only the first one listens
            self._listen(model)

    def _ends_a_step(self, number: int) -> bool:
        """Whether the optimiser takes a step after this batch of the epoch."""
        return (number + 1) % self.config.accumulate_grad_batches == 0 or number + 1 == len(self.plan)

    def _listen(self, model: Any) -> None:
        """Raises TrainingError if the model fell silent."""
        if self.collapse is not None:
            with left_as_it_was(model):
                self.collapse.check(model)

    def _settle(self) -> None:
        """What the last batch came to: its rows, its loss, its step."""
        if self._told is None:
            return
        number, told, rows, step = self._told
        self._told = None
        where = f"epoch {self.epoch}, batch {number + 1}"
        loss, came = self.world.totals(float(told), rows)
        if not math.isfinite(loss):
            mend = "lower learning_rate or use precision 32-true; nothing was written"
            raise TrainingError(f"the loss is {loss}", where, mend)
        if came != len(self.plan[number]):
            raise TrainingError(f"{came:g} rows came where {len(self.plan[number])} were declared", where)
        self.seen, self.loss_sum = self.seen + len(self.plan[number]), self.loss_sum + loss
        if step and self.on_step is not None:
            self.on_step(step, self.steps_in_all, loss)

    def end_epoch(self, trainer: Any, model: Any) -> None:
        """Judge, keep the best, save the state. Raises TrainingError if rows are missing."""
        self._settle()
        self.gradients.settle()
        if self.seen != self.batches.rows:
            what = f"{self.seen} rows were trained, {self.batches.rows} declared"
            raise TrainingError(what, where=f"epoch {self.epoch}", mend="nothing was written")
        seconds = time.monotonic() - self.began
        metrics = self._judge(model)
        report = EpochReport(self.epoch, self.loss_sum / len(self.plan), self.seen, seconds, metrics)
        self.reports.append(report)
        if self._is_best(metrics):
            self._keep_best(model)
        self._save(trainer, model)
        if self.patience_is_out:
            trainer.should_stop = self.stopped_early = True

    def _keep_best(self, model: Any) -> None:
        """The last epoch's weights need no copy: the model itself holds them."""
        self.best_epoch = self.epoch
        if self.world.leads and self.epoch < self.config.epochs:
            self.best_weights = weights_of(model, self.best_weights)
            self.work.keep_best(self.best_weights)

    def _judge(self, model: Any) -> dict[str, float | None]:
        if self.evaluate is None:
            return {}
        with left_as_it_was(model):
            return dict(self.evaluate(model))

    def _is_best(self, metrics: Mapping[str, float | None]) -> bool:
        if not self.best_epoch or self.evaluate is None:
            return True
        set_back = min(self.config.factors) < 1
        if set_back and not self.config.early_stop_patience:
            return as_good(metrics, [report.metrics for report in self.reports[:-1]])
        key = promise if set_back else partial(rank, margins=self.margins)
        best = Candidate(self.best_epoch, 1.0, self.reports[self.best_epoch - 1].metrics)
        return key(Candidate(self.epoch, 1.0, dict(metrics))) < key(best)

    def _save(self, trainer: Any, model: Any) -> None:
        if self.epoch == self.config.epochs or not self.world.leads:
            return
        state: dict[str, Any] = {"epoch": self.epoch, "steps": self.steps, "best_epoch": self.best_epoch}
        state |= {"weights": dict(model.state_dict()), "reports": [asdict(report) for report in self.reports]}
        state |= {"optimizer": trainer.optimizers[0].state_dict()}
        self.work.save({**state, "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict()})


def weights_of(model: Any, into: dict[str, Any] | None = None) -> dict[str, Any]:
    """A copy of all weights and buffers in main memory; ``into`` is an older one that nobody needs any more.

    Fresh memory costs four times what the copying does (docs/lab-notes.md).
    """
    found = model.state_dict()
    if not into:
        return {name: value.detach().to("cpu", copy=True) for name, value in found.items()}
    for name, value in found.items():
        into[name].copy_(value)
    return into


def keep_still(model: Any, config: TrainingConfig) -> None:
    """Put into eval mode what the recipe does not let move: BatchNorm's statistics, dropout."""
    from torch.nn import Dropout
    from torch.nn.modules.batchnorm import _BatchNorm

    still = ((_BatchNorm,) if config.freeze_batch_norm else ()) + (() if config.distortion else (Dropout,))
    for module in model.modules():
        if isinstance(module, still):
            module.eval()


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


def seed_everything(model: Any, seed: int, epoch: int, rank: int = 0) -> None:
    """Torch (dropout, dither, GPU SpecAugment) and the private generators of SpecAugment's masks.

    Each process of a run draws its own: the same masks for all their rows would be fewer masks.
    """
    import torch

    own = seed * 1000 + epoch + rank * 2**32
    torch.manual_seed(own)
    random.seed(own)
    for index, module in enumerate(model.modules()):
        if isinstance(getattr(module, "_rng", None), random.Random):
            module._rng.seed(f"{seed}/{epoch}/{index}" + (f"/{rank}" if rank else ""))


def as_callback(keeper: Any) -> Any:
    """The :class:`Keeper`, or what stands in for it before the first step, as a Lightning callback."""
    from lightning.pytorch import Callback

    class Hooks(Callback):  # type: ignore[misc]
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            keeper.start_fit(trainer)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            keeper.start_epoch(pl_module)

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            keeper.start_batch(batch_idx)

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            keeper.before_step(optimizer)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            keeper.end_batch(pl_module, outputs["loss"], len(batch[0]), batch_idx)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            keeper.end_epoch(trainer, pl_module)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            for optimizer in trainer.optimizers:
                optimizer.state.clear()  # twice the size of the model, and nobody's any more

    return Hooks()
