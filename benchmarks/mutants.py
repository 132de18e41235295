"""Mutation testing: would the tests notice if a line of the scoring said something else?

    pip install mutmut coverage
    python benchmarks/mutants.py                      # every module of MODULES; the same command again resumes
    python benchmarks/mutants.py metrics split --sample 200

Each mutant is one module with one operator, number, string, argument or assignment changed. The changes are those of
mutmut, made to the whole module: constants, properties and decorated functions too. A mutant lives in the memory of a
forked process only, so no file of the checkout is ever touched. It meets the module's doctests and the test files named
in MODULES: those that run the changed line, the quickest first, and all others that take under ``FREE`` seconds.

Left out: annotations, docstrings, decorators, ``__all__``, names of types, the wording of refusals (``raise``)
and upper or lower case of a string. A survivor is either a missing test or equivalent; equivalent ones are explained in
``mutants_equivalent.jsonl``. Exit code 1 if any survivor is not explained. Needs a system with ``fork``.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import io
import json
import os
import pickle
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import libcst
import pytest
from coverage import Coverage
from hypothesis import Phase, settings
from libcst.metadata import MetadataWrapper, PositionProvider

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/clinical_asr"
MODULES = {
    "error_count": ["test_metrics.py", "test_metrics_edges.py"],
    "metrics": ["test_metrics.py", "test_metrics_edges.py", "test_anchors.py"],
    "corpus_score": ["test_metrics.py", "test_metrics_edges.py"],
    "text": ["test_text.py", "test_text_edges.py", "test_term_identity.py"],
    "gate": ["test_gate.py", "test_gate_edges.py"],
    "triage": ["test_gate.py", "test_gate_edges.py"],
    "firmness": ["test_gate.py", "test_gate_edges.py", "test_term_identity.py"],
    "gaps": ["test_gate.py", "test_gate_edges.py", "test_foreign_rows.py"],
    "split": ["test_split.py", "test_split_edges.py"],
    "hold_outs": ["test_split.py", "test_split_edges.py"],
    "split_columns": ["test_split.py", "test_split_edges.py"],
    "strata": ["test_split.py", "test_split_edges.py"],
    "takes": ["test_split.py", "test_split_edges.py"],
    "comparison": ["test_comparison.py", "test_comparison_edges.py"],
    "verdict": ["test_comparison.py", "test_comparison_edges.py"],
    "statistics": ["test_statistics.py", "test_statistics_edges.py"],
    "changes": ["test_comparison.py", "test_changes_edges.py", "test_term_identity.py"],
    "keywords": ["test_keywords.py"],
    "doses": ["test_keywords.py", "test_doses_edges.py"],
    "noninferiority": ["test_statistics.py", "test_comparison.py", "test_noninferiority_edges.py"],
    "power": ["test_statistics.py", "test_power_edges.py"],
    "leaderboard": ["test_leaderboard.py", "test_foreign_rows.py"],
    "tally": ["test_tally.py", "test_leaderboard.py", "test_tally_edges.py"],
    "keyword_count": ["test_keywords.py", "test_counting_edges.py"],
    "occurrences": ["test_keywords.py", "test_occurrences_edges.py"],
    "matching": ["test_keywords.py", "test_occurrences_edges.py"],
    "confusions": ["test_keywords.py", "test_confusions_edges.py"],
    "anchors": ["test_anchors.py", "test_metrics.py"],
    "alignment": ["test_anchors.py", "test_metrics.py", "test_keywords.py", "test_counting_edges.py"],
    "row_ids": ["test_streaming.py", "test_counting_edges.py"],
    "number_words": ["test_number_words.py", "test_keywords.py", "test_doses_edges.py", "test_counting_edges.py"],
}
"""Module -> test files beside its doctests; one that does not exist is passed over."""
FREE = 0.1
"""CPU seconds up to which a test meets every mutant, whether or not it was seen to run the changed line."""
HEAVY = 6.0
"""CPU seconds from which a test (a simulation over thousands of draws) meets no mutant."""
LARGEST = 2 << 20
"""Resident KiB from which a mutant is killed."""
THIRD_PARTY = (
    "numpy", "scipy.special", "scipy.stats", "msgspec", "yaml", "jiwer", "kaldialign", "rapidfuzz.process", "soundfile",
)  # fmt: skip
"""Loaded once, before the forks."""


@dataclass(frozen=True)
class Mutant:
    """One changed module; ``before`` and ``after`` are the changed piece, ``statement`` the line it stands in.

    ``place`` is the column in ``statement``, which tells two equal pieces of one line apart.
    """

    module: str
    line: int
    place: int
    operator: str
    statement: str
    before: str
    after: str
    code: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.module}\n{self.code}".encode()).hexdigest()[:16]


class Mutator(libcst.CSTVisitor):
    """Walks a module and collects (node, operator, changed node)."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        from mutmut.mutation.mutators import mutation_operators

        self.operators = mutation_operators
        self.found: list[tuple[int, int, libcst.CSTNode, str, libcst.CSTNode]] = []

    def on_visit(self, node: libcst.CSTNode) -> bool:
        if isinstance(node, libcst.Annotation | libcst.Decorator | libcst.Raise | libcst.Import | libcst.ImportFrom):
            return False
        if isinstance(node, libcst.Assign) and _names_types(node):
            return False
        if isinstance(node, libcst.Expr) and isinstance(node.value, libcst.SimpleString | libcst.ConcatenatedString):
            return False
        for kind, operator in self.operators:
            if isinstance(node, kind):
                changed = list(operator(node))
                for other in changed[:1] if operator.__name__ == "operator_string" else changed:
                    where = self.get_metadata(PositionProvider, node).start
                    name = operator.__name__.removeprefix("operator_")
                    self.found.append((where.line, where.column, node, name, other))
        return True


