"""The frugal way to train: the same curve in less memory, a state that is resumed, and a plain word if it cannot be."""

from __future__ import annotations

import dataclasses
import gc
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinical_asr.config import load_recipe
from clinical_asr.errors import MissingDependency, TrainingError
from clinical_asr.training import TrainingJob

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.engines.nemo_sft import buffers, frugal, train  # noqa: E402
from clinical_asr.engines.nemo_sft.ranks import World  # noqa: E402
from clinical_asr.engines.nemo_sft.store import WorkFolder, _bytes  # noqa: E402
from clinical_asr.nemo_file import restore  # noqa: E402
from processes import together  # noqa: E402
from tiny_model import Shape, make_tiny_model  # noqa: E402
from trained import curve, dies_at, equal, examples, weights  # noqa: E402

pytestmark = pytest.mark.nemo
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="these are the CPU's promises")
RECIPE = msgspec.structs.replace(load_recipe("smoke"), epochs=2, precision="32-true")


@pytest.fixture
def torchao() -> None:
    pytest.importorskip("torchao", reason="needs the extra frugal: pip install 'clinical-asr-flywheel[frugal]'")


@pytest.fixture
def job(tiny_nemo: Path, tiny_manifest: Path, tmp_path: Path) -> TrainingJob:
    return TrainingJob(tiny_nemo, examples(tiny_manifest, 9), RECIPE, tmp_path / "out" / "adapted_model.nemo")


def changed(job: TrainingJob, **changes: Any) -> TrainingJob:
    return dataclasses.replace(job, config=msgspec.structs.replace(job.config, **changes))


# --- layers that are computed again -----------------------------------------------------------------------------------


@pytest.fixture
def encoder(tiny_nemo: Path) -> Any:
    """In training, dropout and BatchNorm alive."""
    return restore(tiny_nemo).encoder.train()


def step(encoder: Any, features: Any, lengths: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """What the encoder says, its gradients and its buffers after one pass."""
    torch.manual_seed(11)
    encoder.zero_grad()
    said, _ = encoder(audio_signal=features, length=lengths)
    said.square().sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}
    return said.detach(), gradients, {name: buffer.clone() for name, buffer in encoder.named_buffers()}


@on_cpu
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_layers_computed_again_give_the_same_output_gradients_and_statistics(encoder: Any, precision: Any) -> None:
    features, lengths = torch.randn(3, encoder._feat_in, 130), torch.tensor([130, 90, 61])
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with torch.autocast("cpu", dtype=precision, enabled=precision == torch.bfloat16):
        plain = step(encoder, features, lengths)
        encoder.load_state_dict(before)
        with frugal.recomputed(list(encoder.layers)):
            again = step(encoder, features, lengths)
    assert torch.equal(plain[0], again[0]) and equal(plain[1], again[1]) and equal(plain[2], again[2])
    assert not equal(before, dict(encoder.state_dict())), "the statistics have moved, once"


@on_cpu
def test_of_a_layer_only_its_input_is_remembered(encoder: Any) -> None:
    subsampled, lengths = torch.randn(3, 20, encoder.d_model, requires_grad=True), torch.tensor([20, 14, 9])

    def remembered() -> int:
        seen: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (seen.append(t.nbytes), t)[1], lambda t: t):
            encoder(audio_signal=subsampled, length=lengths, bypass_pre_encode=True)
        return sum(seen)

    plain = remembered()
    with frugal.recomputed(list(encoder.layers)):
        assert remembered() < 0.2 * plain


@on_cpu
def test_where_nothing_is_learnt_nothing_is_computed_again(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils.checkpoint.checkpoint", None)
    features, lengths = torch.randn(1, encoder._feat_in, 64), torch.tensor([64])
    with frugal.recomputed(list(encoder.layers)):
        with torch.no_grad():
            encoder(audio_signal=features, length=lengths)
        encoder.eval()(audio_signal=features, length=lengths)
    assert not any("forward" in vars(layer) for layer in encoder.layers)


# --- moments of 8 bits ------------------------------------------------------------------------------------------------


def moved(kind: Any, steps: int = 5, **settings: Any) -> tuple[list[Any], Any]:
    """Parameters (one that is kept in 8 bits, one that is too small for it) after a few steps, and the optimiser."""
    torch.manual_seed(3)
    parameters = [torch.nn.Parameter(torch.randn(64, 128)), torch.nn.Parameter(torch.randn(30))]
    optimiser = kind(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-3, **settings)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimiser.step()
    return [parameter.detach() for parameter in parameters], optimiser


def test_our_steps_are_torchaos_own_to_the_bit(torchao: None) -> None:
    from torchao.optim import AdamW8bit

    ours, _ = moved(frugal.adamw(compiled=False))
    with torch.compiler.set_stance("force_eager"):
        theirs, _ = moved(AdamW8bit)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_step_is_adamws_but_for_the_rounding_of_the_moments(torchao: None) -> None:
    (rounded, exact), _ = moved(frugal.adamw(compiled=False))
    (plain, small), _ = moved(torch.optim.AdamW)
    start = moved(torch.optim.AdamW, steps=0)[0][0]
    assert torch.allclose(exact, small, atol=1e-6), "too small to be rounded"
    assert not torch.equal(rounded, plain)
    assert float((rounded - plain).norm() / (plain - start).norm()) < 0.05


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_a_compiled_step_is_the_same_but_for_the_order_of_sums(torchao: None) -> None:
    (compiled, small), _ = moved(frugal.adamw(compiled=True))
    (plain, exact), _ = moved(frugal.adamw(compiled=False))
    assert torch.allclose(small, exact, atol=1e-6)
    assert float((compiled - plain).norm() / plain.norm()) < 1e-5


def test_where_nothing_can_be_compiled_the_reason_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_function: Any) -> Any:
        raise RuntimeError("no C compiler\nfound")

    assert frugal.why_eager("cpu") == "no GPU"
    monkeypatch.setattr(torch, "compile", fails)
    assert frugal.why_eager("cuda") == "RuntimeError: no C compiler found"


