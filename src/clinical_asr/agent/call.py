"""One call of a tool: arguments checked and confined, and the command line they amount to."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinical_asr.agent.project import Project, plain
from clinical_asr.agent.schema import Arguments, Parameter, command_words
from clinical_asr.agent.tools import NAMES, PERSONS_WORDS, Tool

PROGRAM = "clinical-asr"


@dataclass(frozen=True)
class Call:
    """What an agent asks for; every path in ``arguments`` is relative to the project and lies inside it."""

    tool: Tool
    project: Project
    arguments: Mapping[str, Any]
    """As given, confined."""
    full: Mapping[str, Any]
    """With the command's defaults."""

    @classmethod
    def of(cls, tool: Tool, project: Project, arguments: Arguments) -> Call:
        """Raises ConfigError for arguments that the tool does not take, or that lead out of the project."""
        tool.full(arguments)
        by_name = {one.name: one for one in tool.parameters}
        kept = {name: _confined(project, by_name[name], value) for name, value in arguments.items()}
        full = tool.full(kept)
        for path in (*tool.made(full), *tool.places(full)):
            project.inside(path, tool.name)
        for one in tool.parameters:  # a default may be a link that leads out as well
            if one.kind is Path and isinstance(full[one.name], str):
                project.inside(full[one.name], one.name)
        return cls(tool, project, kept, full)

    @property
    def waits_for_words(self) -> list[str]:
        """Options for which the person must be asked for a sentence."""
        return [name for name in PERSONS_WORDS if self.arguments.get(name)]

    def words(self, sentences: Mapping[str, str] | None = None) -> list[str]:
        """The command line without the program; ``sentences`` are the person's own, by option."""
        spoken = {name: (sentences or {}).get(name, "YOUR OWN SENTENCE") for name in self.waits_for_words}
        rest = {name: value for name, value in self.arguments.items() if name not in PERSONS_WORDS}
        words = command_words(self.tool.parameters, {**rest, **spoken})
        return [*self.tool.command, *self.tool.fixed, *words]

    def typed(self) -> str:
        """What the person would type for it, in the project folder."""
        shown = [word for word in self.words() if word not in self.tool.fixed]
        return f"cd {shlex.quote(str(self.project.root))} && {shlex.join([PROGRAM, *shown])}"


def _confined(project: Project, parameter: Parameter, value: Any) -> Any:
    if isinstance(value, list):
        return [_confined_one(project, parameter, one) for one in value]
    return _confined_one(project, parameter, value)


def _confined_one(project: Project, parameter: Parameter, value: Any) -> Any:
    if not isinstance(value, str) or not value:
        return value
    if parameter.kind is Path:
        return project.inside(value, parameter.name)
    return project.named(value, parameter.name) if parameter.name in NAMES else plain(value, parameter.name)


def shown(words: Sequence[str]) -> str:
    """A command line as a person types it."""
    return shlex.join([PROGRAM, *words])
