"""What stands in for a module of the model while it trains: a CUDA graph for each shape that it meets."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from clinical_asr.out_of_memory import ran_out

FRAMES = 128
"""Of features, 10 ms each, to whose multiple a batch is padded: seven graphs serve clips of 2 to 10 s. Each takes half
a second to record; with half as many frames a step would take a millisecond less (docs/lab-notes.md)."""
Place = Mapping[str, Any]
"""Memory pool and stream of recordings."""
WARM_UP = 3
"""Steps before the first recording: libraries make their plans."""


class Recorder:
    """Stands in for a module's ``forward``: records what it meets in training, lets everything else pass."""

    def __init__(self, module: Any, batch_size: int, notes: list[str]) -> None:
        self.module, self.batch_size, self.notes = module, batch_size, notes
        self.beside = [self]
        self.forward = module.forward
        self.recorded: dict[int, Any] = {}
        self.place: Place = {}
        self.eager = 0

    def __call__(self, **inputs: Any) -> Any:
        """A signal of full batches, the last axis time, and the length of each row, by the module's names for them."""
        import torch

        signal, length = inputs.values()
        if not (self.module.training and torch.is_grad_enabled() and len(signal) == self.batch_size):
            return self.forward(**inputs)
        if self.eager < WARM_UP:
            self.eager += 1
            return self.forward(**inputs)
        frames = self.frames_of(signal)
        if frames not in self.recorded:
            try:
                self.record(signal, length, frames)
            except RuntimeError as error:
                self._give_up(error)
                return self.forward(**inputs)
        return self.recorded[frames](signal, length)

    def frames_of(self, signal: Any) -> int:
        """The shape that serves for such a signal."""
        raise NotImplementedError

    def record(self, signal: Any, length: Any, frames: int) -> None:
        """Have a recording for this shape. Raises RuntimeError if something cannot be recorded."""
        raise NotImplementedError

    def reserved(self) -> Place:
        """Where all shapes are recorded: memory of a pool is reused on the stream it was taken on, and on no other."""
        import torch

        if not self.place:
            self.place = {"pool": torch.cuda.graph_pool_handle(), "stream": torch.cuda.Stream()}
        return self.place

    def _give_up(self, error: RuntimeError) -> None:
        """Raises ``error`` again if memory ran out: half a batch that is recorded beats a whole one that is not."""
        import torch

        draws = torch.cuda.default_generators[torch.cuda.current_device()]
        fresh = torch.Generator("cuda")  # a recording that breaks off leaves the old state waiting for its end
        fresh.set_state(draws.get_state())
        draws.graphsafe_set_state(fresh.graphsafe_get_state())
        for recorder in self.beside:  # what was recorded before draws from the old state
            recorder.clear()
        if ran_out(error):
            raise error
        what = type(self.module).__name__
        self.notes.append(f"steps are not recorded: {what}: {' '.join(str(error).split())[:160]}")
        self.eager = -(10**9)

    def clear(self) -> None:
        """Give the graphs' memory back."""
        self.recorded.clear()
        self.place = {}


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
