"""Recognisers behind gRPC, and models to be put behind it: made here from flags and the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import options as o

if TYPE_CHECKING:
    from clinical_asr.egress import Egress
    from clinical_asr.engines.nemo_words import NemoRecogniser
    from clinical_asr.engines.riva_asr import Endpoint, RivaTranscriber

Address = Annotated[
    str, typer.Option("--endpoint", help="HOST:PORT of a Riva service, or nvcf; by default $ASR_ENDPOINT.")
]
Allow = Annotated[str, typer.Option(help="Services that may be sent something, with commas: nvcf, endpoint.")]
Concurrency = Annotated[int, typer.Option(help="Rows asked for at the same time.")]
Language = Annotated[str, typer.Option(help="Language of the speech; by default en-US, or en for hosted Whisper.")]
Tls = Annotated[bool, typer.Option("--tls", help="Speak TLS on this machine too; to others it always is.")]
TlsCa = Annotated[Path | None, typer.Option(help="PEM certificate of the authority behind the service's own.")]

HOSTED = "nvcf"
TOKEN = "CLINICAL_ASR_TOKEN"


def recogniser(path: Path, name: str, precision: str = "auto") -> NemoRecogniser:
    """A recogniser of samples in memory, with word times; its ``decoder`` is an offline transcriber."""
    from clinical_asr.cli.engines import quiet
    from clinical_asr.config import TranscriptionConfig
    from clinical_asr.engines.nemo_asr import NemoTranscriber
    from clinical_asr.engines.nemo_words import NemoRecogniser

    quiet()
    return NemoRecogniser(NemoTranscriber(path, TranscriptionConfig(precision=precision), name))


def is_remote(model: str, address: str) -> bool:
    """True if a service is asked, not a model. Raises ConfigError where it cannot be told."""
    from clinical_asr.errors import ConfigError

    remote = bool(address or (not model and os.environ.get("ASR_ENDPOINT")))
    if remote == bool(model):
        raise ConfigError("either a model or a service transcribes", "--model and --endpoint", "give one of them")
    return remote


def endpoint(
    address: str = "", language: str = "", concurrency: int = 4, tls: bool = False, tls_ca: Path | None = None,
    timeout: float = 60.0, attempts: int = 6,
) -> Endpoint:  # fmt: skip
    """Where to ask. Read from the environment: ``ASR_ENDPOINT`` (where no address is given), ``ASR_MODEL_NAME``;
    ``NVIDIA_API_KEY`` and ``ASR_NVCF_FUNCTION_ID`` for NVIDIA's hosted functions, ``CLINICAL_ASR_TOKEN`` elsewhere.

    Raises ConfigError for what must not be.
    """
    from clinical_asr.egress import is_local
    from clinical_asr.engines.riva_asr import Endpoint
    from clinical_asr.riva_service import HOSTED as HOSTED_ADDRESS
    from clinical_asr.service_errors import PARAKEET_FUNCTION, WHISPER_FUNCTION

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    where = address or os.environ.get("ASR_ENDPOINT", "") or HOSTED
    where = HOSTED_ADDRESS if where == HOSTED else where
    hosted = where == HOSTED_ADDRESS
    function = (os.environ.get("ASR_NVCF_FUNCTION_ID") or PARAKEET_FUNCTION) if hosted else ""
    return Endpoint(
        address=where, function_id=function, model=os.environ.get("ASR_MODEL_NAME", ""),
        language=language or ("en" if function == WHISPER_FUNCTION else "en-US"),
        key=key_for(where),
        tls=tls or tls_ca is not None or not is_local(where), ca=tls_ca.read_bytes() if tls_ca else None,
        timeout=timeout, concurrency=concurrency, attempts=attempts,
    )  # fmt: skip


def key_for(address: str) -> str:
    """The key of the service at ``address``, from the environment.

    NVIDIA's goes to its hosted functions and no further: any other service is the person's own, with its own token.
    """
    from clinical_asr.riva_service import HOSTED as HOSTED_ADDRESS

    return os.environ.get("NVIDIA_API_KEY" if address == HOSTED_ADDRESS else TOKEN, "")


def egress(allow: str, log: Path) -> Egress:
    """What ``--allow`` lets out, told on stderr before anything goes; each sending is written to ``log``."""
    found = o.permitted(allow, log)
    for line in found.disclosure():
        typer.echo(f"this run may send: {line}", err=True)
    return found


def remote_transcriber(where: Endpoint, permitted: Egress, journal: Path | None = None) -> RivaTranscriber:
    """A recogniser over a service. Raises FlywheelError if it is not allowed, ServiceError if it does not answer."""
    from clinical_asr.engines.riva_asr import RivaTranscriber
    from clinical_asr.leaving import ProvedSynthetic

    return RivaTranscriber(where, permitted, ProvedSynthetic().check, journal)


def remote(where: Endpoint, allow: str, output: Path) -> tuple[str, Callable[[], RivaTranscriber]]:
    """Identity of a service's model and its recogniser; the journals stand beside ``output``."""
    permitted = egress(allow, output.with_name("egress.jsonl"))
    found = remote_transcriber(where, permitted, output.with_name(f"{output.stem}.answers.jsonl"))
    return found.digest, lambda: found
