"""Rows for the decision tests: scores with chosen counts, and boards made of them."""

from __future__ import annotations

from collections.abc import Iterable

from clinical_asr.leaderboard import leaderboard
from clinical_asr.records import ClinicalUtterance, EntityCategory, Hypothesis, IpaSource, Stratum
from clinical_asr.scores import score, signature
from clinical_asr.tally import Leaderboard, Score, Signature


def hypothesis(
    row_id: str,
    *,
    heard: bool = True,
    term: str = "cefazolin",
    category: EntityCategory = EntityCategory.DRUG,
    source: IpaSource = IpaSource.OVERRIDE,
    noise: str = "clean",
    voice: str = "v1",
    model: str = "base",
    digest: str = "aa",
) -> Hypothesis:
    """A row about ``term`` that was heard or was not; the rest of the sentence is always heard."""
    return Hypothesis(
        id=row_id,
        audio_filepath=f"audio/{row_id}.wav",
        text=f"Please give {term} now.",
        pred_text=f"please give {term if heard else 'something'} now",
        duration=1.0,
        term=term,
        entity_category=category,
        ipa_source=source,
        noise_level=noise,
        voice_id=voice,
        context_type="dictation",
        model=model,
        model_digest=digest,
    )


def rows(n: int, misses: int, *, terms: int = 5, start: int = 0, **fields: object) -> list[Hypothesis]:
    """``n`` rows over ``terms`` terms, of which the last ``misses`` are missed."""
    return [
        hypothesis(f"r{start + i:05d}", heard=i < n - misses, term=f"term{(start + i) % terms}", **fields)  # type: ignore[arg-type]
        for i in range(n)
    ]


def board(*groups: Iterable[Hypothesis]) -> Leaderboard:
    """A leaderboard of all rows of all groups."""
    everything = [row for group in groups for row in group]
    return leaderboard(score(everything), signature(everything))


def scored(hypotheses: list[Hypothesis]) -> tuple[list[Score], Signature]:
    """Scores and their signature."""
    return score(hypotheses), signature(hypotheses)


def guard(n: int, errors: int, prefix: str = "g") -> list[Score]:
    """``n`` rows of general speech of ten words each, the first ``errors`` with one word wrong."""
    said = [f"one two three four five six seven eight nine word{i}" for i in range(n)]
    return score(
        Hypothesis(id=f"{prefix}{i}", audio_filepath=f"g/{i}.wav", text=text, duration=3.0,
                   pred_text=text if i >= errors else text.replace("three", "tree"))
        for i, text in enumerate(said)
    )  # fmt: skip


def utterance(
    row_id: str,
    *,
    text: str = "give cefazolin now",
    term: str = "cefazolin",
    category: EntityCategory = EntityCategory.DRUG,
    voice: str = "v1",
    noise: str = "clean",
    audio: str = "",
    **extra: object,
) -> ClinicalUtterance:
    """A manifest row."""
    return ClinicalUtterance(
        id=row_id,
        audio_filepath=audio or f"{row_id}.wav",
        text=text,
        duration=1.0,
        term=term,
        entity_category=category,
        ipa_source=IpaSource.G2P,
        voice_id=voice,
        noise_level=noise,
        context_type="dictation",
        extra=dict(extra),
    )


def all_strata(ids: Iterable[str], stratum: Stratum = Stratum.NEW_SENTENCE) -> dict[str, Stratum]:
    """The same stratum for all rows."""
    return dict.fromkeys(ids, stratum)
