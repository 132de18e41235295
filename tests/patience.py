"""Waiting for what other threads and processes bring about."""

from __future__ import annotations

import time
from collections.abc import Callable


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Whether ``true()`` holds before so much time has passed; asked again and again."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return as soon as ``true()`` holds; a failed test if it never does."""
    assert within(seconds, true), f"not in {seconds:g} s"
