"""Install a wheel in an environment of its own, outside the repository, and use it as a stranger would."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from distribution import EXTRAS, ROOT, version

DECIDED = {0, 4, 5}
"""Exit codes of a cycle that ended in a decision: promoted, inconclusive, not promoted."""
TERMS = 14
"""Drugs in the small cycle: with four sentences in two voices each, more than the 100 rows that the gate asks for."""


def clean(folder: Path, wheel: Path) -> Path:
    """An environment of nothing but the wheel and its locked dependencies, with digests; its ``bin`` folder."""
    python = _venv(folder)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--no-deps", "--require-hashes", "--requirement", str(ROOT / "constraints-hashes.txt")], folder)
    _run([*pip, "--constraint", str(ROOT / "constraints.txt"), "torch"], folder)
    _run([*pip, "--constraint", str(ROOT / "constraints.txt"), f"{wheel}[{','.join(sorted(EXTRAS))}]"], folder)
    _run([str(python), "-m", "pip", "check"], folder)
    return python.parent


def borrowed(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel of its own and everything else from the one that runs this: fast, no proof."""
    python = _venv(folder)
    site = next(folder.glob("venv/lib/python*/site-packages"))
    theirs = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "borrowed.pth").write_text(f"{theirs}\n", encoding="utf-8")
    _run(
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)],
        folder,
    )
    return python.parent


def _venv(folder: Path) -> Path:
    _run([sys.executable, "-m", "venv", str(folder / "venv")], folder)
    return folder / "venv" / "bin" / "python"


def _run(command: Sequence[str], folder: Path, accept: frozenset[int] | set[int] = frozenset({0})) -> str:
    """Run a command away from the repository; what it printed. Raises SystemExit if it ends as it should not."""
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    shown = " ".join(Path(word).name if word.startswith("/") else word for word in command)
    if done.returncode not in accept:
        raise SystemExit(f"{shown}: exit {done.returncode}\n{done.stdout[-3000:]}")
    print(f"  {time.monotonic() - started:6.1f} s  exit {done.returncode}  {shown:.110}", flush=True)
    return done.stdout


def use(programs: Path, folder: Path) -> None:
    """The commands that a new user tries first. Raises SystemExit with the output of the first that fails."""
    command = str(programs / "clinical-asr")
    where = _run([str(programs / "python"), "-c", "import clinical_asr as c; print(c.__version__, c.__file__)"], folder)
    told, path = where.split(maxsplit=1)
    if told != version() or not Path(path.strip()).is_relative_to(folder):
        raise SystemExit(f"not the wheel that was installed: {where}")
    _expect("cycle", _run([command, "--help"], folder))
    _expect("mini base", _run([command, "doctor"], folder))
    _expect('"', _run([command, "model", "inspect", "mini", "--json"], folder))
    _expect("cardiology", _run([command, "terms", "packs"], folder))


def _expect(word: str, printed: str) -> None:
    if word not in printed:
        raise SystemExit(f"{word!r} was to be printed, and was not:\n{printed[-2000:]}")


def turn(programs: Path, folder: Path) -> dict[str, object]:
    """One small real cycle on the mini base; its decision. Raises SystemExit if it did not come to one."""
    terms = folder / "few.csv"
    package = next(folder.glob("venv/lib/python*/site-packages/clinical_asr"))
    few_terms(package / "examples", terms)
    command = [str(programs / "clinical-asr"), "cycle", "--terms", str(terms), "--base", "mini", "--out", "cycles"]
    command += ["--recipe", str(ROOT / "release" / "smoke.yaml"), "--guard-rows", "40", "--voices-per-sentence", "2"]
    _run([*command, "--waive-audition", "a smoke test of the release"], folder, DECIDED)
    cycle = folder / "cycles" / "cycle1"
    lost = [name for name in ("decision.json", "comparison.html", "adapted_model.nemo") if not (cycle / name).is_file()]
    if lost:
        raise SystemExit(f"the cycle left no {', '.join(lost)} in {cycle}")
    decision: dict[str, object] = json.loads((cycle / "decision.json").read_text(encoding="utf-8"))
    return decision


def few_terms(examples: Path, output: Path) -> None:
    """The first drugs of the example terms and of the packs, as a term list of their own."""
    rows: dict[str, dict[str, str]] = {}
    for path in (examples / "terms.csv", *sorted((examples / "packs").glob("*.csv"))):
        with path.open(newline="", encoding="utf-8") as handle:
            rows |= {row["term"]: row for row in csv.DictReader(handle) if row["entity_category"] == "drug"}
    with output.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, ["term", "entity_category"], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(list(rows.values())[:TERMS])


def demo(programs: Path, folder: Path) -> None:
    """The whole demo, about ten minutes on two cores."""
    _run([str(programs / "clinical-asr"), "demo", "--out", "demo"], folder)
