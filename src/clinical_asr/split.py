"""Which rows the model learns from and which it is judged on, and what training has seen of each judged row.

Pure: rows in, rows out. Whole voices, sentences and terms are held out first (``hold_outs``), and rows that are as good
as the same recording stay on one side (``takes``). ``strata`` says of each judged row what training has seen of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from clinical_asr.config import SplitConfig
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.hold_outs import Draw, hold_out
from clinical_asr.records import ClinicalUtterance, Decision, Stratum
from clinical_asr.strata import Seen, stratum_of
from clinical_asr.takes import takes
from clinical_asr.text import normalise


class TooFewRowsError(FlywheelError):
    """A priority category is too small to be split; ``decision`` sends the cycle back to build (exit code 3)."""

    exit_code = 3

    def __init__(self, counts: Mapping[str, int], needed: int) -> None:
        named = ", ".join(f"{name} has {n}" for name, n in counts.items())
        what = f"a priority category needs {needed} rows to be split: {named}"
        super().__init__(what, where="split", mend="add terms, voices or contexts of it, then build again")
        self.decision = Decision(
            verdict="go back",
            reason=what,
            evidence={"rows": dict(counts), "needed": needed},
            next_stage="build",
            exit_code=3,
        )


@dataclass(frozen=True)
class Split:
    """``train`` and ``validation`` share no row and together hold all of them, each sorted by id."""

    train: list[ClinicalUtterance]
    validation: list[ClinicalUtterance]
    """Each row carries ``stratum``, ``seen_sentence``, ``seen_voice``, ``seen_term`` and ``seen_take`` in ``extra``."""
    strata: dict[str, Stratum]
    """Row id -> what training has seen of it; ``trained`` for the rows of ``train``."""
    warnings: list[str]

    def counts(self) -> dict[str, dict[str, int]]:
        """Rows per category: ``{"drug": {"trained": 80, "same sentence": 10, ...}, ...}``."""
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for row in (*self.train, *self.validation):
            table[row.entity_category.value][self.strata[row.id].value] += 1
        return {category: dict(table[category]) for category in sorted(table)}


def split(rows: Sequence[ClinicalUtterance], config: SplitConfig | None = None) -> Split:
    """Divide ``rows`` into training and validation, stratified by entity category.

    A category of one row goes to training with a warning. Raises TooFewRowsError (exit code 3) if a priority one is
    too small, ConfigError if a hold-out would leave nothing to train on, FlywheelError on missing or doubled ids.
    """
    config = config or SplitConfig()
    rows = _checked(rows, config)
    sentences = {row.id: normalise(row.text) for row in rows}
    draw = Draw(rows, sentences, takes(rows, sentences))
    warnings = hold_out(draw, config)
    train = draw.left()
    if not train:
        raise ConfigError("leave no row to train on", where="--hold-out-*", mend="hold out less")
    return _labelled(draw, train, warnings + _empty_category_warnings(rows, train))


def _checked(rows: Sequence[ClinicalUtterance], config: SplitConfig) -> list[ClinicalUtterance]:
    ordered = sorted(rows, key=lambda row: row.id)
    doubled = [row_id for row_id, n in Counter(row.id for row in ordered).items() if n > 1 or not row_id]
    if doubled:
        raise FlywheelError(
            f"row id {doubled[0]!r} is missing or stands twice", where="split", mend="run: clinical-asr manifest check"
        )
    sizes = Counter(row.entity_category for row in ordered)
    small = {c.value: sizes[c] for c in config.priority_categories if sizes[c] < config.min_rows_per_category}
    if small:
        raise TooFewRowsError(small, config.min_rows_per_category)
    return ordered


def _labelled(draw: Draw, train: list[ClinicalUtterance], warnings: list[str]) -> Split:
    seen = Seen(train, draw.sentence)
    facts = {row.id: seen.facts(row, draw.sentence[row.id]) for row in draw.rows if row.id in draw.held}
    validation = [
        msgspec.structs.replace(row, extra={**row.extra, "stratum": stratum_of(facts[row.id]).value, **facts[row.id]})
        for row in draw.rows
        if row.id in draw.held
    ]
    strata = {row.id: Stratum.TRAINED for row in train} | {i: stratum_of(known) for i, known in facts.items()}
    return Split(train, validation, strata, warnings)


def _empty_category_warnings(rows: Sequence[ClinicalUtterance], train: Sequence[ClinicalUtterance]) -> list[str]:
    """Categories that training does not hear, or of which most rows are held out."""
    total = Counter(row.entity_category for row in rows)
    kept = Counter(row.entity_category for row in train)
    shares = {category: 1 - kept[category] / n for category, n in sorted(total.items())}
    return [
        f"{category}: {share:.0%} of {total[category]} rows are held out"
        for category, share in shares.items()
        if share > 0.5
    ]
