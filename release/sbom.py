"""Software bill of materials, CycloneDX JSON: the product, what it runs on, the mini base, eSpeak NG in its loader."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from distribution import NAME, ROOT, TOOLS, runtime, version
from packaging.utils import canonicalize_name

BASE = ROOT / "models" / "mini-fastconformer-tdt.nemo"


def build(python: Path, output: Path) -> int:
    """Write the bill of the environment of ``python`` to ``output``; how many components it lists.

    Of that environment only what the product runs on is kept: tests' tools are not shipped. Raises SystemExit if the
    bill lacks one of them.
    """
    bill = _of_environment(python)
    wanted = set(runtime())
    kept = [one for one in bill.get("components", []) if canonicalize_name(one["name"]) in wanted]
    held = {str(canonicalize_name(one["name"])) for one in kept}
    if lost := wanted - held:
        raise SystemExit(f"sbom: the bill lacks {', '.join(sorted(lost))}")
    bill["components"] = [*kept, *carried()]
    refs = {one["bom-ref"] for one in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    bill["dependencies"] = [_within(row, refs) for row in bill.get("dependencies", []) if row["ref"] in refs]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return len(bill["components"])


def _of_environment(python: Path) -> dict[str, Any]:
    command = [str(TOOLS / "cyclonedx-py"), "environment", "--pyproject", str(ROOT / "pyproject.toml")]
    command += ["--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON", str(python)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_environment())
    bill: dict[str, Any] = json.loads(done.stdout)
    bill["metadata"]["component"].update(name=NAME, version=version())
    return bill


def _environment() -> dict[str, str]:
    """The time of the last commit, so that the same commit gives the same bill."""
    return {**os.environ, "SOURCE_DATE_EPOCH": epoch()}


def epoch() -> str:
    """Seconds since 1970 of the last commit."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _within(row: dict[str, Any], refs: set[str]) -> dict[str, Any]:
    return {**row, "dependsOn": [ref for ref in row.get("dependsOn", []) if ref in refs]}


def carried() -> list[dict[str, Any]]:
    """What no package index knows of: the model in the wheel and the library inside the loader."""
    digest = hashlib.sha256(BASE.read_bytes()).hexdigest()
    base = {
        "type": "machine-learning-model", "bom-ref": "mini-base", "name": BASE.name, "version": version(),
        "hashes": [{"alg": "SHA-256", "content": digest}], "licenses": [{"license": {"id": "Apache-2.0"}}],
    }  # fmt: skip
    espeak = {
        "type": "library", "bom-ref": "espeak-ng", "name": "espeak-ng", "version": espeak_version(),
        "licenses": [{"license": {"id": "GPL-3.0-or-later"}}], "description": "inside the package espeakng-loader",
    }  # fmt: skip
    return [base, espeak]


def espeak_version() -> str:
    """The version that the bundled library itself tells."""
    code = "import ctypes, espeakng_loader as e; l = ctypes.CDLL(e.get_library_path())\n"
    code += "l.espeak_Info.restype = ctypes.c_char_p; print(l.espeak_Info(None).decode())"
    return subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> int:
    """Exit 0 once the bill is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="environment to list")
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / f"{NAME}-{version()}.cdx.json")
    given = parser.parse_args()
    print(f"sbom: {build(given.python, given.output)} components: {given.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
