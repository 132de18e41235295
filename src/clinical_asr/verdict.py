"""What a comparison comes to: promote, or not, or not yet known. Pure.

| verdict | exit code | when | next stage |
|---|---|---|---|
| ``promote`` | 0 | KER down by ``keep_reduction`` or more, significantly, guard set not worse | ``deploy`` |
| ``inconclusive`` | 4 | as much, not significantly, or the guard set cannot tell, or nothing was held out | ... |
| ``inconclusive`` | 4 | as much, but rows to judge by were heard before and are missing after | ``hypotheses`` |
| ``grow`` | 5 | down by ``grow_reduction`` to ``keep_reduction`` | ``build`` |
| ``overfit`` | 5 | up by more than ``grow_reduction`` | ``build`` |
| ``no change`` | 4 or 5 | in between; 4 where so few terms could not have shown a change either | ``leaderboard`` |
| ``stop`` | 5 | reduction under ``grow_reduction`` for the second cycle in a row | ``stop`` |
| ``not promoted`` | 5 | guard set worse beyond the margin, whatever KER says; or no guard rows | ``finetune`` |
| ``not promoted`` | 5 | no candidate within the margin on the selection rows | ``finetune`` |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from clinical_asr.changes import Guard, Side
from clinical_asr.compared import Comparison
from clinical_asr.config import ComparisonConfig
from clinical_asr.records import Decision
from clinical_asr.statistics import PairedComparison
from clinical_asr.training import Candidate, Selection

PROMOTED, INCONCLUSIVE, NOT_PROMOTED = 0, 4, 5

Verdict = tuple[str, str, str, int]
"""(verdict, reason, next stage, exit code)"""


def decide(comparison: Comparison, previous: Sequence[Decision] = ()) -> Decision:
    """The comparison's verdict as a decision. ``previous`` are the decisions of earlier cycles, oldest first."""
    verdict, reason, next_stage, exit_code = judge(comparison, previous)
    return Decision(
        verdict=verdict,
        reason=reason,
        evidence={
            "priority_categories": comparison.priority_categories,
            "held_out": asdict(comparison.held_out),
            "new_terms": asdict(comparison.new_terms),
            "trained_on": asdict(comparison.trained_on),
            "statistics": asdict(comparison.statistics) if comparison.statistics else None,
            "guard": asdict(comparison.guard),
            "missing": asdict(comparison.missing),
        },
        next_stage=next_stage,
        exit_code=exit_code,
    )


def judge(comparison: Comparison, previous: Sequence[Decision] = ()) -> Verdict:
    """What the numbers say, harm first: a model that forgot English is not promoted whatever its KER."""
    side, guard, config = comparison.held_out, comparison.guard, comparison.config
    if guard.worse:
        reason = (
            f"general-English WER rose by {_points(guard.difference)} ({_guard_rates(guard)}), more than the allowed"
        )
        return "not promoted", f"{reason} {_points(guard.margin)}; {_ker_says(side)}", "finetune", NOT_PROMOTED
    if comparison.selection is not None and not comparison.selection.inside:
        return "not promoted", _no_candidate(comparison.selection), "finetune", NOT_PROMOTED
    if side.ker_before is None or side.ker_after is None:
        wanted = ", ".join(comparison.priority_categories)
        reason = f"no held-out row of {wanted} whose term was taught: nothing tells learning from memory"
        return "inconclusive", reason, "split", INCONCLUSIVE
    change = _change_to_judge(side)
    if change <= -config.keep_reduction:
        return _judge_keeper(comparison)
    if change <= -config.grow_reduction:
        reason = f"{_ker_says(side)}: a start, more data does more than another learning rate{_chance(comparison)}"
        return "grow", reason, "build", NOT_PROMOTED
    if change > config.grow_reduction:
        reason = f"{_ker_says(side)}: worse on what it has not heard; grow the manifest before training again"
        return "overfit", f"{reason}{_chance(comparison)}", "build", NOT_PROMOTED
    return _judge_no_change(comparison, previous)


def _no_candidate(selection: Selection) -> str:
    """The trade-off in a sentence: what the mildest and the strongest candidate bought and cost."""
    ends = sorted(selection.candidates, key=lambda candidate: candidate.factor)
    told = [
        f"factor {c.factor:g}: KER {_rate(c.metrics.get('ker'))}, general WER {_signed(c)}" for c in (ends[0], ends[-1])
    ]
    margin = _points(selection.margins.rise)
    ways = "; ".join(dict.fromkeys(told))
    return f"no candidate stays within {margin} of general speech on the rows that choose ({ways})"


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _signed(candidate: Candidate) -> str:
    rise = candidate.metrics.get("guard_rise")
    return "unknown" if rise is None else f"{100 * rise:+.2f} points"


