"""The benchmarks that a GPU is to run, rehearsed without one: what they measure, and that they refuse what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "gpu"
sys.path.insert(0, str(FOLDER))

import stock  # noqa: E402
import transcription  # noqa: E402
import watched  # noqa: E402

PROGRAM = """
import sys
from pathlib import Path
Path(sys.argv[1]).write_bytes(bytes(3 * 2**20))
assert __name__ == "__main__" and Path(sys.path[0]) == Path(__file__).parent
print("said", sys.argv[2:])
sys.exit(7)
"""


def test_a_watched_program_runs_as_it_would_alone(tmp_path: Path) -> None:
    program, log = tmp_path / "program.py", tmp_path / "log"
    program.write_text(PROGRAM)
    found = watched.watch([str(program), str(tmp_path / "written"), "a", "b=c"], tmp_path / "needed.json", log)
    assert found["exit_code"] == 7 and log.read_text().strip() == "said ['a', 'b=c']"
    assert 0 < found["seconds"] <= found["wall_s"] and found["rss_gb"] > 0 and found["peak_gb"] is None
    if Path("/proc/self/io").is_file():
        assert 3 / 1024 - 1e-3 < found["written_gb"] < 0.01


def test_a_watched_module_gets_its_arguments(tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = watched.watch(["-m", "clinical_asr", "--version"], tmp_path / "needed.json", log)
    assert found["exit_code"] == 0 and "clinical" in log.read_text()


def test_a_program_that_is_killed_leaves_its_code_only(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    found = watched.watch([str(program)], tmp_path / "needed.json")
    assert found["exit_code"] == -9 and set(found) == {"exit_code", "wall_s"}


def manifest_of(folder: Path, rows: int) -> Path:
    from clinical_asr.jsonl import write_rows
    from clinical_asr.records import Utterance

    path = folder / "manifest.jsonl"
    write_rows(path, [Utterance(audio_filepath=f"{n}.wav", text="a b", duration=1.5, id=f"r{n}") for n in range(rows)])
    return path


def test_clips_are_repeated_under_ids_of_their_own(tmp_path: Path) -> None:
    laid = transcription.lay_out(manifest_of(tmp_path, 3), tmp_path / "clips.jsonl", 7)
    assert [Path(row.audio_filepath).name for row in laid] == [f"{n % 3}.wav" for n in range(7)]
    assert [row.id for row in laid] == sorted({row.id for row in laid}) and len(laid) == 7


class CutOff:
    """A side whose machine is taken away at its second pass."""

    def __init__(self, name: str, asked: list[str]) -> None:
        self.name, self.passes = name, 0

    def run(self) -> dict[str, float]:
        self.passes += 1
        if self.passes == 2 and self.name == "nemo":
            raise KeyboardInterrupt
        return {"seconds": self.passes, "cpu_seconds": 1.0, "rss_mb": 10.0, "rss_warm_mb": 9.0}


def test_a_run_that_is_cut_off_leaves_what_it_knew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcription, "Side", CutOff)
    kept = tmp_path / "records" / "kept.json"
    tell = lambda found: transcription.so_far(found, kept)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        transcription.measure(tmp_path / "x.nemo", manifest_of(tmp_path, 3), 4, tell=tell)
    found = json.loads(kept.read_text())
    assert found["unfinished"] and found["clips"] == 4 and found["speech_s"] == 6.0
    assert (found["rtfx"], found["rtfx_cold"], found["nemo_rtfx"]) == (3.0, 6.0, 6.0)
    assert found["transcription"]["seconds"] == [1, 2] and found["nemo_transcription"]["seconds"] == [1]


def test_faults_of_a_record_are_named() -> None:
    good = {"in_id_order": True, "rows_that_differ": 0, "memory": {"growth": 0.01},
            "transcription": {"precision": "fp32"}}  # fmt: skip
    assert transcription.faults(good) == []
    assert transcription.faults({**good, "rows_that_differ": 2}) == ["2 rows differ in fp32"]
    assert len(transcription.faults({**good, "in_id_order": False, "memory": {"growth": 0.2}})) == 2


@pytest.mark.parametrize("script", ["cycle.py", "stock.py", "transcription.py"])
def test_wrong_input_ends_in_a_line(script: str, tmp_path: Path) -> None:
    wrong = {
        "cycle.py": ["--out", str(tmp_path), "--stock-script", "there/is/none.py"],
        "stock.py": ["--cycle", str(tmp_path)],
        "transcription.py": ["--base", "mini", "--manifest", str(tmp_path / "none.jsonl")],
    }
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *wrong[script]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "error" in done.stderr and "Traceback" not in done.stderr


STAND_IN = """
import shutil, sys
from pathlib import Path
told = dict(word.lstrip("+").split("=", 1) for word in sys.argv[1:] if not word.startswith("--"))
target = Path(told["exp_manager.exp_dir"]) / "adapted" / "checkpoints" / "adapted.nemo"
target.parent.mkdir(parents=True)
shutil.copyfile(told["init_from_nemo_model"], target)
assert (Path(__file__).parent / "conf/asr_finetune/speech_to_text_finetune.yaml").read_text() == "name: x"
assert sum(1 for _ in open(told["model.train_ds.manifest_filepath"])) == 10
"""


@pytest.mark.slow
@pytest.mark.nemo
def test_the_stock_way_is_three_processes_on_the_rows_of_a_cycle(
    tiny_ctc: Path, tiny_manifest: Path, tmp_path: Path
) -> None:
    """The script is a stand-in that copies the base: NeMo's own is not ours to carry. All else is real."""
    script, config = tmp_path / "stand_in.py", tmp_path / "config.yaml"
    script.write_text(STAND_IN)
    config.write_text("name: x")
    cycle = cycle_of(tiny_manifest, tmp_path / "cycle1")
    found = stock.measure(cycle, tiny_ctc, tmp_path / "stock", script, config, "smoke")
    parts = found["stock_parts"]
    assert found["stock_s"] == pytest.approx(sum(part["wall_s"] for part in parts.values()), abs=0.1)
    assert found["stock_rows"] == {"train": 10, "validation": 2} and found["stock_left_gb"] > 0
    heard = [(tmp_path / "stock" / f"{when}.jsonl").read_text().splitlines() for when in ("base", "tuned")]
    assert heard[0] == heard[1] and len(heard[0]) == 12


def cycle_of(manifest: Path, folder: Path) -> Path:
    """The part of a cycle's folder that the stock way reads."""
    lines = manifest.read_text().splitlines(keepends=True)
    folder.mkdir()
    for wav in manifest.parent.glob("*.wav"):
        (folder / wav.name).hardlink_to(wav)
    sides = {"manifest": lines, "train": lines[:10], "validation": lines[10:]}
    for name, side in sides.items():
        (folder / f"{name}.jsonl").write_text("".join(side))
    return folder


@pytest.mark.slow
@pytest.mark.nemo
def test_both_sides_hear_the_same(tiny_ctc: Path, tiny_manifest: Path) -> None:
    told: list[dict[str, object]] = []
    found = transcription.measure(tiny_ctc, tiny_manifest, 30, batch=8, passes=2, tell=told.append)
    assert [set(one) >= {"unfinished", "rtfx", "clips"} for one in told] == [True] * 4 and "unfinished" not in found
    assert transcription.faults(found) == [], json.dumps(found)
    assert found["clips"] == 30 and found["rtfx"] > 0 and found["nemo_rtfx"] > 0
    assert len(found["transcription"]["seconds"]) == 2 and found["transcription"]["load_s"] > 0
