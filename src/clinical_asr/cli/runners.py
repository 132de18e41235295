"""``--runner``: where fine-tuning runs, as one word.

| runner | what runs there |
|---|---|
| ``local`` | this package, in this process |
| ``container`` or ``container:podman`` | NeMo's stock script in NeMo's image, on this machine |
| ``ssh:user@host`` | this package there, with the interpreter ``--remote-python`` |
| ``ssh+container:user@host`` | NeMo's stock script in NeMo's image, there |
| ``slurm`` or ``slurm:partition`` | this package as a batch job, submitted with ``--yes`` |
| ``brev`` | NeMo's stock script on a rented GPU, after a typed YES |
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from clinical_asr.training import TrainModel

Runner = Annotated[
    str,
    typer.Option(help="Where training runs: local, container[:podman], ssh:HOST, ssh+container:HOST, slurm, brev."),
]
RemotePython = Annotated[str, typer.Option(help="Python of the environment on the ssh or Slurm machine.")]
MaxCost = Annotated[float, typer.Option(help="Dollars after which a rented machine is ended.", min=0.1)]
Yes = Annotated[bool, typer.Option("--yes", help="Submit the Slurm script that is shown; answers nothing about money.")]


def runner(wanted: str, remote_python: str, max_cost: float, yes: bool) -> TrainModel:
    """The training engine behind ``--runner``. Raises ConfigError for a runner there is not."""
    from clinical_asr.errors import ConfigError

    kind, _, detail = wanted.partition(":")
    made = _RUNNERS.get(kind)
    if made is None or not _DETAILS[kind].fullmatch(detail):
        mend = "use local, container[:podman], ssh:HOST, ssh+container:HOST, slurm[:PARTITION] or brev"
        raise ConfigError(f"{wanted!r} is no runner", "--runner", mend)
    return made(detail, {"python": remote_python, "max_cost": max_cost, "yes": yes})


def _local(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.cli.engines import trainer

    return lambda *job: trainer()(*job)


def _container(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.engines.runners.container import ContainerRunner

    return ContainerRunner(tool=detail or "docker")


def _ssh(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.engines.runners.hosts import Ssh
    from clinical_asr.engines.runners.package import PackageRunner

    return PackageRunner(Ssh(detail), settings["python"])


def _ssh_container(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.engines.runners.container import ContainerRunner
    from clinical_asr.engines.runners.hosts import Ssh

    return ContainerRunner(Ssh(detail))


def _slurm(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.engines.runners.package import PackageRunner
    from clinical_asr.engines.runners.slurm import Slurm

    def agrees(script: str) -> bool:
        typer.echo(script)
        return bool(settings["yes"])

    return PackageRunner(Slurm(agrees, partition=detail), settings["python"])


def _brev(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.engines.runners.brev import Brev
    from clinical_asr.engines.runners.container import ContainerRunner
    from clinical_asr.rental import Rental

    return ContainerRunner(Brev(Rental(max_cost=settings["max_cost"]), ask=_typed, tell=typer.echo))


def _typed(text: str) -> str:
    """What a person types at a terminal; a pipe or a script cannot answer for them."""
    if not sys.stdin.isatty():
        typer.echo(text)
        return ""
    return input(text).strip()


_DETAILS = {
    "local": re.compile(""),
    "container": re.compile("(docker|podman)?"),
    "ssh": re.compile(r"[\w.@][\w.@:\[\]-]*"),  # a leading hyphen would be an option of ssh
    "ssh+container": re.compile(r"[\w.@][\w.@:\[\]-]*"),
    "slurm": re.compile(r"\w*"),
    "brev": re.compile(""),
}
"""What may stand behind the colon."""
_RUNNERS: dict[str, Callable[[str, dict[str, Any]], TrainModel]] = {
    "local": _local,
    "container": _container,
    "ssh": _ssh,
    "ssh+container": _ssh_container,
    "slurm": _slurm,
    "brev": _brev,
}
