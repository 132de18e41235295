"""A server on loopback with a recogniser of a few lines, stock clients for it, and certificates for both."""

from __future__ import annotations

import io
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from clinical_asr.errors import FlywheelError, ModelError
from clinical_asr.recognition import Recognition, Samples, Word

NOISE = np.random.default_rng(5).uniform(-0.3, 0.3, 16_000 * 90).astype(np.float32)


class Parrot:
    """Hears how many samples there are; ``gate`` holds it back, and it chokes on the lengths in ``chokes``."""

    def __init__(self, chokes: Sequence[int] = (), seconds: float = 0.0) -> None:
        self.chokes, self.seconds = chokes, seconds
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, recordings: Sequence[Samples], words: bool) -> list[Recognition | FlywheelError]:
        self.gate.wait(30)
        time.sleep(self.seconds)
        self.batches.append([len(samples) for samples in recordings])
        return [self._answer(samples, words) for samples in recordings]

    def _answer(self, samples: Samples, words: bool) -> Recognition | FlywheelError:
        if len(samples) in self.chokes:
            return ModelError("the model could not transcribe it (CUDA error: an illegal memory access)")
        text = f"heard {len(samples)}"
        if not words:
            return Recognition(text)
        return Recognition(text, 0.75, (Word("heard", 0.0, 0.25, 0.5), Word(str(len(samples)), 0.5, 1.0, 1.0)))


@contextmanager
def serving(recognise: Any = None, lines: list[dict[str, Any]] | None = None, **settings: Any) -> Iterator[Any]:
    """A running server; ``settings`` of the model begin with ``model_``, the others are ServingConfig's."""
    from clinical_asr.engines.riva_server import Log, ServedModel, Server, ServingConfig

    of_model = {name.removeprefix("model_"): value for name, value in settings.items() if name.startswith("model_")}
    of_server = {name: value for name, value in settings.items() if not name.startswith("model_")}
    model = ServedModel(**{"name": "parrot", "digest": "0123456789abcdef", **of_model})
    config = ServingConfig(**{"port": 0, "grace": 5.0, **of_server})
    with Server(recognise or Parrot(), model, config, Log(None if lines is None else lines.append)) as server:
        yield server


def client(server: Any, **options: Any) -> Any:
    """Riva's own client."""
    import riva.client

    auth = riva.client.Auth(uri=f"localhost:{server.port}", **options)
    return riva.client.ASRService(auth)


def config(**fields: Any) -> Any:
    """A RecognitionConfig as a careful user writes it."""
    import riva.client

    return riva.client.RecognitionConfig(**{"language_code": "en-US", "max_alternatives": 1, **fields})


def streaming(interim: bool = False, **fields: Any) -> Any:
    """A StreamingRecognitionConfig."""
    import riva.client

    return riva.client.StreamingRecognitionConfig(config=config(**fields), interim_results=interim)


def text_of(response: Any) -> str:
    """The transcript of an answer."""
    return str(response.results[0].alternatives[0].transcript)


def audio(seconds: float = 1.0, rate: int = 16_000, **options: Any) -> bytes:
    """A recording in memory; WAV unless ``options`` say otherwise."""
    samples = NOISE[: round(seconds * rate)]
    channels = options.pop("channels", 1)
    buffer = io.BytesIO()
    written = samples if channels == 1 else np.stack([samples] * channels, axis=1)
    soundfile.write(buffer, written, rate, **{"format": "WAV", **options})
    return buffer.getvalue()


def pieces(content: bytes, size: int = 3201) -> list[bytes]:
    """Uneven pieces: a sample may be cut in two."""
    return [content[start : start + size] for start in range(0, len(content), size)]


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
