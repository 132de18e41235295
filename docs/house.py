"""Draws docs/images/house.svg from the import graph: the corridor of stages, what lies under it, and the annex.

``python docs/house.py`` writes the picture, ``--check`` exits 1 if it is stale. Nothing is imported but syntax trees.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "clinical_asr"
PICTURE = Path(__file__).with_name("images") / "house.svg"

CORRIDOR = {
    "build": ("terms", "sentences", "pronunciations", "audition", "audio", "manifest", "general"),
    "evaluate": ("hypotheses", "scores", "leaderboard", "gate"),
    "fine-tune": ("split", "finetune", "comparison", "ladder", "report", "deploy"),
}
"""Doors in the order of the flow; a test holds them against the stages of ``tests/test_house.py``."""
STAGES = tuple(stage for stages in CORRIDOR.values() for stage in stages)
DRIVER = ("flywheel", "benchmark", "climb", "request")
WINGS = ("engines", "cli", "agent")


@dataclass(frozen=True)
class House:
    """Who imports whom, and where each module lives."""

    imports: dict[str, frozenset[str]]
    """Module -> modules of this package it imports; a wing (engines, cli, agent) counts as one."""
    owner: dict[str, str]
    """Side room -> the one stage that reaches it."""
    shared: list[str]
    """Modules that several stages reach."""
    aside: list[str]
    """Modules that no stage reaches: rooms of the driver, the command line, or an engine."""

    def edges(self) -> dict[tuple[str, str], int]:
        """(part, part) -> imports between them, within a part left out."""
        found: dict[tuple[str, str], int] = {}
        for module, used in self.imports.items():
            for other in used:
                pair = (self.part(module), self.part(other))
                if pair[0] != pair[1]:
                    found[pair] = found.get(pair, 0) + 1
        return found

    def part(self, module: str) -> str:
        """``cli``, ``agent``, ``engines``, ``driver``, ``stages``, ``side rooms``, ``aside`` or ``shared``."""
        if module in WINGS:
            return module
        if module in DRIVER:
            return "driver"
        if module in STAGES:
            return "stages"
        return "side rooms" if module in self.owner else "aside" if module in self.aside else "shared"

    def between_stages(self) -> list[tuple[str, str]]:
        """Imports that lead from one stage's rooms straight to another stage: the exceptions, drawn as such."""
        crossing = {
            (self.owner.get(module, module), other)
            for module, used in self.imports.items()
            for other in used & set(STAGES)
            if self.part(module) in ("stages", "side rooms") and self.owner.get(module, module) != other
        }
        return sorted(crossing, key=lambda pair: (STAGES.index(pair[0]), STAGES.index(pair[1])))


def read_house(package: Path = PACKAGE) -> House:
    """The house as the syntax trees have it."""
    graph: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).parts[0].removesuffix(".py")
        if not module.startswith("__"):
            graph.setdefault(module, set()).update(imported(path))
    graph = {module: {other for other in used if other in graph and other != module} for module, used in graph.items()}
    return _furnished({module: frozenset(used) for module, used in graph.items()})


