"""The command line: reads argv and the environment, builds engines, prints, exits. Nobody imports it.

Exit codes, for every command: 0 done / passed / promoted, 2 bad input, 3 the gate says go back,
4 inconclusive, 5 not promoted, 130 interrupted (the same command again continues), 1 a fault of the program.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated, TypeGuard

import typer

from clinical_asr import __version__
from clinical_asr.cli import advise, agent, build, evaluate, serve, setup, ship, tune, wheel
from clinical_asr.cli.corridor import Corridor
from clinical_asr.errors import FlywheelError, printable

INTERRUPTED = 130
# PyTorch's threads look this often for each other's work before they sleep. GNU's default is 300,000, and on a machine
# that others use too, a thread that spins keeps the other one off its core.
SPINS = "3000"

app = typer.Typer(
    name="clinical-asr",
    cls=Corridor,
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
def front_door(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn the wheel: clinical terms -> benchmark -> KER -> fine-tuning -> decision."""


for room in (wheel, advise, setup, build, evaluate, tune, ship, serve, agent):  # in the order of the flow
    room.register(app)


def main() -> None:
    """Run the command; an error a person can mend is one line on stderr and exit code 2."""
    _open_what_is_closed()
    _write_whatever_it_is()
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    debug = "--debug" in sys.argv
    if debug:  # wherever it stands: it is offered in messages about commands that were typed already
        sys.argv = [sys.argv[0], "--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    try:
        app()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("\ninterrupted: the same command again continues where this one stopped", file=sys.stderr)
        raise
    except Exception as error:
        if debug:
            raise
        print(f"error: {_explained(error)}", file=sys.stderr)
        raise SystemExit(error.exit_code if isinstance(error, FlywheelError) else _exit_code(error)) from None


def _open_what_is_closed() -> None:
    """Whoever closes our output wants none of it; left closed, the next file we open would stand in its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free is this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _write_whatever_it_is() -> None:
    """A file name that is no text, or an accent on a terminal without it, is shown as escapes, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _explained(error: Exception) -> str:
    """One line, whatever happened."""
    if isinstance(error, FlywheelError):
        line = str(error)
    elif _is_of_the_disk(error):
        where = f"{error.filename}: " if error.filename else ""
        line = f"{where}{str(error.strerror).lower()}; mend that, then run the same command again: it continues"
    elif isinstance(error, FileExistsError | NotADirectoryError) and error.filename:
        line = f"{_in_the_way(Path(error.filename))}: is a file, and a folder is needed there; name another"
    elif isinstance(error, OSError) and error.filename:
        line = f"{error.filename}: {(error.strerror or str(error)).lower()}; check the path, its rights and the disk"
    else:
        line = (
            f"{type(error).__name__}: {error}; this is a fault of the program: run it again with --debug and report it"
        )
    return printable(" ".join(line.split()))


def _in_the_way(path: Path) -> Path:
    """The file that stands where a folder was to be: the path itself or one above it."""
    return next((place for place in (path, *path.parents) if place.is_file()), path)


def _exit_code(error: Exception) -> int:
    """2 for a path or a disk that cannot be read or written, 1 for a fault of the program."""
    return 2 if isinstance(error, OSError) and (error.filename or _is_of_the_disk(error)) else 1


def _is_of_the_disk(error: Exception) -> TypeGuard[OSError]:
    """Writing to an open file fails without a name: a full disk, a broken one, a quota, a read-only mount."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)
