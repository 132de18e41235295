"""What is changed around a fit, and put back as it was after it: optimiser, masks, loss, and where the model lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from clinical_asr.engines.nemo_sft import kernels
from clinical_asr.engines.nemo_sft.graphs import graphed
from clinical_asr.engines.nemo_sft.sharing import Share
from clinical_asr.engines.nemo_sft.tdt_loss import device_agnostic_tdt_loss
from clinical_asr.engines.nemo_sft.unasked import unasked

if TYPE_CHECKING:
    from clinical_asr.engines.nemo_sft import Run


@contextmanager
def staying(model: Any) -> Iterator[None]:
    """Lightning takes a model to main memory when it is done; it would be taken back at once."""
    model.cpu = lambda: model
    try:
        yield
    finally:
        del model.cpu


@contextmanager
def unlogged(model: Any) -> Iterator[None]:
    """NeMo hands numbers of every step to Lightning's log, by way of the GPU, and nobody reads it."""
    model.log = model.log_dict = lambda *_told, **_how: None
    try:
        yield
    finally:
        del model.log, model.log_dict


def recorded(model: Any, run: Run, share: Share) -> AbstractContextManager[None]:
    """Steps as graphs, on a GPU. A frugal run computes layers twice, and where BatchNorm asks the other processes in
    mid-pass nothing can be recorded."""
    asks = run.world.size > 1 and not run.config.freeze_batch_norm
    if run.device != "cuda" or not run.graphs or run.config.frugal or asks:
        return nullcontext()
    rows = len(share.rows_of([0] * run.config.batch_size))
    return graphed(model, rows, max(example.duration for example in run.examples), run.notes, share.seams)


@contextmanager
def recipe_optimiser(model: Any, run: Run) -> Iterator[None]:
    """AdamW with warm-up and cosine, through NeMo's ``setup_optimization``; the base's own config comes back after."""
    from omegaconf import OmegaConf, open_dict

    config, before = run.config, model.cfg.get("optim")
    schedule = {"name": "CosineAnnealing", "warmup_steps": run.warmup_steps, "min_lr": config.min_learning_rate}
    optimiser = {
        "name": "adamw",
        "lr": config.learning_rate,
        "betas": list(config.betas),
        "weight_decay": config.weight_decay,
        "fused": True,
        "sched": {**schedule, "max_steps": run.steps},
    }
    with open_dict(model.cfg):
        model.cfg.optim = OmegaConf.create(optimiser)
    try:
        yield
    finally:
        with open_dict(model.cfg):
            model.cfg.optim = before


@contextmanager
def undropped(model: Any, run: Run) -> Iterator[None]:
    """Where nothing is to be drawn, dropout rests that is no module of its own: in recurrent networks, in attention.

    ``keep_still`` puts modules to sleep; a recurrent network in eval mode could not be trained by cuDNN.
    """
    from torch.nn import RNNBase

    modules = [] if run.config.distortion else list(model.modules())
    held = [(module, "dropout", module.dropout) for module in modules if isinstance(module, RNNBase)]
    rates = ((module, vars(module).get("dropout_rate")) for module in modules)
    held += [(module, "dropout_rate", rate) for module, rate in rates if isinstance(rate, float)]
    for module, name, _ in held:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, rate in held:
            setattr(module, name, rate)


@contextmanager
def unskipped(model: Any) -> Iterator[None]:
    """NeMo's ``skip_nan_grad`` throws gradients away, buffers and all; steps without numbers are left out by us."""
    before = vars(model).get("_skip_nan_grad")
    model._skip_nan_grad = False
    try:
        yield
    finally:
        model._skip_nan_grad = before


@contextmanager
def masks_of(model: Any, run: Run) -> Iterator[None]:
    """SpecAugment as the base has it, or none."""
    masks = getattr(model, "spec_augmentation", None)
    if not run.config.distortion:
        model.spec_augmentation = None
    try:
        yield
    finally:
        model.spec_augmentation = masks


@contextmanager
def loss_for(model: Any, run: Run) -> Iterator[None]:
    """NeMo's own loss on CUDA, asking it nothing if it is a TDT's; on CPU a transducer's joint is computed unfused and
    TDT gets the any-device loss."""
    if run.device == "cuda" or run.architecture.decoder == "ctc":
        kernels.remembered()
        with unasked(model) if run.device == "cuda" else nullcontext():
            yield
        return
    loss, joint, architecture = model.loss, model.joint, run.architecture
    fused, fused_loss, fused_wer, softmax = joint.fuse_loss_wer, joint.loss, joint.wer, joint.log_softmax
    joint.set_fuse_loss_wer(False)
    if architecture.decoder == "tdt":
        joint.log_softmax = False  # the loss normalises tokens and durations apart
        durations = list(architecture.durations)
        model.loss = device_agnostic_tdt_loss(
            blank=_blank(model), durations=durations, sigma=architecture.sigma, reduction=reduction(model)
        )
    try:
        yield
    finally:
        model.loss, joint.log_softmax = loss, softmax
        joint.set_fuse_loss_wer(fused, fused_loss, fused_wer)


def _blank(model: Any) -> int:
    return int(model.joint.num_classes_with_blank - model.joint.num_extra_outputs - 1)


def reduction(model: Any) -> str:
    return str(model.cfg.get("rnnt_reduction") or model.cfg.get("ctc_reduction") or "mean_batch")
