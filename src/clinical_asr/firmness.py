"""The KER of the priority categories and how far it can be trusted. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from clinical_asr.config import GateConfig
from clinical_asr.power import worth_of_counts
from clinical_asr.statistics import clustered_counts_interval
from clinical_asr.tally import Leaderboard, Line
from clinical_asr.text import term_key


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
    misses, occurrences = _by_name(lines)
    low, high = clustered_counts_interval(misses, occurrences)
    correlation, worth = worth_of_counts(misses, occurrences)
    return Firmness(
        ker=ker, low=low, high=high, occurrences=sum(occurrences), terms=len(misses),
        intracluster_correlation=correlation, effective_n=worth,
        note=_firmness_note(ker, low, high, len(misses), config),
    )  # fmt: skip


def _by_name(lines: Sequence[Line]) -> tuple[list[int], list[int]]:
    """Misses and occurrences per term; one of two categories counts once, however each spells it."""
    misses, occurrences = Counter[str](), Counter[str]()
    for line in lines:
        misses[term_key(line.key)] += line.misses
        occurrences[term_key(line.key)] += line.occurrences
    return list(misses.values()), list(occurrences.values())


def _firmness_note(ker: float, low: float, high: float, terms: int, config: GateConfig) -> str:
    shown = f"KER {ker:.3f} [{low:.3f}, {high:.3f}] on {terms} terms"
    crossed = [limit for limit in (config.saturated_below, config.tune_above) if low <= limit <= high]
    if not crossed:
        return f"{shown}: firm, the interval crosses no threshold"
    nearly = "nearly a coin toss" if config.tune_above in crossed else "not firm"
    return f"{shown}: {nearly}, the interval holds {' and '.join(f'{limit:g}' for limit in crossed)}; add terms"


def priority_ker(board: Leaderboard, config: GateConfig) -> float | None:
    """Missed over all occurrences of the priority categories; ``None`` if they have none."""
    return pooled_ker(_priority_lines(board, config))


def pooled_ker(lines: Sequence[Line]) -> float | None:
    """Missed over all occurrences of several lines."""
    occurrences = sum(line.occurrences for line in lines)
    return sum(line.misses for line in lines) / occurrences if occurrences else None


def _priority_lines(board: Leaderboard, config: GateConfig) -> list[Line]:
    wanted = {category.value for category in config.priority_categories}
    return [line for line in board.by_entity_category if line.key in wanted]
