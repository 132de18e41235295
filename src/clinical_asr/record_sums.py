"""The CRC-32 of every record among a model's weights: gigabytes, read by several threads where they lie as they are."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import IO

ReadAt = Callable[[int, int], bytes]
"""(offset, how many) -> bytes of the weights; fewer at their end. Called from several threads at once."""

THREADS = 8
"""Reading and summing let go of Python's lock; beyond this the memory is the bound."""
CHUNK = 2**20
"""Bytes that a thread holds at a time."""

Span = tuple[int, int, int]
"""(offset of a record's content, its bytes, the CRC-32 that they should have)."""


def first_damaged(records: zipfile.ZipFile, weights: IO[bytes], read_at: ReadAt | None) -> str | None:
    """Name of the first record whose content has another CRC-32 than is written, or None; ``records`` are stored.

    With ``read_at`` several threads sum at once. They can only acquit: what is not plainly whole gets its verdict, and
    its error, from zipfile alone.
    """
    if read_at is not None and _all_whole(records, weights, read_at):
        return None
    return records.testzip()


def _all_whole(records: zipfile.ZipFile, weights: IO[bytes], read_at: ReadAt) -> bool:
    try:
        spans = [_span(records, info, weights) for info in records.infolist()]
    except Exception:  # a local header that lies: zipfile will say which, in its order
        return False
    with ThreadPoolExecutor(THREADS) as threads:
        return all(threads.map(partial(_is_whole, read_at), spans))


def _span(records: zipfile.ZipFile, info: zipfile.ZipInfo, weights: IO[bytes]) -> Span:
    """Where a record lies. Raises BadZipFile and what else zipfile makes of its local header."""
    if info.compress_size != info.file_size:
        raise zipfile.BadZipFile(info.filename)
    with records.open(info):  # checks the local header and stops behind it, at the content
        return weights.tell(), info.file_size, info.CRC


def _is_whole(read_at: ReadAt, span: Span) -> bool:
    """Whether all of a record is there and sums up as it should."""
    offset, left, expected = span
    found = 0
    while left:
        chunk = read_at(offset, min(left, CHUNK))
        if not chunk:
            return False
        found, offset, left = zlib.crc32(chunk, found), offset + len(chunk), left - len(chunk)
    return found == expected
