"""Jobs: commands that run on their own and are kept in a folder, so that any server of the project can ask for them.

    .clinical-asr/jobs/<id>/   job.json  lock  process.json  output.txt  errors.txt  ended.json

A job runs while its lock is held; the system lets go of that when the processes end, however they end.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import msgspec

from clinical_asr.agent.project import Project
from clinical_asr.errors import FlywheelError
from clinical_asr.jsonl import read_json, write_json, write_text
from clinical_asr.lock import locked

OUTPUT, ERRORS, PROCESS, ENDED, LOCK = "output.txt", "errors.txt", "process.json", "ended.json", "lock"
RUNNING, FINISHED, LOST = "running", "finished", "lost"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What was started: the tool, the words of the command line, where it works."""

    tool: str
    words: tuple[str, ...]
    places: tuple[str, ...]
    """Files and folders that no other job may work in meanwhile."""
    made: tuple[str, ...]
    """Files that it writes."""
    at: str


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended."""

    exit_code: int
    at: str


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Job:
    """One job's folder, and what stands in it."""

    folder: Path
    order: Order

    @property
    def id(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def ended(self) -> Ended | None:
        """How it ended; ``None`` while it runs, and if it was lost."""
        path = self.folder / ENDED
        return read_json(path, Ended) if path.is_file() else None

    @property
    def state(self) -> str:
        """``running``, ``finished``, or ``lost``: killed without a word (the same command again continues)."""
        if self.ended is None and self._held():
            return RUNNING
        return FINISHED if self.ended is not None else LOST

    def _held(self) -> bool:
        with (self.folder / LOCK).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not see each other
            except OSError:
                return True
        return False

    def text(self, name: str, most: int) -> str:
        """The last ``most`` bytes of its output or errors."""
        path = self.folder / name
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            return file.read().decode("utf-8", errors="replace")

    def signal(self, which: signal.Signals) -> None:
        """Send a signal to the command and all that it started, if it runs."""
        path = self.folder / PROCESS
        if path.is_file() and self.state == RUNNING:
            try:
                os.killpg(read_json(path)["pid"], which)
            except ProcessLookupError:
                return


class Jobs:
    """All jobs of a project, of this server and of those before it."""

    def __init__(self, project: Project) -> None:
        self.project, self.folder = project, project.own / "jobs"
        self._started: list[subprocess.Popen[bytes]] = []

    def all(self) -> list[Job]:
        """Newest first."""
        folders = [path.parent for path in self.folder.glob("*/job.json")]
        jobs = [Job(folder, read_json(folder / "job.json", Order)) for folder in folders]
        return sorted(jobs, key=lambda job: (job.order.at, job.id), reverse=True)

    def get(self, name: str) -> Job:
        """Raises FlywheelError if there is no such job."""
        folder = self.folder / name
        if not re.fullmatch(r"[a-z]\w{0,60}", name) or not (folder / "job.json").is_file():
            raise FlywheelError("no such job", name[:80], "job_list names them")
        return Job(folder, read_json(folder / "job.json", Order))

    def start(self, tool: str, words: Sequence[str], places: Sequence[str], made: Sequence[str],
              environment: Mapping[str, str]) -> Job:  # fmt: skip
        """Start a command that outlives this process. Raises FlywheelError if another job works in the same place."""
        self._reap()
        order = Order(tool=tool, words=tuple(words), places=tuple(places), made=tuple(made), at=now())
        with locked(self.folder):
            write_text(self.project.own / ".gitignore", "*\n")
            self._refuse_second(order)
            job = Job(self.folder / f"{tool}_{secrets.token_hex(4)}", order)
            self._launch(job, environment)
        return job

    def _refuse_second(self, order: Order) -> None:
        for other in self.all():
            if other.state == RUNNING and any(_overlap(a, b) for a in order.places for b in other.order.places):
                where = ", ".join(other.order.places)
                raise FlywheelError(f"job {other.id} is at work in {where}", order.tool, "wait for it, or cancel it")

    def _launch(self, job: Job, environment: Mapping[str, str]) -> None:
        """The lock is taken here and handed on, so there is no moment at which a started job looks lost."""
        job.folder.mkdir(parents=True)
        with (job.folder / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            write_json(job.folder / "job.json", job.order)
            command = [sys.executable, "-P", "-m", "clinical_asr.agent.worker", str(job.folder), str(lock.fileno())]
            self._started.append(subprocess.Popen(
                command, cwd=self.project.root, env=dict(environment), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, pass_fds=(lock.fileno(),),
            ))  # fmt: skip

    def _reap(self) -> None:
        self._started = [process for process in self._started if process.poll() is None]


def _overlap(one: str, other: str) -> bool:
    """True if the places are one, or one lies in the other.

    >>> _overlap("cycles/cycle1", "cycles/cycle1/gate.json"), _overlap("cycles/cycle1", "cycles/cycle12")
    (True, False)
    """
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a.is_relative_to(b) or b.is_relative_to(a)
