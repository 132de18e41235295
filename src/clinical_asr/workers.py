"""Work spread over processes: results in the order of the jobs, few jobs ahead, a killed process replaced.

Processes and not threads: a speech library with one global state speaks in one thread only. They are spawned and not
forked: the parent may have torch and its threads loaded. Threads are for work that waits for a disk or a GPU.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from clinical_asr.errors import FlywheelError

Job = TypeVar("Job")
Result = TypeVar("Result")
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""(work, jobs) to the results, lazily and in the order of the jobs; ``map`` does them here, one after the other."""

AHEAD = 2  # jobs a worker has waiting, so that none is idle and an endless plan is not read to its end
ATTEMPTS = 3  # a job whose process dies every time kills processes itself


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """``work`` over ``jobs``, lazily; with one worker in this process, else ``work`` and ``jobs`` must be picklable.

    Raises what ``work`` raises, and FlywheelError if the same job kills its process three times.
    """
    if workers <= 1:
        yield from map(work, jobs)
        return
    with Crew(work, workers) as crew:
        yield from drawn(crew, jobs, workers * AHEAD)


def in_threads(work: Callable[[Job], Result], jobs: Iterable[Job], threads: int) -> Iterator[Result]:
    """As :func:`in_order`, in threads of this process: for work that waits for a disk or a GPU.

    >>> list(in_threads(lambda n: n * n, range(4), threads=2))
    [0, 1, 4, 9]
    """
    with ThreadCrew(work, threads) as crew:
        yield from drawn(crew, jobs, threads)


class AnyCrew(Protocol):
    """Whoever works on jobs, in whatever way."""

    @property
    def waiting(self) -> Collection[Any]:
        """Jobs started and not handed out yet, oldest first."""
        ...

    def start(self, job: Any) -> None:
        """Give a job to whoever is free."""
        ...

    def next(self) -> Any:
        """The oldest job's result."""
        ...


def drawn(crew: AnyCrew, jobs: Iterable[Any], ahead: int) -> Iterator[Any]:
    """What a crew makes of jobs, in their order; at most ``ahead`` of them are started before they are asked for."""
    for job in jobs:
        crew.start(job)
        if len(crew.waiting) > ahead:
            yield crew.next()
    while crew.waiting:
        yield crew.next()


class Crew(Generic[Job, Result]):
    """Processes that work on jobs; ``waiting`` holds the jobs started and not handed out yet, oldest first."""

    def __init__(self, work: Callable[[Job], Result], workers: int) -> None:
        self.work, self.workers = work, workers
        self.waiting: deque[tuple[Job, Future[Result]]] = deque()
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_behave)

    def start(self, job: Job) -> None:
        """Give a job to whoever is free."""
        try:
            future = self._pool.submit(self.work, job)
        except BrokenProcessPool:
            self._replace_pool()
            future = self._pool.submit(self.work, job)
        self.waiting.append((job, future))

    def next(self) -> Result:
        """The oldest job's result. Raises what the work raised, or FlywheelError: it kills its process every time."""
        for _ in range(ATTEMPTS):
            try:
                result = self.waiting[0][1].result()
            except BrokenProcessPool:
                self._replace_pool()
            else:
                self.waiting.popleft()
                return result
        mend = "free memory, or use fewer workers; the same command again goes on from here"
        raise FlywheelError(f"a worker process was killed {ATTEMPTS} times over the same work", "workers", mend)

    def _replace_pool(self) -> None:
        """Somebody killed a worker: that breaks the pool. What was not finished starts again in a new one."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._new_pool()
        self.waiting = deque(
            (job, future if _succeeded(future) else self._pool.submit(self.work, job)) for job, future in self.waiting
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class ThreadCrew(Generic[Job, Result]):
    """Threads that work on jobs; ``waiting`` holds what they have started and nobody has taken, oldest first."""

    def __init__(self, work: Callable[[Job], Result], threads: int) -> None:
        self.work = work
        self.waiting: deque[Future[Result]] = deque()
        self._pool = ThreadPoolExecutor(threads)

    def start(self, job: Job) -> None:
        """Give a job to whoever is free."""
        self.waiting.append(self._pool.submit(self.work, job))

    def next(self) -> Result:
        """The oldest job's result. Raises what the work raised."""
        return self.waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _succeeded(future: Future[Result]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _behave() -> None:
    """A worker leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
