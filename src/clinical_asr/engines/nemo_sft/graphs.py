"""The encoder's forward and backward pass as CUDA graphs: recorded once for each shape, then started by one call each.

A step of a Conformer is thousands of small kernels, and a GPU that waits for Python to start each of them is idle for
three quarters of a step (docs/lab-notes.md). A graph starts them all. Batches of a similar length share a graph: they
are padded to a multiple of ``FRAMES``, which changes nothing but the order of sums, since NeMo masks what is padded
and BatchNorm leaves out what is padded here (``counted``). Gradients are added where they lie (``buffers``), so that
optimiser, clipping and accumulation see no difference. The backward pass is cut where somebody waits for the gradients
of the upper layers.

Source of the method: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from clinical_asr.engines.nemo_sft.sharing import normalised
from clinical_asr.records import Seconds

FRAMES = 128
"""Of features, 10 ms each, to whose multiple a batch is padded: seven graphs serve clips of 2 to 10 s. Each takes half
a second to record; with half as many frames a step would take a millisecond less (docs/lab-notes.md)."""
WARM_UP = 3
"""Steps before the first recording: libraries make their plans."""
Then = Callable[[], None]
Seams = Mapping[int, Then]
"""Layers of the encoder, and what is done once the gradients of each and of all above it are found."""


@contextmanager
def graphed(model: Any, batch_size: int, longest: Seconds, notes: list[str], seams: Seams) -> Iterator[None]:
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
    graphs = Graphs(model.encoder, batch_size, padded(frames), notes, seams)
    model.encoder.forward = graphs
    try:
        with what_is_there_stays():
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

    def __init__(self, encoder: Any, batch_size: int, longest: int, notes: list[str], seams: Seams) -> None:
        self.encoder, self.batch_size, self.longest, self.notes = encoder, batch_size, longest, notes
        self.seams = seams
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
        wide = signal.new_zeros(*signal.shape[:2], frames)
        return Recording(self.encoder, self.forward, wide, length, self.pool, self.seams)

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
    """One shape: its inputs, its outputs and its graphs, one forward and one or more back, in memory all shapes share.

    They may share it since a backward pass always follows its forward pass before anything else is started.
    """

    def __init__(self, encoder: Any, forward: Any, signal: Any, length: Any, pool: Any, seams: Seams) -> None:
        import torch

        self.encoder, self.signal, self.length = encoder, signal, length.clone()
        self.inside = torch.zeros((), dtype=torch.long, device=signal.device)
        self.handle = torch.zeros((), device=signal.device, requires_grad=True)
        self.forth, self.back = torch.cuda.CUDAGraph(), []
        stream = torch.cuda.Stream()
        kind = torch.get_autocast_dtype("cuda")
        torch.cuda.synchronize()
        recorded = functools.partial(torch.cuda.graph, pool=pool, stream=stream, capture_error_mode="thread_local")
        with (
            recorded(self.forth),
            torch.autocast("cuda", dtype=kind, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False),
            counted(encoder, self.inside),
            parted(encoder, seams) as parts,
        ):
            output, frames = forward(audio_signal=self.signal, length=self.length)
        self.gradient = torch.empty_like(output)
        for end, gradient, then in way_back(parts, output, self.gradient):
            graph = torch.cuda.CUDAGraph()
            with recorded(graph):
                torch.autograd.backward((end,), (gradient,))
            self.back.append((graph, then))
        self.output, self.frames = output.detach(), frames.detach()

    def __call__(self, signal: Any, length: Any) -> Any:
        """The same as the encoder's own forward pass; its backward pass are the other graphs."""
        self.signal.zero_()
        self.signal[:, :, : signal.shape[2]].copy_(signal)
        self.length.copy_(length)
        self.inside.fill_(subsampled(self.encoder.pre_encode, signal.shape[2]))
        return _replay().apply(self.handle, self)


@functools.cache
def _replay() -> Any:
    """The graphs as an autograd function. What it is given is a handle that wants a gradient and gets none."""
    import torch

    class Replay(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, _handle: Any, recording: Recording) -> Any:
            context.recording = recording
            recording.forth.replay()
            frames = recording.frames.clone()
            context.mark_non_differentiable(frames)
            return recording.output.detach(), frames

        @staticmethod
        def backward(context: Any, gradient: Any, _none: Any) -> Any:
            context.recording.gradient.copy_(gradient)
            for graph, then in context.recording.back:
                graph.replay()
                if then is not None:
                    then()
            return None, None

    return Replay


@contextmanager
def parted(encoder: Any, seams: Seams) -> Iterator[list[tuple[Then, Any, Any]]]:
    """While open, a pass of the encoder falls into parts, whose gradients can be found one after the other.

    For each layer that begins a part a list comes to hold what is to be done then, the end of the part before, and what
    the layer took for it.
    """
    found: list[tuple[Then, Any, Any]] = []
    layers = {encoder.layers[index]: then for index, then in seams.items()}
    for layer, then in layers.items():
        layer.forward = functools.partial(_begins_a_part, found, then, layer.forward)
    try:
        yield found
    finally:
        for layer in layers:
            del layer.forward


def _begins_a_part(found: list[tuple[Then, Any, Any]], then: Then, forward: Any, *, x: Any, **rest: Any) -> Any:
    if x.requires_grad:  # not where all that lies below is frozen
        below, x = x, x.detach().requires_grad_()
        found.append((then, below, x))
    return forward(x=x, **rest)


def way_back(parts: list[tuple[Then, Any, Any]], output: Any, gradient: Any) -> Iterator[tuple[Any, Any, Then | None]]:
    """The end of each part, its gradient and what is to be done after it, from the last part to the first.

    Whoever asks for the next one must have gone back from the one before.
    """
    for then, below, taken in reversed(parts):
        yield output, gradient, then
        output, gradient = below, taken.grad
    yield output, gradient, None


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
