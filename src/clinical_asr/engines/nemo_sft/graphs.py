"""The encoder's forward and backward pass as CUDA graphs: recorded once for each shape, then started by one call each.

A step of a Conformer is thousands of small kernels, and a GPU that waits for Python to start each of them is idle for
three quarters of a step (docs/lab-notes.md). A graph starts them all. Batches of a similar length share a graph: they
are padded to a multiple of ``FRAMES``, which changes nothing but the order of sums, since NeMo masks what is padded
and BatchNorm leaves out what is padded here (``counted``). Gradients are added where the eager steps have put them, so
that optimiser, clipping and accumulation see no difference.

Source of the method: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clinical_asr.engines.nemo_sft.sharing import normalised, zeroed_in_place
from clinical_asr.records import Seconds

FRAMES = 128
"""Of features, 10 ms each, to whose multiple a batch is padded: seven graphs serve clips of 2 to 10 s. Each takes half
a second to record; with half as many frames a step would take a millisecond less (docs/lab-notes.md)."""
WARM_UP = 3
"""Steps before the first recording: libraries make their plans and gradients get their places."""


@contextmanager
def graphed(model: Any, batch_size: int, longest: Seconds, notes: list[str]) -> Iterator[None]:
    """While open, full batches of ``batch_size`` rows run the encoder of ``model`` as graphs, where that is possible.

    ``longest`` is the duration of the longest row. A base that cannot be recorded trains as it always did, with the
    reason in ``notes``.
    """
    why = obstacle(model.encoder)
    if why:
        notes.append(f"steps are not recorded: {why}")
        yield
        return
    frames = 1 + int(longest / model.cfg.preprocessor.get("window_stride", 0.01))
    graphs = Graphs(model.encoder, batch_size, padded(frames), notes)
    model.encoder.forward = graphs
    try:
        # A graph adds to the gradients that it has met when it was recorded.
        with zeroed_in_place(model), what_is_there_stays():
            yield
    finally:
        del model.encoder.forward
        graphs.clear()


def obstacle(encoder: Any) -> str:
    """Why this encoder cannot be recorded; empty if it can."""
    from nemo.collections.asr.modules import ConformerEncoder
    from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling

    if type(encoder) is not ConformerEncoder or not isinstance(encoder.pre_encode, ConvSubsampling):
        return "the encoder is no plain Conformer"
    if any(encoder.layer_drop_probs) or len(encoder.att_context_size_all) > 1 or encoder.reduction_position is not None:
        return "the encoder takes another way from step to step"
    return ""


class Graphs:
    """Stands in for an encoder's ``forward``: records what it meets in training, lets everything else pass."""

    def __init__(self, encoder: Any, batch_size: int, longest: int, notes: list[str]) -> None:
        self.encoder, self.batch_size, self.longest, self.notes = encoder, batch_size, longest, notes
        self.forward = encoder.forward
        self.recorded: dict[int, Recording] = {}
        self.pool: Any = None
        self.eager = 0

    def __call__(self, *, audio_signal: Any, length: Any) -> Any:
        """Features (batch, mels, frames) and frames of each row -> (batch, width, frames / 8) and their frames."""
        import torch

        if not (self.encoder.training and torch.is_grad_enabled() and len(audio_signal) == self.batch_size):
            return self.forward(audio_signal=audio_signal, length=length)
        if self.eager < WARM_UP:
            self.eager += 1
            return self.forward(audio_signal=audio_signal, length=length)
        frames = padded(audio_signal.shape[2])
        if frames not in self.recorded:
            try:
                self._record_all(audio_signal, length, frames)
            except RuntimeError as error:
                self._give_up(error)
                return self.forward(audio_signal=audio_signal, length=length)
        return self.recorded[frames](audio_signal, length)

    def _record_all(self, signal: Any, length: Any, frames: int) -> None:
        """The longest shape comes first: all others fit into its memory, where each would else ask for its own."""
        first = frames if self.recorded else max(frames, self.longest)
        for each in dict.fromkeys((first, frames)):
            with undisturbed():
                self.recorded[each] = self._record(signal, length, each)

    def _record(self, signal: Any, length: Any, frames: int) -> Recording:
        import torch

        torch.cuda.empty_cache()  # while a graph is recorded nothing can be given back, and a small card needs it
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        for parameter in self.encoder.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return Recording(self.encoder, self.forward, signal.new_zeros(*signal.shape[:2], frames), length, self.pool)

    def _give_up(self, error: RuntimeError) -> None:
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            raise error
        draws = torch.cuda.default_generators[torch.cuda.current_device()]
        fresh = torch.Generator("cuda")  # a recording that breaks off leaves the old state waiting for its end
        fresh.set_state(draws.get_state())
        draws.graphsafe_set_state(fresh.graphsafe_get_state())
        self.notes.append(f"steps are not recorded: {' '.join(str(error).split())[:160]}")
        self.eager = -(10**9)

    def clear(self) -> None:
        """Give the graphs' memory back."""
        self.recorded.clear()
        self.pool = None


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage is collected while open: an old graph that is destroyed meanwhile would spoil a recording."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def what_is_there_stays() -> Iterator[None]:
    """While open, what lives already is not looked at by whoever collects garbage: a million objects of libraries."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def padded(frames: int) -> int:
    """Frames that a batch is padded to.

    >>> padded(1), padded(128), padded(129)
    (128, 128, 256)
    """
    return -(-frames // FRAMES) * FRAMES


class Recording:
    """One shape: its inputs, its outputs and two graphs, in memory that all shapes share.

    They may share it since a backward pass always follows its forward pass before anything else is started.
    """

    def __init__(self, encoder: Any, forward: Any, signal: Any, length: Any, pool: Any) -> None:
        import torch

        self.encoder, self.signal, self.length = encoder, signal, length.clone()
        self.inside = torch.zeros((), dtype=torch.long, device=signal.device)
        self.graphs = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.handle = torch.zeros((), device=signal.device, requires_grad=True)
        stream = torch.cuda.Stream()
        kind = torch.get_autocast_dtype("cuda")
        torch.cuda.synchronize()
        recorded = functools.partial(torch.cuda.graph, pool=pool, stream=stream, capture_error_mode="thread_local")
        with (
            recorded(self.graphs[0]),
            torch.autocast("cuda", dtype=kind, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False),
            counted(encoder, self.inside),
        ):
            output, frames = forward(audio_signal=self.signal, length=self.length)
        self.gradient = torch.empty_like(output)
        with recorded(self.graphs[1]):
            torch.autograd.backward((output,), (self.gradient,))
        self.output, self.frames = output.detach(), frames.detach()

    def __call__(self, signal: Any, length: Any) -> Any:
        """The same as the encoder's own forward pass; its backward pass is the other graph."""
        self.signal.zero_()
        self.signal[:, :, : signal.shape[2]].copy_(signal)
        self.length.copy_(length)
        self.inside.fill_(subsampled(self.encoder.pre_encode, signal.shape[2]))
        return _replay().apply(self.handle, self)


