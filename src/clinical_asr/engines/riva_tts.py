"""Speech from a service that speaks Riva's protocol: Magpie on NVIDIA's hosted functions, or a NIM of one's own.

Nothing is sent that the run does not allow, and each sending is written down. A busy service is asked again, later and
later; what has been spoken is on disk before the next sentence goes out, so the same command goes on after a failure.
"""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from clinical_asr.egress import Egress, is_local
from clinical_asr.errors import AudioError, ConfigError, FlywheelError, MissingDependency
from clinical_asr.records import SAMPLE_RATE, Seconds, row_id
from clinical_asr.riva_service import HOSTED, RivaService, open_channel
from clinical_asr.service_errors import ServiceError, explain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

MAGPIE_FUNCTION = "877104f7-e885-42b9-8de8-f6e4c6303969"
"""Magpie TTS Multilingual on NVIDIA's hosted functions."""
MAGPIE_VOICES = tuple(f"Magpie-Multilingual.EN-US.{name}" for name in ("Mia", "Jason", "Ray"))
ASKED_RATE = 22_050  # Hz; what comes is brought to 16 kHz here, with one resampler for every engine
PASSING = frozenset({"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL"})
"""Codes of a refusal or a dropped connection: the same sentence may be spoken a little later."""


@dataclass(frozen=True, kw_only=True)
class SpeechEndpoint(RivaService):
    """Where the service listens and how it is asked. Raises ConfigError for what must not be."""

    address: str = HOSTED
    """``host:port``."""
    function_id: str = ""
    """Of a hosted function; empty elsewhere."""
    key: str = field(default="", repr=False)
    language: str = "en-US"
    ca: bytes | None = field(default=None, repr=False)
    """PEM certificate of the authority that signed the service's; None trusts the usual ones."""
    tls: bool | None = None
    """By default everywhere but on this machine, where alone it may be False."""
    timeout: Seconds = 60.0
    requests_per_minute: float = 0.0
    """The service's limit, kept to from here; 0 is none."""
    attempts: int = 8
    """Requests for one sentence before the run stops, while the service is busy."""
    first_wait: Seconds = 1.0
    """Longest wait before the second request; it doubles with each, up to a minute."""

    def __post_init__(self) -> None:
        self.require_address("give HOST:PORT")
        if self.attempts < 1 or self.timeout <= 0 or self.requests_per_minute < 0:
            raise ConfigError("attempts and timeout must be more than 0, the rate at least 0", "--endpoint")
        self.require_secrecy(self.encrypted, "sentences go", "TTS_NVCF_FUNCTION_ID")

    @property
    def encrypted(self) -> bool:
        """TLS or not."""
        return not is_local(self.address) if self.tls is None else self.tls


class RivaSpeech:
    """``engine(text, voice id)`` speaks; text that stands in ``<speak>`` is read as SSML. Use it in a ``with`` block.

    ``drops`` counts the requests that were refused or broke off and had to be made again.
    """

    def __init__(self, endpoint: SpeechEndpoint, egress: Egress) -> None:
        """Raises FlywheelError if the run does not allow it, MissingDependency without the client."""
        egress.require(endpoint.service, endpoint.address)
        self.endpoint, self.egress = endpoint, egress
        self.drops = 0
        self._answered = False
        self._next_at = 0.0
        self._wait = threading.Event().wait  # Ctrl-C ends it
        self._channel, self._stub = _connect(endpoint)

    def __call__(self, text: str, voice_id: str) -> Samples:
        """Mono float32 at 16,000 Hz.

        Raises:
            ServiceError: the service refuses, or was busy to the last attempt.
            AudioError: it answered, but not with sound.
        """
        from riva.client.proto import riva_tts_pb2 as tts
        from riva.client.proto.riva_audio_pb2 import AudioEncoding

        request = tts.SynthesizeSpeechRequest(
            text=text, voice_name=voice_id, language_code=self.endpoint.language, sample_rate_hz=ASKED_RATE,
            encoding=AudioEncoding.LINEAR_PCM,
        )  # fmt: skip

        def send() -> Samples:
            subject = row_id("", text, voice_id)
            self.egress.record(self.endpoint.service, self.endpoint.address, subject, request.ByteSize())
            return _at_16_khz(self._call(self._stub.Synthesize, request).audio, text)

        return self._patiently(send)

    def voices(self) -> list[str]:
        """The voices the service tells of; empty if it tells of none. Raises ServiceError if it cannot be asked."""
        from riva.client.proto import riva_tts_pb2 as tts

        try:
            answer = self._call(self._stub.GetRivaSynthesisConfig, tts.RivaSynthesisConfigRequest())
        except ServiceError as error:
            if error.code in ("UNIMPLEMENTED", "NOT_FOUND") and self.endpoint.hosted:
                return []  # not every hosted function tells
            raise
        return sorted({name for model in answer.model_config for name in _voice_names(dict(model.parameters))})

    def _patiently(self, send: Callable[[], Samples]) -> Samples:
        """Ask again while that may help: waits are drawn from [half, whole] of 1, 2, 4 ... 60 s."""
        for attempt in range(self.endpoint.attempts):
            self._keep_to_the_rate()
            try:
                spoken = send()
            except (ServiceError, _BrokenOffError) as error:
                if attempt + 1 == self.endpoint.attempts or not self._may_help(error):
                    raise
                self.drops += 1
                longest = min(60.0, self.endpoint.first_wait * 2**attempt)
                self._wait(random.uniform(longest / 2, longest))
            else:
                self._answered = True
                return spoken
        raise AssertionError("unreachable")

    def _may_help(self, error: FlywheelError) -> bool:
        """A dropped connection looks like a TLS fault: it is taken for one only before the first answer."""
        if not isinstance(error, ServiceError):
            return True
        return error.code in PASSING and (self._answered or not error.fatal)

    def _keep_to_the_rate(self) -> None:
        if self.endpoint.requests_per_minute:
            now = time.monotonic()
            if self._next_at > now:
                self._wait(self._next_at - now)
            self._next_at = max(now, self._next_at) + 60 / self.endpoint.requests_per_minute

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self.endpoint.timeout, metadata=self.endpoint.metadata)
        except grpc.RpcError as error:
            raise _explained(error.code().name, error.details() or "", self.endpoint.address) from None

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _BrokenOffError(AudioError):
    """An answer that ends before its sound does."""


