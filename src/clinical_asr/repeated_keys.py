"""The same key twice in one JSON object: one reader takes the first, another the last; neither is what was meant."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from clinical_asr.errors import ManifestError

_KEY_END = re.compile(rb'"\s*:')


def refuse(path: Path, line_number: int, line: bytes, parsed: dict[str, Any]) -> None:
    """Raises ManifestError if ``line``, which was read as ``parsed``, holds a key twice at any depth."""
    if len(_KEY_END.findall(line)) != _keys_of(parsed):  # a text that looks like a key, or the same key again
        _refuse(path, line_number, line)


def _keys_of(value: dict[str, Any]) -> int:
    """Keys of an object and of all that is nested in it."""
    total, nested = 0, list[Any]([value])
    while nested:
        one = nested.pop()
        if type(one) is dict:
            total += len(one)
            one = one.values()
        nested += [inner for inner in one if type(inner) is dict or type(inner) is list]
    return total


def _refuse(path: Path, line_number: int, line: bytes) -> None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise ManifestError(path, line_number, twice[:60], "stands twice", "keep one of the two")
        return keys

    try:
        json.loads(line, object_pairs_hook=once)
    except RecursionError:
        raise ManifestError(path, line_number, "", "is nested too deeply", "write plain fields") from None
