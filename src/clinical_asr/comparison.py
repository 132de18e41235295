"""Cycle against cycle: did fine-tuning help on what training never heard, and did it harm general speech?

Pure. The verdict rests on held-out rows of the priority categories whose term was taught; trained-on rows are shown
apart, and so are rows of terms that training never heard: whether teaching some terms helps others is a question of its
own, and a mixture of both would measure how many terms somebody held out. Rows of one term share their fate, so every
test works on terms. ``comparison.json`` is the value as it stands::

    {"verdict", "reason", "next_stage", "exit_code", "priority_categories",
     "held_out":   {"rows", "ker_before", "ker_after", "ker_relative_change", ..., "strata", "all_categories": {...}},
     "new_terms":  {the same fields, rows of terms never taught},
     "trained_on": {the same fields},
     "by_stratum": [change, ...], "by_category": [change with p_value and p_holm, ...], "by_term": [change, ...],
     "statistics": {"n_terms", "n_rows", "mean_difference", "low", "high", "p_value", ...} or null,
     "guard": {"rows", "wer_before", "wer_after", "difference", "low", "high", ...},
     "selection": {"rows", "general_rows", "base", "candidates": [{"epoch", "factor", "metrics"}, ...], "chosen", ...},
     "signatures": [before, after]}

| verdict | exit code | when | next stage |
|---|---|---|---|
| ``promote`` | 0 | KER down by ``keep_reduction`` or more, significantly, guard set not worse | ``deploy`` |
| ``inconclusive`` | 4 | as much, not significantly, or the guard set cannot tell, or nothing was held out | ... |
| ``grow`` | 5 | down by ``grow_reduction`` to ``keep_reduction`` | ``build`` |
| ``overfit`` | 5 | up by more than ``grow_reduction`` | ``build`` |
| ``no change`` | 4 or 5 | in between; 4 where so few terms could not have shown a change either | ``leaderboard`` |
| ``stop`` | 5 | reduction under ``grow_reduction`` for the second cycle in a row | ``stop`` |
| ``not promoted`` | 5 | guard set worse beyond the margin, whatever KER says; or no guard rows | ``finetune`` |
| ``not promoted`` | 5 | no candidate within the margin on the selection rows | ``finetune`` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from clinical_asr.changes import (
    Change,
    Guard,
    Pair,
    Side,
    by_category,
    by_stratum,
    by_term,
    guard_of,
    paired_rows,
    paired_test,
    side_of,
)
from clinical_asr.config import ComparisonConfig
from clinical_asr.errors import ScoringError
from clinical_asr.records import Decision, Stratum
from clinical_asr.statistics import PairedComparison
from clinical_asr.tally import Score, Signature
from clinical_asr.training import Candidate, Selection

PROMOTED, INCONCLUSIVE, NOT_PROMOTED = 0, 4, 5


@dataclass(frozen=True)
class Comparison:
    """Everything that was found, and the verdict. See the module for the JSON shape and the verdicts."""

    verdict: str
    reason: str
    next_stage: str
    exit_code: int
    priority_categories: list[str]
    held_out: Side
    """What the verdict rests on: recordings training never heard, of terms it was taught."""
    new_terms: Side
    """Held-out rows of terms that were not taught; shown, not judged."""
    trained_on: Side
    by_stratum: list[Change]
    """Priority categories only, the trained-on rows first."""
    by_category: list[Change]
    """Held-out rows, with Holm's correction over the categories."""
    by_term: list[Change]
    """Held-out rows, worst after first."""
    statistics: PairedComparison | None
    """Held-out priority rows, paired by term; ``None`` if there are none."""
    guard: Guard
    signatures: list[Signature]
    config: ComparisonConfig
    selection: Selection | None = None
    """How the tuned model was chosen among candidates, on rows that this comparison leaves out."""


