"""Stage audio: every sentence in several voices and noise levels, spoken once and kept.

Voices and noise levels are dealt out per term, from the term's own name and the seed. So a term list that grows keeps
the clips it has, and no voice is tied to one noise level.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from clinical_asr.clips import ClipPlan, talkers_for
from clinical_asr.conditions import CLEAN
from clinical_asr.config import SynthesisConfig
from clinical_asr.errors import FlywheelError
from clinical_asr.noise import decks, snr_of
from clinical_asr.records import Pronunciation, Sentence
from clinical_asr.ssml import Terms


def plan(
    sentences: Sequence[Sentence], pronunciations: Sequence[Pronunciation], config: SynthesisConfig
) -> list[ClipPlan]:
    """Sentences x voices, with noise levels in turn. A clip that would be made twice is planned once.

    Raises as :class:`Plan` does.
    """
    return list(Plan(sentences, pronunciations, config))


class Plan:
    """The same, clip by clip, each time it is gone through: a plan of any length in the memory of its terms.

    ``sentences`` can be gone through more than once (a list, or a view of a file).

    Raises:
        ConfigError: a noise level cannot be read.
        FlywheelError: a sentence's term has no pronunciation.
    """

    def __init__(
        self, sentences: Iterable[Sentence], pronunciations: Iterable[Pronunciation], config: SynthesisConfig
    ) -> None:
        for level in config.noise_levels:
            snr_of(level)
        self.sentences, self.config = sentences, config
        self.known = {said.term: said for said in pronunciations}
        self.imposed = {said.term: said.ipa for said in self.known.values() if said.ipa}
        self._imposed = Terms(self.imposed)
        self._length: int | None = None

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self)
        return self._length

    def __contains__(self, clip: object) -> bool:
        return any(clip == planned for planned in self)

    def __iter__(self) -> Iterator[ClipPlan]:
        dealt: dict[str, tuple[int, array[int]]] = {}
        for term, sentences in groupby(self.sentences, key=lambda sentence: sentence.term):
            deal = _Deal(f"{self.config.seed}/{term}", self.config, *dealt.get(term, ()))
            yield from self._of_term(term, sentences, deal)
            dealt[term] = deal.turn, array("Q", deal.digests)

    def _of_term(self, term: str, sentences: Iterable[Sentence], deal: _Deal) -> Iterator[ClipPlan]:
        """Clips of a term's sentences, none twice."""
        if term not in self.known:
            raise FlywheelError(f"term {term!r} has no pronunciation", "audio", "run the pronunciations stage again")
        for sentence in sentences:
            for _ in range(self.config.voices_per_sentence):
                clip = self._clip(sentence, *deal.next())
                if (digest := int(clip.file_name[-20:-4], 16)) not in deal.digests:
                    deal.digests.add(digest)
                    yield clip

    def _clip(self, sentence: Sentence, voice: str, noise: str) -> ClipPlan:
        return ClipPlan(
            text=sentence.text,
            voice_id=voice,
            noise_level=noise,
            ipa=self._ipa_in(sentence.text),
            seed=self.config.seed,
            talkers=talkers_for(voice, self.config.voices, noise),
            label=sentence.term,
            term=sentence.term,
            entity_category=sentence.entity_category,
            ipa_source=self.known[sentence.term].ipa_source,
            context_type=sentence.context_type,
            frame=sentence.frame,
            source=sentence.source,
        )

    def _ipa_in(self, text: str) -> dict[str, str]:
        """Imposed pronunciations of the words in a text: not only of the row's own term."""
        return {term: self.imposed[term] for term in self._imposed.within(text)}


class _Deal:
    """Voices go round in the term's own order: a sentence never gets one twice. Noise levels come in shuffled decks.

    ``turn`` and ``digests`` (of the clips dealt: 16 hex digits as a number) say where an earlier deal left off.
    """

    def __init__(self, seed: str, config: SynthesisConfig, turn: int = 0, digests: Iterable[int] = ()) -> None:
        dealer = random.Random(seed)
        self.voices = dealer.sample(config.voices, len(config.voices))
        self.noise = decks(config.noise_levels, dealer)
        self.turn, self.digests = 0, set(digests)
        for _ in range(turn):
            self.next()

    def next(self) -> tuple[str, str]:
        """The next voice and noise level."""
        voice, self.turn = self.voices[self.turn % len(self.voices)], self.turn + 1
        return voice, next(self.noise)


def audition_plans(plans: Iterable[ClipPlan]) -> list[ClipPlan]:
    """One clip per term for a person to listen to: a clean one, else the least noisy one planned."""
    chosen: dict[str, ClipPlan] = {}
    for clip in plans:
        best = chosen.setdefault(clip.term, clip)
        if _noisiness(clip) < _noisiness(best):
            chosen[clip.term] = clip
    return list(chosen.values())


def _noisiness(clip: ClipPlan) -> tuple[bool, float]:
    snr = snr_of(clip.noise_level)
    return clip.noise_level != CLEAN, float("-inf") if snr is None else -snr
