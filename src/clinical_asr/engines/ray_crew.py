"""Work spread over Ray: one worker for each GPU or core, of this machine or of a cluster; a dead one loses nothing.

A worker is an actor that holds what it works with, a loaded model for example. It gets jobs once it says that it is
ready, two at a time, so that it never waits for the next one. If it dies, a new one takes its place, the job it was at
is cut into halves until what kills stands alone, and the rest goes to whoever is free. Results come in the order of the
jobs, so who uses them need not know that they were made elsewhere.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from clinical_asr.errors import ConfigError, FlywheelError, MissingDependency, ModelError
from clinical_asr.workers import ATTEMPTS, drawn

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job], Result]

AHEAD = 2  # jobs of a worker: the one it is at, and the one after it
DRAWN = 4  # jobs started for each worker before the oldest is asked for, so that a slow one holds up nobody
PATIENCE = 600.0  # seconds until a worker must have said that it is ready: a large model from a slow disk
OBJECTS = 100 * 2**20  # bytes of Ray's own store: paths and transcripts are small
SESSION: dict[str, Any] = {"prefix": "asr-ray-", "dir": "/tmp", "ignore_cleanup_errors": True}
"""Folder of logs and sockets, for this user alone; a socket's path may have 107 bytes, hence /tmp."""
LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on the loopback address, as Ray does on a desktop
    "RAY_AUTH_MODE": "token",  # other users of this machine reach that address too
}
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
    "RAY_enable_metrics_collection": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # stdout belongs to the command
}


