"""This package elsewhere: the same engine, in a Python environment of another machine, over one staged folder.

All that the local engine does is done there (replay, early stopping), and its ``training_run_info.json`` comes back, so
that the report is complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import yaml

from clinical_asr.bases import adopt, content_digest
from clinical_asr.config import TrainingConfig
from clinical_asr.engines.runners.hosts import Host
from clinical_asr.engines.runners.outcome import complaint, until_it_fits
from clinical_asr.engines.runners.staging import OUTPUT, log_of, stage, staged_beside
from clinical_asr.errors import TrainingError
from clinical_asr.jsonl import read_json, write_text
from clinical_asr.training import (
    Candidate,
    EpochReport,
    Evaluate,
    Example,
    Margins,
    OnStep,
    TrainingJob,
    TrainingReport,
)

MODEL = "adapted_model.nemo"
MARGINS = Margins()
THERE = PurePosixPath(".")
"""Paths of the staged manifests are relative to the manifests' own folder: they hold wherever it lies."""


@dataclass(frozen=True)
class PackageRunner:
    """A ``TrainModel`` that runs ``python -m clinical_asr finetune`` on ``host``.

    ``python`` is the interpreter there whose environment has the package with its ``nemo`` extra.
    """

    host: Host
    python: str = "python3"

    def __call__(self, job: TrainingJob, evaluate: Evaluate | None, on_step: OnStep | None) -> TrainingReport:
        """Stage, run there, bring back. Validation rows are judged there; ``evaluate`` is not called.

        What a run from this base that was broken off has left in the staged folder is continued. Raises TrainingError
        with what was wrong there and where the log lies.
        """
        folder = staged_beside(job.output)
        parts = manifests(job)
        stage(job.base, parts, folder, THERE)
        log = log_of(job.output)

        def run(config: TrainingConfig) -> int:
            recipe = msgspec.to_builtins(msgspec.structs.replace(config, selection_fraction=0.0))
            write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
            with self.host.holding(folder) as there:
                return self.host.run(self.command(there, set(parts), job.margins), log)

        _, notes = until_it_fits(job.config, run, log, complaint)
        report = collect(folder / OUTPUT, job.output)
        shutil.rmtree(folder)
        return replace(report, notes=(*notes, *report.notes))

    def command(
        self, there: PurePosixPath, parts: Set[str] = frozenset(("train", "validation")), margins: Margins = MARGINS
    ) -> list[str]:
        """What runs there, over the manifests of these names; who chooses there does so by these margins.

        >>> PackageRunner(Host, python="/opt/asr/bin/python").command(PurePosixPath("/tmp/job"))[:4]
        ['/opt/asr/bin/python', '-m', 'clinical_asr', 'finetune']
        """
        options = {name: f"{name}.jsonl" for name in sorted(parts)}
        options |= {"base": "base.nemo", "recipe": "recipe.yaml", "output": f"{OUTPUT}/{MODEL}"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(there / value))]
        limits = {"guard-margin": margins.rise, "guard-upper": margins.high, "guard-wer": margins.at}
        words += [word for name, value in limits.items() if value is not None for word in (f"--{name}", str(value))]
        return [self.python, "-m", "clinical_asr", "finetune", *words]


def manifests(job: TrainingJob) -> dict[str, Sequence[Example]]:
    """Rows to learn, to choose by and to replay apart, as the command there takes them; empty ones are left out.

    The rows that choose were taken out of the training rows here already, so the recipe that goes along takes out none.
    """
    parts: dict[str, Sequence[Example]] = {
        "train": [example for example in job.examples if not example.replayed],
        "validation": job.validation,
        "replay": [*(example for example in job.examples if example.replayed), *job.more_replay],
        "selection-guard": job.selection_guard,
    }
    return {name: examples for name, examples in parts.items() if examples}


def collect(results: Path, output: Path) -> TrainingReport:
    """Move the model to its place; its report, as the run there wrote it.

    Raises TrainingError if the model is not the one the report speaks of.
    """
    info: dict[str, Any] = read_json(results / "training_run_info.json")
    model = results / MODEL
    if content_digest(model) != info["model"]["sha256"]:
        raise TrainingError("the model that came back is not the one that was written there", str(model),
                            "run the command again")  # fmt: skip
    adopt(model, output)
    return report_of(info)


def report_of(info: dict[str, Any]) -> TrainingReport:
    """``training_run_info.json`` read back into the report it was written from."""
    epochs = tuple(EpochReport(**epoch) for epoch in info["metrics_per_epoch"])
    known = {name: info[name] for name in TrainingReport.__dataclass_fields__ if name in info}
    chosen = info.get("selection") or {}
    judged = {
        "base_metrics": chosen.get("base") or {},
        "candidates": tuple(Candidate(**told) for told in chosen.get("candidates") or ()),
        "chosen": Candidate(**chosen["chosen"]) if chosen.get("chosen") else None,
    }
    fields = {**known, **info["effective"], **judged, "digest": info["model"]["sha256"], "epochs": epochs}
    return TrainingReport(**{**fields, "notes": tuple(fields["notes"])})
