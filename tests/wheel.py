"""Fakes that turn the wheel in milliseconds: a voice of tones, a recogniser that learns, a trainer that notes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clinical_asr.boosting import Boosting
from clinical_asr.config import ComparisonConfig, GateConfig, SplitConfig, SynthesisConfig, TrainingConfig
from clinical_asr.cycle import Cycle, file_digest
from clinical_asr.errors import ModelError
from clinical_asr.hypotheses import Heard
from clinical_asr.request import Engines, Journal, Request
from clinical_asr.training import EpochReport, Evaluate, OnStep, TrainingJob, TrainingReport

TERMS = {"drug": ("cefazolin", "apixaban", "enoxaparin", "tacrolimus", "ondansetron", "gentamicin",
                  "methotrexate", "amiodarone", "vancomycin", "warfarin"), "lab": ("troponin", "ferritin"),
         "role": ("perfusionist", "phlebotomist")}  # fmt: skip


class KilledError(Exception):
    """Stands for kill -9: nothing catches it."""


class Works:
    """Counts what each engine was asked; ``dies_at`` names the engine and the call at which the process is killed."""

    def __init__(self, dies_at: tuple[str, int] | None = None, knows: float = 1.0, general_errors: int = 0) -> None:
        self.calls: dict[str, int] = {}
        self.dies_at, self.knows, self.general_errors = dies_at, knows, general_errors
        self.unboostable = ""
        self.said: dict[Path, str] = {}

    def called(self, engine: str) -> None:
        self.calls[engine] = self.calls.get(engine, 0) + 1
        if self.dies_at == (engine, self.calls[engine]):
            raise KilledError(engine)

    def synthesise(self, text: str, voice_id: str) -> Any:
        """A tone as long as the text: a tenth of a second a letter, pitched by its words."""
        self.called("synthesise")
        pitch = 200 + sum(map(ord, text + voice_id)) % 700
        return (0.3 * np.sin(np.arange(int(16_000 * 0.06 * len(text))) * pitch * 2 * np.pi / 16_000)).astype(np.float32)

    def boost(self, plain: Any, boosting: Boosting) -> Boosted:
        """Leans towards terms, unless it is told that it cannot."""
        if self.unboostable:
            raise ModelError(self.unboostable, mend="boost another one")
        return Boosted(plain, boosting)

    def train(self, job: TrainingJob, evaluate: Evaluate | None, on_step: OnStep | None) -> TrainingReport:
        """Writes a 'model' that says it was trained."""
        self.called("train")
        job.output.write_bytes(b"tuned")
        epoch = EpochReport(1, 1.0, len(job.examples), 0.1)
        return TrainingReport(
            digest=file_digest(job.output), epochs=(epoch,), best_epoch=1, stopped_early=False, steps=1, batch_size=4,
            accumulate_grad_batches=1, warmup_steps=0, precision="32-true", loss="fake", seconds=0.1,
            peak_memory_mb=1.0, resumed_after_epoch=0, notes=(), versions={}, hardware="fake",
        )  # fmt: skip


class Recogniser:
    """Hears everything but the terms; after training it hears the share ``knows`` of them."""

    batch_size = 16

    def __init__(self, works: Works, path: Path, name: str, texts: Callable[[], Mapping[str, tuple[str, str]]]) -> None:
        self.works, self.name, self.digest, self.texts = works, name, file_digest(path)[:16], texts
        self.tuned = path.read_bytes() == b"tuned"

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, Heard]:
        self.works.called("transcribe")
        return {key: self.hear(key, *self.texts()[key]) for key in audio}

    def hear(self, key: str, text: str, term: str) -> str:
        if term:
            known = self.tuned and int(key, 16) % 100 < 100 * self.works.knows
            return text if known else text.replace(term, "something")
        spoilt = self.tuned and int(key, 16) % 100 < self.works.general_errors
        return f"oops {text}" if spoilt else text


class Boosted:
    """Hears a share of the listed terms that grows with the strength; from 1 on it also hears one that nobody said."""

    batch_size = 16

    def __init__(self, plain: Recogniser, boosting: Boosting) -> None:
        self.plain, self.boosting, self.works = plain, boosting, plain.works
        self.name, self.digest = boosting.named(plain.name), boosting.identity(plain.digest)

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, Heard]:
        self.works.called("boosted")
        return {key: self.hear(key, *self.plain.texts()[key]) for key in audio}

    def hear(self, key: str, text: str, term: str) -> str:
        leans = term in self.boosting.listed and int(key, 16) % 100 < 60 * self.boosting.strength
        heard = text if leans else self.plain.hear(key, text, term)
        invents = self.boosting.strength >= 1 and int(key, 16) % 10 == 0
        return f"{heard} {self.boosting.listed[0]}" if invents else heard


def engines(works: Works, cycle: Cycle, told: list[str]) -> Engines:
    """All of them fakes; the recogniser looks the text up in the manifests, as only a fake can."""
    from clinical_asr.jsonl import iter_objects

    def texts() -> dict[str, tuple[str, str]]:
        files = [cycle.manifest, cycle.general_manifest("guard"), cycle.general_manifest("selection")]
        rows = [row for path in files if path.exists() for _, row in iter_objects(path)]
        return {row["id"]: (row["text"], row.get("term", "")) for row in rows}

    def progress(items: Sequence[Any], _: str) -> Iterable[Any]:
        return items

    return Engines(
        synthesise=works.synthesise, transcriber=lambda path, name: Recogniser(works, path, name, texts),
        train=works.train, listen=lambda model, audio, *, exact=False: {},
        journal=Journal(cycle.timings, told.append), progress=progress, boost=works.boost,
    )  # fmt: skip


def request(folder: Path, words: Mapping[str, Sequence[str]] = TERMS, **changes: Any) -> Request:
    """``words`` by category, in two voices: fourteen terms are 112 rows. Forty guard rows."""
    folder.mkdir(parents=True, exist_ok=True)
    base, terms = folder / "base.nemo", folder / "terms.csv"
    base.write_bytes(b"base")
    lines = [f"{term},{category}" for category, names in words.items() for term in names]
    terms.write_text("\n".join(["term,entity_category", *lines]) + "\n")
    order: dict[str, Any] = {
        "base": base, "base_name": "fake", "terms": terms, "guard_rows": 40,
        "waiver": "a test: there is nobody to listen",
        "recipe": TrainingConfig(name="fake", epochs=1, replay_ratio=0.5), "guard_voices": ("g1", "g2"),
        "replay_voices": ("r1",), "synthesis": SynthesisConfig(voices=("v1", "v2"), noise_levels=("clean",)),
        "gate": GateConfig(min_rows=50), "split": SplitConfig(hold_out_sentences=0.2),
        "comparison": ComparisonConfig(),
    }  # fmt: skip
    return Request(**(order | changes))
