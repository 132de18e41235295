"""Run every step of the Dockerfile without Docker: in an environment and folders of its own, line by line.

A container's root becomes a folder, ``python`` an environment made for each stage, COPY a copy that obeys
.dockerignore. What only root of a new system can do (``useradd``) goes to a stand-in that checks its words.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from distribution import ROOT

KNOWN = {"FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
STAND_INS = {
    "useradd": 'case " $* " in *" --uid "*) : ;; *) echo "useradd without --uid" >&2; exit 2 ;; esac',
    "chown": 'test "$#" -ge 2 && for path in "${@:2}"; do test -e "$path" || exit 1; done',
    "apt-get": 'case " $* " in *" install "*) exec /usr/bin/apt-get --dry-run "$@" ;; *) : ;; esac',
}
"""Commands that change the system -> what is run instead."""


@dataclass(frozen=True)
class Step:
    """One instruction: its word, and the rest with continued lines joined."""

    word: str
    rest: str


def steps(text: str) -> list[Step]:
    """Instructions of a Dockerfile in order. Raises SystemExit for one that is not known here: none goes untested.

    >>> steps("FROM a\\n# a remark\\nRUN one && \\\\\\n  two\\n")
    [Step(word='FROM', rest='a'), Step(word='RUN', rest='one && two')]
    """
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    lines = [line.strip() for line in re.sub(r"\s*\\\n\s*", " ", plain).splitlines() if line.strip()]
    found = [Step(line.split()[0].upper(), line.split(maxsplit=1)[1]) for line in lines]
    if strange := {step.word for step in found} - KNOWN:
        raise SystemExit(f"no test for {', '.join(sorted(strange))}")
    return found


@dataclass
class Stage:
    """One stage being built: where its root lies, where it works, what is set."""

    root: Path
    name: str
    pip: bool = True
    folder: Path = field(init=False)
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        self.folder = self.root
        options = [] if self.pip else ["--without-pip"]
        subprocess.run([sys.executable, "-m", "venv", *options, str(self.root / "venv")], check=True)
        for name, script in STAND_INS.items():
            path = self.root / "venv" / "bin" / name
            path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
            path.chmod(0o755)

    def inside(self, path: str) -> Path:
        """A path of the container, in the folder that stands for its root."""
        return self.root / path.lstrip("/") if path.startswith("/") else self.folder / path


class Builder:
    """Takes the steps one by one."""

    def __init__(self, scratch: Path, arguments: dict[str, str], pip: bool = True) -> None:
        self.scratch, self.arguments, self.pip = scratch, arguments, pip
        self.stages: list[Stage] = []
        self.globals: dict[str, str] = {}
        self.ran = 0

    @property
    def stage(self) -> Stage:
        """The stage that is being built."""
        return self.stages[-1]

    def take(self, step: Step) -> None:
        """Do one step. Raises SystemExit if it fails."""
        handle = getattr(self, f"_{step.word.lower()}", None)
        if handle:
            handle(step.rest)

    def _from(self, rest: str) -> None:
        image, _, name = rest.partition(" AS ")
        wanted = re.search(r"python:(\d+\.\d+)", self._filled(image, self.globals))
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if not wanted or wanted[1] != here:
            raise SystemExit(f"FROM {rest}: this Python is {here}")
        self.stages.append(Stage(self.scratch / f"stage{len(self.stages)}", name.strip(), self.pip))

    def _arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        settings = self.stage.settings if self.stages else self.globals
        settings[name] = self.arguments.get(name, default)

    def _env(self, rest: str) -> None:
        self.stage.settings |= dict(word.split("=", 1) for word in shlex.split(rest))

    def _workdir(self, rest: str) -> None:
        self.stage.folder = self.stage.inside(rest)
        self.stage.folder.mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        *sources, target = [word for word in rest.split() if not word.startswith("--from=")]
        named = re.search(r"--from=(\S+)", rest)
        goal = self.stage.inside(target)
        if named:
            home = next(one for one in self.stages if one.name == named[1])
            shutil.copytree(home.inside(sources[0]), goal, dirs_exist_ok=True)
            return
        goal.mkdir(parents=True, exist_ok=True)
        context = sent()
        for source in sources:
            chosen = [p for p in context if source == "." or p == source or p.startswith(f"{source.rstrip('/')}/")]
            if not chosen:
                raise SystemExit(f"COPY {source}: .dockerignore keeps it out, or it is not there")
            for path in chosen:
                to = goal / (path if source == "." else Path(path).name)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / path, to)

    def _run(self, rest: str) -> None:
        command = self._rooted(rest)
        print(f"RUN {re.sub(' +', ' ', rest)[:150]}", flush=True)
        environment = {**os.environ, **self.stage.settings}
        environment["PATH"] = f"{self.stage.root / 'venv' / 'bin'}:/usr/bin:/bin"
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=self.stage.folder, env=environment, text=True, capture_output=True
        )
        if done.returncode:
            raise SystemExit(f"exit {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
        self.ran += 1

    def _rooted(self, command: str) -> str:
        """The command with the container's own folders led into the scratch root."""
        return re.sub(r"(?<![\w./])/(wheels|licences|source|work)\b", rf"{self.stage.root}/\1", command)

    def _filled(self, text: str, settings: dict[str, str]) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda found: settings.get(found[1], ""), text)


def sent() -> list[str]:
    """Tracked files that .dockerignore lets into the build, relative to the repository."""
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], check=True, stdout=subprocess.PIPE, text=True)
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line]
    rules = [line for line in rules if not line.startswith("#")]
    return [path for path in tracked.stdout.splitlines() if (ROOT / path).is_file() and not ignored(path, rules)]


def ignored(path: str, rules: Sequence[str]) -> bool:
    """Whether the last rule that meets ``path`` keeps it out; ``!`` lets in again.

    >>> ignored("tests/x.py", ["*", "!src/"]), ignored("src/a/b.py", ["*", "!src/"])
    (True, False)
    >>> ignored("src/x.part", ["**/*.part"])
    True
    """
    out = False
    for rule in rules:
        pattern = rule.removeprefix("!").rstrip("/")
        bare = pattern.removeprefix("**/")
        met = fnmatch(path, pattern) or path.startswith(f"{pattern}/")
        met = met or (pattern != bare and any(fnmatch(part, bare) for part in Path(path).parts))
        out = not rule.startswith("!") if met else out
    return out


def main() -> int:
    """Exit 0 if every step of the Dockerfile was taken and went well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--cpu-index", default="", help="where PyTorch comes from; by default pip's own settings")
    given = parser.parse_args()
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="clinical-asr-image-") as folder:
        builder = Builder(Path(folder), {"VARIANT": given.variant, "CPU_INDEX": given.cpu_index})
        for step in steps(text):
            builder.take(step)
        wanted = sum(step.word == "RUN" for step in steps(text))
        enter = Path(folder, f"stage{len(builder.stages) - 1}", "venv", "bin", "clinical-asr")
        subprocess.run([str(enter), "--help"], check=True, stdout=subprocess.DEVNULL)
    print(f"{builder.ran} of {wanted} RUN lines went well, and the entry point answers")
    return 0 if builder.ran == wanted > 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
