"""Stage general: everyday English, spoken like the benchmark: the guard set, and what is replayed in training."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clinical_asr import intake, wav
from clinical_asr.clips import Clip, Markup, Progress, Synthesise, silent_progress, talkers_for
from clinical_asr.errors import ConfigError, ManifestError
from clinical_asr.noise import decks, snr_of
from clinical_asr.records import Utterance, row_id
from clinical_asr.rendering import render


def read_sentences(path: Path) -> list[str]:
    """One sentence a line; blank lines and lines that start with ``#`` are left out. Raises ManifestError."""
    lines = intake.text(path).splitlines()
    sentences = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not sentences:
        raise ManifestError(path, None, "", "holds no sentences", "write one sentence a line")
    return sentences


def plan(
    sentences: Sequence[str], voices: Sequence[str], count: int, seed: int, noise_levels: Sequence[str] = ("clean",)
) -> list[Clip]:
    """``count`` different (sentence, voice) pairs: every sentence once before any a second time, voices in turn.

    Raises:
        ConfigError: nothing to draw from, or fewer than ``count`` pairs.
    """
    texts, speakers = list(dict.fromkeys(sentences)), list(dict.fromkeys(voices))
    if count > len(texts) * len(speakers) or not noise_levels or count < 1:
        mend = f"{len(texts)} sentences and {len(speakers)} voices give {len(texts) * len(speakers)} pairs"
        raise ConfigError(f"{count} rows cannot be drawn", where="general speech", mend=mend)
    for level in noise_levels:
        snr_of(level)
    dealer = random.Random(f"{seed}/general")
    noise = decks(noise_levels, dealer)
    pairs = _pairs(dealer.sample(texts, len(texts)), dealer.sample(speakers, len(speakers)))
    return [_clip(*next(pairs), next(noise), speakers, seed) for _ in range(count)]


def _clip(text: str, voice: str, noise: str, speakers: Sequence[str], seed: int) -> Clip:
    talkers = talkers_for(voice, speakers, noise)
    return Clip(text=text, voice_id=voice, noise_level=noise, seed=seed, talkers=talkers, label="general")


def _pairs(texts: Sequence[str], voices: Sequence[str]) -> Iterator[tuple[str, str]]:
    """All pairs: lap after lap over the sentences, each lap one voice further."""
    for lap in range(len(voices)):
        for number, text in enumerate(texts):
            yield text, voices[(number + lap) % len(voices)]


def build(
    sentences: Sequence[str],
    voices: Sequence[str],
    folder: Path,
    synthesise: Synthesise,
    count: int,
    seed: int,
    noise_levels: Sequence[str] = ("clean",),
    *,
    markup: Markup | None = None,
    progress: Progress[Any] = silent_progress,
    workers: int = 1,
    earlier: Sequence[Path] = (),
) -> list[Utterance]:
    """Speak ``count`` rows of general English; the manifest belongs into ``folder``, the clips lie in ``folder/audio``.

    ``workers`` and ``earlier`` as in :func:`clinical_asr.rendering.render`, whose errors it raises beside those of
    :func:`plan`.
    """
    clips = plan(sentences, voices, count, seed, noise_levels)
    receipts = render(
        clips, folder / "audio", synthesise, markup=markup, progress=progress, workers=workers, earlier=earlier
    )
    return [_utterance(clip, receipt.audio_filepath, folder) for clip, receipt in zip(clips, receipts, strict=True)]


def _utterance(clip: Clip, name: str, folder: Path) -> Utterance:
    path = folder / "audio" / name
    recording = wav.read(path)
    return Utterance(
        audio_filepath=os.path.relpath(path, folder),
        text=clip.text,
        duration=recording.duration,
        id=row_id(recording.digest, clip.text),
        voice_id=clip.voice_id,
        noise_level=clip.noise_level,
    )
