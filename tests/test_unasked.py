"""Joint and loss that ask a GPU nothing: the same loss and gradients as NeMo's, row by row, and nobody waits."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from clinical_asr.engines.nemo_sft import kernels, unasked  # noqa: E402
from clinical_asr.engines.nemo_sft.tdt_loss import device_agnostic_tdt_loss  # noqa: E402
from clinical_asr.nemo_file import restore  # noqa: E402

pytestmark = pytest.mark.nemo
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
FRAMES, TOKENS = (9, 14, 12, 6, 13, 14), (4, 2, 5, 1, 3, 3)
PADDING = 3
"""Frames beyond the longest row, as a recorded encoder may leave them."""


class EachRow(torch.nn.Module):  # type: ignore[misc]
    """NeMo's ``TDTLossNumba`` on any device: the loss of each row."""

    def __init__(self, blank: int, durations: list[int]) -> None:
        super().__init__()
        self.reduction = None
        self.row = device_agnostic_tdt_loss(blank=blank, durations=durations, sigma=0.02, reduction="sum")

    def forward(self, acts: Any, labels: Any, act_lens: Any, label_lens: Any) -> Any:
        rows = zip(acts, labels, act_lens, label_lens, strict=True)
        return torch.stack([self.of(*(part[None] for part in row)) for row in rows])

    def of(self, acts: Any, labels: Any, frames: Any, tokens: Any) -> Any:
        return self.row(log_probs=acts, targets=labels, input_lengths=frames, target_lengths=tokens)


@pytest.fixture
def model(tiny_nemo: Path) -> Any:
    """Joint and loss fused, four rows at a time, and nothing that draws."""
    model = restore(tiny_nemo, "cuda" if torch.cuda.is_available() else "cpu").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    assert model.joint.fuse_loss_wer and model.joint.fused_batch_size == 4
    return model


def batch(model: Any) -> dict[str, Any]:
    """Six rows as encoder and prediction network leave them, padded like a recorded batch."""
    torch.manual_seed(5)
    device = next(model.parameters()).device
    heard = torch.randn(6, model.joint.encoder_hidden, max(FRAMES) + PADDING, device=device, requires_grad=True)
    said = torch.randn(6, model.joint.pred_hidden, max(TOKENS) + 1, device=device, requires_grad=True)
    labels = torch.randint(0, 5, (6, max(TOKENS)), device=device)
    lengths = [torch.tensor(each, device=device) for each in (FRAMES, TOKENS)]
    named = {"encoder_outputs": heard, "decoder_outputs": said, "encoder_lengths": lengths[0]}
    return named | {"transcripts": labels, "transcript_lengths": lengths[1]}


def learnt(model: Any, forward: Any) -> tuple[Any, ...]:
    """The loss and what the encoder, the prediction network and the joint learn of it."""
    inputs = batch(model)
    model.joint.zero_grad()
    loss, *rest = forward(**inputs)
    assert rest == [None, None, None]
    loss.backward()
    return (
        loss.detach(),
        *(inputs[name].grad for name in ("encoder_outputs", "decoder_outputs")),
        *(parameter.grad.clone() for parameter in model.joint.parameters()),
    )


@pytest.mark.parametrize("reduction", ["mean_batch", "mean_volume", "sum"])
def test_by_parts_it_is_nemos_own_loss(model: Any, reduction: str) -> None:
    model.loss.reduction = reduction
    model.loss._loss = EachRow(model.loss._loss.blank, list(model.loss._loss.durations)).to(model.device)
    model.joint.set_loss(model.loss)
    plain = learnt(model, model.joint)
    ours = learnt(model, functools.partial(unasked._by_parts, model.joint, model.joint.forward))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(plain, ours, strict=True))


def test_whoever_wants_words_or_only_hears_is_answered_by_nemo(model: Any) -> None:
    asked: list[dict[str, Any]] = []

    def own(**inputs: Any) -> None:
        asked.append(inputs)

    forward = functools.partial(unasked._by_parts, model.joint, own)
    inputs = batch(model)
    forward(**inputs, compute_wer=True)
    forward(**inputs | {"decoder_outputs": None})
    with torch.no_grad():
        forward(**inputs)
    model.joint.set_fuse_loss_wer(False)
    forward(encoder_outputs=inputs["encoder_outputs"], decoder_outputs=inputs["decoder_outputs"])
    assert len(asked) == 4


def test_all_is_put_back(model: Any) -> None:
    before = {"joint": dict(vars(model.joint)), "loss": dict(vars(model.loss)), "rows": dict(vars(model.loss._loss))}
    with pytest.raises(KeyError), unasked.unasked(model):
        assert "forward" in vars(model.joint) and "forward" in vars(model.loss)
        raise KeyError
    assert before == {"joint": vars(model.joint), "loss": vars(model.loss), "rows": vars(model.loss._loss)}


def test_another_loss_is_left_alone(model: Any, tiny_ctc: Path) -> None:
    model.loss._loss = EachRow(4, [0, 1])
    for one in (model, restore(tiny_ctc)):
        with unasked.unasked(one):
            assert "forward" not in vars(one.loss) and "forward" not in vars(getattr(one, "joint", one))


@on_gpu
@pytest.mark.parametrize("omega", [0.0, 1.0])
def test_on_a_gpu_loss_and_gradients_are_nemos_own(model: Any, omega: float) -> None:
    """By the lattice of TDT, and by that of RNN-T, which the base draws now and then."""
    model.loss._loss.omega = omega
    plain = learnt(model, model.joint)
    with unasked.unasked(model):
        ours = learnt(model, model.joint)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(plain, ours, strict=True))


@on_gpu
def test_unfused_as_well(model: Any) -> None:
    inputs = batch(model)
    model.joint.set_fuse_loss_wer(False)
    lattice = model.joint(encoder_outputs=inputs["encoder_outputs"], decoder_outputs=inputs["decoder_outputs"])
    rest = dict(zip(("input_lengths", "targets", "target_lengths"), list(inputs.values())[2:], strict=True))
    model.loss._loss.omega = 0.0
    plain = model.loss(log_probs=lattice[:, : max(FRAMES)], **rest)
    with unasked.unasked(model):
        assert torch.allclose(plain, model.loss(log_probs=lattice, **rest))


@on_gpu
def test_nobody_waits_for_the_gpu(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba import cuda

    with unasked.unasked(model):
        learnt(model, model.joint)  # kernels are compiled, numbers sent
        inputs = batch(model)
        monkeypatch.setattr(type(cuda.default_stream()), "synchronize", lambda _stream: pytest.fail("somebody waits"))
        torch.cuda.set_sync_debug_mode("error")
        try:
            model.joint(**inputs)[0].backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert inputs["encoder_outputs"].grad.isfinite().all()


@on_gpu
def test_steps_call_what_was_compiled(model: Any) -> None:
    """Asked by ``test_kernels`` too, which looks whether anything was compiled for it."""
    kernels.remembered()
    with unasked.unasked(model):
        for omega in (0.0, 1.0):
            model.loss._loss.omega = omega
            assert all(part.isfinite().all() for part in learnt(model, model.joint))
