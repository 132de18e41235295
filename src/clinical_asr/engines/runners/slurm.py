"""The Slurm runner: a batch script that a person sees before it is submitted, over a file system the nodes share."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clinical_asr.engines.runners.hosts import run_logged
from clinical_asr.engines.runners.torchrun import spread
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.jsonl import write_text

SCRIPT = "job.sh"
FIRST_NODE = 'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
MEET = ('--rdzv-id="$SLURM_JOB_ID"', '--rdzv-endpoint="$head:$((20000 + SLURM_JOB_ID % 10000))"')
"""Where the nodes' processes find each other: a port of its own for each job, in case two share a node."""
_PLAIN = re.compile(r"[\w./+:@%=,-]+", re.ASCII)
_SUBMITTED = re.compile(r"^Submitted batch job (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Slurm:
    """A host that queues what it is told to run. ``agrees`` is shown the script; it says whether it is submitted."""

    agrees: Callable[[str], bool]
    time: str = "02:00:00"
    partition: str = ""
    gpus: int = 1
    """On each node; a process for each."""
    nodes: int = 1

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        """The folder lies on the shared file system already."""
        yield PurePosixPath(folder.resolve())

    def run(self, command: Sequence[str], log: Path) -> int:
        """Write the script, show it, submit it and wait; the exit code is the job's. Whoever stops waiting cancels it.

        Raises FlywheelError, naming the script, if the person does not agree to submit it.
        """
        script = log.with_name(f"{log.stem}.{SCRIPT}")
        write_text(script, self.script(command, log))
        if not self.agrees(script.read_text(encoding="utf-8")):
            raise FlywheelError("was written and not submitted", str(script), "read it, then repeat with --yes")
        try:
            return run_logged(["sbatch", "--wait", str(script)], log)
        except BaseException:
            _cancel(log)
            raise

    def script(self, command: Sequence[str], log: Path) -> str:
        """The batch script; its output is appended to ``log``. Raises ConfigError if Slurm cannot be told of its path.

        >>> slurm = Slurm(agrees=lambda script: False, partition="gpu")
        >>> print(slurm.script(["python", "-m", "clinical_asr"], Path("/work/x.log")))
        #!/bin/bash
        #SBATCH --job-name=clinical-asr
        #SBATCH --nodes=1
        #SBATCH --ntasks=1
        #SBATCH --gpus-per-node=1
        #SBATCH --time=02:00:00
        #SBATCH --output=/work/x.log
        #SBATCH --open-mode=append
        #SBATCH --partition=gpu
        srun python -m clinical_asr
        <BLANKLINE>
        """
        wanted = {"job-name": "clinical-asr", "nodes": self.nodes, "ntasks": self.nodes, "gpus-per-node": self.gpus,
                  "time": self.time, "output": _told(log.resolve()), "open-mode": "append",
                  "partition": self.partition}  # fmt: skip
        lines = [f"#SBATCH --{name}={value}" for name, value in wanted.items() if value]
        return "\n".join(["#!/bin/bash", *lines, *self.steps(command), ""])

    def steps(self, command: Sequence[str]) -> list[str]:
        """What the job runs: the command itself, or torchrun on every node, which ends on all if it fails on one.

        >>> for line in Slurm(agrees=lambda script: False, gpus=4, nodes=2).steps(["python", "-m", "it", "a b"]):
        ...     print(line)
        head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        srun --kill-on-bad-exit=1 python -m torch.distributed.run --nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d \
--rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$head:$((20000 + SLURM_JOB_ID % 10000))" -m it 'a b'
        """
        if self.nodes * self.gpus == 1:
            return [f"srun {shlex.join(command)}"]
        layout = [f"--nnodes={self.nodes}", f"--nproc-per-node={self.gpus}", "--rdzv-backend=c10d"]
        python = shlex.join(spread(command[:1], layout))
        return [FIRST_NODE, f"srun --kill-on-bad-exit=1 {python} {' '.join(MEET)} {shlex.join(command[1:])}"]


def _told(path: Path) -> str:
    """A path as sbatch reads it: ``%`` begins a pattern, and a blank or a ``#`` ends a value without quotes.

    >>> _told(Path("/work/my runs/50%/x.log"))
    '"/work/my runs/50%%/x.log"'
    """
    text = str(path)
    if "\\" in text or "\n" in text:  # Slurm drops every backslash of a path, and a value ends with its line
        raise ConfigError("holds a backslash or a line break, so Slurm cannot write there", repr(text), "rename it")
    text = text.replace("%", "%%")
    return text if _PLAIN.fullmatch(text) else '"' + text.replace('"', '\\"') + '"'


def _cancel(log: Path) -> None:
    """``scancel`` of the job that the log speaks of last, if any was submitted."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    submitted = _SUBMITTED.findall(text[text.rfind("\n$ ") + 1 :])
    if submitted:
        subprocess.run(["scancel", submitted[-1]], capture_output=True, check=False, stdin=subprocess.DEVNULL)
