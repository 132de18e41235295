"""Speaking planned clips: one path from text to a checked WAV, for the benchmark and for general speech alike.

A clip's file name is a digest of what it says and how, so a clip that exists is never made again, in this cycle or a
later one. Each clip made leaves a receipt in ``receipts.jsonl`` beside it: proof that the audio is synthetic.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from clinical_asr import wav
from clinical_asr.errors import AudioError, FlywheelError
from clinical_asr.jsonl import RowWriter, atomic_path
from clinical_asr.noise import Mixture, Samples, mix
from clinical_asr.records import Decibels, EntityCategory, IpaSource, Row, Seconds

T = TypeVar("T")

Synthesise = Callable[[str, str], Samples]
"""(text, voice id) to float32 mono 16 kHz samples in [-1, 1]."""
Markup = Callable[[str, Mapping[str, str]], str]
"""(text, {term: IPA}) to what the speech engine reads."""
Progress = Callable[[Sequence[T], str], Iterable[T]]
"""Wraps a sequence to show how far a stage has come; the label says what is being done."""

SECONDS_PER_WORD = (0.12, 1.5)  # 500 to 40 words a minute; outside it the engine stumbled


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
    """Seed of the noise; a clean clip does not depend on it."""
    label: str = ""
    """Leading part of the file name, for people."""

    @property
    def file_name(self) -> str:
        """Digest of all that can be heard.

        >>> Clip(text="good morning", voice_id="v1", label="Lactated Ringer's").file_name
        'lactated-ringer-s-d3ac5f0511734361.wav'
        """
        noise = self.noise_level if self.noise_level == "clean" else f"{self.noise_level}#{self.seed}"
        pronounced = (f"{term}={ipa}" for term, ipa in sorted(self.ipa.items()))
        heard = "\x1f".join((self.text, self.voice_id, noise, *pronounced))
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
    """Over active speech, on the finished samples; ``None`` for clean speech."""
    suspect: str = ""
    """What is wrong with the clip, if anything; a person should listen to it."""


def render(
    clips: Sequence[Clip],
    folder: Path,
    synthesise: Synthesise,
    *,
    markup: Markup | None = None,
    progress: Progress[Any] = silent_progress,
) -> list[Receipt]:
    """Speak every clip that ``folder`` does not hold yet; the receipts of all, in the order of ``clips``.

    Raises:
        FlywheelError: a clip imposes a pronunciation and ``markup`` is missing: it would be ignored without a word.
        AudioError: the engine returned something that is not speech.
    """
    _require_markup(clips, markup)
    with _open_receipts(folder) as receipts:
        for clip in progress(clips, "synthesise"):
            if not (folder / clip.file_name).exists():
                _render_one(clip, folder, synthesise, markup, receipts)
        receipts.finish()
    made = {receipt.audio_filepath: receipt for receipt in receipts.rows if isinstance(receipt, Receipt)}
    return [made.get(clip.file_name) or _without_receipt(clip, folder) for clip in clips]


def _require_markup(clips: Sequence[Clip], markup: Markup | None) -> None:
    if markup is not None:
        return
    words = sorted({term for clip in clips for term in clip.ipa})
    if words:
        raise FlywheelError(
            f"the speech engine cannot be told a pronunciation, {len(words)} are imposed ({', '.join(words[:5])})",
            "synthesise",
            "use an engine that reads IPA, or remove these lines from pronunciation_overrides.csv",
        )


def _open_receipts(folder: Path) -> RowWriter:
    """Receipts of earlier runs are continued: the finished file becomes the unfinished one until this run ends."""
    path = folder / "receipts.jsonl"
    part = path.with_name(path.name + ".part")
    if path.exists() and not part.exists():
        path.replace(part)
    return RowWriter(path, Receipt, key="audio_filepath")


def _render_one(clip: Clip, folder: Path, synthesise: Synthesise, markup: Markup | None, receipts: RowWriter) -> None:
    """The receipt is on disk before the clip has its name: a clip that exists always has one."""
    spoken = markup(clip.text, clip.ipa) if markup is not None else clip.text
    speech = _speech(synthesise(spoken, clip.voice_id), clip)
    mixture = mix(speech, clip.noise_level, seed=f"{clip.seed}/{clip.file_name}")
    with atomic_path(folder / clip.file_name) as part:
        wav.write(part, mixture.samples)
        receipts.write([_receipt(clip, mixture, wav.read(part))])


def _speech(samples: Samples, clip: Clip) -> Samples:
    """What the engine returned, if it is speech at all."""
    speech = np.asarray(samples, dtype=np.float32)
    if speech.ndim == 1 and speech.size and np.isfinite(speech).all() and np.abs(speech).max() > 0:
        return speech
    form = f"shape {speech.shape}" + ("" if speech.ndim != 1 or speech.size == 0 else ", silent or not finite")
    raise AudioError(
        f"the speech engine returned no speech ({form})",
        f"voice {clip.voice_id}, {clip.text[:60]!r}",
        "try another voice, or drop the sentence",
    )


def _receipt(clip: Clip, mixture: Mixture, recording: wav.Recording) -> Receipt:
    return Receipt(
        audio_filepath=clip.file_name,
        audio_digest=recording.digest,
        text=clip.text,
        voice_id=clip.voice_id,
        noise_level=clip.noise_level,
        duration=recording.duration,
        noise_kind=mixture.noise_kind,
        measured_snr=None if mixture.measured_snr is None else round(mixture.measured_snr, 3),
        suspect="; ".join([*recording.faults(), *_duration_faults(recording.duration, clip.text)]),
    )


def _duration_faults(duration: Seconds, text: str) -> list[str]:
    """Speech far too short or too long for its words.

    >>> _duration_faults(0.3, "the patient was given cefazolin")
    ['lasts 0.30 s for 5 words']
    """
    words = len(text.split())
    shortest, longest = (seconds * words for seconds in SECONDS_PER_WORD)
    return [] if shortest <= duration <= longest + 1 else [f"lasts {duration:.2f} s for {words} words"]


def _without_receipt(clip: Clip, folder: Path) -> Receipt:
    """A clip that was there before and whose receipt is lost; nothing proves that it is synthetic."""
    recording = wav.read(folder / clip.file_name)
    receipt = _receipt(clip, Mixture(recording.samples), recording)
    return msgspec.structs.replace(receipt, suspect="; ".join(filter(None, ("has no receipt", receipt.suspect))))
