"""Errors as counts: substitutions, deletions, insertions, hits. Pure.

Every score is counts until the last line: counts add with ``+`` and a rate is derived from the sum, so a pooled rate
is the same whatever the order or chunking of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class ErrorCount(msgspec.Struct, frozen=True, gc=False):
    """Edits that turn the hypothesis into the reference, and the reference length, in words or characters.

    >>> a = ErrorCount(substitutions=1, deletions=0, insertions=2, hits=3, length=4)
    >>> a.errors, a.rate, (a + a).rate, ErrorCount.zero().rate is None
    (3, 0.75, 0.75, True)
    >>> ErrorCount(1, 0, 0, 0, 5)
    Traceback (most recent call last):
    ValueError: hits 0 + substitutions 1 + deletions 0 is not the reference length 5
    """

    substitutions: int
    deletions: int
    insertions: int
    hits: int
    length: int

    def __post_init__(self) -> None:
        if self.hits + self.substitutions + self.deletions != self.length:
            raise ValueError(
                f"hits {self.hits} + substitutions {self.substitutions} + deletions {self.deletions} "
                f"is not the reference length {self.length}"
            )
        if self.substitutions < 0 or self.deletions < 0 or self.insertions < 0 or self.hits < 0:
            raise ValueError(f"a negative count in {self!r}")

    @property
    def errors(self) -> int:
        """S + D + I."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors per reference unit; above 1 with many insertions, ``None`` without a reference."""
        return self.errors / self.length if self.length else None

    @classmethod
    def zero(cls) -> ErrorCount:
        """Start of a sum: ``sum(counts, ErrorCount.zero())``."""
        return cls(0, 0, 0, 0, 0)

    def __add__(self, other: ErrorCount) -> ErrorCount:
        return ErrorCount(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.hits + other.hits,
            self.length + other.length,
        )


def counts_from_row(row: Iterable[int]) -> ErrorCount:
    """One row of a count array, or the sum over its rows, as an ``ErrorCount``."""
    return ErrorCount(*(int(value) for value in row))
