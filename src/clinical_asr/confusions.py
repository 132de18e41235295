"""What came instead of a term that was missed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

from clinical_asr.alignment import align_words, common_ends
from clinical_asr.matching import Matching
from clinical_asr.occurrences import Normaliser, Occurrence, TermIndex
from clinical_asr.text import DEFAULT_NORMALISER

Kind = Literal["listed drug", "listed term", "look-alike", "other", "deleted"]
GRAVITY: tuple[Kind, ...] = ("listed drug", "listed term", "look-alike", "other", "deleted")
"""Gravest first: a drug heard as another listed drug reads as an order for that drug."""
LOOK_ALIKE = 0.7
"""Similarity of the letters from which two spellings look alike."""
_WINDOW = 60  # words of a garbled stretch that are searched for the best match


@dataclass(frozen=True, slots=True)
class Confusion:
    """A missed term, the words heard in its place (empty if none), their kind and likeness (0 to 1)."""

    term: str
    heard: str
    kind: Kind
    similarity: float


def confusions(
    reference: str,
    hypothesis: str,
    terms: str | Iterable[str] | TermIndex,
    normaliser: Normaliser = DEFAULT_NORMALISER,
) -> list[Confusion]:
    """One entry per missed occurrence of a listed term, gravest first.

    ``terms`` is the list the benchmark knows: with one term alone no confusion can be with another listed one. Strings
    have no category, so only a ``TermIndex`` tells drugs from the rest.

    >>> drugs = TermIndex([("cefazolin", "drug"), ("cefoxitin", "drug"), ("sepsis", "condition")])
    >>> for found in confusions("cefazolin for sepsis now", "cefoxitin for steps is now", drugs):
    ...     print(found.term, "->", found.heard, f"({found.kind}, {found.similarity:.2f})")
    cefazolin -> cefoxitin (listed drug, 0.56)
    sepsis -> steps is (look-alike, 0.86)
    >>> [(c.heard, c.kind) for c in confusions("give cefazolin now", "give cefa zolin now", "cefazolin")]
    [('cefa zolin', 'look-alike')]
    >>> [(c.heard, c.kind) for c in confusions("give cefazolin now", "give now", "cefazolin")]
    [('', 'deleted')]
    """
    index = _index(terms, normaliser)
    left, right = index.normalise(reference).split(), index.normalise(hypothesis).split()
    return word_confusions(index, left, right)


def word_confusions(index: TermIndex, left: Sequence[str], right: Sequence[str]) -> list[Confusion]:
    """``confusions`` for the words of two normalised texts."""
    head, tail = common_ends(left, right)
    # A term in what both sides begin or end with was heard there; without another one there is nothing to align.
    if all(one.end <= head or one.start >= len(left) - tail for one in index.find_words(left)):
        return []
    return matched_confusions(index, Matching(index, left, right, align_words(left, right)))


def matched_confusions(index: TermIndex, matching: Matching) -> list[Confusion]:
    """``confusions`` where said and heard occurrences are matched already."""
    found = [_confusion(index, occurrence, window[:_WINDOW]) for occurrence, window in matching.missed()]
    return sorted(found, key=lambda one: (GRAVITY.index(one.kind), -one.similarity, one.term))


def _index(terms: str | Iterable[str] | TermIndex, normaliser: Normaliser) -> TermIndex:
    if isinstance(terms, TermIndex):
        return terms
    listed = [terms] if isinstance(terms, str) else list(dict.fromkeys(terms))
    return TermIndex([(term, "") for term in listed], normaliser)


def _confusion(index: TermIndex, occurrence: Occurrence, window: Sequence[str]) -> Confusion:
    """The other listed term in the window if there is one, else the stretch of it that is written most alike."""
    term = " ".join(index.forms(occurrence.term)[0])
    others = [other for other in index.find_words(window) if other.term != occurrence.term]
    if others:
        best = max(others, key=lambda other: likeness(term, " ".join(window[other.start : other.end])))
        drugs = index.categories[occurrence.term] == index.categories[best.term] == "drug"
        heard = " ".join(window[best.start : best.end])
        return Confusion(occurrence.term, heard, "listed drug" if drugs else "listed term", likeness(term, heard))
    if not window:
        return Confusion(occurrence.term, "", "deleted", 0.0)
    longest = occurrence.end - occurrence.start + 2
    stretches = (
        " ".join(window[start:end])
        for start in range(len(window))
        for end in range(start + 1, min(start + longest, len(window)) + 1)
    )
    heard = max(stretches, key=lambda stretch: likeness(term, stretch))
    similarity = likeness(term, heard)
    return Confusion(occurrence.term, heard, "look-alike" if similarity >= LOOK_ALIKE else "other", similarity)


def likeness(left: str, right: str) -> float:
    """1 - edits / longer length, over the letters without spaces.

    >>> likeness("cefazolin", "cefa zolin"), likeness("heparin", "insulin") < 0.5
    (1.0, True)
    """
    return float(Levenshtein.normalized_similarity(left.replace(" ", ""), right.replace(" ", "")))
