"""Which rows the model learns from and which it is judged on, and what training has seen of each judged row.

Pure: rows in, rows out. Whole voices, sentences and terms are held out first (``hold_outs``), and rows that are as good
as the same recording stay on one side (``takes``). ``strata`` says of each judged row what training has seen of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from clinical_asr.config import SplitConfig
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.hold_outs import Draw, hold_out
from clinical_asr.records import ClinicalUtterance, Decision, Stratum
from clinical_asr.split_columns import CATEGORIES, SplitColumns
from clinical_asr.strata import facts_of, stratum_of
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


class Division:
    """Which of some rows are trained on, by their places; the rows themselves are read again when they are asked for.

    ``rows`` may be a file (``row_file.RowFile``): some 60 bytes of each row are kept. Raises as :func:`split` does.
    """

    def __init__(self, rows: Sequence[ClinicalUtterance], config: SplitConfig | None = None) -> None:
        config = config or SplitConfig()
        self._rows = rows
        self._columns = SplitColumns.of(rows)
        _refuse(self._columns, config)
        draw = Draw(self._columns)
        warnings = hold_out(draw, config, self._texts, self._saying)
        self._train, self._held = draw.left, np.flatnonzero(draw.held)
        if not len(self._train):
            raise ConfigError("leave no row to train on", "--hold-out-*, --max-duration", "hold out less")
        self.warnings = warnings + _empty_category_warnings(self._columns, self._train)
        self._facts = facts_of(self._columns, self._train, self._held, self._said_in_training)

    def train(self) -> Iterator[ClinicalUtterance]:
        """Rows to be trained on, by id."""
        return (self._rows[place] for place in self._columns.order[self._train].tolist())

    def validation(self) -> Iterator[ClinicalUtterance]:
        """Rows to be judged, by id, each with its stratum and the facts behind it in ``extra``."""
        places = self._columns.order[self._held].tolist()
        for place, *known in zip(places, *(fact.tolist() for fact in self._facts.values()), strict=True):
            row, facts = self._rows[place], dict(zip(self._facts, known, strict=True))
            told = {**row.extra, "stratum": stratum_of(facts).value, **facts}
            yield msgspec.structs.replace(row, extra=told)

    def _texts(self, rows: np.ndarray) -> list[str]:
        return [normalise(self._rows[place].text) for place in self._columns.order[rows].tolist()]

    def _saying(self, terms: Collection[str]) -> np.ndarray:
        """Which rows say any of some terms, by id."""
        said = np.fromiter((bool(_spoken(row, terms)) for row in self._rows), bool, len(self._columns))
        return said[self._columns.order]

    def _said_in_training(self, terms: Collection[str]) -> set[str]:
        found, wanted = set[str](), set(terms)
        for row in self.train():
            found |= _spoken(row, wanted - found)
        return found


def _spoken(row: ClinicalUtterance, terms: Collection[str]) -> set[str]:
    sentence = f" {normalise(row.text)} "
    return {term for term in terms if f" {term} " in sentence}


def split(rows: Sequence[ClinicalUtterance], config: SplitConfig | None = None) -> Split:
    """Divide ``rows`` into training and validation, stratified by entity category.

    A category of one row goes to training with a warning. Raises TooFewRowsError (exit code 3) if a priority one is
    too small, ConfigError if a hold-out would leave nothing to train on, FlywheelError on missing or doubled ids.
    """
    found = Division(rows, config)
    train, validation = list(found.train()), list(found.validation())
    strata = {row.id: Stratum.TRAINED for row in train}
    strata |= {row.id: Stratum(row.extra["stratum"]) for row in validation}
    return Split(train, validation, strata, found.warnings)


def _refuse(rows: SplitColumns, config: SplitConfig) -> None:
    doubled = "" if next(rows.ids.sorted(), "-") == "" else rows.ids.doubled()
    if doubled is not None:
        raise FlywheelError(
            f"row id {doubled!r} is missing or stands twice", where="split", mend="run: clinical-asr manifest check"
        )
    sizes = rows.sizes()
    small = {c.value: n for c in config.priority_categories if (n := sizes.get(c, 0)) < config.min_rows_per_category}
    if small:
        raise TooFewRowsError(small, config.min_rows_per_category)


def _empty_category_warnings(rows: SplitColumns, train: np.ndarray) -> list[str]:
    """Categories that training does not hear, or of which most rows are held out."""
    kept = np.bincount(rows.category[train], minlength=len(CATEGORIES)).tolist()
    total = rows.sizes()
    shares = {category: 1 - kept[CATEGORIES.index(category)] / n for category, n in total.items()}
    return [
        f"{category}: {share:.0%} of {total[category]} rows are held out"
        for category, share in shares.items()
        if share > 0.5
    ]
