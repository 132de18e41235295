"""The features of a batch as a CUDA graph, beside those of the encoder (``graphs``).

NeMo looks at every batch's lengths before it normalises, which a GPU can only answer when it has done everything it was
given before; where its preprocessor is recorded it does not look. Nothing else is lost: rows too short for features are
refused when they are read.
"""

from __future__ import annotations

from typing import Any

from clinical_asr.engines.nemo_sft.recorder import Recorder, padded, undisturbed


def fixed(preprocessor: Any) -> bool:
    """Whether this preprocessor does the same for every batch: mel features, normalised by row or not at all."""
    from nemo.collections.asr.parts.preprocessing.features import FilterbankFeatures

    mels: Any = getattr(preprocessor, "featurizer", None)
    if type(mels) is not FilterbankFeatures or mels.exact_pad or mels.nb_augmentation_prob:
        return False
    return mels.normalize in ("per_feature", None, False) and mels.frame_splicing == 1 and not mels.pad_to


class Mels(Recorder):
    """For a preprocessor: samples (batch, samples) -> (batch, mels, frames) and the frames of each row."""

    def frames_of(self, signal: Any) -> int:
        """Frames that the encoder's graphs take."""
        return padded(frames(self.module, signal.shape[1]))

    def record(self, signal: Any, length: Any, frames: int) -> None:
        """Have a recording for this shape. Raises RuntimeError if something cannot be recorded."""
        samples = frames * self.module.featurizer.hop_length - 1
        with undisturbed():
            self.recorded[frames] = Recording(self, signal.new_zeros(len(signal), samples), length)


class Recording:
    """One shape: its inputs, its outputs and its graph."""

    def __init__(self, mels: Mels, signal: Any, length: Any) -> None:
        import torch

        self.module, self.signal, self.length = mels.module, signal, length.clone()
        with torch.random.fork_rng(devices=[signal.device]):  # a plan of the Fourier transform cannot be recorded
            mels.forward(input_signal=signal.clone(), length=length)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, **mels.reserved(), capture_error_mode="thread_local"):
            self.output, self.frames = mels.forward(input_signal=self.signal, length=self.length)

    def __call__(self, signal: Any, length: Any) -> Any:
        """The same as the preprocessor's own forward pass, but for the draws of dither."""
        self.signal.zero_()
        self.signal[:, : signal.shape[1]].copy_(signal)
        self.length.copy_(length)
        self.graph.replay()
        return self.output[:, :, : frames(self.module, signal.shape[1])], self.frames.clone()


def frames(preprocessor: Any, samples: int) -> int:
    """Frames of so many samples, the last one included, which NeMo masks."""
    return 1 + samples // int(preprocessor.featurizer.hop_length)
