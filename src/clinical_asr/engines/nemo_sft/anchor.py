"""What holds a base to its language: parts that do not move, and how far its encoder moves on general speech.

Where prediction network and joint stay as they are, a transducer's output can change only through the encoder's: if
that stays the same on general speech, so does the transcript. (Learning without Forgetting, Li and Hoiem 2016,
https://arxiv.org/abs/1606.09282, with the encoder's output in the place of class probabilities.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from clinical_asr.config import TrainingConfig
from clinical_asr.engines.nemo_sft.batches import Batches
from clinical_asr.errors import TrainingError


@contextmanager
def frozen_parts(model: Any, config: TrainingConfig) -> Iterator[None]:
    """Parameters whose names start with one of ``config.frozen`` do not move; names that a base lacks are passed over.

    Raises TrainingError if nothing is left to train.
    """
    held = [p for name, p in model.named_parameters() if name.startswith(config.frozen) and p.requires_grad]
    if len(held) == sum(p.requires_grad for p in model.parameters()):
        raise TrainingError("nothing is left to train", "frozen", "freeze fewer parts")
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


class Anchor:
    """What the base's encoder made of every replayed recording, and how far the trained one has moved from it.

    The base hears them all before anything is trained, in large batches and once: a copy of it beside the model in
    training would take its memory, and a forward pass in every step.
    """

    def __init__(self, model: Any, weight: float, batches: Batches, precision: str = "32-true") -> None:
        self.weight, self.share = weight, batches.share
        self.targets = encoded(model, batches, precision)
        self.rows: Sequence[int] = ()
        """Examples of the batch that comes next."""
        self._distance: Any = 0.0

    def watch(self, _module: Any, _inputs: Any, output: Any) -> None:
        """Forward hook of the trained encoder; shapes: ``output[0]`` (batch, width, frames).

        The distance is the mean square of the difference over that of the base's output, 0 at the start, averaged over
        the batch.
        """
        import torch

        self._distance = 0.0
        if len(output[0]) != len(self.rows) or not torch.is_grad_enabled():  # not a training batch
            return
        places = [place for place, row in enumerate(self.rows) if row in self.targets]
        there, inside = self._targets(places, output[0])
        power = torch.stack([(there.square() * inside).sum(), inside.sum() * there.shape[1]]).float()
        own = float(bool(self.share.mine))  # else these are another's rows, counted there
        power = self.share.world.summed(own * power)  # of all processes' replayed rows
        if places:
            here = output[0][places][:, :, : there.shape[2]]
            apart = ((here - there).square() * inside).sum((1, 2)) / (inside.sum((1, 2)) * there.shape[1])
            self._distance = (apart / (power[0] / power[1])).sum() / len(self.rows)

    def _targets(self, places: Sequence[int], like: Any) -> tuple[Any, Any]:
        """The base's outputs (rows, width, frames), padded, and 1 where they are no padding (rows, 1, frames)."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        if not places:
            return like.new_zeros(0, like.shape[1], 0), like.new_zeros(0, 1, 0)
        targets = [self.targets[self.rows[place]].to(like.device) for place in places]
        there = pad_sequence(targets, batch_first=True).transpose(1, 2)
        frames = torch.tensor([len(one) for one in targets], device=like.device)
        inside = torch.arange(there.shape[2], device=like.device) < frames[:, None]
        return there, inside[:, None].to(there.dtype)

    def added(self, loss: Any) -> Any:
        """The training loss with the weighted distance, which is a mean over rows whatever the loss is one of.

        The distance is let go with that: as long as it is held, so is the step it comes from, and no graph can be
        recorded.
        """
        distance, self._distance = self._distance, 0.0
        by_rows = self.share.row_weight / self.share.loss_weight if self.share.mine else 1.0
        return loss + self.weight * by_rows * distance


TOGETHER = 16
"""Recordings that the base hears in one forward pass; longer batches leave a CPU's caches."""


def encoded(model: Any, batches: Batches, precision: str) -> dict[int, Any]:
    """The encoder's output (frames, width) for each replayed example, by its place among the examples."""
    import torch

    found: dict[int, Any] = {}
    device = next(model.parameters()).device
    order = sorted(batches.pool, key=lambda row: batches.examples[row].duration)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        for start in range(0, len(order), TOGETHER):
            rows = order[start : start + TOGETHER]
            signal, samples = (part.to(device) for part in batches.signals(rows))
            features, frames = model.preprocessor(input_signal=signal, length=samples)
            output, frames = model.encoder(audio_signal=features, length=frames)[:2]
            ends = zip(rows, output.transpose(1, 2), frames.tolist(), strict=True)
            found |= {row: one[:end].clone() for row, one, end in ends}
    return found


@contextmanager
def anchored(model: Any, anchor: Anchor | None) -> Iterator[None]:
    """While open, every training loss of ``model`` holds the anchor's distance, through NeMo's auxiliary losses."""
    if anchor is None:
        yield
        return
    own = model.add_auxiliary_losses
    hook = model.encoder.register_forward_hook(anchor.watch)
    model.add_auxiliary_losses = lambda loss, *rest: own(anchor.added(loss), *rest)
    try:
        yield
    finally:
        hook.remove()
        del model.add_auxiliary_losses
