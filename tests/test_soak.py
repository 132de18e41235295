"""The soak test can fail: what it calls flat is, and a slow leak behind noise is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import soak


def samples(memory: float = 0.0, descriptors: float = 0.0, count: int = 60) -> list[soak.Sample]:
    """A pool that fills up to 900 MiB in the beginning, noise, and what is lost between two samples."""
    return [
        {"memory_mib": min(900, 500 + 40 * n) + 20 * (n % 3) + memory * n, "descriptors": 9 + n % 2 + descriptors * n}
        for n in range(count)
    ]


def test_a_pool_that_fills_up_is_no_leak() -> None:
    found = soak.grown(samples())
    assert found["grew"] == [] and found["samples"] == 60
    assert found["memory_mib"] == {"first": 500, "second_third": 920, "last_third": 920, "highest": 940}


@pytest.mark.parametrize("lost", [{"memory": 3.0}, {"descriptors": 0.2}])
def test_a_slow_leak_is_found(lost: dict[str, float]) -> None:
    (name,) = soak.grown(samples(**lost))["grew"]
    assert name.startswith(next(iter(lost)))


def test_a_process_is_seen_as_it_is() -> None:
    before = soak.held()
    with Path(__file__).open():
        during = soak.held()
    assert during["descriptors"] == before["descriptors"] + 1 and before["memory_mib"] > 5 and before["threads"] >= 1
