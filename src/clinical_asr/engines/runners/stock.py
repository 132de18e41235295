"""NeMo's stock fine-tuning script as data: the command, and what of a recipe it can be told.

Source: ``examples/asr/speech_to_text_finetune.py`` of NeMo and its Hydra configuration
``conf/asr_finetune/speech_to_text_finetune.yaml``, whose keys are listed in ``data/stock_script_keys.txt``. Hydra
refuses a key that the file does not hold unless a ``+`` stands before it.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from clinical_asr.config import TrainingConfig
from clinical_asr.errors import ConfigError

IMAGE = "nvcr.io/nvidia/nemo:25.11.01"
SCRIPT = PurePosixPath("/opt/NeMo/examples/asr/speech_to_text_finetune.py")
RESULTS = "results"
"""Folder of the script's own output, within the staged one."""


HONOURED = {
    "name", "epochs", "batch_size", "accumulate_grad_batches", "learning_rate", "min_learning_rate", "betas",
    "weight_decay", "warmup_steps", "warmup_epochs", "gradient_clip", "precision", "replay_ratio", "max_duration",
    "seed", "early_stop_patience",
}  # fmt: skip
"""Recipe keys the script can be told, or that are done before it starts (replay, length)."""


def command(config: TrainingConfig, folder: PurePosixPath, rows: int, script: PurePosixPath = SCRIPT) -> list[str]:
    """``python SCRIPT key=value ...`` for a staged ``folder`` as the script will see it; ``rows`` to train on.

    Raises ConfigError for a recipe that asks for what the stock script cannot do.
    """
    return ["python", str(script), "--config-path=conf/asr_finetune", "--config-name=speech_to_text_finetune",
            *overrides(config, folder, rows)]  # fmt: skip


@cache
def known_keys() -> frozenset[str]:
    """Every key of the stock configuration file."""
    listed = resources.files("clinical_asr") / "data" / "stock_script_keys.txt"
    return frozenset(listed.read_text(encoding="utf-8").split())


def overrides(config: TrainingConfig, folder: PurePosixPath, rows: int) -> list[str]:
    """The recipe in the script's own words, a ``+`` before each key its file does not hold."""
    refuse_unknown(config)
    values = _values(config, folder, rows)
    return [f"{'' if key in known_keys() else '+'}{key}={value}" for key, value in values.items()]


def refuse_unknown(config: TrainingConfig) -> None:
    """Raise ConfigError if the recipe sets a key away from its default that the stock script would not know."""
    defaults = TrainingConfig(name=config.name)
    for field in TrainingConfig.__struct_fields__:
        if field not in HONOURED and getattr(config, field) != getattr(defaults, field):
            what = f"is {getattr(config, field)!r}, which NeMo's stock script cannot do"
            raise ConfigError(what, field, "use --runner local or ssh, or --recipe smoke")


def _values(config: TrainingConfig, folder: PurePosixPath, rows: int) -> dict[str, object]:
    return {
        "init_from_nemo_model": folder / "base.nemo",
        "model.train_ds.manifest_filepath": folder / "train.jsonl",
        "model.train_ds.batch_size": config.batch_size,
        "model.train_ds.max_duration": f"{config.max_duration:g}",
        "model.train_ds.num_workers": 4,
        "model.validation_ds.manifest_filepath": folder / "validation.jsonl",
        "model.validation_ds.batch_size": config.batch_size,
        "model.validation_ds.num_workers": 4,
        "model.optim.lr": config.learning_rate,
        "model.optim.betas": "[" + ",".join(map(str, config.betas)) + "]",
        "model.optim.weight_decay": config.weight_decay,
        "model.optim.sched.warmup_steps": _warmup(config, rows),
        "model.optim.sched.min_lr": config.min_learning_rate,
        "trainer.devices": 1,
        "trainer.max_epochs": config.epochs,
        "trainer.accumulate_grad_batches": config.accumulate_grad_batches,
        "trainer.gradient_clip_val": config.gradient_clip,
        "trainer.precision": config.precision,
        "exp_manager.exp_dir": folder / RESULTS,
        "exp_manager.name": "adapted",
        "exp_manager.checkpoint_callback_params.save_top_k": 1,
        **_patience(config),
    }


def _patience(config: TrainingConfig) -> dict[str, object]:
    """The experiment manager's own early stopping; its keys are not in the file."""
    if not config.early_stop_patience:
        return {}
    stop = "exp_manager.early_stopping_callback_params"
    wanted = {"monitor": "val_wer", "mode": "min", "patience": config.early_stop_patience}
    return {"exp_manager.create_early_stopping_callback": True,
            **{f"{stop}.{key}": value for key, value in wanted.items()}}  # fmt: skip


def _warmup(config: TrainingConfig, rows: int) -> int:
    """Optimiser steps to warm up for: the recipe's own, or so many passes over ``rows``; one is left to fall."""
    per_epoch = max(1, -(-rows // (config.batch_size * config.accumulate_grad_batches)))
    wanted = round(config.warmup_epochs * per_epoch) or config.warmup_steps
    return max(0, min(wanted, per_epoch * config.epochs - 1))
