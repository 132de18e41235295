"""Weights and gradients in buffers: each number in its place, trained as it would be alone, and given back."""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinical_asr.config import load_recipe
from clinical_asr.training import TrainingJob

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.engines import nemo_sft  # noqa: E402
from clinical_asr.engines.nemo_sft import buffers, graphs, train  # noqa: E402
from clinical_asr.engines.nemo_sft.buffers import ALIGNED, Buffers  # noqa: E402
from clinical_asr.engines.nemo_sft.sharing import Share, gathered  # noqa: E402
from clinical_asr.nemo_file import restore  # noqa: E402
from trained import curve, dies_at, equal, examples, weights  # noqa: E402

pytestmark = [
    pytest.mark.nemo,
    pytest.mark.skipif(torch.cuda.is_available(), reason="these are the CPU's promises"),
]
RECIPE = msgspec.structs.replace(load_recipe("smoke"), epochs=3, learning_rate=3e-3)


IDLE = ("depthwise_conv.bias", "linear_k.bias")
"""What changes nothing, before BatchNorm and softmax: its gradient is noise of rounding, which AdamW makes large."""


@pytest.fixture
def model(tiny_nemo: Path) -> Any:
    return restore(tiny_nemo).train()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tiny model has more than one."""
    monkeypatch.setattr(buffers, "PIECE", 2**16)


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train as on a GPU."""
    monkeypatch.setattr(nemo_sft, "gathered", lambda model, share, weights: gathered(model, share, weights=not weights))


@pytest.fixture
def job(tiny_nemo: Path, tiny_manifest: Path, tmp_path: Path) -> TrainingJob:
    return TrainingJob(tiny_nemo, examples(tiny_manifest, 9), RECIPE, tmp_path / "out" / "adapted_model.nemo")


