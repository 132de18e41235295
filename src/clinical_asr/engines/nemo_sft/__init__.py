"""Full-model SFT of a NeMo CTC, RNN-T or TDT base, in this process, through NeMo's public API and Lightning."""

from __future__ import annotations

import gc
import math
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr.bases import adopt, base_digest, inspect_base
from clinical_asr.config import TrainingConfig, halved
from clinical_asr.engines.nemo_sft import machine
from clinical_asr.engines.nemo_sft.anchor import Anchor, anchored, frozen_parts
from clinical_asr.engines.nemo_sft.batches import Batches, tokenize
from clinical_asr.engines.nemo_sft.epochs import Keeper, as_callback, weights_of
from clinical_asr.engines.nemo_sft.frugal import require, saving
from clinical_asr.engines.nemo_sft.mixing import Start, candidates
from clinical_asr.engines.nemo_sft.ranks import ALONE, World
from clinical_asr.engines.nemo_sft.rehearsal import Card, LongestRows, TooLarge, rehearse
from clinical_asr.engines.nemo_sft.sentinels import Collapse, learnt_by_heart
from clinical_asr.engines.nemo_sft.sharing import Share, gathered, weighted, whole_batch_norm
from clinical_asr.engines.nemo_sft.store import WorkFolder
from clinical_asr.engines.nemo_sft.surroundings import (
    loss_for,
    masks_of,
    recipe_optimiser,
    recorded,
    reduction,
    staying,
    undropped,
    unlogged,
    unskipped,
)
from clinical_asr.engines.nemo_sft.tdt_loss import DESCRIPTION
from clinical_asr.errors import ConfigError, TrainingError
from clinical_asr.nemo_file import Architecture, import_nemo, restore
from clinical_asr.out_of_memory import ran_out
from clinical_asr.records import Seconds
from clinical_asr.training import Candidate, Evaluate, Example, Margins, OnStep, TrainingJob, TrainingReport, strongest

__all__ = ["NO_MEMORY", "train"]

HandOver = Callable[[Any, Path], None]
"""(the model as it was written, the file): for whoever would read it next."""

NO_MEMORY = "a GPU's memory is too small for its share"
"""Said where several processes train, so that whoever started them can start them with a smaller batch."""
ANEW = "started anew: the unfinished run that lay here had another base, recipe or device, other rows or margins"
"""Rows that only choose count as well."""


@dataclass
class Run:
    """One fit: what was asked, what it became on this machine, and what should be known of it."""

    job: TrainingJob
    architecture: Architecture
    device: str
    config: TrainingConfig
    """Effective: batch, accumulation and precision as they really are."""
    world: World
    card: Card | None = None
    """Whose memory is tried with the longest rows before the first step; ``None`` to find out by training."""
    graphs: bool = True
    """Whether a GPU may record the encoder's steps."""
    margins: Margins = field(default_factory=Margins)
    """What a candidate may cost on the rows that choose."""
    notes: list[str] = field(default_factory=list)

    @property
    def examples(self) -> tuple[Example, ...]:
        return self.job.examples + self.job.more_replay

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(len(self.job.examples) / self.config.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.batches_per_epoch / self.config.accumulate_grad_batches)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.config.epochs

    @property
    def warmup_steps(self) -> int:
        """At least one step is left to fall."""
        by_epochs = round(self.config.warmup_epochs * self.steps_per_epoch)
        return min(by_epochs or self.config.warmup_steps, self.steps - 1)


def train(
    job: TrainingJob,
    evaluate: Evaluate | None = None,
    on_step: OnStep | None = None,
    *,
    state_worth: Seconds = 20.0,
    world: World = ALONE,
    card: Card | None = None,
    graphs: bool = True,
    hand_over: HandOver | None = None,
) -> TrainingReport:
    """Fine-tune ``job.base`` on ``job.examples`` and write ``job.output`` and its ``.sha256``.

    The best epoch by normalised (KER, WER) is written, at the best factor of the recipe; without ``evaluate`` the last
    epoch at the first factor. The same call after a kill goes on after the last saved epoch (epochs are saved once
    they are worth ``state_worth`` seconds). Raises ModelError for a base the method refuses, TrainingError when rows,
    losses or memory do not allow to go on. With a ``card`` the longest rows are tried on it first, so that a batch that
    is too large for it is halved before the first step. On a GPU the encoder's steps are recorded as ``graphs``.
    The model is given to ``hand_over`` once it is written.

    In a ``world`` of several processes each calls this with the same job and trains its share of every batch; the
    first one calls ``evaluate`` and ``on_step`` and writes, and all return its report.
    """
    began = time.monotonic()
    run = _prepare(job, world)
    run.card, run.graphs = card, graphs
    with world.joined(run.device):
        model: Any = world.loosened(restore(job.base, run.device))
        start = Start.of(model, run.config, evaluate) if world.leads else Start()
        run.margins = job.margins.on(start.metrics)
        targets = tokenize(model, run.examples)
        while True:
            try:
                keeper = _fit(run, model, targets, (evaluate, on_step), state_worth)
                break
            except MemoryError as error:
                too_much = _alone(error)
            model = None
            _halve_batch(run, too_much)
            model = restore(job.base, run.device)
        report = world.from_first(lambda: _finish(run, model, (start, keeper), evaluate, began))
    if hand_over is not None:
        hand_over(model, job.output)
    return report


