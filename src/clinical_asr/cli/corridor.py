"""The front page of the command line: the commands by room, in plain text.

Typer draws help with Rich, whose Markdown and table modules cost 0.12 s to import: on a busy machine more than all the
rest. The page that people and scripts ask for most is therefore plain; each command's own help stays drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

UNNAMED = "Commands"
FLOW = (
    "demo", "cycle", "advise", "doctor",
    "terms", "sentences", "pronunciations", "say", "audition", "audio", "suspects", "manifest", "general",
    "hypotheses", "scores", "leaderboard", "gate", "split", "finetune", "comparison",
    "model", "deploy", "serve", "parity", "mcp",
)  # fmt: skip
"""Every command in the order in which a cycle meets it; Typer by itself puts groups of commands last."""


class Corridor(TyperGroup):
    """A group whose help lists its commands under the room they are registered with (``rich_help_panel``)."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        known = {name: self.commands[name] for name in FLOW if name in self.commands}
        self.commands = {**known, **self.commands}

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Typer takes it that Rich has drawn the help of a bare command by now; this page is plain, so it is said."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), color=ctx.color)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        """``comparison --parity OFFLINE SERVED`` is ``parity OFFLINE SERVED``: that comparison has its own options."""
        return super().resolve_command(ctx, ["parity", *args[2:]] if args[:2] == ["comparison", "--parity"] else args)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Plain text: past ``TyperGroup``, which would import Rich."""
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """One section for each room, in the order in which the rooms were registered."""
        rooms: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            room = getattr(command, "rich_help_panel", None)
            title = room if isinstance(room, str) else UNNAMED
            rooms.setdefault(title, []).append((name.ljust(14), _first_paragraph(command.help)))
        for title, rows in rooms.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def _first_paragraph(text: str | None) -> str:
    """
    >>> _first_paragraph("May fine-tuning\\nstart?\\n\\nExample: ...")
    'May fine-tuning start?'
    """
    return " ".join((text or "").split("\n\n", 1)[0].split())
