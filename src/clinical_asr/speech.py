"""One recording as a base hears it: mono, 16 kHz; int16 as it is mostly stored, or float32 in [-1, 1].

The two are one: int16 over 32768 is exact in float32. Half the bytes are read, held and copied while they are int16.
"""

from __future__ import annotations

import struct
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_asr import intake
from clinical_asr.errors import AudioError
from clinical_asr.records import SAMPLE_RATE
from clinical_asr.wav import LARGEST, Stored, chunks, plain_reason, require_length, scaled

SHORTEST = 0.05  # seconds; less is no speech, and shorter than a model's first frames
PLAIN = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
"""The format chunk of most speech: PCM, 1 channel, samples and bytes a second, bytes and bits a sample."""


def read_speech(path: Path) -> NDArray[np.float32]:
    """Samples in [-1, 1], shape (samples,), at 16 kHz. Raises AudioError.

    Another rate is resampled (soxr, high quality). Two channels are refused rather than averaged: which one holds the
    speaker is not ours to guess.
    """
    return scaled(read_stored(path))


def read_stored(path: Path) -> Stored:
    """As :func:`read_speech`, but int16, and not to be written to, where a WAV holds just that: mono, 16 kHz.

    Such a file is read by one call and not copied: a fifteenth of the time, and no callbacks from a decoder, which
    would stand in the way of threads that feed a GPU.
    """
    try:
        samples = _plain(intake.document(path, LARGEST))
    except (OSError, ValueError):
        samples = None  # the decoder's way says what is wrong
    if samples is None:
        return _decoded(path)
    require_length(len(samples), SAMPLE_RATE, path)
    _require_speech(len(samples), SAMPLE_RATE, path)
    return samples


def _plain(content: bytes) -> NDArray[np.int16] | None:
    """The samples of a WAV that ends with them and keeps every promise of its header; ``None`` for any other file.

    Whatever a decoder might take one way or the other is left to it: a file cut off, odd sizes, chunks after the data.
    """
    form = b""
    for name, at, size in islice(chunks(content), 3):
        if name == b"fmt " and not form:
            form = content[at : at + min(size, len(PLAIN) + 1)]
        elif name == b"data":
            whole = form == PLAIN and size > 0 and size % 2 == 0 and at + size == len(content)
            return np.frombuffer(content, "<i2", offset=at) if whole else None
        elif name != b"LIST" or not _signed(content[at : at + 12], size):
            return None
    return None


def _signed(start: bytes, size: int) -> bool:
    """True for a list that holds nothing but the name of a program, as ffmpeg writes it before the data."""
    return start[:8] == b"INFOISFT" and start[8:] == struct.pack("<I", max(0, size - 12)) and size % 2 == 0


def _decoded(path: Path) -> NDArray[np.float32]:
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
        raise AudioError(f"cannot be decoded ({plain_reason(error)})", where=str(path)) from None
    _require_speech(len(samples), rate, path)
    return _at_16_khz(samples, rate, path)


def _require_speech(samples: int, rate: int, path: Path) -> None:
    if samples < SHORTEST * rate:
        raise AudioError(f"is {samples / rate:.3f} s long: no speech", where=str(path))


def _at_16_khz(samples: NDArray[np.float32], rate: int, path: Path) -> NDArray[np.float32]:
    if not np.isfinite(samples).all():
        raise AudioError("holds samples that are not numbers", where=str(path))
    if rate == SAMPLE_RATE:
        return np.ascontiguousarray(samples)
    import soxr

    return np.ascontiguousarray(soxr.resample(samples, rate, SAMPLE_RATE), dtype=np.float32)
