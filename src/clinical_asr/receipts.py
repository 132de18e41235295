"""The book of receipts beside the clips: one line a clip, appended before the clip gets its name, never rewritten.

Only the names and their places in the file are held in memory, about 400 bytes a clip: 40 MB for 100,000.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from clinical_asr import wav
from clinical_asr.clips import Receipt
from clinical_asr.complaints import validation_error
from clinical_asr.errors import AudioError, ManifestError
from clinical_asr.jsonl import from_dict, parse_object, settle, to_dict
from clinical_asr.records import SAMPLE_RATE

NAME = "receipts.jsonl"


class ReceiptBook:
    """Receipts of one folder, to be read by clip name. Raises ManifestError for a line that is no receipt.

    A last line without its end was cut off by a crash; its clip has no name yet, so the line is passed over.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        part = folder / f"{NAME}.part"
        self._file = next((path for path in (part, self.path) if path.exists()), self.path)
        self._places: dict[str, int] = {}
        self._index()

    def _index(self) -> None:
        if not self._file.exists():
            return
        at = 0
        with self._file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n") and line.strip():
                    self._places[_receipt(self._file, number, line).audio_filepath] = at
                at += len(line)

    def get(self, name: str) -> Receipt | None:
        """The latest receipt of the clip of that name."""
        at = self._places.get(name)
        if at is None:
            return None
        with self._file.open("rb") as file:
            file.seek(at)
            return _receipt(self._file, 0, file.readline())

    def holds(self, name: str) -> bool:
        """True if the clip is there and, as far as its receipt tells, whole."""
        path = self.folder / name
        if not path.exists():
            return False
        receipt = self.get(name)
        return receipt is None or path.stat().st_size == wav.HEADER + 2 * round(receipt.duration * SAMPLE_RATE)


class OpenBook(ReceiptBook):
    """A book that is written into: ``receipts.jsonl.part`` until :meth:`finish`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        part = folder / f"{NAME}.part"
        if self._file != part:
            if self.path.exists():
                self.path.replace(part)
            self._file = part
        _cut_to_whole_lines(part)
        self._out = part.open("ab")

    def write(self, receipts: Sequence[Receipt]) -> None:
        """Append; on disk when this returns. Raises AudioError if the disk is full."""
        at = self._out.seek(0, os.SEEK_END)
        lines = [msgspec.json.encode(to_dict(receipt)) + b"\n" for receipt in receipts]
        try:
            self._out.write(b"".join(lines))
            self._out.flush()
            os.fsync(self._out.fileno())
        except OSError as error:
            mend = "free some space and give the same command again: it goes on from here"
            raise AudioError(f"no receipt can be written ({error.strerror})", str(self.folder), mend) from None
        for receipt, line in zip(receipts, lines, strict=True):
            self._places[receipt.audio_filepath] = at
            at += len(line)

    def finish(self) -> None:
        """Close and rename: from now on the book is complete."""
        self._out.close()
        settle(self._file, self.path)
        self._file = self.path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._out.close()
        except OSError:  # a full disk again: said already
            if error is None:
                raise


def _receipt(path: Path, number: int, line: bytes) -> Receipt:
    try:
        return from_dict(Receipt, parse_object(path, number, line))
    except msgspec.ValidationError as error:
        raise _damaged(validation_error(path, number, error)) from None
    except ManifestError as error:
        raise _damaged(error) from None


def _damaged(error: ManifestError) -> ManifestError:
    mend = "delete the line: its clip will be marked as one without a receipt"
    return ManifestError(error.path, error.line, error.field, error.why, mend)


def _cut_to_whole_lines(part: Path) -> None:
    """Drop a last line that a crash cut off, without reading the whole file."""
    if not part.exists() or not part.stat().st_size:
        return
    with part.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        tail = b""
        while b"\n" not in tail and size > len(tail):
            file.seek(max(0, size - len(tail) - 4096))
            tail = file.read()
        file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
