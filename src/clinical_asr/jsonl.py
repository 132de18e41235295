"""Reading and writing rows: the only module that knows JSONL, CSV and JSON files.

A file that stands under its own name is complete: writers work in ``<name>.part`` and rename at the end.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from clinical_asr import intake, repeated_keys
from clinical_asr.complaints import validation_error
from clinical_asr.errors import ManifestError
from clinical_asr.records import Row

R = TypeVar("R", bound=Row)
S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")
MOST_COLUMNS = 1000
WITH_COMMAS = (
    "save it with commas (Excel: make the comma the list separator in the system's region settings, then save as CSV "
    "UTF-8; LibreOffice: save as CSV with Edit filter settings)"
)
RIGHT_FILE = "one JSON document is needed: is this the right file?"


def to_dict(row: Row) -> dict[str, Any]:
    """The row as it stands in a file: known fields first, unknown ones after them, nothing nested.

    >>> from clinical_asr.records import Term
    >>> to_dict(Term(term="cefazolin", entity_category="drug", extra={"ward": "4B"}))
    {'term': 'cefazolin', 'entity_category': 'drug', 'ward': '4B'}
    """
    fields = msgspec.to_builtins(row)
    extra = fields.pop("extra", {})
    return {**fields, **extra}


def from_dict(kind: type[R], fields: Mapping[str, Any]) -> R:
    """The typed row; fields that ``kind`` does not name go to ``extra``. Raises ``msgspec.ValidationError``."""
    known = _field_names(kind)
    named = {name: value for name, value in fields.items() if name in known}
    rest = {name: value for name, value in fields.items() if name not in known}
    return msgspec.convert({**named, "extra": rest}, kind)


_FIELD_NAMES: dict[type, frozenset[str]] = {}


def _field_names(kind: type[Row]) -> frozenset[str]:
    names = _FIELD_NAMES.get(kind)
    if names is None:
        names = _FIELD_NAMES[kind] = frozenset(f.name for f in msgspec.structs.fields(kind)) - {"extra"}
    return names


def iter_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each non-blank line. Raises ManifestError that names the line."""
    try:
        for line_number, line in intake.lines(path):
            if line.strip():
                yield line_number, parse_object(path, line_number, line)
    except OSError as error:
        raise ManifestError(path, None, "", _os_reason(error), "check the path") from None


