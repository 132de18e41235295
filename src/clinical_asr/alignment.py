"""Word alignments with as few errors as possible and, among those, as many hits as possible.

rapidfuzz finds an alignment with the fewest errors; which of several it takes depends on the side it starts from. Where
its choice has fewer hits than it could, the alignment is worked out again inside the band that the distance leaves open
(E. Ukkonen, 1985), so that alignments always agree with the counts in ``metrics``. Long texts are cut at their
``anchors`` first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from clinical_asr.anchors import HINT, SHORT, pieces
from clinical_asr.errors import ScoringError

Operation = Literal["hit", "substitution", "deletion", "insertion"]
Step = tuple[Operation, int, int]
"""Operation, word index in the reference, in the hypothesis (-1: that side has no word)."""

SCALE = 1 << 24  # above any transcript's length in words or characters, so that the substitutions stay below it
WEIGHTS = (SCALE, SCALE, SCALE + 1)
"""Insertion, deletion, substitution: fewest errors first, then fewest substitutions."""
_FIRST_CODE = 0xE000  # code points from here up stand for words; below them lie the surrogates
_LAST_CODE = 0x10FFFF
_UNREACHABLE = np.int64(1) << 60


def encode_words(*sides: Sequence[str]) -> list[list[str]]:
    """Each text as a string with one character per word; equal words get equal characters over all sides.

    >>> left, right = encode_words(["a b a"], ["b"])
    >>> left[0][1] == right[0], len(left[0])
    (True, 3)
    """
    codes = _Codes()
    return [["".join(map(codes.__getitem__, text.split())) for text in side] for side in sides]


class _Codes(dict[str, str]):
    """One character per word, given out on first sight."""

    def __missing__(self, word: str) -> str:
        code = self[word] = _code(len(self))
        return code


def _code(number: int) -> str:
    if _FIRST_CODE + number > _LAST_CODE:
        raise ScoringError(
            f"more than {_LAST_CODE - _FIRST_CODE + 1} different words in one comparison",
            mend="score fewer or shorter texts at a time",
        )
    return chr(_FIRST_CODE + number)


def word_alignment(reference: str, hypothesis: str) -> list[tuple[Operation, str | None, str | None]]:
    """Aligned words of two normalised texts, in order: (operation, reference word, hypothesis word).

    >>> for step in word_alignment("give cefazolin now", "give cefa zolin"):
    ...     print(*step)
    hit give give
    substitution cefazolin cefa
    substitution now zolin
    >>> word_alignment("a b", "b c")
    [('deletion', 'a', None), ('hit', 'b', 'b'), ('insertion', None, 'c')]
    """
    left, right = reference.split(), hypothesis.split()
    return [
        (operation, left[i] if i >= 0 else None, right[j] if j >= 0 else None)
        for operation, i, j in align(reference, hypothesis)
    ]


def align(reference: str, hypothesis: str) -> list[Step]:
    """Aligned word positions of two normalised texts, in order.

    >>> align("a b", "b")
    [('deletion', 0, -1), ('hit', 1, 0)]
    """
    return align_words(reference.split(), hypothesis.split())


def align_words(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[Step]:
    """``align`` for words, or anything else that can be told equal.

    What both sides begin and end with is aligned as it stands, which costs neither errors nor hits.

    >>> align_words([1, 2, 3], [1, 3])
    [('hit', 0, 0), ('deletion', 1, -1), ('hit', 2, 1)]
    """
    return _between_ends(left, right, _align_middle)


def _between_ends(
    left: Sequence[Hashable], right: Sequence[Hashable], align_rest: Callable[..., list[Step]]
) -> list[Step]:
    head, tail = common_ends(left, right)
    n, m = len(left) - tail, len(right) - tail
    return [
        *(("hit", i, i) for i in range(head)),
        *_moved(align_rest(left[head:n], right[head:m]), head, head),
        *(("hit", n + k, m + k) for k in range(tail)),
    ]


def _moved(steps: Iterable[Step], rows: int, columns: int) -> Iterator[Step]:
    """Steps of two pieces as steps of the texts in which they begin that many words later."""
    for operation, i, j in steps:
        yield operation, i + rows if i >= 0 else -1, j + columns if j >= 0 else -1


def common_ends(left: Sequence[Hashable], right: Sequence[Hashable]) -> tuple[int, int]:
    """How many words both sides begin with, and how many of the rest they end with.

    >>> common_ends("a b c a".split(), "a c a".split()), common_ends(["a"], ["a", "a"])
    ((1, 2), (1, 0))
    """
    head = _common(zip(left, right, strict=False))
    room = min(len(left), len(right)) - head
    return head, _common(islice(zip(reversed(left), reversed(right), strict=False), room))


def _common(pairs: Iterable[tuple[Hashable, Hashable]]) -> int:
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return count


def _align_middle(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[Step]:
    if not left or not right:
        return [("deletion", i, -1) for i in range(len(left))] or [("insertion", -1, j) for j in range(len(right))]
    if len(left) == len(right) == 1:
        return [("substitution", 0, 0)]
    codes = {word: _code(number) for number, word in enumerate({*left, *right})}
    one, other = ("".join([codes[word] for word in side]) for side in (left, right))
    if min(len(one), len(other)) <= SHORT:
        return _align_codes(one, other)
    steps: list[Step] = []
    for (i, j), said, heard in pieces(one, other):
        steps += _moved(_between_ends(said, heard, _align_codes), i, j)
    return steps


def _align_codes(left: str, right: str) -> list[Step]:
    errors, substitutions = divmod(Levenshtein.distance(left, right, weights=WEIGHTS), SCALE)
    edits = [(edit.tag, edit.src_pos, edit.dest_pos) for edit in Levenshtein.editops(left, right, score_hint=HINT)]
    if sum(tag == "replace" for tag, _, _ in edits) == substitutions:
        return _filled(edits, len(left))
    return _banded(left, right, errors)


def _filled(edits: Sequence[tuple[str, int, int]], length: int) -> list[Step]:
    """rapidfuzz's edits with the hits between them."""
    steps: list[Step] = []
    i = j = 0
    for tag, source, target in [*edits, ("end", length, -1)]:
        while i < source:
            steps.append(("hit", i, j))
            i, j = i + 1, j + 1
        if tag == "replace":
            steps.append(("substitution", i, j))
            i, j = i + 1, j + 1
        elif tag == "delete":
            steps.append(("deletion", i, -1))
            i += 1
        elif tag == "insert":
            steps.append(("insertion", -1, target))
            j += 1
    return steps


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _banded(left: str, right: str, errors: int) -> list[Step]:
    """Best alignment by dynamic programming over the diagonals that ``errors`` edits can reach."""
    below = (errors + len(left) - len(right)) // 2  # most deletions possible
    above = (errors + len(right) - len(left)) // 2  # most insertions possible
    moves = _fill_band(_codes(left), _codes(right), below, below + above + 1)
    steps: list[Step] = []
    i, j = len(left), len(right)
    while i or j:
        move = moves[i, j - i + below]
        if move == 0:
            i, j = i - 1, j - 1
            steps.append(("hit" if left[i] == right[j] else "substitution", i, j))
        elif move == 1:
            i -= 1
            steps.append(("deletion", i, -1))
        else:
            j -= 1
            steps.append(("insertion", -1, j))
    return steps[::-1]


