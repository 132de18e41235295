"""Joint and TDT loss on a GPU that is asked nothing meanwhile: NeMo's kernels, started one after the other.

NeMo cuts every lattice to its longest row, and a GPU can only say which that is when it has done everything it was
given before: the encoder's forward pass, above all. So nothing of joint, loss and backward pass is started while the
encoder is at work, a quarter of a step (docs/lab-notes.md). Its kernels need no cut: they look at each row's own
length. Padding costs what it costs, which is little where batches are sorted by length.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unasked(model: Any) -> Iterator[None]:
    """While open, joint and TDT loss of ``model`` wait for nothing while it is trained on a GPU.

    A loss that is another program than NeMo's own for a GPU stays as it is, and so does all of a model without one.
    """
    from nemo.collections.asr.parts.numba.rnnt_loss.rnnt_pytorch import TDTLossNumba

    loss: Any = getattr(model, "loss", None)
    joint: Any = getattr(model, "joint", None)
    if type(getattr(loss, "_loss", None)) is not TDTLossNumba:
        yield
        return
    costs = loss._loss.loss
    joint.forward = functools.partial(_by_parts, joint, joint.forward)
    loss.forward, loss._loss.loss = functools.partial(_of_rows, loss), cost_of_rows()
    try:
        yield
    finally:
        del joint.forward, loss.forward
        loss._loss.loss = costs


def _by_parts(joint: Any, own: Any, **inputs: Any) -> Any:
    """The joint's forward pass in training, ``fused_batch_size`` rows at a time where joint and loss are fused."""
    import torch

    decoded = inputs.get("decoder_outputs")
    if not (joint.fuse_loss_wer and torch.is_grad_enabled()) or decoded is None or inputs.get("compute_wer"):
        return own(**inputs)
    loss, size = joint.loss, joint.fused_batch_size
    names = ("encoder_lengths", "transcripts", "transcript_lengths")
    outputs = (inputs["encoder_outputs"].transpose(1, 2), decoded.transpose(1, 2))
    parts = zip(*(each.split(size) for each in (*outputs, *map(inputs.__getitem__, names))), strict=True)
    costs = [_costs(loss, joint.joint(heard, said), *rest) for heard, said, *rest in parts]
    return loss.reduce(torch.cat(costs), inputs["transcript_lengths"]), None, None, None


def _of_rows(loss: Any, *, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
    """NeMo's ``RNNTLoss``: ``log_probs`` (batch, frames, tokens + 1, classes), ``targets`` (batch, tokens)."""
    costs = _costs(loss, log_probs, input_lengths, targets, target_lengths)
    return costs if loss.reduction is None else loss.reduce(costs, target_lengths)


def _costs(loss: Any, lattice: Any, frames: Any, targets: Any, tokens: Any) -> Any:
    """The loss of each row, shape (batch,)."""
    asked = {"labels": targets.long().contiguous(), "act_lens": frames.long(), "label_lens": tokens.long()}
    return loss._loss(acts=lattice.float(), **asked)


@functools.cache
def cost_of_rows() -> Any:
    """NeMo's autograd function, with a forward pass that neither checks lengths nor waits for the end."""
    import torch
    from nemo.collections.asr.parts.numba.rnnt_loss.rnnt_pytorch import _TDTNumba

    class Unasked(_TDTNumba):  # type: ignore[misc]
        @staticmethod
        def forward(
            context: Any, acts: Any, spans: Any, labels: Any, frames: Any, tokens: Any, blank: int,
            durations: list[int], _reduction: str, fastemit: float, clamp: float, sigma: float, omega: float,
        ) -> Any:  # fmt: skip
            gradients = torch.zeros_like(acts), torch.zeros_like(spans)
            costs = acts.new_zeros(len(acts))
            kernels = _kernels(acts, durations, blank, fastemit, clamp, sigma, omega)
            flat = [each.view(-1) for each in (acts, spans, *gradients)]
            kernels.cost_and_grad(*(each.detach() for each in flat), costs, labels, tokens, frames)
            context.save_for_backward(*gradients)
            return costs

    return Unasked.apply


def _kernels(
    acts: Any, durations: list[int], blank: int, fastemit: float, clamp: float, sigma: float, omega: float
) -> Any:
    """What starts NeMo's kernels for a lattice (batch, frames, tokens + 1, vocabulary + 1), on PyTorch's stream."""
    import torch
    from nemo.collections.asr.parts.numba.rnnt_loss.utils.cuda_utils.gpu_rnnt import GPUTDT
    from numba import cuda

    batch, frames, tokens, classes = acts.shape
    stream = cuda.external_stream(torch.cuda.current_stream(acts.device).cuda_stream)
    stream.synchronize = lambda: None
    cuda.select_device(acts.device.index)  # type: ignore[no-untyped-call]
    return GPUTDT(
        minibatch=batch, maxT=frames, maxU=tokens, alphabet_size=classes, blank=blank, num_durations=len(durations),
        workspace=acts.new_zeros(batch * (3 * frames * tokens + 2)), tdt_workspace=_there(acts.device, *durations),
        fastemit_lambda=fastemit, clamp=clamp, sigma=sigma, omega=omega, num_threads=1, stream=stream,
    )  # fmt: skip


@functools.cache
def _there(device: Any, *numbers: int) -> Any:
    """Numbers on a device, sent there once."""
    import torch

    return torch.tensor(numbers, device=device)
