"""The one folder an agent may work in: every path that a tool takes is resolved, links too, and must lie inside."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from clinical_asr.errors import ConfigError

OWN = ".clinical-asr"
"""Folder of the server's own records, inside the project."""


@dataclass(frozen=True)
class Project:
    """The folder given when the server was started; ``root`` is absolute and resolved."""

    root: Path

    @classmethod
    def at(cls, folder: Path) -> Project:
        """Raises ConfigError if there is no such folder, or if a home lies in it."""
        if not folder.is_dir():
            raise ConfigError("no such folder", f"--project {folder}", "make it, or name the one that is there")
        root = folder.resolve()
        if Path.home().resolve().is_relative_to(root):
            raise ConfigError("is too wide", f"--project {folder}", "give the agent a folder of its own")
        return cls(root)

    @property
    def own(self) -> Path:
        """The server's own folder, where jobs are recorded."""
        return self.root / OWN

    def inside(self, text: str, name: str = "path") -> str:
        """``text`` relative to the project. Raises ConfigError if it leads out of it, by whatever way."""
        plain(text, name)
        resolved = (self.root / text).resolve()
        if not resolved.is_relative_to(self.root):
            raise ConfigError("leads out of the project folder", f"{name} {text!r}", "name a path inside it")
        if resolved.is_relative_to(self.own):
            raise ConfigError("is the server's own folder", f"{name} {text!r}", "name another path")
        return resolved.relative_to(self.root).as_posix()

    def named(self, text: str, name: str) -> str:
        """A name (of a base, a recipe, a pack) or a path; one that is a path must lie inside.

        Raises ConfigError as :meth:`inside` does.
        """
        plain(text, name)
        is_path = text.startswith(("/", "~", ".")) or ".." in Path(text).parts or (self.root / text).is_symlink()
        return self.inside(text, name) if is_path or (self.root / text).exists() else text


def plain(text: str, name: str) -> str:
    """The text itself. Raises ConfigError for control characters: what a person is shown must be what is run."""
    hidden = [sign for sign in text if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    if hidden:
        raise ConfigError(f"holds {len(hidden)} signs that cannot be seen", name, "leave them out")
    return text
