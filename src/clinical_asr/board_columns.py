"""The counts of a board's rows as columns, gathered chunk by chunk: some 50 bytes a row instead of the row. Pure.

Each column is as narrow as what it holds, and a row's group (its voice, its noise level, ...) is a number. All that
depends on an order goes by the order of the ids, so that a board is the same whatever the order of its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_asr.errors import ScoringError
from clinical_asr.mishearings import Misheard
from clinical_asr.row_ids import IdColumn, chunks
from clinical_asr.tally import Score
from clinical_asr.text import term_key
from clinical_asr.variants import Variants

Array = NDArray[Any]
Wording = tuple[Score, str, str]
"""A row and both its sides, normalised."""

GROUPS: dict[str, Callable[[Score], str]] = {
    "entity_category": lambda row: row.entity_category or "",
    "ipa_source": lambda row: row.ipa_source.canonical if row.ipa_source else "",
    "noise_level": lambda row: row.noise_level,
    "term": lambda row: f"{row.entity_category or ''}\x1f{row.term}" if row.term else "",
    "stratum": lambda row: row.stratum or "",
    "voice_id": lambda row: row.voice_id,
    "context_type": lambda row: row.context_type,
}
"""What rows are grouped by; a row whose name is empty belongs to no group. A term's spellings are merged last."""


class Columns:
    """``column`` by name once all rows are gathered, rows by id; ``variants`` adds the variant-aware misses."""

    def __init__(self, misheard: Misheard, variants: Variants | None = None) -> None:
        self._misheard, self._variants = misheard, variants
        self._ids = IdColumn()
        self._parts: dict[str, list[Array]] = {}
        self._codes: dict[str, dict[str, int]] = {name: {} for name in GROUPS}
        self.column: dict[str, Array] = {}

    def gather(self, rows: Iterable[Wording], expected: int | None = None) -> None:
        """Read all rows. Raises ScoringError if there are none, if one stands twice, or if ``expected`` is another."""
        for some in chunks(rows):
            scores = [row for row, _, _ in some]
            self._ids.add([row.id for row in scores])
            told = {**_counts(scores), **self._grouped(scores), **self._heard(some)}
            for name, values in told.items():
                self._parts.setdefault(name, []).append(_narrow(np.asarray(values)))
        self._refuse(expected)
        order, self._ids = self._ids.order(), IdColumn()  # from here on the ids are not needed
        self.column = {name: np.concatenate(self._parts.pop(name))[order] for name in list(self._parts)}
        self.column["cluster"] = _by_first_sight(self.column["cluster"])
        self._merge_spellings()

    def groups(self, name: str) -> dict[str, Array]:
        """Name of each group -> positions of its rows; groups by name."""
        codes = self.column[name]
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(self._codes[name])))
        starts = [0, *ends.tolist()]
        known = self._codes[name]
        return {group: order[starts[known[group]] : starts[known[group] + 1]] for group in sorted(known) if group}

    def _refuse(self, expected: int | None) -> None:
        if not len(self._ids):
            raise ScoringError("has no rows", where="leaderboard", mend="score at least one row")
        doubled = self._ids.doubled()
        if doubled is not None:
            raise ScoringError("stands twice", where=f"row {doubled}", mend="score each row once")
        if expected is not None and len(self._ids) != expected:
            raise ScoringError(f"{len(self._ids)} rows, but the signature says {expected}", where="leaderboard")

    def _merge_spellings(self) -> None:
        """One group per category and term, named as the row of the smallest id spells it."""
        spelled, codes = list(self._codes["term"]), self.column["term"]
        first = np.unique(codes, return_index=True)[1]
        merged, known, names = np.empty(len(spelled), np.int32), dict[str, int](), dict[str, int]()
        for code in np.argsort(first).tolist():
            category, mark, term = spelled[code].partition("\x1f")
            merged[code] = known.setdefault(f"{category}{mark}{term_key(term)}", len(known))
            if merged[code] == len(names):
                names[spelled[code]] = len(names)
        self.column["term"], self._codes["term"] = _narrow(merged)[codes], names

    def _grouped(self, rows: Sequence[Score]) -> dict[str, list[int]]:
        told = {}
        for name, key in GROUPS.items():
            codes = self._codes[name]
            told[name] = [codes.setdefault(str(key(row)), len(codes)) for row in rows]
        return told

    def _heard(self, rows: Sequence[Wording]) -> dict[str, list[Any]]:
        told: dict[str, list[Any]] = {"false_insertions": [self._misheard.add(said, heard) for _, said, heard in rows]}
        if self._variants is not None:
            told["loose"] = [_loose(self._variants, *one) for one in rows]
        return told


def _counts(rows: Sequence[Score]) -> dict[str, list[Any]]:
    """Pairs are what is counted and what it is divided by."""
    tallies = [row.tally for row in rows]
    return {
        "wrong": [one.wrong_rows for one in tallies],
        "words": [(one.words.errors, one.words.length) for one in tallies],
        "characters": [(one.characters.errors, one.characters.length) for one in tallies],
        "keywords": [(one.keywords.misses, one.keywords.occurrences) for one in tallies],
        "row_rates": [one.row_rates for one in tallies],
        # Rows of one term share their fate; general speech has no term, its sentences are the clusters.
        "cluster": [hash(term_key(row.term) or row.reference) for row in rows],
        "has_term": [bool(row.term) for row in rows],
    }


def _loose(variants: Variants, row: Score, said: str, heard: str) -> tuple[int, int]:
    """Misses that no registered spelling mends, and occurrences."""
    strict = row.tally.keywords
    if not strict.misses or said is heard:
        return strict.misses, strict.occurrences
    return strict.occurrences - variants.hits(row.term, said, heard, strict), strict.occurrences


def _narrow(values: Array) -> Array:
    """Counts in as few bytes as the largest needs; hashes may be negative and stay as they are."""
    if values.dtype.kind != "i" or values.min(initial=0) < 0:
        return values
    return values.astype(np.min_scalar_type(values.max(initial=0)))


def _by_first_sight(keys: Array) -> Array:
    """Equal keys as equal numbers, counted from 0 in the order in which they are met.

    >>> _by_first_sight(np.array([7, -2, 7, 5])).tolist()
    [0, 1, 0, 2]
    """
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return number[place]
