"""Recognition by a service that speaks Riva's protocol: NVIDIA's hosted functions, a NIM, Riva, ``clinical-asr serve``.

Nothing is sent that the run does not allow; each sending is written down; each answer is on disk before the next
question. Rows fail one by one; what no row can get past (a key, a function that is not there) stops the run.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from clinical_asr import intake
from clinical_asr.answers import Answers
from clinical_asr.egress import Egress, is_local
from clinical_asr.errors import AudioError, ConfigError, FlywheelError, MissingDependency
from clinical_asr.records import Seconds
from clinical_asr.riva_service import RivaService, open_channel
from clinical_asr.service_errors import ServiceError, explain
from clinical_asr.wav import plain_reason

IN_A_ROW = 3  # rows given up for busyness without an answer between them: the service is down, not the row
ENCODINGS = {"WAV": "LINEAR_PCM", "WAVEX": "LINEAR_PCM", "FLAC": "FLAC"}


@dataclass(frozen=True, kw_only=True)
class Endpoint(RivaService):
    """Where a service listens and how it is asked. Raises ConfigError on construction for what must not be."""

    address: str
    """``host:port``."""
    function_id: str = ""
    """Of a hosted function; empty elsewhere."""
    model: str = ""
    """Name of one of several models behind the service; empty takes its default."""
    language: str = "en-US"
    key: str = field(default="", repr=False)
    tls: bool = False
    ca: bytes | None = field(default=None, repr=False)
    """PEM certificate of the authority that signed the service's; None trusts the usual ones."""
    timeout: Seconds = 60.0
    concurrency: int = 4
    attempts: int = 6
    """Questions for a row before it is given up, while the service is busy."""
    first_wait: Seconds = 1.0
    """Longest wait before the second question; it doubles with each."""

    def __post_init__(self) -> None:
        self.require_address("give HOST:PORT, or nvcf")
        if self.concurrency < 1 or self.attempts < 1 or self.timeout <= 0:
            raise ConfigError("concurrency, attempts and timeout must be more than 0", "--endpoint")
        self.require_secrecy(self.tls, "speech goes", "ASR_NVCF_FUNCTION_ID")


