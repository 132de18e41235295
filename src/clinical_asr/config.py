"""One frozen config per stage, checked on construction; recipes are YAML files of :class:`TrainingConfig`."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import intake
from clinical_asr.complaints import validation_error
from clinical_asr.errors import ConfigError, printable
from clinical_asr.records import EntityCategory, Seconds


def _require(condition: bool, flag: str, why: str) -> None:
    if not condition:
        raise ConfigError(why, where=flag)


class SynthesisConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a benchmark is spoken: every sentence in ``voices_per_sentence`` voices, noise levels in turn."""

    voices: tuple[str, ...]
    """Voice ids of the speech engine."""
    voices_per_sentence: int = 2
    """Voices that say each sentence, taken in turn from ``voices``."""
    noise_levels: tuple[str, ...] = ("clean", "snr_15db", "snr_5db")
    """Noise levels, taken in turn over the rows."""
    seed: int = 42
    """Seed of the noise."""

    def __post_init__(self) -> None:
        _require(len(self.voices) > 0, "--voices", "at least one voice is needed")
        _require(len(self.noise_levels) > 0, "--noise-levels", "at least one noise level is needed")
        _require(
            1 <= self.voices_per_sentence <= len(self.voices), "--voices-per-sentence", "is 1 to the number of voices"
        )


class TranscriptionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a manifest is transcribed offline."""

    batch_size: int = 128
    """Utterances at a time, of similar duration; fewer without a GPU, or where its memory ends."""
    precision: str = "auto"
    """``auto`` (bf16 where the GPU has it, else fp32), ``fp32`` or ``bf16``."""

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, "--batch-size", "must be at least 1")
        _require(self.precision in ("auto", "fp32", "bf16"), "--precision", "is auto, fp32 or bf16")


class GateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When fine-tuning is worth it."""

    priority_categories: tuple[EntityCategory, ...] = (EntityCategory.DRUG,)
    """Categories whose KER decides."""
    tune_above: float = 0.3
    """Priority KER above which fine-tuning is worth it."""
    saturated_below: float = 0.1
    """Priority KER under which the benchmark, not the model, needs work."""
    min_rows: int = 100
    """Rows of the whole manifest."""
    min_rows_per_category: int = 5
    """Rows of each priority category."""
    min_rows_per_source: int = 5
    """Rows a pronunciation source needs before it can prove a pronunciation gap."""

    def __post_init__(self) -> None:
        _require(len(self.priority_categories) > 0, "--priority", "at least one category is needed")
        _require(0 <= self.saturated_below <= self.tune_above <= 1, "--tune-above", "needs 0 <= saturated <= tune <= 1")
        _require(self.min_rows >= 0, "--min-rows", "must be at least 0")
        _require(self.min_rows_per_category >= 0, "--min-rows-per-category", "must be at least 0")


LONGEST: Seconds = 40.0
"""Of recordings that are trained on, unless a recipe says otherwise."""


class SplitConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are held out. Whole voices, sentences or terms come first, then single rows fill up."""

    validation_fraction: float = 0.2
    """Share of each category's rows that is held out."""
    seed: int = 42
    """Seed of the draw."""
    priority_categories: tuple[EntityCategory, ...] = (EntityCategory.DRUG,)
    """Categories that must have ``min_rows_per_category`` rows."""
    min_rows_per_category: int = 5
    """Rows a priority category needs."""
    hold_out_voices: int = 0
    """Whole voices kept out of training."""
    hold_out_sentences: float = 0.0
    """Share of the sentences of each category kept out of training, in every voice."""
    hold_out_terms: int = 0
    """Whole terms kept out of training."""
    max_duration: Seconds = LONGEST
    """Longer rows are held out: nobody trains on them, and what only they say is not taught."""

    def __post_init__(self) -> None:
        _require(0 < self.validation_fraction < 1, "--validation-fraction", "must lie between 0 and 1")
        _require(0 <= self.hold_out_sentences < 1, "--hold-out-sentences", "must be at least 0 and under 1")
        _require(
            min(self.hold_out_voices, self.hold_out_terms) >= 0, "--hold-out-voices/--hold-out-terms", "must be >= 0"
        )


LARGEST_RISE = 0.05
"""Of general-English WER, that somebody may call "not worse": five points are one word more of twenty."""


class ComparisonConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When a fine-tuned model is kept."""

    priority_categories: tuple[EntityCategory, ...] = (EntityCategory.DRUG,)
    """Categories whose held-out KER decides."""
    keep_reduction: float = 0.2
    """Relative fall of KER that keeps the model."""
    grow_reduction: float = 0.05
    """Relative fall under which nothing measurable happened."""
    guard_margin: float = 0.003
    """Absolute rise of guard-set WER that is still "not worse"."""
    guard_upper: float = 0.01
    """What the upper end of the rise's 95 % interval may be at most."""
    alpha: float = 0.05
    """Two-sided level of the sign-flip test."""

    def __post_init__(self) -> None:
        _require(len(self.priority_categories) > 0, "--priority", "at least one category is needed")
        _require(
            0 <= self.grow_reduction <= self.keep_reduction <= 1, "--keep-reduction", "needs 0 <= grow <= keep <= 1"
        )
        _require(0 <= self.guard_margin <= self.guard_upper, "--guard-margin", "needs 0 <= margin <= upper")
        _require(
            self.guard_upper <= LARGEST_RISE,
            "--guard-margin",
            f"is a rise of WER: 0.003 is 0.3 points, {LARGEST_RISE:g} the most",
        )


class TrainingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Full-model SFT of a NeMo transducer or CTC model; a recipe file holds these keys."""

    name: str
    """The recipe's name; it stands in training_run_info.json."""
    epochs: int = 3
    """Passes over the training rows."""
    batch_size: int = 4
    """Utterances per forward pass."""
    accumulate_grad_batches: int = 1
    """Forward passes per optimiser step."""
    learning_rate: float = 3e-4
    """Peak rate of AdamW."""
    min_learning_rate: float = 5e-6
    """Where the cosine ends."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's momenta."""
    weight_decay: float = 1e-3
    """AdamW's decoupled decay."""
    warmup_steps: int = 5
    """Optimiser steps from 0 to the peak rate."""
    warmup_epochs: float = 0.0
    """If above 0, the warm-up lasts this many epochs instead, whatever the number of rows."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    precision: str = "bf16-mixed"
    """``bf16-mixed`` or ``32-true``; a device without bf16 gets ``32-true``. fp16 gives NaN losses with TDT."""
    replay_ratio: float = 0.0
    """General utterances per clinical one, so that the base keeps its language; others in each epoch if there are."""
    frozen: tuple[str, ...] = ()
    """Parts that are not trained: ``decoder`` (a transducer's prediction network), ``joint``, ``encoder.layers.0.``."""
    freeze_batch_norm: bool = False
    """BatchNorm keeps and uses the base's statistics: those of small noisy batches are worse."""
    distortion: bool = True
    """Dropout and SpecAugment, as the base's own config has them."""
    match_weight: float = 0.0
    """Weight of the distance to the base's own encoder output on replayed rows (relative mean square)."""
    factors: tuple[float, ...] = (1.0,)
    """Candidates: ``(1 - factor) * base + factor * tuned`` weights; the strongest inside the guard margin is kept."""
    selection_fraction: float = 0.0
    """Share of the training rows that chooses epoch and factor instead of being trained on; 0: validation rows do."""
    early_stop_patience: int = 0
    """Epochs without a better score of what chooses before training stops. 0: never early, and where factors lead back
    the last epoch is taken unless it is clearly worse than an earlier one."""
    max_duration: Seconds = LONGEST
    """Longer rows are excluded with a reason, never silently."""
    frugal: bool = False
    """Less GPU memory for more time: layers are computed again, AdamW's moments take 8 bits. Needs extra ``frugal``."""
    seed: int = 42
    """Seed of shuffling, dropout and SpecAugment."""

    def __post_init__(self) -> None:
        _require_sane(self)
        _require(self.batch_size >= 1, "batch_size", "must be at least 1")
        _require(self.accumulate_grad_batches >= 1, "accumulate_grad_batches", "must be at least 1")
        _require(0 < self.learning_rate <= 1, "learning_rate", "must lie in (0, 1]")
        _require(
            0 <= self.min_learning_rate <= self.learning_rate, "min_learning_rate", "must lie in [0, learning_rate]"
        )
        _require(
            self.precision in ("bf16-mixed", "32-true"),
            "precision",
            "is bf16-mixed or 32-true; fp16 gives NaN with TDT",
        )
        _require(min(self.warmup_steps, self.warmup_epochs) >= 0, "warmup_steps", "must be at least 0")
        _require(self.replay_ratio >= 0, "replay_ratio", "must be at least 0")
        _require(self.match_weight >= 0, "match_weight", "must be at least 0")
        _require(
            self.match_weight == 0 or self.replay_ratio > 0, "match_weight", "works on replayed rows: set replay_ratio"
        )
        _require(len(self.factors) > 0 and all(0 < factor <= 1 for factor in self.factors), "factors", "lie in (0, 1]")
        _require(0 <= self.selection_fraction <= 0.5, "selection_fraction", "must lie in [0, 0.5]")


def _require_sane(config: TrainingConfig) -> None:
    """Numbers that a trainer can work with: a NaN or a slip of ten zeros shows here, not after hours."""
    for name in config.__struct_fields__:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        usable = all(not isinstance(n, int | float) or abs(n) < 2**32 for n in numbers)  # a NaN is not
        _require(usable, name, "is no number that can be used")
    _require(1 <= config.epochs <= 10_000, "epochs", "must lie in [1, 10000]")
    _require(all(0 <= beta < 1 for beta in config.betas), "betas", "must lie in [0, 1)")
    _require(config.weight_decay >= 0, "weight_decay", "must be at least 0")
    _require(config.gradient_clip > 0, "gradient_clip", "must be more than 0")
    _require(config.max_duration > 0, "max_duration", "must be more than 0")
    _require(config.seed >= 0, "seed", "must be at least 0")


def halved(recipe: TrainingConfig) -> TrainingConfig:
    """The same recipe in less memory: half the batch, and as many more passes for each step of the optimiser.

    >>> small = halved(TrainingConfig(name="x", batch_size=8))
    >>> small.batch_size, small.accumulate_grad_batches
    (4, 2)
    """
    half = recipe.batch_size // 2
    passes = recipe.accumulate_grad_batches * recipe.batch_size // half
    return msgspec.structs.replace(recipe, batch_size=half, accumulate_grad_batches=passes)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("clinical_asr") / "recipes"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name_or_path: str) -> TrainingConfig:
    """A shipped recipe by name, or a YAML file by path. Raises ConfigError naming the key."""
    shipped = resources.files("clinical_asr") / "recipes" / f"{name_or_path}.yaml"
    if name_or_path in recipe_names():
        return _parse_recipe(shipped.read_bytes(), name_or_path)
    path = Path(name_or_path)
    if not path.exists():
        known = ", ".join(recipe_names())
        raise ConfigError(f"no recipe {name_or_path!r}", where="--recipe", mend=f"use one of {known}, or a YAML file")
    return _parse_recipe(_recipe_file(path), str(path))