def test_it_leaves_out_a_step_as_pytorchs_own_does(torchao: None) -> None:
    _, optimiser = moved(frugal.adamw(compiled=False))
    parameter = optimiser.param_groups[0]["params"][0]
    before, parameter.grad = parameter.detach().clone(), torch.full_like(parameter, float("nan"))
    optimiser.found_inf = torch.tensor(1.0)
    optimiser.step()
    assert torch.equal(parameter, before)
    parameter.grad = torch.full_like(parameter, 4.0)
    optimiser.found_inf = torch.tensor(0.0)
    optimiser.step()
    assert not torch.equal(parameter, before)


def test_moments_take_a_byte_each_and_survive_the_disk(torchao: None, tmp_path: Path) -> None:
    _, optimiser = moved(frugal.adamw(compiled=False))
    state = optimiser.state_dict()
    values = 64 * 128
    assert 2 * values < _bytes(state["state"][0]) < 2.6 * values < 8 * values  # 256 levels and a scale for each 256
    work = WorkFolder(tmp_path / "m.nemo", {"job": 1}, 0.0)
    work._saved_at = -1e9
    work.save({"epoch": 1, "best_epoch": 1, "weights": {}, "optimizer": state})
    found = work.load()
    assert found is not None
    _, again = moved(frugal.adamw(compiled=False), steps=0)
    again.load_state_dict(found["optimizer"])
    for name in ("exp_avg", "exp_avg_sq"):
        one, other = (each.state_dict()["state"][0][name] for each in (optimiser, again))
        assert type(one) is type(other) and torch.equal(one.codes, other.codes) and torch.equal(one.scale, other.scale)


# --- the engine -------------------------------------------------------------------------------------------------------


@on_cpu
@pytest.mark.parametrize(
    "changes", [{}, {"distortion": False, "frozen": ("decoder", "joint"), "freeze_batch_norm": True, "batch_size": 2}]
)
def test_a_frugal_run_follows_the_plain_curve(torchao: None, job: TrainingJob, changes: dict[str, Any]) -> None:
    job = changed(job, epochs=4, **changes)
    plain, _ = curve(job)
    losses, report = curve(changed(job, frugal=True))
    assert losses[0] == plain[0], "layers computed again are exactly the same"
    assert losses != plain and max(abs(a - b) / a for a, b in zip(plain, losses, strict=True)) < 0.005
    (note,) = [note for note in report.notes if note.startswith("frugal: ")]
    assert "2 layers of the encoder are computed again" in note and "no step is recorded" in note
    assert "step not compiled (no GPU)" in note