def _names_types(node: libcst.Assign) -> bool:
    """``__all__ = [...]`` and ``Pair = tuple[...]``."""
    target = node.targets[0].target
    if not isinstance(target, libcst.Name):
        return False
    return target.value == "__all__" or (isinstance(node.value, libcst.Subscript) and target.value[0].isupper())


def mutants(module: str, source: str) -> list[Mutant]:
    """Every mutant of a module that compiles and differs from it and from the others."""
    wrapper = MetadataWrapper(libcst.parse_module(source), unsafe_skip_copy=True)
    visitor = Mutator()
    wrapper.visit(visitor)
    lines = source.splitlines(keepends=True)
    starts = [0, *(sum(map(len, lines[: i + 1])) for i in range(len(lines)))]
    seen, made = {_meaning(source)}, []
    for line, column, node, operator, other in visitor.found:
        before, after = wrapper.module.code_for_node(node), wrapper.module.code_for_node(other)
        place = starts[line - 1] + column
        if source.startswith(before, place):
            code = source[:place] + after + source[place + len(before) :]
        else:  # white space or a bracket belongs to the node
            code = wrapper.module.deep_replace(node, other).code  # type: ignore[attr-defined]
        meaning = _meaning(code)
        if meaning is not None and meaning not in seen:
            seen.add(meaning)
            column -= len(lines[line - 1]) - len(lines[line - 1].lstrip())
            made.append(
                Mutant(module, line, column, operator, lines[line - 1].strip(), before.strip(), after.strip(), code)
            )
    return made


def _meaning(code: str) -> str | None:
    try:
        return ast.dump(ast.parse(code))
    except SyntaxError:
        return None


def forked(work: Callable[[], Any], cpu_seconds: float) -> tuple[str, Any]:
    """("done", what ``work`` returned) from a process of its own, or ("killed by <signal>", None)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds) + 1,) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30,) * 2)  # for what would be too large at a stroke
        signal.signal(signal.SIGVTALRM, _leave_if_grown)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.5, 0.5)
        signal.alarm(int(20 * cpu_seconds) + 60)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            with os.fdopen(write, "wb") as back:
                back.write(pickle.dumps(work()))
        finally:
            os._exit(0)  # nothing of the parent goes on in here, whatever was raised
    os.close(write)
    with os.fdopen(read, "rb") as back:
        told = back.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}", None
    return ("done", pickle.loads(told)) if told else ("crashed", None)


def _leave_if_grown(*_: object) -> None:
    """A loop that grows without end ends here: its MemoryError would be swallowed, with somebody's lock held."""
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > LARGEST:
        os._exit(1)


