"""Coverage-guided fuzzing of every reader of foreign bytes: ``python benchmarks/fuzz.py --seconds 60 [TARGET ...]``.

Needs atheris (extra ``fuzz``). Each target runs in a process of its own, under a memory limit and with ten seconds for
an input; what is found is written to ``crash-*`` in the folder of its target under ``--corpus``, and the same folder is
where the next run begins. Without ``--seconds`` it runs until Ctrl-C. Exit code 1 if anything was found.

The targets and what they promise stand in ``tests/hostile.py``; the fast tests give the same ones bytes too.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
MEMORY_MIB = 1024
LONGEST_SECONDS = 10
LONGEST_INPUT = 24_576  # bytes; a small model file has 20,480


def child(name: str, arguments: list[str]) -> None:
    """Fuzz one target for ever, or as the options of libFuzzer say."""
    import atheris

    sys.path.insert(0, str(TESTS))
    with atheris.instrument_imports(include=["clinical_asr"]):
        import hostile

        _import_all()
    target = hostile.TARGETS[name]

    def one_input(content: bytes) -> None:
        hostile.attempt(target, content)

    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def _import_all() -> None:
    """Import now what the targets import inside their functions: only what is imported here is instrumented."""
    import clinical_asr.cli.advise
    import clinical_asr.engines.espeak_ipa
    import clinical_asr.engines.llm
    import clinical_asr.engines.merriam_webster
    import clinical_asr.manifest
    import clinical_asr.nemo_file
    import clinical_asr.overrides
    import clinical_asr.scores
    import clinical_asr.sentences
    import clinical_asr.ssml
    import clinical_asr.terms
    import clinical_asr.transcripts
    import clinical_asr.variants  # noqa: F401


def run(name: str, seconds: int, corpus: Path) -> dict[str, object]:
    """One target in a child process: inputs tried, the parts of the program reached, what was found."""
    sys.path.insert(0, str(TESTS))
    import hostile

    home = corpus / name
    home.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(hostile.SEEDS.get(name, ())):
        (home / f"seed{number}").write_bytes(seed)
    limits = [f"-rss_limit_mb={MEMORY_MIB}", f"-timeout={LONGEST_SECONDS}", f"-max_len={LONGEST_INPUT}"]
    words = [sys.executable, __file__, "--child", name, str(home), f"-artifact_prefix={home}/", *limits]
    words += [f"-max_total_time={seconds}"] if seconds else []
    done = subprocess.run([*words, "-print_final_stats=1"], capture_output=True, text=True, errors="replace")
    log = done.stderr + done.stdout
    (corpus / f"{name}.log").write_text(log)
    found = sorted(path.name for pattern in ("crash-*", "timeout-*", "oom-*") for path in home.glob(pattern))
    return {"target": name, "executions": _stat(log, "number_of_executed_units"), "found": found,
            "peak_rss_mb": _stat(log, "peak_rss_mb"), "features": _last(log, r"ft: (\d+)"), "exit": done.returncode,
            "why": _last_line(log) if done.returncode else ""}  # fmt: skip


def _stat(log: str, name: str) -> int:
    return _last(log, rf"stat::{name}:\s+(\d+)")


def _last(log: str, pattern: str) -> int:
    return int((re.findall(pattern, log) or ["0"])[-1])


def _last_line(log: str) -> str:
    raised = [line for line in log.splitlines() if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (raised or log.splitlines() or [""])[-1][:160]


def main() -> int:
    """Run the targets one after the other and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="all of tests/hostile.py if none is named")
    parser.add_argument("--seconds", type=int, default=0, help="for each target; 0 runs the first one for ever")
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"))
    given = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    import hostile

    found = False
    for name in given.targets or hostile.TARGETS:
        result = run(name, given.seconds, given.corpus)
        print(json.dumps(result), flush=True)
        found |= bool(result["found"] or result["exit"])
    return int(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
