"""Sounds of a ward, made from their descriptions: mains hum, a heart-rate monitor, an alarm.

An alarm is a burst of ten pulses in the rhythm of IEC 60601-1-8 for high priority (three, two, a pause, three, two): a
fundamental between 150 and 1000 Hz with at least four harmonics each. Levels are relative to the ventilation under it;
the ratio to speech is set by whoever mixes.
"""

from __future__ import annotations

import numpy as np

from clinical_asr.loudness import Samples
from clinical_asr.records import SAMPLE_RATE, Seconds

MAINS = (50.0, 60.0)  # Hz: Europe, America
HEART_RATES = (55, 125)  # beats a minute
PULSE: Seconds = 0.12
GAPS = (0.0, 0.2, 0.4, 0.75, 0.95, 1.6, 1.8, 2.0, 2.35, 2.55)  # starts of an alarm's ten pulses, seconds
ALARM_EVERY: Seconds = 6.0
RAMP: Seconds = 0.01  # of a pulse, so that it does not click


def hum(air: Samples, generator: np.random.Generator) -> Samples:
    """Mains and its harmonics, 1/n each, as loud as the ventilation ``air``."""
    mains = float(generator.choice(MAINS))
    seconds = np.arange(air.size) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * mains * n * seconds + generator.uniform(0, 2 * np.pi)) / n for n in (1, 2, 3, 4, 6))
    return _beside(air, np.asarray(tone, dtype=np.float32), 1.0)


def ward(air: Samples, generator: np.random.Generator) -> Samples:
    """A monitor that beeps at a heart's rate and, now and then, an alarm, over ventilation."""
    sounds = np.zeros(air.size, dtype=np.float32)
    beat = 60 / float(generator.uniform(*HEART_RATES))
    pitch = float(generator.uniform(600, 950))
    for start in np.arange(generator.uniform(0, beat), air.size / SAMPLE_RATE, beat):
        _add(sounds, _pulse(pitch, 1), float(start), 0.5)
    alarm = _pulse(float(generator.uniform(250, 700)), 5)
    for burst in np.arange(generator.uniform(-2, 2), air.size / SAMPLE_RATE, ALARM_EVERY):
        for gap in GAPS:
            _add(sounds, alarm, float(burst) + gap, 1.0)
    return _beside(air, sounds, 2.0)


def _pulse(hertz: float, partials: int) -> Samples:
    seconds = np.arange(round(PULSE * SAMPLE_RATE)) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * hertz * n * seconds) / n for n in range(1, partials + 1))
    fade = np.minimum(1.0, np.minimum(seconds, PULSE - seconds) / RAMP)
    return np.asarray(tone * fade, dtype=np.float32)


def _add(sounds: Samples, pulse: Samples, start: Seconds, amplitude: float) -> None:
    """Add a pulse where it fits; what begins before the clip or ends after it is left out."""
    at = round(start * SAMPLE_RATE)
    if at >= 0 and at + pulse.size <= sounds.size:
        sounds[at : at + pulse.size] += np.float32(amplitude) * pulse


def _beside(air: Samples, sounds: Samples, ratio: float) -> Samples:
    """Both together, the sounds' power ``ratio`` times the ventilation's."""
    power = float(np.square(sounds, dtype=np.float64).mean())
    if not power:
        return air
    gain = np.sqrt(ratio * float(np.square(air, dtype=np.float64).mean()) / power)
    mixed: Samples = air + sounds * np.float32(gain)
    return mixed
