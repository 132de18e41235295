"""``clinical-asr doctor``: stage 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import endpoints as e
from clinical_asr.cli.console import console, table

if TYPE_CHECKING:
    from clinical_asr.doctor import Finding
    from clinical_asr.smoke import Listen

SMOKE_VOICE = "en-us+f3-r165-p50"


PANEL = "The whole wheel"


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command(rich_help_panel=PANEL)(doctor)


def doctor(
    folder: Annotated[Path, typer.Option(help="Where the work will be done.")] = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Also speak one sentence and hear it.")] = False,
    model: Annotated[str, typer.Option(help="With --smoke: the model that hears; by default mini.")] = "",
    endpoint: e.Address = "",
    allow: e.Allow = "",
    language: e.Language = "",
    tls: e.Tls = False,
    tls_ca: e.TlsCa = None,
) -> None:
    """What is here, what is missing for which stage, what mends it. Exit 2 if something required is missing.

    With --smoke a sentence is spoken and heard: on this machine with the mini base, or by --model, or by the service
    at --endpoint, which must be allowed unless it is here. Every fault comes with its mend.

    Example: clinical-asr doctor --json

    Example: clinical-asr doctor --smoke --endpoint nvcf --allow nvcf
    """
    from clinical_asr.doctor import KEYS, examine
    from clinical_asr.errors import ConfigError

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder", "--folder", "make it first, or check the path")
    if not smoke:
        _refuse_unused({"--model": model, "--endpoint": endpoint, "--allow": allow, "--language": language,
                        "--tls": tls, "--tls-ca": tls_ca})  # fmt: skip
    elif model:
        e.is_remote(model, endpoint)  # refuses both at once
    findings = examine(folder, {name: os.environ.get(name, "") for name in KEYS})
    if smoke and (endpoint or (os.environ.get("ASR_ENDPOINT") and not model)):
        findings += _smoke_service(endpoint, allow, language, tls, tls_ca, folder)
    elif smoke:
        findings += _smoke_model(model or "mini")
    missing = [finding for finding in findings if finding.required and not finding.ok]
    if json:
        from msgspec.json import encode

        typer.echo(encode([finding.to_dict() for finding in findings]).decode())
    else:
        rows = [(mark(f.ok, f.required), f.name, f.found, f.needed_for, f.mend) for f in findings]
        table("", ("", "what", "found", "needed for", "mend"), rows)
        verdict = f"{len(missing)} required missing" if missing else "everything required is here"
        console().print(verdict)
        for finding in missing:
            typer.echo(f"{finding.name}: {finding.found}; {finding.mend}")
    raise typer.Exit(2 if missing else 0)


def _refuse_unused(given: Mapping[str, object]) -> None:
    """Raises ConfigError for an option of the smoke test alone: a service that nobody asked must not look well."""
    from clinical_asr.errors import ConfigError

    for flag, value in given.items():
        if value:
            raise ConfigError("is only looked at by the smoke test", flag, "add --smoke, or leave it out")


def mark(ok: bool, required: bool) -> str:
    """A sign a person can scan for."""
    return "[green]ok[/]" if ok else "[red]missing[/]" if required else "[yellow]-[/]"


def _smoke_model(model: str) -> list[Finding]:
    def load() -> Listen:
        from clinical_asr.cli.engines import resolve, transcriber

        return transcriber(resolve(model, "--model"), model).transcribe

    return _round_trip(load, model)


def _smoke_service(
    endpoint: str, allow: str, language: str, tls: bool, tls_ca: Path | None, folder: Path
) -> list[Finding]:
    """Raises ConfigError for flags that cannot be used; all else is a finding."""
    where = e.endpoint(endpoint, language, 1, tls, tls_ca, attempts=2)
    permitted = e.egress(allow, folder / "egress.jsonl")
    return _round_trip(lambda: e.remote_transcriber(where, permitted).transcribe, where.address)


def _round_trip(listen: Callable[[], Listen], listener: str) -> list[Finding]:
    from clinical_asr.cli.engines import synthesiser
    from clinical_asr.smoke import smoke

    return smoke(synthesiser(), SMOKE_VOICE, listen, "espeak-ng", listener)