@functools.cache
def _replay() -> Any:
    """Both graphs as an autograd function. What it is given is a handle that wants a gradient and gets none."""
    import torch

    class Replay(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, _handle: Any, recording: Recording) -> Any:
            context.recording = recording
            recording.graphs[0].replay()
            frames = recording.frames.clone()
            context.mark_non_differentiable(frames)
            return recording.output.detach(), frames

        @staticmethod
        def backward(context: Any, gradient: Any, _none: Any) -> Any:
            context.recording.gradient.copy_(gradient)
            context.recording.graphs[1].replay()
            return None, None

    return Replay


def subsampled(convolutions: Any, frames: int) -> int:
    """Frames that leave the encoder's convolutions for so many that enter."""
    import torch
    from nemo.collections.asr.parts.submodules.subsampling import calc_length

    padding = convolutions._left_padding + convolutions._right_padding
    kernel, stride, times = convolutions._kernel_size, convolutions._stride, convolutions._sampling_num
    return int(calc_length(torch.tensor(frames), padding, kernel, stride, convolutions._ceil_mode, times))


@contextmanager
def counted(encoder: Any, inside: Any) -> Iterator[None]:
    """While open, BatchNorm in training takes its statistics from the first ``inside`` frames, a tensor of one number.

    What is padded so that a graph can serve would otherwise weigh on them.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    live = [module for module in encoder.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in live:
        norm.forward = functools.partial(normalised, norm, inside=inside)
    try:
        yield
    finally:
        for norm in live:
            del norm.forward
