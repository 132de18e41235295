"""The gate: whether fine-tuning may start.

Pure: a leaderboard in, a decision with its evidence out. It looks at the priority categories, and asks whether the
audio rather than the model is at fault: a pronunciation gap is never answered by fine-tuning.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from clinical_asr.config import GateConfig
from clinical_asr.firmness import Firmness, firmness_of, priority_ker
from clinical_asr.gaps import pronunciation_gap
from clinical_asr.records import Decision
from clinical_asr.tally import Leaderboard

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


def gate(board: Leaderboard, config: GateConfig | None = None) -> Decision:
    """May fine-tuning start? Exit code 0 with ``next_stage="split"``, or 3 with the stage to go back to.

    All of: priority KER above ``tune_above``, ``min_rows`` rows, ``min_rows_per_category`` rows in each priority
    category, no pronunciation gap. Evidence: ``conditions``, ``firmness``, ``pronunciation_gap``.
    """
    config = config or GateConfig()
    conditions = [*conditions_of(board, config), _no_gap(board, config)]
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


def conditions_of(board: Leaderboard, config: GateConfig) -> list[Condition]:
    """Whether there is something to tune, and enough to tune on; the KER's condition first."""
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
    missing = gap.reason if gap.found else ""
    return Condition(NO_GAP, gap.bad_ker, "g2p not bad where the rest is good", not gap.found,
                     "pronunciations" if gap.found else "", missing)  # fmt: skip


def _pass_reason(board: Leaderboard, config: GateConfig, firmness: Firmness) -> str:
    reason = f"priority KER {firmness.ker:.3f} is above {config.tune_above:g} on {board.headline.rows} rows"
    return f"{reason}; {firmness.note}"


def _rows_of(board: Leaderboard, category: str) -> int:
    return sum(line.rows for line in board.by_entity_category if line.key == category)