@dataclass
class Cluster:
    """Ray, started or joined. ``gpus`` is how many each worker has: 1, or 0 where there are none; ``deaths`` counts."""

    workers: int
    gpus: int
    deaths: int = 0

    def in_order(self, work: Work[Job, Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """``work`` over ``jobs``, lazily, results in their order; what ``work`` holds must be picklable.

        Raises what ``work`` raises, and FlywheelError if workers die of the same job every time.
        """
        with Crew(work, self) as crew:
            yield from drawn(crew, jobs, self.workers * DRAWN)

    def rows_in_order(self, work: Work[Any, Any], jobs: Iterable[Any]) -> Iterator[Any]:
        """The same for jobs and results by row id: a row that kills its worker each time is a failed row, alone."""
        with RowCrew(work, self) as crew:
            yield from drawn(crew, jobs, self.workers * DRAWN)


@contextmanager
def cluster(workers: int, address: str, environment: MutableMapping[str, str], *, gpus: bool) -> Iterator[Cluster]:
    """Ray with ``workers`` (0: as many as it has GPUs, if ``gpus`` may be used and there are any, else cores).

    Without an address it is started for this block, on this machine's loopback address, and ended with it;
    ``environment`` is the process's, which Ray reads. No usage statistics, no dashboard.
    Raises MissingDependency, or ConfigError for a cluster that does not answer or is too small.
    """
    environment.update(QUIET)
    if not address:
        environment.update(LOCAL)
        environment.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = _ray()
    with tempfile.TemporaryDirectory(**SESSION) as folder:
        try:
            _join(ray, address) if address else _start(ray, workers, folder, gpus)
            yield _sized(workers, ray.cluster_resources(), gpus)
        finally:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingDependency("Ray", "ray") from None
    return ray


def _start(ray: Any, workers: int, folder: str, gpus: bool) -> None:
    ray.init(
        address="local", num_cpus=max(workers, len(os.sched_getaffinity(0))), num_gpus=None if gpus else 0,
        include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL, object_store_memory=OBJECTS,
        _temp_dir=f"{folder}/ray",
    )  # fmt: skip


def _join(ray: Any, address: str) -> None:
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdigit() and int(port) < 65536):
        raise ConfigError(f"{address!r} is no address of a cluster", "Ray", "write HOST:PORT, or auto")
    try:
        if host:  # Ray itself would ask a place where nobody listens for many minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, ValueError, RuntimeError) as error:
        why = f"no cluster answers ({' '.join(str(error).split())[:160]})"
        raise ConfigError(why, f"Ray at {address}", "join this machine: ray start --address=HOST:PORT") from None


def _sized(workers: int, has: Mapping[str, float], gpus: bool) -> Cluster:
    """A cluster of this size. Raises ConfigError if it has less than was asked for.

    >>> _sized(0, {"CPU": 16.0, "GPU": 2.0}, gpus=True), _sized(0, {"CPU": 16.0}, gpus=True)
    (Cluster(workers=2, gpus=1, deaths=0), Cluster(workers=16, gpus=0, deaths=0))
    """
    each = int(gpus and has.get("GPU", 0) >= 1)
    room = int(min(has["GPU"], has.get("CPU", 0)) if each else has.get("CPU", 0))
    if not 1 <= (workers or room) <= room:
        what = f"has room for {room} workers, one for each {'GPU' if each else 'core'}"
        raise ConfigError(what, "Ray", f"ask for at most {room}" if room else "add a machine to it")
    return Cluster(workers or room, each)


class Worker:
    """What runs in a process with one GPU or core: it unpacks its work once, then does job after job."""

    def __init__(self, packed: bytes) -> None:
        self.packed = packed

    def ready(self) -> None:
        """Unpack the work; loads what it works with. Raises what that raises."""
        self.work = pickle.loads(self.packed)

    def do(self, job: Any) -> Any:
        """The result of one job."""
        return self.work(job)


@dataclass(eq=False)
class _Task(Generic[Job, Result]):
    """A job; once done, its answer is there, or what the work raised, or those of the halves it was cut into."""

    job: Job
    deaths: int = 0
    answer: list[Result] = field(default_factory=list)
    error: Exception | None = None
    halves: list[_Task[Job, Result]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return all(half.done for half in self.halves) if self.halves else bool(self.answer or self.error is not None)


@dataclass(eq=False)
class _Hand:
    """A worker, and what it was asked for, oldest first; the first thing is to be ready."""

    actor: Any
    asked: dict[Any, _Task[Any, Any] | None]

    @property
    def room(self) -> int:
        """How many jobs it can take now."""
        return 0 if None in self.asked.values() else AHEAD - len(self.asked)


class Crew(Generic[Job, Result]):
    """Ray's workers at the same work; ``waiting`` holds the jobs started and not handed out yet, oldest first."""

    def __init__(self, work: Work[Job, Result], cluster: Cluster) -> None:
        self.cluster, self.packed, self.ray = cluster, pickle.dumps(work), _ray()
        self.waiting: deque[_Task[Job, Result]] = deque()
        self.todo: deque[_Task[Job, Result]] = deque()
        self.stillborn = 0
        self.hands = [self._hired() for _ in range(cluster.workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for hand in self.hands if self.ray.is_initialized() else ():
            self.ray.kill(hand.actor)

    def start(self, job: Job) -> None:
        """Give a job to whoever is free, now or later."""
        task: _Task[Job, Result] = _Task(job)
        self.waiting.append(task)
        self.todo.append(task)
        self._deal()

    def next(self) -> Result:
        """The oldest job's result. Raises what the work raised, or FlywheelError if nobody can do it."""
        while not self.waiting[0].done:
            self._deal()
            self._listen()
        return self._result(self.waiting.popleft())

    def _hired(self) -> _Hand:
        kind = self.ray.remote(num_cpus=1, num_gpus=self.cluster.gpus, max_restarts=0)(Worker)
        actor = kind.remote(self.packed)
        return _Hand(actor, {actor.ready.remote(): None})

    def _deal(self) -> None:
        while self.todo and (hand := max(self.hands, key=lambda hand: hand.room)).room > 0:
            task = self.todo.popleft()
            hand.asked[hand.actor.do.remote(task.job)] = task

    def _listen(self) -> None:
        """Take one answer. A worker does one thing after the other: only its oldest can be done, or have killed it."""
        oldest = {next(iter(hand.asked)): hand for hand in self.hands if hand.asked}
        answered, _ = self.ray.wait(list(oldest), num_returns=1, timeout=PATIENCE)
        if not answered and all(hand.asked[ref] is None for ref, hand in oldest.items()):
            why = f"no worker was ready within {PATIENCE:.0f} s"
            raise FlywheelError(why, "Ray", "see what the cluster is at: ray status")
        for ref in answered:
            self._take(oldest[ref], ref)

    def _take(self, hand: _Hand, ref: Any) -> None:
        try:
            answer = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:  # the work's own error is the run's error
            self._refused(hand.asked.pop(ref), error.cause if isinstance(error.cause, Exception) else error)
            return
        except self.ray.exceptions.RayError as error:
            self._replace(hand, str(error))
            return
        task = hand.asked.pop(ref)
        if task is None:
            self.stillborn = 0
        else:
            task.answer.append(answer)

    def _refused(self, task: _Task[Job, Result] | None, error: Exception) -> None:
        """Raised when the job is asked for, so that what came before it is not lost; at once where nothing loads."""
        if task is None:
            raise error from None
        task.error = error

    def _replace(self, hand: _Hand, why: str) -> None:
        """Somebody killed it, or its machine is gone: another one is hired, its jobs are done by others."""
        self.hands.remove(hand)
        self.cluster.deaths += 1
        at_work, *rest = hand.asked.values()
        self.todo.extendleft(task for task in reversed(rest) if task)
        if at_work:
            self._again(at_work)
        else:
            self._count_stillborn(why)
        self.hands.append(self._hired())

    def _count_stillborn(self, why: str) -> None:
        self.stillborn += 1
        if self.stillborn >= ATTEMPTS * self.cluster.workers:
            why = f"workers die before they begin (...{' '.join(why.split())[-200:]})"
            raise FlywheelError(why, "Ray", "free memory, or use fewer workers")

    def _again(self, task: _Task[Job, Result]) -> None:
        """A worker died over this: its halves next; what cannot be halved is tried again, and given up in the end."""
        task.halves = [_Task(half) for half in self._halves(task.job)]
        task.deaths += 1
        if not task.halves and task.deaths >= ATTEMPTS:
            task.answer.append(self._given_up(task.job))
        else:
            self.todo.extendleft(reversed(task.halves or [task]))

    def _result(self, task: _Task[Job, Result]) -> Result:
        if task.error is not None:
            raise task.error
        return self._joined([self._result(half) for half in task.halves]) if task.halves else task.answer[0]

    def _halves(self, job: Job) -> Sequence[Job]:
        """Two parts of a job, or none if it is one thing."""
        return ()

    def _joined(self, results: Sequence[Result]) -> Result:
        """The result of a job from those of its halves."""
        raise NotImplementedError

    def _given_up(self, job: Job) -> Result:
        """What stands for the result of a job that nobody survives."""
        mend = "free memory, or use fewer workers; the same command again goes on from here"
        raise FlywheelError(f"a worker died {ATTEMPTS} times over the same work", "Ray", mend)


class RowCrew(Crew[Mapping[str, Path], Mapping[str, str | FlywheelError]]):
    """Jobs are recordings by row id, results are what was heard in them, or why nothing was."""

    def _halves(self, job: Mapping[str, Path]) -> Sequence[Mapping[str, Path]]:
        rows, middle = list(job.items()), len(job) // 2
        return [dict(rows[:middle]), dict(rows[middle:])] if middle else ()

    def _joined(self, results: Sequence[Mapping[str, str | FlywheelError]]) -> Mapping[str, str | FlywheelError]:
        return {row_id: heard for result in results for row_id, heard in result.items()}

    def _given_up(self, job: Mapping[str, Path]) -> Mapping[str, str | FlywheelError]:
        return dict.fromkeys(job, ModelError(f"the worker that transcribed it alone died, {ATTEMPTS} times"))
