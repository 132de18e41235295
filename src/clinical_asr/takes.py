"""Takes: rows that must stay on one side of a split, because they are the same recording, or as good as the same. Pure.

They share a recording, or the same words in the same voice at the same noise level: on two sides of a split, they would
be trained on and judged on at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clinical_asr.records import ClinicalUtterance

AUDIO_DIGEST = "audio_digest"
"""Extra field of a manifest row that, where present, says that two files hold the same recording."""


def takes(rows: Sequence[ClinicalUtterance], sentences: Mapping[str, str]) -> dict[str, list[str]]:
    """Row id -> ids of its take, itself included (union of all rows that share any key)."""
    take_of: dict[str, list[str]] = {}
    by_key: dict[tuple[object, ...], str] = {}
    for row in rows:
        take_of[row.id] = [row.id]
        for key in _take_keys(row, sentences[row.id]):
            first = by_key.setdefault(key, row.id)
            _join(take_of, first, row.id)
    return take_of


def _take_keys(row: ClinicalUtterance, sentence: str) -> list[tuple[object, ...]]:
    # A NeMo manifest may cut many rows from one file by offset; those are different recordings.
    offset = row.extra.get("offset", 0)
    keys: list[tuple[object, ...]] = [
        ("file", row.audio_filepath, offset),
        ("said", sentence, row.voice_id, row.noise_level),
    ]
    digest = row.extra.get(AUDIO_DIGEST)
    return [*keys, ("digest", str(digest), offset)] if digest else keys


def _join(take_of: dict[str, list[str]], one: str, other: str) -> None:
    if take_of[one] is take_of[other]:
        return
    small, large = sorted((take_of[one], take_of[other]), key=len)
    large.extend(small)
    for row_id in small:
        take_of[row_id] = large
