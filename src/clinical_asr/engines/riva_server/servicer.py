"""Riva's three calls. Every request ends in a status, a line in the log and a free slot, whatever its client does."""

from __future__ import annotations

import hmac
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from clinical_asr.engines.riva_server.answers import final, interim, model_config, offline
from clinical_asr.engines.riva_server.asked import WENT_AWAY, Asked, Refused, asked
from clinical_asr.engines.riva_server.batcher import Batcher
from clinical_asr.engines.riva_server.incoming import decode
from clinical_asr.engines.riva_server.log import Call, Log
from clinical_asr.engines.riva_server.reader import Reader
from clinical_asr.engines.riva_server.settings import ServedModel, ServingConfig
from clinical_asr.engines.riva_server.stream import Stream
from clinical_asr.errors import AudioError, FlywheelError, ModelError
from clinical_asr.recognition import Recognition, Samples
from clinical_asr.records import SAMPLE_RATE, Seconds

INTERIM_EVERY: Seconds = 1.0  # of new audio; each interim result recognises all that is not final yet


class Recogniser:
    """What gRPC calls: the methods carry the protocol's names."""

    def __init__(self, model: ServedModel, config: ServingConfig, batcher: Batcher, log: Log) -> None:
        self.model, self.config, self.batcher, self.log = model, config, batcher, log
        self._slots = threading.Semaphore(config.max_requests)

    def Recognize(self, request: Any, context: Any) -> Any:  # noqa: N802
        """A whole recording, one answer."""
        with self._call("Recognize", context) as call:
            wanted = asked(request.config, self.model)
            samples = decode(request.audio, wanted.encoding, wanted.rate, self.config.max_audio)
            call.audio = len(samples) / SAMPLE_RATE
            heard = self._recognise(call, samples, wanted, context)
            return offline(heard, call.audio, request.id)

    def StreamingRecognize(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        """Audio in pieces; final results in parts, interim ones if asked for."""
        with self._call("StreamingRecognize", context) as call:
            reader = Reader(requests, context, self.config.idle, self.config.max_stream)
            try:
                yield from self._listen(call, reader, self._wanted(reader), context)
            except (AudioError, Refused):
                if reader.gone():  # then the end of its audio was no end
                    raise Refused(*WENT_AWAY) from None
                raise

    def GetRivaSpeechRecognitionConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The model that is served."""
        with self._call("GetRivaSpeechRecognitionConfig", context):
            if request.model_name and request.model_name != self.model.name:
                raise Refused("INVALID_ARGUMENT", f"model_name: only {self.model.name} is served")
            return model_config(self.model, self.config)

    def _wanted(self, reader: Reader) -> Asked:
        first = reader.first()
        if first is None or not first.HasField("streaming_config"):
            raise Refused("INVALID_ARGUMENT", "the first message of a stream must be its streaming_config")
        settings = first.streaming_config
        return asked(settings.config, self.model, settings.interim_results)

    def _listen(self, call: Call, reader: Reader, wanted: Asked, context: Any) -> Iterator[Any]:
        stream, shown = Stream(wanted.encoding, wanted.rate, self.config.max_audio), 0.0
        while (message := reader.next()) is not None:
            self._take(stream, message)
            self._require_length(call, stream.done + stream.seconds)
            while stream.seconds > self.config.chunk:
                before = stream.done
                heard = self._recognise(call, stream.cut(self.config.chunk), wanted, context)
                shown = 0.0
                yield final(heard, before, stream.done, last=False)
            if wanted.interim and stream.seconds >= shown + INTERIM_EVERY and self._idle(reader):
                shown = stream.seconds
                yield interim(self._recognise(call, stream.speech(ended=False), wanted, context), call.audio)
        yield self._last(call, stream, wanted, context)

    def _idle(self, reader: Reader) -> bool:
        """Interim results are a courtesy: none while others wait or this stream is behind."""
        return not reader.behind and self.batcher.waiting == 0

    def _last(self, call: Call, stream: Stream, wanted: Asked, context: Any) -> Any:
        if stream.done and stream.seconds < 0.05:
            return final(Recognition(""), stream.done, stream.done, last=True)
        samples = stream.speech()
        call.audio = stream.done + len(samples) / SAMPLE_RATE
        return final(self._recognise(call, samples, wanted, context), stream.done, call.audio, last=True)

    def _require_length(self, call: Call, seconds: Seconds) -> None:
        call.audio, limit = seconds, self.config.max_stream
        if seconds > limit:
            why = f"audio: is longer than {limit:g} s (the server's --max-stream); split it"
            raise Refused("INVALID_ARGUMENT", why)

    def _take(self, stream: Stream, message: Any) -> None:
        if message.runtime_config:
            raise Refused("INVALID_ARGUMENT", "runtime_config: no keys are known; leave it out")
        if message.HasField("streaming_config"):
            raise Refused("INVALID_ARGUMENT", "streaming_config: only the first message of a stream carries it")
        stream.add(message.audio_content)
        if stream.received > self.config.max_message_mib * 2**20 and (stream.whole or not stream.seconds):
            raise Refused("RESOURCE_EXHAUSTED", f"the stream is larger than {self.config.max_message_mib} MiB")

    def _recognise(self, call: Call, samples: Samples, wanted: Asked, context: Any) -> Recognition:
        """Wait for the batch this recording is in; a client that goes takes its recording with it."""
        try:
            job = self.batcher.submit(samples, wanted.words)
        except queue.Full:
            raise Refused("RESOURCE_EXHAUSTED", "too many recordings wait; try again") from None
        except FlywheelError as error:
            raise Refused("UNAVAILABLE", str(error)) from None
        if not context.add_callback(job.answer.cancel):
            job.answer.cancel()
        left = context.time_remaining()
        try:
            heard = job.answer.result(min(self.config.timeout, self.config.timeout if left is None else left))
        except CancelledError:
            raise Refused(*WENT_AWAY) from None
        except TimeoutError:
            job.answer.cancel()
            raise Refused("DEADLINE_EXCEEDED", "the transcript was not ready in time") from None
        call.waited, call.batch = call.waited + job.waited, max(call.batch, job.batch)
        call.transcript = f"{call.transcript} {heard.text}".strip()
        return heard

    @contextmanager
    def _call(self, rpc: str, context: Any) -> Iterator[Call]:
        """Token and slot, then the work; what goes wrong becomes a status."""
        import grpc

        call, refusal = self.log.begin(rpc), None
        try:
            self._admit(context)
        except Refused as error:
            self._refuse(call, error)
            context.abort(grpc.StatusCode[error.code], error.why)
        try:
            yield call
        except Refused as error:
            refusal = error
        except AudioError as error:
            refusal = Refused("INVALID_ARGUMENT", str(error))
        except ModelError as error:
            refusal = Refused("INTERNAL", str(error))
        except GeneratorExit:  # the client of a stream is gone
            call.code, call.why = WENT_AWAY
            raise
        except Exception as error:
            call.code, call.why = "INTERNAL", type(error).__name__
            raise
        finally:
            self._slots.release()
            if refusal is None:
                self.log.end(call)
            else:
                self._refuse(call, refusal)
        if refusal is not None:
            context.abort(grpc.StatusCode[refusal.code], refusal.why)

    def _refuse(self, call: Call, refusal: Refused) -> None:
        call.code, call.why = refusal.code, refusal.why
        self.log.end(call)

    def _admit(self, context: Any) -> None:
        if self.config.token:
            given = dict(context.invocation_metadata()).get("authorization", "")
            if not hmac.compare_digest(str(given).encode(), f"Bearer {self.config.token}".encode()):
                raise Refused("UNAUTHENTICATED", "send the metadata authorization: Bearer <token>")
        if not self._slots.acquire(blocking=False):
            raise Refused("RESOURCE_EXHAUSTED", f"{self.config.max_requests} requests are in flight; try again")
