"""What is wrong with a recording, told without a recogniser: length, silence, level, clipping, offset, bandwidth.

Each finding is a phrase that follows the file's name. A clip with findings is *suspect*: somebody should listen to it.
Bounds are wide: they catch an engine that stumbled, not a voice that somebody dislikes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from clinical_asr import conditions
from clinical_asr.errors import ConfigError
from clinical_asr.loudness import FRAME, Samples, active_level, active_mask
from clinical_asr.records import SAMPLE_RATE, Decibels, Seconds
from clinical_asr.wav import SILENT_BELOW, Recording, is_clipped

SECONDS_PER_WORD = (0.12, 1.5)  # 500 to 40 words a minute; outside it the engine stumbled
SECONDS_PER_LETTER = (0.02, 0.25)  # long words: "levothyroxine" is one word and takes a second
SLACK: Seconds = 1.0  # silence at both ends and a room's echo
LEVELS: tuple[Decibels, Decibels] = (-40.0, -12.0)  # dBFS of active speech that a person would call normal
OFFSET = 0.01  # of full scale: a microphone's DC
LONGEST_PAUSE: Seconds = 2.0  # inside a sentence
WIDE_BAND = 4000.0  # Hz; speech sampled at 16 kHz has something above it
NARROW: Decibels = -55.0  # power above 4 kHz relative to the whole, in a recording that was once narrow-band


def findings(recording: Recording, text: str = "", noise_level: str = "clean") -> list[str]:
    """All that speaks against a recording of ``text``; without a text its length is not judged."""
    samples = recording.scaled
    found = [*_level(samples, recording), *_offset(samples), *_bandwidth(samples, noise_level)]
    if "snr" not in noise_level:  # noise fills pauses and edges
        found += _pauses(samples)
    return found + (list(duration(recording.duration, text)) if text else [])


def duration(seconds: Seconds, text: str) -> Iterator[str]:
    """Speech far too short or too long for its words, or for its letters.

    >>> list(duration(0.3, "the patient was given cefazolin"))
    ['lasts 0.30 s for 5 words (27 letters)']
    """
    words, letters = len(text.split()), len(re.sub(r"\W", "", text))
    shortest = max(SECONDS_PER_WORD[0] * words, SECONDS_PER_LETTER[0] * letters)
    longest = max(SECONDS_PER_WORD[1] * words, SECONDS_PER_LETTER[1] * letters) + SLACK
    if not shortest <= seconds <= longest:
        yield f"lasts {seconds:.2f} s for {words} words ({letters} letters)"


def _level(samples: Samples, recording: Recording) -> Iterator[str]:
    level = active_level(samples)
    if level < SILENT_BELOW:
        yield f"is silent ({level:.0f} dBFS, speech is above {SILENT_BELOW:.0f})"
    elif not LEVELS[0] <= level <= LEVELS[1]:
        yield f"is {'quiet' if level < LEVELS[0] else 'loud'} ({level:.0f} dBFS)"
    if is_clipped(recording.samples):
        yield "is clipped (neighbouring samples at full scale)"


def _offset(samples: Samples) -> Iterator[str]:
    offset = float(samples.mean()) if samples.size else 0.0
    if abs(offset) > OFFSET:
        yield f"has a DC offset of {100 * offset:.1f} % of full scale"


def _bandwidth(samples: Samples, noise_level: str) -> Iterator[str]:
    """A recording with nothing above 4 kHz was once narrow-band, unless its condition says so."""
    if samples.size < FRAME or _is_telephone(noise_level):
        return
    power = np.abs(np.fft.rfft(samples[: samples.size - samples.size % FRAME] * 1.0)) ** 2
    above = np.fft.rfftfreq(samples.size - samples.size % FRAME, 1 / SAMPLE_RATE) > WIDE_BAND
    share = power[above].sum() / power.sum() if power.sum() else 1.0
    if share < 10 ** (NARROW / 10):
        yield "has nothing above 4 kHz: it was narrow-band before"


def _is_telephone(noise_level: str) -> bool:
    try:
        return conditions.parse(noise_level).telephone
    except ConfigError:
        return True  # a condition of somebody else's: not ours to judge


def _pauses(samples: Samples) -> Iterator[str]:
    """Speech that stops for long, or that the file cuts into."""
    if not samples.any():
        return
    active = active_mask(samples)[::FRAME]
    places = np.flatnonzero(active)
    pause = float(np.diff(places).max(initial=1) - 1) * FRAME / SAMPLE_RATE
    if pause > LONGEST_PAUSE:
        yield f"pauses for {pause:.1f} s"
