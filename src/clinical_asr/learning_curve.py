"""What would help most: more sentences, more voices, or neither? Small trainings on parts of the rows say so.

Four trainings with cheap settings from the same base: a quarter of the rows, half of the sentences in every voice,
every sentence in half of the voices, all of it. Each is judged on the held-out rows of taught terms. No model is kept,
and nothing is promoted by it; held-out rows that are looked at again and again decide less firmly: no daily exercise.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr.config import TrainingConfig
from clinical_asr.errors import ConfigError
from clinical_asr.finetune import divide, draw_replay, require_apart
from clinical_asr.judge import Listen, Recordings
from clinical_asr.keywords import keyword_hits
from clinical_asr.records import Utterance
from clinical_asr.selection import term_of
from clinical_asr.statistics import PairedComparison, compare_by_term
from clinical_asr.text import DEFAULT_NORMALISER, normalise, term_key
from clinical_asr.training import Example, OnStep, TrainingJob, TrainModel

QUARTER, HALF_SENTENCES, HALF_VOICES, ALL = "a quarter", "half of the sentences", "half of the voices", "all"


@dataclass(frozen=True)
class CurvePoint:
    """One training: what it had, and which held-out rows it missed."""

    part: str
    rows: int
    sentences: int
    voices: int
    terms: int
    ker: float | None
    misses: dict[str, float]
    """Row id -> share of its occurrences that were missed."""


@dataclass(frozen=True)
class LearningCurve:
    """All points, the two comparisons that the advice rests on, and the advice."""

    points: list[CurvePoint]
    more_sentences: PairedComparison
    """All against half of the sentences, over terms: below 0 where the second half helped."""
    more_voices: PairedComparison
    advice: str
    left_out: list[str]
    """What is not on the curve and why, a sentence each."""


def cheap(config: TrainingConfig) -> TrainingConfig:
    """The recipe with at most two epochs and nothing to choose.

    >>> found = cheap(TrainingConfig(name="keep", epochs=4, factors=(0.5, 1.0), selection_fraction=0.1))
    >>> found.epochs, found.factors, found.selection_fraction
    (2, (1.0,), 0.0)
    """
    changes = {"epochs": min(config.epochs, 2), "factors": (1.0,), "selection_fraction": 0.0, "early_stop_patience": 0}
    return msgspec.structs.replace(config, **changes)


def parts(rows: Sequence[Utterance], seed: int) -> dict[str, list[Utterance]]:
    """The four parts; of every term half of the sentences (at least one), and half of the voices.

    The quarter, on which no advice rests, is left out where none of these sentences is said in these voices.
    Raises ConfigError if there is one voice only, or one sentence of every term: then nothing can be halved.
    """
    draw = random.Random(f"learning curve/{seed}")
    half = _half_of_sentences(rows, draw)
    voices = sorted({row.voice_id or "" for row in rows})
    kept = set(draw.sample(voices, max(1, len(voices) // 2)))
    halves = {HALF_SENTENCES: [row for row in rows if normalise(row.text) in half],
              HALF_VOICES: [row for row in rows if (row.voice_id or "") in kept]}  # fmt: skip
    for name, part in halves.items():
        if len(part) in (0, len(rows)):
            raise ConfigError(
                f"{name} cannot be taken", "--learning-curve", "needs two voices and two sentences a term"
            )
    quarter = [row for row in halves[HALF_SENTENCES] if (row.voice_id or "") in kept]
    return {**({QUARTER: quarter} if quarter else {}), **halves, ALL: list(rows)}


def _half_of_sentences(rows: Sequence[Utterance], draw: random.Random) -> set[str]:
    of_term: dict[str, set[str]] = {}
    for row in rows:
        of_term.setdefault(term_key(term_of(row)), set()).add(normalise(row.text))
    chosen: set[str] = set()
    for _, sentences in sorted(of_term.items()):
        chosen.update(draw.sample(sorted(sentences), max(1, len(sentences) // 2)))
    return chosen


def learning_curve(
    base: Path, config: TrainingConfig, train: Recordings, held_out: Recordings, replay: Recordings, work: Path,
    train_model: TrainModel, listen: Listen, *, on_step: OnStep | None = None,
) -> LearningCurve:  # fmt: skip
    """Train on every part and judge it. ``work`` is a folder for models that nobody keeps; an epoch is not resumed.

    Raises ConfigError if no held-out row has a term that is taught, if one is trained on, if nothing can be halved, or
    if the recipe replays and there is no general speech.
    """
    require_apart({"train": train, "replay": replay}, {"validation": held_out})
    config = cheap(config)
    usable, _ = divide(train.rows, config)
    taught = {term_key(term_of(row)) for row in usable} - {""}
    judged = [row for row in held_out.rows if term_key(term_of(row)) in taught]
    if not judged:
        raise ConfigError("no held-out row has a term that is taught", "--learning-curve", "give --validation")
    found, taken = parts(usable, config.seed), {row.id for row in (*train.rows, *held_out.rows)}
    drawn = {name: draw_replay(replay.rows, config, len(rows), taken) for name, rows in found.items()}
    points = []
    for name, rows in found.items():
        sides = Recordings(rows, train.folder), Recordings(drawn[name], replay.folder)
        job = _job(base, config, *sides, work / f"{name.replace(' ', '_')}.nemo")
        misses: dict[str, float] = {}
        train_model(job, _watch(Recordings(judged, held_out.folder), listen, misses), on_step)
        job.output.unlink(missing_ok=True)
        points.append(_point(name, rows, misses))
    left_out = _left_out(len(train.rows) - len(usable), config, found)
    return conclude(points, {row.id: term_key(term_of(row)) for row in judged}, left_out)


def _left_out(long: int, config: TrainingConfig, found: Mapping[str, Sequence[Utterance]]) -> list[str]:
    excluded = f"rows longer than the recipe's max_duration, {config.max_duration:g} s, are in no part: {long}"
    empty = f"{QUARTER} is not on the curve: none of its sentences is said in its voices"
    return [text for text, true in ((excluded, long), (empty, QUARTER not in found)) if true]


def _job(base: Path, config: TrainingConfig, rows: Recordings, general: Recordings, output: Path) -> TrainingJob:
    """Every clinical row and the first epoch's general ones, the other epochs' apart."""
    clinical = [Example(row.id, rows.audio(row), row.text, row.duration) for row in rows.rows]
    replayed = [Example(row.id, general.audio(row), row.text, row.duration, replayed=True) for row in general.rows]
    each_epoch = round(config.replay_ratio * len(clinical))
    examples, later = tuple(clinical + replayed[:each_epoch]), tuple(replayed[each_epoch:])
    return TrainingJob(base, examples, config, output, more_replay=later)


def _watch(held: Recordings, listen: Listen, misses: dict[str, float]) -> Any:
    def judge(model: Any) -> dict[str, float | None]:
        heard = listen(model, {row.id: held.audio(row) for row in held.rows})
        said = {key: text for key, text in heard.items() if isinstance(text, str)}
        misses.update({row.id: _missed(row, said.get(row.id, "")) for row in held.rows})
        return {"ker": sum(misses.values()) / len(misses), "wer": None}

    return judge


def _missed(row: Utterance, heard: str) -> float:
    return keyword_hits(row.text, heard, term_of(row), DEFAULT_NORMALISER).ker or 0.0


def _point(name: str, rows: Sequence[Utterance], misses: dict[str, float]) -> CurvePoint:
    ker = sum(misses.values()) / len(misses) if misses else None
    sentences, voices = {normalise(row.text) for row in rows}, {row.voice_id for row in rows}
    terms = {term_key(term_of(row)) for row in rows}
    return CurvePoint(name, len(rows), len(sentences), len(voices), len(terms), ker, misses)


def conclude(points: Sequence[CurvePoint], terms: Mapping[str, str], left_out: Sequence[str] = ()) -> LearningCurve:
    """What helped: the second half of the sentences, of the voices, or nothing that these terms could show."""
    by_part = {point.part: point for point in points}
    sentences, voices = (_against(by_part[name], by_part[ALL], terms) for name in (HALF_SENTENCES, HALF_VOICES))
    advice = _advice(sentences, voices, by_part[ALL])
    return LearningCurve(list(points), sentences, voices, advice, list(left_out))


def _against(part: CurvePoint, whole: CurvePoint, terms: Mapping[str, str]) -> PairedComparison:
    ids = sorted(part.misses.keys() & whole.misses.keys())
    return compare_by_term([terms[i] for i in ids], [part.misses[i] for i in ids], [whole.misses[i] for i in ids])


def _advice(sentences: PairedComparison, voices: PairedComparison, whole: CurvePoint) -> str:
    helped = {name: -(found.mean_difference or 0.0) for name, found in (("sentences", sentences), ("voices", voices))
              if found.conclusive and (found.mean_difference or 0.0) < 0}  # fmt: skip
    if helped:
        best = max(helped, key=lambda name: helped[name])
        return f"more {best} would help most: the second half of them took {100 * helped[best]:.0f} points off the KER"
    known = [found.minimum_detectable_difference for found in (sentences, voices)]
    detectable = max(1.0 if difference is None else difference for difference in known)
    if detectable > 0.1:
        return (
            f"inconclusive: {sentences.n_terms} terms show only differences of {100 * detectable:.0f} points: add terms"
        )
    ker = "unknown" if whole.ker is None else f"{whole.ker:.0%}"
    return f"flat at KER {ker}: neither more sentences nor more voices of these terms would help; add terms"


def markdown(curve: LearningCurve) -> str:
    """The table, what is not in it, and the advice."""
    head = "| trained on | rows | sentences | voices | terms | held-out KER |\n|---|---:|---:|---:|---:|---:|"
    lines = [
        f"| {p.part} | {p.rows} | {p.sentences} | {p.voices} | {p.terms} | {p.ker or 0:.1%} |" for p in curve.points
    ]
    told = [f"{text[0].upper()}{text[1:]}." for text in (*curve.left_out, curve.advice)]
    return "\n".join(["# Learning curve", "", head, *lines, "", "\n\n".join(told), ""])
