"""Faults of the machine under a whole turn of the wheel: full and broken disks, interrupts, clocks; then again.

A turn with fakes changes the disk some hundred times. Each of these tests lets one change fail, gives the same command
again, and asks for the bytes that an undisturbed turn leaves.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clinical_asr.errors import FlywheelError
from clinical_asr.flywheel import turn
from test_crash import artifacts, order
from wheel import engines

Fault = Callable[[], BaseException]
FAULTS: dict[str, Fault] = {
    "ENOSPC": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "EIO": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "EROFS": lambda: OSError(errno.EROFS, os.strerror(errno.EROFS)),
    "Ctrl-C": KeyboardInterrupt,
}


class Trouble:
    """Raises at the ``last`` fsync; counts them."""

    def __init__(self, fault: Fault, last: int) -> None:
        self.fault, self.last, self.count = fault, last, 0
        self.sync = os.fsync

    def __call__(self, descriptor: int) -> None:
        self.count += 1
        if self.count == self.last:
            raise self.fault()
        self.sync(descriptor)


def turned(folder: Path) -> None:
    cycle, works, wanted = order(folder)
    turn(cycle, wanted, engines(works, cycle, []))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], int]]:
    """What an undisturbed turn leaves, and how often it syncs."""
    folder, patch = tmp_path_factory.mktemp("whole"), pytest.MonkeyPatch()
    counter = Trouble(KeyboardInterrupt, 0)
    patch.setattr(os, "fsync", counter)
    turned(folder)
    patch.undo()
    yield artifacts(folder), counter.count


def provoked(folder: Path, fault: Fault, last: int, patch: pytest.MonkeyPatch, whole: dict[str, str]) -> None:
    """Fail at one sync, look at what lies there, turn again."""
    folder.mkdir()
    with patch.context() as now:
        now.setattr(os, "fsync", Trouble(fault, last))
        with pytest.raises((OSError, FlywheelError, KeyboardInterrupt)):
            turned(folder)
    turned(folder)
    assert artifacts(folder) == whole, f"after a fault at sync {last}"


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_disk_or_ctrl_c_loses_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[dict[str, str], int]
) -> None:
    assert whole[1] > 50
    for last in range(2, whole[1], max(1, whole[1] // 4)):
        provoked(tmp_path / str(last), FAULTS[name], last, monkeypatch, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_every_single_sync_loses_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[dict[str, str], int]
) -> None:
    for last in range(1, whole[1] + 1):
        provoked(tmp_path / str(last), FAULTS[name], last, monkeypatch, whole[0])


@pytest.mark.parametrize("engine", ["synthesise", "transcribe", "train"])
def test_ctrl_c_in_an_engine(engine: str, tmp_path: Path, whole: tuple[dict[str, str], int]) -> None:
    cycle, works, wanted = order(tmp_path)

    def interrupted(asked: str) -> None:
        if asked == engine:
            raise KeyboardInterrupt

    works.called = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        turn(cycle, wanted, engines(works, cycle, []))  # type: ignore[arg-type]
    turned(tmp_path)
    assert artifacts(tmp_path) == whole[0]


def test_signals_in_the_middle_of_everything(tmp_path: Path, whole: tuple[dict[str, str], int]) -> None:
    """EINTR: two thousand signals a second while the wheel turns change nothing."""
    seen = 0

    def caught(*_: object) -> None:
        nonlocal seen
        seen += 1

    before = signal.signal(signal.SIGALRM, caught)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        turned(tmp_path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen > 50 and artifacts(tmp_path) == whole[0]


def test_a_clock_that_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[dict[str, str], int]) -> None:
    """Hours forwards and back at every look, as after a change of batteries: no stage decides by it."""
    draw = random.Random(5)
    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: 1.7e9 + draw.uniform(-1e5, 1e5))
    cycle, works, wanted = order(tmp_path)
    turn(cycle, wanted, engines(works, cycle, []))  # type: ignore[arg-type]
    monkeypatch.undo()
    assert artifacts(tmp_path) == whole[0]


# --- from the shell ---------------------------------------------------------------------------------------------------

TERMS = "term,entity_category\nheparin,drug\napixaban,drug\n"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "clinical_asr", *words]


def test_a_full_disk_is_one_line_and_no_file(tmp_path: Path) -> None:
    """A real ENOSPC: the file that would be written leads to a device without room."""
    terms = tmp_path / "terms.csv"
    terms.write_text(TERMS)
    (tmp_path / "s.jsonl.new.part").symlink_to("/dev/full")
    done = subprocess.run(command("sentences", "--terms", str(terms), "--output", str(tmp_path / "s.jsonl")),
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done
    assert f"{tmp_path / 's.jsonl'}: no space left on device; mend that, then run the same" in done.stderr, done
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "s.jsonl").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    terms = tmp_path / "terms.csv"
    terms.write_text(TERMS)
    for where in ("/proc/none/s.jsonl", f"{terms}/s.jsonl", "/sys/s.jsonl"):
        done = subprocess.run(command("sentences", "--terms", str(terms), "--output", where),
                              capture_output=True, text=True, timeout=60)  # fmt: skip
        assert done.returncode == 2 and "Traceback" not in done.stderr and "fault of the program" not in done.stderr, (
            done
        )
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    """As a user without rights; root may write anywhere, so this process becomes nobody where it can."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    code = (
        "import os, sys\n"
        "from pathlib import Path\nfrom clinical_asr.jsonl import write_text\n"
        "os.geteuid() == 0 and os.setuid(65534)\n"
        "try: write_text(Path(sys.argv[1]) / 'a', 'x')\n"
        "except OSError as error: print('REFUSED', error.filename)\n"
    )
    for place in (tmp_path, *tmp_path.parents):  # a worker of a parallel run lies one folder deeper
        if place == Path(tempfile.gettempdir()):
            break
        place.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60)
    if "REFUSED" not in done.stdout:
        pytest.skip(f"cannot become another user here: {done.stderr[-200:]}")
    assert "closed/a" in done.stdout and list(folder.iterdir()) == []


def test_ctrl_c_from_the_shell_says_how_to_go_on(tmp_path: Path) -> None:
    """SIGINT while clips are spoken; the same command finishes and speaks no finished clip again."""
    pytest.importorskip("espeakng_loader")
    terms, sentences = tmp_path / "terms.csv", tmp_path / "s.jsonl"
    terms.write_text(TERMS)
    subprocess.run(command("sentences", "--terms", str(terms), "--output", str(sentences)), check=True, timeout=60)
    subprocess.run(command("pronunciations", "--terms", str(terms), "--output", str(tmp_path / "p.jsonl")), check=True,
                   timeout=60, capture_output=True)  # fmt: skip
    words = command("audio", "--sentences", str(sentences), "--pronunciations", str(tmp_path / "p.jsonl"),
                    "--output-folder", str(tmp_path / "b"), "--waive-audition",
                    "a test that listens to nothing at all")  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not list(tmp_path.glob("b/**/*.wav")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.glob("b/**/*.wav")}
    assert process.returncode == 0 or (process.returncode == 130 and "the same command again continues" in told), told
    assert "Traceback" not in told
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert there and all(path.stat().st_mtime_ns == when for path, when in there.items())
