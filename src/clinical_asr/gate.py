"""Two decisions on a leaderboard: where an evaluation leads (``route``) and whether fine-tuning may start (``gate``).

Pure: a leaderboard in, a decision with its evidence out. Both look at the priority categories, and both ask first
whether the audio rather than the model is at fault: a pronunciation gap is never answered by fine-tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from clinical_asr.config import GateConfig
from clinical_asr.records import Decision, IpaSource
from clinical_asr.statistics import clustered_proportion_interval, effective_n, intracluster_correlation
from clinical_asr.tally import Leaderboard, Line

PASS, GO_BACK = 0, 3
"""Exit codes: fine-tuning may start; the cycle goes back to the stage the decision names."""


@dataclass(frozen=True)
class Condition:
    """One thing the gate asks for: the number, what it must be, and which stage mends it."""

    condition: str
    number: float | None
    needed: str
    ok: bool
    go_back_to: str
    """Empty if ``ok``."""
    missing: str = ""
    """What is missing, in words; empty if ``ok``."""


@dataclass(frozen=True)
class Firmness:
    """How far the priority KER can be trusted: rows of one term share their fate, so terms count, not rows."""

    ker: float | None
    low: float | None
    high: float | None
    occurrences: int
    terms: int
    intracluster_correlation: float | None
    effective_n: float | None
    note: str


@dataclass(frozen=True)
class Gap:
    """Two groups of rows, one heard well and one badly: the difference points at its cause."""

    good: str
    good_rows: int
    good_ker: float | None
    bad: str
    bad_rows: int
    bad_ker: float | None
    found: bool


def gate(board: Leaderboard, config: GateConfig | None = None) -> Decision:
    """May fine-tuning start? Exit code 0 with ``next_stage="split"``, or 3 with the stage to go back to.

    All of: priority KER above ``tune_above``, ``min_rows`` rows, ``min_rows_per_category`` rows in each priority
    category, no pronunciation gap. Evidence: ``conditions``, ``firmness``, ``pronunciation_gap``.
    """
    config = config or GateConfig()
    conditions = [*_conditions(board, config), _no_gap(board, config)]
    failed = [c for c in conditions if not c.ok]
    # A wrong pronunciation spoils every other number, so it is named first.
    failed.sort(key=lambda c: c.condition != NO_GAP)
    firmness = firmness_of(board, config)
    return Decision(
        verdict="go back" if failed else "pass",
        reason="; ".join(c.missing for c in failed) if failed else _pass_reason(board, config, firmness),
        evidence={
            "priority_categories": [c.value for c in config.priority_categories],
            "conditions": [asdict(c) for c in conditions],
            "firmness": asdict(firmness),
            "pronunciation_gap": asdict(pronunciation_gap(board, config)),
        },
        next_stage=failed[0].go_back_to if failed else "split",
        exit_code=GO_BACK if failed else PASS,
    )


NO_GAP = "no pronunciation gap"


def _conditions(board: Leaderboard, config: GateConfig) -> list[Condition]:
    ker = priority_ker(board, config)
    above = ker is not None and ker > config.tune_above
    shown = "cannot be measured" if ker is None else f"is {ker:.3f}"
    conditions = [
        _condition("priority KER", ker, f"> {config.tune_above:g}", above, f"priority KER {shown}, not above"),
        _condition("rows", board.headline.rows, f">= {config.min_rows}", board.headline.rows >= config.min_rows),
    ]
    for category in config.priority_categories:
        rows = _rows_of(board, category.value)
        enough = rows >= config.min_rows_per_category
        conditions.append(_condition(f"{category.value} rows", rows, f">= {config.min_rows_per_category}", enough))
    return conditions


def _condition(name: str, number: float | None, needed: str, ok: bool, why: str = "") -> Condition:
    limit = needed.split()[-1]
    missing = f"{why} {limit}" if why else f"{number} {name}, {limit} needed"
    return Condition(name, number, needed, ok, "" if ok else "build", "" if ok else missing)


def _no_gap(board: Leaderboard, config: GateConfig) -> Condition:
    gap = pronunciation_gap(board, config)
    missing = _gap_reason(gap) if gap.found else ""
    return Condition(NO_GAP, gap.bad_ker, "g2p not bad where the rest is good", not gap.found,
                     "pronunciations" if gap.found else "", missing)  # fmt: skip


def _gap_reason(gap: Gap) -> str:
    return (
        f"pronunciation gap: KER {gap.bad_ker:.3f} on {gap.bad_rows} {gap.bad} rows but {gap.good_ker:.3f} on "
        f"{gap.good_rows} {gap.good} rows: the audio is wrong, not the model"
    )


def _pass_reason(board: Leaderboard, config: GateConfig, firmness: Firmness) -> str:
    reason = f"priority KER {firmness.ker:.3f} is above {config.tune_above:g} on {board.headline.rows} rows"
    return f"{reason}; {firmness.note}"


def _priority_lines(board: Leaderboard, config: GateConfig) -> list[Line]:
    wanted = {category.value for category in config.priority_categories}
    return [line for line in board.by_entity_category if line.key in wanted]


def priority_ker(board: Leaderboard, config: GateConfig) -> float | None:
    """Missed over all occurrences of the priority categories; ``None`` if they have none."""
    return pooled_ker(_priority_lines(board, config))


def pooled_ker(lines: Sequence[Line]) -> float | None:
    """Missed over all occurrences of several lines."""
    occurrences = sum(line.occurrences for line in lines)
    return sum(line.misses for line in lines) / occurrences if occurrences else None


def _rows_of(board: Leaderboard, category: str) -> int:
    return sum(line.rows for line in board.by_entity_category if line.key == category)


def pronunciation_gap(board: Leaderboard, config: GateConfig) -> Gap:
    """Verified pronunciations heard well (KER <= ``saturated_below``), guessed ones badly (> ``tune_above``).

    Looked for in the section by ``ipa_source``; either side needs ``min_rows_per_source`` rows.
    """
    verified = [s.value for s in (IpaSource.MERRIAM_WEBSTER, IpaSource.OVERRIDE)]
    good = [line for line in board.by_ipa_source if line.key in verified]
    bad = [line for line in board.by_ipa_source if line.key == IpaSource.G2P.value]
    return _gap(good, "/".join(verified), bad, IpaSource.G2P.value, config)


def robustness_gap(board: Leaderboard, config: GateConfig) -> Gap:
    """Clean rows heard well, those of the noisiest level badly; thresholds and rows as for pronunciations."""
    noisy = [line for line in board.by_noise_level if _snr(line.key) is not None]
    noisy = sorted(noisy, key=lambda line: _snr(line.key) or 0.0)[:1]
    clean = [line for line in board.by_noise_level if line.key == "clean"]
    return _gap(clean, "clean", noisy, noisy[0].key if noisy else "snr_5db", config)


def _snr(noise_level: str) -> float | None:
    """SNR in dB of a noise level's name.

    >>> _snr("snr_5db"), _snr("snr_-3db"), _snr("clean")
    (5.0, -3.0, None)
    """
    digits = noise_level.removeprefix("snr_").removesuffix("db")
    try:
        return float(digits)
    except ValueError:
        return None


def _gap(good: Sequence[Line], good_name: str, bad: Sequence[Line], bad_name: str, config: GateConfig) -> Gap:
    good_ker, bad_ker = pooled_ker(good), pooled_ker(bad)
    good_rows, bad_rows = sum(line.rows for line in good), sum(line.rows for line in bad)
    enough = min(good_rows, bad_rows) >= config.min_rows_per_source
    found = enough and good_ker is not None and bad_ker is not None
    found = found and good_ker <= config.saturated_below and bad_ker > config.tune_above  # type: ignore[operator]
    return Gap(good_name, good_rows, good_ker, bad_name, bad_rows, bad_ker, found)


def firmness_of(board: Leaderboard, config: GateConfig) -> Firmness:
    """Interval of the priority KER with terms as clusters, and what the rows are worth as independent ones."""
    wanted = {category.value for category in config.priority_categories}
    lines = [line for line in board.by_term if line.entity_category in wanted and line.occurrences]
    ker = pooled_ker(lines)
    if ker is None:
        known = priority_ker(board, config)
        unmeasured, no_terms = "no row of a priority category was scored", "how firm is not known without its terms"
        note = unmeasured if known is None else no_terms
        return Firmness(known, None, None, 0, 0, None, None, note)
    clusters = [line.key for line in lines for _ in range(line.occurrences)]
    missed = [float(i < line.misses) for line in lines for i in range(line.occurrences)]
    low, high = clustered_proportion_interval(missed, clusters)
    return Firmness(
        ker=ker, low=low, high=high, occurrences=len(missed), terms=len(lines),
        intracluster_correlation=intracluster_correlation(missed, clusters),
        effective_n=effective_n(missed, clusters),
        note=_firmness_note(ker, low, high, len(lines), config),
    )  # fmt: skip


def _firmness_note(ker: float, low: float, high: float, terms: int, config: GateConfig) -> str:
    shown = f"KER {ker:.3f} [{low:.3f}, {high:.3f}] on {terms} terms"
    crossed = [limit for limit in (config.saturated_below, config.tune_above) if low <= limit <= high]
    if not crossed:
        return f"{shown}: firm, the interval crosses no threshold"
    nearly = "nearly a coin toss" if config.tune_above in crossed else "not firm"
    return f"{shown}: {nearly}, the interval holds {' and '.join(f'{limit:g}' for limit in crossed)}; add terms"


def route(board: Leaderboard, cycle_number: int, config: GateConfig | None = None) -> Decision:
    """Where an evaluation leads. ``cycle_number`` 1 is the first evaluation.

    Verdicts: ``fix pronunciations``, ``add noise diversity``, ``fine-tune``, ``grow``, ``expand terms``,
    ``harden benchmark``, in this order of precedence; exit code 0 for ``fine-tune``, else 3 with ``next_stage``.
    """
    config = config or GateConfig()
    verdict, reason, next_stage = _route(board, cycle_number, config)
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


def _route(board: Leaderboard, cycle_number: int, config: GateConfig) -> tuple[str, str, str]:
    """(verdict, reason, next stage)."""
    sources, noise = pronunciation_gap(board, config), robustness_gap(board, config)
    ker = priority_ker(board, config)
    if sources.found:
        return "fix pronunciations", f"{_gap_reason(sources)}; correct them and listen again", "pronunciations"
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
    small = [c.missing for c in _conditions(board, config)[1:] if not c.ok]
    if small:
        return "grow", f"priority KER {ker:.3f} calls for fine-tuning, but {'; '.join(small)}", "build"
    kers = (sources.good_ker, sources.bad_ker)
    both_bad = all(side is not None and side > config.tune_above for side in kers)
    cause = "; verified and guessed pronunciations are both heard badly: a real model gap" if both_bad else ""
    return "fine-tune", f"priority KER {ker:.3f} on {board.headline.rows} rows{cause}", "gate"
