"""A release, made and tried: source archive, wheel, bill of materials, digests. It uploads nothing."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import install
import package
import sbom
from distribution import NAME, ROOT, version

DIST = ROOT / "dist"


def main() -> int:
    """Exit 0 once all is made and tried; anything that fails ends it with its own words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="borrow this environment's packages and turn no cycle")
    parser.add_argument("--demo", action="store_true", help="also run the whole demo from the wheel, about ten minutes")
    given = parser.parse_args()
    _uncommitted()
    _checks()
    archive, wheel = package.build(DIST)
    if wrong := package.faults(wheel):
        raise SystemExit("\n  ".join([f"{wheel.name} is no release:", *wrong]))
    print(f"{archive.name}: {archive.stat().st_size / 1e6:.1f} MB; {wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
    bill = DIST / f"{NAME}-{version()}.cdx.json"
    with tempfile.TemporaryDirectory(prefix="clinical-asr-release-") as name:
        _try(Path(name), wheel, bill, given)
    _digests([archive, wheel, bill])
    return 0


def _uncommitted() -> None:
    command = ["git", "-C", str(ROOT), "status", "--porcelain"]
    changed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    if changed:
        print(f"note: {len(changed)} paths are not committed and are not in this release")


def _checks() -> None:
    """Licences and digests must hold; what could not be looked up is said, and stops nothing."""
    for script, arguments, may_be_unchecked in (
        ("licences.py", ["check"], False), ("hashes.py", ["verify"], True), ("audit.py", [], True),
    ):  # fmt: skip
        code = subprocess.run([sys.executable, str(ROOT / "release" / script), *arguments]).returncode
        if code and not (code == 3 and may_be_unchecked):
            raise SystemExit(f"release/{script}: exit {code}")


def _try(folder: Path, wheel: Path, bill: Path, given: argparse.Namespace) -> None:
    print(f"{'borrowed' if given.fast else 'clean'} environment, outside the repository:")
    programs = (install.borrowed if given.fast else install.clean)(folder, wheel)
    install.use(programs, folder)
    if not given.fast:
        print(f"  decision of the small cycle: {install.turn(programs, folder).get('verdict')}")
    if given.demo:
        install.demo(programs, folder)
    python = Path(sys.executable) if given.fast else programs / "python"
    print(f"{bill.name}: {sbom.build(python, bill)} components")


def _digests(paths: list[Path]) -> None:
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    (DIST / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    print("".join(lines), end="")


if __name__ == "__main__":
    raise SystemExit(main())
