"""One thread that owns the model: recordings of concurrent requests are recognised together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from clinical_asr.errors import FlywheelError, ModelError
from clinical_asr.recognition import Recognise, Recognition, Samples
from clinical_asr.records import SAMPLE_RATE, Seconds

PADDED_SECONDS = 480.0  # memory of a batch grows with its longest recording times its size


@dataclass(eq=False)
class Job:
    """A recording on its way. ``answer`` may be cancelled: a recording nobody waits for is not recognised."""

    samples: Samples
    words: bool
    answer: Future[Recognition] = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)
    waited: Seconds = 0.0
    batch: int = 0
    """Recordings that were recognised together with this one, itself included."""


class Batcher:
    """Recordings in, futures out. Work that is queued when it is closed is still done."""

    def __init__(self, recognise: Recognise, max_batch: int, max_wait: Seconds, max_queue: int) -> None:
        self.recognise, self.max_batch, self.max_wait, self.max_queue = recognise, max_batch, max_wait, max_queue
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="recognition", daemon=True)
        self._thread.start()

    def submit(self, samples: Samples, words: bool) -> Job:
        """Queue a recording. Raises queue.Full when too many wait, FlywheelError when the server is stopping."""
        job = Job(samples, words)
        with self._changed:
            if self._closed:
                raise FlywheelError("the server is stopping")
            if len(self._waiting) >= self.max_queue:
                raise queue.Full
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    @property
    def waiting(self) -> int:
        """Recordings that no batch has taken yet and somebody still waits for."""
        return sum(not job.answer.cancelled() for job in self._waiting)

    def close(self, timeout: Seconds | None = None) -> None:
        """Finish what is queued and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._next_batch():
            wanted = [job for job in batch if job.answer.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _next_batch(self) -> list[Job]:
        """The oldest recording and those that fit with it; empty once closed and done."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return []
            deadline = self._waiting[0].queued + self.max_wait
            while len(self._waiting) < self.max_batch and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            batch = _fitting(self._waiting, self.max_batch)
            taken = set(map(id, batch))
            self._waiting = [job for job in self._waiting if id(job) not in taken]
            return batch

    def _answer(self, batch: Sequence[Job]) -> None:
        for job in batch:
            job.waited, job.batch = time.monotonic() - job.queued, len(batch)
        try:
            answers = self.recognise([job.samples for job in batch], batch[0].words)
            if len(answers) != len(batch):
                raise ModelError(f"the model gave {len(answers)} answers to {len(batch)} recordings")
        except Exception as error:  # whatever the model throws belongs to these requests and must not end the thread
            answers = [ModelError(" ".join(str(error).split())[:160] or type(error).__name__)] * len(batch)
        for job, answer in zip(batch, answers, strict=True):
            if isinstance(answer, FlywheelError):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)


def _fitting(waiting: Sequence[Job], max_batch: int) -> list[Job]:
    """The first recording, and in order of arrival those that want the same and keep the padding in bounds."""
    batch, longest = [waiting[0]], len(waiting[0].samples)
    for job in waiting[1:]:
        length = max(longest, len(job.samples))
        padded = length * (len(batch) + 1) / SAMPLE_RATE
        if len(batch) < max_batch and job.words == batch[0].words and padded <= PADDED_SECONDS:
            batch.append(job)
            longest = length
    return batch
