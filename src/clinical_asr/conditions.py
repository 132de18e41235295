"""What a ``noise_level`` says: the room, the telephone line and the noise that a recording went through.

Grammar: ``clean``, or one to three of these parts, joined by ``+``, each at most once and in this order, which is the
order of the sound's own way from the mouth to the recogniser:

    room_<seconds>s    a room of that reverberation time (RT60), from 0.1 to 3 s
    telephone          a narrow-band line: 300 to 3400 Hz, 8 kHz, mu-law
    snr_<n>db          background noise at that signal-to-noise ratio, from -99 to 99 dB

One condition has one name, so that rows of two benchmarks fall into the same line of a leaderboard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from clinical_asr.errors import ConfigError
from clinical_asr.records import Decibels, Seconds

CLEAN = "clean"
MEND = "write clean, or parts of room_<s>s, telephone, snr_<n>db in this order, like snr_15db or telephone+snr_10db"
ROOM_TIMES: tuple[Seconds, Seconds] = (0.1, 3.0)  # a car to a church
_NUMBER = r"[0-9]{1,2}(?:\.[0-9]+)?"
_PARTS = {  # in the only order they may stand in
    "room": re.compile(rf"room_({_NUMBER})s"),
    "telephone": re.compile(r"(telephone)"),
    "snr": re.compile(rf"snr_(-?{_NUMBER})db"),
}


@dataclass(frozen=True)
class Condition:
    """What stands between a mouth and a recogniser; all ``None`` and ``False`` for clean speech."""

    room: Seconds | None = None
    """Reverberation time RT60."""
    telephone: bool = False
    snr: Decibels | None = None
    """Of active speech to noise, on what the recogniser gets."""


def parse(noise_level: str) -> Condition:
    """The condition of that name. Raises ConfigError naming the grammar.

    >>> parse("telephone+snr_10db")
    Condition(room=None, telephone=True, snr=10.0)
    >>> parse("room_0.4s"), parse("clean") == Condition()
    (Condition(room=0.4, telephone=False, snr=None), True)
    """
    if noise_level == CLEAN:
        return Condition()
    said = [_part(part, noise_level) for part in noise_level.split("+")]
    names = [name for name, _ in said]
    if names != [name for name in _PARTS if name in names]:
        raise ConfigError(f"{noise_level[:40]!r} has its parts in another order or twice", "noise_level", MEND)
    values = dict(said)
    room = float(values["room"]) if "room" in values else None
    if room is not None and not ROOM_TIMES[0] <= room <= ROOM_TIMES[1]:
        why = f"{noise_level[:40]!r} names a reverberation of {room:g} s"
        raise ConfigError(why, "noise_level", f"a room has {ROOM_TIMES[0]:g} to {ROOM_TIMES[1]:g} s")
    return Condition(room, "telephone" in values, float(values["snr"]) if "snr" in values else None)


def known(noise_level: str) -> Condition | None:
    """The same; ``None`` for a name outside the grammar, which scores of other tools may carry.

    >>> known("snr_-3db"), known("ward")
    (Condition(room=None, telephone=False, snr=-3.0), None)
    """
    try:
        return parse(noise_level)
    except ConfigError:
        return None


def _part(part: str, noise_level: str) -> tuple[str, str]:
    """(name, value) of one part."""
    for name, form in _PARTS.items():
        if found := form.fullmatch(part):
            return name, found[1]
    raise ConfigError(f"{noise_level[:40]!r} is no noise level", "noise_level", MEND)
