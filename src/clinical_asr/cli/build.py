"""The build stages' door: which commands stand behind it, in the order of the flow."""

from __future__ import annotations

import typer

from clinical_asr.cli.audition import audition
from clinical_asr.cli.manifests import manifest_app
from clinical_asr.cli.sounds import pronunciations, say
from clinical_asr.cli.speak import audio, general
from clinical_asr.cli.suspicion import suspects_app
from clinical_asr.cli.words import sentences, terms_app

PANEL = "Build"


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.add_typer(terms_app, name="terms", rich_help_panel=PANEL)
    for command in (sentences, pronunciations, say, audition, audio, general):
        app.command(rich_help_panel=PANEL)(command)
    app.add_typer(manifest_app, name="manifest", rich_help_panel=PANEL)
    app.add_typer(suspects_app, name="suspects", rich_help_panel=PANEL)
