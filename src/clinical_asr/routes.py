"""How an architecture reaches a Riva server: which decoder, which container, which conversion. Data; nothing is run.

Riva cannot tell CTC, RNN-T and TDT apart by itself, and a wrong pairing builds a server that answers nonsense without
an error. The route is therefore read from the model's own config.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clinical_asr.architecture import Architecture
from clinical_asr.errors import ModelError

HEADS = ("rnnt", "ctc")
"""What a hybrid can be converted to."""


@dataclass(frozen=True)
class Route:
    """What ``riva-build`` must be told for one kind of decoder."""

    decoder: str
    """Value of ``decoder=``."""
    family: str
    """NIM containers that can serve it."""
    container: str
    """One of them, under ``nvcr.io/nim/nvidia/``: what the commands name unless a person says otherwise."""
    nemo2riva: dict[str, str]
    """The inline conversion block of ``source_path``."""
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    """Further settings by mode (``offline``, ``streaming``), where they are published for this family."""


_TENSORRT = {"nn.fp16_needs_obey_precision_pass": "True"}
_NEMO = {"format": "nemo"}
ROUTES = {
    "ctc": Route(
        "greedy_ctc", "parakeet-*-ctc-*", "parakeet-0-6b-ctc-en-us",
        {"format": "onnx", "onnx_opset": "19", "max_dim": "1000"},
        {"offline": {"chunk_size": "4.8", "left_padding_size": "1.6", "right_padding_size": "1.6", **_TENSORRT},
         "streaming": {"chunk_size": "0.16", "left_padding_size": "1.92", "right_padding_size": "1.92", **_TENSORRT}},
    ),
    "rnnt": Route("nemo", "parakeet-rnnt-*", "parakeet-1-1b-rnnt-multilingual", _NEMO),
    "tdt": Route("nemo", "parakeet-tdt-*", "parakeet-tdt-0.6b-v2", _NEMO),
    "streaming": Route("nemo", "nemotron-streaming-*", "", _NEMO),
}  # fmt: skip
"""By decoder; ``streaming`` is a cache-aware transducer."""


def route_of(architecture: Architecture, where: str, head: str = "") -> Route:
    """The route of a model; ``head`` says which head of a hybrid is kept. Raises ModelError with what was read."""
    return ROUTES[served_as(architecture, where, head)]


def served_as(architecture: Architecture, where: str, head: str = "") -> str:
    """The key of :data:`ROUTES`. Raises ModelError, with what was read, if there is no such route.

    >>> from clinical_asr.architecture import architecture_of
    >>> models = "nemo.collections.asr.models."
    >>> hybrid = architecture_of({"target": models + "EncDecHybridRNNTCTCBPEModel", "loss": {"loss_name": "tdt"}})
    >>> served_as(hybrid, "x.nemo", "rnnt"), served_as(hybrid, "x.nemo", "ctc")
    ('tdt', 'ctc')
    """
    decoder = architecture.decoder
    if decoder == "hybrid":
        if head not in HEADS:
            mend = f"say which: --head {' or --head '.join(HEADS)}"
            raise ModelError("has two heads and a server takes one", where, mend)
        decoder = head if head == "ctc" else architecture.loss.split(" ")[0]
    elif head and decoder in ROUTES and head != (decoder if decoder == "ctc" else "rnnt"):
        raise ModelError(f"has one head, {decoder}, and no {head!r}", where, "leave --head out")
    if architecture.streaming and decoder in ("rnnt", "tdt"):
        decoder = "streaming"
    if decoder not in ROUTES:
        read = f"class {architecture.target}, decoder {architecture.decoder}, loss {architecture.loss}"
        raise ModelError(f"has no known way to Riva: {read}", where, "serve it with NeMo itself")
    return decoder


def route_or_reason(architecture: Architecture, where: str) -> dict[str, Any]:
    """For a report: the route, or why there is none yet."""
    if architecture.decoder == "hybrid":
        kept = {head: served_as(architecture, where, head) for head in HEADS}
        return {"convert_first": kept, "refused": "has two heads and a server takes one"}
    try:
        kind = served_as(architecture, where)
    except ModelError as error:
        return {"refused": error.what}
    route = ROUTES[kind]
    return {"riva_decoder": route.decoder, "nim_family": route.family, "nemo2riva": route.nemo2riva}
