"""The container runner: NeMo's stock script in NeMo's own image, on this machine or on a host behind ssh."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from clinical_asr.config import TrainingConfig
from clinical_asr.engines.runners import outcome, stock
from clinical_asr.engines.runners.hosts import Host, Local
from clinical_asr.engines.runners.staging import Stage, log_of, stage, staged_beside
from clinical_asr.errors import ConfigError
from clinical_asr.training import Evaluate, OnStep, TrainingJob, TrainingReport

WORKSPACE = PurePosixPath("/workspace")


@dataclass(frozen=True)
class ContainerRunner:
    """A ``TrainModel`` that runs the stock script. ``tool`` is ``docker`` or ``podman``.

    The script picks its best epoch by its own validation word error rate: no judge of ours can look into it, so
    ``evaluate`` is not called. Re-evaluation afterwards is the same as for every other runner.
    """

    host: Host = field(default_factory=Local)
    tool: str = "docker"
    image: str = stock.IMAGE
    gpus: str = "all"

    def __call__(self, job: TrainingJob, evaluate: Evaluate | None, on_step: OnStep | None) -> TrainingReport:
        """Stage, run, collect; an out-of-memory run is repeated at half the batch and twice the accumulation.

        Raises TrainingError with the script's last words and where its log lies, AudioError for a recording that
        cannot be staged, ConfigError for a recipe the script does not understand.
        """
        began = time.monotonic()
        self.refuse(job.config)
        if not job.validation:
            raise ConfigError("has no rows, and NeMo's script needs some", "validation", "split with a larger share")
        folder = staged_beside(job.output)
        staged = stage(job.base, {"train": job.examples, "validation": job.validation}, folder, WORKSPACE)
        log = log_of(job.output)

        def run(config: TrainingConfig) -> int:
            return self._run(staged, config, len(job.examples), log)

        config, halvings = outcome.until_it_fits(job.config, run, log, outcome.last_words)
        notes = [f"trained by NeMo's stock script in {self.image}", *halvings]
        report = outcome.collect(staged.here, job, config, notes)
        shutil.rmtree(folder)
        return replace(report, seconds=round(time.monotonic() - began, 1))

    def refuse(self, config: TrainingConfig) -> None:
        """Raise ConfigError for a recipe the script cannot follow; whoever has hours of work before training asks."""
        stock.refuse_unknown(config)

    def _run(self, staged: Stage, config: TrainingConfig, rows: int, log: Path) -> int:
        shutil.rmtree(staged.here / stock.RESULTS, ignore_errors=True)
        with self.host.holding(staged.here) as folder:
            return self.host.run(self.command(folder, stock.command(config, WORKSPACE, rows)), log)

    def command(self, folder: PurePosixPath, script: Sequence[str]) -> list[str]:
        """``docker run ...``: what was staged is read only, but for the folder the results go to.

        >>> command = ContainerRunner(tool="podman").command(PurePosixPath("/data/job"), ["python", "train.py"])
        >>> command[:5], command[-3:]
        (['podman', 'run', '--rm', '--gpus', 'all'], ['nvcr.io/nvidia/nemo:25.11.01', 'python', 'train.py'])
        """
        inputs = [f"{folder / name}:{WORKSPACE / name}:ro" for name in ("base.nemo", "audio")]
        mounts = [word for mount in (f"{folder}:{WORKSPACE}", *inputs) for word in ("--volume", mount)]
        limits = ["--ipc=host", "--ulimit", "memlock=-1", "--ulimit", "stack=67108864", "--network", "none"]
        return [self.tool, "run", "--rm", "--gpus", self.gpus, *limits, *mounts, "--workdir", str(WORKSPACE),
                self.image, *script]  # fmt: skip
