"""``clinical-asr model inspect`` and ``clinical-asr deploy``: what a model is, and how it goes into service."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import console

if TYPE_CHECKING:
    from clinical_asr.deploy import HandOff
    from clinical_asr.handoff import Sources
    from clinical_asr.inspection import Inspection

PANEL = "Ship"
model_app = typer.Typer(help="Look into a .nemo without running anything in it.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.add_typer(model_app, name="model", rich_help_panel=PANEL)
    app.command(rich_help_panel=PANEL)(deploy)


@model_app.command("inspect")
def inspect(
    model: Annotated[str, typer.Argument(help="mini, a .nemo file, or a Hugging Face id.", metavar="MODEL")],
    sha256: o.Sha256 = "",
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """What a model is, whether it can be fine-tuned, how it is served. Nothing in it is run, no weight is loaded.

    Exit 2 if the file is damaged, or holds anything that a model does not need. A model that cannot be fine-tuned is
    no error here: the table says why.

    Example: clinical-asr model inspect mini --json
    """
    from clinical_asr.cli.engines import resolve
    from clinical_asr.inspection import inspect_model

    found = inspect_model(resolve(model, "MODEL", sha256), model)
    if json:
        from msgspec.json import encode, format

        typer.echo(format(encode(asdict(found), order="deterministic"), indent=2).decode())
        return
    _show(found)


def _show(found: Inspection) -> None:
    a = found.architecture
    numbers = ", ".join(f"{count:,} {kind}" for kind, count in found.numbers.items())
    durations = ", ".join(map(str, a.durations)) or "none"
    rows = [
        ("file", f"{found.path}, {found.size_bytes:,} bytes"), ("sha256", found.sha256),
        ("written by NeMo", found.nemo_version or "not said"), ("class", a.target), ("decoder", a.decoder),
        ("loss", f"{a.loss}, durations {durations}"), ("features", f"{a.mels} mels of {a.sample_rate} Hz"),
        ("encoder", f"{a.layers} layers, width {a.width}, subsampling {a.subsampling} ({a.frame_ms:g} ms a frame)"),
        ("attention context", f"{a.context}{', cache-aware streaming' if a.streaming else ''}"),
        ("vocabulary", f"{a.vocabulary} pieces, {a.tokenizer}: {' '.join(found.vocabulary_sample[:12])}"),
        ("text style", a.text_style), ("parameters", f"{found.parameters:,} (in the file: {numbers})"),
        ("fine-tuning", "yes" if found.trainable else f"no: {'; '.join(found.refusals)}"),
        ("Riva", _route(found)),
    ]  # fmt: skip
    _facts(found.name, rows)


def _facts(title: str, rows: list[tuple[str, str]]) -> None:
    """Names and values; long values are folded, never cut: a digest is to be read to its end."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table("", "", title=Text(title), title_justify="left", show_header=False)
    drawn.columns[1].overflow = "fold"
    for name, value in rows:
        drawn.add_row(name, Text(str(value)))
    console().print(drawn)


def _route(found: Inspection) -> str:
    told = found.deploy
    if "convert_first" in told:
        return "keep one head first: " + ", ".join(
            f"--head {h} serves {kind}" for h, kind in told["convert_first"].items()
        )
    if "refused" in told:
        return f"no: {told['refused']}"
    block = ", ".join(f"{key}:{value}" for key, value in told["nemo2riva"].items())
    return f"decoder={told['riva_decoder']}, {told['nim_family']}, nemo2riva: {{{block}}}"


def deploy(
    out: Annotated[Path, typer.Option(help="Folder of the hand-off; must not hold anything else.")],
    cycle: Annotated[Path | None, typer.Option(help="Folder of a finished cycle, such as cycles/cycle1.")] = None,
    model: Annotated[Path | None, typer.Option(help="Instead of --cycle: the tuned .nemo.")] = None,
    comparison: Annotated[Path | None, typer.Option(help="With --model: its comparison.json.")] = None,
    info: Annotated[
        Path | None, typer.Option(help="With --model: its training_run_info.json; by default the one beside it.")
    ] = None,
    leaderboard: Annotated[Path | None, typer.Option(help="With --model: the tuned model's leaderboard, JSON.")] = None,
    name: Annotated[str, typer.Option(help="Name of the model and of its pipeline; made of the base's if empty.")] = "",
    mode: Annotated[str, typer.Option(help="offline or streaming.")] = "offline",
    language: Annotated[str, typer.Option(help="Language code.")] = "en-US",
    head: Annotated[str, typer.Option(help="Head of a hybrid that is kept: rnnt or ctc.")] = "",
    container: Annotated[str, typer.Option(help="NIM image; by default one of the family that fits.")] = "",
    tag: Annotated[str, typer.Option(help="Tag of the NIM image.")] = "latest",
    licence: Annotated[str, typer.Option(help="Licence of the base, if its name does not say it: cc-by-4.0, ...")] = "",
    sha256: o.Sha256 = "",
    not_promoted: Annotated[
        str, typer.Option(help="Why a model that was not promoted is handed over; stands in its card.")
    ] = "",
) -> None:
    """Write the folder to hand over: model, card, evidence, and the commands that bring it into Riva.

    Refused unless the decision promotes the model. Nothing is built or started here.

    Example: clinical-asr deploy --cycle cycles/cycle1 --out handoff
    """
    from clinical_asr.bases import check_pin
    from clinical_asr.deploy import DeployConfig
    from clinical_asr.deploy import deploy as write
    from clinical_asr.handoff import gather

    evidence = gather(_sources(cycle, model, comparison, info, leaderboard))
    check_pin(evidence.sources.model, sha256)
    config = DeployConfig(
        name=name or _name(evidence.story.base.name), mode=mode, language=language, head=head, container=container,
        tag=tag, licence=licence, not_promoted=not_promoted,
    )  # fmt: skip
    _show_hand_off(write(evidence, config, out))


def _sources(
    cycle: Path | None, model: Path | None, comparison: Path | None, info: Path | None, board: Path | None
) -> Sources:
    from clinical_asr.errors import ConfigError
    from clinical_asr.handoff import Sources, cycle_at, sources_of

    beside = [path for path in (model, comparison, info, board) if path is not None]
    if cycle is not None and not beside:
        return sources_of(cycle_at(cycle))
    if cycle is not None or model is None or comparison is None:
        raise ConfigError("give --cycle, or --model and --comparison", "deploy")
    return Sources(model, info or model.with_name("training_run_info.json"), comparison, board=board)


def _name(base: str) -> str:
    """
    >>> _name("nvidia/parakeet-tdt-0.6b-v2"), _name("Old Base.nemo")
    ('parakeet-tdt-0.6b-v2-clinical', 'old-base-clinical')
    """
    import re

    stem = base.rsplit("/", 1)[-1].removesuffix(".nemo").lower()
    return f"{re.sub(r'[^a-z0-9.]+', '-', stem).strip('-.')[:50] or 'model'}-clinical"


def _show_hand_off(done: HandOff) -> None:
    out, plan = console(), done.plan
    _facts("", [("model", f"{plan.name}.nemo"), ("sha256", done.digest), ("decoder", plan.route.decoder),
                ("NIM family", plan.route.family), ("container", plan.image)])  # fmt: skip
    out.print(f"{done.folder}: {'complete already' if done.already else 'written'}", markup=False)
    for place, step in enumerate(done.steps, 1):
        out.print(f"  {place}. {step.title}", markup=False)
    out.print(f"commands: {done.folder / 'DEPLOY.md'}", markup=False)
    out.print(f"card:     {done.folder / 'README.md'}", markup=False)
