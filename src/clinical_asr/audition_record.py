"""``auditions.jsonl``: verdicts in the order they were given. Only ever added to, by one writer at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clinical_asr.audition import Audition
from clinical_asr.errors import ManifestError
from clinical_asr.jsonl import append_row, parse_object, read_rows

_IN_THIS_PROCESS = threading.RLock()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else, in this process or another, writes verdicts or pronunciations for this folder meanwhile.

    Do not enter it twice in one thread: the second would wait for the first.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with _IN_THIS_PROCESS, path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # falls with the file, also when the process is killed
        yield


def read_auditions(path: Path) -> list[Audition]:
    """All verdicts; none if there is no such file. Raises ManifestError naming the line that is none."""
    return read_rows(path, Audition) if path.exists() else []


def append_audition(path: Path, audition: Audition) -> None:
    """Add one verdict; on disk when this returns. The caller holds :func:`alone`."""
    mend_end(path)
    append_row(path, audition)


def mend_end(path: Path) -> None:
    """Finish a last line that has no newline: a whole one gets it; one cut off by a power failure goes.

    The listener was never told that the latter was kept, so the term counts as unheard and is shown again.
    """
    content = path.read_bytes() if path.exists() else b""
    begin = content.rfind(b"\n") + 1
    if begin == len(content):
        return
    with path.open("r+b") as file:
        try:
            parse_object(path, content.count(b"\n") + 1, content[begin:])
            file.seek(0, 2)
            file.write(b"\n")
        except ManifestError:
            file.truncate(begin)
