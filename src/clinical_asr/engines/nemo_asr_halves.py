"""A transducer's two halves apart, so that a GPU encodes one batch while it searches another.

The encoder keeps a GPU busy; the greedy search behind it is a long row of small kernels that does not, and reading and
padding audio needs none. NeMo's ``transcribe`` does all of it in turn. Here each thread takes a batch through the same
public calls, and two locks let one batch at a time into each half: what is heard is what ``transcribe`` hears.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import numpy as np

from clinical_asr.wav import FULL_SCALE, Stored, scaled

THREADS = 4
"""Batches under way: one is encoded, one searched, two are read."""
LARGEST_PINNED = 256 * 2**20
"""Bytes of a batch that is laid out in page-locked memory, which is kept."""


def in_halves(model: Any) -> bool:
    """True for a plain transducer: NeMo transcribes it by a forward pass and a search, and does nothing else."""
    from nemo.collections.asr.models import EncDecRNNTModel

    steps = ("_transcribe_forward", "_transcribe_output_processing", "forward")
    return all(_whose(step, type(model)) is EncDecRNNTModel for step in steps)


def _whose(name: str, kind: type) -> type | None:
    """The class that defines what ``kind`` calls by that name."""
    return next((each for each in kind.__mro__ if name in vars(each)), None)


class Halves:
    """Transcribes batches; to be called from several threads.

    ``precise`` is entered around each forward pass: it says in what precision the encoder computes.
    """

    def __init__(self, model: Any, precise: Callable[[], AbstractContextManager[None]]) -> None:
        self.model, self.precise = model, precise
        self.device = next(model.parameters()).device
        self._encoding, self._searching = Lane(self.device, -1), Lane(self.device, -2)  # short kernels go first
        self._room = Room(pinned=self.device.type == "cuda")

    def __call__(self, samples: Sequence[Stored]) -> list[Any]:
        """NeMo's answers to one batch of recordings at 16 kHz, in their order."""
        import torch

        signal, lengths = padded(samples, self._room)
        with torch.inference_mode():
            with self._encoding.entered(), self.precise(), undithered(self.model.preprocessor):
                self.model.eval()  # NeMo leaves an encoder that has transcribed in training mode
                there = on_device(signal, self.device), on_device(lengths, self.device)
                encoded, frames = self.model.forward(input_signal=there[0], input_signal_length=there[1])[:2]
                done = self._encoding.mark()
            with self._searching.entered(done):
                return self._searched(encoded, frames)

    def _searched(self, encoded: Any, frames: Any) -> list[Any]:
        """One batch's texts.

        NeMo captures its search as CUDA graphs at the first batch and at every longer or larger one, on a stream of
        its own and in thread-local mode: another thread may go on encoding. Memory may run out meanwhile: what is half
        made would be taken for whole at the next batch.
        """
        try:
            search = self.model.decoding.rnnt_decoder_predictions_tensor
            return list(search(encoded, frames, return_hypotheses=False))
        except Exception:
            renew_search(self.model)
            raise


class Lane:
    """What one batch at a time goes through: a stream of the GPU, or nothing but a lock where there is none."""

    def __init__(self, device: Any, priority: int) -> None:
        self._lock, self._stream = threading.Lock(), _stream(device, priority) if device.type == "cuda" else None

    @contextmanager
    def entered(self, after: Any = None) -> Iterator[None]:
        """Alone in it, once the GPU has come to the mark ``after``; without one, to the model's last change."""
        import torch

        with self._lock:
            if self._stream is None:
                yield
                return
            with torch.cuda.device(self._stream.device):
                self._stream.wait_event(after or torch.cuda.default_stream().record_event())
                with torch.cuda.stream(self._stream):
                    yield

    def mark(self) -> Any:
        """What has been started so far, for another lane to wait for."""
        return self._stream.record_event() if self._stream is not None else None


@cache
def _stream(device: Any, priority: int) -> Any:
    """The same one for all models: PyTorch has 32 of each priority and hands them out again and again, and a graph that
    was captured on one keeps using memory which belongs to that stream. Captures take them from priority 0."""
    import torch

    return torch.cuda.Stream(device, priority=priority)


def renew_search(model: Any) -> None:
    """Let NeMo search with CUDA graphs, captured anew at the next batch, if the base's own configuration allows it.

    NeMo forbids itself graphs while an epoch trains. One captured before keeps, besides its memory, what it has made
    of the weights as they were then: whoever may have changed them calls this. Without a GPU nothing happens.
    """
    if next(model.parameters()).device.type == "cuda":
        model.maybe_enable_cuda_graphs(force_reinit=True)


class Room(threading.local):
    """Where a thread lays out its batches, one after the other; page-locked if ``pinned``, which copies faster.

    PyTorch keeps page-locked memory as long as the process lives, for each size by itself: ever new batches would fill
    the main memory. Whoever uses a room again must be done with what was laid out in it before.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self.pinned = pinned
        self._held: Any = None

    def of(self, rows: int, longest: int, kind: Any) -> Any:
        """A tensor (rows, longest) of whatever was there before."""
        import torch

        size = rows * longest * kind.itemsize
        if size > LARGEST_PINNED:
            return torch.empty((rows, longest), dtype=kind)
        if self._held is None or self._held.numel() < size:
            self._held = torch.empty(size, dtype=torch.uint8, pin_memory=self.pinned)
        return self._held[:size].view(kind).view(rows, longest)


def padded(samples: Sequence[Stored], room: Room | None = None) -> tuple[Any, Any]:
    """Recordings as one tensor (rows, longest), padded with silence, and their lengths.

    int16 if all of them are, else float32 in [-1, 1]; laid out in ``room``, if there is one.

    >>> signal, lengths = padded([np.ones(2, np.float32), np.full(3, -32768, np.int16)])
    >>> signal.tolist(), lengths.tolist()
    ([[1.0, 1.0, 0.0], [-1.0, -1.0, -1.0]], [2, 3])
    """
    import torch

    room = room or Room()
    lengths = [len(each) for each in samples]
    stored = all(each.dtype == np.int16 for each in samples)
    signal = room.of(len(lengths), max(lengths), torch.int16 if stored else torch.float32)
    for row, each in zip(signal.numpy(), samples, strict=True):
        row[: len(each)] = each if stored else scaled(each)
        row[len(each) :] = 0
    return signal, torch.tensor(lengths, pin_memory=room.pinned)


def on_device(padded: Any, device: Any) -> Any:
    """What :func:`padded` gives, on ``device``: int16 crosses as it is and becomes float32 there, which is exact.

    Nothing waits for the copy: whoever laid it out leaves it alone until the batch's texts are there.
    """
    import torch

    there = padded.to(device, non_blocking=True)
    return there.to(torch.float32) / FULL_SCALE if there.dtype == torch.int16 else there


@contextmanager
def undithered(preprocessor: Any) -> Iterator[None]:
    """Features without the noise and the padding of training, as NeMo's ``transcribe`` wants them."""
    featurizer = getattr(preprocessor, "featurizer", None)
    before = {name: getattr(featurizer, name) for name in ("dither", "pad_to") if hasattr(featurizer, name)}
    for name in before:
        setattr(featurizer, name, 0)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(featurizer, name, value)
