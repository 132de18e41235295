"""Occurrences of terms in a reference and whether they were heard: the counts behind KER."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from clinical_asr.alignment import align_words
from clinical_asr.errors import ScoringError
from clinical_asr.keyword_count import KeywordCount
from clinical_asr.matching import Matching
from clinical_asr.text import DEFAULT_NORMALISER, normaliser

Normaliser = str | Callable[[str], str]
Words = tuple[str, ...]


def as_function(name: Normaliser) -> Callable[[str], str]:
    """A normaliser by its name, or the function itself."""
    return normaliser(name) if isinstance(name, str) else name


@lru_cache(maxsize=16_384)
def _term_text(term: str, name: Normaliser) -> str:
    text = as_function(name)(term)
    if not text:
        raise ScoringError(f"term {term!r} is empty", mend="write the term, or leave the row out")
    return text


def count_occurrences(text: str, term: str) -> int:
    """Non-overlapping occurrences of a term's words, adjacent and in order, in a text; both normalised.

    >>> count_occurrences("heparin lock heparin", "heparin"), count_occurrences("ab ab ab", "ab ab")
    (2, 1)
    >>> count_occurrences("cefazolins", "cefazolin")
    0
    """
    if term not in text:
        return 0
    # Two spaces between words, so that each has its own on either side and neighbours need not share one.
    return f" {text.replace(' ', '  ')} ".count(f" {term.replace(' ', '  ')} ")


def count_keyword(reference: str, hypothesis: str, term: str) -> KeywordCount:
    """``keyword_hits`` for text and term that are normalised already."""
    said = count_occurrences(reference, term) if term else 0
    if not said:
        why = f"term {term!r} is not in its reference {reference!r}" if term else "term is empty"
        raise ScoringError(why, mend="correct the term or the reference")
    heard = count_occurrences(hypothesis, term)
    return KeywordCount(said, min(said, heard), max(0, heard - said))


def keyword_hits(
    reference: str, hypothesis: str, term: str, normaliser: Normaliser = DEFAULT_NORMALISER
) -> KeywordCount:
    """Strict count of one row's term: its words, in order and adjacent, in the normalised hypothesis.

    >>> keyword_hits("Give cefazolin now.", "give cefa zolin now", "cefazolin")
    KeywordCount(occurrences=1, hits=0, false_insertions=0)
    >>> keyword_hits("Give post-cefazolin fluids", "whatever Cefazolin's", "cefazolin").ker
    0.0

    A term said twice counts twice, and one heard more often than said was inserted:

    >>> keyword_hits("heparin, then heparin", "heparin then happy", "heparin").ker
    0.5
    >>> keyword_hits("heparin", "heparin heparin", "heparin")
    KeywordCount(occurrences=1, hits=1, false_insertions=1)
    >>> keyword_hits("It", "it", "heparin")
    Traceback (most recent call last):
    clinical_asr.errors.ScoringError: term 'heparin' is not in its reference 'it'; correct the term or the reference

    Where in a row the term is heard does not matter; ``TermIndex.score`` minds the place, for long transcripts.
    """
    clean = as_function(normaliser)
    return count_keyword(clean(reference), clean(hypothesis), _term_text(term, normaliser))


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A listed term in a normalised text: the term as listed, and its words' half-open span."""

    term: str
    start: int
    end: int


