"""Reverberation: what a room adds to a voice, as a synthetic impulse response with a stated decay.

Polack's model (1988): after the direct sound, Gaussian noise under an exponential envelope that falls by 60 dB within
the reverberation time RT60. How loud it is beside the direct sound follows from the critical distance of a room in a
diffuse field, 0.057 sqrt(volume / RT60) metres (H. Kuttruff, *Room Acoustics*), for a speaker one metre away in a room
of 60 m3, a ward for two. Single early reflections and the faster decay of high frequencies are not modelled.
"""

from __future__ import annotations

import numpy as np

from clinical_asr.loudness import Samples
from clinical_asr.records import SAMPLE_RATE, Seconds

VOLUME = 60.0  # m3
DISTANCE = 1.0  # m, mouth to microphone
FIRST_REFLECTION: Seconds = 0.003  # one metre of detour


def impulse_response(rt60: Seconds, generator: np.random.Generator) -> Samples:
    """Direct sound of amplitude 1 and the tail after it, ``rt60`` seconds long."""
    size = round(rt60 * SAMPLE_RATE)
    since = np.arange(size) / SAMPLE_RATE
    tail = generator.standard_normal(size) * 10 ** (-3 * since / rt60)
    tail[: round(FIRST_REFLECTION * SAMPLE_RATE)] = 0.0
    critical = 0.057 * np.sqrt(VOLUME / rt60)
    tail *= (DISTANCE / critical) / np.sqrt(np.square(tail).sum())  # energy of the tail over that of the direct sound
    tail[0] = 1.0
    return tail.astype(np.float32)


def reverberated(speech: Samples, rt60: Seconds, generator: np.random.Generator) -> Samples:
    """Speech as it arrives in the room; longer than before by the tail."""
    from scipy.signal import fftconvolve

    wet: Samples = fftconvolve(speech, impulse_response(rt60, generator)).astype(np.float32)
    return wet