def _fill_band(left: NDArray[np.uint32], right: NDArray[np.uint32], below: int, width: int) -> NDArray[np.int8]:
    """Last move into each cell, (reference words + 1, width): 0 diagonal, 1 deletion, 2 insertion.

    Column k of row i is hypothesis position j = i + k - below. Neither side is empty.
    """
    moves = np.zeros((len(left) + 1, width), np.int8)
    climb = np.arange(width, dtype=np.int64) * SCALE
    offsets = np.arange(width) - below
    cost = np.where((offsets >= 0) & (offsets <= len(right)), offsets * SCALE, _UNREACHABLE)
    moves[0] = 2
    for i in range(1, len(left) + 1):
        j = offsets + i
        inside = (j >= 0) & (j <= len(right))
        same = right[np.clip(j - 1, 0, len(right) - 1)] == left[i - 1]
        diagonal = np.where(j >= 1, cost + np.where(same, 0, SCALE + 1), _UNREACHABLE)
        deletion = np.append(cost[1:], _UNREACHABLE) + SCALE
        best = np.where(inside, np.minimum(diagonal, deletion), _UNREACHABLE)
        cost = np.minimum.accumulate(best - climb) + climb  # any number of insertions along the row
        moves[i] = np.where(cost < best, 2, np.where(deletion < diagonal, 1, 0))
        cost = np.where(inside, cost, _UNREACHABLE)
    return moves
