"""In-process SFT of a real (tiny) NeMo model on CPU: it learns, repeats, resumes, refuses and leaves no litter."""

from __future__ import annotations

import dataclasses
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from clinical_asr.config import load_recipe
from clinical_asr.errors import TrainingError
from clinical_asr.training import Margins, TrainingJob, TrainingReport

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.bases import base_digest, inspect_base, sidecar_of  # noqa: E402
from clinical_asr.engines.nemo_asr import NemoTranscriber, listen  # noqa: E402
from clinical_asr.engines.nemo_sft import train  # noqa: E402
from clinical_asr.nemo_file import read_config  # noqa: E402
from clinical_asr.speech import read_speech  # noqa: E402
from trained import dies_at, equal, examples, weights  # noqa: E402

pytestmark = [pytest.mark.nemo, pytest.mark.skipif(torch.cuda.is_available(), reason="these are the CPU's promises")]
RECIPE = msgspec.structs.replace(load_recipe("smoke"), epochs=2, learning_rate=3e-3)


@pytest.fixture
def job(tiny_nemo: Path, tiny_manifest: Path, tmp_path: Path) -> TrainingJob:
    return TrainingJob(tiny_nemo, examples(tiny_manifest, 9), RECIPE, tmp_path / "out" / "adapted_model.nemo")


def hypotheses(model: Path, job: TrainingJob) -> dict[str, Any]:
    return NemoTranscriber(model).transcribe({example.id: example.audio for example in job.examples})


def test_it_learns_writes_atomically_and_leaves_no_litter(job: TrainingJob, tmp_path: Path) -> None:
    steps: list[tuple[int, int, float]] = []
    longer = dataclasses.replace(job, config=msgspec.structs.replace(RECIPE, epochs=6))
    report = train(longer, None, lambda *step: steps.append(step))
    assert [epoch.rows for epoch in report.epochs] == [9] * 6
    assert report.epochs[-1].loss < 0.85 * report.epochs[0].loss
    assert [step[:2] for step in steps] == [(n, 18) for n in range(1, 19)]
    assert sorted(path.name for path in job.output.parent.iterdir()) == [
        "adapted_model.nemo",
        "adapted_model.nemo.sha256",
    ]
    assert sidecar_of(job.output).read_text() == f"{report.digest}  adapted_model.nemo\n"
    assert base_digest(job.output) == report.digest != base_digest(job.base)
    assert not list(Path.cwd().glob("lightning_logs")) and not list(Path.cwd().glob("nemo_experiments"))
    assert report.precision == "32-true" and "without omega" in report.loss


def test_stock_nemo_reads_the_result_and_it_says_nothing_of_the_training(job: TrainingJob) -> None:
    from nemo.collections.asr.models import ASRModel

    train(job)
    model = ASRModel.restore_from(str(job.output), map_location="cpu")
    assert type(model.loss).__name__ == "RNNTLoss" and model.joint.fuse_loss_wer
    assert len(model.transcribe([str(job.examples[0].audio)], verbose=False)) == 1
    before, after = read_config(job.base), read_config(job.output)
    for noise in ("nemo_version", "tokenizer"):  # archive member names of the tokenizer are NeMo's own, drawn anew
        before.pop(noise, None), after.pop(noise, None)
    assert after == before
    assert inspect_base(job.output) == inspect_base(job.base)


def test_same_inputs_same_hypotheses_another_seed_other_weights(job: TrainingJob, tmp_path: Path) -> None:
    again = dataclasses.replace(job, output=tmp_path / "again.nemo")
    other_recipe = msgspec.structs.replace(RECIPE, seed=7)
    other = dataclasses.replace(job, config=other_recipe, output=tmp_path / "other.nemo")
    for each in (job, again, other):
        train(each)
    assert equal(weights(job.output), weights(again.output))
    assert hypotheses(job.output, job) == hypotheses(again.output, job)
    assert not equal(weights(job.output), weights(other.output))


def test_a_killed_run_goes_on_and_ends_where_an_unbroken_one_ends(job: TrainingJob, tmp_path: Path) -> None:
    job = dataclasses.replace(job, config=msgspec.structs.replace(RECIPE, epochs=3))
    unbroken = dataclasses.replace(job, output=tmp_path / "unbroken.nemo")
    train(unbroken)

    with pytest.raises(SystemExit):
        train(job, None, dies_at(8), state_worth=0.0)  # in the middle of the third epoch
    assert not job.output.exists()
    steps: list[int] = []
    report = train(job, None, lambda done, total, loss: steps.append(done), state_worth=0.0)
    assert steps == [7, 8, 9] and report.resumed_after_epoch == 2 and len(report.epochs) == 3
    assert equal(weights(job.output), weights(unbroken.output))
    assert not list(job.output.parent.glob("*.part*"))


