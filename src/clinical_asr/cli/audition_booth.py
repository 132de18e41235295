"""What the audition's desk speaks with: the stages that plan a clip and the engine that says it, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clinical_asr.cli.console import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clinical_asr.audition_desk import Booth
    from clinical_asr.clips import ClipPlan, Receipt
    from clinical_asr.records import Pronunciation, Sentence, Term

ACCENTS = {"en-us": "as the engine reads it, American", "en-gb": "as the engine reads it, British"}


def booth(
    terms: Path, fixes: Path, sentences: Path | None, pronunciations: Path | None, voice: str, seed: int
) -> Booth:
    """Clips of these terms in one voice, without noise; ``fixes`` are the overrides that hold and are added to.

    Raises FlywheelError for a file or a voice that cannot be used.
    """
    from clinical_asr.audition_desk import Booth
    from clinical_asr.cli.engines import check_voices
    from clinical_asr.terms import read_terms

    check_voices((voice,), "--voice")
    listed = read_terms(terms)
    spoken = _sentences(listed, sentences, seed)
    plans = partial(_plans, listed, spoken, _dictionary(pronunciations), fixes, voice, seed)
    return Booth(
        plans=plans, record=_record, say=_say, own_ipa=_own_ipa(voice), suggest=_suggest, override=partial(_add, fixes)
    )


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


def _record(plans: Sequence[ClipPlan], folder: Path) -> list[Receipt]:
    from clinical_asr.cli.engines import markup, synthesiser
    from clinical_asr.rendering import render

    return render(plans, folder, synthesiser(), markup=markup(), progress=progress)


def _say(text: str, sounds: Mapping[str, str], voice: str) -> NDArray[np.float32]:
    from clinical_asr.cli.engines import markup, synthesiser

    return synthesiser()(markup()(text, sounds), voice)


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
