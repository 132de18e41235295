"""The house rules, held true by the syntax trees: what imports what, and what ``--help`` costs."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "clinical_asr"
STAGES = {
    "terms", "sentences", "pronunciations", "audition", "audio", "manifest", "general",
    "hypotheses", "scores", "leaderboard", "gate",
    "split", "finetune", "comparison", "ladder", "deploy", "report",
}  # fmt: skip
PURE = {
    "gate", "triage", "firmness", "gaps", "split", "hold_outs", "strata", "takes", "comparison", "compared",
    "verdict", "ladder", "parity",
    "metrics", "error_count", "corpus_score", "statistics", "text", "keywords", "tally", "leaderboard",
}  # fmt: skip
HEAVY = {"torch", "nemo", "lightning", "transformers", "grpc", "riva", "librosa"}
DOES_IO = {"os", "pathlib", "subprocess", "socket", "shutil", "tempfile", "urllib", "http"}


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names a module imports; ``from a import b`` counts as ``a.b`` as well as ``a``."""
    tree = ast.parse(path.read_text())
    nodes = _top_level(tree) if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements run at import, without ``if TYPE_CHECKING`` blocks."""
    return [node for node in tree.body if not isinstance(node, ast.If)]


def inside(names: set[str]) -> set[str]:
    """First module of each import from this package: ``clinical_asr.engines.espeak`` -> ``engines``."""
    return {name.split(".")[1] for name in names if name.startswith("clinical_asr.")}


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_the_house_has_its_rooms() -> None:
    here = {path.stem for path in PACKAGE.glob("*.py")}
    assert here >= STAGES, f"missing stages: {STAGES - here}"


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_imports_no_stage_no_engine_no_cli(stage: str) -> None:
    used = inside(imports(PACKAGE / f"{stage}.py"))
    forbidden = (STAGES - {stage}) | {"engines", "cli", "flywheel"}
    assert not used & forbidden


@pytest.mark.parametrize("path", sorted((PACKAGE / "engines").glob("*.py")), ids=lambda p: p.stem)
def test_an_engine_imports_no_stage_and_no_other_engine(path: Path) -> None:
    names = imports(path)
    assert not inside(names) & (STAGES | {"cli", "flywheel"})
    own = f"clinical_asr.engines.{path.stem}"
    assert not [n for n in names if n.startswith("clinical_asr.engines.") and not n.startswith(own)]


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_rooms_do_no_input_or_output(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    assert not {n.split(".")[0] for n in imports(path)} & DOES_IO
    assert "jsonl" not in inside(imports(path))
    assert not re.search(r"(?<![\w.])(open|print|input)\(", path.read_text().replace(">>> print(", ""))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_heavy_is_imported_at_the_top(path: Path) -> None:
    assert not {n.split(".")[0] for n in imports(path, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_command_line_reads_the_environment_and_nobody_imports_it(path: Path) -> None:
    if "cli" in path.relative_to(PACKAGE).parts or path.stem in {"cli", "__main__"}:
        return
    assert "os.environ" not in path.read_text() and "getenv" not in path.read_text()
    assert "cli" not in inside(imports(path))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_agents_door_runs_commands_and_is_opened_by_the_command_line_alone(path: Path) -> None:
    rooms = path.relative_to(PACKAGE).parts
    if rooms[0] == "agent":
        assert not inside(imports(path)) & {"cli", "engines", "flywheel"}
    elif rooms[0] != "cli":
        assert "agent" not in inside(imports(path))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400, "look for the second noun"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_help_loads_nothing_heavy() -> None:
    done = run_python(
        "import sys; sys.argv = ['clinical-asr', '--help']\n"
        "from clinical_asr.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        f"print('heavy:', sorted({HEAVY!r} & set(sys.modules)))"
    )
    assert "heavy: []" in done.stdout, done.stdout + done.stderr
    assert "cycle" in done.stdout


def test_every_command_has_its_place_in_the_flow() -> None:
    from typer.main import get_command

    from clinical_asr.cli import app
    from clinical_asr.cli.corridor import FLOW

    assert tuple(get_command(app).commands) == FLOW  # type: ignore[attr-defined]


def test_help_answers_in_under_a_third_of_a_second() -> None:
    """Processor time, the best of five: on an idle machine it is the wall time, and tests run beside this one.

    Three times the time on an idle core: a busy or older machine must not make the promise false.
    """
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "clinical_asr", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3, seconds
