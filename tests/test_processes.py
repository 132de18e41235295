"""Fine-tuning in several processes: every row once, the gradients and losses of one process, and no hanging."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_asr.config import load_recipe
from clinical_asr.errors import ConfigError, TrainingError
from clinical_asr.training import Example, TrainingJob

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.engines.nemo_sft import train  # noqa: E402
from clinical_asr.engines.nemo_sft.batches import Batches  # noqa: E402
from clinical_asr.engines.nemo_sft.graphs import parted, way_back  # noqa: E402
from clinical_asr.engines.nemo_sft.ranks import World  # noqa: E402
from clinical_asr.engines.nemo_sft.sharing import Share, gathered, weighted, whole_batch_norm  # noqa: E402
from clinical_asr.nemo_file import restore  # noqa: E402
from processes import together  # noqa: E402
from trained import examples  # noqa: E402

pytestmark = [
    pytest.mark.nemo,
    pytest.mark.xdist_group("processes"),  # one server for all
    pytest.mark.skipif(torch.cuda.is_available(), reason="these are the CPU's promises"),
]
RECIPE = msgspec.structs.replace(
    load_recipe("smoke"), epochs=2, learning_rate=3e-3, distortion=False, match_weight=30.0, replay_ratio=0.5
)


@pytest.fixture
def job(tiny_nemo: Path, tiny_manifest: Path, tmp_path: Path) -> TrainingJob:
    """Nine rows in batches of four: the last batch has one row, so that a second process has none."""
    rows = examples(tiny_manifest, 9)
    mixed = [dataclasses.replace(row, replayed=number > 5) for number, row in enumerate(rows)]
    return TrainingJob(tiny_nemo, tuple(mixed), RECIPE, tmp_path / "shared" / "adapted_model.nemo")


# --- who has which row ------------------------------------------------------------------------------------------------


@given(rows=st.integers(1, 60), batch=st.integers(1, 17), size=st.integers(1, 8), epoch=st.integers(1, 5))
def test_every_row_is_trained_once_by_one_process(rows: int, batch: int, size: int, epoch: int) -> None:
    examples = [Example(str(n), Path(), "a", 1.0 + n % 7) for n in range(rows)]
    share = [Share(World(rank, size)) for rank in range(size)]
    plan = Batches(examples, [[1]] * rows, batch, 42).plan(epoch)
    trained = [row for each in share for batch_ in plan for row in each.rows_of(batch_)]
    assert sorted(trained) == list(range(rows))
    assert all(each.fed(batch_) for each in share for batch_ in plan), "a process without a row would wait forever"


@given(size=st.integers(2, 5), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=11))
@pytest.mark.parametrize("reduction", ["mean_batch", "mean_volume", "sum"])
def test_the_sum_of_the_processes_losses_is_the_batchs_loss(reduction: str, size: int, lengths: list[int]) -> None:
    targets, batch = [[1] * n for n in lengths], list(range(len(lengths)))
    losses = [float(3 * n + 1) for n in batch]

    def reduced(rows: list[int]) -> float:
        over = {"mean_batch": len(rows), "mean_volume": sum(lengths[n] for n in rows), "sum": 1}[reduction]
        return sum(losses[n] for n in rows) / over

    total = 0.0
    for rank in range(size):
        share = Share(World(rank, size), targets, reduction)
        share.take(batch)
        total += share.loss_weight * reduced(share.fed(batch))
    assert total == pytest.approx(reduced(batch))


# --- gradients --------------------------------------------------------------------------------------------------------


class Small(torch.nn.Module):
    """A convolution, BatchNorm and a read-out, in double precision: what differs is a fault, not noise."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv1d(3, 4, 3), torch.nn.BatchNorm1d(4), torch.nn.GELU(), torch.nn.Conv1d(4, 1, 3)
        )
        self.double()

    @property
    def encoder(self) -> Any:
        """What the buffers ask for the order of its layers."""
        return self

    def training_step(self, batch: Any, _number: int) -> Any:
        return {"loss": self.layers(batch).square().sum((1, 2)).mean()}


def upper_ones_are_there(share: Share) -> None:
    """As a recorded step says while it goes back through the layers."""
    assert len(share.seams) == 2 * (share.world.size > 1)
    for then in share.seams.values():
        then()


def trained(world: World, rows: int) -> tuple[list[Any], Any]:
    """Gradients of one batch, summed over the processes, and BatchNorm's running statistics."""
    model, share = Small(), Share(world)
    data, batch = torch.randn(rows, 3, 12, generator=torch.Generator().manual_seed(1)).double(), list(range(rows))
    with (
        world.joined("cpu"),
        gathered(model, share),
        weighted(model, share),
        whole_batch_norm(model, share),
    ):
        share.lay()
        share.take(batch, ends_a_step=False)
        upper_ones_are_there(share)
        share.take(batch)
        model.training_step(data[share.fed(batch)], 0)["loss"].backward()
        if world.rank == 0:  # steps of the others are not recorded
            upper_ones_are_there(share)
        share.add_up()
        gradients = [p.grad.numpy().copy() for p in model.parameters()]
    return gradients, model.layers[1].running_var.numpy()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_gradients_and_statistics_are_those_of_one_process(rows: int) -> None:
    import numpy as np

    alone, statistics = trained(World(), rows)
    for gradients, found in together(trained, rows, size=3):
        assert np.allclose(found, statistics, rtol=1e-6)
        assert all(np.allclose(one, other, rtol=1e-5, atol=1e-9) for one, other in zip(gradients, alone, strict=True))


