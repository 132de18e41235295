"""``clinical-asr mcp``: the commands as tools for a coding agent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

PANEL = "Agent"


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command(rich_help_panel=PANEL)(mcp)


def mcp(
    context: typer.Context,
    project: Annotated[Path, typer.Option(help="The one folder the agent may work in; no path may lead out of it.")],
) -> None:
    """Serve the stages as tools to a coding agent (Model Context Protocol, standard input and output).

    Started by the agent's client. What costs, leaves this machine or replaces something is asked of you by that client;
    keys stay in the environment. Long work runs as jobs that outlive the client. Needs the extra `agent`.

    Example: clinical-asr mcp --project my-benchmark
    """
    from importlib.util import find_spec

    from clinical_asr.agent.project import Project
    from clinical_asr.errors import MissingDependency

    if find_spec("mcp") is None:
        raise MissingDependency("the SDK of the Model Context Protocol", "agent")
    import anyio

    from clinical_asr.agent.server import serve

    anyio.run(serve, Project.at(project), context.find_root().command, dict(os.environ))
