"""How easily two names are taken for one another, on paper and by ear: the measure behind look-alike warnings.

Published measures, combined as the FDA's POCA combines them (the mean of an orthographic and a phonetic score):
BI-SIM (Kondrak and Dorr, Identification of confusable drug names, COLING 2004), the Dice coefficient of trigrams, and
Levenshtein's distance normalised by the longer name. The phonetic side is BI-SIM over a key of sounds, not letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import LCSseq, Levenshtein

HIGH, CONFUSABLE = 0.70, 0.55
"""POCA's bands: from 0.70 highly similar, from 0.55 moderately so (FDA, Best Practices in Developing Proprietary Names
for Human Prescription Drug Products, 2020). Warnings begin at the lower one: of 61 pairs of published confused names
two thirds reach it, of all other pairs of the same names fewer than five in a thousand."""

_SOUNDS = (
    # order matters: clusters before letters; capitals are sounds that are finished with
    (r"^(?:ps|pt|pn|gn|kn|mn)", lambda m: m.group()[1]),
    (r"^x", "S"), (r"^wr", "R"), (r"^rh", "R"), (r"ae|oe", "e"), (r"eu|ew|oo", "u"), (r"au|aw", "o"),
    (r"ph", "F"), (r"sch", "SK"), (r"tch", "K"), (r"ch", "K"), (r"sh", "S"), (r"th", "T"), (r"gh", "K"), (r"ck", "K"),
    (r"qu", "KW"), (r"q", "K"), (r"xc(?=[eiy])", "KS"), (r"x", "KS"), (r"sc(?=[eiy])", "S"), (r"c(?=[eiy])", "S"),
    (r"c", "K"), (r"g(?=[eiy])", "J"), (r"j", "J"), (r"z", "S"), (r"ti(?=on|ous|al)", "S"), (r"y", "i"),
    (r"w", "V"), (r"h", ""),
)  # fmt: skip


def plain_letters(name: str) -> str:
    """Letters and digits only, lower case, no accents: what an eye that skims a list compares.

    >>> plain_letters("Ménière's disease"), plain_letters("5-HT")
    ('menieresdisease', '5ht')
    """
    return "".join(c for c in unicodedata.normalize("NFKD", name).casefold() if c.isalnum())


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two names are, each number from 0 (nothing shared) to 1 (the same)."""

    look: float
    """Mean of BI-SIM, trigram Dice and normalised Levenshtein over the letters."""
    sound: float
    """BI-SIM over the keys of sounds."""

    @property
    def combined(self) -> float:
        """Mean of look and sound, as POCA's combined score."""
        return (self.look + self.sound) / 2


def likeness(one: str, other: str) -> Likeness:
    """Compare two names; case, accents, spaces and hyphens do not count.

    >>> round(likeness("vinblastine", "vincristine").combined, 2)
    0.69
    >>> round(likeness("cefazolin", "tracheostomy").combined, 2)
    0.2
    """
    return _compare(_Name.of(one), _Name.of(other))


@dataclass(frozen=True, slots=True)
class _Name:
    """A name as the measures see it."""

    letters: str
    sounds: str
    trigrams: frozenset[tuple[str, int]]

    @staticmethod
    def of(name: str) -> _Name:
        letters = plain_letters(name)
        return _Name(letters, sound_key(name), _trigrams(letters))


def _compare(one: _Name, other: _Name) -> Likeness:
    near = Levenshtein.normalized_similarity(one.letters, other.letters)
    look = (bisim(one.letters, other.letters) + _dice(one, other) + near) / 3
    return Likeness(look=look, sound=bisim(one.sounds, other.sounds))


def _dice(one: _Name, other: _Name) -> float:
    total = len(one.trigrams) + len(other.trigrams)
    return 2 * len(one.trigrams & other.trigrams) / total if total else 1.0


