"""Known vulnerabilities of what the product runs on, by pip-audit; an audit of nothing is never called clean."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distribution import ROOT, TOOLS

LOCKS = (ROOT / "constraints-hashes.txt", ROOT / "constraints-hashes-dev.txt")
CLEAN, VULNERABLE, NOT_CHECKED = 0, 1, 3


@dataclass(frozen=True)
class Audit:
    """What pip-audit found: names looked up, names it could not look up, and vulnerabilities as lines."""

    checked: tuple[str, ...]
    skipped: tuple[str, ...]
    vulnerabilities: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 only if every package was looked up and none is known to be vulnerable."""
        if self.vulnerabilities:
            return VULNERABLE
        return CLEAN if self.checked and not self.skipped else NOT_CHECKED

    def __str__(self) -> str:
        total = len(self.checked) + len(self.skipped)
        told = f"audit: {len(self.checked)} of {total} packages looked up, {len(self.vulnerabilities)} vulnerabilities"
        lines = [told, *(f"  {line}" for line in self.vulnerabilities)]
        if self.skipped or not total:
            lines.append(f"audit: NOT CHECKED: {len(self.skipped)} packages ({', '.join(self.skipped[:5])} ...): the")
            lines.append("  vulnerability database does not answer for them; run this again where it can be reached")
        return "\n".join(lines)


def read(report: dict[str, Any]) -> Audit:
    """pip-audit's JSON -> what it says. A package skipped with a reason was not looked up."""
    rows = report.get("dependencies", [])
    return Audit(
        checked=tuple(row["name"] for row in rows if "skip_reason" not in row),
        skipped=tuple(row["name"] for row in rows if "skip_reason" in row),
        vulnerabilities=tuple(
            f"{row['name']} {row['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'no release'}"
            for row in rows for one in row.get("vulns", [])
        ),
    )  # fmt: skip


def audit(path: Path) -> Audit:
    """Look up every pin of ``path``. No package is installed or run."""
    command = [str(TOOLS / "pip-audit"), "--requirement", str(path), "--disable-pip", "--no-deps", "--format", "json"]
    done = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True)
    try:
        return read(json.loads(done.stdout))
    except ValueError:
        print(done.stderr.strip()[-600:], file=sys.stderr)
        return Audit((), (path.name,), ())


def main() -> int:
    """Exit 0 clean, 1 vulnerable, 3 not (or not wholly) checked."""
    codes = []
    for path in LOCKS:
        found = audit(path)
        print(f"{path.name}\n{found}")
        codes.append(found.exit_code)
    print("torch is pinned without a digest and is not in these files; look it up by hand: release/hashes.py says why")
    return VULNERABLE if VULNERABLE in codes else max(codes)


if __name__ == "__main__":
    raise SystemExit(main())
