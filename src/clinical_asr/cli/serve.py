"""``clinical-asr serve``: a model behind Riva's own protocol; ``parity`` asks whether it hears what it should."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.endpoints import TOKEN
from clinical_asr.cli.parity import parity

if TYPE_CHECKING:
    from clinical_asr.engines.riva_server import Identity, ServedModel, ServingConfig

PANEL = "Ship"


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (serve, parity):
        app.command(rich_help_panel=PANEL)(command)


def serve(
    model: Annotated[str, typer.Option(help="A .nemo file, mini, or a Hugging Face id.")],
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback TLS and a token are needed.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 50051,
    languages: Annotated[str, typer.Option(help="Languages the model hears, with commas.")] = "en-US,en",
    precision: Annotated[str, typer.Option(help="auto (bf16 where the GPU has it), fp32 or bf16.")] = "auto",
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate, its chain included.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key of --tls-cert.")] = None,
    max_batch: Annotated[int, typer.Option(help="Recordings recognised together.")] = 8,
    max_wait_ms: Annotated[float, typer.Option(help="How long a recording waits for others, ms.")] = 10.0,
    max_requests: Annotated[int, typer.Option(help="Requests and streams in flight; more are refused.")] = 64,
    max_audio: Annotated[float, typer.Option(help="Longest recording of one request, seconds.")] = 300.0,
    max_stream: Annotated[float, typer.Option(help="Longest stream, seconds.")] = 3600.0,
    chunk: Annotated[float, typer.Option(help="Longest part of a stream that is made final at once, seconds.")] = 30.0,
    max_message_mib: Annotated[int, typer.Option(help="Largest message, MiB.")] = 64,
    timeout: Annotated[float, typer.Option(help="Longest wait for a transcript, seconds.")] = 120.0,
    idle: Annotated[float, typer.Option(help="Longest silence of a client that streams, seconds.")] = 30.0,
    grace: Annotated[
        float, typer.Option(help="How long a stopping server finishes what is in flight, seconds.")
    ] = 30.0,
    log: Annotated[Path | None, typer.Option(help="Append the log here; by default it goes to stderr.")] = None,
    log_transcripts: Annotated[
        bool, typer.Option("--log-transcripts", help="Write transcripts into the log: what patients said stands there.")
    ] = False,
) -> None:
    """Serve a model over Riva's speech recognition protocol (gRPC), offline and streaming, until it is told to stop.

    Any Riva client works unchanged. What the model cannot do is refused, never read over. The environment variable
    CLINICAL_ASR_TOKEN, if set, is the bearer token that each request must carry. SIGTERM and Ctrl-C finish what is
    in flight. The log holds no transcripts.

    Example: clinical-asr serve --model mini --port 50051
    """
    from clinical_asr.engines.riva_server import Log, Server, ServingConfig

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is said by us, in one line
    config = ServingConfig(
        host=host, port=port, tls=_identity(tls_cert, tls_key), token=os.environ.get(TOKEN, ""),
        max_batch=max_batch, max_wait=max_wait_ms / 1000, max_requests=max_requests, max_audio=max_audio,
        max_stream=max_stream, chunk=chunk, max_message_mib=max_message_mib, timeout=timeout, idle=idle, grace=grace,
    )  # fmt: skip
    recognise, served = load_model(model, o.listed(languages, "--languages"), precision)
    with _lines(log) as write, _until_told() as wait:
        server = Server(recognise, served, config, Log(write, log_transcripts))
        typer.echo(_greeting(served, config, server.port))
        wait()
        typer.echo("stopping: what is in flight is finished")
        server.stop()
        typer.echo(f"served: {', '.join(f'{n} {code}' for code, n in server.log.codes.most_common()) or 'nothing'}")


def load_model(model: str, languages: tuple[str, ...], precision: str) -> tuple[Any, ServedModel]:
    """The recogniser, loaded and tried once, and what is said of it."""
    import numpy as np

    from clinical_asr.cli.endpoints import recogniser
    from clinical_asr.cli.engines import resolve
    from clinical_asr.engines.riva_server import ServedModel
    from clinical_asr.errors import printable

    path = resolve(model, "--model")
    name = printable(path.stem if Path(model).is_file() else model)
    recognise = recogniser(path, name, precision)
    recognise([np.zeros(16_000, dtype=np.float32)], False)  # the first one is slow: not a client's loss
    return recognise, ServedModel(
        name=name, digest=recognise.decoder.digest, languages=languages,
        punctuates=recognise.punctuates, no_words=recognise.no_words,
    )  # fmt: skip


def _identity(certificate: Path | None, key: Path | None) -> Identity | None:
    from clinical_asr.engines.riva_server import Identity
    from clinical_asr.errors import ConfigError

    if bool(certificate) != bool(key):
        raise ConfigError("come together", "--tls-cert and --tls-key", "give both or neither")
    return Identity(certificate.read_bytes(), key.read_bytes()) if certificate and key else None


def _greeting(served: ServedModel, config: ServingConfig, port: int) -> str:
    """One line for a person, and for a script that waits for it."""
    guarded = " and ".join(name for name, here in (("TLS", config.tls), ("token", config.token)) if here) or "no TLS"
    return f"serving {served.name} {served.digest} on {config.host}:{port} ({guarded})"


@contextmanager
def _lines(path: Path | None) -> Iterator[Any]:
    """Writes a log line as JSON, at once."""
    from msgspec.json import encode

    if path is None:
        yield lambda line: typer.echo(encode(line).decode(), err=True)
        return
    with path.open("a", encoding="utf-8", buffering=1) as file:
        yield lambda line: file.write(encode(line).decode() + "\n")


@contextmanager
def _until_told() -> Iterator[Callable[[], int]]:
    """Waits for SIGTERM or Ctrl-C; a second one ends the program at once."""
    signals: SimpleQueue[int] = SimpleQueue()  # unlike an event, it may be filled while it is waited for
    seen: list[int] = []

    def stop(number: int, _: Any) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        signals.put(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield signals.get
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
