"""Numbers that a GPU still computes: asked for now, looked at when they are there."""

from __future__ import annotations

from typing import Any


class Later:
    """A tensor of one number on its way to main memory.

    ``float()`` of it waits until it has come, and for nothing that the GPU was given after it; ``float()`` of the
    tensor itself waits for everything.

    >>> import torch
    >>> float(Later(torch.tensor(2.5)))
    2.5
    """

    def __init__(self, number: Any) -> None:
        import torch

        self._number = number.detach().to("cpu", non_blocking=True)
        self._arrived = torch.cuda.Event() if number.is_cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def __float__(self) -> float:
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._number)
