"""Up the ladder: the rungs of one cycle heard, one file each, and laid on one board. Knows no engine by name.

The strengths of boosting are settled first, on rows that decide nothing; only then is a boosted decoder given held-out
rows and the guard set, once, at that strength. A file that is present is complete, so a killed climb goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import finetune, hypotheses, ladder, scores, split
from clinical_asr.bases import base_digest
from clinical_asr.benchmark import general_stage
from clinical_asr.boosting import Boosting
from clinical_asr.cycle import Cycle
from clinical_asr.errors import ConfigError, FlywheelError, ModelError
from clinical_asr.html_ladder import write_ladder_html
from clinical_asr.hypotheses import Heard, Transcriber
from clinical_asr.jsonl import append_row, read_json, read_rows, write_json, write_text
from clinical_asr.judge import Judge, Recordings
from clinical_asr.ladder import BASE, BASE_BOOSTED, STRENGTHS, TUNED, TUNED_BOOSTED, Choice, Climbed, Ladder, Trial
from clinical_asr.ladder_report import ladder_markdown
from clinical_asr.records import ClinicalUtterance, Hypothesis, Row, Seconds, Utterance
from clinical_asr.request import Engines, Request
from clinical_asr.round_trip import without_suspects
from clinical_asr.selection import carve
from clinical_asr.split import TooFewRowsError
from clinical_asr.tally import Score, pooled
from clinical_asr.training import Margins

SHARE = 0.12
"""Of the training rows, to choose the base's strength by where the recipe keeps none apart."""
CHOOSING = ("choosing", "general")
"""Parts that a strength is chosen by, and that speed is measured on."""


def climb(
    cycle: Cycle, request: Request, engines: Engines,
    benchmark: Sequence[ClinicalUtterance], guard: Sequence[Utterance], untuned: str = "",
) -> None:  # fmt: skip
    """Write ``ladder.json`` (last), ``.md`` and ``.html``; ``untuned`` says why there is no tuned model.

    Nothing is done unless the request asks for it, or where the board is there already.
    """
    if not request.ladder or cycle.ladder("json").exists():
        return
    usable = without_suspects(cycle, benchmark, request.normaliser)
    try:
        parts = split.split(usable, request.split)
    except TooFewRowsError as few:
        with engines.journal.step("ladder") as did:
            did(f"none, for nothing can be held out: {few.decision.reason}")
        return
    general = general_stage(cycle, request, engines, "selection", request.general_rows_that_choose)
    with engines.journal.step("ladder") as did:
        found = _Climb(cycle, request, engines, parts, Recordings(general, cycle.general), guard, untuned).board()
        did(found.reason)


class NotBoostable(ModelError):
    """The decoder cannot lean towards terms; ``what`` says why."""


class BatchSpeed(Row, frozen=True, kw_only=True):
    """One batch on one rung."""

    file: str
    """Stem of the file that the batch went to."""
    audio: Seconds
    seconds: Seconds
    cpu_seconds: Seconds


class Timed:
    """A recogniser that writes down how long each batch took."""

    def __init__(self, inner: Transcriber, file: str, rows: Iterable[Utterance], book: Path) -> None:
        self.name, self.digest, self.batch_size = inner.name, inner.digest, inner.batch_size
        self._inner, self._file, self._book = inner, file, book
        self._durations = {row.id: row.duration for row in rows}

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, Heard]:
        """As the recogniser answers."""
        wall, cpu = time.perf_counter(), time.process_time()
        heard = self._inner.transcribe(audio)
        took, worked = time.perf_counter() - wall, time.process_time() - cpu
        said = sum(self._durations[key] for key, told in heard.items() if isinstance(told, str))
        if said:  # recordings that are away are soon done with
            append_row(self._book, BatchSpeed(file=self._file, audio=said, seconds=took, cpu_seconds=worked))
        return heard


