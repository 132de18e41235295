"""What goes wrong in fine-tuning without an error from anybody: each is noticed and named, and stops or mends the run.

Beside what is here: a loss that is not a number and rows that did not come (``epochs``), transcripts that are garbage
only in bf16 (``judge``).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from clinical_asr.engines.nemo_sft.later import Later
from clinical_asr.errors import AudioError, TrainingError
from clinical_asr.speech import read_speech
from clinical_asr.training import EpochReport, Example, score_key

PROBES = 4  # recordings heard before and after the first step
PATIENCE = 3  # steps in a row whose gradients may be no numbers
UNKNOWN = ("<unk>", "⁇")


class Collapse:
    """Some bases say only blanks or UNK from the first step on (cache-aware streaming ones do): stop right there."""

    def __init__(self, model: Any, examples: Sequence[Example]) -> None:
        self.speech = []
        for example in examples[:PROBES]:
            with suppress(AudioError):  # whoever trains on it will name it
                self.speech.append(read_speech(example.audio))
        self.spoke = bool(self.speech) and any(map(_words, self._heard(model)))

    def check(self, model: Any) -> None:
        """Raises TrainingError if a base that spoke has fallen silent."""
        texts = self._heard(model) if self.spoke else []
        if self.spoke and not any(map(_words, texts)):
            silent = "blanks" if not any(texts) else "UNK"
            mend = "lower learning_rate, or take another base: streaming ones collapse like this"
            raise TrainingError(f"the model says nothing but {silent}", "after the first step", mend)

    def _heard(self, model: Any) -> list[str]:
        found = model.transcribe(self.speech, batch_size=PROBES, verbose=False, num_workers=0)
        best = found[0] if isinstance(found, tuple) else found
        return [str(getattr(hypothesis, "text", hypothesis)).strip() for hypothesis in best]


def _words(text: str) -> str:
    for symbol in UNKNOWN:
        text = text.replace(symbol, " ")
    return text.strip()


class Gradients:
    """A step whose gradients are no numbers is left out; ``PATIENCE`` of them in a row end the run.

    Nobody waits for a GPU to say what they are: the optimiser is told as PyTorch's ``GradScaler`` tells it, by a
    tensor that it looks at when it comes to the step (``found_inf``), and the count follows.
    """

    def __init__(self) -> None:
        self.left_out, self._in_a_row = 0, 0
        self._told: tuple[str, Later] | None = None

    def check(self, optimizer: Any, where: str, largest: float = 0.0) -> None:
        """Before the optimiser's step: clip to the norm ``largest`` (0: not at all). Raises as :meth:`settle` does."""
        import torch

        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.get_total_norm([each.grad for each in trained if each.grad is not None])
        optimizer.found_inf = (~norm.isfinite()).float()
        if largest:
            torch.nn.utils.clip_grads_with_norm_(trained, largest, norm)
        self.settle()
        self._told = where, Later(optimizer.found_inf)

    def settle(self) -> None:
        """Count the step that was checked last. Raises TrainingError after ``PATIENCE`` steps that were left out."""
        if self._told is None:
            return
        (where, no_numbers), self._told = self._told, None
        if not float(no_numbers):
            self._in_a_row = 0
            return
        self.left_out, self._in_a_row = self.left_out + 1, self._in_a_row + 1
        if self._in_a_row == PATIENCE:
            mend = "lower learning_rate or use precision 32-true; nothing was written"
            raise TrainingError(f"the gradients of {PATIENCE} steps in a row are no numbers", where, mend)

    def note(self) -> list[str]:
        """What a person should know of it."""
        return [f"{self.left_out} steps left out: their gradients were no numbers"] if self.left_out else []


def learnt_by_heart(reports: Sequence[EpochReport], best_epoch: int) -> list[str]:
    """Said if judged rows got worse for two epochs or more while the training loss kept falling.

    >>> losses, kers = (9.0, 5.0, 3.0, 2.0), (0.5, 0.2, 0.3, 0.4)
    >>> reports = [EpochReport(n, loss, 8, 1.0, {"ker": ker, "wer": ker})
    ...            for n, (loss, ker) in enumerate(zip(losses, kers), 1)]
    >>> learnt_by_heart(reports, 2)
    ['learnt by heart after epoch 2: judged rows got worse for 2 epochs while the loss fell; epoch 2 is used']
    """
    late = reports[best_epoch:]
    falling = all(a.loss > b.loss for a, b in zip(reports[best_epoch - 1 :], late, strict=False))
    worse = all(score_key(report.metrics) > score_key(reports[best_epoch - 1].metrics) for report in late)
    if len(late) < 2 or not (falling and worse):
        return []
    said = f"judged rows got worse for {len(late)} epochs while the loss fell"
    return [f"learnt by heart after epoch {best_epoch}: {said}; epoch {best_epoch} is used"]
