"""Warnings about a list of terms: what is written twice, what is easily confused, what a base cannot spell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from clinical_asr.lookalikes import HIGH, alike_pairs
from clinical_asr.near_duplicates import near_duplicates
from clinical_asr.records import Term
from clinical_asr.spelling import Vocabulary
from clinical_asr.wording import worded

Kind = Literal["quotes", "near-duplicate", "look-alike", "cannot-spell"]


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """One warning: what kind, about which terms, and what to do."""

    kind: Kind
    terms: tuple[str, ...]
    why: str
    mend: str
    score: float | None = None
    """Likeness of a look-alike pair, 0 to 1."""

    def line(self) -> str:
        """The warning for a person."""
        return f"{self.kind}: {' / '.join(self.terms)}: {self.why}; {self.mend}"


def flags(terms: Sequence[Term], vocabulary: Vocabulary | None = None) -> list[Flag]:
    """Everything worth a second look: near-duplicates, then look-alikes, then what the base cannot spell.

    A pair is told once: what seems to be one thing is not told again as two that look alike.
    """
    names = [term.term for term in terms]
    twice = near_duplicates(names)
    told = {(pair.first, pair.second) for pair in twice}
    found = [_duplicate(names[pair.first], names[pair.second], pair.why) for pair in twice]
    for pair in alike_pairs(names):
        if (pair.first, pair.second) not in told:
            found.append(_alike(names[pair.first], names[pair.second], pair.likeness.combined))
    return found + (_unspelled(terms, vocabulary) if vocabulary else [])


def quoted(names: Sequence[str]) -> list[Flag]:
    """Terms whose file has a word processor's quotes around them, which are no part of a term."""
    why, mend = "stands in typographic quotes, which are left out", "delete them; a comma needs plain ones"
    return [Flag(kind="quotes", terms=(name,), why=why, mend=mend) for name in names]


def _duplicate(one: str, other: str, why: str) -> Flag:
    return Flag(kind="near-duplicate", terms=(one, other), why=why, mend="keep one if they are one thing")


def _alike(one: str, other: str, score: float) -> Flag:
    how = "highly" if score >= HIGH else "moderately"
    why = f"look and sound {how} alike ({score:.2f} of 1)"
    return Flag(kind="look-alike", terms=(one, other), why=why, score=round(score, 4),
                mend="keep both: confusing them is what the benchmark should see")  # fmt: skip


def _unspelled(terms: Sequence[Term], vocabulary: Vocabulary) -> list[Flag]:
    """Terms as sentences in the base's own style will hold them."""
    found = []
    for term in terms:
        unknown = vocabulary.cannot_spell(worded(term.term, vocabulary.style))
        if unknown:
            why = f"the base has no piece for {' '.join(unknown)}"
            mend = "write it as it is said, in letters the base knows"
            found.append(Flag(kind="cannot-spell", terms=(term.term,), why=why, mend=mend))
    return found
