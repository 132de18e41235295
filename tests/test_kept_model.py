"""A model in memory stands in for its file, once, if the file has not changed; what comes of it is the same."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinical_asr.config import load_recipe
from clinical_asr.training import TrainingJob

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.engines.nemo_asr import NemoTranscriber  # noqa: E402
from clinical_asr.engines.nemo_sft import train  # noqa: E402
from clinical_asr.nemo_file import keep, restore  # noqa: E402
from trained import examples  # noqa: E402

pytestmark = pytest.mark.nemo


@pytest.fixture
def base(tiny_nemo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_nemo, tmp_path / "base.nemo"))


@pytest.fixture
def job(base: Path, tiny_manifest: Path, tmp_path: Path) -> TrainingJob:
    recipe = msgspec.structs.replace(load_recipe("smoke"), epochs=1)
    return TrainingJob(base, examples(tiny_manifest, 8), recipe, tmp_path / "plain.nemo")


def weights(model: Any) -> dict[str, Any]:
    return {name: value.cpu() for name, value in model.state_dict().items()}


def place(model: Any) -> str:
    return str(next(model.parameters()).device.type)


def test_it_is_given_back_once(base: Path) -> None:
    model = restore(base)
    keep(model, base)
    assert restore(base) is model and restore(base) is not model


def test_a_file_that_has_changed_is_read(base: Path) -> None:
    model = restore(base)
    keep(model, base)
    os.utime(base, ns=(1, 1))
    assert restore(base) is not model


def test_another_file_lets_it_go(base: Path, tmp_path: Path) -> None:
    model, other = restore(base), Path(shutil.copy(base, tmp_path / "other.nemo"))
    keep(model, base)
    assert restore(other) is not model and restore(base) is not model


def test_heard_with_and_trained_on_it_gives_the_same_model(job: TrainingJob, tmp_path: Path) -> None:
    train(job)
    ears = NemoTranscriber(job.base, kept=True)
    ears.transcribe({example.id: example.audio for example in job.examples})
    again = dataclasses.replace(job, output=tmp_path / "kept.nemo")
    if place(ears.model) == "cuda":
        pytest.skip("a GPU's sums differ from run to run")
    train(again)
    read, kept = restore(job.output), restore(again.output)
    assert read.cfg.decoding == kept.cfg.decoding, "the file's way of decoding, not the listener's"
    assert all(torch.equal(one, weights(kept)[name]) for name, one in weights(read).items())


def test_the_tuned_model_is_handed_over_as_it_was_written(job: TrainingJob) -> None:
    train(job, hand_over=keep)
    handed = NemoTranscriber(job.output)
    read = NemoTranscriber(job.output)
    assert handed.model is not read.model and handed.digest == read.digest
    audio = {example.id: example.audio for example in job.examples}
    assert handed.transcribe(audio) == read.transcribe(audio)
    assert all(torch.equal(one, weights(read.model)[name]) for name, one in weights(handed.model).items())