def compare(
    before: Sequence[Score],
    after: Sequence[Score],
    strata: Mapping[str, Stratum],
    guard_before: Sequence[Score],
    guard_after: Sequence[Score],
    signatures: tuple[Signature, Signature],
    config: ComparisonConfig | None = None,
    previous: Sequence[Decision] = (),
    selection: Selection | None = None,
) -> Comparison:
    """Compare two cycles on the rows both hold. ``previous`` are the decisions of earlier cycles, oldest first.

    Rows that chose the model (``selection``) are neither held out nor trained on, and are left out.

    Raises ScoringError, naming the difference, if normaliser, metric version, references or audio differ, if no row is
    shared, or if a row has no stratum.
    """
    config = config or ComparisonConfig()
    _refuse_other_yardsticks(*signatures)
    chose = set(selection.rows) if selection else set()
    pairs = [pair for pair in paired_rows(before, after) if pair[0].id not in chose]
    labels = _strata_of(pairs, strata)
    unheard = [pair for pair in pairs if labels[pair[0].id].held_out]
    held = [pair for pair in unheard if labels[pair[0].id] is not Stratum.NEW_TERM]
    trained = [pair for pair in pairs if not labels[pair[0].id].held_out]
    wanted = _is_priority(config)
    comparison = Comparison(
        verdict="", reason="", next_stage="", exit_code=NOT_PROMOTED,
        priority_categories=[category.value for category in config.priority_categories],
        held_out=side_of(held, labels, wanted),
        new_terms=side_of([pair for pair in unheard if labels[pair[0].id] is Stratum.NEW_TERM], labels, wanted),
        trained_on=side_of(trained, labels, wanted),
        by_stratum=by_stratum([pair for pair in pairs if wanted(pair)], labels),
        by_category=by_category(held),
        by_term=by_term(held),
        statistics=paired_test([pair for pair in held if wanted(pair)]),
        guard=guard_of(
            paired_rows(guard_before, guard_after) if guard_before and guard_after else [],
            config.guard_margin,
            config.guard_upper,
        ),
        signatures=list(signatures),
        config=config,
        selection=selection,
    )  # fmt: skip
    return _with_verdict(comparison, previous)


def _refuse_other_yardsticks(before: Signature, after: Signature) -> None:
    yardsticks = ("normaliser", "metric_version")
    differences = [d for d in before.differences(after) if d.split(":")[0] in yardsticks]
    if differences:
        raise ScoringError(f"the two cycles were scored differently: {'; '.join(differences)}", where="comparison",
                           mend="score both again with one normaliser")  # fmt: skip


def _strata_of(pairs: Sequence[Pair], strata: Mapping[str, Stratum]) -> dict[str, Stratum]:
    labels = {pair[0].id: strata.get(pair[0].id) or pair[1].stratum for pair in pairs}
    unknown = [row_id for row_id, stratum in labels.items() if stratum is None]
    if unknown:
        raise ScoringError(f"{len(unknown)} rows were never split, so nobody knows whether they were trained on",
                           where=f"row {unknown[0]}", mend="split the manifest that was scored")  # fmt: skip
    return {row_id: stratum for row_id, stratum in labels.items() if stratum is not None}


def _is_priority(config: ComparisonConfig) -> Callable[[Pair], bool]:
    return lambda pair: pair[0].entity_category in config.priority_categories


# --- the verdict ------------------------------------------------------------------------------------------------------

Verdict = tuple[str, str, str, int]
"""(verdict, reason, next stage, exit code)"""


def decide(comparison: Comparison, previous: Sequence[Decision] = ()) -> Decision:
    """The comparison's verdict as a decision. ``previous`` are the decisions of earlier cycles, oldest first."""
    verdict, reason, next_stage, exit_code = _judge(comparison, previous)
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
        },
        next_stage=next_stage,
        exit_code=exit_code,
    )


def _with_verdict(comparison: Comparison, previous: Sequence[Decision]) -> Comparison:
    verdict, reason, next_stage, exit_code = _judge(comparison, previous)
    return replace(comparison, verdict=verdict, reason=reason, next_stage=next_stage, exit_code=exit_code)


def _judge(comparison: Comparison, previous: Sequence[Decision]) -> Verdict:
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
    return (
        f"no candidate stays within {margin} of general speech on the selection rows ({'; '.join(dict.fromkeys(told))})"
    )


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
    if found is None or not _significant(comparison):
        return "inconclusive", f"{_ker_says(side)}, but {_too_few(comparison)}", "build", INCONCLUSIVE
    if not guard.rows:
        reason = f"{_ker_says(side)}, but no guard set says what it cost in general English"
        return "not promoted", reason, "guard", NOT_PROMOTED
    if not guard.proven:
        reason = (
            f"{_ker_says(side)}, but the guard set of {guard.rows} rows cannot rule out a rise of {_points(guard.high)}"
        )
        return "inconclusive", f"{reason} (allowed: {_points(guard.upper)}); add guard rows", "guard", INCONCLUSIVE
    reason = f"{_ker_says(side)}, {_p_says(found)} over {found.n_terms} terms; general-English WER"
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


def _significant(comparison: Comparison) -> bool:
    found = comparison.statistics
    return found is not None and found.p_value is not None and found.p_value < comparison.config.alpha


def _chance(comparison: Comparison) -> str:
    return "" if _significant(comparison) else f" (but {_too_few(comparison)})"


def _too_few(comparison: Comparison) -> str:
    found = comparison.statistics
    if found is None:
        return "no term was measured twice"
    more = max(1, (found.terms_needed or 0) - found.n_terms) if found.terms_needed else None
    needs = f"needs about {more} more terms" if more else "more terms are needed"
    shown = "" if found.p_value is None else f" ({_p_says(found)})"
    return f"{found.n_terms} terms cannot tell it from chance{shown}: {needs}"


def _p_says(found: PairedComparison) -> str:
    if found.p_value is None:
        return "no p value"
    return "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"


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
