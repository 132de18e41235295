"""What a clip is: who says what, under which condition, and the receipt that it leaves.

A clip's file name is a digest of what it says and how, so a clip that exists is never made again, in this cycle or a
later one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from clinical_asr.loudness import Samples
from clinical_asr.noise import snr_of
from clinical_asr.records import Decibels, EntityCategory, IpaSource, Row, Seconds

T = TypeVar("T")

Synthesise = Callable[[str, str], Samples]
"""(text, voice id) to float32 mono 16 kHz samples in [-1, 1]. Picklable, if several processes are to speak."""
Markup = Callable[[str, Mapping[str, str]], str]
"""(text, {term: IPA}) to what the speech engine reads. Picklable as well."""
Progress = Callable[[Sequence[T], str], Iterable[T]]
"""Wraps a sequence to show how far a stage has come; the label says what is being done."""

RENDERING = "rendering 2"
"""How speech becomes a clip. Version 1 had no common level and three kinds of noise; its clips keep their names."""
NEIGHBOURS = 4  # voices behind a clip's own that its babble is made of


def silent_progress(items: Sequence[T], label: str) -> Iterable[T]:
    """The default progress: shows nothing."""
    return items


class Clip(Row, frozen=True, kw_only=True):
    """What is to be said, by whom, in what noise. ``ipa`` holds the pronunciations imposed on words of the text."""

    text: str
    voice_id: str
    noise_level: str = "clean"
    ipa: dict[str, str] = msgspec.field(default_factory=dict)
    seed: int = 42
    """Seed of room and noise; a clean clip does not depend on it."""
    talkers: tuple[str, ...] = ()
    """Voices that its babble is made of, if it gets any."""
    label: str = ""
    """Leading part of the file name, for people."""

    @property
    def file_name(self) -> str:
        """Digest of all that can be heard.

        >>> Clip(text="good morning", voice_id="v1", label="Lactated Ringer's").file_name
        'lactated-ringer-s-3a225212259f1a7b.wav'
        """
        return self._named(*self.talkers, RENDERING)

    @property
    def earlier_name(self) -> str:
        """The name that version 1 gave it; clips of that name are kept and used.

        >>> Clip(text="good morning", voice_id="v1", label="Lactated Ringer's").earlier_name
        'lactated-ringer-s-d3ac5f0511734361.wav'
        """
        return self._named()

    def _named(self, *version: str) -> str:
        noise = self.noise_level if self.noise_level == "clean" else f"{self.noise_level}#{self.seed}"
        pronounced = (f"{term}={ipa}" for term, ipa in sorted(self.ipa.items()))
        heard = "\x1f".join((self.text, self.voice_id, noise, *pronounced, *version))
        digest = hashlib.sha256(heard.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        slug = re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")[:40]
        return f"{slug}-{digest}.wav" if slug else f"{digest}.wav"


class ClipPlan(Clip, frozen=True, kw_only=True):
    """A clip of the benchmark: what is said, and which term it is about."""

    term: str
    entity_category: EntityCategory
    ipa_source: IpaSource
    context_type: str
    frame: str = ""
    source: str = "template"
    """Where the sentence comes from."""


class Receipt(Row, frozen=True, kw_only=True):
    """Proof of synthesis of one clip, with what was measured on the finished file."""

    audio_filepath: str
    """File name within the receipts' folder."""
    audio_digest: str
    """SHA-256 of the file."""
    text: str
    voice_id: str
    noise_level: str
    duration: Seconds
    noise_kind: str = ""
    measured_snr: Decibels | None = None
    """Over active speech, on the finished samples; ``None`` without noise."""
    suspect: str = ""
    """What is wrong with the clip, if anything; a person should listen to it."""


BABBLE_TEXTS = (
    "can you tell me when the next round starts because the family would like to be there",
    "i left the keys on the desk beside the printer and now nobody seems to know where they are",
    "she said that lunch would be a little late today so we might as well finish this first",
)
"""What the voices in the background say: everyday sentences without a clinical term."""


def talkers_for(voice_id: str, voices: Sequence[str], noise_level: str) -> tuple[str, ...]:
    """The voices behind a clip's own, going round the list; none where no noise is mixed in.

    >>> talkers_for("b", ("a", "b", "c"), "snr_5db"), talkers_for("b", ("a", "b"), "room_0.4s")
    (('c', 'a'), ())
    """
    if snr_of(noise_level) is None:
        return ()
    at = voices.index(voice_id)
    others = [*voices[at + 1 :], *voices[:at]]
    return tuple(others[:NEIGHBOURS]) or (voice_id,)


def talker_clips(talkers: Iterable[str]) -> list[Clip]:
    """The clips that babble is made of: each of these voices with each of the sentences."""
    return [Clip(text=text, voice_id=voice, label="babble") for voice in talkers for text in BABBLE_TEXTS]