class TermIndex:
    """Every occurrence of many listed terms in one pass: whole words, longest match first, never overlapping.

    ``terms`` holds (term, category, variants), or (term, category); variants are other spellings that count beside the
    strict score where ``variants=True`` is asked for, never instead of it.

    >>> index = TermIndex([("heparin", "drug"), ("heparin sodium", "drug"), ("HbA1c", "lab", ["hemoglobin A1c"])])
    >>> index.find("Heparin-sodium, or heparin")
    [Occurrence(term='heparin sodium', start=0, end=2), Occurrence(term='heparin', start=3, end=4)]

    Hits are found where the alignment expects them. A term lost early and heard late, where nobody said it, is a miss
    **and** a false insertion, which counting alone would call a hit:

    >>> said = "give heparin to the first patient and no drug to the other patient today"
    >>> heard = "give happy to the first patient and no drug to the other patient heparin today"
    >>> index.score(said, heard)["heparin"]
    KeywordCount(occurrences=1, hits=0, false_insertions=1)

    Each place where a term is heard answers for one occurrence at most, and what answers for none was inserted:

    >>> index.score("give cefazolin not heparin", "give cefa zolin not heparin heparin")["heparin"]
    KeywordCount(occurrences=1, hits=1, false_insertions=1)

    Part of a longer listed term that was said is not an insertion, but two words that only now stand together are:

    >>> index.score("give heparin sodium", "give heparin")["heparin"].false_insertions
    0
    >>> index.score("heparin and sodium", "heparin sodium")["heparin sodium"].false_insertions
    1

    Variants:

    >>> strict = index.score("the HbA1c is high", "the hemoglobin A1c is high")["HbA1c"]
    >>> aware = index.score("the HbA1c is high", "the hemoglobin A1c is high", variants=True)["HbA1c"]
    >>> strict.ker, aware.ker
    (1.0, 0.0)
    """

    def __init__(self, terms: Iterable[Sequence[Any]], normaliser: Normaliser = DEFAULT_NORMALISER) -> None:
        self.normalise = as_function(normaliser)
        self.categories: dict[str, str] = {}
        self._forms: dict[str, list[Words]] = {}
        self._strict: dict[Any, Any] = {}
        for term, category, *variants in terms:
            self._add(term, category, variants[0] if variants else ())
        self._loose: dict[Any, Any] = {}
        for place in range(max(map(len, self._forms.values()), default=0)):  # own spellings first: they win a tie
            for term, forms in self._forms.items():
                if place < len(forms):
                    _insert(self._loose, forms[place], term)

    def _add(self, term: str, category: str, variants: Iterable[str]) -> None:
        words = tuple(self.normalise(term).split())
        if not words:
            raise ScoringError(f"listed term {term!r} is empty", mend="write the term or delete its line")
        others = [tuple(self.normalise(variant).split()) for variant in variants]
        if _insert(self._strict, words, term) != term or term in self._forms:
            raise ScoringError(f"term {term!r} is listed twice", mend="keep one of the lines")
        self.categories[term] = str(category)
        self._forms[term] = [words, *(other for other in others if other)]

    def find(self, text: str, variants: bool = False) -> list[Occurrence]:
        """Occurrences in a text, which is normalised first (harmless where it is already)."""
        return self.find_words(self.normalise(text).split(), variants)

    def find_words(self, words: Sequence[str], variants: bool = False) -> list[Occurrence]:
        """Occurrences in the words of a normalised text."""
        root = self._loose if variants else self._strict
        if root.keys().isdisjoint(words):
            return []
        found: list[Occurrence] = []
        for place in [place for place, word in enumerate(words) if word in root]:
            if not found or place >= found[-1].end:
                term, end = _longest(root, words, place)
                if term is not None:
                    found.append(Occurrence(term, place, end))
        return found

    def forms(self, term: str, variants: bool = False) -> list[Words]:
        """Word tuples that count as the term: its own, then its variants' if asked for."""
        return self._forms[term] if variants else self._forms[term][:1]

    def score(self, reference: str, hypothesis: str, variants: bool = False) -> dict[str, KeywordCount]:
        """Counts per listed term (all of them, also those never said) of one pair of transcripts of any length."""
        left, right = self.normalise(reference).split(), self.normalise(hypothesis).split()
        return Matching(self, left, right, align_words(left, right), variants).counts()


def _longest(root: dict[Any, Any], words: Sequence[str], place: int) -> tuple[str | None, int]:
    """The longest term that begins at a place and where it ends; ``None`` if none does."""
    node, term, end = root, None, place
    for ahead in range(place, len(words)):
        if words[ahead] not in node:
            break
        node = node[words[ahead]]
        if None in node:
            term, end = node[None], ahead + 1
    return term, end


def _insert(root: dict[Any, Any], words: Words, term: str) -> str:
    """Adds a path to the trie; the end of a term is marked under ``None``. Returns the term that owns the path."""
    for word in words:
        root = root.setdefault(word, {})
    return str(root.setdefault(None, term))
