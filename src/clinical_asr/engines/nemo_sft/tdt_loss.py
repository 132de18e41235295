"""The TDT loss on any device, in the place of NeMo's, which needs a CUDA GPU.

Source: Xu et al. 2023, "Efficient Sequence Transduction by Jointly Predicting Tokens and Durations"
(https://arxiv.org/abs/2304.06795); computed by ``transformers.loss.loss_tdt``, over anti-diagonals of the lattice.
"""

from __future__ import annotations

from typing import Any

from clinical_asr.errors import MissingDependency

DESCRIPTION = "TDT, transformers.loss.loss_tdt (any device); sigma kept, without omega (no RNN-T mixing)"


def device_agnostic_tdt_loss(*, blank: int, durations: list[int], sigma: float, reduction: str) -> Any:
    """A torch module with the call of NeMo's ``RNNTLoss``.

    ``log_probs`` is the joint's output, shape (batch, frames, tokens + 1, vocabulary + 1 + durations); any constant
    added over the last axis is without effect, so raw logits and jointly normalised ones give the same loss. ``blank``
    is the index of the blank, which is the vocabulary's size. Raises MissingDependency.
    """
    import torch

    try:
        from transformers.loss.loss_tdt import tdt_loss
    except ImportError:
        raise MissingDependency("transformers 5", "nemo") from None

    class TdtLoss(torch.nn.Module):  # type: ignore[misc]
        def forward(self, *, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
            frames, tokens = int(input_lengths.max()), int(target_lengths.max())
            lattice = log_probs[:, :frames, : tokens + 1]
            return tdt_loss(
                token_logits=lattice[..., : blank + 1],
                duration_logits=lattice[..., blank + 1 :],
                targets=targets[:, :tokens].long(),
                logit_lengths=input_lengths.long(),
                target_lengths=target_lengths.long(),
                blank_token_id=blank,
                durations=durations,
                sigma=sigma,
                reduction=reduction,
            )

    return TdtLoss()
