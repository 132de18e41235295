"""What a client can read without a tool: cycle folders, leaderboards, comparisons and decisions of the project."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from clinical_asr.agent.project import Project
from clinical_asr.cycle import Cycle
from clinical_asr.errors import FlywheelError

FILES, CYCLES = "clinical-asr://files/", "clinical-asr://cycles/"
MIME = {".json": "application/json", ".jsonl": "application/x-ndjson", ".md": "text/markdown"}
DEEPEST, MOST, LARGEST = 5, 500, 1_000_000  # folders, resources, bytes
BOARDS = ("leaderboard_cycle*.json", "leaderboard_cycle*.md", "ranking.json", "ranking.md")


@dataclass(frozen=True)
class Shown:
    """One resource."""

    uri: str
    name: str
    mime: str
    size: int | None = None


def patterns() -> tuple[str, ...]:
    """File names that are shown: boards, and the small files of a cycle, named by its own layout."""
    at = Cycle(Path())
    small = (at.decision, at.gate, at.request, at.notes, at.timings, at.training_run_info,
             at.comparison("json"), at.comparison("md"), at.ladder("json"), at.ladder("md"))  # fmt: skip
    return (*BOARDS, *(path.name for path in small))


def listed(project: Project) -> list[Shown]:
    """Cycle folders first, then files, in the order of their paths; at most 500."""
    found: list[Shown] = []
    for folder, names in _walk(project.root):
        place = folder.relative_to(project.root).as_posix()
        if Cycle(Path()).request.name in names:
            found.append(Shown(CYCLES + quote(place), place, "application/json"))
        for name in names:
            path = folder / name
            if _is_shown(name) and not path.is_symlink():
                where = path.relative_to(project.root).as_posix()
                found.append(Shown(FILES + quote(where), where, MIME[path.suffix], path.stat().st_size))
    return sorted(found, key=lambda one: (not one.uri.startswith(CYCLES), one.uri))[:MOST]


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    for here, folders, names in os.walk(root):
        depth = len(Path(here).relative_to(root).parts)
        folders[:] = sorted(f for f in folders if depth < DEEPEST and not f.startswith(".") and f != "audio")
        yield Path(here), sorted(names)


def _is_shown(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns())


def read(project: Project, uri: str) -> tuple[str, str]:
    """(text, MIME type). Raises FlywheelError for anything but a listed file of the project, of 1 MB at most."""
    if uri.startswith(CYCLES):
        place = project.inside(unquote(uri.removeprefix(CYCLES)), "resource")
        return json.dumps(_cycle(project, place), indent=2), MIME[".json"]
    if not uri.startswith(FILES):
        raise FlywheelError("no such resource", uri[:200], "list the resources")
    place = project.inside(unquote(uri.removeprefix(FILES)), "resource")
    path = project.root / place
    if not (_is_shown(path.name) and path.is_file()):
        raise FlywheelError("no such resource", uri[:200], "list the resources")
    return _text(project, place), MIME[path.suffix]


def _text(project: Project, place: str) -> str:
    """Raises FlywheelError for a file that leads out of the project, or of more than 1 MB."""
    path = project.root / project.inside(place, "resource")
    size = path.stat().st_size
    if size > LARGEST:
        raise FlywheelError(f"is {size:,} bytes, more than {LARGEST:,}", place[:200], "open the file itself")
    return path.read_text(encoding="utf-8", errors="replace")


def _cycle(project: Project, place: str) -> dict[str, Any]:
    """What a cycle folder holds, and its decision if it has one."""
    folder = project.root / place
    if not (folder / Cycle(Path()).request.name).is_file():
        raise FlywheelError("is no cycle folder", place, "list the resources")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    decision = folder / Cycle(Path()).decision.name
    where = f"{place}/{decision.name}"
    return {
        "folder": place,
        "decision": _document(_text(project, where), where) if decision.is_file() else None,
        "files": [{"name": path.name, "bytes": path.stat().st_size} for path in files],
    }


def _document(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise FlywheelError("is no JSON document", place[:200], "make the cycle's decision again") from None
