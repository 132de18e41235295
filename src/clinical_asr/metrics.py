"""Word and character errors of pairs of texts that are normalised already (``text.normalise``).

**Tie-breaking.** Several alignments can have the same smallest number of errors; "a b" against "b c" is two
substitutions, or one deletion and one insertion around a hit. We take the one with the most hits. That makes the split
into S, D and I unique, swaps D with I when the sides are swapped, and leaves S + D + I as every other tool has it.

Distances: V. I. Levenshtein (1966), computed by rapidfuzz. A substitution is given a cost a hair above one edit
(``SCALE + 1`` against ``SCALE``), so one weighted distance holds both the number of errors and the substitutions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import eq

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from clinical_asr.alignment import SCALE, WEIGHTS, encode_words
from clinical_asr.anchors import HINT, SHORT, pieces
from clinical_asr.error_count import ErrorCount
from clinical_asr.errors import ScoringError

METRIC_VERSION = "1"

LONG = 4000
"""Characters from which the exact split of character errors costs too much."""
CHUNK = 4096
"""Rows per call into rapidfuzz: large enough to be fast, small enough for flat memory."""


def _weighted(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.int64]:
    """Weighted distance of each pair: errors times ``SCALE``, plus substitutions."""
    found: NDArray[np.int64] = cpdist(
        references, hypotheses, scorer=Levenshtein.distance, scorer_kwargs={"weights": WEIGHTS}, dtype=np.int64
    )
    return found


def _weighted_words(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.int64]:
    """``_weighted`` for words, one character each; the distance of a long pair is the sum over its pieces."""
    if max(map(len, references)) <= SHORT:
        return _weighted(references, hypotheses)
    owners, lefts, rights = list[int](), list[str](), list[str]()
    for owner, pair in enumerate(zip(references, hypotheses, strict=True)):
        for _, left, right in pieces(*pair):
            owners.append(owner)
            lefts.append(left)
            rights.append(right)
    total = np.zeros(len(references), np.int64)
    np.add.at(total, owners, _weighted(lefts, rights))
    return total


def _counts(references: Sequence[str], hypotheses: Sequence[str], weighted: NDArray[np.int64]) -> NDArray[np.int64]:
    """S, D, I, hits, length per pair, shape (n, 5), int64, from their weighted distances."""
    n = np.fromiter(map(len, references), np.int64, len(references))
    m = np.fromiter(map(len, hypotheses), np.int64, len(hypotheses))
    errors, substitutions = np.divmod(weighted, SCALE)
    insertions = (errors - substitutions + m - n) // 2
    deletions = insertions - m + n
    return np.stack([substitutions, deletions, insertions, n - substitutions - deletions, n], axis=1)


def _paired(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(references) != len(hypotheses):
        raise ScoringError(
            f"{len(references)} references but {len(hypotheses)} hypotheses", mend="pair them by id first"
        )


def word_counts(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.int64]:
    """Word counts of each pair as an array (n, 5) of S, D, I, hits, length: the fast form of ``word_errors_batch``.

    >>> word_counts(["give cefazolin now", ""], ["give cefa zolin now", "x"]).tolist()
    [[1, 0, 1, 2, 3], [0, 0, 1, 0, 0]]
    """
    _paired(references, hypotheses)
    parts = [np.zeros((0, 5), np.int64)]
    for start in range(0, len(references), CHUNK):
        chunk = slice(start, start + CHUNK)
        parts.append(_word_chunk(references[chunk], hypotheses[chunk]))
    return np.concatenate(parts)


def _word_chunk(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.int64]:
    """Only rows that differ are encoded; of the others every word is a hit."""
    counts = np.zeros((len(references), 5), np.int64)
    same = np.fromiter(map(eq, references, hypotheses), bool, len(references))
    counts[same, 3:] = [[len(references[place].split())] * 2 for place in np.flatnonzero(same).tolist()] or 0
    differing = np.flatnonzero(~same).tolist()
    if differing:
        sides = ([side[place] for place in differing] for side in (references, hypotheses))
        left, right = encode_words(*sides)
        counts[differing] = _counts(left, right, _weighted_words(left, right))
    return counts


def character_counts(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.int64]:
    """Character counts of each pair, (n, 5) of S, D, I, hits, length; the single spaces between words count.

    Pairs whose longer side has more than 4000 characters take any alignment with the fewest errors: which one it is
    moves only the split into S, D and I, and the one with the most hits takes time by the square of the length.
    """
    _paired(references, hypotheses)
    is_long = np.array([max(len(one), len(other)) > LONG for one, other in zip(references, hypotheses, strict=True)])
    if not is_long.any():
        return _counts(references, hypotheses, _weighted(references, hypotheses))
    counts, short = np.zeros((len(references), 5), np.int64), np.flatnonzero(~is_long).tolist()
    if short:
        left, right = ([side[place] for place in short] for side in (references, hypotheses))
        counts[short] = _counts(left, right, _weighted(left, right))
    for place in np.flatnonzero(is_long).tolist():
        counts[place] = _any_split(references[place], hypotheses[place])
    return counts


def _any_split(reference: str, hypothesis: str) -> tuple[int, int, int, int, int]:
    edits = Counter(edit.tag for edit in Levenshtein.editops(reference, hypothesis, score_hint=HINT))
    replaced, deleted, inserted, n = edits["replace"], edits["delete"], edits["insert"], len(reference)
    return replaced, deleted, inserted, n - replaced - deleted, n


def character_distances(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.int64]:
    """Character errors of each pair, (n,), without their split into S, D, I: bit-parallel, so far faster."""
    _paired(references, hypotheses)
    return cpdist(references, hypotheses, scorer=Levenshtein.distance, score_hint=HINT, dtype=np.int64)


def word_errors_batch(references: Sequence[str], hypotheses: Sequence[str]) -> list[ErrorCount]:
    """``word_errors`` of each pair."""
    return [ErrorCount(*row) for row in word_counts(references, hypotheses).tolist()]


def character_errors_batch(references: Sequence[str], hypotheses: Sequence[str]) -> list[ErrorCount]:
    """``character_errors`` of each pair."""
    return [ErrorCount(*row) for row in character_counts(references, hypotheses).tolist()]


def word_errors(reference: str, hypothesis: str) -> ErrorCount:
    """Word errors of one pair of normalised texts.

    >>> word_errors("give cefazolin now", "give cefa zolin now")
    ErrorCount(substitutions=1, deletions=0, insertions=1, hits=2, length=3)
    >>> word_errors("", "no").rate is None, word_errors("no", "").rate
    (True, 1.0)
    """
    return word_errors_batch([reference], [hypothesis])[0]


def character_errors(reference: str, hypothesis: str) -> ErrorCount:
    """Character errors of one pair of normalised texts.

    >>> character_errors("cefazolin", "cefa zolin")
    ErrorCount(substitutions=0, deletions=0, insertions=1, hits=9, length=9)
    """
    return character_errors_batch([reference], [hypothesis])[0]
