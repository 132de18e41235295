"""``--runner``: where fine-tuning runs, as one word.

| runner | what runs there |
|---|---|
| ``local`` | this package, in this process |
| ``torchrun`` or ``torchrun:2`` | this package, in a process for each GPU, or in so many |
| ``container`` or ``container:podman`` | NeMo's stock script in NeMo's image, on this machine |
| ``ssh:user@host`` | this package there, with the interpreter ``--remote-python`` |
| ``ssh+container:user@host`` | NeMo's stock script in NeMo's image, there |
| ``slurm`` or ``slurm:partition`` | this package as a batch job, submitted with ``--yes`` |
| ``brev`` | NeMo's stock script on a rented GPU, after a typed YES |

``ssh`` and ``slurm`` use ``--gpus-per-node`` GPUs together, ``slurm`` of ``--nodes`` machines.
"""

from __future__ import annotations

import re
import secrets
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli.console import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from clinical_asr.config import TrainingConfig
    from clinical_asr.training import TrainModel

Runner = Annotated[
    str,
    typer.Option(
        help="Where training runs: local, torchrun[:N], container[:podman], ssh:HOST, ssh+container:HOST, "
        "slurm[:PARTITION], brev."
    ),
]
RemotePython = Annotated[str, typer.Option(help="Python of the environment on the ssh or Slurm machine.")]
MaxCost = Annotated[float, typer.Option(help="Dollars after which a rented machine is ended.", min=0.1)]
Nodes = Annotated[int, typer.Option(help="Machines that train together, with --runner slurm.", min=1)]
GpusPerNode = Annotated[
    int, typer.Option(help="GPUs of each machine that train together, with --runner ssh or slurm.", min=1)
]
Fit = Annotated[
    bool,
    typer.Option(
        "--fit",
        help="Try the longest rows on the GPU before the first step, and halve a batch that is too large for it.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Submit the Slurm script that is shown; answers nothing about money.")]


def runner(
    wanted: str,
    remote_python: str,
    max_cost: float,
    yes: bool,
    nodes: int = 1,
    gpus_per_node: int = 1,
    fit: bool = False,
    recipe: TrainingConfig | None = None,
) -> TrainModel:
    """The training engine behind ``--runner``.

    Raises ConfigError for a runner there is not, or not on many GPUs, or that cannot follow the ``recipe``.
    """
    from clinical_asr.errors import ConfigError

    kind, _, detail = wanted.partition(":")
    made = _RUNNERS.get(kind)
    if made is None or not _DETAILS[kind].fullmatch(detail):
        mend = "use local, torchrun[:N], container[:podman], ssh:HOST, ssh+container:HOST, slurm[:PARTITION] or brev"
        raise ConfigError(f"{wanted!r} is no runner", "--runner", mend)
    for flag, number, runners in (("--nodes", nodes, ("slurm",)), ("--gpus-per-node", gpus_per_node, ("slurm", "ssh"))):
        if number > 1 and kind not in runners:
            mend = "on the GPUs of this machine use --runner torchrun:N"
            raise ConfigError(f"works with {' and '.join(runners)}, not with {kind}", flag, mend)
    if fit and kind != "local":
        mend = "leave it out: elsewhere a batch is halved once it has turned out too large"
        raise ConfigError(f"works with local, not with {kind}", "--fit", mend)
    if kind != "local":
        in_one_process(f"--runner {kind}")
        _leave_in_order()
    settings = {"python": remote_python, "max_cost": max_cost, "yes": yes, "nodes": nodes, "gpus": gpus_per_node}
    trainer = made(detail, {**settings, "fit": fit})
    if recipe is not None:
        _refuse(trainer, recipe)
    return trainer


def _refuse(trainer: TrainModel, recipe: TrainingConfig) -> None:
    """A runner that cannot follow every recipe has a ``refuse``: asked now, not after hours of building and hearing."""
    refuse = getattr(trainer, "refuse", None)
    if refuse is not None:
        refuse(recipe)


def _leave_in_order() -> None:
    """Being told to end, or losing the terminal, ends a run as Ctrl-C does: copies taken away, a job cancelled."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup stays what it is
            signal.signal(number, leave)


def in_one_process(what: str, runner: str = "local") -> None:
    """Raises ConfigError if torchrun has started several, or for another ``runner``: only fine-tuning can be shared."""
    from clinical_asr.cli.engines import processes
    from clinical_asr.errors import ConfigError

    if runner != "local":
        raise ConfigError(f"listens to each epoch here, which --runner {runner} cannot", what, "leave --runner out")
    size = processes().size
    if size > 1:
        raise ConfigError(f"runs in one process, not in {size}", what, "start it plainly, with --runner torchrun:N")


def _local(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.cli.engines import trainer

    return lambda *job: trainer(settings["fit"])(*job)


def _torchrun(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.engines.runners.hosts import Local
    from clinical_asr.engines.runners.package import PackageRunner
    from clinical_asr.engines.runners.torchrun import EVERY_GPU, Torchrun

    return PackageRunner(Torchrun(Local(), detail or EVERY_GPU), sys.executable)


def _container(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.engines.runners.container import ContainerRunner

    return ContainerRunner(tool=detail or "docker")


def _ssh(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.engines.runners.hosts import Ssh
    from clinical_asr.engines.runners.package import PackageRunner
    from clinical_asr.engines.runners.torchrun import Torchrun

    host, gpus = Ssh(detail), settings["gpus"]
    return PackageRunner(host if gpus == 1 else Torchrun(host, str(gpus)), settings["python"])


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

    slurm = Slurm(agrees, partition=detail, gpus=settings["gpus"], nodes=settings["nodes"])
    return PackageRunner(slurm, settings["python"])


def _brev(detail: str, settings: dict[str, Any]) -> TrainModel:
    from clinical_asr.engines.runners.brev import Brev
    from clinical_asr.engines.runners.container import ContainerRunner
    from clinical_asr.rental import Rental

    name = f"{Rental.name}-{secrets.token_hex(3)}"  # its own: another's machine must not be ended with it
    return ContainerRunner(Brev(Rental(name=name, max_cost=settings["max_cost"]), ask=_typed, tell=typer.echo))


def _typed(text: str) -> str:
    """What a person types at a terminal; a pipe or a script cannot answer for them."""
    if not sys.stdin.isatty():
        typer.echo(text)
        return ""
    return answer(text)


_DETAILS = {
    "local": re.compile(""),
    "torchrun": re.compile("([1-9][0-9]{0,2})?"),
    "container": re.compile("(docker|podman)?"),
    "ssh": re.compile(r"[\w.@][\w.@:\[\]-]*"),  # a leading hyphen would be an option of ssh
    "ssh+container": re.compile(r"[\w.@][\w.@:\[\]-]*"),
    "slurm": re.compile(r"\w*"),
    "brev": re.compile(""),
}
"""What may stand behind the colon."""
_RUNNERS: dict[str, Callable[[str, dict[str, Any]], TrainModel]] = {
    "local": _local,
    "torchrun": _torchrun,
    "container": _container,
    "ssh": _ssh,
    "ssh+container": _ssh_container,
    "slurm": _slurm,
    "brev": _brev,
}
