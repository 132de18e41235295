"""What a person knows before asking for advice, and the board that a few typed numbers amount to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clinical_asr.architecture import Architecture
from clinical_asr.config import GateConfig
from clinical_asr.records import Decision
from clinical_asr.tally import Leaderboard, Line, Signature

UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything that may be known; what is not known is left out."""

    priority_ker: float | None = None
    rows: int | None = None
    rows_per_category: Mapping[str, int] = field(default_factory=dict)
    ker_by_source: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Pronunciation source to (KER, rows)."""
    ker_by_noise: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Noise level to (KER, rows)."""
    evaluation: int = 1
    """Which evaluation the numbers come from: 1 is the first."""
    board: Leaderboard | None = None
    board_after: Leaderboard | None = None
    decision: Decision | None = None
    """Of a finished cycle."""
    folder: str = ""
    """The cycle's folder, for the commands to name."""
    base: str = ""
    architecture: Architecture | None = None
    """What the base's ``.nemo`` was read to be."""
    symptoms: tuple[str, ...] = ()
    wishes: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    wants_deploy: bool = False
    gate: GateConfig = field(default_factory=GateConfig)

    @property
    def knows_numbers(self) -> bool:
        """Whether there is a KER to judge."""
        return self.board is not None or self.priority_ker is not None


def board_of(known: Situation) -> Leaderboard:
    """The board itself, or one that holds what was typed: rows and misses of the priority categories, nothing else.

    >>> board = board_of(Situation(priority_ker=0.42, rows=130, rows_per_category={"drug": 60, "lab": 70}))
    >>> board.headline.rows, [(line.key, line.rows, line.ker) for line in board.by_entity_category]
    (130, [('drug', 60, 0.42), ('lab', 70, None)])
    """
    if known.board is not None:
        return known.board
    priority = [category.value for category in known.gate.priority_categories]
    per_category = known.rows_per_category or dict.fromkeys(priority, known.rows or 0)
    rows = known.rows if known.rows is not None else sum(per_category.values())
    categories = [_line(name, n, known.priority_ker if name in priority else None) for name, n in per_category.items()]
    signature = Signature(UNKNOWN, UNKNOWN, known.base or UNKNOWN, "", UNKNOWN, rows)
    return Leaderboard(
        signature=signature, headline=_line("all", rows, None), by_entity_category=categories,
        by_ipa_source=[_line(name, n, ker) for name, (ker, n) in known.ker_by_source.items()],
        by_noise_level=[_line(name, n, ker) for name, (ker, n) in known.ker_by_noise.items()],
        by_term=[], by_stratum=[], by_voice=[], by_context=[], false_insertions=[], confusions=[], numbers=[],
    )  # fmt: skip


def _line(key: str, rows: int, ker: float | None) -> Line:
    """A line of which only rows and KER are known. Misses may be a fraction: 0.42 of 60 rows is what was said."""
    empty: dict[str, Any] = dict.fromkeys(Line.__dataclass_fields__)
    counts = dict.fromkeys(("terms", "words", "characters", "false_insertions"), 0)
    heard = {"occurrences": rows if ker is not None else 0, "misses": ker * rows if ker is not None else 0}
    return Line(**{**empty, **counts, **heard, "key": key, "rows": rows, "ker": ker, "entity_category": ""})
