"""The any-device TDT loss against a sum over every path, written straight from the paper."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from clinical_asr.engines.nemo_sft.tdt_loss import device_agnostic_tdt_loss  # noqa: E402

VOCABULARY, DURATIONS, SIGMA = 3, [0, 1, 2], 0.05


def by_all_paths(lattice: Any, targets: list[int], frames: int) -> float:
    """-log of the probability that the path ends exactly at ``frames`` having said ``targets``: plain recursion."""
    tokens = torch.log_softmax(lattice[..., : VOCABULARY + 1].double(), -1) - SIGMA
    spans = torch.log_softmax(lattice[..., VOCABULARY + 1 :].double(), -1)

    @cache
    def reach(t: int, u: int) -> float:
        if t == frames:
            return 1.0 if u == len(targets) else 0.0
        if t > frames:
            return 0.0
        total = 0.0
        for index, span in enumerate(DURATIONS):
            chance = spans[t, u, index]
            if span > 0:
                total += math.exp(tokens[t, u, VOCABULARY] + chance) * reach(t + span, u)
            if u < len(targets) and t + span < frames:  # the last step of a path is always a blank
                total += math.exp(tokens[t, u, targets[u]] + chance) * reach(t + span, u + 1)
        return total

    return -math.log(reach(0, 0))


def a_batch() -> tuple[Any, Any, Any, Any]:
    torch.manual_seed(1)
    lattice = torch.randn(2, 6, 4, VOCABULARY + 1 + len(DURATIONS))
    targets = torch.tensor([[0, 2, 1], [1, 1, 0]])
    return lattice, targets, torch.tensor([6, 4]), torch.tensor([3, 2])


def loss(reduction: str = "sum") -> Any:
    return device_agnostic_tdt_loss(blank=VOCABULARY, durations=DURATIONS, sigma=SIGMA, reduction=reduction)


def call(module: Any, lattice: Any) -> Any:
    _, targets, frames, lengths = a_batch()
    return module(log_probs=lattice, targets=targets, input_lengths=frames, target_lengths=lengths)


def test_it_equals_the_sum_over_all_paths() -> None:
    lattice, targets, frames, lengths = a_batch()
    rows = range(2)
    expected = [by_all_paths(lattice[b], targets[b, : lengths[b]].tolist(), int(frames[b])) for b in rows]
    assert float(call(loss(), lattice)) == pytest.approx(sum(expected), rel=1e-5)
    assert float(call(loss("mean_batch"), lattice)) == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_padding_and_normalisation_of_the_joint_change_nothing() -> None:
    lattice = a_batch()[0]
    padded = torch.nn.functional.pad(lattice, (0, 0, 0, 2, 0, 3), value=9.0)
    for other in (padded, torch.log_softmax(lattice, -1)):
        assert float(call(loss(), other)) == pytest.approx(float(call(loss(), lattice)), rel=1e-5)


def test_its_gradient_is_the_slope() -> None:
    lattice = a_batch()[0].double().requires_grad_()
    call(loss(), lattice).backward()
    step = torch.zeros_like(lattice)
    step[0, 2, 1, 2] = 1e-2
    up, down = (float(call(loss(), (lattice + sign * step).detach())) for sign in (1, -1))
    assert float(lattice.grad[0, 2, 1, 2]) == pytest.approx((up - down) / 2e-2, rel=2e-2, abs=1e-4)