def judged(scores: list[float]) -> Callable[[Any], dict[str, float | None]]:
    """Pretends KERs, the base's first, and disturbs the model as a transcription does."""

    def evaluate(model: Any) -> dict[str, float | None]:
        assert not model.training
        model.encoder.freeze()
        return {"ker": scores.pop(0), "wer": 0.5}

    return evaluate


def test_epochs_that_others_chose_among_are_not_gone_on_with(job: TrainingJob, tmp_path: Path) -> None:
    """A KER on some rows says nothing beside one on others: only what was judged alike is compared."""
    held, other = job.examples[7:8], job.examples[8:]
    job = dataclasses.replace(job, examples=job.examples[:7], validation=held, selection_guard=held)
    with pytest.raises(SystemExit):
        train(job, judged([1.0, 0.1]), dies_at(3), state_worth=0.0)  # in the second epoch
    respelt = (dataclasses.replace(held[0], text="the nurse asked"),)
    others: list[dict[str, Any]] = [{"validation": other}, {"validation": respelt}, {"validation": ()},
              {"selection_guard": other}, {"margins": Margins(rise=0.001)}, {}]  # fmt: skip
    for number, change in enumerate(others):
        folder = shutil.copytree(job.output.parent, tmp_path / str(number))
        asked = dataclasses.replace(job, output=folder / job.output.name, **change)
        report = train(asked, judged([1.0, 0.5, 0.4] if change else [1.0, 0.4]))
        assert report.resumed_after_epoch == (0 if change else 1), change
        assert [epoch.metrics["ker"] for epoch in report.epochs] == [0.5 if change else 0.1, 0.4]
        anew = [note for note in report.notes if note.startswith("started anew: the unfinished run that lay here")]
        assert len(anew) == bool(change) and report.best_epoch == (2 if change else 1)
        assert not list(folder.glob("*.part*"))


def test_the_best_epoch_is_written_and_patience_ends_it(job: TrainingJob, tmp_path: Path) -> None:
    patient = msgspec.structs.replace(RECIPE, epochs=5, early_stop_patience=2)
    report = train(dataclasses.replace(job, config=patient), judged([1.0, 0.5, 0.2, 0.4, 0.3]))
    assert (report.best_epoch, len(report.epochs), report.stopped_early) == (2, 4, True)
    assert [epoch.metrics["ker"] for epoch in report.epochs] == [0.5, 0.2, 0.4, 0.3]
    last = dataclasses.replace(job, config=patient, output=tmp_path / "last.nemo")
    train(last, judged([1.0, 0.5, 0.4, 0.3, 0.2, 0.1]))
    assert not equal(weights(job.output), weights(last.output))


def test_a_real_judgement_between_epochs(job: TrainingJob) -> None:
    def evaluate(model: Any) -> dict[str, float | None]:
        heard = listen(model, {example.id: example.audio for example in job.examples})
        return {"ker": None, "wer": float(sum(isinstance(text, str) for text in heard.values()))}

    report = train(job, evaluate)
    assert [epoch.metrics["wer"] for epoch in report.epochs] == [9.0, 9.0]
    assert report.epochs[1].loss < report.epochs[0].loss


def test_texts_the_tokenizer_lacks_are_named(job: TrainingJob) -> None:
    strange = dataclasses.replace(job.examples[4], text="the nurse asked for 5 µg")
    examples = (*job.examples[:4], strange)
    with pytest.raises(TrainingError, match=rf"row {strange.id}: the base's tokenizer lacks '5' 'µ'"):
        train(dataclasses.replace(job, examples=examples))