def parse_object(path: Path, line_number: int, line: bytes) -> dict[str, Any]:
    """The JSON object of one line. Raises ManifestError that names the line."""
    mend = "write one JSON object a line"
    try:
        parsed = msgspec.json.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ManifestError(path, line_number, "", f"is not UTF-8 ({error.reason})", "save it as UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        if line.startswith(b"\xef\xbb\xbf"):
            mend = "save the file as UTF-8 without a byte order mark"
        raise ManifestError(path, line_number, "", f"is not JSON ({error})", mend) from None
    if not isinstance(parsed, dict):
        raise ManifestError(path, line_number, "", "is not a JSON object", mend)
    repeated_keys.refuse(path, line_number, line, parsed)
    return parsed


def iter_rows(path: Path, kind: type[R]) -> Iterator[R]:
    """Typed rows, one at a time. Raises ManifestError naming file, line, field and reason."""
    for line_number, fields in iter_objects(path):
        try:
            yield from_dict(kind, fields)
        except msgspec.ValidationError as error:
            raise validation_error(path, line_number, error) from None


def iter_glances(path: Path, kind: type[S]) -> Iterator[S]:
    """Some fields of each line, fast and unchecked: lines that are no such row are passed over.

    For a first look at a file that is read whole afterwards; that says what is wrong with it.
    """
    decoder = msgspec.json.Decoder(kind)
    with suppress(OSError, ManifestError):
        for _, line in intake.lines(path):
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                yield decoder.decode(line)


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """All typed rows of a file."""
    return list(iter_rows(path, kind))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write all rows at once, atomically."""
    deque(writing(path, rows, lambda row: row), maxlen=0)


def writing(path: Path, items: Iterable[T], row_of: Callable[[T], Row], then: Callable[[], Any] = bool) -> Iterator[T]:
    """The same items, the row of each written on its way; the file stands, atomically, when the last has passed.

    ``then`` is called before that, once all rows have found room on the disk.
    """
    encoder = msgspec.json.Encoder()
    with atomic_path(path) as part:
        with part.open("wb") as file:
            for item in items:
                file.write(encoder.encode(to_dict(row_of(item))) + b"\n")
                yield item
        then()


def append_row(path: Path, row: Row) -> None:
    """Add one row to a file that only ever grows (a journal, verdicts); on disk when this returns."""
    _append(path, msgspec.json.encode(to_dict(row)) + b"\n")


def _append(path: Path, content: bytes) -> None:
    """Add to a file all of it or, on a full disk, nothing; on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        begin, left = file.tell(), content
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            if os.fstat(file.fileno()).st_size == begin + len(content) - len(left):  # nobody else has added meanwhile
                with suppress(OSError):
                    os.ftruncate(file.fileno(), begin)
            raise _named(error, path) from None


def _named(error: OSError, path: Path) -> OSError:
    """The same error; one of an open file does not say which file that is."""
    error.filename = error.filename or str(path)
    return error


class RowWriter:
    """Appends rows to ``<path>.part``; the same command again continues where it stopped.

    ``known`` holds the ids already written (a line cut off by a crash is dropped). ``finish`` renames the file to
    its own name: present means complete.
    """

    def __init__(self, path: Path, kind: type[Row], *, key: str = "id") -> None:
        self.path, self.part = path, path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_folder(path)
        self.rows = complete_rows(self.part, kind)
        self.known = {getattr(row, key) for row in self.rows}
        self._file = self.part.open("ab")
        self._encoder = msgspec.json.Encoder()

    def write(self, rows: Sequence[Row]) -> None:
        """Append a batch and force it to disk: what has been written is never computed again."""
        self._file.write(b"".join(self._encoder.encode(to_dict(row)) + b"\n" for row in rows))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows.extend(rows)

    def finish(self) -> None:
        """Close and rename: from now on the file is complete."""
        self._file.close()
        settle(self.part, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()


def complete_rows(part: Path, kind: type[R]) -> list[R]:
    """Rows of an unfinished file; a last line without its newline is cut off the file."""
    if not part.exists():
        return []
    content = part.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    if len(complete) < len(content):
        part.write_bytes(complete)
    return read_rows(part, kind)


class atomic_path:  # noqa: N801 - reads as a function
    """``with atomic_path(p) as part``: write ``part``; it becomes ``p`` if the block succeeds, else it is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Always the same name: what a killed process left is written over by the next, so no litter stays. Another one
        # than RowWriter's, which may be open beside it.
        self.part = path.with_name(f"{path.name}.new.part")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_folder(self.path)
        return self.part

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            settle(self.part, self.path)
        else:
            self.part.unlink(missing_ok=True)
            if isinstance(error, OSError):
                _named(error, self.path)


def _refuse_folder(path: Path) -> None:
    """Raises IsADirectoryError before anything is written: at the end, it would name the passing file instead."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def settle(part: Path, path: Path) -> None:
    """Give a finished file its name so that a power cut finds either no file or the whole one.

    Content first, then the name, then the folder that holds the name: a rename may reach the disk before the bytes.
    """
    sync(part)
    part.replace(path)
    sync(path.parent)


def sync(place: Path) -> None:
    """Return when a file's content, or a folder's names, would survive a power cut."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write one indented JSON document atomically; structs, dataclasses, enums and paths are allowed."""
    document = msgspec.json.encode(value, enc_hook=str, order="deterministic")
    write_text(path, msgspec.json.format(document, indent=2).decode() + "\n")


def read_json(path: Path, kind: Any = Any) -> Any:
    """One JSON document, typed if ``kind`` is given. Raises ManifestError."""
    try:
        content = intake.document(path)
        if not content.strip():
            raise ManifestError(path, None, "", "is empty", RIGHT_FILE)
        return msgspec.json.decode(content, type=kind)
    except OSError as error:
        raise ManifestError(path, None, "", _os_reason(error), "check the path") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(path, None, "", f"cannot be read ({error})", RIGHT_FILE) from None


def read_csv(path: Path, kind: type[R], required: Sequence[str] = ()) -> list[R]:
    """Typed rows of a CSV file with a header. Raises ManifestError naming the line and the column."""
    try:
        with intake.opened(path) as file:
            return _typed_csv_rows(path, csv.DictReader(intake.text_lines(path, file)), kind, required)
    except csv.Error as error:
        raise ManifestError(path, None, "", f"is not CSV ({error})", "save it as plain CSV") from None
    except UnicodeDecodeError as error:
        raise ManifestError(path, None, "", f"is not UTF-8 ({error.reason})", "save it as UTF-8") from None
    except OSError as error:
        raise ManifestError(path, None, "", _os_reason(error), "check the path") from None


def _typed_csv_rows(path: Path, reader: csv.DictReader[str], kind: type[R], required: Sequence[str]) -> list[R]:
    if not reader.fieldnames and next(reader, None) is None:
        raise ManifestError(path, None, "", "is empty", f"write the header {','.join(required)} and one row a line")
    reader.fieldnames = as_required(reader.fieldnames or (), required)
    missing = [name for name in required if name not in reader.fieldnames]
    if missing:
        mend = f"the header is: {','.join(required)}"
        if any(mark in "".join(reader.fieldnames) for mark in ";\t"):
            mend += f"; this file has semicolons or tabs between its columns: {WITH_COMMAS}"
        raise ManifestError(path, 1, missing[0], "column is missing", mend)
    _refuse_header(path, reader.fieldnames)
    rows = []
    for fields in reader:
        if None in fields or None in fields.values():
            mend = 'put a value that holds a comma in double quotes, and close every quote: "insulin, regular",drug'
            raise ManifestError(path, reader.line_num, "", "has another number of columns than the header", mend)
        try:
            rows.append(from_dict(kind, {name: _without_guard(value.strip()) for name, value in fields.items()}))
        except msgspec.ValidationError as error:
            raise validation_error(path, reader.line_num, error) from None
    return rows


def as_required(names: Sequence[str], required: Sequence[str]) -> list[str]:
    """A header with the columns that are needed in lower case, however they were written.

    >>> as_required(["Term", "Ward "], ["term", "entity_category"])
    ['term', 'Ward ']
    """
    plain = [name.strip().lower() for name in names]
    return [low if low in required and low not in names else name for name, low in zip(names, plain, strict=True)]


def _refuse_header(path: Path, names: Sequence[str]) -> None:
    if len(names) > MOST_COLUMNS:
        raise ManifestError(path, 1, "", f"has more than {MOST_COLUMNS} columns", "is this the right file?")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ManifestError(path, 1, twice[:60], "column stands twice", "keep one of the two")


_FORMULA = re.compile(r"'*[=+\-@]")


def _guarded(value: Any) -> Any:
    """A spreadsheet runs what begins with ``=``, ``+``, ``-`` or ``@``; an apostrophe before it says that it is text.

    >>> _guarded("=1+1"), _guarded("-5"), _guarded("heparin"), _without_guard(_guarded("'=x"))
    ("'=1+1", '-5', 'heparin', "'=x")
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
        return value
    return f"'{value}"


def _without_guard(value: str) -> str:
    """What :func:`_guarded` was given."""
    return value[1:] if value.startswith("'") and _FORMULA.match(value[1:]) else value


def write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write rows with exactly these columns, atomically."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(_cells(row) for row in rows)


def _cells(row: Row) -> dict[str, Any]:
    return {name: _guarded(value) for name, value in to_dict(row).items()}


def append_csv(path: Path, row: Row, columns: Sequence[str]) -> None:
    """Add one row to a CSV file that only ever grows; a new file gets ``columns`` as its header. On disk when done.

    Columns are written in the order of the file's own header; those it has beyond ``columns`` come from ``extra``.
    Raises ManifestError if the file lacks a column.
    """
    header, new, ends_open = _csv_header(path, columns)
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", extrasaction="ignore", lineterminator="\n")
    if new:
        writer.writeheader()
    writer.writerow(_cells(row))
    _append(path, (("\n" if ends_open else "") + text.getvalue()).encode("utf-8"))


def _csv_header(path: Path, columns: Sequence[str]) -> tuple[list[str], bool, bool]:
    """(columns of the file, whether it is still to be begun, whether its last line lacks a newline)."""
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf") if path.exists() else b""
    if not content.strip():
        return list(columns), True, False
    read_csv(path, Row, required=columns)
    first = next(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
    return as_required(first, columns), False, not content.endswith((b"\n", b"\r"))


def _os_reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
