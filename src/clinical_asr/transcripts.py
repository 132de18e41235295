"""Transcripts of other tools as hypotheses: NeMo's JSONL, or references and hypotheses in files or folders.

Rows pair by id; a row without one gets its id from ``audio_filepath`` (and ``offset``), reference and term. A folder
pairs by file stem. Only two plain text files pair line by line, and only if they have equally many lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import intake
from clinical_asr.complaints import validation_error
from clinical_asr.errors import ManifestError, ScoringError
from clinical_asr.jsonl import from_dict, iter_objects
from clinical_asr.records import Hypothesis, row_id
from clinical_asr.row_ids import SeenIds, chunks

_JSON_SUFFIXES = {".jsonl", ".json", ".ndjson"}


def read_transcripts(path: Path) -> list[Hypothesis]:
    """Rows of our own hypotheses or of NeMo's ``text`` / ``pred_text`` JSONL. Raises ManifestError naming the line."""
    return list(iter_transcripts(path))


def iter_transcripts(path: Path) -> Iterator[Hypothesis]:
    """The same, row by row; 16 bytes of each row are kept, to know its id again."""
    seen, rows = SeenIds(), list[Hypothesis]()
    for rows in chunks(_transcript(path, line_number, fields) for line_number, fields in iter_objects(path)):
        twice = seen.repeated([row.id for row in rows])
        if twice is not None:
            raise _stands_twice(path, twice)
        yield from rows
    if not rows:
        raise ManifestError(path, None, "", "holds no rows", "transcribe a manifest first: clinical-asr hypotheses")


def _stands_twice(path: Path, row_id: str) -> ManifestError:
    """The error that names both lines, which are looked for only now."""
    lines = (line for line, fields in iter_objects(path) if _transcript(path, line, fields).id == row_id)
    first, second = islice(lines, 2)
    return ManifestError(path, second, "id", f"{row_id} stands on line {first} already", "keep one of the lines")


def _transcript(path: Path, line_number: int, fields: Mapping[str, Any]) -> Hypothesis:
    for name, mend in (("text", "add the reference"), ("pred_text", "transcribe it: clinical-asr hypotheses")):
        if fields.get(name) is None:
            raise ManifestError(path, line_number, name, "is missing", mend)
    named = {**fields, "id": fields.get("id") or _derived_id(path, line_number, fields)}
    named = {name: value for name, value in named.items() if value is not None}
    if named.get("entity_category") == "":
        del named["entity_category"]
    try:
        return from_dict(Hypothesis, {"audio_filepath": "", "duration": 0.0, **named})
    except msgspec.ValidationError as error:
        raise validation_error(path, line_number, error) from None


def _derived_id(path: Path, line_number: int, fields: Mapping[str, Any]) -> str:
    """Identity of a row that has none: which recording, what was said, which term."""
    audio = fields.get("audio_filepath")
    if not audio:
        raise ManifestError(path, line_number, "id", "is missing, and so is audio_filepath: nothing to key the row by")
    recording = f"path:{audio}@{fields.get('offset') or 0}"
    return row_id(recording, str(fields.get("text", "")), str(fields.get("term") or ""))


def read_pairs(reference: Path, hypothesis: Path) -> list[Hypothesis]:
    """References and hypotheses that lie apart: two folders (by stem), JSONL files (by id), text files (by line).

    Raises ScoringError if the two do not fit together, naming what is on one side only.
    """
    if reference.is_dir() != hypothesis.is_dir():
        raise ScoringError("one side is a folder and the other is a file", where=f"{reference} / {hypothesis}",
                           mend="give two folders or two files")  # fmt: skip
    if reference.is_dir():
        return _paired(_folder(reference), _folder(hypothesis), reference, hypothesis)
    if _is_jsonl(reference) != _is_jsonl(hypothesis):
        raise ScoringError("one side is JSONL and the other is plain text", where=f"{reference} / {hypothesis}",
                           mend="give both in one format")  # fmt: skip
    if _is_jsonl(reference):
        return _paired(_by_id(reference, ("text",)), _by_id(hypothesis, ("pred_text", "text")), reference, hypothesis)
    return _line_by_line(reference, hypothesis)


