"""``--ray``: bulk transcription and synthesis in many processes, of this machine or of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli.console import tell

if TYPE_CHECKING:
    from clinical_asr.boosting import Boosting
    from clinical_asr.engines.ray_crew import Cluster
    from clinical_asr.hypotheses import Transcriber
    from clinical_asr.workers import Spread

Ray = Annotated[str, typer.Option("--ray", help="Spread over Ray: auto (a worker for each GPU or core), or how many.")]
RayAddress = Annotated[
    str,
    typer.Option("--ray-address", help="HOST:PORT of your Ray cluster, or auto; else Ray runs here for this command."),
]


@dataclass(frozen=True)
class Spreading:
    """What ``--ray`` and ``--ray-address`` ask for. Raises ConfigError for what is no number of workers."""

    ray: str = ""
    address: str = ""

    def __post_init__(self) -> None:
        from clinical_asr.errors import ConfigError

        if self.ray not in ("", "auto") and not (self.ray.isascii() and self.ray.isdigit() and int(self.ray)):
            raise ConfigError(f"{self.ray!r} is no number of workers", "--ray", "use auto, or a number from 1")

    @property
    def wanted(self) -> bool:
        """True if either option was given: an address alone means all of that cluster."""
        return bool(self.ray or self.address)

    def refuse(self, other: str, why: str) -> None:
        """Raises ConfigError if Ray is asked for beside ``other``."""
        from clinical_asr.errors import ConfigError

        if self.wanted:
            raise ConfigError(why, f"--ray and {other}", "leave one of them out")

    @contextmanager
    def cluster(self, *, gpus: bool) -> Iterator[Cluster]:
        """Ray, started or joined, with its workers; deaths among them are told in the end."""
        from clinical_asr.engines.ray_crew import cluster

        number = int(self.ray) if self.ray.isdigit() else 0
        with cluster(number, self.address, os.environ, gpus=gpus) as found:
            kind = "GPU" if found.gpus else "core"
            tell(f"Ray: {found.workers} workers, one {kind} each, {self.address or 'on this machine alone'}", err=True)
            yield found
            if found.deaths:
                tell(f"Ray: deaths of workers: {found.deaths}; what they had was given to others", err=True)

    @contextmanager
    def cores(self) -> Iterator[Spread | None]:
        """What spreads jobs over the cores of a cluster; None where Ray is not asked for."""
        if not self.wanted:
            yield None
            return
        with self.cluster(gpus=False) as cluster:
            yield cluster.in_order


@dataclass(frozen=True)
class Model:
    """A recogniser as a command names it; nothing is loaded yet, and it can be sent to where it is to be loaded."""

    path: Path
    name: str
    batch_size: int
    precision: str
    boosting: Boosting | None = None

    @property
    def digest(self) -> str:
        """Identity of the file as it will decode."""
        from clinical_asr.bases import base_digest

        weights = base_digest(self.path)
        return weights if self.boosting is None else self.boosting.identity(weights)

    def loaded(self) -> Transcriber:
        """The recogniser. Raises ModelError, or MissingDependency."""
        from clinical_asr.cli.engines import boosted, transcriber

        plain = transcriber(self.path, self.name, self.batch_size, self.precision)
        return plain if self.boosting is None else boosted(plain, self.boosting)

    def absent(self, cluster: Cluster) -> Absent:
        """The recogniser that each worker of a cluster is to load."""
        from clinical_asr.engines.nemo_asr import CPU_BATCH

        called = self.name if self.boosting is None else self.boosting.named(self.name)
        size = self.batch_size if cluster.gpus else min(self.batch_size, CPU_BATCH)
        return Absent(called, self.digest[:16], size, replace(self, path=self.path.absolute()))

    @contextmanager
    def recognising(self, spreading: Spreading) -> Iterator[tuple[Transcriber, Spread | None]]:
        """Loaded here, or by each worker that ``spreading`` asks for; and what spreads batches over them, if any."""
        if not spreading.wanted:
            yield self.loaded(), None
            return
        with spreading.cluster(gpus=True) as cluster:
            yield self.absent(cluster), cluster.rows_in_order


@dataclass(frozen=True)
class Absent:
    """A recogniser that is not here: packed for another process, it is unpacked there as the loaded one."""

    name: str
    digest: str
    batch_size: int
    model: Model

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.model, self.digest)

    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, Any]:
        """Never called: packed as well, it is unpacked as the loaded recogniser's."""
        raise NotImplementedError


def _arrived(model: Model, digest: str) -> Transcriber:
    """In a worker: the model, in one thread. Raises ModelError if this machine has another file under that name."""
    import platform

    from clinical_asr.errors import ModelError
    from clinical_asr.nemo_file import import_nemo

    import_nemo()
    import torch

    torch.set_num_threads(1)
    found = model.loaded()
    if found.digest != digest:
        why = f"the model there is another one ({found.digest}, not {digest})"
        raise ModelError(why, platform.node(), "all machines must see the same files")
    return found
