"""NeMo's transducer losses, compiled beside the work that comes before the first step.

They are programs for a GPU that numba compiles when they are first called: eight to ten seconds of a first step, all of
them Python. A second process does so while this one imports NeMo, reads a base and hears with it; numba keeps what it
has compiled on the disk, and whoever calls a program next finds it there. A machine does this once.
"""

from __future__ import annotations

import atexit
import importlib.util
import subprocess
import sys
import types
from contextlib import suppress
from pathlib import Path

from clinical_asr.nemo_file import give_numpy_its_rows_back
from clinical_asr.records import Seconds

DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""One of them is there where a GPU of NVIDIA is, on Linux and in Windows' Linux. Asking PyTorch takes seconds."""
LOSS = "collections/asr/parts/numba/rnnt_loss/utils/cuda_utils"
LAST = ("*compute_tdt_grad_kernel*.nbi", "*compute_grad_kernel*.nbi")
"""What numba writes for the last program of either loss; if it stands elsewhere, they are looked for once more."""
PATIENCE: Seconds = 20.0

_beside: list[subprocess.Popen[bytes]] = []


def begin() -> None:
    """Start compiling, where there is a GPU and nobody has done it yet.

    The process is ended with this one; it ends by itself some seconds later where this one is killed.
    """
    nemo = _folder_of_nemo()
    if _beside or nemo is None or not any(device.exists() for device in DEVICES):
        return
    if all(any((nemo / LOSS / "__pycache__").glob(each)) for each in LAST):
        return
    nobody = subprocess.DEVNULL
    command = [sys.executable, "-P", "-m", __name__]  # whatever lies in the working folder is not ours
    process = subprocess.Popen(command, stdin=nobody, stdout=nobody, stderr=nobody)
    atexit.register(_end, process)
    _beside.append(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def remembered() -> None:
    """From now on numba looks on the disk for them, and writes there; whoever compiles them beside us is waited for."""
    from nemo.collections.asr.parts.numba.rnnt_loss.utils import rnnt_helper
    from nemo.collections.asr.parts.numba.rnnt_loss.utils.cuda_utils import gpu_rnnt_kernel, reduce

    for process in _beside:
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    for kernel in (value for module in (gpu_rnnt_kernel, reduce, rnnt_helper) for value in vars(module).values()):
        with suppress(RuntimeError):  # no folder to write into: compiled each time, as ever
            getattr(kernel, "enable_caching", bool)()


def main() -> None:
    """Call every program once, on a lattice of a few numbers; leave the GPU alone if it is kept for one process."""
    asked = ["nvidia-smi", "--query-gpu=compute_mode", "--format=csv,noheader"]
    modes = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.split()
    if set(modes) != {"Default"}:
        return
    without_the_rest_of_nemo()
    give_numpy_its_rows_back()
    import torch

    from clinical_asr.engines.nemo_sft.unasked import cost_of_rows

    remembered()
    tokens, spans = torch.zeros(2, 4, 3, 5, device="cuda"), torch.zeros(2, 4, 3, 2, device="cuda")
    labels, frames, lengths = (torch.tensor(each, device="cuda") for each in ([[1, 2]] * 2, [4, 3], [2, 1]))
    for omega in (0.0, 1.0):  # TDT's own lattice, and that of RNN-T, which some steps draw
        cost_of_rows()(tokens, spans, labels, frames, lengths, 4, [0, 1], "", 0.0, 0.0, 0.05, omega)
    torch.cuda.synchronize()


def without_the_rest_of_nemo() -> None:
    """Let NeMo's loss be imported alone: the packages that it lies in import everything, longer than it compiles."""
    nemo = _folder_of_nemo()
    assert nemo is not None
    for name in ("nemo", "nemo.collections", "nemo.collections.asr"):
        package = types.ModuleType(name)
        package.__path__ = [str(nemo.parent / name.replace(".", "/"))]
        sys.modules[name] = package


def _folder_of_nemo() -> Path | None:
    """Where NeMo is installed, found without importing it; None if it is not."""
    found = importlib.util.find_spec("nemo")
    places = found.submodule_search_locations if found is not None else None
    return Path(places[0]) if places else None


if __name__ == "__main__":
    main()