def _finish(
    run: Run, model: Any, ends: tuple[Start, Keeper], evaluate: Evaluate | None, began: Seconds
) -> TrainingReport:
    """Choose among the candidates between both ends, write what is chosen, tell how it went."""
    job, (start, keeper) = run.job, ends
    _use_best(model, keeper)
    found = candidates(model, start, run.config, keeper, evaluate)
    chosen = _use(model, start, keeper, found, run.margins)
    digest = _save(model, job.output)
    keeper.work.remove()
    run.notes += keeper.gradients.note() + learnt_by_heart(keeper.reports, keeper.best_epoch)
    report = _report(run, keeper, digest, time.monotonic() - began)
    return replace(report, base_metrics=start.metrics, candidates=tuple(found), chosen=chosen)


def _prepare(job: TrainingJob, world: World) -> Run:
    architecture = inspect_base(job.base)
    if not job.examples:
        raise TrainingError("there are no rows to train on", mend="check the split and the ledger")
    if job.config.batch_size < world.size:
        mend = "raise it (and lower accumulate_grad_batches), or use fewer processes"
        raise ConfigError(f"of {job.config.batch_size} cannot be shared by {world.size} processes", "batch_size", mend)
    import_nemo()
    require(job.config)
    device = machine.device()
    precision = machine.precision(job.config.precision, device)
    run = Run(job, architecture, device, msgspec.structs.replace(job.config, precision=precision), world)
    if world.size > 1:
        run.notes.append(f"each batch of {job.config.batch_size} shared by {world.size} processes")
    if precision != job.config.precision:
        run.notes.append(f"precision {precision} instead of {job.config.precision}: this device computes no bf16")
    if run.warmup_steps != job.config.warmup_steps:
        run.notes.append(f"warm-up of {run.warmup_steps} of {run.steps} steps")
    return run


def _fit(
    run: Run, model: Any, targets: list[list[int]], watch: tuple[Evaluate | None, OnStep | None], worth: Seconds
) -> Keeper:
    """Run the remaining epochs. Raises MemoryError if the GPU is too small for the batch."""
    replay = sum(example.replayed for example in run.job.examples)
    share = Share(run.world, targets, reduction(model))
    batches = Batches(run.examples, targets, run.config.batch_size, run.config.seed, replay, share)
    keeper = Keeper(run.config, batches, WorkFolder(run.job.output, _fingerprint(run), worth), run.steps)
    evaluate, on_step = watch
    keeper.evaluate = run.world.shared(evaluate)
    keeper.on_step = on_step if run.world.leads else None
    keeper.margins = run.margins
    if run.config.match_weight:
        anchor = Anchor(model, run.config.match_weight, batches, run.config.precision)  # the model still is the base
        keeper.anchor = anchor
    keeper.resume(keeper.work.load())
    run.world.agree(len(keeper.reports), "number of finished epochs")
    if keeper.resumed is not None:
        model.load_state_dict(keeper.resumed.pop("weights"))
        run.notes.append(f"resumed after epoch {len(keeper.reports)}")
    elif keeper.work.of_another and ANEW not in run.notes:
        run.notes.append(ANEW)
    remaining = run.config.epochs - len(keeper.reports)
    if not keeper.reports and run.world.leads:
        keeper.collapse = Collapse(model, run.job.examples)
    if remaining > 0 and not keeper.patience_is_out:
        with (
            recipe_optimiser(model, run),
            saving(model, run),
            masks_of(model, run),
            undropped(model, run),
            unskipped(model),
            loss_for(model, run),
            frozen_parts(model, run.config),
            anchored(model, keeper.anchor),
            gathered(model, share, weights=run.device == "cuda"),
            weighted(model, share),
            whole_batch_norm(model, share),
            tempfile.TemporaryDirectory() as scratch,
        ):
            if run.card is not None:
                fit = partial(_lightning_fit, run, model, epochs=1, scratch=scratch)
                run.notes.append(rehearse(keeper, model, fit, run.card))
            _lightning_fit(run, model, keeper, remaining, scratch)
    return keeper


