"""``torchrun``: a Python command in several processes at once, one for each GPU of a machine or of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clinical_asr.engines.runners.hosts import Host

EVERY_GPU = "gpu"


def spread(command: Sequence[str], options: Sequence[str]) -> list[str]:
    """The same Python command, started by torchrun with these options.

    >>> spread(["python3", "-m", "clinical_asr", "finetune"], ["--standalone", "--nproc-per-node=2"])[2:]
    ['torch.distributed.run', '--standalone', '--nproc-per-node=2', '-m', 'clinical_asr', 'finetune']
    """
    return [command[0], "-m", "torch.distributed.run", *options, *command[1:]]


@dataclass(frozen=True)
class Torchrun:
    """A host on which a Python command runs in several processes, which end together."""

    host: Host
    processes: str = EVERY_GPU
    """Their number, or ``gpu`` for as many as the machine has GPUs."""

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        """As the host holds it."""
        with self.host.holding(folder) as there:
            yield there

    def run(self, command: Sequence[str], log: Path) -> int:
        """Run to the end of all processes; 0 if all ended well."""
        return self.host.run(spread(command, ["--standalone", f"--nproc-per-node={self.processes}"]), log)
