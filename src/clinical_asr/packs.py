"""Starter packs: term lists by specialty that come with the package, to begin from and to make one's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from clinical_asr.errors import ConfigError


def packs() -> dict[str, Path]:
    """Name to CSV file: of ``examples/packs`` in a checkout, or of the copy in an installed package."""
    here = Path(str(resources.files("clinical_asr")))
    for folder in (here / "examples" / "packs", here.parents[1] / "examples" / "packs"):
        found = {path.stem: path for path in sorted(folder.glob("*.csv"))}
        if found:
            return found
    raise ConfigError("the starter packs are missing", "packs", "reinstall the package")


def resolve_pack(name_or_path: str) -> Path:
    """A pack by name, or a file by path. Raises ConfigError naming the packs there are."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = packs()
    if name_or_path not in known:
        raise ConfigError(f"no pack or file {name_or_path!r}", "--from", f"one of {', '.join(known)}, or a CSV file")
    return known[name_or_path]
