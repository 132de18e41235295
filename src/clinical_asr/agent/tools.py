"""The table of tools: which command each runs, which files it makes, what is never offered through a tool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from clinical_asr.agent.schema import Arguments, Parameter, check, object_schema, parameters_of
from clinical_asr.cycle import Cycle

Made = Callable[[Arguments], list[str]]
"""Full arguments of a call -> files or folders that it writes, JSON documents among them."""

PERSONS_WORDS = {
    "waive_audition": "true: ask the person, through their client, for a waiver in their own words. It is kept.",
    "not_promoted": "true: ask the person, through their client, why a model that was not promoted is handed over.",
}
"""Options whose text only the person can give: a tool takes no text, it can only have the person asked."""
NAMES = frozenset({"base", "model", "recipe", "from"})
"""Options that take a name or a path."""
TLS = frozenset({"tls", "tls_ca"})


def _nothing(_: Arguments) -> list[str]:
    return []


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One command, offered to an agent."""

    name: str
    command: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    help: str = ""
    fixed: tuple[str, ...] = ()
    """Words that are always added."""
    hidden: frozenset[str] = frozenset()
    """Parameters that are not offered."""
    made: Made = _nothing
    place: Made | None = None
    """What no other job may work in meanwhile; by default what is made."""
    keeps: bool = False
    """The command itself replaces nothing: it resumes, adds, or refuses."""
    long: bool = False
    """Takes minutes: the tool starts it and returns."""
    reads: bool = False
    """Changes nothing."""
    tells_json: bool = False
    """Its standard output is one JSON document."""
    sees_keys: bool = False
    """It tells whether keys are set, so it must see them."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        asked = {name: {"type": "boolean", "description": text, "default": False}
                 for name, text in PERSONS_WORDS.items()}  # fmt: skip
        return object_schema(self.parameters, asked)

    def full(self, arguments: Arguments) -> dict[str, Any]:
        """The arguments with the command's defaults. Raises ConfigError for what the schema does not take."""
        check(self.schema, arguments, self.name)
        defaults = {one.name: one.default for one in self.parameters if one.name not in PERSONS_WORDS}
        named = {name: str(value) if isinstance(value, Path) else value for name, value in defaults.items()}
        return {**named, **arguments}

    def places(self, full: Arguments) -> list[str]:
        """What no other job may work in while this one runs."""
        return (self.place or self.made)(full)


def _one(name: str) -> Made:
    return lambda full: [str(full[name])] if full.get(name) else []


def _in(folder: Callable[[Arguments], str], *files: str) -> Made:
    return lambda full: [str(PurePosixPath(folder(full), name.format(**full))) for name in files]


def _beside(option: str, first: str) -> Callable[[Arguments], str]:
    """The folder of ``option``, or that of the file ``first``, as the commands have it."""

    def folder(full: Arguments) -> str:
        source = full[first][0] if isinstance(full[first], list) else full[first]
        return str(full.get(option) or PurePosixPath(source).parent)

    return folder


def _cycle_folder(full: Arguments) -> str:
    return Cycle(Path(full["out"]), full["cycle"]).folder.as_posix()


def _cycle_documents(full: Arguments) -> list[str]:
    at = Cycle(Path(full["out"]), full["cycle"])
    documents = (at.decision, at.gate, at.comparison("json"), at.training_run_info, at.ladder("json"))
    return [path.as_posix() for path in documents]


def _boards(full: Arguments) -> list[str]:
    several = len(full["paths"]) > 1
    stem = "ranking" if several else f"leaderboard_cycle{full['cycle']}"
    return _in(_beside("output_folder", "paths"), *(f"{stem}.{kind}" for kind in ("json", "md", "html")))(full)


def _gate(full: Arguments) -> list[str]:
    return [str(full.get("output") or PurePosixPath(full["path"]).with_name("gate.json"))]


def _trained(full: Arguments) -> list[str]:
    output = PurePosixPath(full["output"])
    return [str(output.with_name("training_run_info.json")), str(output)]


_HIDE_RUNNER = frozenset({"remote_python"})
_HERE = TLS | {"ray_address"}  # a cluster is other machines, and runs whatever it is sent
_TELLS_JSON: dict[str, Any] = {
    "fixed": ("--json",), "hidden": frozenset({"json"}) | TLS, "reads": True, "tells_json": True,
}  # fmt: skip
_TABLE = (
    Tool(name="advise", command=("advise",), **_TELLS_JSON),
    Tool(name="doctor", command=("doctor",), sees_keys=True, **_TELLS_JSON),
    Tool(name="model_inspect", command=("model", "inspect"), **_TELLS_JSON),
    Tool(name="terms_check", command=("terms", "check"), **_TELLS_JSON),
    Tool(name="terms_add", command=("terms", "add"), made=_one("path"), keeps=True),
    Tool(name="sentences", command=("sentences",), made=_one("output")),
    Tool(name="pronunciations", command=("pronunciations",), made=_one("output")),
    Tool(name="audition_status", command=("audition",), fixed=("--terminal", "--no-open"), keeps=True,
         hidden=frozenset({"terminal", "no_open", "by", "all", "port", "seed", "voice"}), made=_one("folder")),
    Tool(name="audio", command=("audio",), hidden=_HERE, made=_one("output_folder"), keeps=True, long=True),
    Tool(name="general", command=("general",), made=_one("output_folder"), keeps=True, long=True),
    Tool(name="manifest_check", command=("manifest", "check"),
         made=lambda full: _one("output")(full) + _one("ledger")(full)),
    Tool(name="hypotheses", command=("hypotheses",), hidden=_HERE, made=_one("output"), keeps=True, long=True),
    Tool(name="scores", command=("scores",), made=lambda full: _one("json")(full) + _one("output")(full)),
    Tool(name="leaderboard", command=("leaderboard",), made=_boards),
    Tool(name="gate", command=("gate",), made=_gate),
    Tool(name="split", command=("split",), keeps=True,
         made=_in(_beside("output_folder", "manifest"), "train.jsonl", "validation.jsonl")),
    Tool(name="finetune", command=("finetune",), hidden=_HIDE_RUNNER, made=_trained, keeps=True, long=True),
    Tool(name="comparison", command=("comparison",),
         made=_in(_beside("output_folder", "after"), "decision.json", "comparison.json", "comparison.md",
                  "comparison.html")),
    Tool(name="cycle", command=("cycle",), hidden=_HIDE_RUNNER, made=_cycle_documents, keeps=True, long=True,
         place=lambda full: [_cycle_folder(full)]),
    Tool(name="parity", command=("parity",), made=_one("output")),
    Tool(name="deploy", command=("deploy",), made=_one("out"), keeps=True),
)  # fmt: skip


@dataclass(frozen=True)
class Toolbox:
    """The tools by name, with the parameters of the commands they run."""

    tools: Mapping[str, Tool] = field(default_factory=dict)

    @classmethod
    def of(cls, commands: Any) -> Toolbox:
        """``commands`` is the root of the command line, as Typer makes it."""
        return cls({tool.name: _offered(tool, _command(commands, tool.command)) for tool in _TABLE})


def _command(root: Any, path: tuple[str, ...]) -> Any:
    for word in path:
        root = root.commands[word]
    return root


def _offered(tool: Tool, command: Any) -> Tool:
    kept = tuple(one for one in parameters_of(command) if one.name not in tool.hidden)
    told = " ".join((command.help or "").split("Example:")[0].split())
    starts = " Starts a job and returns; ask job_status." if tool.long else ""
    return replace(tool, parameters=kept, help=told + starts)
