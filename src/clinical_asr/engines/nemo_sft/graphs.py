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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from clinical_asr.engines.nemo_sft.mels import Mels, fixed
from clinical_asr.engines.nemo_sft.recorder import Place, Recorder, padded, undisturbed, what_is_there_stays
from clinical_asr.engines.nemo_sft.sharing import normalised
from clinical_asr.records import Seconds

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
    stand_ins: list[Recorder] = [Graphs(model.encoder, batch_size, padded(frames), notes, seams)]
    if fixed(model.preprocessor):
        stand_ins.append(Mels(model.preprocessor, batch_size, notes))
    for stand_in in stand_ins:
        stand_in.module.forward, stand_in.beside = stand_in, stand_ins
    try:
        with what_is_there_stays():
            yield
    finally:
        for stand_in in stand_ins:
            del stand_in.module.forward
            stand_in.clear()


def obstacle(encoder: Any) -> str:
    """Why this encoder cannot be recorded; empty if it can."""
    from nemo.collections.asr.modules import ConformerEncoder
    from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling

    if type(encoder) is not ConformerEncoder or not isinstance(encoder.pre_encode, ConvSubsampling):
        return "the encoder is no plain Conformer"
    if any(encoder.layer_drop_probs) or len(encoder.att_context_size_all) > 1 or encoder.reduction_position is not None:
        return "the encoder takes another way from step to step"
    return ""


class Graphs(Recorder):
    """For an encoder: features (batch, mels, frames) -> (batch, width, frames / 8) and the frames of each row."""

    def __init__(self, encoder: Any, batch_size: int, longest: int, notes: list[str], seams: Seams) -> None:
        super().__init__(encoder, batch_size, notes)
        self.longest, self.seams = longest, seams

    def frames_of(self, signal: Any) -> int:
        """Frames that a batch is padded to."""
        return padded(signal.shape[2])

    def record(self, signal: Any, length: Any, frames: int) -> None:
        """The longest shape comes first: all others fit into its memory, where each would else ask for its own."""
        first = frames if self.recorded else max(frames, self.longest)
        for each in dict.fromkeys((first, frames)):
            with undisturbed():
                self.recorded[each] = self._record(signal, length, each)

    def _record(self, signal: Any, length: Any, frames: int) -> Recording:
        import torch

        torch.cuda.empty_cache()  # while a graph is recorded nothing can be given back, and a small card needs it
        wide = signal.new_zeros(*signal.shape[:2], frames)
        return Recording(self.module, self.forward, wide, length, self.reserved(), self.seams)


class Recording:
    """One shape: its inputs, its outputs and its graphs, one forward and one or more back, in memory all shapes share.

    They may share it since a backward pass always follows its forward pass before anything else is started.
    """

    def __init__(self, encoder: Any, forward: Any, signal: Any, length: Any, place: Place, seams: Seams) -> None:
        import torch

        self.encoder, self.signal, self.length = encoder, signal, length.clone()
        self.inside = torch.zeros((), dtype=torch.long, device=signal.device)
        self.handle = torch.zeros((), device=signal.device, requires_grad=True)
        self.forth, self.back = torch.cuda.CUDAGraph(), []
        kind = torch.get_autocast_dtype("cuda")
        torch.cuda.synchronize()
        recorded = functools.partial(torch.cuda.graph, **place, capture_error_mode="thread_local")
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
        inside = subsampled(self.encoder.pre_encode, signal.shape[2])
        self.inside.fill_(inside)
        return _replay().apply(self.handle, self, inside)


@functools.cache
def _replay() -> Any:
    """The graphs as an autograd function. What it is given is a handle that wants a gradient and gets none."""
    import torch

    class Replay(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, _handle: Any, recording: Recording, inside: int) -> Any:
            context.recording, context.inside = recording, inside
            recording.forth.replay()
            frames = recording.frames.clone()
            context.mark_non_differentiable(frames)
            return recording.output[:, :, :inside], frames

        @staticmethod
        def backward(context: Any, gradient: Any, _none: Any) -> Any:
            recording, inside = context.recording, context.inside
            recording.gradient[:, :, :inside].copy_(gradient)
            recording.gradient[:, :, inside:].zero_()
            for graph, then in recording.back:
                graph.replay()
                if then is not None:
                    then()
            return None, None, None

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
