"""Digests of every file that the pinned versions may be installed from, and the check that they still hold.

`constraints-hashes.txt` holds what the product runs on, `constraints-hashes-dev.txt` what its tests add. pip refuses
to mix requirements with and without digests, and PyTorch cannot have one: the same pinned version comes as a CPU
build or a CUDA build, from whichever index the user's pip is set up for, and each has its own digest. So torch
stands in neither file and is installed after them, pinned by version only. That, and the build tools that pip
fetches by itself for the few packages published as source only, is what these files do not protect.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from distribution import ROOT, TOOLS, pins, runtime

CONSTRAINTS = ROOT / "constraints.txt"
LOCKS = {"run": ROOT / "constraints-hashes.txt", "dev": ROOT / "constraints-hashes-dev.txt"}
UNHASHED = {"torch"}
HEAD = {
    "run": "# Digests of what the product runs on, all but torch. Written by `make hashes`; why: release/hashes.py.\n",
    "dev": "# Digests of what tests and development add. Written by `make hashes`; why: release/hashes.py.\n",
}


def write() -> None:
    """Ask the index that pip is set up for, for the digests of all files of each pinned version."""
    wanted = pins(CONSTRAINTS.read_text(encoding="utf-8"))
    needed = runtime().keys()
    for part, path in LOCKS.items():
        names = [n for n in sorted(wanted) if n not in UNHASHED and (n in needed) == (part == "run")]
        text = _ask("".join(f"{name}=={wanted[name]}\n" for name in names))
        path.write_text(HEAD[part] + text, encoding="utf-8")
        print(f"{path.name}: {len(pins(text))} packages, {text.count('--hash=')} digests")


def _ask(requirements: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "asked.in")
        asked.write_text(requirements, encoding="utf-8")
        command = [
            str(TOOLS / "uv"),
            "pip",
            "compile",
            "--generate-hashes",
            "--no-deps",
            "--no-header",
            "--no-annotate",
        ]
        command += ["--quiet", "--python-version", "3.11", *_index(), str(asked)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _index() -> list[str]:
    """The index of pip's own settings, which uv does not read."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    return ["--index-url", done.stdout.strip()] if done.returncode == 0 and done.stdout.strip() else []


def faults() -> list[str]:
    """What is wrong with the files themselves, without asking anybody; empty if nothing is.

    Every pin of ``constraints.txt`` stands in exactly one file, in that version, with a digest; nothing else does.
    """
    wanted = {n: v for n, v in pins(CONSTRAINTS.read_text(encoding="utf-8")).items() if n not in UNHASHED}
    found: list[str] = [] if wanted else [f"{CONSTRAINTS.name} pins nothing"]
    held: dict[str, str] = {}
    for path in LOCKS.values():
        for name, pinned, digests in entries(path.read_text(encoding="utf-8")):
            found += [f"{path.name}: {name} has no digest"] if not digests else []
            found += [f"{path.name}: {name} stands in both files"] if name in held else []
            held[name] = pinned
    for name in sorted(wanted.keys() | held.keys()):
        if wanted.get(name) != held.get(name):
            found.append(f"{name}: {wanted.get(name)} in {CONSTRAINTS.name}, {held.get(name)} with digests")
    return found


def entries(text: str) -> list[tuple[str, str, list[str]]]:
    """Name, version and SHA-256 digests of each requirement."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    return [
        (name, pinned, re.findall(r"--hash=sha256:([0-9a-f]{64})\b", block))
        for block in blocks
        for name, pinned in pins(block).items()
    ]


def served(path: Path) -> int:
    """How many packages of ``path`` the index offers with a digest listed there. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        command += ["--require-hashes", "--report", str(report), "--requirement", str(path)]
        subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)
        return len(json.loads(report.read_text(encoding="utf-8"))["install"])


def main() -> int:
    """Exit 0 if all holds, 1 if something differs, 3 if the index could not be asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["write", "check", "verify"], help="verify also asks the index")
    action = parser.parse_args().action
    if action == "write":
        write()
    if wrong := faults():
        print("digests: WRONG", *wrong, sep="\n  ")
        return 1
    for path in LOCKS.values() if action == "verify" else ():
        try:
            print(f"digests: {path.name}: the index serves all {served(path)} packages with a digest listed here")
        except subprocess.CalledProcessError as error:
            differs = "DO NOT MATCH THE HASHES" in error.stderr
            told = "DIFFER from what the index serves" if differs else "NOT CHECKED: the index did not serve them all"
            print(f"digests: {path.name}: {told}\n{_reason(error.stderr)}")
            return 1 if differs else 3
    return 0


def _reason(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
    return "\n".join(f"  {line}" for line in lines[-12:])


if __name__ == "__main__":
    raise SystemExit(main())