@dataclass
class Baseline:
    """What the tests of a module do with the module as it is."""

    seconds: dict[str, float]
    """Test id -> CPU seconds."""
    contexts: dict[int, list[str]]
    """Line -> ids of the tests that ran it; ``""`` stands for the import."""
    missing_branches: list[list[int]]
    branches: str
    """Branches taken of all, ``20 of 22``."""


class Recorder:
    """pytest plugin: CPU seconds of each test, and its name for the lines it runs."""

    def __init__(self, cov: Coverage) -> None:
        self.cov, self.seconds = cov, {}  # type: tuple[Coverage, dict[str, float]]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.cov.switch_context(item.nodeid)
        began = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - began
        self.cov.switch_context("")
        return result  # type: ignore[return-value]


class Chosen:
    """pytest plugin: only the tests wanted, the quickest first."""

    def __init__(self, wanted: dict[str, float]) -> None:
        self.wanted = wanted

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.wanted), key=lambda item: self.wanted[item.nodeid]
        )


def run_tests(module: str, plugin: object) -> int:
    files = [PACKAGE / f"{module}.py", *(p for name in MODULES[module] if (p := ROOT / "tests" / name).exists())]
    quiet = ["-q", "-x", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", "-o", "addopts="]
    return int(pytest.main([*quiet, "--doctest-modules", "-m", "not slow", *map(str, files)], plugins=[plugin]))


def baseline(module: str) -> Baseline:
    """Runs in a fork. Raises RuntimeError if a test fails on the module as it is."""
    path = str(PACKAGE / f"{module}.py")
    cov = Coverage(branch=True, data_file=None, include=[path], config_file=False)
    cov.start()
    recorder = Recorder(cov)
    code = run_tests(module, recorder)
    cov.stop()
    if code:
        raise RuntimeError(f"pytest ended with {code}")
    report = ROOT / f".mutants-{os.getpid()}.json"
    try:
        cov.json_report(outfile=str(report))
        (told,) = json.loads(report.read_text())["files"].values()
    finally:
        report.unlink(missing_ok=True)
    contexts = cov.get_data().contexts_by_lineno(path)
    taken, there = (told["summary"][name] for name in ("covered_branches", "num_branches"))
    return Baseline(recorder.seconds, contexts, told["missing_branches"], f"{taken} of {there}")


def tests_for(mutant: Mutant, base: Baseline, span: dict[int, range]) -> dict[str, float]:
    """Test id -> CPU seconds of those that can notice the mutant; none if no test runs its line."""
    ran = {test for line in span.get(mutant.line, range(mutant.line, mutant.line + 1)) for test in
           base.contexts.get(line, [])}  # fmt: skip
    if not ran:
        return {}
    everything = "" in ran
    return {
        test: cpu for test, cpu in base.seconds.items() if cpu < FREE or (cpu < HEAVY and (everything or test in ran))
    }


def statement_spans(source: str) -> dict[int, range]:
    """Line -> lines of the innermost statement it belongs to (of a compound one: its head)."""
    spans: dict[int, range] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            for line in range(node.lineno, max(end, node.lineno) + 1):
                if line not in spans or len(spans[line]) > end - node.lineno + 1:
                    spans[line] = range(node.lineno, max(end, node.lineno) + 1)
    return spans


def judge(mutant: Mutant, wanted: dict[str, float]) -> str:
    """``killed``, ``timed out`` or ``survived``."""
    if not wanted:
        return "survived"
    path, real = str(PACKAGE / f"{mutant.module}.py"), SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, name: str) -> Any:
        return compile(mutant.code, path, "exec") if self.path == path else real(self, name)

    def meet() -> int:
        SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
        return run_tests(mutant.module, Chosen(wanted))

    how, code = forked(meet, 10 + 3 * sum(wanted.values()))
    if how != "done":
        return "timed out" if how in ("killed by SIGXCPU", "killed by SIGKILL", "killed by SIGALRM") else "killed"
    if code not in (0, 1, 2):
        raise SystemExit(f"pytest ended with {code} on {mutant}")
    return "killed" if code else "survived"


