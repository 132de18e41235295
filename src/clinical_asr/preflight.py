"""What one line of a manifest must be: its fields, its text, its audio. Findings are values, never raised.

Every finding names file, line, field, reason and mend, so that all of them can be shown at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import wav
from clinical_asr.complaints import validation_error
from clinical_asr.containment import OUTSIDE_MEND, confined, refused_fields, refused_path
from clinical_asr.errors import AudioError, ConfigError, ManifestError
from clinical_asr.jsonl import from_dict, parse_object
from clinical_asr.noise import snr_of
from clinical_asr.records import ClinicalUtterance, Seconds, Utterance
from clinical_asr.text import DEFAULT_NORMALISER, normalise

DURATION_TOLERANCE: Seconds = 0.001
_CONTROL = re.compile("[\x00-\x1f]")
_EMPTY_ALLOWED = ("id", "voice_id")  # voice_id of general speech may be unknown


class RecordingError(ManifestError):
    """Speaks against the recording of a row, not against the row: the rest of the manifest can still be used."""


@dataclass(frozen=True)
class Line:
    """A place in a manifest, and what can be said against it."""

    path: Path
    number: int

    def finding(self, field: str, why: str, mend: str = "") -> ManifestError:
        """One finding about a field of this line."""
        return ManifestError(self.path, self.number, field, why, mend)


def parse(line: Line, content: bytes) -> dict[str, Any] | ManifestError:
    """The JSON object of a line, or why there is none."""
    try:
        return parse_object(line.path, line.number, content)
    except ManifestError as error:
        return error


def typed(line: Line, fields: Mapping[str, Any], kind: type[Utterance]) -> Utterance | list[ManifestError]:
    """The typed row, or one finding for each field that is missing or of the wrong type."""
    try:
        return from_dict(kind, fields)
    except msgspec.ValidationError as first:
        return _every_type_finding(line, fields, kind) or [validation_error(line.path, line.number, first)]


@cache
def _fields_of(kind: type[Utterance]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Kept, because msgspec works the types out anew each time: half the time of a check without audio."""
    return msgspec.structs.fields(kind)


def _every_type_finding(line: Line, fields: Mapping[str, Any], kind: type[Utterance]) -> list[ManifestError]:
    findings = []
    for field in _fields_of(kind):
        if field.name == "extra":
            continue
        if field.name in fields:
            findings += _type_findings(line, field.name, field.type, fields[field.name])
        elif field.required:
            findings.append(line.finding(field.name, "is missing", "write the field"))
    return findings


def _type_findings(line: Line, name: str, kind: Any, value: Any) -> list[ManifestError]:
    if name == "duration" and value is None:
        return [line.finding(name, "is null", "measure it: frames / rate")]
    try:
        msgspec.convert({name: value}, dict[str, kind])
    except msgspec.ValidationError as error:
        plain = str(error).partition(" - at ")[0]
        return [validation_error(line.path, line.number, msgspec.ValidationError(f"{plain} - at `$.{name}`"))]
    return []


def row_findings(
    line: Line, row: Utterance, normalisers: Sequence[str] = (DEFAULT_NORMALISER,)
) -> Iterator[ManifestError]:
    """What the row's own fields say against it, without looking at the audio; text and term as each of them writes it.

    >>> row = ClinicalUtterance(audio_filepath="a.wav", text="give a heparin-lock", duration=1.0, term="heparin lock",
    ...     entity_category="drug", ipa_source="g2p", voice_id="v", noise_level="clean", context_type="handoff")
    >>> [str(found) for found in row_findings(Line(Path("m.jsonl"), 1), row, ("clinical-v1", "flywheel-v1"))]
    ["m.jsonl line 1, term: 'heparin lock' does not occur in the text (flywheel-v1); correct the term or the text"]
    """
    said = {name: normalise(row.text, name) for name in normalisers}
    yield from _text_findings(line, row, all(said.values()))
    for field, why, mend in refused_fields(row.extra):
        yield line.finding(field, why, mend)
    if not 0 < row.duration < float("inf"):
        yield line.finding("duration", f"is {row.duration}", "measure it: frames / rate")
    try:
        snr_of(row.noise_level)
    except ConfigError as error:
        yield line.finding("noise_level", error.what, error.mend)
    if isinstance(row, ClinicalUtterance):
        yield from islice(_term_findings(line, row, said), 1)


def _text_findings(line: Line, row: Utterance, said: bool) -> Iterator[ManifestError]:
    for field in _fields_of(type(row)):
        value = getattr(row, field.name)
        if not isinstance(value, str):
            continue
        if not value.strip() and not (field.name in _EMPTY_ALLOWED and not field.required):
            yield line.finding(field.name, "is empty", "write it or delete the line")
        elif _CONTROL.search(value):
            yield line.finding(field.name, "holds a control character", "remove it")
    if row.text.strip() and not said:
        yield line.finding("text", f"{row.text[:40]!r} has no word in it", "write what is said")


def _term_findings(line: Line, row: ClinicalUtterance, said: Mapping[str, str]) -> Iterator[ManifestError]:
    """The term's words must stand in the text, in order and adjacent, however both are normalised."""
    for name, text in said.items():
        term, told = normalise(row.term, name), "" if name == DEFAULT_NORMALISER else f" ({name})"
        if not term:
            if row.term.strip():
                yield line.finding("term", f"{row.term[:40]!r} has no word in it", "write the term")
        elif text and f" {term} " not in f" {text} ":
            why = f"{row.term[:60]!r} does not occur in the text{told}"
            yield line.finding("term", why, "correct the term or the text")


def located(line: Line, audio_filepath: str, folder: Path, data_root: Path) -> Path | ManifestError:
    """Where the audio lies; never outside the data root, whether by ``..``, an absolute path or a link."""
    if why := refused_path(audio_filepath):
        return line.finding("audio_filepath", why, "write the path of a recording, without it")
    path = confined(folder / audio_filepath, data_root)
    if isinstance(path, str):
        mend = OUTSIDE_MEND if path.startswith("lies outside") else "check the path"
        return line.finding("audio_filepath", f"{audio_filepath[:120]!r} {path}", mend)
    return path


def audio_findings(line: Line, row: Utterance, path: Path) -> tuple[wav.Recording | None, list[ManifestError]]:
    """Decode the file; what it is, and what speaks against it (each a RecordingError)."""

    def finding(field: str, why: str, mend: str) -> ManifestError:
        return RecordingError(line.path, line.number, field, why, mend)

    try:
        recording = wav.read(path)
    except AudioError as error:
        return None, [finding("audio_filepath", f"{row.audio_filepath[:120]!r} {error.what}", error.mend)]
    findings = [finding("audio_filepath", fault, "record or synthesise it again") for fault in recording.faults()]
    if 0 < row.duration < float("inf") and abs(recording.duration - row.duration) > DURATION_TOLERANCE + 1e-9:
        why = f"says {row.duration} s, the file lasts {recording.duration:.4f} s"
        findings.append(finding("duration", why, f"write {round(recording.duration, 6)}"))
    return recording, findings
