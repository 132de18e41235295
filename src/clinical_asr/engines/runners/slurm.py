"""The Slurm runner: a batch script that a person sees before it is submitted, over a file system the nodes share."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clinical_asr.engines.runners.hosts import run_logged
from clinical_asr.errors import FlywheelError
from clinical_asr.jsonl import write_text

SCRIPT = "job.sh"


@dataclass(frozen=True)
class Slurm:
    """A host that queues what it is told to run. ``agrees`` is shown the script; it says whether it is submitted."""

    agrees: Callable[[str], bool]
    time: str = "02:00:00"
    partition: str = ""
    gpus: int = 1

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        """The folder lies on the shared file system already."""
        yield PurePosixPath(folder.resolve())

    def run(self, command: Sequence[str], log: Path) -> int:
        """Write the script, show it, submit it and wait; the exit code is the job's.

        Raises FlywheelError, naming the script, if the person does not agree to submit it.
        """
        script = log.with_name(f"{log.stem}.{SCRIPT}")
        write_text(script, self.script(command, log))
        if not self.agrees(script.read_text(encoding="utf-8")):
            raise FlywheelError("was written and not submitted", str(script), "read it, then repeat with --yes")
        return run_logged(["sbatch", "--wait", str(script)], log)

    def script(self, command: Sequence[str], log: Path) -> str:
        """The batch script; its output is appended to ``log``.

        >>> slurm = Slurm(agrees=lambda script: False, partition="gpu")
        >>> print(slurm.script(["python", "-m", "clinical_asr"], Path("/work/x.log")))
        #!/bin/bash
        #SBATCH --job-name=clinical-asr
        #SBATCH --nodes=1
        #SBATCH --ntasks=1
        #SBATCH --gpus=1
        #SBATCH --time=02:00:00
        #SBATCH --output=/work/x.log
        #SBATCH --open-mode=append
        #SBATCH --partition=gpu
        srun python -m clinical_asr
        <BLANKLINE>
        """
        wanted = {"job-name": "clinical-asr", "nodes": 1, "ntasks": 1, "gpus": self.gpus, "time": self.time,
                  "output": log.resolve(), "open-mode": "append", "partition": self.partition}  # fmt: skip
        lines = [f"#SBATCH --{name}={value}" for name, value in wanted.items() if value]
        return "\n".join(["#!/bin/bash", *lines, f"srun {shlex.join(command)}", ""])
