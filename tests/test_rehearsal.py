"""The batch that is tried before the first step: halved where it is too large, and without a trace where it is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinical_asr.config import load_recipe
from clinical_asr.errors import TrainingError
from clinical_asr.training import TrainingJob

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.engines.nemo_sft import train  # noqa: E402
from clinical_asr.engines.nemo_sft.batches import Batches  # noqa: E402
from clinical_asr.engines.nemo_sft.rehearsal import GIGABYTE, STEPS, Gpu  # noqa: E402
from trained import examples, weights  # noqa: E402

pytestmark = [pytest.mark.nemo, pytest.mark.skipif(torch.cuda.is_available(), reason="these are the CPU's promises")]
RECIPE = msgspec.structs.replace(load_recipe("smoke"), epochs=1, learning_rate=3e-3)


class FakeCard:
    """2 GiB and 1 GiB for each row of the largest batch it has seen, of ``gigabytes``."""

    def __init__(self, gigabytes: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gigabytes, self.tried, self.trained = gigabytes, list[list[int]](), list[int]()
        self._trying, self.looks = False, 0
        collate = Batches._collate

        def seen(batches: Batches, batch: list[int]) -> Any:
            if self._trying:
                self.tried.append(batch)
            else:
                self.trained.append(len(batch))
            return collate(batches, batch)

        monkeypatch.setattr(Batches, "_collate", seen)

    def available(self) -> int:
        return int(self.gigabytes * GIGABYTE)

    def reset(self) -> None:
        self._trying = not self._trying

    def look(self) -> None:
        self.looks += 1

    def peak(self) -> int:
        return (2 + len(self.tried[-1])) * GIGABYTE


@pytest.fixture
def job(tiny_ctc: Path, tiny_manifest: Path, tmp_path: Path) -> TrainingJob:
    return TrainingJob(tiny_ctc, examples(tiny_manifest, 9), RECIPE, tmp_path / "out" / "adapted_model.nemo")


def test_a_batch_that_fits_is_tried_and_leaves_no_trace(
    job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = dataclasses.replace(job, output=tmp_path / "plain.nemo")
    train(plain)
    card = FakeCard(10, monkeypatch)
    report = train(job, card=card)
    longest = sorted(job.examples, key=lambda example: -example.duration)[:4]
    assert [[job.examples[index] for index in batch] for batch in card.tried] == [longest] * STEPS
    assert card.looks == STEPS and sum(card.trained) == 9 and report.batch_size == 4
    assert "the longest 4 rows need 6.0 of 10.0 GiB" in report.notes
    one, other = weights(job.output), weights(plain.output)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_that_is_too_large_is_halved_before_anything_is_trained(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = FakeCard(4.5, monkeypatch)
    report = train(job, card=card)
    # After the halving, each step is two passes.
    assert [len(batch) for batch in card.tried] == [4] * STEPS + [2] * 2 * STEPS
    assert sum(card.trained) == 9 and max(card.trained) == 2
    assert (report.batch_size, report.accumulate_grad_batches, report.steps) == (2, 2, 3)
    told = "the longest 4 rows need 6.0 of 4.5 GiB: too little is left: batch halved to 2"
    assert any(note.startswith(told) for note in report.notes)


def test_a_card_too_small_for_one_row_is_an_error_and_no_model(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = FakeCard(2.5, monkeypatch)
    with pytest.raises(TrainingError, match="too small for one row"):
        train(job, card=card)
    assert not card.trained and not job.output.exists()


def test_without_a_gpu_there_is_nothing_to_fit(job: TrainingJob) -> None:
    assert "nothing to fit: there is no GPU" in train(job, card=Gpu()).notes


@pytest.mark.parametrize("runner", ["container", "ssh:gpu1", "torchrun:2"])
def test_only_this_process_can_try_before_the_first_step(runner: str) -> None:
    from clinical_asr.cli.runners import runner as made
    from clinical_asr.errors import ConfigError

    with pytest.raises(ConfigError, match="--fit"):
        made(runner, "python3", 5.0, False, fit=True)


def test_fit_through_the_command(tiny_ctc: Path, tiny_manifest: Path, tmp_path: Path) -> None:
    """Without a GPU it says so, and trains all the same."""
    import json

    from typer.testing import CliRunner

    from clinical_asr.cli import app

    (tmp_path / "recipe.yaml").write_text("epochs: 1\nprecision: 32-true\n")
    words = ["--train", str(tiny_manifest), "--base", str(tiny_ctc), "--recipe", str(tmp_path / "recipe.yaml")]
    done = CliRunner().invoke(app, ["finetune", *words, "--output", str(tmp_path / "out" / "m.nemo"), "--fit"])
    assert done.exit_code == 0, done.output
    assert "nothing to fit: there is no GPU" in done.output
    story = json.loads((tmp_path / "out" / "training_run_info.json").read_text())
    assert "nothing to fit: there is no GPU" in story["notes"] and "fit" not in story["recipe"]
