"""All that can be known of a ``.nemo`` without loading it: what it is, whether it can be tuned, how it is served."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinical_asr.architecture import Architecture, vocabulary_of
from clinical_asr.bases import base_digest, refusals
from clinical_asr.checkpoint import parameter_count
from clinical_asr.errors import printable
from clinical_asr.nemo_file import architecture_of, check_archive, read_config, read_tensors
from clinical_asr.routes import route_or_reason

SAMPLE = 24


@dataclass(frozen=True)
class Inspection:
    """A model as its own file describes it. Written as it stands to JSON."""

    name: str
    """As the user gave it."""
    path: str
    sha256: str
    size_bytes: int
    nemo_version: str
    """Of the NeMo that wrote the file; empty if it does not say."""
    architecture: Architecture
    vocabulary_sample: list[str]
    parameters: int
    """Trainable numbers, counted from shapes; running statistics and filter banks left out."""
    numbers: dict[str, int]
    """How many numbers of each type lie in the file."""
    trainable: bool
    refusals: list[str]
    """Why it cannot be fine-tuned here; empty if it can."""
    deploy: dict[str, Any]
    """Riva's decoder, container family and conversion; or why there is none."""


def inspect_model(path: Path, name: str = "") -> Inspection:
    """Inspect a ``.nemo``; nothing in it is run and no weight is loaded. Reads the file twice (digest, CRC-32).

    Raises ModelError if the file is damaged, or holds anything that a model does not need.
    """
    digest = base_digest(path)
    check_archive(path)
    config, tensors = read_config(path), read_tensors(path)
    architecture = architecture_of(config, str(path))
    numbers: Counter[str] = Counter()
    for one in tensors.values():
        numbers[one.dtype] += one.numel
    refused = [f"{reason}; {mend}" for reason, mend in refusals(architecture)]
    return Inspection(
        name=printable(name or path.stem), path=printable(str(path)), sha256=digest, size_bytes=path.stat().st_size,
        nemo_version=str(config.get("nemo_version") or ""), architecture=architecture,
        vocabulary_sample=vocabulary_of(config)[:SAMPLE], parameters=parameter_count(tensors),
        numbers=dict(numbers.most_common()), trainable=not refused, refusals=refused,
        deploy=route_or_reason(architecture, str(path)),
    )  # fmt: skip
