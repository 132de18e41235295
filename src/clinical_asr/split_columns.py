"""Rows of a split as numbers: what hangs together with what, in some 60 bytes a row, read once and in the order of ids.

Pure. Texts are compared by 64 bits of their hash. Of a million texts two different ones would be taken for the same in
one file of thirty million; the rows concerned would then only be held out together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_asr.records import ClinicalUtterance, EntityCategory
from clinical_asr.row_ids import IdColumn, chunks
from clinical_asr.takes import take_keys, takes
from clinical_asr.text import normalise, term_key

Array = NDArray[Any]
CATEGORIES = sorted(EntityCategory)


@dataclass
class SplitColumns:
    """One entry a row in each array, rows by id; names are numbered in the order of ``terms`` and ``voices``."""

    ids: IdColumn
    order: Array
    """Position of each row among those that were read."""
    category: Array
    """Place in ``CATEGORIES``."""
    term: Array
    voice: Array
    sentence: Array
    """Number of its normalised text, from 0."""
    take: Array
    """Number of its take (``takes``), from 0."""
    duration: Array
    """Seconds."""
    terms: list[str]
    """Normalised."""
    voices: list[str]

    @classmethod
    def of(cls, rows: Sequence[ClinicalUtterance]) -> SplitColumns:
        """Read the rows once."""
        ids, terms, voices = IdColumn(), dict[str, int](), dict[str, int]()
        parts: dict[str, list[Array]] = {name: [np.zeros(0, kind)] for name, kind in _KINDS.items()}
        for some in chunks(rows):
            ids.add([row.id for row in some])
            for name, values in zip(_KINDS, _told(some, terms, voices), strict=True):
                parts[name].append(np.array(values, _KINDS[name]))
        order = ids.order().astype(np.int32)

        def column(name: str) -> Array:
            return np.concatenate(parts.pop(name))[order]

        take = takes(map(column, ("file", "said", "digest")))
        sentence = numbered(column("sentence"))
        category, term, voice, duration = map(column, ("category", "term", "voice", "duration"))
        return cls(ids, order, category, term, voice, sentence, take, duration, list(terms), list(voices))

    def __len__(self) -> int:
        return len(self.order)

    def positions(self, category: int) -> Array:
        """The rows of a category."""
        return np.flatnonzero(self.category == category)

    def sizes(self) -> dict[EntityCategory, int]:
        """Rows per category that has any."""
        counts = np.bincount(self.category, minlength=len(CATEGORIES)).tolist()
        return {category: n for category, n in zip(CATEGORIES, counts, strict=True) if n}


_KINDS = {
    "category": np.int8, "term": np.int32, "voice": np.int32, "duration": np.float64, "sentence": np.int64,
    "file": np.int64, "said": np.int64, "digest": np.int64,
}  # fmt: skip


def _told(
    rows: Sequence[ClinicalUtterance], terms: dict[str, int], voices: dict[str, int]
) -> tuple[Sequence[float], ...]:
    """What each column holds of some rows; new terms and voices are numbered."""
    said = [normalise(row.text) for row in rows]
    keys = [take_keys(row, sentence) for row, sentence in zip(rows, said, strict=True)]
    return (
        [CATEGORIES.index(row.entity_category) for row in rows],
        [_number(terms, term_key(row.term)) for row in rows],
        [_number(voices, row.voice_id) for row in rows],
        [row.duration for row in rows],
        [hash(sentence) for sentence in said],
        *zip(*keys, strict=True),
    )


def _number(known: dict[str, int], name: str) -> int:
    return known.setdefault(name, len(known))


def numbered(keys: Array) -> Array:
    """Equal keys as equal numbers, from 0.

    >>> numbered(np.array([7, -2, 7])).tolist()
    [1, 0, 1]
    """
    return np.unique(keys, return_inverse=True)[1].astype(np.int32)