def copied(model: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# --- where everything lies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [True, False])
def test_every_number_has_a_place_of_its_own(model: Any, moved: bool) -> None:
    held = Buffers(model, weights=moved)
    taken = sorted((held.starts[id(p)], held.starts[id(p)] + p.numel()) for p in model.parameters())
    assert all(start % ALIGNED == 0 for start, _ in taken) and taken[0][0] == 0 and taken[-1][1] <= held.size
    assert all(end <= start for (_, end), (start, _) in pairwise(taken))
    assert bool(held.pieces) == moved and len({len(piece) for piece in held.pieces}) == int(moved)
    assert len(held.pieces) > 1 or not moved


def test_weights_keep_their_values_and_have_memory_of_their_own_again(model: Any) -> None:
    before = copied(model)
    held = Buffers(model, weights=True)
    held.lay()
    assert equal(before, copied(model))
    first = next(name for name, parameter in model.named_parameters() if parameter is held.parameters[0])
    held.pieces[0].data[0] += 1.0
    moved = before[first].clone()
    moved.view(-1)[0] += 1.0
    assert equal(before | {first: moved}, copied(model))
    held.give_back()
    assert len({p.untyped_storage().data_ptr() for p in model.parameters()}) == len(list(model.parameters()))
    assert all(p.grad is None for p in model.parameters()) and all(not len(piece) for piece in held.pieces)


def test_gradients_are_those_of_the_pieces_and_of_what_stays_outside(model: Any) -> None:
    held = Buffers(model, weights=True)
    held.lay()
    for number, parameter in enumerate(model.parameters(), 1):
        parameter.grad.fill_(float(number))
    seen = sum(float(p.grad.sum()) for p in (*held.pieces, *held.unmoved))
    assert seen == sum(n * p.numel() for n, p in enumerate(model.parameters(), 1))
    assert held.unmoved and not any(id(p) in map(id, held.moved) for p in model.decoder.prediction.dec_rnn.parameters())


@pytest.mark.parametrize("notices", [Buffers.lay, Buffers.give_back])
def test_a_weight_that_leaves_its_buffer_is_noticed(model: Any, notices: Any) -> None:
    held = Buffers(model, weights=True)
    held.lay()
    held.moved[3].data = held.moved[3].data.clone()
    with pytest.raises(RuntimeError, match="has left the buffer it is trained in"):
        notices(held)


def test_after_an_error_nothing_is_copied_and_nothing_but_the_weights_is_held(model: Any) -> None:
    """A GPU whose memory was too small has no room for a second copy."""
    before, share = copied(model), Share()
    with pytest.raises(MemoryError), gathered(model, share, weights=True):
        share.lay()
        held = share.buffers
        raise MemoryError
    assert held is not None and held.gradients is None and share.buffers is None
    assert [p.data_ptr() for p in held.moved] == held.places and equal(before, copied(model))
    assert all(p.grad is None for p in model.parameters()) and not any(len(piece) for piece in held.pieces)


def test_what_does_not_train_has_no_place(model: Any) -> None:
    for parameter in (*model.joint.parameters(), *model.encoder.layers[1].parameters()):
        parameter.requires_grad_(False)
    held = Buffers(model, weights=True)
    assert not any(id(p) in held.starts for p in model.joint.parameters()) and held.seams == {}
    held.lay()
    assert all(p.grad is None for p in model.joint.parameters())


def test_sections_are_the_gradients_from_the_last_layers_to_the_first_and_then_the_rest(model: Any) -> None:
    held = Buffers(model, weights=False)
    assert list(held.seams) == [1], "of two layers"
    upper, lower, rest = held.sections
    assert (lower[0], lower[1], upper[1], rest[1]) == (0, upper[0], rest[0], held.size)
    inside = [held.starts[id(p)] for p in model.encoder.layers[1].parameters()]
    assert all(upper[0] <= start < upper[1] for start in inside)
    below = [
        held.starts[id(p)] for p in (*model.encoder.layers[0].parameters(), *model.encoder.pre_encode.parameters())
    ]
    assert all(lower[0] <= start < lower[1] for start in below)


# --- the way back in parts --------------------------------------------------------------------------------------------


def test_a_pass_that_is_cut_finds_the_same_gradients_part_by_part(model: Any) -> None:
    encoder, done = model.encoder.eval(), []
    features, lengths = torch.randn(2, encoder._feat_in, 90), torch.tensor([90, 61])
    output, _ = encoder(audio_signal=features, length=lengths)
    torch.autograd.backward((output,), (torch.ones_like(output),))
    plain = {name: p.grad.clone() for name, p in encoder.named_parameters()}
    encoder.zero_grad()
    with graphs.parted(encoder, {1: partial(done.append, "upper")}) as parts:
        output, _ = encoder(audio_signal=features, length=lengths)
    for end, gradient, then in graphs.way_back(parts, output, torch.ones_like(output)):
        torch.autograd.backward((end,), (gradient,))
        upper = [p.grad is not None for p in encoder.layers[1].parameters()]
        assert all(upper) and (encoder.layers[0].norm_out.weight.grad is None) == (then is not None)
        if then is not None:
            then()
    assert done == ["upper"] and equal(plain, {name: p.grad for name, p in encoder.named_parameters()})
    assert not any("forward" in vars(layer) for layer in encoder.layers)


def test_where_all_below_is_frozen_nothing_is_cut(model: Any) -> None:
    encoder = model.encoder.eval()
    for parameter in (*encoder.pre_encode.parameters(), *encoder.layers[0].parameters()):
        parameter.requires_grad_(False)
    with graphs.parted(encoder, {1: print}) as parts:
        encoder(audio_signal=torch.randn(1, encoder._feat_in, 60), length=torch.tensor([60]))
    assert parts == []


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_in_pieces_is_the_plain_run(job: TrainingJob, in_pieces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, report = curve(job)
    in_buffers = weights(job.output)
    monkeypatch.undo()
    plain, _ = curve(dataclasses.replace(job, output=job.output.with_name("plain.nemo")))
    alone = weights(job.output.with_name("plain.nemo"))
    assert losses == pytest.approx(plain, rel=1e-5) and report.steps == len(losses) == 9
    base = weights(job.base)
    for name, value in base.items():
        if value.is_floating_point() and not name.endswith(IDLE):
            moved, apart = (float((alone[name] - other[name]).norm()) for other in (base, in_buffers))
            assert apart <= 0.02 * moved, name
    rnn = "decoder.prediction.dec_rnn.lstm.weight_hh_l0"
    assert not torch.equal(base[rnn], in_buffers[rnn])


def test_a_killed_run_in_pieces_goes_on_and_ends_where_an_unbroken_one_ends(job: TrainingJob, in_pieces: None) -> None:
    unbroken = dataclasses.replace(job, output=job.output.with_name("unbroken.nemo"))
    curve(unbroken, state_worth=0.0)
    with pytest.raises(SystemExit):
        train(job, None, dies_at(5), state_worth=0.0)
    _, report = curve(job, state_worth=0.0)
    assert report.resumed_after_epoch == 1
    assert equal(weights(job.output), weights(unbroken.output))