def _is_jsonl(path: Path) -> bool:
    return path.suffix.lower() in _JSON_SUFFIXES


def _folder(folder: Path) -> dict[str, dict[str, Any]]:
    """File stem -> its text; hidden files are left out."""
    texts: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in texts:
            raise ScoringError(f"two files with the stem {path.stem!r}", where=str(folder), mend="files pair by stem")
        texts[path.stem] = {"text": intake.text(path)}
    if not texts:
        raise ScoringError("holds no files", where=str(folder), mend="put one text file a recording there")
    return texts


def _by_id(path: Path, text_fields: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Row id (or audio path, where no row has an id) -> the row's fields, its text under ``text``."""
    rows: dict[str, dict[str, Any]] = {}
    for line_number, fields in iter_objects(path):
        text = next((fields[name] for name in text_fields if fields.get(name) is not None), None)
        if not isinstance(text, str):
            raise ManifestError(
                path, line_number, text_fields[0], "is missing or not text", "write what was said or heard"
            )
        key = fields.get("id") or fields.get("audio_filepath")
        if not key or str(key) in rows:
            why = f"{key} stands twice" if key else "is missing, and so is audio_filepath"
            raise ManifestError(path, line_number, "id", why, "rows pair by id")
        rows[str(key)] = {**fields, "text": text}
    if not rows:
        raise ManifestError(path, None, "", "holds no rows", "write one JSON object a line")
    return rows


def _paired(
    references: Mapping[str, Mapping[str, Any]], hypotheses: Mapping[str, Mapping[str, Any]], left: Path, right: Path
) -> list[Hypothesis]:
    for here, there, path in ((references, hypotheses, right), (hypotheses, references, left)):
        lost = [key for key in here if key not in there]
        if lost:
            raise ScoringError(f"lacks {len(lost)} of the other side's rows: {', '.join(lost[:3])}", where=str(path),
                               mend="pair every reference with one hypothesis")  # fmt: skip
    return [_joined(left, key, fields, hypotheses[key]["text"]) for key, fields in references.items()]


def _joined(path: Path, key: str, fields: Mapping[str, Any], pred_text: str) -> Hypothesis:
    named = {name: value for name, value in fields.items() if value not in (None, "") or name == "text"}
    try:
        return from_dict(
            Hypothesis, {"audio_filepath": "", "duration": 0.0, **named, "id": key, "pred_text": pred_text}
        )
    except msgspec.ValidationError as error:
        named_error = validation_error(path, 0, error)
        raise ScoringError(named_error.why, f"{path}, row {key}, {named_error.field}", named_error.mend) from None


def _line_by_line(reference: Path, hypothesis: Path) -> list[Hypothesis]:
    left, right = list(_lines(reference)), list(_lines(hypothesis))
    if len(left) != len(right):
        raise ScoringError(
            f"{len(left)} and {len(right)} lines: they are not aligned", where=f"{reference} / {hypothesis}",
            mend="give equally many lines, or two folders to score whole files, or JSONL with ids",
        )  # fmt: skip
    unsaid = [
        n for n, (said, heard) in enumerate(zip(left, right, strict=True), 1) if heard.strip() and not said.strip()
    ]
    if unsaid:
        mend = f"write what was said, or empty line {unsaid[0]} of {hypothesis} too"
        raise ManifestError(reference, unsaid[0], "", "is empty, but something was heard", mend)
    if not any(line.strip() for line in left):
        raise ManifestError(reference, None, "", "holds no rows", "write one reference a line")
    pairs = enumerate(zip(left, right, strict=True), 1)
    return [
        Hypothesis(id=f"line {n}", audio_filepath="", duration=0.0, text=said, pred_text=heard)
        for n, (said, heard) in pairs
        if said.strip() or heard.strip()
    ]


def _lines(path: Path) -> Iterator[str]:
    """Lines as an editor counts them: only a line feed ends one."""
    text = intake.text(path)
    yield from text.removesuffix("\n").split("\n") if text else ()
