"""Ids of very many rows in few bytes: which one stands twice, in which order they come, in what order they sort. Pure.

A Python string of 16 letters takes 65 bytes and its place in a set as many again; a million of them are most of what a
stage that reads row by row would hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
CHUNK = 4096
"""Rows at a time: large enough to be fast, small enough for flat memory."""
_WIDTH = 16
Bytes = NDArray[np.bytes_]


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Lists of at most ``size`` items, in order.

    >>> list(chunks("abc", 2))
    [['a', 'b'], ['c']]
    """
    source = iter(items)
    while some := list(islice(source, size)):
        yield some


class SeenIds:
    """Which ids came before, in 16 bytes each: an id of up to 16 bytes as it is, a longer one by its digest.

    >>> seen = SeenIds()
    >>> seen.repeated(["a", "b"]), seen.repeated(["c", "b"])
    (None, 'b')
    """

    def __init__(self) -> None:
        self._runs: list[Bytes] = []  # sorted, each more than twice as long as the next: few to look through

    def repeated(self, ids: Sequence[str]) -> str | None:
        """The first of these that came before, among them or earlier; ``None`` (and they are kept) if none did."""
        keys = np.array([_key(one) for one in ids], dtype=f"S{_WIDTH}")
        come_before = np.ones(len(keys), bool)
        come_before[np.unique(keys, return_index=True)[1]] = False
        for run in self._runs:
            come_before |= run[np.searchsorted(run, keys).clip(max=len(run) - 1)] == keys
        if come_before.any():
            return ids[int(come_before.argmax())]
        if len(keys):
            self._keep(np.sort(keys))
        return None

    def _keep(self, run: Bytes) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.concatenate([self._runs.pop(), run])
            run.sort()
        self._runs.append(run)


def _key(row_id: str) -> bytes:
    key = row_id.encode("utf-8", "surrogatepass")
    return key if len(key) <= _WIDTH else blake2b(key, digest_size=_WIDTH).digest()


class IdColumn:
    """Ids in the order in which they were added, in as many bytes each as the longest has; sorts as text does.

    >>> ids = IdColumn()
    >>> ids.add(["b", "c"]), ids.add(["a", "b"])
    (None, None)
    >>> len(ids), ids.order().tolist(), list(ids.sorted()), ids.doubled()
    (4, [2, 0, 3, 1], ['a', 'b', 'b', 'c'], 'b')
    """

    def __init__(self) -> None:
        self._parts: list[Bytes] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, ids: Sequence[str]) -> None:
        """Append a chunk."""
        self._parts.append(np.array([one.encode("utf-8", "surrogatepass") for one in ids] or [b""][:0], dtype="S"))
        self._length += len(ids)

    def order(self) -> NDArray[np.int64]:
        """Positions, smallest id first; equal ones as they came."""
        return np.argsort(self.whole(), kind="stable")

    def sorted(self) -> Iterator[str]:
        """The ids, smallest first."""
        whole = np.sort(self.whole())
        for start in range(0, len(whole), CHUNK):
            for one in whole[start : start + CHUNK].tolist():
                yield one.decode("utf-8", "surrogatepass")

    def doubled(self) -> str | None:
        """The smallest id that stands twice; ``None`` if none does."""
        whole = np.sort(self.whole())
        twice = np.flatnonzero(whole[1:] == whole[:-1])
        return whole[twice[0]].decode("utf-8", "surrogatepass") if len(twice) else None

    def whole(self) -> Bytes:
        """The ids as they came."""
        if len(self._parts) != 1:
            self._parts = [np.concatenate(self._parts or [np.array([], "S1")])]
        return self._parts[0]


class IdCodes:
    """A small number for each id, kept in as many bytes as the longest id has and one; the last number given counts.

    >>> codes = IdCodes()
    >>> codes.add(["a", "b"], 1), codes.add(["b"], 2)
    (None, None)
    >>> codes.of(["b", "c", "a"])
    [2, None, 1]
    """

    def __init__(self) -> None:
        self._ids, self._codes = IdColumn(), list[NDArray[np.uint8]]()
        self._sorted: tuple[Bytes, NDArray[np.uint8]] | None = None

    def add(self, ids: Sequence[str], code: int) -> None:
        """All of these have this number, 0 to 255."""
        self._ids.add(ids)
        self._codes.append(np.full(len(ids), code, np.uint8))
        self._sorted = None

    def of(self, ids: Sequence[str]) -> list[int | None]:
        """The number of each; ``None`` where it has none."""
        if self._sorted is None:
            order = self._ids.order()
            self._sorted = self._ids.whole()[order], np.concatenate([np.zeros(0, np.uint8), *self._codes])[order]
        known, codes = self._sorted
        keys = np.array([one.encode("utf-8", "surrogatepass") for one in ids])
        places = np.searchsorted(known, keys, side="right") - 1
        found = (places >= 0) & (known[places] == keys) if len(known) else np.zeros(len(ids), bool)
        return [int(codes[at]) if there else None for at, there in zip(places.tolist(), found.tolist(), strict=True)]
