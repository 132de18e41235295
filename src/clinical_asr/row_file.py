"""Rows of a file, by their number: read when they are asked for, not held. Twelve bytes of each row are kept."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar, overload

import msgspec

from clinical_asr import intake
from clinical_asr.complaints import validation_error
from clinical_asr.jsonl import from_dict, parse_object
from clinical_asr.records import Row

R = TypeVar("R", bound=Row)


class RowFile(Sequence[R], Generic[R]):
    """The typed rows of a JSONL file that does not change meanwhile. Raises ManifestError as ``jsonl.iter_rows``."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        self._path, self._kind = path, kind
        self._starts, self._lines = array("q"), array("i")
        start = 0
        for number, line in intake.lines(path):
            if line.strip():
                self._starts.append(start)
                self._lines.append(number)
            start += len(line)
        self._file = intake.opened(path)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> R: ...
    @overload
    def __getitem__(self, place: slice) -> list[R]: ...
    def __getitem__(self, place: int | slice) -> R | list[R]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        self._file.seek(self._starts[place])
        return self._typed(self._lines[place], self._file.readline())

    def __iter__(self) -> Iterator[R]:
        for number, line in intake.lines(self._path):
            if line.strip():
                yield self._typed(number, line)

    def _typed(self, number: int, line: bytes) -> R:
        try:
            return from_dict(self._kind, parse_object(self._path, number, line))
        except msgspec.ValidationError as error:
            raise validation_error(self._path, number, error) from None

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def __enter__(self) -> RowFile[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
