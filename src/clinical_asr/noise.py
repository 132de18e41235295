"""Background noise: what it is made of, and mixing it with speech at a stated signal-to-noise ratio.

The ratio is taken over *active* speech (see :mod:`clinical_asr.loudness`), speech and noise over the same frames, on
what the recogniser gets: behind the telephone line, if there is one.

Noise kinds, drawn per clip from its seed: ``white`` (flat), ``pink`` (-3 dB per octave), ``babble`` (other sentences in
other voices; without any, six bands of speech-shaped noise, each with a syllable-rate envelope), ``hum`` (mains and
ventilation) and ``ward`` (monitor beeps and an alarm over ventilation). All of it is made here: no recording of a ward.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_asr import conditions, rooms, telephone
from clinical_asr.errors import AudioError
from clinical_asr.loudness import Samples, active_mask, decibels, normalised, peak_gain
from clinical_asr.records import SAMPLE_RATE, Decibels
from clinical_asr.ward import hum, ward

Spectrum = NDArray[np.floating[Any]]
Shape = Callable[[Spectrum], Spectrum]
"""Frequencies in Hz to relative amplitudes."""

NOISE_KINDS = ("white", "pink", "babble", "hum", "ward")
TALKERS = 6  # of the babble
SYLLABLE_RATE = 4.0  # Hz, where the envelope of running speech has most of its energy
FFT_BLOCK = 4096  # a length with a large prime factor takes ten times as long


def snr_of(noise_level: str) -> Decibels | None:
    """The ratio that a noise level states; ``None`` if it states none. Raises ConfigError.

    >>> snr_of("snr_15db"), snr_of("clean"), snr_of("telephone+snr_10db")
    (15.0, None, 10.0)
    """
    return conditions.parse(noise_level).snr


def decks(levels: Sequence[str], dealer: random.Random) -> Iterator[str]:
    """Noise levels without end: all of them in random order, then all again; even counts without a pattern."""
    while True:
        yield from dealer.sample(levels, len(levels))


@dataclass(frozen=True)
class Mixture:
    """A clip as int16 samples, its noise kind, and the ratio measured on those very samples (``None``: no noise)."""

    samples: NDArray[np.int16]
    noise_kind: str = ""
    measured_snr: Decibels | None = None


def mix(speech: Samples, noise_level: str, seed: str, talkers: Sequence[Samples] = ()) -> Mixture:
    """Speech under that condition, at one level, peak at most -1 dBFS, as PCM16. Same arguments, same samples.

    In the order of nature: room, level, background noise, telephone line. ``talkers`` are what babble is made of.

    Raises:
        ConfigError: the noise level cannot be read.
        AudioError: the speech is silent, so that neither level nor ratio exists.
    """
    condition = conditions.parse(noise_level)
    generator = np.random.default_rng(int(hashlib.sha256(seed.encode()).hexdigest()[:16], 16))
    if not np.abs(speech).max(initial=0.0) > 0:
        raise AudioError("the speech is silent: it has no level", mend="check the speech engine")
    through = telephone.narrow if condition.telephone else _unchanged
    if condition.room is not None:
        speech = rooms.reverberated(speech, condition.room, generator)
    speech = normalised(through(speech))
    if condition.snr is None:
        return Mixture(_quantised(_lined(speech * peak_gain(speech), condition.telephone)))
    kind = str(generator.choice(NOISE_KINDS))
    noise = through(make_noise(kind, speech.size, generator, talkers))
    return _mixed(speech, noise, kind, condition.snr, condition.telephone)


def _mixed(speech: Samples, noise: Samples, kind: str, snr: Decibels, line: bool) -> Mixture:
    """Noise brought to its ratio and added; the ratio measured on the finished samples."""
    active = active_mask(speech)
    noise = noise * np.float32(10 ** ((decibels(speech[active]) - snr - decibels(noise[active])) / 20))
    gain = peak_gain(speech + noise)
    samples = _quantised(_lined((speech + noise) * gain, line))
    residual = samples / np.float32(32768) - speech * gain
    return Mixture(samples, kind, decibels(speech[active] * gain) - decibels(residual[active]))


def _unchanged(samples: Samples) -> Samples:
    return samples


def _lined(samples: Samples, line: bool) -> Samples:
    return telephone.companded(samples) if line else samples


def _quantised(samples: Samples) -> NDArray[np.int16]:
    return np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)


def make_noise(kind: str, size: int, generator: np.random.Generator, talkers: Sequence[Samples] = ()) -> Samples:
    """``size`` samples of a noise kind, at no particular level."""
    if kind == "babble":
        return babble(size, generator, talkers) if talkers else _murmur(size, generator)
    if kind in ("hum", "ward"):
        air = _shaped(_air_shape, size, generator)
        return hum(air, generator) if kind == "hum" else ward(air, generator)
    return _shaped(_pink_shape if kind == "pink" else np.ones_like, size, generator)


def babble(size: int, generator: np.random.Generator, talkers: Sequence[Samples]) -> Samples:
    """Six talkers at once, equally loud, each going round its own sentences from another place."""
    order = generator.permutation(len(talkers))
    crowd = np.zeros(size, dtype=np.float32)
    for talker in range(min(TALKERS, len(talkers))):
        said = np.concatenate([normalised(talkers[index]) for index in order[talker::TALKERS]])
        start = int(generator.integers(said.size))
        crowd += np.resize(np.roll(said, -start), size)
    return crowd


def _murmur(size: int, generator: np.random.Generator) -> Samples:
    bands = [_shaped(_speech_shape, size, generator) * _envelope(size, generator) for _ in range(TALKERS)]
    summed: Samples = np.sum(bands, axis=0, dtype=np.float32)
    return summed


def _shaped(shape: Shape, size: int, generator: np.random.Generator) -> Samples:
    """Gaussian noise whose amplitude spectrum follows ``shape(frequency in Hz)``."""
    length = -(-size // FFT_BLOCK) * FFT_BLOCK
    spectrum = np.fft.rfft(generator.standard_normal(length))
    spectrum *= shape(np.fft.rfftfreq(length, 1 / SAMPLE_RATE))
    return np.fft.irfft(spectrum, length)[:size].astype(np.float32)


def _pink_shape(hertz: Spectrum) -> Spectrum:
    return np.maximum(hertz, 20.0) ** -0.5


def _air_shape(hertz: Spectrum) -> Spectrum:
    """Ventilation: -6 dB per octave above 60 Hz, nothing below 20 Hz."""
    return (hertz > 20.0) / np.maximum(hertz, 60.0)


def _speech_shape(hertz: Spectrum) -> Spectrum:
    """Rough long-term spectrum of speech: flat from 100 to 500 Hz, then -9 dB per octave (after Byrne et al. 1994)."""
    return np.minimum(1.0, hertz / 100) * np.maximum(hertz / 500, 1.0) ** -1.5


def _envelope(size: int, generator: np.random.Generator) -> Samples:
    """A loudness between 0 and about 1 that rises and falls at the rate of syllables."""
    points = max(4, int(size / SAMPLE_RATE * SYLLABLE_RATE * 2) + 2)
    heights = np.abs(generator.standard_normal(points))
    return np.interp(np.linspace(0, points - 1, size), np.arange(points), heights).astype(np.float32)
