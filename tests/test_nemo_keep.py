"""What keeps a base's language in training, and the sentinels, on a real (tiny) NeMo model: each is provoked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from clinical_asr.config import load_recipe
from clinical_asr.errors import TrainingError
from clinical_asr.jsonl import read_rows
from clinical_asr.records import Utterance
from clinical_asr.training import Example, Margins, TrainingJob

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.engines import nemo_sft  # noqa: E402
from clinical_asr.engines.nemo_sft import train  # noqa: E402
from clinical_asr.engines.nemo_sft.anchor import Anchor, anchored  # noqa: E402
from clinical_asr.engines.nemo_sft.batches import Batches, tokenize  # noqa: E402
from clinical_asr.engines.nemo_sft.ranks import World  # noqa: E402
from clinical_asr.engines.nemo_sft.sentinels import Collapse, Gradients  # noqa: E402
from clinical_asr.engines.nemo_sft.sharing import Share  # noqa: E402
from clinical_asr.nemo_file import restore  # noqa: E402
from trained import weights  # noqa: E402

pytestmark = [pytest.mark.nemo, pytest.mark.skipif(torch.cuda.is_available(), reason="these are the CPU's promises")]
STOCK = msgspec.structs.replace(load_recipe("smoke"), epochs=1, learning_rate=3e-3)
KEEP = msgspec.structs.replace(
    load_recipe("keep"), epochs=1, learning_rate=3e-3, selection_fraction=0.0, factors=(0.5, 1.0)
)


@pytest.fixture
def job(tiny_nemo: Path, tiny_manifest: Path, tmp_path: Path) -> TrainingJob:
    """Four clinical rows, four replayed ones and four more of those."""
    rows = read_rows(tiny_manifest, Utterance)[:12]
    folder = tiny_manifest.parent
    examples = [
        Example(r.id, folder / r.audio_filepath, r.text, r.duration, replayed=n > 3) for n, r in enumerate(rows)
    ]
    return TrainingJob(tiny_nemo, tuple(examples[:8]), KEEP, tmp_path / "tuned.nemo", more_replay=tuple(examples[8:]))


def with_config(job: TrainingJob, **changes: Any) -> TrainingJob:
    return dataclasses.replace(job, config=msgspec.structs.replace(job.config, **changes))


def test_what_is_frozen_stays_and_the_encoder_learns(job: TrainingJob) -> None:
    train(with_config(job, factors=(1.0,)))
    before, after = weights(job.base), weights(job.output)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("encoder.") for name in moved)
    assert not any("running_" in name for name in moved), "BatchNorm's statistics are the base's"


def test_without_it_all_of_that_moves(job: TrainingJob) -> None:
    train(dataclasses.replace(job, config=STOCK))
    before, after = weights(job.base), weights(job.output)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("joint.") for name in moved) and any("running_mean" in name for name in moved)


def test_every_epoch_takes_other_general_rows_in_turn(job: TrainingJob) -> None:
    rows = [*job.examples, *job.more_replay]
    batches = Batches(rows, [[1]] * 12, size=4, seed=1, replay=4)
    turns = [{rows[index].id for index in batches.turn(epoch)} for epoch in (1, 2, 3)]
    assert turns[0] == {e.id for e in job.examples} and turns[2] == turns[0] != turns[1]
    assert turns[1] == {e.id for e in job.examples[:4]} | {e.id for e in job.more_replay}


def test_weights_between_the_base_and_the_tuned_model_are_judged_and_the_best_inside_is_written(
    job: TrainingJob, tmp_path: Path
) -> None:
    rises = iter([0.0, 0.02, 0.001])  # the base, the tuned epoch, half of the way

    def evaluate(model: Any) -> dict[str, float | None]:
        rise = next(rises)
        return {"ker": 0.5 - rise, "wer": 0.1, "guard_rise": rise, "guard_high": rise}

    report = train(job, evaluate)
    assert report.base_metrics["ker"] == 0.5
    assert [(c.factor, c.metrics["guard_rise"]) for c in report.candidates] == [(0.5, 0.001), (1.0, 0.02)]
    assert report.chosen is not None and report.chosen.factor == 0.5
    whole = dataclasses.replace(job, output=tmp_path / "whole.nemo", margins=Margins(1.0, 1.0))
    rises = iter([0.0, 0.02, 0.001])
    assert (train(whole, evaluate).chosen or report.chosen).factor == 1.0
    base, half, tuned = weights(job.base), weights(job.output), weights(whole.output)
    name = next(name for name in base if name.startswith("encoder.layers.1") and name.endswith("weight"))
    assert torch.allclose(half[name], (base[name] + tuned[name]) / 2, atol=1e-6) and not torch.equal(
        base[name], half[name]
    )


def test_an_epoch_that_has_left_the_margin_is_not_the_best_one(job: TrainingJob) -> None:
    told = iter([(0.9, 0.0), (0.4, 0.001), (0.3, 0.02), (0.35, 0.002)])  # the base, then three epochs: KER, rise

    def evaluate(model: Any) -> dict[str, float | None]:
        ker, rise = next(told)
        return {"ker": ker, "wer": 0.1, "guard_rise": rise, "guard_high": rise}

    report = train(with_config(job, epochs=3, factors=(1.0,)), evaluate)
    assert report.best_epoch == 3 and report.chosen is not None and report.chosen.metrics["guard_rise"] == 0.002


def test_an_epoch_that_has_left_the_margin_but_learnt_more_is_set_back(job: TrainingJob) -> None:
    """Where factors lead back to the base: an early epoch inside the margin has only learnt less."""
    told = iter([(0.9, 0.0), (0.8, 0.001), (0.3, 0.02), (0.45, 0.002), (0.4, 0.002)])  # base, three epochs, factor 0.5

    def evaluate(model: Any) -> dict[str, float | None]:
        ker, rise = next(told)
        return {"ker": ker, "wer": 0.1, "guard_rise": rise, "guard_high": rise}

    report = train(with_config(job, epochs=3, factors=(0.5, 1.0)), evaluate)
    assert report.best_epoch == 2 and report.chosen is not None
    assert (report.chosen.epoch, report.chosen.factor, report.chosen.metrics["ker"]) == (2, 0.5, 0.4)


def test_the_last_epoch_is_taken_if_chance_alone_may_have_made_it_worse(job: TrainingJob) -> None:
    kers = iter([0.9, 0.8, 0.3, 0.35, 0.5])  # the base, three epochs, factor 0.5
    report = train(with_config(job, epochs=3, factors=(0.5, 1.0)), lambda model: {"ker": next(kers), "wer": 0.1})
    assert report.best_epoch == 3 and report.chosen is not None and report.chosen.factor == 1.0


def distance(model: Any, anchor: Anchor, batches: Batches, known: set[int]) -> float:
    """Of a batch of all rows, if the base had heard only ``known``."""
    batch = batches._collate(list(range(8)))
    batches.share.take(list(range(8)))
    heard, anchor.rows = anchor.targets, list(range(8))
    anchor.targets = {row: target for row, target in heard.items() if row in known}
    with anchored(model, anchor):
        model(input_signal=batch[0], input_signal_length=batch[1])
        anchor.targets = heard
        return float(model.add_auxiliary_losses(torch.zeros(())))


def test_the_anchor_measures_replayed_rows_only_and_starts_at_nothing(job: TrainingJob) -> None:
    model = restore(job.base)
    model.preprocessor.featurizer.dither = 0.0
    everything = [dataclasses.replace(example, replayed=True) for example in job.examples]
    batches = Batches(everything, tokenize(model, everything), 8, 1)
    anchor, general = Anchor(model, 2.0, batches), {4, 5, 6, 7}
    assert distance(model, anchor, batches, general) == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        for parameter in model.encoder.layers[1].parameters():
            parameter.mul_(1.5)
    far = distance(model, anchor, batches, general)
    assert far > 0.01 and distance(model, anchor, batches, set()) == 0.0
    assert distance(model, anchor, batches, set(range(8))) > far
    assert model.add_auxiliary_losses(torch.ones(())) == 1.0, "nothing is left behind"
    assert anchor.added(torch.ones(())) == 1.0, "a distance that was held would hold its step's graph"


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_distance_of_a_batch_does_not_hang_on_the_number_of_processes(size: int) -> None:
    """Two replayed rows: from three processes on some have none of their own, and count none."""
    draw = torch.Generator().manual_seed(1)
    targets = {0: torch.randn(20, 8, generator=draw), 1: 3 * torch.randn(40, 8, generator=draw)}
    powers = [part_of_a_distance(targets, World(rank, size), None)[0] for rank in range(size)]
    shared = sum(part_of_a_distance(targets, World(rank, size), sum(powers))[1] for rank in range(size))
    assert shared == pytest.approx(part_of_a_distance(targets, World(), None)[1])


def part_of_a_distance(targets: dict[int, Any], world: World, power: Any) -> tuple[Any, float]:
    """What one process adds to the power, and to the loss where all have found ``power``."""
    share, seen = Share(world), []
    share.take([0, 1])
    anchor = Anchor.__new__(Anchor)
    anchor.weight, anchor.share, anchor.targets, anchor.rows = 1.0, share, targets, share.fed([0, 1])
    share.world = SimpleNamespace(summed=lambda own: (seen.append(own), own if power is None else power)[1])  # type: ignore[assignment]
    output = torch.zeros(len(anchor.rows), 8, 40)
    for place, row in enumerate(anchor.rows):
        output[place, :, : len(targets[row])] = targets[row].T + 0.1
    anchor.watch(None, None, (output,))
    return seen[0], float(anchor.added(0.0)) * share.loss_weight


def test_nothing_left_to_train_is_an_error(job: TrainingJob) -> None:
    with pytest.raises(TrainingError, match="nothing is left to train"):
        train(with_config(job, frozen=("encoder", "decoder", "joint")))


# --- sentinels --------------------------------------------------------------------------------------------------------


def silenced(model: Any) -> None:
    """All blanks: what a collapsed transducer says."""
    with torch.no_grad():
        model.joint.joint_net[-1].bias[:] = -100.0
        model.joint.joint_net[-1].bias[model.joint.num_classes_with_blank - model.joint.num_extra_outputs - 1] = 100.0


def talking(model: Any, monkeypatch: pytest.MonkeyPatch, texts: list[list[str]]) -> None:
    """Random weights say nothing worth hearing, so what is heard is put on."""
    monkeypatch.setattr(type(model), "transcribe", lambda self, speech, **_: texts.pop(0))


@pytest.mark.parametrize(("said", "name"), [(["", "", "", ""], "blanks"), (["⁇ ⁇", "⁇", "<unk>", ""], "UNK")])
def test_a_collapse_after_the_first_step_stops_the_run(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch, said: list[str], name: str
) -> None:
    talking(restore(job.base), monkeypatch, [["one", "two", "three", "four"], said])
    steps: list[int] = []
    with pytest.raises(TrainingError, match=f"after the first step: the model says nothing but {name}"):
        train(job, None, lambda done, total, loss: steps.append(done))
    assert steps in ([], [1]) and not job.output.exists()


def test_silence_is_really_heard(job: TrainingJob) -> None:
    model = restore(job.base)
    watch = Collapse(model, job.examples)
    watch.spoke = True
    silenced(model)
    with pytest.raises(TrainingError, match="blanks"):
        watch.check(model)


def test_a_base_that_said_nothing_is_let_be(job: TrainingJob) -> None:
    model = restore(job.base)
    silenced(model)
    Collapse(model, job.examples).check(model)


def test_gradients_that_are_no_numbers_cost_a_step_and_then_the_run() -> None:
    good, bad = torch.ones(2), torch.tensor([1.0, float("nan")])
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    watch = Gradients()
    for gradient in (bad, good, bad, bad):
        before = parameter.detach().clone()
        parameter.grad = gradient.clone()
        watch.check(optimizer, "epoch 1, step 1", 1.0)
        optimizer.step()
        assert torch.equal(parameter, before) == (gradient is bad), "left out, so that the weights stay numbers"
    watch.settle()
    assert watch.note() == ["3 steps left out: their gradients were no numbers"]
    parameter.grad = bad.clone()
    watch.check(optimizer, "epoch 2, step 9")
    with pytest.raises(TrainingError, match="epoch 2, step 9: the gradients of 3 steps in a row are no numbers"):
        watch.settle()


@pytest.mark.parametrize("largest", [0.0, 0.5, 100.0])
def test_a_step_is_that_of_clipped_gradients(largest: float) -> None:
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    steps = [torch.linspace(0, 3, 5), torch.linspace(2, -2, 5), torch.zeros(5)]
    own, plain = (torch.optim.AdamW([each], lr=0.1, fused=True) for each in (ours, theirs))
    watch = Gradients()
    for gradient in steps:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        watch.check(own, "a step", largest)
        if largest:
            torch.nn.utils.clip_grad_norm_([theirs], largest)
        own.step()
        plain.step()
    assert torch.equal(ours, theirs), "to the bit: a demo's verdict has hung on the last one"


def test_in_a_run_the_weights_survive_a_bad_step(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    once = [True]

    check = Gradients.check

    def spoil(self: Gradients, optimizer: Any, *rest: Any) -> None:
        if once:
            once.clear()
            optimizer.param_groups[0]["params"][0].grad.fill_(float("inf"))
        check(self, optimizer, *rest)

    monkeypatch.setattr(Gradients, "check", spoil)
    report = train(with_config(job, factors=(1.0,)))
    assert "1 steps left out: their gradients were no numbers" in report.notes
    assert all(torch.isfinite(value).all() for value in weights(job.output).values() if value.is_floating_point())


def test_a_base_that_skips_such_gradients_itself_is_kept_from_it(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NeMo's ``skip_nan_grad`` throws gradients away, and with them the places where a recorded step adds to them."""
    found: list[Any] = []

    def restored(*asked: Any) -> Any:
        found.append(restore(*asked))
        found[-1]._skip_nan_grad = True
        return found[-1]

    steps = Gradients.check
    monkeypatch.setattr(nemo_sft, "restore", restored)
    monkeypatch.setattr(Gradients, "check", lambda *told: (steps(*told), found.append(found[0]._skip_nan_grad))[0])
    train(with_config(job, factors=(1.0,)))
    assert set(found[1:]) == {False} and found[0]._skip_nan_grad is True


def test_learning_by_heart_is_said_and_the_best_epoch_kept(job: TrainingJob) -> None:
    kers = iter([1.0, 0.2, 0.3, 0.4])
    config = msgspec.structs.replace(STOCK, epochs=3, distortion=False)
    few = dataclasses.replace(job, examples=job.examples[:4], more_replay=(), config=config)
    report = train(few, lambda model: {"ker": next(kers), "wer": 0.5})
    losses = [epoch.loss for epoch in report.epochs]
    assert losses == sorted(losses, reverse=True) and report.best_epoch == 1
    assert any("learnt by heart after epoch 1" in note for note in report.notes)


def test_a_loader_that_brings_fewer_rows_than_declared_stops_it(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    collate = Batches._collate
    monkeypatch.setattr(Batches, "_collate", lambda self, batch: collate(self, batch[:-1]))
    with pytest.raises(TrainingError, match="3 rows came where 4 were declared"):
        train(job)
