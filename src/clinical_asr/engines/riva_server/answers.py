"""Recognitions as Riva's messages. Times are milliseconds there, seconds here."""

from __future__ import annotations

from typing import Any

from clinical_asr.engines.riva_server.settings import ServedModel, ServingConfig
from clinical_asr.recognition import Recognition, later
from clinical_asr.records import SAMPLE_RATE, Seconds


def offline(heard: Recognition, seconds: Seconds, request_id: Any) -> Any:
    """``RecognizeResponse``; the client's id comes back as it came."""
    from riva.client.proto import riva_asr_pb2 as asr

    result = asr.SpeechRecognitionResult(alternatives=[_alternative(heard)], channel_tag=1, audio_processed=seconds)
    return asr.RecognizeResponse(results=[result], id=request_id)


def final(heard: Recognition, start: Seconds, processed: Seconds, last: bool) -> Any:
    """A part of a stream that will not change. Clients join parts as they are, so all but the last end in a space."""
    return _streamed(_alternative(heard, start, "" if last else " "), processed, True)


def interim(heard: Recognition, processed: Seconds) -> Any:
    """What the part that is not final yet sounds like so far."""
    return _streamed(_alternative(Recognition(heard.text, heard.confidence)), processed, False)


def _streamed(alternative: Any, processed: Seconds, is_final: bool) -> Any:
    from riva.client.proto import riva_asr_pb2 as asr

    result = asr.StreamingRecognitionResult(
        alternatives=[alternative], is_final=is_final, channel_tag=1, audio_processed=processed
    )
    return asr.StreamingRecognizeResponse(results=[result])


def _alternative(heard: Recognition, start: Seconds = 0.0, ending: str = "") -> Any:
    from riva.client.proto import riva_asr_pb2 as asr

    words = [
        asr.WordInfo(
            word=word.text, start_time=round(1000 * word.start), end_time=round(1000 * word.end),
            confidence=word.confidence or 0.0,
        )
        for word in (later(word, start) for word in heard.words)
    ]  # fmt: skip
    text = heard.text + ending if heard.text else ""
    return asr.SpeechRecognitionAlternative(transcript=text, confidence=heard.confidence or 0.0, words=words)


def model_config(model: ServedModel, config: ServingConfig) -> Any:
    """``RivaSpeechRecognitionConfigResponse``: one model, offline and streaming, with the digest of its file."""
    from riva.client.proto import riva_asr_pb2 as asr

    parameters = {
        "language_code": model.languages[0], "sample_rate": str(SAMPLE_RATE), "type": "offline",
        "streaming": "true", "chunk_seconds": f"{config.chunk:g}", "max_audio_seconds": f"{config.max_audio:g}",
        "max_batch_size": str(config.max_batch), "word_time_offsets": str(not model.no_words).lower(),
        "automatic_punctuation": str(model.punctuates).lower(), "model_digest": model.digest,
    }  # fmt: skip
    kind = asr.RivaSpeechRecognitionConfigResponse
    return kind(model_config=[kind.Config(model_name=model.name, parameters=parameters)])
