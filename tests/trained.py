"""What tests of fine-tuning ask of a run and of the model that it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clinical_asr.training import Example, TrainingJob, TrainingReport


def examples(manifest: Path, count: int | None = None) -> tuple[Example, ...]:
    """To train on: the first rows of a manifest, or all of them."""
    from clinical_asr.jsonl import read_rows
    from clinical_asr.records import Utterance
    from clinical_asr.training import Example

    rows, folder = read_rows(manifest, Utterance)[:count], manifest.parent
    return tuple(Example(row.id, folder / row.audio_filepath, row.text, row.duration) for row in rows)


def curve(job: TrainingJob, **options: Any) -> tuple[list[float], TrainingReport]:
    """Train without a judge: the loss of each step, and the report."""
    from clinical_asr.engines.nemo_sft import train

    losses: list[float] = []
    report = train(job, None, lambda _done, _all, loss: losses.append(loss), **options)
    return losses, report


def weights(path: Path) -> dict[str, Any]:
    """Of a model in a file, by name."""
    from clinical_asr.nemo_file import restore

    return dict(restore(path).state_dict())


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """To the bit."""
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def dies_at(step: int) -> Any:
    """Told of each step, it ends the run at one of them."""

    def told(done: int, total: int, loss: float) -> None:
        if done == step:
            raise SystemExit("killed")

    return told
