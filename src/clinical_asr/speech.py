"""One recording as a base hears it: mono, 16 kHz, float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_asr import intake
from clinical_asr.errors import AudioError
from clinical_asr.records import SAMPLE_RATE
from clinical_asr.wav import require_length

SHORTEST = 0.05  # seconds; less is no speech, and shorter than a model's first frames


def read_speech(path: Path) -> NDArray[np.float32]:
    """Samples in [-1, 1], shape (samples,), at 16 kHz. Raises AudioError.

    Another rate is resampled (soxr, high quality). Two channels are refused rather than averaged: which one holds the
    speaker is not ours to guess.
    """
    import soundfile

    try:
        with intake.opened(path) as content, soundfile.SoundFile(content) as file:
            rate = file.samplerate
            if file.channels != 1:
                raise AudioError(f"has {file.channels} channels", str(path), "keep the one with the speaker")
            require_length(file.frames, rate, path)
            samples = file.read(dtype="float32")
    except FileNotFoundError:
        raise AudioError("no such file", where=str(path)) from None
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError) as error:
        raise AudioError(f"cannot be decoded ({' '.join(str(error).split())[-100:]})", where=str(path)) from None
    if len(samples) < SHORTEST * rate:
        raise AudioError(f"is {len(samples) / rate:.3f} s long: no speech", where=str(path))
    return _at_16_khz(samples, rate, path)


def _at_16_khz(samples: NDArray[np.float32], rate: int, path: Path) -> NDArray[np.float32]:
    if not np.isfinite(samples).all():
        raise AudioError("holds samples that are not numbers", where=str(path))
    if rate == SAMPLE_RATE:
        return np.ascontiguousarray(samples)
    import soxr

    return np.ascontiguousarray(soxr.resample(samples, rate, SAMPLE_RATE), dtype=np.float32)
