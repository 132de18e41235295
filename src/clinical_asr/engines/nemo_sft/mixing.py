"""Between the base and what was tuned: weights interpolated by a factor (WiSE-FT, Wortsman et al. 2022,
https://arxiv.org/abs/2109.01903), each judged on rows that do not decide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clinical_asr.config import TrainingConfig
from clinical_asr.engines.nemo_sft.epochs import Keeper, left_as_it_was, weights_of
from clinical_asr.training import Candidate, Evaluate


@dataclass(frozen=True)
class Start:
    """The base: its weights, if the recipe goes back towards them, and what was said of it."""

    weights: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any, config: TrainingConfig, evaluate: Evaluate | None) -> Start:
        """Look at the base before anything moves it."""
        weights = weights_of(model) if any(factor != 1.0 for factor in config.factors) else {}
        return cls(weights, judged(model, evaluate))

    def mixed(self, tuned: dict[str, Any], factor: float) -> dict[str, Any]:
        """``(1 - factor) * base + factor * tuned``; counters, which are no weights, are the tuned model's."""
        parts = ((name, self.weights[name], value) for name, value in tuned.items())
        return {name: old.lerp(new, factor) if new.is_floating_point() else new for name, old, new in parts}


def candidates(
    model: Any, start: Start, config: TrainingConfig, keeper: Keeper, evaluate: Evaluate | None
) -> list[Candidate]:
    """The best epoch, which ``model`` holds and holds again afterwards, at every factor; none if nobody judges."""
    if evaluate is None:
        return []
    tuned, found = weights_of(model) if start.weights else {}, []
    for factor in config.factors:
        if factor == 1.0:
            metrics = keeper.reports[keeper.best_epoch - 1].metrics
        else:
            model.load_state_dict(start.mixed(tuned, factor))
            metrics = judged(model, evaluate)
        found.append(Candidate(keeper.best_epoch, factor, metrics))
    if tuned:
        model.load_state_dict(tuned)
    return found


def judged(model: Any, evaluate: Evaluate | None) -> dict[str, float | None]:
    """What is said of a model, which is left as it was; nothing if nobody judges."""
    if evaluate is None:
        return {}
    with left_as_it_was(model):
        return dict(evaluate(model))
