"""What a killed run leaves behind and its successor picks up: the last finished epoch and the best weights."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from clinical_asr.jsonl import atomic_path

STATE, BEST = "last.pt", "best.pt"
DISK = 1e9
"""Bytes that a disk takes in a second, roughly."""
PATIENCE = 10
"""Writing is allowed a tenth of the time."""


class WorkFolder:
    """``<output>.work.part/``: written after an epoch, atomically; gone once the output stands.

    A state is only worth its gigabytes if losing it would cost more than ``worth`` seconds of training, and several
    times the seconds that writing it takes.
    """

    def __init__(self, output: Path, fingerprint: dict[str, Any], worth: float) -> None:
        self.folder = output.with_name(output.name + ".work.part")
        self.fingerprint, self.worth = fingerprint, worth
        self.of_another = False
        self._saved_at = time.monotonic()
        self._unsaved_best: Any = None

    def load(self) -> dict[str, Any] | None:
        """The state of the last saved epoch, with ``best`` weights; None if there is none or another job's."""
        import pickle

        try:
            state: dict[str, Any] = self._read(STATE)
            self.of_another = state["fingerprint"] != self.fingerprint
            if self.of_another:
                return None
            return {**state, "best": self._read(BEST) if state["best_epoch"] != state["epoch"] else state["weights"]}
        except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError):
            return None

    def _read(self, name: str) -> Any:
        import torch

        return torch.load(self.folder / name, map_location="cpu", weights_only=True)

    def keep_best(self, weights: Any) -> None:
        """Remember the best weights; written together with the next state."""
        self._unsaved_best = weights

    def save(self, state: dict[str, Any]) -> None:
        """Write the state of a finished epoch, if training since the last one is worth keeping."""
        if time.monotonic() - self._saved_at < max(self.worth, PATIENCE * _bytes(state) / DISK):
            return
        if self.of_another:  # it would be gone on with, and take our best weights for its own
            (self.folder / STATE).unlink(missing_ok=True)
        if self._unsaved_best is not None and state["best_epoch"] != state["epoch"]:
            self._write(BEST, self._unsaved_best)
            self._unsaved_best = None
        self._write(STATE, {**state, "fingerprint": self.fingerprint})
        self._saved_at = time.monotonic()

    def _write(self, name: str, value: Any) -> None:
        import torch

        with atomic_path(self.folder / name) as part:
            torch.save(value, part)

    def remove(self) -> None:
        """The output stands: nothing is left to resume."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _bytes(value: Any) -> int:
    """Of all tensors in a nest of dicts and lists; of a tensor that is made of others, theirs."""
    if isinstance(value, dict):
        value = list(value.values())
    if hasattr(value, "__tensor_flatten__"):
        value = [getattr(value, name) for name in value.__tensor_flatten__()[0]]
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return int(getattr(value, "nbytes", 0))
