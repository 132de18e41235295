"""A transducer's two halves apart, so that a GPU encodes one batch while it searches another.

The encoder keeps a GPU busy; the greedy search behind it is a long row of small kernels that does not, and reading and
padding audio needs none. NeMo's ``transcribe`` does all of it in turn. Here each thread takes a batch through the same
public calls, and two locks let one batch at a time into each half: what is heard is what ``transcribe`` hears.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

THREADS = 4
"""Batches under way: one is encoded, one searched, two are read."""


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
        self._encoding, self._searching, self._own = threading.Lock(), threading.Lock(), threading.local()

    def __call__(self, samples: Sequence[NDArray[np.float32]]) -> list[Any]:
        """NeMo's answers to one batch of recordings at 16 kHz, in their order."""
        import torch

        signal, lengths = padded(samples)
        with torch.inference_mode(), self._aside():
            with self._encoding, self.precise(), undithered(self.model.preprocessor):
                self.model.eval()  # NeMo leaves an encoder that has transcribed in training mode
                device = next(self.model.parameters()).device
                given = {"input_signal": signal.to(device), "input_signal_length": lengths.to(device)}
                encoded, frames = self.model.forward(**given)[:2]
            with self._searching:
                return list(
                    self.model.decoding.rnnt_decoder_predictions_tensor(encoded, frames, return_hypotheses=False)
                )

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On a GPU each thread has a stream of its own, which begins where the model's last change has ended."""
        import torch

        device = next(self.model.parameters()).device
        if device.type != "cuda":
            yield
            return
        with torch.cuda.device(device):
            if not hasattr(self._own, "stream"):
                self._own.stream = torch.cuda.Stream()
            self._own.stream.wait_stream(torch.cuda.default_stream())
            with torch.cuda.stream(self._own.stream):
                yield


def padded(samples: Sequence[NDArray[np.float32]]) -> tuple[Any, Any]:
    """Recordings as one tensor (rows, longest), padded with silence, and their lengths.

    >>> signal, lengths = padded([np.ones(2, np.float32), np.ones(3, np.float32)])
    >>> signal.tolist(), lengths.tolist()
    ([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], [2, 3])
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    signal = pad_sequence([torch.from_numpy(each) for each in samples], batch_first=True)
    return signal, torch.tensor([len(each) for each in samples])


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
