"""What a recogniser can say about a recording beyond its text: when each word was said, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinical_asr.errors import FlywheelError
from clinical_asr.records import Seconds

Samples = NDArray[np.float32]
"""Mono speech at 16 kHz in [-1, 1], shape (samples,)."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it stands in the recording; ``confidence`` in [0, 1], or None where the model gives none."""

    text: str
    start: Seconds
    end: Seconds
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Recognition:
    """A transcript; words and confidence only where they were asked for."""

    text: str
    confidence: float | None = None
    """Mean over the words."""
    words: tuple[Word, ...] = ()


Recognise = Callable[[Sequence[Samples], bool], Sequence[Recognition | FlywheelError]]
"""(recordings, are words wanted) -> one answer a recording, in the same order."""


def later(word: Word, seconds: Seconds) -> Word:
    """The same word in a recording that began ``seconds`` earlier.

    >>> later(Word("stat", 0.5, 0.75), 10.0)
    Word(text='stat', start=10.5, end=10.75, confidence=None)
    """
    return Word(word.text, word.start + seconds, word.end + seconds, word.confidence)