def imported(path: Path) -> set[str]:
    """First module of each import from the package, those inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("clinical_asr.")}


def _furnished(graph: dict[str, frozenset[str]]) -> House:
    reached = {stage: _reach(graph, stage) for stage in STAGES}
    rest = [module for module in graph if module not in (*STAGES, *DRIVER, *WINGS)]
    by = {module: [stage for stage in STAGES if module in reached[stage]] for module in rest}
    return House(
        imports=graph,
        owner={module: stages[0] for module, stages in by.items() if len(stages) == 1},
        shared=[module for module, stages in by.items() if len(stages) > 1],
        aside=[module for module, stages in by.items() if not stages],
    )


def _reach(graph: dict[str, frozenset[str]], start: str) -> set[str]:
    """Everything imported on the way down, not through another stage."""
    seen, todo = set[str](), [start]
    while todo:
        for other in graph[todo.pop()] - seen - set(STAGES):
            seen.add(other)
            todo.append(other)
    return seen


# --- the picture ------------------------------------------------------------------------------------------------------

CLI = "cli/ reads arguments and the environment, builds the engines, prints, exits"
AGENT = "agent/ runs those commands for a coding agent."
TURN = "the turn of the wheel, stage after stage; knows no engine by name"
WIDTH, MARGIN, GAP, LINE = 980, 16, 8, 15
INK, PAPER, SOFT = "#1b2a33", "#fbfbf7", "#5d6d76"
COLOURS = {"build": "#e3efe6", "evaluate": "#e4ecf7", "fine-tune": "#f6e9dc", "shared": "#eceae4", "annex": "#efe6f3",
           "driver": "#fdf3c8", "cli": "#dfe8ea"}  # fmt: skip


def picture(house: House | None = None) -> str:
    """The whole SVG."""
    house = house or read_house()
    parts: list[str] = []
    y = _band(parts, MARGIN, "cli", "command line", f"{CLI} ({_says(house, 'cli')}). {AGENT}")
    y = _band(parts, y, "driver", "driver", f"{', '.join(DRIVER)}: {TURN} ({_says(house, 'driver')})")
    y = _corridor(parts, y, house)
    y = _listed(parts, y, "shared", "under the floor: what several stages stand on", house.shared)
    y = _listed(parts, y, "annex", f"annex: engines, handed in as callables ({_says(house, 'engines')})", engines())
    doors = aside_by_door(house).items()
    aside = "; ".join(f"{door} ({', '.join(rooms)})" if rooms else door for door, rooms in doors)
    y = _band(parts, y, "cli", "beside the corridor: entered by commands, driver or engines, with their rooms", aside)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="Georgia, serif" role="img" '
        f'aria-labelledby="t d"><title id="t">The house</title><desc id="d">{escape(described(house))}</desc>'
        f'<rect width="{WIDTH}" height="{y}" fill="{PAPER}"/>'
    )
    return "\n".join([head, *parts, "</svg>\n"])


def described(house: House) -> str:
    """The picture in words, for those who cannot see it."""
    rooms = "; ".join(f"{stage}: {', '.join(side_rooms(house, stage)) or 'no side rooms'}" for stage in STAGES)
    return f"Stages in order with their side rooms: {rooms}."


def side_rooms(house: House, stage: str) -> list[str]:
    """Modules that only this stage reaches."""
    return sorted(module for module, owner in house.owner.items() if owner == stage)


def aside_by_door(house: House) -> dict[str, list[str]]:
    """Modules aside that none of the others imports, each with the rooms that are its own; shared ones stand alone."""
    aside = set(house.aside)
    inner = {module: _reach(house.imports, module) & aside - {module} for module in house.aside}
    doors = [module for module in house.aside if not any(module in rooms for rooms in inner.values())]
    by = {room: [door for door in doors if room in inner[door]] for room in aside - set(doors)}
    own = {door: sorted(room for room, owners in by.items() if owners == [door]) for door in doors}
    return dict(sorted((own | {room: [] for room, owners in by.items() if len(owners) > 1}).items()))


def engines(package: Path = PACKAGE) -> list[str]:
    """Names of the engines: a module or a folder of modules each."""
    found = (package / "engines").iterdir()
    names = (path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").is_file())
    return sorted(name for name in names if name != "__init__")


def _says(house: House, part: str) -> str:
    names = {"aside": "rooms beside the corridor", "shared": "the shared floor", "side rooms": "side rooms of stages"}
    targets = sorted(other for (one, other) in house.edges() if one == part)
    return "imports " + ", ".join(names.get(target, target) for target in targets)


def _text(x: float, y: float, words: str, size: int = 12, fill: str = INK, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" font-weight="{weight}">{escape(words)}</text>'


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{fill}" stroke="#c9c6bb"/>'


def _wrapped(words: Iterable[str], letters: int) -> list[str]:
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) > letters and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _band(parts: list[str], y: int, colour: str, title: str, told: str) -> int:
    lines = _wrapped(told.split(), 148)
    height = 30 + LINE * len(lines)
    parts += [_box(MARGIN, y, WIDTH - 2 * MARGIN, height, COLOURS[colour]),
              _text(MARGIN + 10, y + 18, title, 14, weight="bold")]  # fmt: skip
    parts += [_text(MARGIN + 10, y + 36 + LINE * i, line, fill=SOFT) for i, line in enumerate(lines)]
    return y + height + GAP


def _listed(parts: list[str], y: int, colour: str, title: str, modules: Sequence[str]) -> int:
    return _band(parts, y, colour, title, ", ".join(sorted(modules)))


def _corridor(parts: list[str], y: int, house: House) -> int:
    for floor, stages in CORRIDOR.items():
        y = _floor(parts, y, house, floor, stages)
    crossing = ", ".join(f"{one} → {other}" for one, other in house.between_stages()) or "none"
    parts.append(_text(MARGIN + 4, y + 10, f"Imports from a stage's rooms to another stage: {crossing}", 12, "#8a3b12"))
    return y + 10 + 2 * GAP


def _floor(parts: list[str], y: int, house: House, floor: str, stages: Sequence[str]) -> int:
    width = (WIDTH - 2 * MARGIN - GAP * (len(stages) - 1)) / len(stages)
    rooms = {stage: _wrapped(", ".join(side_rooms(house, stage)).split(), int(width / 6.3)) for stage in stages}
    height = 46 + LINE * max(len(lines) for lines in rooms.values())
    parts.append(_text(MARGIN, y + 12, floor, 13, SOFT, "bold"))
    for place, stage in enumerate(stages):
        x = round(MARGIN + place * (width + GAP), 1)
        parts += [_box(x, y + 20, round(width, 1), height, COLOURS[floor]),
                  _text(x + 8, y + 38, f"{STAGES.index(stage) + 1}  {stage}", 14, weight="bold")]  # fmt: skip
        parts += [_text(x + 8, y + 56 + LINE * i, line, 11, SOFT) for i, line in enumerate(rooms[stage])]
    return y + 20 + height + GAP


def main() -> None:
    """Write the picture, or say that it is stale."""
    if "--check" in sys.argv:
        sys.exit(PICTURE.read_text(encoding="utf-8") != picture() and f"{PICTURE.name} is stale: run make docs")
    PICTURE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
