"""One process at a time per folder: a second one is told who is at work there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clinical_asr.errors import FlywheelError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder/.lock`` for the block; the system lets go of it when the process ends, however it ends.

    Raises FlywheelError, with the other's process id, if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            what = f"process {file.read().strip() or 'unknown'} is at work here"
            raise FlywheelError(what, str(folder), "wait until it has ended, or end it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