def _change_to_judge(side: Side) -> float:
    """Relative change of KER; where nothing was missed before, any miss after is a rise without bound."""
    if side.ker_relative_change is not None:
        return round(side.ker_relative_change, 9)  # 40 misses against 50 are 20 %, whatever binary fractions say
    return float("inf") if side.ker_after else 0.0


def _judge_keeper(comparison: Comparison) -> Verdict:
    side, guard, found = comparison.held_out, comparison.guard, comparison.statistics
    if found is None or found.p_value is None or not significant(comparison):
        return "inconclusive", f"{_ker_says(side)}, but {_too_few(comparison)}", "build", INCONCLUSIVE
    if comparison.missing.decides:
        reason = f"{_ker_says(side)}, but rows that the base heard are missing after ({comparison.missing})"
        mend = "transcribe them with the tuned model, or take them out of both"
        return "inconclusive", f"{reason}; {mend}", "hypotheses", INCONCLUSIVE
    if not guard.rows:
        reason = f"{_ker_says(side)}, but no guard set says what it cost in general English"
        return "not promoted", reason, "guard", NOT_PROMOTED
    if not guard.proven:
        reason = (
            f"{_ker_says(side)}, but the guard set of {guard.rows} rows cannot rule out a rise of {_points(guard.high)}"
        )
        return "inconclusive", f"{reason} (allowed: {_points(guard.upper)}); add guard rows", "guard", INCONCLUSIVE
    reason = f"{_ker_says(side)}, {_p_says(found.p_value)} over {found.n_terms} terms; general-English WER"
    return "promote", f"{reason} {_guard_rates(guard)}", "deploy", PROMOTED


def _judge_no_change(comparison: Comparison, previous: Sequence[Decision]) -> Verdict:
    side, config, found = comparison.held_out, comparison.config, comparison.statistics
    if previous and _was_small(previous[-1], config):
        reason = f"{_ker_says(side)}: the second cycle in a row under {config.grow_reduction:.0%}; stop tuning"
        return "stop", reason, "stop", NOT_PROMOTED
    reason = f"{_ker_says(side)}: no measurable change; look per category, the base may already know them"
    detectable = found.minimum_detectable_difference if found else None
    if side.ker_before and (detectable is None or detectable > config.grow_reduction * side.ker_before):
        return "no change", f"{reason}; {_too_few(comparison)}", "leaderboard", INCONCLUSIVE
    return "no change", reason, "leaderboard", NOT_PROMOTED


def _was_small(decision: Decision, config: ComparisonConfig) -> bool:
    """True if an earlier cycle lowered held-out KER by less than ``grow_reduction``."""
    change = (decision.evidence.get("held_out") or {}).get("ker_relative_change")
    return change is not None and change > -config.grow_reduction


def significant(comparison: Comparison) -> bool:
    """Whether the terms show beyond chance what the rows show: a change in the same direction."""
    found = comparison.statistics
    if found is None or found.p_value is None:
        return False
    return found.p_value < comparison.config.alpha and _at_odds(found, comparison.held_out) is None


def _at_odds(found: PairedComparison, side: Side) -> float | None:
    """The mean change over terms where it goes another way than that over rows, as one term has most of these."""
    mean, rows = found.mean_difference, side.misses_after - side.misses_before
    return mean if mean is not None and mean * rows < 0 else None


def _chance(comparison: Comparison) -> str:
    return "" if significant(comparison) else f" (but {_too_few(comparison)})"


def _too_few(comparison: Comparison) -> str:
    found = comparison.statistics
    if found is None:
        return "no term was measured twice"
    mean = _at_odds(found, comparison.held_out)
    if mean is not None:
        change = f"{_points(abs(mean))} {'up' if mean > 0 else 'down'}"
        return f"the terms disagree with the rows: over {found.n_terms} terms the mean change is {change}"
    more = max(1, found.terms_needed - found.n_terms) if found.terms_needed else None
    needs = f"needs about {more} more terms" if more else "more terms are needed"
    shown = "" if found.p_value is None else f" ({_p_says(found.p_value)})"
    return f"{found.n_terms} terms cannot tell it from chance{shown}: {needs}"


def _p_says(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _ker_says(side: Side) -> str:
    if side.ker_before is None or side.ker_after is None:
        return "KER was not measured on held-out rows"
    change = "" if side.ker_relative_change is None else f" ({side.ker_relative_change:+.0%})"
    strata = ", ".join(f"{n} {stratum}" for stratum, n in side.strata.items())
    return f"held-out KER {side.ker_before:.3f} -> {side.ker_after:.3f}{change} on {side.rows} rows ({strata})"


def _points(difference: float | None) -> str:
    return "an unknown amount" if difference is None else f"{100 * difference:.2f} points"


def _guard_rates(guard: Guard) -> str:
    if guard.wer_before is None or guard.wer_after is None:
        return "unknown"
    return f"{guard.wer_before:.2%} -> {guard.wer_after:.2%} on {guard.rows} guard rows"
