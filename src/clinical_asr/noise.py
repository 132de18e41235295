"""Background noise at a stated signal-to-noise ratio: how loud speech is, what noise is made of, how both are mixed.

The ratio is taken over *active* speech: frames of 20 ms whose power lies within 35 dB of the loudest frame. Pauses
would otherwise pull the speech level down, and a slow speaker would get less noise than a quick one (the reason for the
active level of ITU-T P.56, of which this is the plain, gated form). Speech and noise are measured over the same frames.

Noise kinds, drawn per clip from its seed: ``white`` (flat), ``pink`` (-3 dB per octave) and ``babble`` (six bands of
speech-shaped noise, each with its own syllable-rate envelope). Real ward noise is not among them.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_asr.errors import AudioError, ConfigError
from clinical_asr.records import SAMPLE_RATE, Decibels

Samples = NDArray[np.float32]
Spectrum = NDArray[np.floating[Any]]
Shape = Callable[[Spectrum], Spectrum]
"""Frequencies in Hz to relative amplitudes."""

NOISE_KINDS = ("white", "pink", "babble")
FRAME = SAMPLE_RATE // 50  # 20 ms
ACTIVE_RANGE: Decibels = 35.0  # below the loudest frame; quieter frames are pauses
PEAK_LIMIT = 10 ** (-1 / 20)  # -1 dBFS: speech and noise together are turned down to it
TALKERS = 6  # of the babble
SYLLABLE_RATE = 4.0  # Hz, where the envelope of running speech has most of its energy
FFT_BLOCK = 4096  # a length with a large prime factor takes ten times as long
_LEVEL = re.compile(r"snr_(-?[0-9]{1,2}(?:\.[0-9]+)?)db")


def snr_of(noise_level: str) -> Decibels | None:
    """The ratio that a noise level states; ``None`` for clean speech. Raises ConfigError.

    >>> snr_of("snr_15db"), snr_of("clean")
    (15.0, None)
    """
    if noise_level == "clean":
        return None
    found = _LEVEL.fullmatch(noise_level)
    if not found:
        mend = "write clean or snr_<n>db, like snr_15db"
        raise ConfigError(f"{noise_level[:40]!r} is no noise level", "noise_level", mend)
    return float(found[1])


def decks(levels: Sequence[str], dealer: random.Random) -> Iterator[str]:
    """Noise levels without end: all of them in random order, then all again; even counts without a pattern."""
    while True:
        yield from dealer.sample(levels, len(levels))


def active_mask(samples: Samples) -> NDArray[np.bool_]:
    """One flag per sample: True where its 20 ms frame is active speech. All False for digital silence."""
    frames = -(-samples.size // FRAME)
    padded = np.zeros(frames * FRAME, dtype=np.float64)
    padded[: samples.size] = samples
    power = np.square(padded).reshape(frames, FRAME).mean(axis=1)
    active = power > power.max(initial=0.0) * 10 ** (-ACTIVE_RANGE / 10)
    return np.repeat(active, FRAME)[: samples.size]


def decibels(samples: Samples) -> Decibels:
    """Mean power in dB relative to full scale; -inf for silence or nothing."""
    power = float(np.square(samples, dtype=np.float64).mean()) if samples.size else 0.0
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")


@dataclass(frozen=True)
class Mixture:
    """A clip as int16 samples, its noise kind, and the ratio measured on those very samples (``None`` when clean)."""

    samples: NDArray[np.int16]
    noise_kind: str = ""
    measured_snr: Decibels | None = None


def mix(speech: Samples, noise_level: str, seed: str) -> Mixture:
    """Speech with noise at the stated ratio, peak at most -1 dBFS, as PCM16. The same arguments give the same samples.

    Raises:
        ConfigError: the noise level cannot be read.
        AudioError: the speech is silent, so that no ratio exists.
    """
    snr = snr_of(noise_level)
    if snr is None:
        return Mixture(_quantised(speech * _gain(speech)))
    active = active_mask(speech)
    if not active.any():
        raise AudioError("the speech is silent: it has no signal-to-noise ratio", mend="check the speech engine")
    generator = np.random.default_rng(int(hashlib.sha256(seed.encode()).hexdigest()[:16], 16))
    kind = str(generator.choice(NOISE_KINDS))
    noise = make_noise(kind, speech.size, generator)
    noise *= 10 ** ((decibels(speech[active]) - snr - decibels(noise[active])) / 20)
    gain = _gain(speech + noise)
    samples = _quantised((speech + noise) * gain)
    residual = samples / np.float32(32768) - speech * gain
    return Mixture(samples, kind, decibels(speech[active] * gain) - decibels(residual[active]))


def _gain(samples: Samples) -> float:
    """What keeps the peak at -1 dBFS; quiet audio is left as loud as it is."""
    peak = float(np.abs(samples).max(initial=0.0))
    return min(1.0, PEAK_LIMIT / peak) if peak else 1.0


def _quantised(samples: Samples) -> NDArray[np.int16]:
    return np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)


def make_noise(kind: str, size: int, generator: np.random.Generator) -> Samples:
    """``size`` samples of a noise kind, at no particular level."""
    if kind == "babble":
        talkers = [_shaped(_speech_shape, size, generator) * _envelope(size, generator) for _ in range(TALKERS)]
        babble: Samples = np.sum(talkers, axis=0, dtype=np.float32)
        return babble
    return _shaped(_pink_shape if kind == "pink" else np.ones_like, size, generator)


def _shaped(shape: Shape, size: int, generator: np.random.Generator) -> Samples:
    """Gaussian noise whose amplitude spectrum follows ``shape(frequency in Hz)``."""
    length = -(-size // FFT_BLOCK) * FFT_BLOCK
    spectrum = np.fft.rfft(generator.standard_normal(length))
    spectrum *= shape(np.fft.rfftfreq(length, 1 / SAMPLE_RATE))
    return np.fft.irfft(spectrum, length)[:size].astype(np.float32)


def _pink_shape(hertz: Spectrum) -> Spectrum:
    return np.maximum(hertz, 20.0) ** -0.5


def _speech_shape(hertz: Spectrum) -> Spectrum:
    """Rough long-term spectrum of speech: flat from 100 to 500 Hz, then -9 dB per octave (after Byrne et al. 1994)."""
    return np.minimum(1.0, hertz / 100) * np.maximum(hertz / 500, 1.0) ** -1.5


def _envelope(size: int, generator: np.random.Generator) -> Samples:
    """A loudness between 0 and about 1 that rises and falls at the rate of syllables."""
    points = max(4, int(size / SAMPLE_RATE * SYLLABLE_RATE * 2) + 2)
    heights = np.abs(generator.standard_normal(points))
    return np.interp(np.linspace(0, points - 1, size), np.arange(points), heights).astype(np.float32)