def test_audio_that_cannot_be_decoded_stops_it(job: TrainingJob, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    broken = dataclasses.replace(job.examples[0], audio=tmp_path / "bad.wav")
    with pytest.raises(TrainingError, match=f"row {broken.id}"):
        train(dataclasses.replace(job, examples=(broken, *job.examples[1:])))
    assert not job.output.exists()


def test_a_loss_that_is_not_a_number_stops_it(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from clinical_asr.engines.nemo_sft import batches

    monkeypatch.setattr(batches, "read_speech", lambda path: np.full_like(read_speech(path), np.inf))
    with pytest.raises(TrainingError, match=r"epoch 1, batch 1: the loss is (nan|inf)"):
        train(job)
    assert not job.output.exists()


def test_nothing_to_train_on_is_an_error(job: TrainingJob) -> None:
    with pytest.raises(TrainingError, match="no rows"):
        train(dataclasses.replace(job, examples=()))


def test_accumulation_counts_optimiser_steps(job: TrainingJob) -> None:
    config = msgspec.structs.replace(RECIPE, batch_size=2, accumulate_grad_batches=2)
    report: TrainingReport = train(dataclasses.replace(job, config=config))
    assert report.steps == 2 * 3  # nine rows: five batches: three steps an epoch


def test_the_loss_told_does_not_hang_on_how_a_batch_is_cut(job: TrainingJob) -> None:
    """Lightning divides each part's loss by the number of parts."""
    still = {"learning_rate": 1e-9, "min_learning_rate": 0.0, "distortion": False, "freeze_batch_norm": True}
    whole = msgspec.structs.replace(RECIPE, epochs=1, **still)
    told = []
    for size, parts in ((4, 1), (2, 2), (1, 4)):
        config = msgspec.structs.replace(whole, batch_size=size, accumulate_grad_batches=parts)
        output = job.output.with_name(f"{size}") / "adapted_model.nemo"
        told.append(
            train(dataclasses.replace(job, examples=job.examples[:8], config=config, output=output)).epochs[0].loss
        )
    assert told[1:] == pytest.approx([told[0]] * 2, rel=0.01)


@pytest.mark.parametrize("distortion", [False, True])
def test_where_nothing_is_drawn_a_prediction_network_of_two_layers_says_the_same_twice(
    distortion: bool, job: TrainingJob, tmp_path: Path
) -> None:
    """Between its layers a recurrent network drops by itself, in training mode, which cuDNN needs to go back."""
    from clinical_asr.engines.nemo_sft.epochs import keep_still
    from clinical_asr.engines.nemo_sft.surroundings import undropped
    from clinical_asr.nemo_file import restore
    from tiny_model import Shape, make_tiny_model

    model = restore(make_tiny_model(tmp_path / "two.nemo", "tdt", Shape(prediction_layers=2))).train()
    network, config = model.decoder.prediction.dec_rnn.lstm, msgspec.structs.replace(RECIPE, distortion=distortion)
    share = network.dropout
    tokens = {"targets": torch.randint(0, 90, (2, 7)), "target_length": torch.tensor([7, 7])}
    keep_still(model, config)
    with undropped(model, SimpleNamespace(config=config)):  # type: ignore[arg-type]
        one, other = (model.decoder(**tokens)[0] for _ in range(2))
    assert torch.equal(one, other) is not distortion
    assert network.dropout == share > 0 and network.training


def test_out_of_memory_halves_the_batch_and_says_so(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from clinical_asr.engines import nemo_sft

    stock, sizes = nemo_sft._fit, []

    def small_gpu(run: Any, *rest: Any) -> Any:
        sizes.append((run.config.batch_size, run.config.accumulate_grad_batches))
        if run.config.batch_size > 1:
            raise MemoryError
        return stock(run, *rest)

    monkeypatch.setattr(nemo_sft, "_fit", small_gpu)
    report = train(job)
    assert sizes == [(4, 1), (2, 2), (1, 4)]
    assert (report.batch_size, report.accumulate_grad_batches) == (1, 4)
    assert sum("halved" in note for note in report.notes) == 2


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_in_mid_run_leaves_nothing_of_it_in_memory(
    kind: type[RuntimeError], job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the base would not fit beside what has just been too much."""
    from clinical_asr.engines import nemo_sft
    from clinical_asr.engines.nemo_sft.epochs import Keeper

    before, after, seen = Keeper.before_step, nemo_sft.restore, []

    def fills_up(keeper: Keeper, optimizer: Any) -> None:
        before(keeper, optimizer)
        if keeper.config.batch_size == 4 and keeper.steps == 1:
            moments = next(iter(optimizer.state.values()))["exp_avg"]
            seen.extend(map(weakref.ref, (moments, optimizer, *optimizer.param_groups[0]["params"])))
            raise kind("CUDA error: out of memory")

    def restored(*asked: Any) -> Any:
        assert not any(each() is not None for each in seen), "something is held"
        return after(*asked)

    monkeypatch.setattr(Keeper, "before_step", fills_up)
    monkeypatch.setattr(nemo_sft, "restore", restored)
    report = train(job)
    assert seen and report.batch_size == 2 and report.accumulate_grad_batches == 2
    assert any("out of GPU memory: batch halved to 2" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["tiny_ctc", "tiny_rnnt"])
def test_other_heads_train_on_cpu_with_the_loss_of_nemo(
    kind: str, job: TrainingJob, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(kind)
    config = msgspec.structs.replace(RECIPE, epochs=1)
    report = train(dataclasses.replace(job, base=base, config=config, examples=job.examples[:4]))
    assert "NeMo's own" in report.loss and report.epochs[0].rows == 4
    assert len(hypotheses(job.output, job)) == 9


def test_a_run_that_starts_anew_leaves_no_state_beside_its_own_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, the run before would be gone on with and take them for its own."""
    from clinical_asr.engines.nemo_sft.store import STATE, WorkFolder

    def saves(work: WorkFolder, epoch: int) -> None:
        work._saved_at = -1e9
        work.keep_best({"of": torch.tensor(float(epoch))})
        work.save({"epoch": epoch, "best_epoch": epoch - 1, "weights": {}})

    first, second = (WorkFolder(tmp_path / "m.nemo", {"job": job}, 0.0) for job in "ab")
    saves(first, 2)
    assert second.load() is None and second.of_another and first.load() is not None
    write = second._write
    monkeypatch.setattr(second, "_write", lambda name, value: name != STATE and write(name, value))
    saves(second, 3)
    assert first.load() is None