@dataclass
class Ear:
    """One model of the ladder, loaded when a file is missing, and only then."""

    cycle: Cycle
    engines: Engines
    key: str
    """``base`` or ``tuned``."""
    path: Path
    name: str
    terms: tuple[str, ...]
    _plain: Transcriber | None = None

    def hear(self, part: str, side: Recordings, strength: float) -> list[Hypothesis]:
        """What it hears of ``side`` with its decoder boosted by ``strength``; 0 is the plain decoder.

        Raises NotBoostable, ConfigError if the file that is there is another decoder's, FlywheelError if no row is
        heard.
        """
        output = self.cycle.rung(self.key, strength, part)
        if not hypotheses.is_heard(output):
            ear = Timed(self._decoder(strength, side), output.stem, side.rows, self.cycle.rung_speeds)
            ledger = output.with_name(f"{output.stem}.ledger.jsonl")
            hypotheses.hear(side.rows, side.folder, ear, output, ledger, progress=self.engines.progress)
        heard = read_rows(output, Hypothesis)
        if {row.model_digest for row in heard} - {self.identity(strength)}:
            raise ConfigError("is the work of another model or another list of terms", str(output), "delete it")
        return heard

    def identity(self, strength: float) -> str:
        """What must stand in each row."""
        weights = base_digest(self.path)[:16]
        return Boosting(self.terms, strength).identity(weights) if strength else weights

    def _decoder(self, strength: float, side: Recordings) -> Transcriber:
        if self._plain is None:
            self._plain = self.engines.transcriber(self.path, self.name)
            first = min(side.rows, key=lambda row: row.duration)
            self._plain.transcribe({first.id: side.audio(first)})  # what is made at the first call is not its speed
        if not strength:
            return self._plain
        if self.engines.boost is None:
            raise NotBoostable("this recogniser's decoder cannot be boosted")
        try:
            return self.engines.boost(self._plain, Boosting(self.terms, strength))
        except ModelError as error:
            raise NotBoostable(error.what) from error

    def speeds(self, strength: float) -> tuple[float | None, float | None]:
        """Seconds of audio heard in a second of the clock and of processor time, over the rows that choose."""
        files = {self.cycle.rung(self.key, strength, part).stem for part in CHOOSING}
        told = [one for one in read_rows(self.cycle.rung_speeds, BatchSpeed) if one.file in files]
        audio = sum(one.audio for one in told)
        wall, cpu = sum(one.seconds for one in told), sum(one.cpu_seconds for one in told)
        return audio / wall if wall else None, audio / cpu if cpu else None


