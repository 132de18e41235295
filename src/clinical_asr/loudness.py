"""How loud speech is: the level of its active part, and bringing clips to one level.

A frame of 20 ms is *active* where its power lies within 35 dB of the loudest frame. Pauses would otherwise pull the
level down, and a slow speaker would seem quieter than a quick one: hence the active speech level of ITU-T P.56, of
which this is the plain, gated form (a test holds both within 1 dB of each other). Programme loudness (ITU-R BS.1770,
EBU R128) is made for broadcasts: its 400 ms blocks have no value for a clip of one word, and its K-weighting measures
annoyance rather than the power that a signal-to-noise ratio is about. So one measure serves level and ratio alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clinical_asr.records import SAMPLE_RATE, Decibels

Samples = NDArray[np.float32]

FRAME = SAMPLE_RATE // 50  # 20 ms
ACTIVE_RANGE: Decibels = 35.0  # below the loudest frame; quieter frames are pauses
SPEECH_LEVEL: Decibels = -26.0  # dBFS of active speech, the level of speech test material (ITU-T P.830)
PEAK_LIMIT = 10 ** (-1 / 20)  # -1 dBFS: whatever would rise above it is turned down as a whole


def active_mask(samples: Samples) -> NDArray[np.bool_]:
    """One flag per sample: True where its 20 ms frame is active speech. All False for digital silence."""
    frames = -(-samples.size // FRAME)
    padded = np.zeros(frames * FRAME, dtype=np.float64)
    padded[: samples.size] = samples
    power = np.square(padded).reshape(frames, FRAME).mean(axis=1)
    active = power > power.max(initial=0.0) * 10 ** (-ACTIVE_RANGE / 10)
    return np.repeat(active, FRAME)[: samples.size]


def decibels(samples: Samples) -> Decibels:
    """Mean power in dB relative to full scale; -inf for silence or nothing.

    >>> round(decibels(np.full(100, 0.1, dtype=np.float32)), 3)
    -20.0
    """
    power = float(np.square(samples, dtype=np.float64).mean()) if samples.size else 0.0
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")


def active_level(samples: Samples) -> Decibels:
    """Level of the active part in dB relative to full scale; -inf for silence."""
    return decibels(samples[active_mask(samples)])


def normalised(speech: Samples, level: Decibels = SPEECH_LEVEL) -> Samples:
    """The same speech with its active part at ``level``, or as near to it as the peak limit allows. Silence stays.

    >>> tone = np.sin(np.arange(16_000) / 5).astype(np.float32)
    >>> round(active_level(normalised(tone)), 2)
    -26.0
    """
    before = active_level(speech)
    if before == float("-inf"):
        return speech
    gain = 10 ** ((level - before) / 20)
    return speech * np.float32(min(gain, PEAK_LIMIT / float(np.abs(speech).max())))


def peak_gain(samples: Samples) -> float:
    """What keeps the peak at -1 dBFS; quiet audio is left as loud as it is."""
    peak = float(np.abs(samples).max(initial=0.0))
    return min(1.0, PEAK_LIMIT / peak) if peak else 1.0