@on_cpu
@pytest.mark.parametrize("changes", [{}, {"batch_size": 2, "accumulate_grad_batches": 2}])
def test_with_moments_as_they_were_a_frugal_run_is_the_plain_run_to_the_bit(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(frugal, "_torchao", lambda: None)
    monkeypatch.setattr(frugal, "adamw", lambda *, compiled: partial(torch.optim.AdamW, fused=True))
    job = changed(job, **changes)
    plain = dataclasses.replace(job, output=job.output.with_name("plain.nemo"))
    train(plain)
    train(changed(job, frugal=True))
    assert equal(weights(plain.output), weights(job.output))


@on_cpu
def test_a_killed_frugal_run_goes_on_and_ends_where_an_unbroken_one_ends(torchao: None, job: TrainingJob) -> None:
    job = changed(job, frugal=True, epochs=3)
    unbroken = dataclasses.replace(job, output=job.output.with_name("unbroken.nemo"))
    train(unbroken)

    with pytest.raises(SystemExit):
        train(job, None, dies_at(8), state_worth=0.0)  # in the middle of the third epoch
    _, report = curve(job, state_worth=0.0)
    assert report.resumed_after_epoch == 2
    assert equal(weights(job.output), weights(unbroken.output))


@on_cpu
def test_the_base_keeps_its_own_config_and_nemo_its_list_of_optimisers(torchao: None, job: TrainingJob) -> None:
    from nemo.core.optim.optimizers import AVAILABLE_OPTIMIZERS

    before = restore(job.base).cfg.optim
    train(changed(job, frugal=True, epochs=1))
    assert restore(job.output).cfg.optim == before and frugal.OPTIMISER not in AVAILABLE_OPTIMIZERS


@on_cpu
def test_without_the_library_it_is_said_before_anything_is_read(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinical_asr.engines import nemo_sft

    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    monkeypatch.setattr(nemo_sft, "restore", None)
    with pytest.raises(MissingDependency) as told:
        train(changed(job, frugal=True))
    assert str(told.value) == "torchao is not installed; run: pip install 'clinical-asr-flywheel[frugal]'"
    assert not job.output.parent.exists()


@on_cpu
def test_a_card_too_small_for_one_row_is_told_of_the_frugal_way_unless_it_was_taken(
    torchao: None, job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinical_asr.engines import nemo_sft

    def too_small(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(nemo_sft, "_fit", too_small)
    with pytest.raises(TrainingError, match="set frugal: true in the recipe, use a larger GPU"):
        train(job)
    with pytest.raises(TrainingError, match="too small for one row; use a larger GPU"):
        train(changed(job, frugal=True))


def fit(world: World, job: TrainingJob) -> list[float]:
    """Losses that were told to this process."""
    return curve(job, world=world)[0]


@on_cpu
@pytest.mark.xdist_group("processes")
def test_two_processes_find_the_losses_of_one(torchao: None, job: TrainingJob) -> None:
    rows = tuple(dataclasses.replace(example, replayed=number > 5) for number, example in enumerate(job.examples))
    job = changed(job, frugal=True, distortion=False, match_weight=30.0, replay_ratio=0.5)
    job = dataclasses.replace(job, examples=rows)
    alone = fit(World(), dataclasses.replace(job, output=job.output.with_name("alone.nemo")))
    first, second = together(fit, job)
    assert second == [] and first[0] == pytest.approx(alone[0], rel=1e-4)
    assert first == pytest.approx(alone, rel=2e-3)  # dither is drawn anew by each process


# --- on a GPU ---------------------------------------------------------------------------------------------------------


def peak(job: TrainingJob) -> float:
    """Bytes of the GPU that a run needs beyond what is there."""
    gc.collect()  # Lightning's trainer and the model of the run before hold each other
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    curve(job, graphs=False)
    return torch.cuda.max_memory_allocated() - before


@on_gpu
def test_a_frugal_run_needs_less_memory(
    torchao: None, job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two moments of a byte each where they have four: six bytes less for each parameter."""
    monkeypatch.setattr(buffers, "PIECE", 2**20)  # an update takes some four times a piece, much for so small a model
    base = make_tiny_model(tmp_path / "wide.nemo", shape=Shape(layers=8, width=384))
    job = dataclasses.replace(changed(job, epochs=1, precision="bf16-mixed"), base=base)
    parameters = sum(value.numel() for value in weights(base).values())
    peak(job)  # libraries take their memory once
    assert peak(job) - peak(changed(job, frugal=True)) > 5 * parameters


def kept(encoder: Any) -> int:
    """Bytes that a pass leaves for the way back."""
    before = torch.cuda.memory_allocated()
    features, lengths = torch.randn(4, encoder._feat_in, 800, device="cuda"), torch.full((4,), 800, device="cuda")
    said, _ = encoder(audio_signal=features, length=lengths)
    found = torch.cuda.memory_allocated() - before
    said.sum().backward()
    return found


@on_gpu
def test_layers_that_are_computed_again_keep_their_input_alone(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "deep.nemo", shape=Shape(layers=8, width=128))
    encoder = restore(base, "cuda").encoder.train()
    kept(encoder)  # gradients have their places
    plain = kept(encoder)
    with frugal.recomputed(list(encoder.layers)):
        assert kept(encoder) < plain / 3


@on_gpu
@pytest.mark.parametrize("why", ["", "nobody is asked"])
def test_on_a_gpu_it_follows_the_plain_curve_and_is_resumed(
    torchao: None, job: TrainingJob, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why:
        monkeypatch.setattr(frugal, "why_eager", lambda _device: why)
    job = changed(job, epochs=3, distortion=False)
    plain, _ = curve(job, graphs=False)
    losses, report = curve(changed(job, frugal=True))
    assert max(abs(a - b) / a for a, b in zip(plain, losses, strict=True)) < 0.02
    assert any("no step is recorded" in note for note in report.notes)
    assert not any("steps are not recorded" in note for note in report.notes)

    job = dataclasses.replace(changed(job, frugal=True), output=job.output.with_name("again.nemo"))
    with pytest.raises(SystemExit):
        train(job, None, dies_at(8), state_worth=0.0)
    again, report = curve(job, state_worth=0.0)
    assert report.resumed_after_epoch == 2
    assert again == pytest.approx(losses[-3:], rel=1e-2)
