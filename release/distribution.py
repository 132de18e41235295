"""What the product is and what it runs on, from the metadata of the environment it is installed in."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NAME = "clinical-asr-flywheel"
EXTRAS = frozenset({"nemo", "frugal", "riva", "ray", "agent"})
"""What a user installs; ``dev`` is for those who change the code, ``designer`` for those who ask for it."""
TOOLS = ROOT / "build" / "tools" / "bin"


def version() -> str:
    """The version, from its one place."""
    text = (ROOT / "src" / "clinical_asr" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if not found:
        raise SystemExit("no __version__ in src/clinical_asr/__init__.py")
    return found[1]


def pins(text: str) -> dict[str, str]:
    """Name -> version of the lines ``name==version``; hashes and comments are passed over.

    >>> pins("Jinja2==3.1.6 \\\\\\n    --hash=sha256:ab\\n# a comment\\n")
    {'jinja2': '3.1.6'}
    """
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)==([^\s\\;]+)", text, re.MULTILINE)
    return {str(canonicalize_name(name)): pinned for name, pinned in found}


@cache
def runtime() -> dict[str, Distribution]:
    """Every distribution that the product with its user's extras pulls in here, by name; the product itself left out.

    Raises SystemExit if one is missing: a list with holes is no list.
    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = _needs(_asked_for(), frozenset())
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = _installed(name)
        todo += _needs(found[name].requires or [], extras)
    return dict(sorted(found.items()))


def _asked_for() -> list[str]:
    """What the product and its user's extras require, read from the source: an editable install's metadata grow old."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]


def _installed(name: str) -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"{name} is not installed here: run this with the environment that `make` sets up") from None


def _needs(lines: Iterable[str], extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """Requirements that apply here when ``extras`` are asked for."""
    wanted = [Requirement(line) for line in lines]
    return [
        (str(canonicalize_name(one.name)), frozenset(one.extras))
        for one in wanted
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
    ]
