"""The command line: reads argv and the environment, builds engines, prints, exits. Nobody imports it.

Exit codes, for every command: 0 done / passed / promoted, 2 bad input, 3 the gate says go back,
4 inconclusive, 5 not promoted, 130 interrupted (the same command again continues).
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from clinical_asr import __version__
from clinical_asr.cli import build, evaluate, setup, tune, wheel
from clinical_asr.errors import FlywheelError

app = typer.Typer(
    name="clinical-asr",
    help="Turn the wheel: clinical terms -> benchmark -> KER -> fine-tuning -> decision.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clinical-asr {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn the wheel: clinical terms -> benchmark -> KER -> fine-tuning -> decision."""


for room in (wheel, setup, build, evaluate, tune):  # help lists the commands in the order of the flow
    room.register(app)


def main() -> None:
    """Run the command; an error a person can mend is one line on stderr and exit code 2."""
    debug = "--debug" in sys.argv
    try:
        app()
    except FlywheelError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("\ninterrupted: the same command again continues where this one stopped", file=sys.stderr)
        raise SystemExit(130) from None
