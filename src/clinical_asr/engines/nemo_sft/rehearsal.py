"""Before the first step: does the largest batch fit on this card? Measured, not estimated.

What a step needs hangs on the architecture, on the length of the longest recordings, on precision, loss, anchors and
the optimiser's own temporaries; no formula knows them all. So a few real steps are taken on the longest rows, exactly
as training takes them, the peak is read, and the weights are put back. A batch that is too large is then halved before
anything was trained, not in the middle of the night when the long rows come together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from clinical_asr.engines.nemo_sft.epochs import Keeper, keep_still, weights_of
from clinical_asr.engines.nemo_sft.recorder import WARM_UP

SHARE = 0.92
"""Of the memory that a step may take: the rest is for fragments between allocations and for CUDA's libraries."""
STEPS = WARM_UP + 2
"""Of the optimiser: its state comes with the first, and the last two are recorded as graphs, as all that follow."""
GIGABYTE = 2**30


class TooLarge(MemoryError):
    """The longest rows were measured, and do not fit."""


class Card(Protocol):
    """The memory that training happens in; bytes."""

    def available(self) -> int | None:
        """What this process may take; ``None`` if there is no such memory here."""
        ...

    def reset(self) -> None:
        """Forget the peak so far, and give back what is not in use."""
        ...

    def look(self) -> None:
        """Take note of what the batch that has just passed needed."""
        ...

    def peak(self) -> int:
        """The most that a batch needed since :meth:`reset`."""
        ...


class Gpu:
    """The CUDA device of this process, which may be shared: what others hold is not available."""

    def __init__(self) -> None:
        self.most = self.idle = 0

    def available(self) -> int | None:
        import torch

        if not torch.cuda.is_available():
            return None
        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved())

    def reset(self) -> None:
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self.most = self.idle = 0

    def look(self) -> None:
        """What graphs keep for themselves counts as allocated only while they are recorded, but nobody else gets it."""
        import torch

        self.most = max(self.most, torch.cuda.max_memory_allocated() + self.idle)
        torch.cuda.reset_peak_memory_stats()
        kept = (each for each in torch.cuda.memory_snapshot() if each["segment_pool_id"] != (0, 0))
        self.idle = sum(segment["total_size"] - segment["allocated_size"] for segment in kept)

    def peak(self) -> int:
        return self.most


def rehearse(keeper: Keeper, model: Any, fit: Callable[[Any], None], card: Card) -> str:
    """Take ``STEPS`` steps on the longest rows and undo them; what they needed, in words.

    ``fit`` trains the model with a keeper for one epoch, as it will be trained. Raises TooLarge if the longest batch
    does not fit into ``SHARE`` of the card, MemoryError if it does not fit at all.
    """
    available = card.available()
    if available is None:
        return "nothing to fit: there is no GPU"
    before, longest = weights_of(model), LongestRows(keeper, card)
    card.reset()
    try:
        fit(longest)
        return verdict(card.peak(), available, len(longest.rows))
    finally:
        model.load_state_dict(before)
        model.zero_grad(set_to_none=True)
        card.reset()


def verdict(peak: int, available: int, rows: int) -> str:
    """What the longest rows need of what there is. Raises TooLarge if it is too much.

    >>> verdict(10 * GIGABYTE, 15 * GIGABYTE, 4)
    'the longest 4 rows need 10.0 of 15.0 GiB'
    >>> verdict(14 * GIGABYTE, 15 * GIGABYTE, 4)
    Traceback (most recent call last):
    clinical_asr.engines.nemo_sft.rehearsal.TooLarge: the longest 4 rows need 14.0 of 15.0 GiB: too little is left
    """
    told = f"the longest {rows} rows need {peak / GIGABYTE:.1f} of {available / GIGABYTE:.1f} GiB"
    if peak > SHARE * available:
        raise TooLarge(f"{told}: too little is left")
    return told


class LongestRows:
    """Stands in for a :class:`Keeper`: the same batch again and again, nothing judged, counted or kept."""

    def __init__(self, keeper: Keeper, card: Card) -> None:
        self.keeper, self.card, self.batches, self.share = keeper, card, self, keeper.share
        examples, size = keeper.batches.examples, keeper.config.batch_size
        self.rows = sorted(range(len(examples)), key=lambda index: -examples[index].duration)[:size]

    def __len__(self) -> int:
        return STEPS * self.keeper.config.accumulate_grad_batches

    def __iter__(self) -> Iterator[Any]:
        for _ in range(len(self)):
            yield self.keeper.batches.collated(self.rows)

    def start_batch(self, number: int) -> None:
        """The anchor holds replayed rows to the base: the more of them, the more memory."""
        self.share.take(self.rows, ends_a_step=False)
        if self.keeper.anchor is not None:
            self.keeper.anchor.rows = self.share.fed(self.rows)

    def start_fit(self, trainer: Any) -> None:
        """Optimiser and schedule start afresh."""

    def start_epoch(self, model: Any) -> None:
        """What is not to move takes less memory. Nothing is seeded: training seeds each of its epochs."""
        keep_still(model, self.keeper.config)
        self.share.lay()

    def before_step(self, optimizer: Any) -> None:
        """Whatever the gradients are, they take the same memory."""

    def end_batch(self, model: Any, loss: Any, rows: int, number: int) -> None:
        """Nobody asks for the loss."""
        self.card.look()

    def end_epoch(self, trainer: Any, model: Any) -> None:
        """Nothing is judged."""
