"""Command blocks of the pages are run, in a folder of their own, page by page; what they print is held to the page.

A ``bash`` block runs with ``set -e``. In a ``console`` block ``$ `` marks a command and the lines below it what it
prints; a line ``...`` stands for any lines, and a trailing ``...`` for the rest of one. Blocks below
``<!-- not run: why -->`` are not run (``test_docs.py`` still checks their commands), nor are the pages of ``NOT_RUN``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"(?:^<!-- not run: (?P<why>.+?) -->\n)?^```(?P<kind>bash|console)\n(?P<text>.*?)^```$", re.M | re.S)
NOT_RUN = {
    "README.md": "its commands are those of the tutorials; the demo is run by tests/test_flywheel.py",
    "docs/agent.md": "needs a coding agent",
    "docs/audio.md": "speaks benchmarks",
    "docs/bases.md": "needs models of the reader's own",
    "docs/deploy.md": "needs a promoted cycle",
    "docs/lab-notes.md": "a diary",
    "docs/reliability.md": "kills processes",
    "docs/sentences.md": "needs a language model",
    "docs/serve.md": "needs a server",
    "docs/terms.md": "its commands are run by docs/tutorials/ten-drug-names.md",
}


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    kind: str
    text: str
    why: str
    """Why it is not run; empty if it is."""


def blocks(text: str) -> list[Block]:
    return [Block(found["kind"], found["text"], found["why"] or "") for found in BLOCK.finditer(text)]


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def runnable() -> list[Path]:
    return [
        page
        for page in pages()
        if str(page.relative_to(ROOT)) not in NOT_RUN and any(not one.why for one in blocks(page.read_text("utf-8")))
    ]


def shell(command: str, folder: Path, *, strict: bool) -> subprocess.CompletedProcess[str]:
    """As a reader would type it, with the command of this environment; standard error is part of what is seen."""
    keep = {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL", "SYSTEMROOT") if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    plain = {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1", "LANG": "C.UTF-8"}
    return subprocess.run(
        ["bash", "-c", f"{'set -euo pipefail' if strict else 'true'}\n{command}"], cwd=folder, env=keep | plain,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip


def dialogue(text: str) -> list[tuple[str, list[str]]]:
    """(command, lines it is said to print), in order."""
    said: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            said.append((line[2:], []))
        else:
            assert said, f"output before any command: {line!r}"
            said[-1][1].append(line)
    return said


def fits(shown: list[str], printed: list[str]) -> bool:
    """Whether the output has the page's lines, in order; ``...`` stands for any lines, no lines for any output."""
    if not shown:
        return True
    lines = (".*" if line == "..." else re.escape(line).removesuffix(r"\.\.\.") + (".*" if line.endswith("...") else "")
             for line in (" ".join(line.split()) for line in shown))  # fmt: skip
    parts = [r"(?:[^\n]*\n)*" if line == ".*" else line.replace(".*", "[^\\n]*") + r"\n" for line in lines]
    text = "".join(" ".join(line.split()) + "\n" for line in printed if line.strip())
    return re.fullmatch("".join(parts), text) is not None


@pytest.mark.parametrize("page", runnable(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    for block in blocks(page.read_text("utf-8")):
        if block.why:
            continue
        if block.kind == "bash":
            done = shell(block.text, tmp_path, strict=True)
            assert done.returncode == 0, f"{block.text}\n{done.stdout}"
            continue
        for command, shown in dialogue(block.text):
            done = shell(command, tmp_path, strict=False)
            assert shown or done.returncode == 0, f"{command}\n{done.stdout}"
            assert fits(shown, done.stdout.splitlines()), f"$ {command}\n{done.stdout}\nbut the page shows\n{shown}"


def test_what_is_not_run_has_a_reason_and_most_tutorials_run() -> None:
    assert {page.stem for page in runnable()} >= {"quickstart", "ten-drug-names", "score-transcripts", "two-systems"}
    reasons = [one.why for page in pages() for one in blocks(page.read_text("utf-8"))]
    assert all(len(why.split()) >= 3 for why in reasons if why)
    assert sum(not why for why in reasons) >= 20


def test_a_page_that_shows_something_else_is_found() -> None:
    assert fits(["a", "...", "exit 3"], ["a", "b", "c", "exit 3"]) and fits(["plan: 3 ..."], ["plan: 3 rows"])
    assert fits(["..."], []) and fits([], ["anything"])
    assert not fits(["a", "exit 3"], ["a", "b", "exit 3"]) and not fits(["...", "exit 3"], ["exit 2"])
    assert not fits(["plan: 4 ..."], ["plan: 3 rows"])
    found = blocks("<!-- not run: a person listens -->\n```bash\nx\n```\n\n```console\n$ y\nz\n```\n")
    assert [(one.kind, one.why) for one in found] == [("bash", "a person listens"), ("console", "")]
    assert dialogue(found[1].text) == [("y", ["z"])]