def _explained(code: str, details: str, where: str) -> ServiceError:
    """In the words of a speech service where the general ones would mislead."""
    mends = {
        "NOT_FOUND": "export TTS_NVCF_FUNCTION_ID of a function that exists, or choose another --voices",
        "UNIMPLEMENTED": "is this a Riva speech synthesis service? check host and port",
        "INVALID_ARGUMENT": "choose another voice (--voices) or another sentence",
        "RESOURCE_EXHAUSTED": "wait, or give --requests-per-minute; the same command again goes on from here",
        "UNAVAILABLE": "check host and port, or wait; the same command again goes on from here",
        "DEADLINE_EXCEEDED": "the same command again goes on from here",
    }
    found = explain(code, details, where)
    what = f"the service answered {code}{': ' + ' '.join(details.split())[:160] if details else ''}"
    return ServiceError(code, what, where, mends[code], found.fatal) if code in mends else found


def _voice_names(parameters: dict[str, str]) -> list[str]:
    """Names as requests take them, out of one model's parameters.

    >>> _voice_names({"voice_name": "Magpie", "subvoices": "EN-US.Mia:0,EN-US.Ray:1"})
    ['Magpie.EN-US.Mia', 'Magpie.EN-US.Ray']
    """
    name = parameters.get("voice_name", "")
    parts = [part.partition(":")[0].strip() for part in parameters.get("subvoices", "").split(",")]
    return [f"{name}.{part}" for part in parts if part] or ([name] if name else [])


def _at_16_khz(content: bytes, text: str) -> Samples:
    """Raw samples at the rate that was asked for; a WAV file at the rate that it says."""
    import numpy as np
    import soxr

    from clinical_asr.wav import scaled

    rate = ASKED_RATE
    if content[:4] == b"RIFF":
        samples, rate = _from_wav(content, text)
    elif not content or len(content) % 2:
        raise _BrokenOffError(f"{len(content)} bytes of sound came for {text[:60]!r}", "speech service", "try again")
    else:
        samples = scaled(np.frombuffer(content, dtype="<i2"))
    if rate == SAMPLE_RATE:
        return samples
    return np.ascontiguousarray(soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ"), dtype=np.float32)


def _from_wav(content: bytes, text: str) -> tuple[Samples, int]:
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError):
        raise _BrokenOffError(f"a broken WAV file came for {text[:60]!r}", "the speech service", "try again") from None
    if samples.shape[1] != 1:
        raise AudioError(f"{samples.shape[1]} channels came for {text[:60]!r}", "the speech service", "one is needed")
    return samples[:, 0], int(rate)


def _connect(endpoint: SpeechEndpoint) -> tuple[Any, Any]:
    try:
        from riva.client.proto import riva_tts_pb2_grpc

        channel = open_channel(endpoint.address, endpoint.encrypted, endpoint.ca)
    except ImportError:
        raise MissingDependency("nvidia-riva-client", "riva") from None
    return channel, riva_tts_pb2_grpc.RivaSpeechSynthesisStub(channel)
