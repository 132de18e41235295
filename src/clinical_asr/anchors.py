"""Places that every alignment with the fewest errors passes: there two long texts fall apart into pairs of short ones.

Finding the most hits among all alignments with the fewest errors takes time by the square of the length; the number of
errors alone takes far less (bit-parallel: G. Myers, 1999). So a long pair is first cut where the number of errors alone
proves that every such alignment passes. Each pair of pieces is then aligned by itself, and the best alignments of the
pieces make up a best one of the whole. Texts come in with one character per word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rapidfuzz.distance import Levenshtein

SHORT = 64
"""Words up to which a side is not cut: more than the sentence that is the usual row."""
HINT = 64
"""Errors that rapidfuzz tries first, doubling from there; without a first guess it looks at every pair of words."""
_APART = 16  # words between two rare ones that are tried; closer ones would cost more than the shorter pieces save
_SHARE = 16  # a group that cannot be proved is halved until it is this part of all that are tried
_TRIES = 3  # runs of hits about the middle
_SPOILT = "\0"  # equal to no word

Place = tuple[int, int]
"""Words before it in the reference and in the hypothesis."""


def pieces(left: str, right: str) -> Iterator[tuple[Place, str, str]]:
    """The two texts cut at their anchors, in order: where a pair of pieces begins, and the pieces.

    >>> list(pieces("abc", "abd"))
    [((0, 0), 'abc', 'abd')]
    >>> said = "".join(map(chr, range(100, 200)))
    >>> [(place, len(one), len(other)) for place, one, other in pieces(said, said[:50] + "x" + said[50:])][-1]
    ((83, 84), 17, 17)
    """
    cuts = anchors(left, right) if min(len(left), len(right)) > SHORT else []
    for (i, j), (k, m) in zip([(0, 0), *cuts], [*cuts, (len(left), len(right))], strict=True):
        if 4 * (k - i) >= 3 * len(left):  # not cut, or hardly any shorter: looking again would take too long
            yield (i, j), left[i:k], right[j:m]
            continue
        for (a, b), one, other in pieces(left[i:k], right[j:m]):
            yield (i + a, j + b), one, other


def anchors(left: str, right: str) -> list[Place]:
    """Some of the places inside the texts that every alignment with the fewest errors passes, in order.

    >>> anchors("abcxde", "abcde"), anchors("abab", "baba")
    ([(1, 1)], [])
    """
    edits = Levenshtein.editops(left, right, score_hint=HINT)
    runs = [(block.a, block.b, block.size) for block in edits.as_matching_blocks() if block.size]
    return _rare_words(left, right, runs, len(edits)) or _middle(left, right, runs, len(edits))


def _rare_words(left: str, right: str, runs: Sequence[tuple[int, int, int]], errors: int) -> list[Place]:
    """Words that stand once in the hypothesis and are hit, as are their neighbours, and cannot be spared."""
    once = {word for word, times in Counter(right).items() if times == 1}
    found: list[Place] = []
    for a, b, size in runs:
        for i in range(a + 1, a + size - 1):
            if left[i] in once and (not found or i >= found[-1][0] + _APART):
                found.append((i, i - a + b))
    return _not_spared(left, right, errors, found, len(found) // _SHARE)


def _not_spared(left: str, right: str, errors: int, words: Sequence[Place], smallest: int) -> list[Place]:
    """Those of the words that are proved; with a single distance if all are.

    Each is spoilt in the reference, which costs one error at most. If all of them together cost as many errors as they
    are, then none can be spared: an alignment with the fewest errors that does not hit one of them would come through
    with one error less. And what is hit stands in one place only.
    """
    if not words:
        return []
    spoilt = list(left)
    for i, _ in words:
        spoilt[i] = _SPOILT
    needed = errors + len(words)
    if Levenshtein.distance("".join(spoilt), right, score_hint=needed) == needed:
        return list(words)
    half = len(words) // 2
    if half <= smallest:
        return []
    return [
        place for group in (words[:half], words[half:]) for place in _not_spared(left, right, errors, group, smallest)
    ]


def _middle(left: str, right: str, runs: Sequence[tuple[int, int, int]], errors: int) -> list[Place]:
    """One place about the middle, for texts without rare words."""
    places = [(a + size // 2, b + size // 2) for a, b, size in runs if size > 1]
    nearest = sorted(places, key=lambda place: abs(2 * place[0] - len(left)))[:_TRIES]
    return next(([place] for place in nearest if _must_pass(left, right, place, errors)), [])


def _must_pass(left: str, right: str, place: Place, errors: int) -> bool:
    """True if passing anywhere else between the same two words of the reference costs more errors.

    From one word of the hypothesis to the next, what comes before and what comes after change by one error at most
    each; so where passing costs some errors more, it costs more within half as many words too.
    """
    i, j = place
    for side in (-1, 1):
        at = j + side
        while 0 <= at <= len(right) and abs(at - i) + abs((len(right) - at) - (len(left) - i)) <= errors:
            before = Levenshtein.distance(left[:i], right[:at], score_hint=HINT)
            more = before + Levenshtein.distance(left[i:], right[at:], score_hint=HINT) - errors
            if more <= 0:
                return False
            at += side * ((more + 1) // 2)
    return True
