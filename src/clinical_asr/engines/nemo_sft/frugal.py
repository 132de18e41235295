"""The same training in less GPU memory: layers are computed again instead of remembered, moments take a byte each.

Of a 0.6 B base in training, AdamW's two moments take as much memory as weights and gradients together, and what the
backward pass needs of each layer takes the rest. In a frugal run the moments are kept in blocks of 8 bits (Dettmers et
al. 2022, https://arxiv.org/abs/2110.02861, as torchao has them), and of each of the encoder's layers only the input is
kept: the rest is computed again when the backward pass comes to it (Chen et al. 2016,
https://arxiv.org/abs/1604.06174).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from clinical_asr.errors import MissingDependency

if TYPE_CHECKING:
    from clinical_asr.config import TrainingConfig
    from clinical_asr.engines.nemo_sft import Run

OPTIMISER = "frugal_adamw"
"""What it is called among NeMo's optimisers while a frugal run lasts."""


def require(config: TrainingConfig) -> None:
    """Import what a frugal recipe needs, so that a state with its moments can be read. Raises MissingDependency."""
    if config.frugal:
        _torchao()


@contextmanager
def saving(model: Any, run: Run) -> Iterator[None]:
    """While open, ``model`` trains in less memory, if its recipe says so; to be opened within the recipe's optimiser.

    The losses are those of an ordinary run but for the rounding of the moments. What was done stands in ``run.notes``.
    Raises MissingDependency.
    """
    if not run.config.frugal:
        yield
        return
    layers = list(getattr(model.encoder, "layers", ()))
    with recomputed(layers), small_moments(model, why_eager(run.device)) as told:
        again = f"{len(layers)} layers of the encoder are computed again in the backward pass, no step is recorded"
        note = f"frugal: {again}; {told}"
        run.notes += [note] if note not in run.notes else []  # a batch that is halved starts anew
        yield


# --- activations ------------------------------------------------------------------------------------------------------


@contextmanager
def recomputed(layers: list[Any]) -> Iterator[None]:
    """While open, each layer remembers its input alone for the backward pass, and computes the rest again there."""
    for layer in layers:
        layer.forward = functools.partial(_again, layer, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _again(layer: Any, forward: Any, *values: Any, **named: Any) -> Any:
    """The layer's own forward pass, with the same draws of dropout when it is repeated.

    Autocast would keep every weight it has cast until the whole pass is over: here it casts and forgets.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    if not (layer.training and torch.is_grad_enabled()):
        return forward(*values, **named)
    kind = next(layer.parameters()).device.type
    cast, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    passes = functools.partial(_passes, layer)
    with torch.autocast(kind, dtype=dtype, enabled=cast, cache_enabled=False):
        return checkpoint(forward, *values, use_reentrant=False, context_fn=passes, **named)


def _passes(layer: Any) -> tuple[Any, Any]:
    """What surrounds the first pass and the repeated one."""
    return nullcontext(), seen_once(layer)


@contextmanager
def seen_once(layer: Any) -> Iterator[None]:
    """While open, BatchNorm moves copies of its running statistics: a batch that is computed twice counts once."""
    from torch.nn.modules.batchnorm import _BatchNorm

    moved = [module for module in layer.modules() if isinstance(module, _BatchNorm) and module.training]
    kept = [(norm, {**norm._buffers}) for norm in moved]
    for norm, buffers in kept:
        norm._buffers.update({name: value if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in kept:
            norm._buffers.update(buffers)


# --- the optimiser ----------------------------------------------------------------------------------------------------


@contextmanager
def small_moments(model: Any, why: str) -> Iterator[str]:
    """While open, the optimiser of ``model`` is AdamW with moments of 8 bits; what that is, in words.

    The recipe's AdamW must stand in the model's config, which keeps all its settings. ``why`` is not empty where the
    step cannot be compiled. Raises MissingDependency.
    """
    from nemo.core.optim.optimizers import AVAILABLE_OPTIMIZERS
    from omegaconf import open_dict

    AVAILABLE_OPTIMIZERS[OPTIMISER] = adamw(compiled=not why)
    with open_dict(model.cfg):
        model.cfg.optim.name = OPTIMISER
        model.cfg.optim.pop("fused", None)  # a setting of PyTorch's own alone
    try:
        yield f"moments of 8 bits, the optimiser's step {f'not compiled ({why})' if why else 'compiled'}"
    finally:
        del AVAILABLE_OPTIMIZERS[OPTIMISER]


@functools.cache
def adamw(*, compiled: bool) -> Any:
    """The class of torchao's AdamW of 8 bits, whose update is compiled at most once for each shape of a parameter.

    torchao's own loop asks for the compiled update anew for each parameter of each step, which takes longer than the
    update. Raises MissingDependency.
    """
    import torch
    from torch._dynamo.utils import disable_cache_limit

    update = _torchao().single_param_adam
    update = torch.compile(update, fullgraph=True, dynamic=False) if compiled else update

    class Frugal(_torchao().AdamW8bit):  # type: ignore[misc]
        def step(self, closure: Any = None) -> Any:
            with torch.enable_grad():
                loss = closure() if closure is not None else None
            if not float(getattr(self, "found_inf", 0.0)):  # what PyTorch's own optimisers look at on the device
                with torch.no_grad(), disable_cache_limit():  # one for each shape, and a model has only so many
                    self._move_all()
            return loss

        def _move_all(self) -> None:
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._move(parameter, group)

        def _move(self, parameter: Any, group: dict[str, Any]) -> None:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"], state["exp_avg_sq"] = (
                    self._new_buffer(parameter, signed) for signed in (True, False)
                )
            state["step"] += 1
            settings = (group["lr"], *group["betas"], group["weight_decay"], group["eps"], True, False)
            moments = (state["step"], state["exp_avg"], state["exp_avg_sq"], None)
            update(parameter.detach(), parameter.grad, *moments, *settings)

    return Frugal


def _torchao() -> Any:
    """torchao's room of Adam; its tensors may then be read from a state. Raises MissingDependency."""
    logging.disable(logging.WARNING)  # it tells of kernels that this machine's PyTorch cannot load and nobody asks for
    try:
        from torchao.optim import adam
    except ImportError:
        raise MissingDependency("torchao", "frugal") from None
    finally:
        logging.disable(logging.NOTSET)
    return adam


def why_eager(device: str) -> str:
    """Why torchao's update cannot be compiled on ``device``; empty if it can, found out with the smallest program.

    Compiling needs Triton and a C compiler. Uncompiled, an update is some sixty small kernels instead of one or two.
    On a CPU it is not worth the wait: a minute for the shapes of the tiny test model.
    """
    if device != "cuda":
        return "no GPU"
    import torch

    try:
        torch.compile(_one_more)(torch.zeros(8, device=device))
    except Exception as error:  # whatever compilers raise
        return " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return ""


def _one_more(values: Any) -> Any:
    return values + 1
