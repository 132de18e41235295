"""Errors in numbers, units, negations and sides: small words that turn an order round.

Digits and spelled numbers are read as the same value, unit names as the same unit (see ``number_words``), before the
two sides are aligned; within each stretch that differs, the tokens of one kind are compared with each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from clinical_asr.alignment import align_words, common_ends
from clinical_asr.error_count import ErrorCount
from clinical_asr.metrics import word_errors
from clinical_asr.number_words import KINDS, Token, is_telling, kind_counts, read
from clinical_asr.occurrences import Normaliser, as_function
from clinical_asr.text import DEFAULT_NORMALISER

__all__ = ["KINDS", "number_errors", "word_number_errors"]


def number_errors(
    reference: str, hypothesis: str, normaliser: Normaliser = DEFAULT_NORMALISER
) -> dict[str, ErrorCount]:
    """Error counts per kind: ``value``, ``unit``, ``negation``, ``laterality``; the length is what the reference has.

    A value is a value however it is written; a wrong one is an error:

    >>> number_errors("give two point five milligrams", "give 2.5 mg")["value"].errors
    0
    >>> found = number_errors("give 2.5 mg", "give 25 mcg")
    >>> found["value"].substitutions, found["unit"].substitutions, found["unit"].length
    (1, 1, 1)
    >>> number_errors("BP 120/80", "BP one hundred and twenty over eighty")["value"]
    ErrorCount(substitutions=0, deletions=0, insertions=0, hits=2, length=2)

    A negation lost or added counts, another word for it does not:

    >>> number_errors("no fever", "fever")["negation"].deletions
    1
    >>> number_errors("fever", "no fever")["negation"].insertions
    1
    >>> number_errors("patient denies any pain", "patient has no pain")["negation"].errors
    0

    Sides:

    >>> number_errors("left knee", "right knee")["laterality"]
    ErrorCount(substitutions=1, deletions=0, insertions=0, hits=0, length=1)
    """
    clean = as_function(normaliser)
    return word_number_errors(clean(reference).split(), clean(hypothesis).split())


def word_number_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> dict[str, ErrorCount]:
    """``number_errors`` for the words of two normalised texts."""
    if reference == hypothesis:
        return dict(zip(KINDS, map(_all_hits, kind_counts(reference)), strict=True))
    head, tail = _untouched_ends(reference, hypothesis)
    same = kind_counts([*reference[:head], _END, *reference[len(reference) - tail :]])
    totals = dict(zip(KINDS, map(_all_hits, same), strict=True))
    middle = [side[head : len(side) - tail] for side in (reference, hypothesis)]
    if not any(map(is_telling, middle[0])) and not any(map(is_telling, middle[1])):  # no number is touched
        return totals
    for said, heard in _stretches(*map(read, middle)):
        for kind in {token[0] for token in (*said, *heard)}:
            totals[kind] += _edits(_of(kind, said), _of(kind, heard))
    return totals


_END = "|"  # stands for the words between the ends, so that no number is read across them


def _untouched_ends(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[int, int]:
    """Words that both sides begin and end with, less those that may belong to a number in what differs."""
    head, tail = common_ends(reference, hypothesis)
    while head and is_telling(reference[head - 1]):
        head -= 1
    while tail and is_telling(reference[-tail]):
        tail -= 1
    return head, tail


_NONE = ErrorCount.zero()


@lru_cache(maxsize=1 << 10)
def _all_hits(n: int) -> ErrorCount:
    return ErrorCount(0, 0, 0, n, n) if n else _NONE


def _of(kind: str, some: Sequence[Token]) -> list[str]:
    return [text for token_kind, text in some if token_kind == kind]


def _edits(said: list[str], heard: list[str]) -> ErrorCount:
    """Word errors; most stretches hold so few that nothing has to be aligned."""
    n, m = len(said), len(heard)
    if said == heard:
        return _all_hits(n)
    if not n or not m:
        return ErrorCount(0, n, m, 0, n)
    if n == m == 1:
        return ErrorCount(1, 0, 0, 0, 1)
    return word_errors(" ".join(said), " ".join(heard))


def _stretches(left: Sequence[Token], right: Sequence[Token]) -> Iterator[tuple[list[Token], list[Token]]]:
    """Runs of differences, and all that was heard as said as one more; plain words are left out."""
    hits, said, heard = list[Token](), list[Token](), list[Token]()
    for operation, i, j in align_words(left, right):
        if operation == "hit":
            if said or heard:
                yield said, heard
                said, heard = [], []
            if left[i][0] != "word":
                hits.append(left[i])
            continue
        if i >= 0 and left[i][0] != "word":
            said.append(left[i])
        if j >= 0 and right[j][0] != "word":
            heard.append(right[j])
    yield said, heard
    yield hits, hits