class RivaTranscriber:
    """A ``hypotheses.Transcriber`` over a service; close it, or use it in a ``with`` block.

    ``may_leave(path, sha256)`` raises AudioError for a recording that must stay here; it is asked for services on
    other machines. ``name`` and ``digest`` are what the service says of its model.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        egress: Egress,
        may_leave: Callable[[Path, str], None],
        journal: Path | None = None,
    ) -> None:
        """Raises FlywheelError if the run does not allow it, ServiceError if the service does not answer."""
        egress.require(endpoint.service, endpoint.address)
        self.endpoint, self.egress, self.may_leave = endpoint, egress, may_leave
        self.batch_size = 4 * endpoint.concurrency
        self._given_up = 0  # rows in a row
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._channel, self._stub = _connect(endpoint)
        try:
            self.name, self.digest = self._identity()
        except BaseException:
            self.close()
            raise
        self.answers = Answers(journal, self.digest) if journal else None

    def transcribe(self, audio: Mapping[str, Path]) -> dict[str, str | FlywheelError]:
        """What was heard in each recording, or why nothing was. Raises ServiceError if no row can be heard."""
        self._stop.clear()
        with ThreadPoolExecutor(self.endpoint.concurrency, "riva") as threads:
            asked = {row_id: threads.submit(self._hear, row_id, path) for row_id, path in audio.items()}
            try:
                return {row_id: future.result() for row_id, future in asked.items()}
            except BaseException:
                self._stop.set()  # those that were asked are still waited for: their answers are paid
                threads.shutdown(cancel_futures=True)
                raise

    def _hear(self, row_id: str, path: Path) -> str | FlywheelError:
        if self._stop.is_set():
            return FlywheelError("was not asked for: the run stopped before")
        try:
            content = intake.document(path)
            digest = hashlib.sha256(content).hexdigest()
            known = self.answers.get(digest) if self.answers else None
            if known is not None:
                return known
            if not is_local(self.endpoint.address):
                self.may_leave(path, digest)
            text = self._ask(row_id, *_form(content, path), content)
        except OSError as error:
            return AudioError((error.strerror or str(error)).lower(), str(path), "check the path")
        except ServiceError as error:
            if error.fatal or self._is_down(error):
                self._stop.set()
                raise
            return error
        except AudioError as error:
            return error
        if self.answers:
            self.answers.add(row_id, digest, text)
        self._given_up = 0
        return text

    def _is_down(self, error: ServiceError) -> bool:
        """True when several rows one after the other were given up for busyness."""
        with self._lock:
            self._given_up = self._given_up + 1 if error.busy else 0
            return self._given_up >= IN_A_ROW

    def _ask(self, row_id: str, encoding: str, rate: int, content: bytes) -> str:
        from riva.client.proto import riva_asr_pb2 as asr
        from riva.client.proto.riva_audio_pb2 import AudioEncoding

        config = asr.RecognitionConfig(
            encoding=AudioEncoding.Value(encoding), sample_rate_hertz=rate, audio_channel_count=1,
            language_code=self.endpoint.language, max_alternatives=1, model=self.endpoint.model,
        )  # fmt: skip
        request = asr.RecognizeRequest(config=config, audio=content)

        def send() -> Any:
            with self._lock:
                self.egress.record(self.endpoint.service, self.endpoint.address, row_id, len(content))
            return self._call(self._stub.Recognize, request)

        return text_of(self._patiently(send, self.endpoint.attempts))

    def _patiently(self, send: Callable[[], Any], attempts: int) -> Any:
        """Ask again, later and later, while the service is busy: waits are drawn from [half, whole] of 1, 2, 4 s."""
        for attempt in range(attempts):
            try:
                return send()
            except ServiceError as error:
                if not error.busy or attempt + 1 == attempts:
                    raise
                longest = min(60.0, self.endpoint.first_wait * 2**attempt)
                if self._stop.wait(random.uniform(longest / 2, longest)):
                    raise
        raise AssertionError("unreachable")

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self.endpoint.timeout, metadata=self.endpoint.metadata)
        except grpc.RpcError as error:
            raise explain(error.code().name, error.details() or "", self.endpoint.address) from None

    def _identity(self) -> tuple[str, str]:
        """Name of the model, and 16 hex digits of all the service says of it and of how it is asked."""
        from riva.client.proto import riva_asr_pb2 as asr

        request = asr.RivaSpeechRecognitionConfigRequest(model_name=self.endpoint.model)
        try:
            ask = self._stub.GetRivaSpeechRecognitionConfig
            answer = self._patiently(lambda: self._call(ask, request), min(2, self.endpoint.attempts))
            models = sorted((one.model_name, sorted(one.parameters.items())) for one in answer.model_config)
        except ServiceError as error:
            if error.code != "UNIMPLEMENTED" or not self.endpoint.hosted:
                raise
            models = []  # not every hosted function tells
        end = self.endpoint
        where = "" if is_local(end.address) else end.address
        said = json.dumps([where, end.function_id, end.model, end.language, models])
        name = end.model or (models[0][0] if models else end.function_id)
        return name, hashlib.sha256(said.encode()).hexdigest()[:16]

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def text_of(response: Any) -> str:
    """The transcript of a ``RecognizeResponse``: its parts, joined by one space."""
    parts = (result.alternatives[0].transcript.strip() for result in response.results if result.alternatives)
    return " ".join(part for part in parts if part)


def _form(content: bytes, path: Path) -> tuple[str, int]:
    """Riva's name of the encoding, and the sample rate in Hz."""
    import soundfile

    try:
        info = soundfile.info(io.BytesIO(content))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(f"cannot be decoded ({plain_reason(error)})", str(path)) from None
    if info.channels != 1 or info.format not in ENCODINGS:
        what = f"is {info.format} with {info.channels} channels"
        raise AudioError(what, str(path), "only mono WAV and FLAC are sent")
    return ENCODINGS[info.format], int(info.samplerate)


def _connect(endpoint: Endpoint) -> tuple[Any, Any]:
    try:
        from riva.client.proto import riva_asr_pb2_grpc

        channel = open_channel(endpoint.address, endpoint.tls, endpoint.ca)
    except ImportError:
        raise MissingDependency("nvidia-riva-client", "riva") from None
    return channel, riva_asr_pb2_grpc.RivaSpeechRecognitionStub(channel)
