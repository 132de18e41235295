"""Takes: rows that must stay on one side of a split, because they are the same recording, or as good as the same. Pure.

They share a recording, or the same words in the same voice at the same noise level: on two sides of a split, they would
be trained on and judged on at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from clinical_asr.records import ClinicalUtterance

AUDIO_DIGEST = "audio_digest"
"""Extra field of a manifest row that, where present, says that two files hold the same recording."""
_NONE = 0
"""Key of a row that has none of its kind."""


def take_keys(row: ClinicalUtterance, sentence: str) -> tuple[int, int, int]:
    """File, words and digest of a row, as numbers that are equal where they are."""
    # A NeMo manifest may cut many rows from one file by offset; those are different recordings.
    offset = row.extra.get("offset", 0)
    digest = row.extra.get(AUDIO_DIGEST)
    return (
        hash((row.audio_filepath, offset)),
        hash((sentence, row.voice_id, row.noise_level)),
        hash((str(digest), offset)) if digest else _NONE,
    )


def takes(kinds: Iterable[NDArray[np.int64]]) -> NDArray[np.int32]:
    """Number of each row's take, from 0: all rows that share any key, over others too. One array of keys a kind.

    >>> takes([np.array([1, 2, 2, 3, 4]), np.array([11, 12, 13, 14, 15]), np.array([0, 0, 9, 9, 0])]).tolist()
    [0, 1, 1, 1, 2]
    """
    rows, alike = 0, list[NDArray[np.int32]]()
    for kind in kinds:
        rows = len(kind)
        alike.append(_neighbours(kind))
    pairs = np.concatenate([np.zeros((0, 2), np.int32), *alike])
    group = np.arange(rows, dtype=np.int32)
    while True:
        ends = group[pairs]
        lowest = ends.min(axis=1, initial=rows)
        if np.array_equal(ends[:, 0], ends[:, 1]):
            return np.unique(group, return_inverse=True)[1].astype(np.int32)
        for side in (0, 1):
            np.minimum.at(group, ends[:, side], lowest)
        group = _roots(group)


def _neighbours(kind: NDArray[np.int64]) -> NDArray[np.int32]:
    """Pairs of rows next to each other among those of one key: enough to hold all of them together."""
    order = np.argsort(kind, kind="stable").astype(np.int32)
    same = np.flatnonzero((kind[order[1:]] == kind[order[:-1]]) & (kind[order[1:]] != _NONE))
    return np.stack([order[same], order[same + 1]], axis=1)


def _roots(group: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each row's lowest relative, by jumping from relative to relative."""
    while True:
        lower = group[group]
        if np.array_equal(lower, group):
            return group
        group = lower
