"""Counts behind KER: terms said, heard, and heard that nobody said."""

from __future__ import annotations

import msgspec


class KeywordCount(msgspec.Struct, frozen=True, gc=False):
    """Occurrences of terms said, those heard, and those heard that nobody said. Adds with ``+``.

    >>> a = KeywordCount(occurrences=2, hits=1, false_insertions=1)
    >>> a.misses, a.ker, a.recall, a.precision, (a + KeywordCount.zero()) == a, KeywordCount.zero().ker is None
    (1, 0.5, 0.5, 0.5, True, True)
    """

    occurrences: int
    hits: int
    false_insertions: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.occurrences or self.false_insertions < 0:
            raise ValueError(f"counts that cannot be: {self!r}")

    @property
    def misses(self) -> int:
        """Occurrences that were not heard."""
        return self.occurrences - self.hits

    @property
    def ker(self) -> float | None:
        """Misses over occurrences; ``None`` where no term was said."""
        return self.misses / self.occurrences if self.occurrences else None

    @property
    def recall(self) -> float | None:
        """Hits over occurrences: 1 - KER."""
        return self.hits / self.occurrences if self.occurrences else None

    @property
    def precision(self) -> float | None:
        """Hits over all that was heard as a listed term; ``None`` where none was heard."""
        heard = self.hits + self.false_insertions
        return self.hits / heard if heard else None

    @classmethod
    def zero(cls) -> KeywordCount:
        """Start of a sum."""
        return cls(0, 0, 0)

    def __add__(self, other: KeywordCount) -> KeywordCount:
        return KeywordCount(
            self.occurrences + other.occurrences,
            self.hits + other.hits,
            self.false_insertions + other.false_insertions,
        )
