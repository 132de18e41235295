"""SIGKILL at every write, rename, folder and deletion of a cycle: the same command again gives the same bytes.

A child process turns the wheel with fakes and kills itself at its n-th change of the disk; another one finishes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from clinical_asr.cycle import Cycle, file_digest
from clinical_asr.errors import FlywheelError
from clinical_asr.flywheel import turn
from clinical_asr.lock import locked
from wheel import Works, engines, request

SMALL = {"drug": ("cefazolin", "apixaban", "enoxaparin", "tacrolimus", "ondansetron"), "lab": ("troponin",)}
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.truncate"}
"""Audit events that change the disk; opening a file for writing and fsync are counted as well."""


class Disk:
    """Counts the changes this process makes below ``root`` and kills it at the ``last``, before that one is made."""

    def __init__(self, root: Path, last: int) -> None:
        self.root, self.last, self.count = str(root), last, 0
        sync = os.fsync

        def counted(descriptor: int) -> None:
            self.changed(self.root)
            sync(descriptor)

        os.fsync = counted
        sys.addaudithook(self.seen)

    def seen(self, event: str, details: tuple[object, ...]) -> None:
        writes = event == "open" and len(details) > 2 and isinstance(details[2], int) and details[2] & 3 != os.O_RDONLY
        if event in CHANGES or writes:
            self.changed(str(details[0]))

    def changed(self, path: str) -> None:
        if path.startswith(self.root):
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def order(folder: Path) -> tuple[Cycle, Works, object]:
    """A small cycle: six terms, 48 rows, 12 guard rows."""
    from clinical_asr.config import GateConfig, SplitConfig

    small = {"guard_rows": 12, "gate": GateConfig(min_rows=20), "split": SplitConfig(hold_out_sentences=0.3)}
    return Cycle(folder / "cycles"), Works(), request(folder, SMALL, **small)


def child(folder: Path, last: int, counted: Path) -> None:
    """Turn the wheel, die at the ``last`` change of the disk; note the number of changes and the engines' work."""
    cycle, works, wanted = order(folder)
    disk = Disk(folder / "cycles", last)
    turn(cycle, wanted, engines(works, cycle, []))  # type: ignore[arg-type]
    counted.write_text(json.dumps([disk.count, works.calls]))


def run(folder: Path, last: int = 0) -> tuple[int, Path]:
    """Exit code of a child (-9: it was killed) and the file with its counts."""
    counted = folder / "counted.json"
    counted.unlink(missing_ok=True)
    process = multiprocessing.get_context("fork").Process(target=child, args=(folder, last, counted))
    process.start()
    process.join()
    return process.exitcode or 0, counted


def artifacts(folder: Path) -> dict[str, str]:
    """Digest of every file of the cycle, without the times and the folder's own name in them."""
    found = {}
    for path in sorted((folder / "cycles").rglob("*")):
        if path.is_file() and path.name not in (".lock", "timings.jsonl"):
            content = path.read_bytes().replace(str(folder).encode(), b"FOLDER")
            content = re.sub(rb"20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)?", b"TIME", content)
            path.with_name("compared").write_bytes(content)
            found[str(path.relative_to(folder))] = file_digest(path.with_name("compared"))
            path.with_name("compared").unlink()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int, dict[str, int]]:
    """What an undisturbed turn leaves, how often it changes the disk, what its engines did."""
    folder = tmp_path_factory.mktemp("whole")
    code, counted = run(folder)
    assert code == 0
    changes, calls = json.loads(counted.read_text())
    return artifacts(folder), changes, calls


def test_a_cycle_changes_the_disk_often_enough_to_be_worth_killing(
    whole: tuple[dict[str, str], int, dict[str, int]],
) -> None:
    assert whole[1] >= 300 and len(whole[0]) > 60


def points(changes: int, count: int) -> list[int]:
    """Spread over the whole run, the first and the last among them; every one of them if ``count`` allows."""
    step = max(1, changes // count)
    return sorted({*range(1, changes + 1, step), changes})


def killed_then_finished(folder: Path, last: int, whole: tuple[dict[str, str], int, dict[str, int]]) -> None:
    code, _ = run(folder, last)
    assert code == -signal.SIGKILL, f"change {last}: it was to be killed, exit code {code}"
    for path in (folder / "cycles").rglob("*.json*"):
        if not path.name.endswith(".part"):
            [json.loads(line) for line in [path.read_text()] if path.suffix == ".json"]
    code, counted = run(folder)
    assert code == 0, f"killed at change {last}: the same command does not finish"
    again = json.loads(counted.read_text())[1]
    assert again.get("train", 0) <= 1 and again.get("synthesise", 0) <= whole[2]["synthesise"]
    assert artifacts(folder) == whole[0], f"killed at change {last}: other bytes"


@pytest.mark.parametrize("share", range(2))
def test_killed_at_a_change_of_the_disk_and_finished(
    share: int, tmp_path: Path, whole: tuple[dict[str, str], int, dict[str, int]]
) -> None:
    """A few points from beginning to end; ``-m slow`` takes every single one."""
    for last in points(whole[1], 14)[share::2]:
        folder = tmp_path / str(last)
        folder.mkdir()
        killed_then_finished(folder, last, whole)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(12))
def test_killed_at_every_single_change(
    share: int, tmp_path: Path, whole: tuple[dict[str, str], int, dict[str, int]]
) -> None:
    for last in range(1 + share, whole[1] + 1, 12):
        folder = tmp_path / str(last)
        folder.mkdir()
        killed_then_finished(folder, last, whole)


def test_no_finished_clip_is_spoken_again(tmp_path: Path, whole: tuple[dict[str, str], int, dict[str, int]]) -> None:
    """Killed in the middle of the audio: both runs together speak at most one clip more than one run does."""
    spoken: Counter[str] = Counter()
    folder = tmp_path
    code, _ = run(folder, whole[1] // 4)
    assert code == -signal.SIGKILL
    there = len(list((folder / "cycles" / "cycle1" / "audio").glob("*.wav")))
    _, counted = run(folder)
    spoken.update(json.loads(counted.read_text())[1])
    assert there > 0 and spoken["synthesise"] <= whole[2]["synthesise"] - there


# --- two at once ------------------------------------------------------------------------------------------------------


def test_two_processes_on_one_cycle(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from clinical_asr.lock import locked\n"
        f"with locked(Path({str(tmp_path)!r})): print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    said = f"process {process.pid} is at work here; wait until it has ended"
    with pytest.raises(FlywheelError, match=said), locked(tmp_path):
        pytest.fail("both are in")
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # the system lets go when the process is gone, not when it is told to go
        with locked(tmp_path):
            return
    pytest.fail("a killed process still holds the folder")


def test_the_lock_is_free_again_after_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), locked(tmp_path):
        raise ValueError("inside")
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
