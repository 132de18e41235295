"""What holds a base to its language: parts that do not move, and how far its encoder moves on general speech.

Where prediction network and joint stay as they are, a transducer's output can change only through the encoder's: if
that stays the same on general speech, so does the transcript. (Learning without Forgetting, Li and Hoiem 2016,
https://arxiv.org/abs/1606.09282, with the encoder's output in the place of class probabilities.)
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from clinical_asr.config import TrainingConfig
from clinical_asr.engines.nemo_sft.sharing import Share
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
    """A frozen copy of the base's encoder, and how far the trained one has moved from it on replayed rows."""

    def __init__(self, model: Any, weight: float, share: Share | None = None) -> None:
        self.encoder = copy.deepcopy(model.encoder).eval().requires_grad_(False)
        self.weight, self.share = weight, share or Share()
        self.replayed: Sequence[bool] = ()
        """Of the rows of the batch that comes next."""
        self._distance: Any = 0.0

    def watch(self, _module: Any, _args: Any, inputs: dict[str, Any], output: Any) -> None:
        """Forward hook of the trained encoder: the same input through the base's.

        Shapes: ``output[0]`` (batch, width, frames), ``output[1]`` (batch,) frames. The distance is the mean square of
        the difference over that of the base's output, 0 at the start, averaged over the batch.
        """
        import torch

        self._distance = 0.0
        rows = [row for row, replayed in enumerate(self.replayed) if replayed]
        if len(output[0]) != len(self.replayed) or not torch.is_grad_enabled():  # not a training batch
            return
        with torch.no_grad():
            power = torch.zeros(2, device=output[0].device)
            if rows:
                given = {name: value[rows] for name, value in inputs.items() if value is not None}
                there, frames = self.encoder(**given)
                inside = (torch.arange(there.shape[2], device=there.device) < frames[:, None])[:, None].to(there.dtype)
                power = torch.stack([(there.square() * inside).sum(), inside.sum() * there.shape[1]]).float()
            power = self.share.world.summed(power)  # of all processes' replayed rows
        if rows:
            here = output[0][rows][:, :, : there.shape[2]]
            apart = ((here - there).square() * inside).sum((1, 2)) / (inside.sum((1, 2)) * there.shape[1])
            self._distance = (apart / (power[0] / power[1])).sum() / len(self.replayed)

    def added(self, loss: Any) -> Any:
        """The training loss with the weighted distance, which is a mean over rows whatever the loss is one of."""
        by_rows = self.share.row_weight / self.share.loss_weight if self.share.mine else 1.0
        return loss + self.weight * by_rows * self._distance


@contextmanager
def anchored(model: Any, anchor: Anchor | None) -> Iterator[None]:
    """While open, every training loss of ``model`` holds the anchor's distance, through NeMo's auxiliary losses."""
    if anchor is None:
        yield
        return
    own = model.add_auxiliary_losses
    hook = model.encoder.register_forward_hook(anchor.watch, with_kwargs=True)
    model.add_auxiliary_losses = lambda loss, *rest: own(anchor.added(loss), *rest)
    try:
        yield
    finally:
        hook.remove()
        del model.add_auxiliary_losses
