"""Stage audio: every sentence in several voices and noise levels, spoken once and kept.

Voices and noise levels are dealt out per term, from the term's own name and the seed. So a term list that grows keeps
the clips it has, and no voice is tied to one noise level.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clinical_asr.clips import ClipPlan, Markup, Progress, Receipt, Synthesise, render, silent_progress
from clinical_asr.config import SynthesisConfig
from clinical_asr.errors import FlywheelError
from clinical_asr.noise import decks, snr_of
from clinical_asr.records import Pronunciation, Sentence


def plan(
    sentences: Sequence[Sentence], pronunciations: Sequence[Pronunciation], config: SynthesisConfig
) -> list[ClipPlan]:
    """Sentences x voices, with noise levels in turn. A clip that would be made twice is planned once.

    Raises:
        ConfigError: a noise level cannot be read.
        FlywheelError: a sentence's term has no pronunciation.
    """
    for level in config.noise_levels:
        snr_of(level)
    known = {said.term: said for said in pronunciations}
    imposed = {said.term: said.ipa for said in pronunciations if said.ipa}
    plans: dict[str, ClipPlan] = {}
    for of_term in _by_term(sentences).values():
        for clip in _plan_term(of_term, known, imposed, config):
            plans.setdefault(clip.file_name, clip)
    return list(plans.values())


def _by_term(sentences: Sequence[Sentence]) -> dict[str, list[Sentence]]:
    groups: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        groups.setdefault(sentence.term, []).append(sentence)
    return groups


def _plan_term(
    sentences: Sequence[Sentence],
    known: Mapping[str, Pronunciation],
    imposed: Mapping[str, str],
    config: SynthesisConfig,
) -> Iterator[ClipPlan]:
    """Voices go round in the term's own order: a sentence never gets one twice. Noise levels come in shuffled decks."""
    term = sentences[0].term
    if term not in known:
        raise FlywheelError(f"term {term!r} has no pronunciation", "audio", "run the pronunciations stage again")
    dealer = random.Random(f"{config.seed}/{term}")
    voices = dealer.sample(config.voices, len(config.voices))
    noise = decks(config.noise_levels, dealer)
    turn = 0
    for sentence in sentences:
        for _ in range(config.voices_per_sentence):
            voice, turn = voices[turn % len(voices)], turn + 1
            yield _clip(sentence, known[term], imposed, voice, next(noise), config.seed)


def _clip(
    sentence: Sentence, said: Pronunciation, imposed: Mapping[str, str], voice: str, noise: str, seed: int
) -> ClipPlan:
    return ClipPlan(
        text=sentence.text,
        voice_id=voice,
        noise_level=noise,
        ipa={term: ipa for term, ipa in imposed.items() if _occurs(term, sentence.text)},
        seed=seed,
        label=sentence.term,
        term=sentence.term,
        entity_category=sentence.entity_category,
        ipa_source=said.ipa_source,
        context_type=sentence.context_type,
        frame=sentence.frame,
        source=sentence.source,
    )


def _occurs(term: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(term)}(?!\w)", text, re.IGNORECASE) is not None


def audition_plans(plans: Sequence[ClipPlan]) -> list[ClipPlan]:
    """One clip per term for a person to listen to: the least noisy one planned."""
    chosen: dict[str, ClipPlan] = {}
    for clip in sorted(plans, key=lambda clip: -(snr_of(clip.noise_level) or 99.0)):
        chosen.setdefault(clip.term, clip)
    return [chosen[term] for term in dict.fromkeys(clip.term for clip in plans)]


def synthesise(
    plans: Sequence[ClipPlan],
    folder: Path,
    synthesise: Synthesise,
    *,
    markup: Markup | None = None,
    progress: Progress[Any] = silent_progress,
) -> list[Receipt]:
    """Speak what is not there yet; one receipt per plan, in order. See :func:`clinical_asr.clips.render`."""
    return render(plans, folder, synthesise, markup=markup, progress=progress)
