"""Sentences from hand-written frames: everyday talk, ward talk, and frames that spread the common words.

A frame is a line of words, ``{slots}`` and ``[one|of|these]`` choices; `frames/slots.txt` fills the
slots, numbers, times and doses are spelled here. Coverage slots (``{noun}``, ``{verbed}``, ...) are
dealt from shuffled decks, so every common word is heard about equally often.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from text_style import STYLE, spell_number, spell_ordinal, spell_year

FRAMES = Path(__file__).parent / "frames"
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


def _clock(rng: random.Random) -> str:
    hour = spell_number(rng.randint(1, 12))
    minute = rng.choice(("fifteen", "thirty", "forty five", "ten", "twenty", "oh five", "fifty"))
    forms = (
        f"{hour} o'clock",
        f"half past {hour}",
        f"a quarter to {hour}",
        f"{hour} {minute}",
        f"{hour} {minute}",
        f"ten past {hour}",
        f"{hour} in the morning",
        f"{hour} in the evening",
        "noon",
        "midnight",
        f"{spell_number(rng.randint(13, 23))} hundred",
    )
    return rng.choice(forms)


def _decimal(rng: random.Random) -> str:
    return f"{spell_number(rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 10, 12)))} point {spell_number(rng.randint(1, 9))}"


NUMBERS: dict[str, Callable[[random.Random], str]] = {
    "digit": lambda rng: rng.choice(("zero", "oh", *(spell_number(d) for d in range(1, 10)))),
    "small": lambda rng: spell_number(rng.randint(2, 12)),
    "tens": lambda rng: spell_number(rng.randint(10, 99)),
    "hundreds": lambda rng: spell_number(
        rng.randint(100, 990) if rng.random() < 0.5 else rng.randrange(100, 1000, 50)
    ),
    "thousands": lambda rng: spell_number(rng.randrange(1000, 30000, rng.choice((50, 500, 1000)))),
    "number": lambda rng: spell_number(
        rng.choice((rng.randint(1, 20), rng.randint(20, 200), rng.randint(100, 999)))
    ),
    "room": lambda rng: rng.choice(
        (spell_number(rng.randint(1, 40)), spell_year(rng.randint(1001, 1299)).replace("ten ", "four "))
    ),
    "age": lambda rng: spell_number(rng.randint(18, 96)),
    "temp": lambda rng: rng.choice(
        (
            f"thirty {rng.choice(('six', 'seven', 'eight', 'nine'))} point {spell_number(rng.randint(1, 9))}",
            f"ninety {rng.choice(('seven', 'eight', 'nine'))} point {spell_number(rng.randint(1, 9))}",
            f"one hundred and {rng.choice(('one', 'two', 'three'))}",
        )
    ),
    "year": lambda rng: spell_year(rng.choice((rng.randint(1900, 1999), rng.randint(2000, 2026)))),
    "ordinal": lambda rng: spell_ordinal(rng.randint(1, 31)),
    "decimal": _decimal,
    "time": _clock,
}


class Grammar:
    """Expands frames with one random generator; the same seed and files give the same sentences."""

    def __init__(self, rng: random.Random, decks: dict[str, list[str]]) -> None:
        self.rng = rng
        self.slots = _read_slots(FRAMES / "slots.txt")
        self.slots["word"] = decks["any"]
        self.decks = {name: _deal(words, rng) for name, words in decks.items()}

    def sentences(self, kind: str, count: int, wanted: Callable[[str], bool]) -> list[str]:
        """`count` different sentences of frames/<kind>.txt that `wanted` accepts, frames used evenly."""
        frames = [line.strip() for line in (FRAMES / f"{kind}.txt").read_text().splitlines() if line.strip()]
        made: dict[str, None] = {}
        for _ in range(count * 3 // len(frames) + 1):
            for frame in self.rng.sample(frames, len(frames)):
                sentence = self.expand(frame)
                if STYLE.fullmatch(sentence) and wanted(sentence):
                    made[sentence] = None
                if len(made) == count:
                    return list(made)
        return list(made)

    def expand(self, frame: str) -> str:
        """One sentence of a frame."""
        while _CHOICE.search(frame):
            frame = _CHOICE.sub(lambda found: self.rng.choice(found.group(1).split("|")), frame, count=1)
        while _SLOT.search(frame):
            frame = _SLOT.sub(lambda found: self._fill(found.group(1)), frame)
        return _articles(" ".join(frame.split()))

    def _fill(self, slot: str) -> str:
        if slot in NUMBERS:
            return NUMBERS[slot](self.rng)
        if slot in self.decks:
            return next(self.decks[slot])
        return self.rng.choice(self.slots[slot])


def _articles(sentence: str) -> str:
    sentence = re.sub(
        r"\ba (?=[aeio]|u(?!ni|s[eu]|ti|ro|ra)|hour|honest)(?!one\b|once\b|eu)", "an ", sentence
    )
    return re.sub(r"\ba (a|the|an|my|some|half|two) ", r"\1 ", sentence)


def _read_slots(path: Path) -> dict[str, list[str]]:
    slots = {}
    for line in path.read_text().splitlines():
        name, _, values = line.partition(":")
        slots[name.strip()] = [value.strip() for value in values.split("|")]
    return slots


def _deal(words: list[str], rng: random.Random) -> Iterator[str]:
    while True:
        yield from rng.sample(words, len(words))
