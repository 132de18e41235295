"""One batch over several processes, with the gradient that a single process would have found.

Each process takes every n-th row of the batch. The processes' gradients are summed before each step, so a process's
loss counts by its share of the batch: the sum is then the loss of the whole batch. A process without a row of its own
goes through the motions with another's row, which counts nothing.

The gradients of the encoder's upper layers are summed while the lower ones are still at work. PyTorch's
DistributedDataParallel does so as well, but learns through hooks that gradients are there, and a recorded step
(``graphs``) runs none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from clinical_asr.engines.nemo_sft.buffers import Buffers, zeroed_in_place
from clinical_asr.engines.nemo_sft.ranks import ALONE, World


class Share:
    """What this process has of the batch that is trained now."""

    def __init__(self, world: World = ALONE, targets: Sequence[Sequence[int]] = (), reduction: str = "") -> None:
        self.world, self.targets, self.reduction = world, targets, reduction
        self.mine: list[int] = []
        self.loss_weight = self.row_weight = 1.0
        self.buffers: Buffers | None = None
        """Where several processes train, or the weights lie in one."""
        self.ends_a_step = False
        """Whether the gradients of this batch are the last ones before a step."""
        self._under_way: list[Any] = []
        """Sums of sections that have been begun."""

    def rows_of(self, batch: list[int]) -> list[int]:
        """Rows of a batch that are this process's own.

        >>> [Share(World(rank, 2)).rows_of([4, 7, 1]) for rank in (0, 1)]
        [[4, 1], [7]]
        """
        return batch[self.world.rank :: self.world.size]

    def fed(self, batch: list[int]) -> list[int]:
        """Rows that the model is really given: never none."""
        return self.rows_of(batch) or batch[:1]

    def take(self, batch: list[int], ends_a_step: bool = True) -> None:
        """Weights of the batch that comes next, for a loss that is a mean over rows, a mean over tokens or a sum.

        >>> share = Share(World(0, 2), [[1], [1, 2], [1, 2, 3]])
        >>> share.take([0, 1, 2]); round(share.loss_weight, 3)
        0.667
        """
        self.mine, self.ends_a_step = self.rows_of(batch), ends_a_step
        self.row_weight = len(self.mine) / len(batch)
        self.loss_weight = self.row_weight
        if self.reduction == "mean_volume":
            tokens = [sum(len(self.targets[row]) for row in rows) for rows in (self.mine, batch)]
            self.loss_weight = tokens[0] / tokens[1]
        elif self.reduction == "sum":
            self.loss_weight = float(bool(self.mine))

    def lay(self) -> None:
        """Lay all gradients into one buffer, once Lightning has thrown away what it found."""
        if self.buffers is not None:
            self.buffers.lay()

    @property
    def seams(self) -> dict[int, Callable[[], None]]:
        """Layers of the encoder, and what to do once the gradients of each and of all above it are found."""
        layers = self.buffers.seams if self.buffers is not None and self.world.size > 1 else ()
        return {layer: functools.partial(self.begin_sum, done) for done, layer in enumerate(layers, 1)}

    def begin_sum(self, sections: int) -> None:
        """The first so many sections of the gradients are found: the other processes may have them."""
        import torch.distributed as dist

        assert self.buffers is not None
        for begin, end in self.buffers.sections[len(self._under_way) : sections] if self.ends_a_step else ():
            part = self.buffers.gradients[begin:end]
            self._under_way.append(dist.all_reduce(part, async_op=True))

    def add_up(self) -> None:
        """Before a step: the gradients of each process become those of the whole batch."""
        if self.world.size > 1 and self.buffers is not None:
            self.begin_sum(len(self.buffers.sections))
            for sum_ in self._under_way:
                sum_.wait()
            self._under_way.clear()


@contextmanager
def gathered(model: Any, share: Share, *, weights: bool = False) -> Iterator[None]:
    """While open, gradients may lie in one buffer (``Share.lay``): where several processes train, or with ``weights``.

    After an error weights stay in their buffer: a GPU that is full has no room for copies. Raises RuntimeError if one
    has not stayed there.
    """
    if share.world.size == 1 and not weights:
        yield
        return
    share.buffers = buffers = Buffers(model, weights=weights)
    try:
        with zeroed_in_place(model), buffers.optimised(model):
            yield
        buffers.give_back()
    finally:
        share.buffers = None
        buffers.release()


@contextmanager
def weighted(model: Any, share: Share) -> Iterator[None]:
    """While open, a training step's loss counts as much as the share is worth."""
    if share.world.size == 1:
        yield
        return
    own = model.training_step

    @functools.wraps(own)
    def step(batch: Any, batch_idx: int) -> Any:
        found = own(batch, batch_idx)
        return {**found, "loss": found["loss"] * share.loss_weight}

    model.training_step = step
    try:
        yield
    finally:
        del model.training_step


@contextmanager
def whole_batch_norm(model: Any, share: Share) -> Iterator[None]:
    """While open, BatchNorm in training takes the statistics of the whole batch, on GPU and CPU alike."""
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)] if share.world.size > 1 else []
    for norm in norms:
        norm.forward = functools.partial(_of_all, share, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _of_all(share: Share, norm: Any, values: Any) -> Any:
    """As if all processes' rows stood in one batch; a row that is another's is normalised and not counted."""
    if not norm.training:
        return type(norm).forward(norm, values)
    return normalised(norm, values, counts=float(bool(share.mine)), summed=share.world.summed)


def normalised(
    norm: Any, values: Any, *, counts: float = 1.0, summed: Callable[[Any], Any] = lambda part: part, inside: Any = None
) -> Any:
    """BatchNorm in training of ``values``, shape (batch, channels, frames), with statistics of what counts.

    ``counts`` weighs all of them, ``inside`` is a tensor with the number of frames that count (all, if it is not
    given), ``summed`` adds what other processes have found.
    """
    import torch

    over = [axis for axis in range(values.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(values.dim())]
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    weight = torch.full_like(wide[:1, :1], counts)
    if inside is not None:
        weight = weight * (torch.arange(values.shape[-1], device=values.device) < inside)
    number = summed(weight.sum() * values.shape[0])
    mean = summed((weight * wide).sum(over)) / number
    apart = wide - mean.view(shape)
    variance = summed((weight * apart.square()).sum(over)) / number
    _remember(norm, mean.detach(), variance.detach() * number / (number - 1).clamp(min=1))
    normal = apart * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        normal = normal * norm.weight.view(shape) + norm.bias.view(shape)
    return normal.to(values.dtype)


def _remember(norm: Any, mean: Any, variance: Any) -> None:
    """Move the running statistics, as ``torch.nn.BatchNorm1d`` does."""
    if not norm.track_running_stats:
        return
    norm.num_batches_tracked.add_(1)
    momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), momentum)
