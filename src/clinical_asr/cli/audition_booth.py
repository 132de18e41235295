"""What the audition's desk speaks with: the stages that plan a clip and the engine that says it, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clinical_asr.cli.console import progress

if TYPE_CHECKING:
    from clinical_asr.audition_desk import Booth
    from clinical_asr.cli.voices import Speech
    from clinical_asr.clips import ClipPlan, Markup, Synthesise
    from clinical_asr.records import Pronunciation, Sentence, Term

    Plans = Callable[[], Sequence[ClipPlan]]

ACCENTS = {"en-us": "as eSpeak NG reads it, American", "en-gb": "as eSpeak NG reads it, British"}


def booth(plans: Plans, fixes: Path, voice: str, speech: Speech, synthesise: Synthesise, markup: Markup) -> Booth:
    """What these clips are spoken with; ``fixes`` are the overrides that hold and are added to."""
    from clinical_asr.audition_desk import Booth
    from clinical_asr.rendering import render

    return Booth(
        plans=plans,
        record=lambda wanted, folder: render(wanted, folder, synthesise, markup=markup, progress=progress),
        say=lambda text, sounds, voice_id: synthesise(markup(text, sounds), voice_id),
        own_ipa=(lambda word: "") if speech.remote else _own_ipa(voice),
        suggest=_suggest,
        override=partial(_add, fixes),
        engine=speech.engine,
    )


def clips_of(
    terms: Path, fixes: Path, sentences: Path | None, pronunciations: Path | None, voice: str, seed: int
) -> Plans:
    """The clips of these terms in one voice, without noise, by the overrides as they stand at each call.

    Raises FlywheelError for a file that cannot be used.
    """
    from clinical_asr.terms import read_terms

    listed = read_terms(terms)
    spoken = _sentences(listed, sentences, seed)
    return partial(_plans, listed, spoken, _dictionary(pronunciations), fixes, voice, seed)


def _sentences(terms: Sequence[Term], path: Path | None, seed: int) -> list[Sentence]:
    """The first sentence of each term. Raises ManifestError for a term without one."""
    from clinical_asr.errors import ManifestError
    from clinical_asr.jsonl import read_rows
    from clinical_asr.records import Sentence
    from clinical_asr.sentences import build_sentences

    first: dict[str, Sentence] = {}
    for sentence in read_rows(path, Sentence) if path else build_sentences(terms, 3, seed):
        first.setdefault(sentence.term, sentence)
    missing = [term.term for term in terms if term.term not in first]
    if missing:
        raise ManifestError(path, None, "term", f"no sentence for {missing[0]!r}", "run: clinical-asr sentences")
    return [first[term.term] for term in terms]


def _dictionary(path: Path | None) -> Callable[[Term], Pronunciation | None]:
    """What a file of pronunciations says of a term."""
    from clinical_asr.jsonl import read_rows
    from clinical_asr.records import Pronunciation

    known = {said.term.casefold(): said for said in (read_rows(path, Pronunciation) if path else ())}
    return lambda term: known.get(term.term.casefold())


def _plans(
    terms: Sequence[Term],
    sentences: Sequence[Sentence],
    dictionary: Callable[[Term], Pronunciation | None],
    fixes: Path,
    voice: str,
    seed: int,
) -> list[ClipPlan]:
    """One clean clip per term, by the overrides as they stand on disk at this moment."""
    from clinical_asr.audio import audition_plans, plan
    from clinical_asr.config import SynthesisConfig
    from clinical_asr.pronunciations import read_overrides, resolve

    said = resolve(terms, read_overrides(fixes), [dictionary])
    config = SynthesisConfig(voices=(voice,), voices_per_sentence=1, noise_levels=("clean",), seed=seed)
    return audition_plans(plan(sentences, said, config))


def _own_ipa(voice: str) -> Callable[[str], str]:
    """How the voice says a word by its own rules."""
    from clinical_asr.engines.espeak import Espeak, Voice

    return lambda word: Espeak().phonemes(word, Voice.parse(voice))


def _suggest(term: str) -> list[tuple[str, str]]:
    """What the ending of the term suggests, and how two accents would read it."""
    from clinical_asr.engines.espeak import Espeak, Voice
    from clinical_asr.engines.espeak_ipa import mnemonics
    from clinical_asr.suffixes import candidates

    american = Voice("en-us")
    found = dict(candidates(term, lambda text: Espeak().phonemes(text, american), mnemonics))
    for accent, why in ACCENTS.items():
        found.setdefault(Espeak().phonemes(term, Voice(accent)), why)
    return list(found.items())


def _add(fixes: Path, term: str, ipa: str, who: str, notes: str) -> None:
    from clinical_asr.pronunciations import Override, append_override

    now = datetime.now(UTC).isoformat(timespec="seconds")
    append_override(fixes, Override(term=term, ipa=ipa, verified_by=who, verified_at=now, notes=notes or "audition"))
