"""What a hand-off reads of ``comparison.json``, a leaderboard and ``training_run_info.json``: the part it tells.

Fields that a file lacks have defaults and fields it has beyond these are passed over, so that a cycle of an older or
newer release can still be handed over. What identity rests on (digests, verdict) has no default.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Named(msgspec.Struct, frozen=True):
    """A model by its digest."""

    sha256: str
    name: str = ""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """``training_run_info.json``."""

    base: Named
    model: Named
    recipe: dict[str, Any] = {}
    effective: dict[str, Any] = {}
    data: dict[str, Any] = {}
    best_epoch: int = 0
    notes: list[str] = []


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A group of rows before and after; rates are fractions."""

    key: str = ""
    rows: int = 0
    terms: int = 0
    occurrences: int = 0
    misses_after: int = 0
    ker_before: float | None = None
    ker_after: float | None = None
    ker_relative_change: float | None = None
    wer_before: float | None = None
    wer_after: float | None = None
    low: float | None = None
    high: float | None = None


class OverTerms(msgspec.Struct, frozen=True, kw_only=True):
    """The paired test over terms."""

    n_terms: int
    mean_difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


class General(msgspec.Struct, frozen=True, kw_only=True):
    """The guard set before and after."""

    rows: int = 0
    wer_before: float | None = None
    wer_after: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    worse: bool = False
    proven: bool = False


class Signed(msgspec.Struct, frozen=True):
    """Whose numbers these are."""

    model_digest: str
    model: str = ""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """``comparison.json``."""

    verdict: str
    reason: str
    exit_code: int
    signatures: list[Signed]
    held_out: Changed
    priority_categories: list[str] = []
    new_terms: Changed = Changed()
    trained_on: Changed = Changed()
    by_stratum: list[Changed] = []
    by_category: list[Changed] = []
    by_term: list[Changed] = []
    statistics: OverTerms | None = None
    guard: General = General()


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a leaderboard."""

    key: str = ""
    rows: int = 0
    terms: int = 0
    occurrences: int = 0
    misses: int = 0
    ker: float | None = None
    ker_low: float | None = None
    ker_high: float | None = None
    wer: float | None = None
    wer_low: float | None = None
    wer_high: float | None = None


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """A false insertion (``heard`` is empty) or a confusion."""

    term: str
    count: int
    entity_category: str = ""
    heard: str = ""
    kind: str = ""


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of one kind of number word."""

    kind: str
    errors: int
    length: int = 0
    rate: float | None = None


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """The tuned model's leaderboard."""

    signature: Signed
    headline: Measured
    by_entity_category: list[Measured] = []
    by_term: list[Measured] = []
    false_insertions: list[Mistake] = []
    confusions: list[Mistake] = []
    numbers: list[Numbers] = []
