"""Where a command runs: here, or on a machine behind ssh. What was copied there is always taken away again."""

from __future__ import annotations

import ctypes
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from clinical_asr.errors import TrainingError

ALIVE = ("-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
"""Words for every ssh: never ask; a machine that says nothing for a minute is gone."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PRCTL: Any = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class Host(Protocol):
    """A machine that holds a staged folder for the length of a ``with`` block."""

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        """Bring ``folder`` there; yields its path there; what changed comes back, and it is removed there."""

    def run(self, command: Sequence[str], log: Path) -> int:
        """Run to the end, its output appended to ``log``; the exit code."""


@dataclass(frozen=True)
class Local:
    """This machine."""

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        """The folder is here already."""
        yield PurePosixPath(folder.resolve())

    def run(self, command: Sequence[str], log: Path) -> int:
        """As a child process; Ctrl-C reaches it and is waited for."""
        return run_logged(command, log)


@dataclass(frozen=True)
class Ssh:
    """A machine that ``ssh`` reaches without asking: ``user@host`` or a name of ``~/.ssh/config``."""

    target: str
    options: tuple[str, ...] = ()
    """Further words for ssh, such as ``("-p", "2222")``."""
    folder: str = "clinical-asr"
    """Where staged folders go, below the home folder there."""

    def ssh(self, *words: str) -> list[str]:
        """``ssh OPTIONS TARGET -- words``, quoted for the shell that reads them there."""
        return ["ssh", *ALIVE, *self.options, self.target, "--", shlex.join(words)]

    def copy(self, source: str, target: str) -> list[str]:
        """``rsync`` over the same ssh; goes on where a broken one stopped."""
        shell = shlex.join(["ssh", *ALIVE, *self.options])
        return ["rsync", "--archive", "--partial", "--rsh", shell, source, target]

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        """Up, then down, then away: also when the block fails or is interrupted.

        Raises TrainingError if the machine cannot be reached or the folder cannot be copied.
        """
        self.refuse_absent()
        there = f"{self.folder}/{folder.name}-{uuid.uuid4().hex[:8]}"
        self._must(self.ssh("mkdir", "-p", there), "make a folder")
        try:
            self._must(self.copy(f"{folder}/", f"{self.target}:{there}/"), "copy the staged folder")
            home = self._must(self.ssh("pwd"), "ask for the home folder").strip()
            yield PurePosixPath(home) / there
        finally:
            back = subprocess.run(self.copy(f"{self.target}:{there}/", f"{folder}/"), capture_output=True, check=False)
            if back.returncode == 0:  # else what was trained is still there, and the message says where
                subprocess.run(self.ssh("rm", "-rf", there), capture_output=True, check=False)
        if back.returncode:
            what = f"the results could not be copied back: {_last_line(back.stderr.decode(errors='replace'))}"
            raise TrainingError(what, self.target, f"they lie in {there} there; run the command again once it answers")

    @staticmethod
    def refuse_absent() -> None:
        """Raise TrainingError if a program is missing here, before anything is made there."""
        for program in ("ssh", "rsync"):
            if shutil.which(program) is None:
                raise _absent(program)

    def run(self, command: Sequence[str], log: Path) -> int:
        """With a terminal of its own, so that it ends there when the connection ends here."""
        words = self.ssh(*command)
        return run_logged([words[0], "-tt", *words[1:]], log)

    def _must(self, command: Sequence[str], doing: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise _absent(command[0]) from None
        if done.returncode:
            what = f"could not {doing}: {_last_line(done.stderr)}"
            raise TrainingError(what, self.target, f"try: {shlex.join(self.ssh('true'))}")
        return done.stdout


def run_logged(command: Sequence[str], log: Path) -> int:
    """Run a command, its output appended to ``log`` line by line; on Ctrl-C it is asked to end, then killed.

    On Linux it is asked to end, too, when this process is killed, however that is done.

    Raises TrainingError if there is no such program.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                       preexec_fn=_end_with_parent if _PRCTL else None)  # fmt: skip
        except FileNotFoundError:
            raise _absent(command[0]) from None
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


def _end_with_parent() -> None:
    """In the child, before the command starts: SIGTERM when the parent dies."""
    _PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes], patience: float = 40.0) -> None:
    """Ask it, then kill it; torchrun takes up to 30 s to end its processes."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _absent(program: str) -> TrainingError:
    return TrainingError(f"{program} is not installed", "runner", f"install {program}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
