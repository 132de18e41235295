"""The pages hold true: docs/cli.md is what --help says, and every command that is shown exists as it is shown."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

HERE = Path(__file__).parents[1]
sys.path.insert(0, str(HERE / "docs"))

import generate  # noqa: E402

from clinical_asr.cli import app  # noqa: E402

ROOT: Any = typer.main.get_command(app)
PAGES = [HERE / "README.md", HERE / "CONTRIBUTING.md", *sorted((HERE / "docs").rglob("*.md"))]


def command_at(path: list[str]) -> Any:
    """The command under these words."""
    found = ROOT
    for word in path:
        found = found.commands[word]
    return found


LEAVES = [path for path in generate.command_paths() if path and not getattr(command_at(path), "commands", None)]


def test_the_page_of_commands_is_current() -> None:
    assert generate.PAGE.read_text(encoding="utf-8") == generate.page(), "run: make docs"


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_help_and_an_example_that_parses(path: list[str]) -> None:
    told = command_at(path).help or ""
    assert len(told.split("\n")[0].split()) >= 5
    examples = re.findall(r"^Example: (clinical-asr .+?)(?:\n\n|\Z)", told, re.MULTILINE | re.DOTALL)
    assert examples, "its docstring has no line that begins with Example: clinical-asr"
    for example in examples:
        assert words_of(example)[: len(path)] == path
        check_command(words_of(example))


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_option_has_help(path: list[str]) -> None:
    silent = [p.name for p in command_at(path).params if p.name != "help" and not getattr(p, "help", None)]
    assert not silent


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)[1:]


def check_command(words: list[str]) -> None:
    """Commands and options exist; values are not looked at."""
    command = ROOT
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    known = {name for param in command.params for name in param.opts} | {"--help"}
    unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
    assert not unknown, f"{command.name}: no option {', '.join(unknown)}"


def shown_commands(page: Path) -> list[str]:
    """Lines of code blocks that begin with ``clinical-asr``, broken ones joined; generated help is left out."""
    blocks = re.findall(r"^```(?!text)\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").split("\n")
    return [
        line.strip().removeprefix("$ ") for line in lines if line.strip().removeprefix("$ ").startswith("clinical-asr ")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HERE)))
def test_commands_on_the_pages_exist(page: Path) -> None:
    for line in shown_commands(page):
        check_command(words_of(line.split(" | ")[0].split(" > ")[0]))


def test_the_check_finds_what_does_not_exist(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\n$ clinical-asr gate h.jsonl \\\n  --loud\n```\n```text\nclinical-asr old\n```\n", "utf-8")
    assert [line.split() for line in shown_commands(page)] == [["clinical-asr", "gate", "h.jsonl", "--loud"]]
    with pytest.raises(AssertionError, match="gate: no option --loud"):
        check_command(words_of(shown_commands(page)[0]))
    with pytest.raises(AssertionError, match="no command 'old'"):
        check_command(["old"])