class _Climb:
    """One ladder in the making."""

    def __init__(
        self, cycle: Cycle, request: Request, engines: Engines, parts: split.Split, general: Recordings,
        guard: Sequence[Utterance], untuned: str,
    ) -> None:  # fmt: skip
        self.cycle, self.request, self.parts, self.general, self.untuned = cycle, request, parts, general, untuned
        self.held = Recordings(parts.validation, cycle.folder)
        self.guard = Recordings(guard, cycle.general)
        rows, self.kept_apart = choosing_rows(parts.train, request)
        self.choosing = Recordings(rows, cycle.folder)
        self.judge = Judge(self.choosing, general, _already_heard)
        terms = tuple(sorted({row.term for row in (*parts.train, *parts.validation)}))
        name = f"{request.base_name}+{request.recipe.name}"
        self.base = Ear(cycle, engines, "base", request.base, request.base_name, terms)
        self.tuned = Ear(cycle, engines, "tuned", cycle.adapted_model, name, terms)

    def board(self) -> Ladder:
        """All rungs, written down."""
        choices, missing = self._choices()
        heard = self._heard(choices)
        rungs, left_out = self._climbed(heard, choices)
        found = ladder.ladder(
            rungs, missing, self.parts.strata, self._vocabulary(), choices, self.request.comparison,
            self.request.gate.tune_above, left_out,
        )  # fmt: skip
        write_text(self.cycle.ladder("md"), ladder_markdown(found))
        write_ladder_html(self.cycle.ladder("html"), found, rungs, strata=self.parts.strata)
        write_json(self.cycle.ladder("json"), found)
        return found

    # --- strengths ----------------------------------------------------------------------------------------------------

    def _choices(self) -> tuple[dict[str, Choice], dict[str, str]]:
        """The strength of each boosted rung, and why a rung is missing."""
        choices: dict[str, Choice] = {}
        missing = dict.fromkeys((TUNED, TUNED_BOOSTED), self.untuned) if self.untuned else {}
        plain = self._weigh(self.base, 0.0)  # first: the judge sets all others against it
        guard = scores.score(self._heard_before("before")[1], self.request.normaliser)
        margins = self.request.margins(pooled(guard).wer).on(plain)
        try:
            choices[BASE_BOOSTED] = self._choose(self.base, plain, margins, STRENGTHS)
        except NotBoostable as why:
            missing = dict.fromkeys((BASE_BOOSTED, TUNED_BOOSTED), why.what) | missing
        if not self.untuned:
            plain = self._weigh(self.tuned, 0.0)
            if BASE_BOOSTED in choices:
                tried = STRENGTHS if self.kept_apart else (choices[BASE_BOOSTED].strength,)
                choices[TUNED_BOOSTED] = self._choose(self.tuned, plain, margins, tried, borrowed=not self.kept_apart)
        return choices, missing

    def _choose(
        self, ear: Ear, plain: dict[str, float | None], margins: Margins, strengths: Sequence[float], *,
        borrowed: bool = False,
    ) -> Choice:  # fmt: skip
        trials = [Trial(strength, self._weigh(ear, strength)) for strength in strengths]
        sizes = len(self.choosing.rows), len(self.general.rows)
        found = ladder.choose_strength(trials, plain, *sizes, margins)
        return replace(found, borrowed=borrowed)

    def _weigh(self, ear: Ear, strength: float) -> dict[str, float | None]:
        sides = zip(CHOOSING, (self.choosing, self.general), strict=True)
        heard = [row for part, side in sides if side.rows for row in ear.hear(part, side, strength)]
        return self.judge({row.id: row.pred_text for row in heard})

    # --- held-out rows and the guard set ------------------------------------------------------------------------------

    def _heard(self, choices: Mapping[str, Choice]) -> dict[str, tuple[list[Hypothesis], list[Hypothesis]]]:
        """Held-out rows and guard set by rung; of the plain rungs what the cycle has heard already."""
        heard = {BASE: self._heard_before("before")}
        if BASE_BOOSTED in choices:
            heard[BASE_BOOSTED] = self._hear(self.base, choices[BASE_BOOSTED].strength)
        if not self.untuned:
            heard[TUNED] = self._heard_before("after")
        if TUNED_BOOSTED in choices:
            heard[TUNED_BOOSTED] = self._hear(self.tuned, choices[TUNED_BOOSTED].strength)
        return heard

    def _heard_before(self, when: str) -> tuple[list[Hypothesis], list[Hypothesis]]:
        wanted = {row.id for row in self.held.rows}
        rows = [row for row in read_rows(self.cycle.hypotheses(when), Hypothesis) if row.id in wanted]
        return rows, read_rows(self.cycle.guard_hypotheses(when), Hypothesis) if self.guard.rows else []

    def _hear(self, ear: Ear, strength: float) -> tuple[list[Hypothesis], list[Hypothesis]]:
        held = ear.hear("held_out", self.held, strength)
        return held, ear.hear("guard", self.guard, strength) if self.guard.rows else []

    def _climbed(
        self, heard: Mapping[str, tuple[list[Hypothesis], list[Hypothesis]]], choices: Mapping[str, Choice]
    ) -> tuple[list[Climbed], int]:
        """The rungs on the rows that all of them could hear, and how many rows that leaves out."""
        shared = [set.intersection(*({row.id for row in sides[n]} for sides in heard.values())) for n in (0, 1)]
        places = {row.id: row.audio_filepath for row in heard[BASE][0]}
        rungs = []
        for name, sides in heard.items():
            rows, guard = ([row for row in side if row.id in ids] for side, ids in zip(sides, shared, strict=True))
            rows = [msgspec.structs.replace(row, audio_filepath=places[row.id]) for row in rows]
            rungs.append(self._scored(name, rows, guard, choices))
        left_out = len(self.held.rows) + len(self.guard.rows) - sum(map(len, shared))
        return rungs, left_out

    def _scored(
        self, name: str, rows: list[Hypothesis], guard: list[Hypothesis], choices: Mapping[str, Choice]
    ) -> Climbed:
        normaliser, strength = self.request.normaliser, choices[name].strength if name in choices else 0.0
        ear = self.tuned if name in (TUNED, TUNED_BOOSTED) else self.base
        return Climbed(
            name, scores.score(rows, normaliser), scores.score(guard, normaliser),
            scores.signature(rows, normaliser), strength, *ear.speeds(strength),
            training_seconds(self.cycle) if ear is self.tuned else 0.0,
        )  # fmt: skip

    def _vocabulary(self) -> list[Score]:
        rows = read_rows(self.cycle.hypotheses("before"), Hypothesis)
        return scores.score(without_suspects(self.cycle, rows, self.request.normaliser), self.request.normaliser)


def choosing_rows(train: Sequence[ClinicalUtterance], request: Request) -> tuple[list[Utterance], bool]:
    """Training rows to choose a strength by, and whether fine-tuning keeps its hands off them."""
    apart = finetune.divide(train, request.recipe)[1]
    if apart:
        return apart, True
    chosen = carve(train, SHARE, request.seed)
    return [row for row in train if row.id in chosen or not chosen], False


def training_seconds(cycle: Cycle) -> Seconds:
    """How long fine-tuning took, by its own account."""
    return float(read_json(cycle.training_run_info).get("seconds") or 0.0)


def _already_heard(model: Any, audio: Mapping[str, Path], *, exact: bool = False) -> dict[str, str | FlywheelError]:
    """Transcripts that lie on the disk stand for a model that would make them."""
    return {key: model[key] for key in audio if key in model}
