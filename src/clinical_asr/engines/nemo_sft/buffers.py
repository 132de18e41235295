"""All gradients of a model in one buffer and, on a GPU, its trained weights in another: a few calls do for all of them.

A base of 0.6 B parameters is some 650 tensors. Whoever zeroes, measures, clips and moves them one by one keeps Python
busy for longer than a GPU takes for it, and a compiler has to look at every shape (docs/lab-notes.md). So the optimiser
gets pieces of the buffers instead, all of one size, as it does with the flat parameters of PyTorch's FSDP
(https://arxiv.org/abs/2304.11277). What AdamW does to a number hangs on that number alone, so it does the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

ALIGNED = 256
"""Numbers to whose multiple each tensor begins: fast kernels want 16 bytes, moments of 8 bits have a scale for 256."""
PIECE = 2**24
"""Numbers of a piece at most: what an optimiser needs beside it while it computes stays small."""
SECTIONS = 4
"""Parts of the encoder's layers whose gradients several processes sum by themselves."""


class Buffers:
    """``gradients`` of all that trains, and the ``pieces`` of its weights; none if weights stay where they are.

    The encoder's come first, in the order of its layers. Last come those of recurrent networks, whose weights cuDNN
    lays out itself: they stay where they are in any case.
    """

    def __init__(self, model: Any, *, weights: bool) -> None:
        import torch

        encoder, others, recurrent = in_order(model)
        self.parameters = [*encoder, *others, *recurrent]
        *starts, end = accumulate(map(_room, [*encoder, *others]), initial=0)
        number, length = cut(end) if weights else (0, 0)
        *rest, self.size = accumulate(map(_room, recurrent), initial=max(end, number * length))
        self.starts = dict(zip(map(id, self.parameters), starts + rest, strict=True))
        self.seams = seams(model, self.starts)
        """Layers of the encoder where sections meet, the last one first, and where their gradients begin."""
        bounds = [sum(map(_room, encoder)), *self.seams.values(), 0]
        self.sections = [(begin, stop) for stop, begin in pairwise(bounds)] + [(bounds[0], self.size)]
        """Of the gradients, in the order in which they are found."""
        moved = len(starts) if weights else 0
        self.moved, self.unmoved = self.parameters[:moved], self.parameters[moved:]
        pieces = self._move(number * length).split(length) if moved else ()
        self.pieces = [torch.nn.Parameter(piece) for piece in pieces]
        self.places = [parameter.data_ptr() for parameter in self.moved]
        self.gradients = self._zeros(self.size)

    def _zeros(self, numbers: int) -> Any:
        import torch

        return torch.zeros(numbers, dtype=self.parameters[0].dtype, device=self.parameters[0].device)

    def _move(self, numbers: int) -> Any:
        """The weights in a buffer of their own; each parameter is a view of its part from now on."""
        import torch

        weights = self._zeros(numbers)
        for parameter in self.moved:
            place = self._part(weights, parameter)
            place.copy_(parameter.data)
            parameter.data = place
        if weights.is_cuda:
            torch.cuda.empty_cache()  # what they have left would be kept, in parts too small for most
        return weights

    def _part(self, buffer: Any, parameter: Any) -> Any:
        start = self.starts[id(parameter)]
        return buffer[start : start + parameter.numel()].view_as(parameter)

    def lay(self) -> None:
        """Give gradients their places, which whoever begins a fit takes away. Raises as :meth:`check` does."""
        self.check()
        for parameter in self.parameters:
            parameter.grad = self._part(self.gradients, parameter)
        pieces = self.gradients[: sum(map(len, self.pieces))]
        for piece, part in zip(self.pieces, pieces.split(len(self.pieces[0])) if self.pieces else (), strict=True):
            piece.grad = part

    def check(self) -> None:
        """Raises RuntimeError if somebody has taken a weight elsewhere: nobody would train it any more."""
        for parameter, place in zip(self.moved, self.places, strict=True):
            if parameter.data_ptr() != place:
                raise RuntimeError(f"a weight of shape {tuple(parameter.shape)} has left the buffer it is trained in")

    @contextmanager
    def optimised(self, model: Any) -> Iterator[None]:
        """While open, an optimiser that is set up by NeMo moves the pieces and what lies outside of them."""
        if not self.pieces:
            yield
            return
        group = {"params": [*self.pieces, *self.unmoved]}
        model.setup_optimizer_param_groups = lambda: setattr(model, "_optimizer_param_groups", [group])
        try:
            yield
        finally:
            del model.setup_optimizer_param_groups

    def give_back(self) -> None:
        """Each weight has memory of its own again. Raises as :meth:`check` does."""
        self.check()
        self.release()
        for parameter in self.moved:
            parameter.data = parameter.data.clone()

    def release(self) -> None:
        """Let go of gradients and pieces, whoever else holds these."""
        for tensor in (*self.parameters, *self.pieces):
            tensor.grad = None
        self.gradients = None
        for piece in self.pieces:
            piece.data = piece.data.new_empty(0)


def in_order(model: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Parameters that train: the encoder's, others, those of recurrent networks.

    What several layers share is one of the others: its gradient is found when the lowest of them is.
    """
    from torch.nn import RNNBase

    networks = [module for module in model.modules() if isinstance(module, RNNBase)]
    recurrent = {id(parameter) for network in networks for parameter in network.parameters()}
    used = Counter(id(p) for layer in getattr(model.encoder, "layers", ()) for p in layer.parameters())
    shared = {parameter for parameter, layers in used.items() if layers > 1}
    encoder = {id(parameter) for parameter in model.encoder.parameters()} - recurrent - shared
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kinds = [2 if id(p) in recurrent else int(id(p) not in encoder) for p in moving]
    first, second, third = ([p for p, kind in zip(moving, kinds, strict=True) if kind == one] for one in range(3))
    return first, second, third


def seams(model: Any, starts: dict[int, int]) -> dict[int, int]:
    """Layers of the encoder where sections meet, the last one first, and where the first of their numbers lies.

    Layers that do not train begin nothing.
    """
    layers = list(getattr(model.encoder, "layers", ()))
    found = {}
    for index in sorted({len(layers) * part // SECTIONS for part in range(1, SECTIONS)} - {0}, reverse=True):
        inside = [starts[id(p)] for p in layers[index].parameters() if id(p) in starts]
        if inside:
            found[index] = min(inside)
    return found


def cut(numbers: int) -> tuple[int, int]:
    """How many pieces of which length hold so many numbers.

    >>> cut(1000), cut(618_000_000), cut(2**24 + 1)
    ((1, 1024), (37, 16702720), (2, 8388864))
    """
    count = max(1, -(-numbers // PIECE))
    return count, _up(-(-numbers // count))


def _room(parameter: Any) -> int:
    return _up(parameter.numel())


def _up(numbers: int) -> int:
    return -(-numbers // ALIGNED) * ALIGNED


@contextmanager
def zeroed_in_place(model: Any) -> Iterator[None]:
    """While open, Lightning leaves gradients where they are: whoever knows their places goes on adding to them."""
    before = vars(model).get("optimizer_zero_grad")
    model.optimizer_zero_grad = lambda _epoch, _batch_idx, optimizer: optimizer.zero_grad(set_to_none=False)
    try:
        yield
    finally:
        del model.optimizer_zero_grad
        if before is not None:
            model.optimizer_zero_grad = before
