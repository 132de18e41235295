"""What a run ran on: device, precision, memory, versions."""

from __future__ import annotations

import platform
import resource
from importlib import metadata

PACKAGES = ("clinical-asr-flywheel", "torch", "nemo_toolkit", "lightning", "transformers", "numpy")


def device() -> str:
    """``cuda`` if there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def precision(wanted: str, on: str) -> str:
    """What the device can do of what the recipe wants: bf16 needs a GPU that has it, everything else gets fp32.

    >>> precision("bf16-mixed", "cpu")
    '32-true'
    """
    if on == "cpu" or wanted == "32-true":
        return "32-true"
    import torch

    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def hardware(on: str, processes: int = 1) -> str:
    """The device in words, and how many of its kind work together."""
    import torch

    times = f"{processes} x " if processes > 1 else ""
    if on == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
        return f"{times}{torch.cuda.get_device_name(0)}, {memory / 2**30:.0f} GiB"
    return f"{times}CPU {platform.machine()}, {torch.get_num_threads()} threads"


def peak_memory_mb(on: str) -> float:
    """Largest allocation on the GPU, or largest resident size of this process, in MiB."""
    import torch

    if on == "cuda":
        return round(float(torch.cuda.max_memory_allocated()) / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def versions() -> dict[str, str]:
    """Python and the packages that decide what training does."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
