"""Kernels of the loss are compiled beside the work before the first step, once on a machine, and not without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinical_asr.engines.nemo_sft import kernels

torch = pytest.importorskip("torch")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def nemo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A NeMo with nothing compiled, a machine with a GPU, and whoever was started is stopped."""
    folder = tmp_path / "nemo"
    (folder / kernels.LOSS / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(kernels, "_folder_of_nemo", lambda: folder)
    monkeypatch.setattr(kernels, "DEVICES", (tmp_path,))
    monkeypatch.setattr(kernels, "_beside", [])
    yield folder
    for process in kernels._beside:
        process.kill()
        process.wait()


def test_one_process_compiles_however_often_it_is_asked(nemo: Path) -> None:
    kernels.begin()
    kernels.begin()
    assert len(kernels._beside) == 1


def compiled(nemo: Path, *programs: str) -> None:
    for program in programs:
        (nemo / kernels.LOSS / "__pycache__" / f"gpu_rnnt_kernel.{program}-797.py312.nbi").touch()


def test_the_loss_of_an_rnnt_is_not_all_there_is(nemo: Path) -> None:
    compiled(nemo, "compute_grad_kernel")
    kernels.begin()
    assert len(kernels._beside) == 1


def test_nothing_that_lies_in_the_working_folder_is_run(nemo: Path) -> None:
    kernels.begin()
    assert kernels._beside[0].args[1] == "-P"  # type: ignore[index]


@pytest.mark.parametrize("lacking", ["GPU", "NeMo", "anything to do"])
def test_nobody_is_started_for_nothing(nemo: Path, monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    if lacking == "GPU":
        monkeypatch.setattr(kernels, "DEVICES", (nemo / "nothing",))
    elif lacking == "NeMo":
        monkeypatch.setattr(kernels, "_folder_of_nemo", lambda: None)
    else:
        compiled(nemo, "compute_tdt_grad_kernel", "compute_grad_kernel")
    kernels.begin()
    assert kernels._beside == []


def test_it_ends_with_the_command_that_began_it(tmp_path: Path) -> None:
    """Which may be over in a second, if its gate says no."""
    code = (
        "import sys; from pathlib import Path; from clinical_asr.engines.nemo_sft import kernels; "
        "kernels.DEVICES = (Path('/'),); kernels.LAST = ('nothing',); kernels.__name__ = 'http.server'; "
        "kernels.begin(); print(kernels._beside[0].pid)"
    )
    pytest.importorskip("nemo")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.stdout), 0)


def test_nemos_loss_can_be_imported_without_the_rest_of_it() -> None:
    """Else the process beside would be busy with imports for longer than it compiles."""
    pytest.importorskip("nemo")
    code = (
        "import sys; from clinical_asr.engines.nemo_sft import kernels, unasked; kernels.without_the_rest_of_nemo(); "
        "unasked.cost_of_rows(); kernels.remembered(); print('nemo.collections.asr.models' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False"]


@on_gpu
def test_on_a_gpu_all_of_them_are_compiled_and_found_again(tmp_path: Path) -> None:
    """What a training step calls is then on the disk: nothing is added by one."""
    pytest.importorskip("nemo")
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-m", kernels.__name__], check=True, env=env)
    compiled = sorted(tmp_path.rglob("*.nbc"))
    names = {path.name.split("-")[0] for path in compiled}
    assert {"gpu_rnnt_kernel.compute_tdt_grad_kernel", "gpu_rnnt_kernel.compute_grad_kernel"} <= names
    tests = Path(__file__).with_name("test_unasked.py")
    asked = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"{tests}::test_steps_call_what_was_compiled"]
    subprocess.run([sys.executable, *asked], check=True, env=env)
    assert sorted(tmp_path.rglob("*.nbc")) == compiled
