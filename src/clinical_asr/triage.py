"""Where an evaluation leads: what is at fault, then how much there is to learn, then whether on enough rows.

Pure: a leaderboard in, a decision with its evidence out.
"""

from __future__ import annotations

from dataclasses import asdict

from clinical_asr.config import GateConfig
from clinical_asr.firmness import firmness_of, priority_ker
from clinical_asr.gaps import Gap, pronunciation_gap, robustness_gap
from clinical_asr.gate import GO_BACK, PASS, conditions_of
from clinical_asr.records import Decision
from clinical_asr.tally import Leaderboard


def triage(board: Leaderboard, cycle_number: int, config: GateConfig | None = None) -> Decision:
    """The stage that mends most. ``cycle_number`` 1 is the first evaluation.

    Verdicts: ``fix pronunciations``, ``add noise diversity``, ``fine-tune``, ``grow``, ``expand terms``,
    ``harden benchmark``, in this order of precedence; exit code 0 for ``fine-tune``, else 3 with ``next_stage``.
    """
    config = config or GateConfig()
    verdict, reason, next_stage = _led(board, cycle_number, config)
    firmness = firmness_of(board, config)
    return Decision(
        verdict=verdict,
        reason=f"{reason} ({firmness.note})",
        evidence={
            "priority_categories": [c.value for c in config.priority_categories],
            "cycle": cycle_number,
            "priority_ker": priority_ker(board, config),
            "firmness": asdict(firmness),
            "pronunciation_gap": asdict(pronunciation_gap(board, config)),
            "robustness_gap": asdict(robustness_gap(board, config)),
        },
        next_stage=next_stage,
        exit_code=PASS if verdict == "fine-tune" else GO_BACK,
    )


def _led(board: Leaderboard, cycle_number: int, config: GateConfig) -> tuple[str, str, str]:
    """(verdict, reason, next stage)."""
    sources, noise = pronunciation_gap(board, config), robustness_gap(board, config)
    ker = priority_ker(board, config)
    if sources.found:
        return "fix pronunciations", f"{sources.reason}; correct them and listen again", "pronunciations"
    if ker is None:
        return "grow", "the priority categories have no rows", "build"
    if noise.found:
        reason = f"robustness gap: KER {noise.good_ker:.3f} clean but {noise.bad_ker:.3f} at {noise.bad}"
        return "add noise diversity", f"{reason}: more noise levels and kinds", "build"
    if ker < config.saturated_below:
        reason = f"priority KER {ker:.3f} is under {config.saturated_below:g}: there is little left to tune"
        return "harden benchmark", f"{reason}; add voices, noise, contexts, adversarial terms", "build"
    if ker <= config.tune_above and cycle_number == 1:
        reason = f"priority KER {ker:.3f} lies between {config.saturated_below:g} and {config.tune_above:g}"
        return "expand terms", f"{reason} in the first evaluation: expand the term list", "build"
    return _tune_if_large_enough(board, ker, sources, config)


def _tune_if_large_enough(board: Leaderboard, ker: float, sources: Gap, config: GateConfig) -> tuple[str, str, str]:
    small = [c.missing for c in conditions_of(board, config)[1:] if not c.ok]
    if small:
        return "grow", f"priority KER {ker:.3f} calls for fine-tuning, but {'; '.join(small)}", "build"
    kers = (sources.good_ker, sources.bad_ker)
    both_bad = all(side is not None and side > config.tune_above for side in kers)
    cause = "; verified and guessed pronunciations are both heard badly: a real model gap" if both_bad else ""
    return "fine-tune", f"priority KER {ker:.3f} on {board.headline.rows} rows{cause}", "gate"
