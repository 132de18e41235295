"""Phrase boosting as a value: which terms a decoder leans towards and how strongly, and what such a decoder is called.

A boosted decoder is not the plain one: it has a name and an identity of its own, so that no file and no number of the
one is ever taken for the other's.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from clinical_asr.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Boosting:
    """Terms, as the clinician writes them, and the weight of their phrases beside the model's log probabilities.

    0.5 to 1 is mild, 2 invents terms. Raises ConfigError without a term, or for a strength that is not above 0.
    """

    terms: tuple[str, ...]
    strength: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise ConfigError(f"{self.strength:g} boosts nothing", "--boost-strength", "give a number above 0, as 0.5")
        if not self.listed:
            raise ConfigError("there is no term to boost", "--boost", "list at least one")

    @property
    def listed(self) -> tuple[str, ...]:
        """The terms once each, sorted.

        >>> Boosting((" warfarin", "apixaban", "warfarin", ""), 0.5).listed
        ('apixaban', 'warfarin')
        """
        return tuple(sorted({term.strip() for term in self.terms} - {""}))

    @property
    def terms_digest(self) -> str:
        """Identity of the list: 8 hex digits, whatever its order."""
        return hashlib.sha256("\n".join(self.listed).encode()).hexdigest()[:8]

    def named(self, model: str) -> str:
        """What a boosted model is called in rows and signatures.

        >>> Boosting(("apixaban", "warfarin"), 0.5).named("mini")
        'mini + boosting 0.5 of 2 terms (949ee3db)'
        """
        return f"{model} + boosting {self.strength:g} of {len(self.listed)} terms ({self.terms_digest})"

    def identity(self, weights: str) -> str:
        """16 hex digits of weights, list and strength together; ``weights`` is a digest, of which 16 digits count.

        >>> mild, strong = Boosting(("warfarin",), 0.5), Boosting(("warfarin",), 1.0)
        >>> len({"ab" * 8, mild.identity("ab" * 8), strong.identity("ab" * 8), mild.identity("cd" * 8)})
        4
        >>> mild.identity("ab" * 32) == mild.identity("ab" * 8)
        True
        """
        told = "\n".join(("boosting", weights[:16], f"{self.strength!r}", *self.listed))
        return hashlib.sha256(told.encode()).hexdigest()[:16]
