"""What a person sees: one line per finished step, a progress bar on long work, tables, decisions."""

from __future__ import annotations

import atexit
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from clinical_asr.errors import printable

if TYPE_CHECKING:
    from clinical_asr.records import Decision

T = TypeVar("T")
_SIGN = re.compile(r"\[(green|red|yellow)\][a-z-]+\[/\]")
_PLURAL = re.compile(r"(?<=\w)s\b")
_MOVING: list[Any] = []
"""Bars of long work that is under way."""
COLOURS = {0: "bold green", 3: "bold yellow", 4: "bold yellow", 5: "bold red"}


def console(stderr: bool = False) -> Any:
    """A Rich console; plain text when the output is no terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not sys.stdout.isatty())


def say(line: str) -> None:
    """One line on stdout, as it stands: brackets are no markup, nothing in it moves the cursor."""
    console().print(printable(line), markup=False)


def tell(line: str, err: bool = False) -> None:
    """One line that holds words of a file or a service, on stdout or stderr; for scripts to read, never folded."""
    import typer

    typer.echo(printable(line), err=err)


def progress(items: Sequence[T], what: str) -> Iterable[T]:
    """Iterate with a bar on stderr: description, share, count, elapsed and remaining time."""
    with _bar() as bar:
        task = bar.add_task(what, total=len(items))
        for item in items:
            yield item
            bar.advance(task)


def steps(what: str) -> Callable[[int, int, float], None]:
    """A callback ``(done, total, loss)`` that draws a bar for training and closes it at the last step."""
    bar = _bar()
    task = bar.add_task(what, total=None)
    bar.start()
    _MOVING.append(bar)
    atexit.register(bar.stop)  # training that fails must not leave a terminal without its cursor

    def on_step(done: int, total: int, loss: float) -> None:
        bar.update(task, completed=done, total=total, description=f"{what}, loss {loss:.2f}")
        if done >= total:
            bar.stop()
            _MOVING[:] = [other for other in _MOVING if other is not bar]

    return on_step


def answer(question: str) -> str:
    """What a person types. A bar that moves would draw over the question and what is being typed, so it rests."""
    for bar in _MOVING:
        bar.stop()
    try:
        return input(question).strip()
    finally:
        for bar in _MOVING:
            bar.start()


def _bar() -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    out = console(stderr=True)
    return Progress(*columns, console=out, transient=True, disable=not out.is_terminal)  # a log file needs no bar


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout. Cells are shown as they stand, but for a sign such as ``[green]yes[/]``."""
    from rich.table import Table

    drawn = Table(title=_title(title), title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")  # a long word goes on in the next line; cut off, it would be lost
    for row in rows:
        drawn.add_row(*(_cell(str(cell)) for cell in row))
    console().print(drawn)


def _title(title: str) -> Any:
    from rich.text import Text

    return Text("\n".join(map(printable, title.split("\n"))))


def _cell(cell: str) -> Any:
    from rich.text import Text

    return Text.from_markup(cell) if _SIGN.fullmatch(cell) else Text(printable(cell))


def show_decision(decision: Decision) -> None:
    """The verdict, why, and where to go from here."""
    from rich.markup import escape

    colour = COLOURS.get(decision.exit_code, "bold")
    out = console()
    out.print(f"\n[{colour}]{escape(printable(decision.verdict.upper()))}[/]  {escape(printable(decision.reason))}")
    out.print(printable(f"next stage: {decision.next_stage}"), markup=False)


def told(counts: Counter[str], noun: str) -> str:
    """``40 terms: 15 drug, 5 lab``; the parts add up to the whole.

    >>> told(Counter(drug=1), "terms added")
    '1 term added: 1 drug'
    """
    parts = ", ".join(f"{n} {name}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return f"{counted(counts.total(), noun)}: {parts}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, which is handed in as plural.

    >>> counted(1, "terms added"), counted(2, "terms"), counted(1, "warnings")
    ('1 term added', '2 terms', '1 warning')
    """
    return f"{number} {_PLURAL.sub('', noun, count=1) if number == 1 else noun}"