def run_module(module: str, options: argparse.Namespace, explained: dict[tuple[object, ...], str]) -> dict[str, Any]:
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    how, base = forked(lambda: baseline(module), 3600)
    if base is None:
        raise SystemExit(f"{module}: the tests fail without any mutant ({how})")
    every, spans = mutants(module, source), statement_spans(source)
    # A larger sample holds every smaller one of the same seed.
    chosen = random.Random(options.seed).sample(every, len(every))[: options.sample]
    log = options.results / f"{module}.jsonl"
    judged = map(json.loads, log.read_text(encoding="utf-8").splitlines()) if log.exists() else iter(())
    known = {row["key"]: row["verdict"] for row in judged}
    verdicts: Counter[str] = Counter()
    for mutant in sorted(chosen, key=lambda one: one.line):
        reason = explained.get((module, mutant.statement, mutant.place, mutant.before, mutant.after))
        verdict = known.get(mutant.key, "survived")
        if verdict == "survived" and not reason:  # what was killed stays killed: tests are only added
            verdict = judge(mutant, tests_for(mutant, base, spans))
            with log.open("a", encoding="utf-8") as sink:
                row = {name: value for name, value in asdict(mutant).items() if name != "code"}
                sink.write(json.dumps({"key": mutant.key, "verdict": verdict, **row}, ensure_ascii=False) + "\n")
        if verdict == "survived":
            verdict = "equivalent" if reason else "survived"
        if verdict == "survived":
            print(f"{module}.py:{mutant.line}, place {mutant.place}: {mutant.statement}")
            print(f"    {mutant.before}  ->  {mutant.after}", flush=True)
        verdicts[verdict] += 1
    return {"module": module, "all": len(every), "mutants": len(chosen), **verdicts,
            "branches": base.branches, "missing": base.missing_branches}  # fmt: skip


def table(found: list[dict[str, Any]]) -> str:
    head = "| module | mutants | killed | timed out | equivalent | survived | branches run |"
    rows = [f"{head}\n|---|---|---|---|---|---|---|"]
    for one in found:
        counted = f"{one['mutants']}" if one["mutants"] == one["all"] else f"{one['mutants']} of {one['all']}"
        verdicts = " | ".join(str(one.get(name, 0)) for name in ("killed", "timed out", "equivalent", "survived"))
        rows.append(f"| `{one['module']}` | {counted} | {verdicts} | {one['branches']} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation testing of the pure modules")
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--sample", type=int, help="at most so many mutants a module, drawn with --seed")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--results", type=Path, default=ROOT / "build/mutants", help="one JSONL a module; resumes")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(MODULES):
        parser.error(f"unknown module {', '.join(sorted(unknown))}; use some of: {', '.join(MODULES)}")
    options.results.mkdir(parents=True, exist_ok=True)
    prepare()
    notes = Path(__file__).with_name("mutants_equivalent.jsonl")
    rows = map(json.loads, notes.read_text(encoding="utf-8").splitlines()) if notes.exists() else iter(())
    explained = {(r["module"], r["statement"], r["place"], r["before"], r["after"]): r["reason"] for r in rows}
    found = [run_module(module, options, explained) for module in options.modules]
    print(table(found))
    for one in found:
        for start, end in one["missing"]:
            print(f"{one['module']}.py: no test goes from line {start} to line {end}")
    return 1 if any(one.get("survived") for one in found) else 0


def prepare() -> None:
    """Everything the children share: third-party modules, and hypothesis without shrinking, seeded."""
    os.chdir(ROOT)
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    for name in THIRD_PARTY:
        importlib.import_module(name)
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", database=None, deadline=None, derandomize=True, phases=phases)
    settings.load_profile("mutants")
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", line_buffering=True)


if __name__ == "__main__":
    sys.exit(main())
