"""Build the source archive and the wheel from the last commit, and look into both."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from distribution import EXTRAS, NAME, ROOT, TOOLS, version
from sbom import epoch

LARGEST_WHEEL = 40_000_000
"""Bytes; the mini base has 24 million of them. Indexes take 100 MB a file: far above this, fetch the base instead."""
INSIDE = {
    "clinical_asr/models": (".nemo", ".nemo.sha256", ".md"),
    "clinical_asr/examples": (".csv",),
    "clinical_asr/examples/packs": (".csv",),
    "clinical_asr/templates": (".j2", ".css", ".js"),
    "clinical_asr/templates/deploy": (".j2",),
    "clinical_asr/recipes": (".yaml", ".md"),
    "clinical_asr/data": (".txt", ".yaml"),
    "clinical_asr": ("py.typed",),
}
"""Folder of the wheel -> endings of which every such file of the repository must be in it."""
SOURCES = {"clinical_asr/models": "models", "clinical_asr/examples": "examples"}
LICENCES = ("LICENSE", "NOTICE", "THIRD_PARTY_LICENCES.md", "models/recipe/SOURCES.md")


def build(output: Path) -> tuple[Path, Path]:
    """Source archive and wheel of the last commit, into ``output``. The wheel is built from the unpacked archive.

    What is changed or new in the work tree and not committed is in neither.
    """
    with tempfile.TemporaryDirectory() as folder:
        export, unpacked = Path(folder, "export"), Path(folder, "unpacked")
        _export(export)
        archive = _hatch(export, output, "sdist")
        with tarfile.open(archive) as opened:
            opened.extractall(unpacked, filter="data")
        wheel = _hatch(unpacked / f"{NAME.replace('-', '_')}-{version()}", output, "wheel")
    return archive, wheel


def _export(folder: Path) -> None:
    folder.mkdir()
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True)


def _hatch(source: Path, output: Path, target: str) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    command = [str(TOOLS / "python"), "-m", "hatchling", "build", "-t", target, "-d", str(output.absolute())]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch()}
    subprocess.run(command, check=True, cwd=source, env=environment, stdout=subprocess.DEVNULL)
    ending = "*.tar.gz" if target == "sdist" else "*.whl"
    return max(output.glob(f"{NAME.replace('-', '_')}-{version()}{ending}"), key=lambda path: path.stat().st_mtime)


def faults(wheel: Path) -> list[str]:
    """What is wrong with a wheel; empty if nothing is."""
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        found = [f"lacks {name}" for name in sorted(expected() - names)]
        info = f"{NAME.replace('-', '_')}-{version()}.dist-info"
        found += [f"lacks the licence file {name}" for name in LICENCES if f"{info}/licenses/{name}" not in names]
        found += [f"holds {name}" for name in sorted(names) if unwelcome(name)]
        found += _metadata_faults(opened.read(f"{info}/METADATA").decode())
        found += _base_faults(opened) if not found else []
    size = wheel.stat().st_size
    return found + ([f"{size} bytes, more than {LARGEST_WHEEL}"] if size > LARGEST_WHEEL else [])


def expected() -> set[str]:
    """Names in the wheel of all data files that the last commit tracks, and of every module."""
    command = ["git", "-C", str(ROOT), "ls-tree", "-r", "--name-only", "HEAD"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = {line.removeprefix("src/") for line in lines if line.startswith("src/") and line.endswith(".py")}
    for folder, endings in INSIDE.items():
        source = _source(folder)
        here = {line for line in lines if str(Path(line).parent) == source and line.endswith(endings)}
        if not here:
            raise SystemExit(f"{source} holds no file that ends in {' or '.join(endings)}: mend INSIDE")
        found |= {f"{folder}/{Path(line).name}" for line in here}
    return found


def _source(folder: str) -> str:
    """Folder of the repository that becomes ``folder`` of the wheel."""
    moved = (there + folder.removeprefix(here) for here, there in SOURCES.items() if folder.startswith(here))
    return next(moved, f"src/{folder}")


def unwelcome(name: str) -> bool:
    """Whether a file has no business in a wheel.

    >>> unwelcome("clinical_asr/__pycache__/gate.pyc"), unwelcome("clinical_asr/gate.py")
    (True, False)
    """
    return "__pycache__" in name or name.endswith((".pyc", ".part")) or name.startswith(("tests/", "docs/", "release/"))


def _metadata_faults(text: str) -> list[str]:
    told = HeaderParser().parsestr(text)
    found = [] if told["Version"] == version() else [f"METADATA says version {told['Version']}"]
    if told["License-Expression"] != "Apache-2.0":
        found.append(f"METADATA says licence {told['License-Expression']}")
    lost = EXTRAS - set(told.get_all("Provides-Extra") or [])
    return found + [f"METADATA lacks the extra {one}" for one in sorted(lost)]


def _base_faults(opened: zipfile.ZipFile) -> list[str]:
    base = next(name for name in opened.namelist() if name.endswith(".nemo"))
    digest = hashlib.sha256(opened.read(base)).hexdigest()
    return [] if digest in opened.read(f"{base}.sha256").decode() else [f"{base} has another digest than its sidecar"]
