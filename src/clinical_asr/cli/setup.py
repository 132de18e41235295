"""``clinical-asr doctor``: stage 1."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from clinical_asr.cli.console import console, table


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(doctor)


def doctor(
    folder: Annotated[Path, typer.Option(help="Where the work will be done.")] = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """What is here, what is missing for which stage, what mends it. Exit 2 if something required is missing.

    Example: clinical-asr doctor --json
    """
    from clinical_asr.doctor import KEYS, examine

    findings = examine(folder, {name: os.environ.get(name, "") for name in KEYS})
    missing = [finding for finding in findings if finding.required and not finding.ok]
    if json:
        from msgspec.json import encode

        typer.echo(encode([finding.to_dict() for finding in findings]).decode())
    else:
        rows = [(mark(f.ok, f.required), f.name, f.found, f.needed_for, f.mend) for f in findings]
        table("", ("", "what", "found", "needed for", "mend"), rows)
        verdict = f"{len(missing)} required missing" if missing else "everything required is here"
        console().print(verdict)
    raise typer.Exit(2 if missing else 0)


def mark(ok: bool, required: bool) -> str:
    """A sign a person can scan for."""
    return "[green]ok[/]" if ok else "[red]missing[/]" if required else "[yellow]-[/]"