def _recipe_file(path: Path) -> bytes:
    try:
        return intake.document(path, intake.LARGEST_YAML)
    except OSError as error:
        why = f"cannot be read ({(error.strerror or str(error)).lower()})"
        raise ConfigError(why, str(path), "name the YAML file of a recipe") from None


def _parse_recipe(document: bytes, where: str) -> TrainingConfig:
    """Raises ConfigError with the file, the key and the mend."""
    from clinical_asr.bases import refuse_request

    keys = _recipe_keys(document, where)
    try:
        for key, value in keys.items():
            refuse_request(key, "" if key == "name" else value)
            _require_known(key)
        return msgspec.convert({"name": printable(Path(where).stem), **keys}, TrainingConfig)
    except ConfigError as error:
        raise ConfigError(error.what, f"{where}, {error.where}", error.mend) from None
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise _not_a_recipe(error, keys, where) from None


def _recipe_keys(document: bytes, where: str) -> dict[str, Any]:
    mend = "write one `key: value` a line, like epochs: 3"
    try:
        keys: Any = intake.plain_yaml(document)
    except ValueError as error:
        raise ConfigError(f"is not a recipe ({error})", where, mend) from None
    if not isinstance(keys, dict):
        why = "it is empty" if keys is None else "it holds no keys"
        raise ConfigError(f"is not a recipe ({why})", where, mend)
    return {str(key): value for key, value in keys.items()}


def _require_known(key: str) -> None:
    known = TrainingConfig.__struct_fields__
    if key not in known:
        meant = get_close_matches(key, known, n=1)
        mend = f"did you mean {meant[0]}?" if meant else f"a recipe has the keys {', '.join(known)}"
        raise ConfigError("is no key of a recipe", key[:60], mend)


def _not_a_recipe(error: Exception, keys: dict[str, Any], where: str) -> ConfigError:
    """What a value should be. YAML takes 1e-4 for text: it wants a point in a number with an exponent."""
    found = validation_error(Path(where), 0, msgspec.ValidationError(str(error)))
    mend = found.mend
    if "`float`" in found.why and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", str(keys.get(found.field, ""))):
        mend = f"write it with a point: {str(keys[found.field]).lower().replace('e', '.0e')}"
    return ConfigError(f"is not a recipe ({found.why})", f"{where}, {found.field}" if found.field else where, mend)
