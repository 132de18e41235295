"""What a manifest row may lead to: one recording, by a path below the data root; no program, address or second file.

A manifest is a file of somebody else's until it has been checked. NeMo and lhotse open more than ``audio_filepath``:
fields that go before it, texts named by their path, commands behind ``pipe:``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from clinical_asr.records import SAMPLE_RATE

OTHER_FILES = frozenset({
    "audio_file", "audio_filename", "video_file", "video_filename", "video_filepath", "text_filepath",
    "context_filepath", "rttm_file", "rttm_filename", "rttm_filepath", "feature_file", "feature_filename",
    "feature_filepath",
})  # fmt: skip
"""Fields of NeMo's manifests that name a second file; the first two go before ``audio_filepath``."""
_ADDRESS = re.compile(r"\s*(pipe:|[a-z][a-z0-9+.-]*:/)", re.IGNORECASE)
OUTSIDE_MEND = "name a data root that holds it (--data-root), or move the audio"


def refused_path(audio_filepath: str) -> str:
    """Why a path is no path to a recording, whatever lies there; empty if it may be one.

    >>> refused_path("audio/a.wav"), refused_path("pipe:cat /etc/passwd |")
    ('', "'pipe:cat /etc/passwd |' is a command or an address, not a file")
    """
    if _ADDRESS.match(audio_filepath):
        return f"{audio_filepath[:120]!r} is a command or an address, not a file"
    if ".." in PurePosixPath(audio_filepath.replace("\\", "/")).parts:
        return f"{audio_filepath[:120]!r} holds '..'"
    return ""


def refused_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(field, why, mend) of what NeMo would act on behind the back of the fields that are checked.

    >>> [field for field, _, _ in refused_fields({"text_filepath": "/etc/passwd", "offset": 0, "ward": "4B"})]
    ['text_filepath']
    """
    for name in sorted(OTHER_FILES & fields.keys()):
        yield name, "leads NeMo to a second file", "remove the field; the recording is audio_filepath, its text is text"
    if fields.get("offset"):
        yield "offset", f"is {fields['offset']!r:.40}: parts of recordings are not used here", "cut the recording"
    if fields.get("_skipme"):
        yield "_skipme", "makes NeMo drop the row without a word", "delete the line"
    for name in ("sampling_rate", "sample_rate"):
        if fields.get(name) not in (None, SAMPLE_RATE):
            yield name, f"is {fields[name]!r:.40}, the recording has {SAMPLE_RATE}", "remove the field"


def confined(path: Path, data_root: Path) -> Path | str:
    """The file itself, links followed, if it lies below ``data_root``; else why not."""
    try:
        followed = path.resolve()
        inside = followed.is_relative_to(data_root.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be followed ({error})"[:200]
    return followed if inside else f"lies outside the data root {data_root}"
