"""What a request asks for: honoured, or refused by name. No field of Riva's protocol is read over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from clinical_asr.engines.riva_server.incoming import RATES
from clinical_asr.engines.riva_server.settings import ServedModel


class Refused(Exception):
    """A request that is answered with a gRPC status: its name and the reason."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


WENT_AWAY = ("CANCELLED", "the client went away")
"""Status and reason of a request that nobody waits for any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be served. ``encoding`` is Riva's name or empty, ``rate`` in Hz or 0."""

    encoding: str
    rate: int
    words: bool
    interim: bool = False


def asked(config: Any, model: ServedModel, interim: bool = False) -> Asked:
    """Read a ``RecognitionConfig``. Raises Refused (INVALID_ARGUMENT) naming every field that cannot be honoured."""
    problems = [*_unserved(config), *_unknown(config, model)]
    encoding = _encoding(config)
    if interim and encoding in ("FLAC", "OGGOPUS"):
        problems.append(f"interim_results: {encoding} is decoded at its end; stream LINEAR_PCM")
    if problems:
        raise Refused("INVALID_ARGUMENT", "; ".join(problems))
    return Asked(encoding, config.sample_rate_hertz, config.enable_word_time_offsets, interim)


def _encoding(config: Any) -> str:
    from riva.client.proto.riva_audio_pb2 import AudioEncoding

    number = config.encoding
    if number not in AudioEncoding.values():
        raise Refused("INVALID_ARGUMENT", f"encoding {number} is unknown; send LINEAR_PCM or FLAC")
    return "" if number == 0 else str(AudioEncoding.Name(number))


def _unserved(config: Any) -> Iterator[str]:
    """What no model behind this server does."""
    if config.max_alternatives > 1:
        yield "max_alternatives: greedy decoding gives one; ask for 1"
    if config.profanity_filter:
        yield "profanity_filter: clinical speech is not filtered; leave it out"
    if config.speech_contexts:
        yield "speech_contexts: word boosting is not served; fine-tune the terms instead"
    if config.audio_channel_count > 1:
        yield "audio_channel_count: send the one channel that holds the speaker"
    if config.enable_separate_recognition_per_channel:
        yield "enable_separate_recognition_per_channel: send each channel as a request of its own"
    if config.diarization_config.enable_speaker_diarization:
        yield "diarization_config: speakers are not told apart; leave it out"
    if config.custom_configuration:
        yield "custom_configuration: no keys are known; leave it out"
    if config.HasField("endpointing_config"):
        yield "endpointing_config: ends of speech are not detected, the client ends the stream; leave it out"


def _unknown(config: Any, model: ServedModel) -> Iterator[str]:
    """What this model does not have."""
    if config.model and config.model != model.name:
        yield f"model: only {model.name} is served"
    if not model.speaks(config.language_code):
        yield f"language_code: this model hears {', '.join(model.languages)}"
    if config.enable_word_time_offsets and model.no_words:
        yield f"enable_word_time_offsets: {model.no_words}"
    if config.enable_automatic_punctuation and not model.punctuates:
        yield "enable_automatic_punctuation: this model writes no punctuation; leave it out"
    if config.sample_rate_hertz and config.sample_rate_hertz not in RATES:
        yield f"sample_rate_hertz: {RATES[0]} to {RATES[-1]} Hz are served"
