"""The processes of one run, as ``torchrun`` starts them: which one this is, and what they say to each other.

One process is the ordinary case: nothing is joined, and whatever is asked of the others is answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

from clinical_asr.errors import ConfigError, TrainingError

T = TypeVar("T")
A_STEP = timedelta(minutes=10)
"""How long processes wait for each other within a step."""
A_JUDGEMENT = timedelta(days=1)
"""How long they wait while the first one judges, chooses or writes; one that dies ends the wait at once."""
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(eq=False)
class World:
    """``size`` processes, ``local_size`` of them on this machine; ``rank`` counts from 0."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    _patient: Any = field(default=None, init=False, repr=False)
    """The line that is held while the first process takes its time."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> World:
        """The world that ``torchrun`` describes, or a process of its own. Raises ConfigError for half a description.

        >>> World.of({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
        World(rank=3, size=4, local_rank=1, local_size=2)
        >>> World.of({}).leads
        True
        """
        if environment.get("WORLD_SIZE", "1") == "1":
            return cls()
        told = [environment.get(name, "") for name in NAMES]
        if not all(value.isdecimal() for value in told):
            raise ConfigError(f"is not told by {', '.join(NAMES)}", "the number of processes", "start it with torchrun")
        world = cls(*map(int, told))
        if not (world.rank < world.size and world.local_rank < world.local_size) or world.size % world.local_size:
            mend = "start it with torchrun, as many processes on each machine"
            raise ConfigError(f"cannot be read from {' '.join(told)}", ", ".join(NAMES), mend)
        return world

    @property
    def leads(self) -> bool:
        """True for the one process that judges, writes and speaks."""
        return self.rank == 0

    @contextmanager
    def joined(self, device: str) -> Iterator[None]:
        """Open the lines between the processes. Raises TrainingError if one of the others has ended."""
        if self.size == 1:
            yield
            return
        import torch.distributed as dist

        try:
            self._join(device)
            yield
            dist.destroy_process_group()  # after a fault it might wait for those who no longer answer
        except (dist.DistError, RuntimeError) as error:
            if not _lost(error):
                raise
            where, mend = f"process {self.rank + 1} of {self.size}", "run the same command again: it continues"
            raise TrainingError("another process of the run has ended", where, mend) from error

    def _join(self, device: str) -> None:
        import torch
        import torch.distributed as dist

        if device == "cuda":
            gpus = torch.cuda.device_count()
            if self.local_size > gpus:
                raise TrainingError(f"{self.local_size} processes for {gpus} GPUs", "this machine", "start fewer")
            torch.cuda.set_device(self.local_rank)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=A_STEP)
        self._patient = dist.new_group(backend="gloo", timeout=A_JUDGEMENT)

    def told(self, value: T) -> T:
        """What the first process says, on all of them; values that can be pickled."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        said = [value]
        dist.broadcast_object_list(said, src=0, group=self._patient)
        return said[0]

    def from_first(self, work: Callable[[], T]) -> T:
        """Done by the first process while the others wait; what came of it, on all of them."""
        return self.told(work()) if self.leads else self.told(cast(T, None))

    def shared(self, judge: Callable[[Any], T] | None) -> Callable[[Any], T] | None:
        """The same judge, called by the first process alone."""
        if self.size == 1 or judge is None:
            return judge
        return lambda model: self.from_first(lambda: judge(model))

    def agree(self, value: object, on: str) -> None:
        """Raises TrainingError if this process has not found what the first one has found."""
        if self.told(value) != value:
            mend = "all machines must share the folders of the output, the base and the audio"
            raise TrainingError(f"found another {on} than process 1", f"process {self.rank + 1}", mend)

    def totals(self, *numbers: float) -> tuple[float, ...]:
        """Sums over all processes.

        >>> World().totals(2.5, 4)
        (2.5, 4)
        """
        if self.size == 1:
            return numbers
        import torch

        return tuple(self.summed(torch.tensor(numbers, dtype=torch.float64)).tolist())

    def summed(self, values: Any) -> Any:
        """A tensor summed over all processes, each of which must ask for it; gradients flow back to all of them."""
        if self.size == 1:
            return values
        return _summing().apply(values)

    def loosened(self, model: Any) -> Any:
        """The model, whose encoder asks the other processes nothing: the first one transcribes while they wait.

        NeMo's encoders compare lengths with all processes, to reserve the same memory. Raises TrainingError for the
        convolutional ones, which cannot be kept from it.
        """
        if self.size > 1 and hasattr(model.encoder, "update_max_sequence_length"):
            raise TrainingError("its convolutional encoder trains in one process only", "base", "use one device")
        for module in model.modules() if self.size > 1 else ():
            if hasattr(module, "sync_max_audio_length"):
                module.sync_max_audio_length = False
        return model

    def trainer(self, device: str) -> dict[str, Any]:
        """What Lightning's trainer must know: its own device, and nothing of the other processes.

        They share their gradients before each step (``sharing.gathered``), which Lightning need not see.
        """
        if self.size == 1:
            return {"devices": 1}
        from lightning.pytorch.plugins.environments import LightningEnvironment

        return {"devices": [self.local_rank] if device == "cuda" else 1, "plugins": [LightningEnvironment()]}

    def obeys(self) -> None:
        """End at once when ``torchrun`` says so: Lightning would wait for a step that cannot come any more."""
        if self.size > 1:
            import signal

            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@cache
def _summing() -> Any:
    """A sum over processes as an autograd function: what each did with it flows back, summed, to all."""
    import torch
    import torch.distributed as dist

    class Summing(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(_context: Any, values: Any) -> Any:
            total = values.clone()
            dist.all_reduce(total)
            return total

        @staticmethod
        def backward(_context: Any, gradient: Any) -> Any:
            total = gradient.clone()
            dist.all_reduce(total)
            return total

    return Summing


def _lost(error: BaseException) -> bool:
    import torch.distributed as dist

    said = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in said or "nccl" in said or "connection" in said


ALONE = World()