def summed_on_the_way(world: World, base: Path) -> dict[str, Any]:
    """Gradients of an encoder, summed part by part while the way back goes on, as a recorded step does it."""
    torch.set_num_threads(1)
    model, share = restore(base).eval(), Share(world)
    features = torch.randn(4, model.encoder._feat_in, 80, generator=torch.Generator().manual_seed(3))
    with world.joined("cpu"), gathered(model, share):
        share.lay()
        share.take([0, 1, 2, 3])
        mine = share.fed([0, 1, 2, 3])
        with parted(model.encoder, share.seams) as parts:
            output, _ = model.encoder(audio_signal=features[mine], length=torch.tensor([80] * len(mine)))
        top = torch.randn(4, *output.shape[1:], generator=torch.Generator().manual_seed(9))[mine]
        for end, gradient, then in way_back(parts, output, top):
            torch.autograd.backward((end,), (gradient,))
            if then is not None:
                then()
        share.add_up()
        return {name: p.grad.numpy().copy() for name, p in model.encoder.named_parameters()}


@pytest.mark.parametrize("untied", [True, False])
def test_sums_begun_on_the_way_back_are_those_at_its_end(
    untied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Biases that all layers share are found with the lowest of them, wherever they lie."""
    import numpy as np

    import tiny_model

    own = tiny_model._encoder
    monkeypatch.setattr(tiny_model, "_encoder", lambda shape: {**own(shape), "untie_biases": untied})
    base = tiny_model.make_tiny_model(tmp_path / "base.nemo", "tdt", tiny_model.Shape(layers=4))
    alone = summed_on_the_way(World(), base)
    for found in together(summed_on_the_way, base):
        assert [name for name, one in alone.items() if not np.allclose(one, found[name], rtol=1e-3, atol=1e-5)] == []


# --- the engine -------------------------------------------------------------------------------------------------------


def fit(world: World, job: TrainingJob, dies_at: int = 0) -> tuple[list[tuple[int, float]], Any]:
    """Losses that were told, and the report. The second process kills itself at a step, if asked to."""
    told: list[tuple[int, float]] = []
    if world.rank == 1 and dies_at:
        from clinical_asr.engines.nemo_sft.epochs import Keeper

        own = Keeper.before_step

        def before_step(keeper: Any, *told: Any) -> None:
            own(keeper, *told)
            if keeper.steps + 1 == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

        Keeper.before_step = before_step  # type: ignore[method-assign]
    report = train(job, judge, lambda done, _total, loss: told.append((done, loss)), state_worth=0.0, world=world)
    return told, report


def judge(_model: Any) -> dict[str, float | None]:
    """Takes its time on one process: the others wait, they do not judge."""
    assert os.environ.get("RANK", "0") == "0"
    time.sleep(0.2)
    return {"ker": 0.5, "wer": 0.5}


def alone(job: TrainingJob, tmp_path: Path) -> tuple[list[tuple[int, float]], Any]:
    return fit(World(), dataclasses.replace(job, output=tmp_path / "alone" / "adapted_model.nemo"))


def test_two_processes_find_the_losses_of_one_and_one_writes(job: TrainingJob, tmp_path: Path) -> None:
    told, report = alone(job, tmp_path)
    (first_told, first), (second_told, second) = together(fit, job)
    assert first == second and second_told == []
    assert [step for step, _ in first_told] == [step for step, _ in told] == [1, 2, 3, 4, 5, 6]
    for (_, shared), (_, single) in zip(first_told, told, strict=True):
        assert shared == pytest.approx(single, rel=2e-3)  # dither is drawn anew by each process
    for step, what in (
        (0, "before the first update nothing can drift"),
        (1, "the first update is of both's gradients"),
    ):
        assert first_told[step][1] == pytest.approx(told[step][1], rel=1e-4), what
    assert [epoch.rows for epoch in first.epochs] == [9, 9] and first.steps == report.steps
    assert "shared by 2 processes" in first.notes[0] and first.hardware.startswith("2 x CPU")
    assert sorted(path.name for path in job.output.parent.iterdir()) == [
        "adapted_model.nemo",
        "adapted_model.nemo.sha256",
    ]


def test_one_that_is_killed_ends_all_and_the_same_again_goes_on(job: TrainingJob, tmp_path: Path) -> None:
    began = time.monotonic()
    deserted, killed = together(fit, job, 5)
    assert killed is None and time.monotonic() - began < 110
    assert isinstance(deserted, TrainingError) and "process 1 of 2: another process of the run has ended" in str(
        deserted
    )
    assert not job.output.exists()
    (told, report), _ = together(fit, job)
    assert report.resumed_after_epoch == 1 and [step for step, _ in told] == [4, 5, 6]
    unbroken = alone(job, tmp_path)[0]
    assert told[-1][1] == pytest.approx(unbroken[-1][1], rel=5e-3)


@pytest.mark.slow
def test_a_run_begun_by_two_is_finished_by_one(job: TrainingJob) -> None:
    """In how many parts a batch is trained does not matter to what was trained."""
    together(fit, job, 5)
    assert fit(World(), job)[1].resumed_after_epoch == 1


def test_more_processes_than_rows_in_a_batch_are_refused(job: TrainingJob) -> None:
    with pytest.raises(ConfigError, match="batch_size: of 4 cannot be shared by 8 processes"):
        train(job, world=World(0, 8, 0, 8))


def test_an_encoder_that_speaks_in_every_forward_pass_is_refused() -> None:
    convolutional = SimpleNamespace(encoder=SimpleNamespace(update_max_sequence_length=None))
    with pytest.raises(TrainingError, match="convolutional encoder trains in one process only"):
        World(0, 2, 0, 2).loosened(convolutional)
    assert World().loosened(convolutional) is convolutional


@pytest.mark.parametrize(
    "told",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
        {"WORLD_SIZE": "3", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "0"},
    ],
)
def test_half_a_description_of_the_processes_is_refused(told: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="start it with torchrun"):
        World.of(told)
