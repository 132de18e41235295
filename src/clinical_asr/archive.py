"""What a ``.nemo`` archive may hold, checked on its list of members before anything in it is read or unpacked.

A ``.nemo`` is a tar, older ones gzipped. Every rule below is a refusal, never a member skipped over: an archive with
one thing in it that does not belong there is not one to train on.
"""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from clinical_asr.errors import ConfigError, ModelError

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"
ARTIFACT = re.compile(r"([0-9a-f]{32}_)?[\w+-][\w.+-]*\.(model|vocab|txt|json|tsv)")
"""Tokenizers and word lists, under the names NeMo gives them. A second YAML, a script or a library is none."""
LARGEST = {CONFIG: 8 * 2**20, "": 64 * 2**20}
"""Bytes a member may have; ``""`` stands for every artifact. The weights are bounded by the size of the file."""
MOST_MEMBERS = 1000
MOST_EXPANSION = 20
"""Trained weights hardly compress: a gzipped archive that grows more than this is a bomb."""
FREE_EXPANSION = 64 * 2**20
LARGEST_HEADER = 2**20
LARGEST_READ = 64 * 2**20

DO_NOT_USE, GET_AGAIN = "do not use this file", "get the file again"
UNSAFE_LOADING = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
DAMAGE = (
    OSError, EOFError, UnicodeDecodeError, NotImplementedError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What the readers of tar and zip raise for bytes that are not as they should be."""


def refuse_unsafe_environment(environment: Mapping[str, str]) -> None:
    """Raise ConfigError if PyTorch has been told to run whatever a checkpoint says.

    >>> refuse_unsafe_environment({"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"})
    Traceback (most recent call last):
    clinical_asr.errors.ConfigError: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD: is set, so loading a model may run code in ...
    """
    if environment.get(UNSAFE_LOADING, "").strip():
        raise ConfigError("is set, so loading a model may run code in it", UNSAFE_LOADING, f"unset {UNSAFE_LOADING}")


@dataclass
class Archive:
    """An open ``.nemo`` whose members keep the rules."""

    path: Path
    members: dict[str, tarfile.TarInfo]
    """By name, without a leading ``./``."""
    _tar: tarfile.TarFile
    _plain: IO[bytes] | None = None
    """The file itself, unless it is gzipped."""

    def open(self, name: str) -> IO[bytes]:
        """The content of a member. Raises ModelError if there is none."""
        file = self._tar.extractfile(self.members[name]) if name in self.members else None
        if file is None:
            raise ModelError(f"holds no {name}", str(self.path), "is it a NeMo model?")
        return file

    def read(self, name: str) -> bytes:
        """All of a member's content; its size has been checked."""
        with self.open(name) as file:
            return file.read(self.members[name].size)

    def reader(self, name: str) -> Callable[[int, int], bytes] | None:
        """(offset, how many) -> bytes of a member, for several threads at once; None where the archive is gzipped."""
        if self._plain is None:
            return None
        member, descriptor = self.members[name], self._plain.fileno()
        return lambda at, count: os.pread(descriptor, max(0, min(count, member.size - at)), member.offset_data + at)


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """An archive that keeps the rules. Raises ModelError; so does every error of reading it while it is open."""
    try:
        with path.open("rb") as file:
            measured = _Measured(path, file)
            with tarfile.open(fileobj=measured, mode="r:") as tar:  # type: ignore[call-overload]
                archive = Archive(path, _listed(path, tar), tar, None if measured.packed else file)
                measured.largest = LARGEST_READ
                yield archive
    except FileNotFoundError:
        raise ModelError("no such file", where=str(path), mend="check the path of the base") from None
    except tarfile.ReadError as error:
        raise ModelError(f"is not a .nemo archive, or damaged ({one_line(error)})", str(path), GET_AGAIN) from None
    except DAMAGE as error:
        raise ModelError(f"is damaged ({one_line(error)})", str(path), GET_AGAIN) from None


def is_packed(file: IO[bytes]) -> bool:
    """True for a gzipped file, as old archives are: nothing in them can be read out of turn."""
    first = file.read(2)
    file.seek(0)
    return first == b"\x1f\x8b"


class _Measured:
    """The archive as a plain tar, whatever its compression, that cannot be read beyond what such a file can hold.

    The reader of tar headers takes sizes on trust; a header that claims gigabytes ends here.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.largest = path, LARGEST_HEADER
        size = path.stat().st_size
        self.packed = is_packed(file)
        self._file: Any = gzip.GzipFile(fileobj=file) if self.packed else file
        self.limit = MOST_EXPANSION * size + FREE_EXPANSION if self.packed else size

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.largest:
            raise ModelError(f"has a header that asks for {size:,} bytes", str(self.path), DO_NOT_USE)
        self._refuse_beyond(self._file.tell())
        return bytes(self._file.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0:
            self._refuse_beyond(offset)
        return int(self._file.seek(offset, whence))

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def _refuse_beyond(self, offset: int) -> None:
        if offset < 0:
            raise ModelError("has a member that begins before the file", str(self.path), DO_NOT_USE)
        if offset > self.limit + tarfile.RECORDSIZE and isinstance(self._file, gzip.GzipFile):
            what = f"unpacks to more than {MOST_EXPANSION} times its size: a decompression bomb"
            raise ModelError(what, str(self.path), DO_NOT_USE)


def _listed(path: Path, tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    count = 0
    while (entry := _next(path, tar)) is not None:  # a bad member is refused before it is skipped over
        count += 1
        if count > MOST_MEMBERS:
            raise ModelError(f"has more than {MOST_MEMBERS} members", str(path), DO_NOT_USE)
        name = entry.name.removeprefix("./")
        for broken, what in MEMBER_RULES:
            if broken(entry, name):
                raise ModelError(f"its member {entry.name[:80]!r} {what}", str(path), DO_NOT_USE)
        if entry.isfile():
            if name in members:
                raise ModelError(f"its member {name!r} is there twice", str(path), DO_NOT_USE)
            members[name] = entry
    for name in (CONFIG, WEIGHTS):
        if name not in members:
            raise ModelError(f"holds no {name}", str(path), "is it a NeMo model?")
    return members


def _next(path: Path, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except (ValueError, KeyError, IndexError, OverflowError, RecursionError) as error:  # crooked extended headers
        raise ModelError(f"has a member that cannot be read ({one_line(error)})", str(path), DO_NOT_USE) from None


def _is_outside(entry: tarfile.TarInfo, name: str) -> bool:
    """
    >>> [_is_outside(tarfile.TarInfo(), name) for name in ("../a", "/etc/passwd", "C:\\\\a", "a.txt")]
    [True, True, True, False]
    """
    return name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name or "\0" in name


def _is_unknown(entry: tarfile.TarInfo, name: str) -> bool:
    if entry.isdir():
        return name not in ("", ".")
    return name not in (CONFIG, WEIGHTS) and ARTIFACT.fullmatch(name) is None


def _is_too_large(entry: tarfile.TarInfo, name: str) -> bool:
    return entry.size < 0 or (name != WEIGHTS and entry.size > LARGEST.get(name, LARGEST[""]))


Rule = Callable[[tarfile.TarInfo, str], bool]

MEMBER_RULES: tuple[tuple[Rule, str], ...] = (
    (_is_outside, "points outside the archive"),
    (lambda entry, _: not (entry.isfile() or entry.isdir()), "is a link or device"),
    (lambda entry, _: entry.issparse(), "is a sparse file"),
    (_is_too_large, "is larger than such a member can be"),
    (_is_unknown, "does not belong in a NeMo model"),
)
"""In this order: (member, its name without ``./``) -> is it broken; and what is then said."""


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 160 characters."""
    return " ".join(str(error).split())[:160] or type(error).__name__