def _lightning_fit(run: Run, model: Any, keeper: Keeper | LongestRows, epochs: int, scratch: str) -> None:
    from lightning.pytorch import Trainer

    trainer = Trainer(
        max_epochs=epochs,
        accelerator="gpu" if run.device == "cuda" else "cpu",
        **run.world.trainer(run.device),
        precision=run.config.precision,
        accumulate_grad_batches=run.config.accumulate_grad_batches,
        callbacks=[as_callback(keeper)],
        default_root_dir=scratch,
        log_every_n_steps=10**9,  # NeMo decodes a training batch at each of these; our evaluation does that better
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    model.set_trainer(trainer)
    try:
        model.train()
        with recorded(model, run, keeper.share), unlogged(model), staying(model):
            trainer.fit(model, train_dataloaders=keeper.batches)
    except Exception as error:
        if not ran_out(error):
            raise
        raise MemoryError(str(error)) from None
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        # Lightning makes an exit of Ctrl-C, having switched Ctrl-C off.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None
    finally:
        model.set_trainer(None)
        model.zero_grad(set_to_none=True)
        model.to(run.device)  # where Lightning put it down after a fault


def _fingerprint(run: Run) -> dict[str, Any]:
    """What an unfinished run must share with this one to be continued; in how many parts a batch comes is not of it.

    Who chooses is of it: epochs that were judged on different rows cannot be compared.
    """
    job = run.job
    rows = {"rows": run.examples, "validation": job.validation, "selection guard": job.selection_guard}
    told = {name: "\n".join(f"{example.id}\x1f{example.text}" for example in of) for name, of in rows.items()}
    whole = run.job.config.batch_size * run.job.config.accumulate_grad_batches
    recipe = msgspec.structs.replace(run.job.config, batch_size=whole, accumulate_grad_batches=1)
    config = msgspec.json.encode(recipe, order="deterministic").decode() + run.config.precision
    moments = "of pieces" if run.device == "cuda" else "of parameters"
    how = {"config": config, "margins": asdict(job.margins), "device": run.device, "moments": moments}
    return {"base": base_digest(job.base), **told, **how}


def _alone(error: MemoryError) -> MemoryError:
    """Without what it has passed through: those frames hold all that a GPU had in its memory."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def _halve_batch(run: Run, error: MemoryError) -> None:
    """Same effective batch in less memory. Raises TrainingError if a single row is too much.

    Of several processes one alone cannot start anew while the others wait for it: whoever started them does.
    """
    import torch

    gc.collect()  # Lightning's trainer and its loops hold each other, and the optimiser's moments
    torch.cuda.empty_cache()
    if run.world.size > 1:
        mend = "halve batch_size and double accumulate_grad_batches: the updates stay the same"
        raise TrainingError(NO_MEMORY, f"batch of {run.config.batch_size} on {run.world.size} GPUs", mend) from error
    if run.config.batch_size == 1:
        mend = "use a larger GPU, or a lower max_duration"
        mend = mend if run.config.frugal else f"set frugal: true in the recipe, {mend}"
        raise TrainingError("the GPU's memory is too small for one row", mend=mend) from error
    run.config = halved(run.config)
    smaller, batches = run.config.batch_size, run.config.accumulate_grad_batches
    why = str(error) if isinstance(error, TooLarge) else "out of GPU memory"
    run.notes.append(f"{why}: batch halved to {smaller}, gradients accumulated over {batches} batches")


def _use(model: Any, start: Start, keeper: Keeper, found: list[Candidate], margins: Margins) -> Candidate | None:
    """Load what is chosen among the candidates, or the first factor where nobody judges."""
    chosen = strongest(found, margins) if found else None
    factor = chosen.factor if chosen else keeper.config.factors[0]
    if factor != 1.0:
        model.load_state_dict(start.mixed(weights_of(model), factor))
    return chosen


def _use_best(model: Any, keeper: Keeper) -> None:
    if keeper.best_weights is not None and keeper.best_epoch != len(keeper.reports):
        model.load_state_dict(keeper.best_weights)
    model.eval()


def _save(model: Any, output: Path) -> str:
    """Write the ``.nemo`` under a temporary name, its digest, then the name itself: present means complete."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.stem}.part.nemo")  # NeMo insists on the ending
    try:
        model.save_to(str(part))
        return adopt(part, output)
    finally:
        part.unlink(missing_ok=True)


def _report(run: Run, keeper: Keeper, digest: str, seconds: Seconds) -> TrainingReport:
    resumed = keeper.resumed["epoch"] if keeper.resumed is not None else 0
    return TrainingReport(
        digest=digest,
        epochs=tuple(keeper.reports),
        best_epoch=keeper.best_epoch,
        stopped_early=len(keeper.reports) < run.config.epochs,
        steps=keeper.steps,
        batch_size=run.config.batch_size,
        accumulate_grad_batches=run.config.accumulate_grad_batches,
        warmup_steps=run.warmup_steps,
        precision=run.config.precision,
        loss=_loss_in_words(run),
        seconds=round(seconds, 3),
        peak_memory_mb=machine.peak_memory_mb(run.device),
        resumed_after_epoch=resumed,
        notes=tuple(run.notes),
        versions=machine.versions(),
        hardware=machine.hardware(run.device, run.world.size),
    )


def _loss_in_words(run: Run) -> str:
    kind = run.architecture.decoder
    if kind == "tdt" and run.device == "cpu":
        return DESCRIPTION
    return f"{kind.upper()}, NeMo's own"
