"""One model under one change at a time, to find what a service does differently: batching, precision, audio."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from clinical_asr.errors import FlywheelError
from clinical_asr.recognition import Samples
from clinical_asr.records import SAMPLE_RATE
from clinical_asr.wav import scaled

SILENCE = 0.5  # seconds that a padding client adds at each end


class Decoder(Protocol):
    """A loaded model, as ``engines.nemo_asr.NemoTranscriber`` holds it."""

    model: Any
    batch_size: int

    def recognise(self, speech: Sequence[tuple[str, Samples]]) -> dict[str, str | FlywheelError]: ...


Speech = Mapping[str, Samples]


def variants(decoder: Decoder, baseline: str) -> dict[str, Callable[[Speech], dict[str, str]]]:
    """Name of the change -> what is heard under it, by row id; ``baseline`` names the one without a change."""
    found: dict[str, Callable[[Speech], dict[str, str]]] = {
        baseline: lambda speech: _heard(decoder, speech, decoder.batch_size),
        "batching: one at a time": lambda speech: _heard(decoder, speech, 1),
        "batching: 8 together": lambda speech: _heard(decoder, speech, 8),
        "precision: bf16": lambda speech: _in_bf16(decoder, speech),
    }
    for name, change in CONVERSIONS.items():
        found[f"audio conversion: {name}"] = _converted(decoder, change)
    return found


def _converted(decoder: Decoder, change: Callable[[Samples], Samples]) -> Callable[[Speech], dict[str, str]]:
    def hear(speech: Speech) -> dict[str, str]:
        return _heard(decoder, {row_id: change(samples) for row_id, samples in speech.items()}, decoder.batch_size)

    return hear


def _heard(decoder: Decoder, speech: Speech, size: int) -> dict[str, str]:
    rows = sorted(speech.items(), key=lambda row: (-len(row[1]), row[0]))
    heard: dict[str, str] = {}
    for start in range(0, len(rows), size):
        answers = decoder.recognise(rows[start : start + size])
        heard |= {row_id: text for row_id, text in answers.items() if isinstance(text, str)}
    return heard


def _in_bf16(decoder: Decoder, speech: Speech) -> dict[str, str]:
    """All of the model under bf16 autocast, as a service that simply halves its precision would run it."""
    import torch

    device = next(decoder.model.parameters()).device.type
    with torch.autocast(device, dtype=torch.bfloat16):
        return _heard(decoder, speech, decoder.batch_size)


def eight_kilohertz(samples: Samples) -> Samples:
    """Through a telephone's 8 kHz and back."""
    import soxr

    narrow = soxr.resample(samples, SAMPLE_RATE, SAMPLE_RATE // 2)
    return np.asarray(soxr.resample(narrow, SAMPLE_RATE // 2, SAMPLE_RATE), dtype=np.float32)


def pcm16(samples: Samples) -> Samples:
    """Rounded to 16-bit integers and back."""
    return np.asarray(np.clip(np.round(samples * 32768), -32768, 32767) / 32768, dtype=np.float32)


def mu_law(samples: Samples) -> Samples:
    """Through G.711 mu-law, 8 bits a sample, at 16 kHz."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV", subtype="ULAW")
    buffer.seek(0)
    return np.asarray(soundfile.read(buffer, dtype="float32")[0], dtype=np.float32)


def header_heard(samples: Samples) -> Samples:
    """The 44 bytes of a WAV header taken for 22 samples of sound, the commonest slip of a raw client."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    content = buffer.getvalue()
    return scaled(np.frombuffer(content[: len(content) // 2 * 2], dtype="<i2"))


def padded(samples: Samples) -> Samples:
    """Half a second of silence before and after."""
    return np.pad(samples, round(SILENCE * SAMPLE_RATE))


def loudest(samples: Samples) -> Samples:
    """Raised until the loudest sample is at full scale."""
    return np.asarray(samples / max(float(np.abs(samples).max()), 1e-9), dtype=np.float32)


CONVERSIONS: dict[str, Callable[[Samples], Samples]] = {
    "16-bit samples": pcm16,
    "8 kHz and back": eight_kilohertz,
    "mu-law": mu_law,
    "WAV header heard as sound": header_heard,
    "silence added": padded,
    "level raised": loudest,
}
