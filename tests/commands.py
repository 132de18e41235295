"""A command in this process, as the fixture ``run`` types it."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""Words -> exit code, what is said, what is complained about."""