def bisim(one: str, other: str) -> float:
    """BI-SIM: the longest common subsequence of bigrams, where half a bigram counts half, over the longer length.

    A mark before the first letter makes beginnings weigh double. Kondrak and Dorr 2004, section 4.

    >>> bisim("toradol", "toradol"), bisim("", "toradol")
    (1.0, 0.0)
    >>> round(bisim("zantac", "xanax"), 2), round(bisim("zantac", "contac"), 2)
    (0.42, 0.58)
    """
    if not one or not other:
        return float(one == other)
    left, right = one[0].upper() + one, other[0].upper() + other
    before = [0.0] * len(right)
    for i in range(1, len(left)):
        row = [0.0]
        for j in range(1, len(right)):
            shared = ((left[i - 1] == right[j - 1]) + (left[i] == right[j])) / 2
            row.append(max(before[j], row[j - 1], before[j - 1] + shared))
        before = row
    return before[-1] / max(len(one), len(other))


def trigram_dice(one: str, other: str) -> float:
    """Share of common letter triples, beginnings marked twice and ends once: 2 |A and B| / (|A| + |B|).

    >>> trigram_dice("losec", "losec"), trigram_dice("losec", "amyl")
    (1.0, 0.0)
    """
    return _dice(_Name.of(one), _Name.of(other))


def _trigrams(word: str) -> frozenset[tuple[str, int]]:
    """Triples, each with how often it has stood before, so that a set counts repeats."""
    marked, seen = f"^^{word}$" if word else "", set[tuple[str, int]]()
    for start in range(len(marked) - 2):
        triple, times = marked[start : start + 3], 0
        while (triple, times) in seen:
            times += 1
        seen.add((triple, times))
    return frozenset(seen)


def sound_key(name: str) -> str:
    """The name in letters that stand for sounds: one sound one letter, silent and doubled letters gone.

    English spelling of Greek and Latin words, roughly; good enough to put names with the same sound side by side.

    >>> sound_key("pneumonia") == sound_key("neumonia"), sound_key("Xanax"), sound_key("cefazolin")
    (True, 'sanaks', 'sefasolin')
    """
    key = plain_letters(name)
    for pattern, sound in _SOUNDS:
        key = re.sub(pattern, sound, key)
    key = re.sub(r"(.)\1+", r"\1", key.lower())
    return re.sub(r"(?<=[^aeiou])e$", "", key) if len(key) > 3 else key


@dataclass(frozen=True, slots=True)
class Pair:
    """Two names of a list that could be taken for one another; ``first`` stands before ``second``."""

    first: int
    second: int
    likeness: Likeness


def alike_pairs(names: Sequence[str], threshold: float = CONFUSABLE) -> list[Pair]:
    """All pairs whose combined likeness is at least ``threshold``, most alike first."""
    known = [_Name.of(name) for name in names]
    found = []
    for first, second in zip(*(_ceiling(known) >= threshold - 1e-6).nonzero(), strict=True):
        if first < second:
            pair = Pair(int(first), int(second), _compare(known[first], known[second]))
            if pair.likeness.combined >= threshold:
                found.append(pair)
    return sorted(found, key=lambda pair: (-pair.likeness.combined, pair.first, pair.second))


def _ceiling(names: Sequence[_Name]) -> NDArray[np.float32]:
    """More than the combined likeness of any pair can be, at a hundredth of the cost: names x names.

    Each half of BI-SIM is a common subsequence, one of them with the mark at the beginning: together they come to at
    most the longest common subsequence and a half.
    """
    letters, sounds = [name.letters for name in names], [name.sounds for name in names]
    near = process.cdist(letters, letters, scorer=Levenshtein.normalized_similarity)
    look = (_bisim_ceiling(letters) + 1 + near) / 3
    ceiling: NDArray[np.float32] = (look + _bisim_ceiling(sounds)) / 2
    return ceiling


def _bisim_ceiling(words: Sequence[str]) -> NDArray[np.float32]:
    common = process.cdist(words, words, scorer=LCSseq.similarity)
    lengths = np.array([max(1, len(word)) for word in words])
    ceiling: NDArray[np.float32] = np.minimum(1, (common + 0.5) / np.maximum.outer(lengths, lengths)).astype(np.float32)
    return ceiling
