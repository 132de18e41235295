"""How a file that came from outside is opened: a plain file, a line at a time, never more than a person could mean.

A pipe would make the program wait for ever, a device would fill the memory, and so would a single line of a gigabyte.
None of them is read: what is refused is said with its line. Every reader of text in this package begins here.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from clinical_asr.errors import ManifestError

LONGEST_LINE = 4 * 2**20
"""Bytes of a line, its end included: a transcript of days. A longer one is no row but a damaged or hostile file."""
LARGEST_DOCUMENT = 64 * 2**20
"""Bytes of a file that is read as a whole: a report, a text, a recipe."""
LARGEST_YAML = 2**20
DEEPEST_YAML = 32


def opened(path: Path) -> BinaryIO:
    """The file, to be read. Never waits. Raises OSError, also for what is no plain file: a folder, pipe, device.

    The file that was looked at is the one that is read, whatever takes its name meanwhile.
    """
    return os.fdopen(_plain(path)[0], "rb")


def _plain(path: Path) -> tuple[int, int]:
    """(descriptor, bytes) of a plain file. Raises OSError as :func:`opened` does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a file but a pipe or a device", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, content with its end) of every line. Raises ManifestError for a line that is too long, OSError."""
    with opened(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise too_long(path, number)
            yield number, line


def text_lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """Lines of UTF-8, with or without a byte order mark, as the CSV reader wants them. Raises as :func:`lines` does,
    and UnicodeDecodeError."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    number = 0
    while line := text.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise too_long(path, number)
        yield line


def document(path: Path, largest: int = LARGEST_DOCUMENT) -> bytes:
    """All of a file that is read at once. Raises OSError, also for one that is larger than ``largest`` bytes."""
    descriptor, size = _plain(path)
    try:
        content = b"" if size > largest else _whole(descriptor, size, largest)
    finally:
        os.close(descriptor)
    if size > largest or len(content) > largest:
        raise OSError(errno.EFBIG, f"is larger than {largest:,} bytes", str(path))
    return content


def _whole(descriptor: int, size: int, largest: int) -> bytes:
    """All that is there, up to one byte more than ``largest``; a file as long as it says takes a single read.

    Before and after each read Python's other threads have their turn: thousands of recordings feel that.
    """
    content = os.read(descriptor, size + 1)
    if 0 < size == len(content):
        return content
    with os.fdopen(descriptor, "rb", closefd=False) as file:  # it grows meanwhile, or does not say how long it is
        return content + file.read(largest + 1 - len(content))


def text(path: Path) -> str:
    """All of a text file in UTF-8, its lines ended by a line feed. Raises ManifestError."""
    try:
        return document(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ManifestError(path, line, "", f"is not UTF-8 ({error.reason})", "save it as UTF-8") from None
    except OSError as error:
        raise ManifestError(path, None, "", (error.strerror or str(error)).lower(), "check the path") from None


def too_long(path: Path, number: int) -> ManifestError:
    """The error for a line beyond the limit."""
    why = f"is longer than {LONGEST_LINE:,} bytes"
    return ManifestError(path, number, "", why, "write one row a line; is this the right file?")


def plain_yaml(document: bytes) -> Any:
    """YAML as plain data, as a person writes it. Raises ValueError with one line for everything else.

    Aliases are refused (a few lines of them can stand for gigabytes), tags, deep nesting, and keys that stand twice.

    >>> plain_yaml(b"epochs: 3")
    {'epochs': 3}
    >>> plain_yaml(b"a: &a [x]\\nb: *a")
    Traceback (most recent call last):
    ValueError: line 2: uses an alias, which is not read here
    """
    import yaml

    if len(document) > LARGEST_YAML:
        raise ValueError(f"is larger than {LARGEST_YAML:,} bytes")
    try:
        _walk(yaml.parse(document, Loader=yaml.SafeLoader))
        return yaml.load(document, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(_yaml_reason(error)) from None
    except (OverflowError, RecursionError, TypeError, AttributeError) as error:  # PyYAML on crooked numbers and dates
        raise ValueError(f"holds a value that cannot be read ({type(error).__name__})") from None


def _yaml_reason(error: Exception) -> str:
    """PyYAML's complaint in a line: where in the document, not in which bytes of memory."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    why = f"line {mark.line + 1}: {problem}" if mark and problem else str(error)
    return " ".join(why.split())[:160]


def _walk(events: Iterator[Any]) -> None:
    import yaml

    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        for broken, what in (
            (isinstance(event, yaml.AliasEvent), "uses an alias, which is not read here"),
            (getattr(event, "tag", None) is not None, "uses a tag, which is not read here"),
            (depth > DEEPEST_YAML, f"is nested deeper than {DEEPEST_YAML}"),
        ):
            if broken:
                raise ValueError(f"line {event.start_mark.line + 1}: {what}")


def _loader() -> Any:
    """PyYAML's safe loader, which lets the last of two equal keys win, made to say so."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((key for key in keys if keys.count(key) > 1), None) if len(keys) < 1000 else None
            if twice is not None or len(keys) >= 1000:
                what = "more than 1000 keys" if twice is None else f"the key {twice!r:.40} twice"
                raise ValueError(f"line {node.start_mark.line + 1}: has {what}")
            return super().construct_mapping(node, deep)

    return Loader
