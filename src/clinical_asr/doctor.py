"""Stage 1, setup: what is here, what is missing for which stage, and the command that mends it.

Every check is a function that returns a :class:`Finding`; none of them raises, downloads or changes anything.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MIN_PYTHON = (3, 11)
MIN_VRAM_GB = 16.0  # the published recipe at batch 4 on a 0.6 B base
MIN_FREE_DISK_GB = 10.0
KEYS = ("NVIDIA_API_KEY", "HF_TOKEN", "MERRIAM_WEBSTER_API_KEY")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report. ``needed_for`` names stages; ``mend`` is a command or an instruction."""

    name: str
    ok: bool
    found: str
    needed_for: str
    mend: str = ""
    required: bool = True

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def examine(folder: Path, keys: Mapping[str, str]) -> list[Finding]:
    """All findings for work in ``folder``; of ``keys`` only the lengths are told."""
    checks: list[Callable[[], Finding]] = [
        _python, _torch, _cuda, _nemo, _torchao, _espeak, _mini_base, lambda: _disk(folder),
    ]  # fmt: skip
    return [check() for check in checks] + [_key(name, keys.get(name, "")) for name in KEYS]


def _python() -> Finding:
    ok = sys.version_info >= MIN_PYTHON
    return Finding("Python", ok, platform.python_version(), "everything", "" if ok else "install Python 3.11 or newer")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> Finding:
    version = _version("torch")
    mend = "" if version else "pip install 'clinical-asr-flywheel[nemo]'"
    return Finding("PyTorch", version is not None, version or "not installed", "hypotheses, finetune", mend)


def _cuda() -> Finding:
    """A GPU is never required: the mini base runs on CPU; a 0.6 B base wants 16 GB."""
    name, needed_for = "CUDA GPU", "finetune of a 0.6 B base"
    if importlib.util.find_spec("torch") is None:
        return Finding(name, False, "unknown without PyTorch", needed_for, "install PyTorch first", required=False)
    import torch

    if not torch.cuda.is_available():
        mend = "the mini base runs on CPU; for a 0.6 B base use a host with 16 GB of VRAM or more"
        return Finding(name, False, "none", needed_for, mend, required=False)
    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / 2**30
    bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: fp32 and a smaller batch"
    ok = memory >= MIN_VRAM_GB - 1  # a "16 GB" card reports a little less
    mend = "" if ok else "set frugal: true in the recipe, use batch_size 2 or less, or a larger card"
    return Finding(name, ok, f"{properties.name}, {memory:.0f} GiB, {bf16}", needed_for, mend, required=False)


def _nemo() -> Finding:
    version = _version("nemo_toolkit") or _version("nemo-toolkit")
    safe = version is not None and int(version.split(".")[0]) >= 3
    mend = "" if safe else "pip install 'clinical-asr-flywheel[nemo]'"
    if version and not safe:
        mend += " (NeMo before 2.6.2 runs code hidden in a model file: CVE-2025-23304)"
    return Finding("NeMo", safe, version or "not installed", "hypotheses, finetune", mend)


def _torchao() -> Finding:
    """Only a recipe with ``frugal: true`` asks for it."""
    version = _version("torchao")
    mend = "" if version else "pip install 'clinical-asr-flywheel[frugal]'"
    needed_for = "finetune with frugal: true"
    return Finding("torchao", version is not None, version or "not installed", needed_for, mend, required=False)


def _espeak() -> Finding:
    """Says one word, so that a library without its voices is found out."""
    try:
        from clinical_asr.engines.espeak import Espeak, Voice

        samples = Espeak().synthesise("ready", Voice())
        return Finding("espeak-ng", len(samples) > 0, f"{_version('espeakng-loader')}, speaks", "audio")
    except Exception as error:
        return Finding("espeak-ng", False, str(error), "audio", "pip install --force-reinstall espeakng-loader")


def _mini_base() -> Finding:
    from clinical_asr.bases import mini_base
    from clinical_asr.errors import FlywheelError

    try:
        path = mini_base()
    except FlywheelError as error:
        return Finding("mini base", False, "missing", "demo", str(error))
    return Finding("mini base", True, f"{path.stat().st_size / 1e6:.0f} MB", "demo")


def _disk(folder: Path) -> Finding:
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 2**30
    mend = "" if free >= MIN_FREE_DISK_GB else f"free {MIN_FREE_DISK_GB:.0f} GiB or work in another folder"
    return Finding("disk", not mend, f"{free:.0f} GiB free", "cycle", mend)


def _key(name: str, value: str) -> Finding:
    uses = {
        "NVIDIA_API_KEY": "hosted speech services",
        "HF_TOKEN": "private Hugging Face bases",
        "MERRIAM_WEBSTER_API_KEY": "pronunciations from the dictionary",
    }
    found = f"set, {len(value)} characters" if value else "not set"
    mend = "" if value else f"export {name}=..."
    return Finding(name, bool(value), found, uses[name], mend, required=False)
