"""A manifest that grows: new rows behind the old ones, which stay as they are, byte for byte."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from clinical_asr.jsonl import atomic_path, iter_objects, to_dict
from clinical_asr.records import ClinicalUtterance, Seconds


@dataclass
class Growth:
    """What :func:`extend` did. Counts are of the whole file, suspects of the rows that were handed in."""

    kept: int = 0
    added: int = 0
    again: int = 0
    """Rows handed in that were there: the other rows kept are of an earlier plan."""
    seconds: Seconds = 0.0
    noise_levels: Counter[str] = field(default_factory=Counter)
    suspects: list[tuple[str, str]] = field(default_factory=list)
    """(audio path, what is wrong with it)"""


def extend(path: Path, rows: Iterable[ClinicalUtterance]) -> Growth:
    """Write ``rows`` behind those that ``path`` holds; atomic, and streamed. A recording of an old row is left out.

    Raises ManifestError for a line of the old file that is not JSON; the file is not touched then.
    """
    done = Growth()
    known = _known(path, done)
    with atomic_path(path) as part, part.open("wb") as file:
        _copy(path, file)
        for row in rows:
            if row.extra.get("suspect"):
                done.suspects.append((row.audio_filepath, str(row.extra["suspect"])))
            if row.audio_filepath in known:
                done.again += 1
            else:
                known.add(row.audio_filepath)
                file.write(msgspec.json.encode(to_dict(row)) + b"\n")
                _count(done, row.duration, row.noise_level)
                done.added += 1
        file.flush()
        os.fsync(file.fileno())
    return done


def _known(path: Path, done: Growth) -> set[str]:
    known: set[str] = set()
    for _, fields in iter_objects(path) if path.exists() else ():
        known.add(str(fields.get("audio_filepath")))
        _count(done, float(fields.get("duration") or 0.0), str(fields.get("noise_level")))
        done.kept += 1
    return known


def _count(done: Growth, duration: Seconds, noise_level: str) -> None:
    done.seconds += duration
    done.noise_levels[noise_level] += 1


def _copy(path: Path, file: BinaryIO) -> None:
    """The old bytes; a last line without an end gets one."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb") as old:
        shutil.copyfileobj(old, file)
        old.seek(-1, os.SEEK_END)
        if old.read() != b"\n":
            file.write(b"\n")
