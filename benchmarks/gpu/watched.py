"""Runs another program as it is and tells, when it ends, what it needed: seconds, memory, bytes written.

    python benchmarks/gpu/watched.py NEEDED.json SCRIPT.py ARGUMENTS...
    python benchmarks/gpu/watched.py NEEDED.json -m MODULE ARGUMENTS...

The program's own text is untouched: it runs as ``__main__`` with its own arguments, and one function is called as the
process ends. So the same ruler lies against our command and against scripts that are not ours.
"""

from __future__ import annotations

import atexit
import json
import resource
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()


def needed() -> dict[str, Any]:
    """What this process has needed so far.

    ``peak_gb``: largest allocation of PyTorch on the GPU (GiB), as ``torch.cuda.max_memory_allocated`` counts it, so
    without the CUDA context and without what the allocator merely holds; null where no GPU was used. ``rss_gb``:
    largest resident size in main memory. ``written_gb``: bytes handed to the system to be written; null where Linux
    does not say.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    written = _written()
    return {
        "seconds": round(time.perf_counter() - BEGAN, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "rss_gb": round(used.ru_maxrss / 2**20, 3),
        "peak_gb": _gpu_peak(),
        "written_gb": None if written is None else round(written / 2**30, 3),
    }


def _gpu_peak() -> float | None:
    """Only if the program itself has used CUDA: looking must not start it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        return round(torch.cuda.max_memory_allocated() / 2**30, 2)
    except RuntimeError:  # a context that has broken under the program: its other numbers still count
        return None


def _written() -> int | None:
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("wchar:")), None)


def watch(command: list[str], note: Path, log: Path | None = None) -> dict[str, Any]:
    """Run ``command`` (a script or ``-m MODULE``, then its arguments) watched, in a process of its own.

    The answer is what :func:`needed` found, with ``wall_s`` (the start of Python included) and ``exit_code``; output
    goes to ``log`` if one is given. A program that was killed leaves nothing but those two.
    """
    note.unlink(missing_ok=True)
    start = time.perf_counter()
    whole = [sys.executable, str(Path(__file__).resolve()), str(note), *command]
    if log is None:
        code = subprocess.run(whole, check=False).returncode
    else:
        with log.open("wb") as output:
            code = subprocess.run(whole, check=False, stdout=output, stderr=subprocess.STDOUT).returncode
    found = json.loads(note.read_text()) if note.is_file() else {}
    return {**found, "wall_s": round(time.perf_counter() - start, 2), "exit_code": code}


def _become(note: Path, command: list[str]) -> None:
    """Be the program: its arguments, its folder first on the path, its name."""
    import numpy as np

    if not hasattr(np, "row_stack"):  # gone in numpy 2.4; an older numba-cuda needs it to compile NeMo's TDT loss
        np.row_stack = np.vstack
    atexit.register(lambda: note.write_text(json.dumps(needed()) + "\n"))
    if command[0] == "-m":
        sys.argv = command[1:]
        sys.path[0] = ""
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        sys.path[0] = str(Path(command[0]).resolve().parent)
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    _become(Path(sys.argv[1]).resolve(), sys.argv[2:])
