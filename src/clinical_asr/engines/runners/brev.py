"""A rented GPU (Brev): never made without a typed YES after the cost, and never left running.

Whatever ends the work, a result, a fault or Ctrl-C, the machine is deleted, or stopped if its disk is to be kept; a
watchdog ends it too once it has cost what the person allowed. Should this process be killed or crash, its guard, a
process apart, does the same (see ``guard.py``).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from clinical_asr.engines.runners import guard
from clinical_asr.engines.runners.hosts import Ssh
from clinical_asr.errors import FlywheelError, TrainingError
from clinical_asr.rental import DOLLARS_PER_HOUR, Rental


@dataclass
class Brev:
    """A host that exists only inside ``holding``. ``ask`` shows a text and returns what the person typed."""

    rental: Rental
    ask: Callable[[str], str]
    tell: Callable[[str], None] = lambda line: None
    ssh_options: tuple[str, ...] = ()
    clock: Callable[[], float] = time.monotonic
    patience: float = 30.0
    """Seconds between looks at the cost, and between tries to end the rental."""
    _ssh: Ssh | None = field(default=None, init=False)
    _ended: str = field(default="", init=False)
    """Why the watchdog ended the rental, if it did."""
    _over: bool = field(default=False, init=False)
    """True once the rental was ended, whoever did it."""

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        """Ask, rent, copy, yield, copy back, end the rental. Raises FlywheelError unless the person typed YES."""
        if shutil.which("brev") is None:  # before anybody is asked about money for nothing
            raise _absent()
        Ssh.refuse_absent()
        costs = "\n  ".join(["About to rent a machine.", *self.rental.cost_lines()])
        text = f"{costs}\nType YES to rent it (anything else cancels): "
        if self.ask(text) != "YES":
            raise FlywheelError("cancelled: nothing was rented", "brev", "type YES in capitals, or use --runner local")
        self._ended, self._over = "", False
        began = self.clock()
        with self._guarded():
            try:
                self._brev(self.create())
                self._brev(["brev", "refresh"])
                self._ssh = Ssh(self.rental.name, self.ssh_options)
                with self._watched(began), self._ssh.holding(folder) as there:
                    yield there
            finally:
                self._end(began)

    def run(self, command: Sequence[str], log: Path) -> int:
        """Run on the rented machine. Raises TrainingError if the watchdog ended it."""
        if self._ssh is None:
            raise TrainingError("nothing is rented", "brev")
        code = self._ssh.run(command, log)
        if self._ended:
            raise TrainingError(self._ended, "brev", "raise --max-cost, or train on fewer rows")
        return code

    def create(self) -> list[str]:
        """``brev create ...``"""
        return ["brev", "create", self.rental.name, "--gpu", self.rental.gpu, "--disk", f"{self.rental.disk_gb}gi"]

    def end(self) -> list[str]:
        """``brev delete`` or ``brev stop``.

        >>> Brev(Rental(), ask=input).end()
        ['brev', 'delete', 'clinical-asr-sft']
        """
        return ["brev", "stop" if self.rental.keep_disk else "delete", self.rental.name]

    @property
    def _limit(self) -> float:
        """Seconds that may be paid for."""
        return self.rental.max_cost / DOLLARS_PER_HOUR * 3600

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """A process apart that ends the rental unless it is told that this was done; it waits longer than we do."""
        words = [str(self._limit + 5 * self.patience), str(self.patience), *self.end()]
        watcher = subprocess.Popen(
            [sys.executable, "-I", guard.__file__, *words], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            yield
        finally:
            watcher.communicate(guard.RELEASED) if self._over else watcher.stdin and watcher.stdin.close()

    @contextmanager
    def _watched(self, began: float) -> Iterator[None]:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(self.patience):
                if self.clock() - began > self._limit and not self._over:
                    self._ended = f"the rental reached ${self.rental.max_cost:.2f} and was ended"
                    self._over = self._call(self.end()) == 0

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _end(self, began: float) -> None:
        """End the rental; try three times, and if that fails say so as loudly as a program can."""
        for _ in range(3):
            self._over = self._over or self._call(self.end()) == 0
            if self._over:
                cost = (self.clock() - began) / 3600 * DOLLARS_PER_HOUR
                self.tell(f"{' '.join(self.end())}: done, about ${cost:.2f}")
                return
        self.tell("COULD NOT END THE RENTAL: if it was made (see: brev ls) it goes on costing. It is tried again for a "
                  f"while, unseen. Run now: {' '.join(self.end())}")  # fmt: skip

    def _brev(self, command: Sequence[str]) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise _absent() from None
        if done.returncode:
            what = f"{' '.join(command[:2])} failed: {json.dumps((done.stderr or done.stdout).strip()[-200:])}"
            raise TrainingError(what, "brev", "log in with: brev login")

    def _call(self, command: Sequence[str]) -> int:
        try:
            return subprocess.run(
                command, capture_output=True, check=False, stdin=subprocess.DEVNULL, start_new_session=True
            ).returncode  # a second Ctrl-C does not reach it
        except FileNotFoundError:
            return 0  # never made: there is nothing to end


def _absent() -> TrainingError:
    return TrainingError("brev is not installed", "runner", "install the Brev CLI and log in")
