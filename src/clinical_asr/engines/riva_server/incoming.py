"""From the bytes of a request to speech: containers by their header, raw samples by what the request says.

``WAV`` is found by its header under LINEAR_PCM, as Riva's own clients send it; a header and a request that contradict
each other are refused, never guessed about.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np

from clinical_asr.errors import AudioError
from clinical_asr.recognition import Samples
from clinical_asr.records import SAMPLE_RATE, Seconds
from clinical_asr.wav import LONGEST, plain_reason, scaled

RATES = range(8_000, 48_001)
SHORTEST: Seconds = 0.05
LONGEST_HEADER = 2**20
"""Bytes before the samples of a WAV: recorders fill up to 64 KiB, a picture seldom takes more than some hundred. What
goes on longer is no recording, but millions of empty chunks that keep a processor busy."""
UNKNOWN_LENGTH = 2**63 - 1  # the decoder's count of samples where a file does not tell
UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFFFFF)  # what writers to a pipe put where the length of a WAV belongs
CONTAINERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "OGGOPUS"}
RAW_WIDTHS = {"LINEAR_PCM": 2, "MULAW": 1, "ALAW": 1}
"""Encodings without a header: bytes a sample."""


@dataclass(frozen=True, slots=True)
class WavForm:
    """What the header of a WAV says; ``start`` is where samples begin, ``declared`` how many bytes there are."""

    tag: int
    channels: int
    rate: int
    bits: int
    start: int
    declared: int

    @property
    def is_pcm16(self) -> bool:
        """True for the plain form, which can be cut anywhere."""
        return self.tag in (1, 0xFFFE) and self.bits == 16


class WavHeader:
    """Read as its bytes come: each call goes on at the first chunk that had not come, never from the beginning."""

    def __init__(self) -> None:
        self._at = 12  # where the next chunk begins
        self._format: tuple[int, ...] | None = None

    def form(self, content: bytes | bytearray) -> WavForm | None:
        """What it says, given all bytes so far; None while the samples have not begun. Raises AudioError for a header
        without a format or without an end.
        """
        while self._at <= LONGEST_HEADER and self._at + 8 <= len(content):
            name, size = struct.unpack_from("<4sI", content, self._at)
            if name == b"data":
                return self._begun(size)
            if name == b"fmt ":
                if self._at + 24 > len(content):
                    return None
                self._format = struct.unpack_from("<HHIIHH", content, self._at + 8)
            self._at += 8 + size + size % 2
        if self._at > LONGEST_HEADER:
            why = f"its WAV header has no samples within {LONGEST_HEADER:,} bytes"
            raise AudioError(why, "audio", "send it without pictures and notes, or as FLAC")
        return None

    def _begun(self, declared: int) -> WavForm:
        if self._format is None:
            raise AudioError("its WAV header has no format", "audio", "write the file again")
        tag, channels, rate, _, _, bits = self._format
        return WavForm(tag, channels, rate, bits, self._at + 8, declared)


def container_of(content: bytes, encoding: str) -> str:
    """``WAV``, ``FLAC``, ``OGGOPUS``, or empty for raw samples. Raises AudioError if ``encoding`` says otherwise."""
    found = CONTAINERS.get(content[:4], "")
    allowed = {"": set(CONTAINERS.values()), "LINEAR_PCM": {"WAV", ""}, "MULAW": {"WAV", ""}, "ALAW": {"WAV", ""}}
    if found in allowed.get(encoding, {encoding}):
        return found
    what = found or "raw samples"
    mend = "set encoding and sample_rate_hertz, or send WAV, FLAC or Ogg Opus"
    raise AudioError(f"the audio is {what}, the request says {encoding or 'no encoding'}", "audio", mend)


def decode(content: bytes, encoding: str, rate: int, longest: Seconds = LONGEST) -> Samples:
    """A whole recording as a base hears it. ``encoding`` is Riva's name or empty, ``rate`` in Hz or 0 for unknown.

    Raises AudioError: another form than the request says, several channels, cut off, too short, not decodable, longer
    than ``longest``. The last is found before anything is decoded: a small message can hold hours of silence.
    """
    container = container_of(content, encoding)
    if not container:
        check_rate(rate)
        require_length(len(content) // RAW_WIDTHS[encoding], rate, longest)
        return to_speech(raw_samples(content, encoding, rate), rate)
    if container == "WAV":
        _refuse_cut_off(content)
    samples, found = _contained(content, longest)
    if rate and rate != found:
        raise AudioError(f"has {found} Hz, sample_rate_hertz says {rate}", "audio", "set what the file has, or 0")
    return to_speech(samples, found)


def raw_samples(content: bytes, encoding: str, rate: int) -> Samples:
    """Samples without a header, at their own rate."""
    check_rate(rate)
    if len(content) % RAW_WIDTHS[encoding]:
        raise AudioError("ends within a sample", "audio", "send whole 16-bit little-endian samples")
    if encoding == "LINEAR_PCM":
        return scaled(np.frombuffer(content, dtype="<i2"))
    import soundfile

    options = {"format": "RAW", "subtype": {"MULAW": "ULAW", "ALAW": "ALAW"}[encoding], "dtype": "float32"}
    samples, _ = soundfile.read(io.BytesIO(content), samplerate=rate, channels=1, **options)
    return np.asarray(samples, dtype=np.float32)


def check_rate(rate: int) -> None:
    """Raises AudioError for a rate, in Hz, that raw samples cannot have."""
    if rate not in RATES:
        raise AudioError(f"sample_rate_hertz is {rate}, raw samples need {RATES[0]} to {RATES[-1]}", "audio")


def to_speech(samples: Samples, rate: int) -> Samples:
    """Mono speech at 16 kHz. Raises AudioError if it is too short or holds what is no number."""
    if len(samples) < SHORTEST * rate:
        raise AudioError(f"is {len(samples) / rate:.3f} s long: no speech", "audio")
    if not np.isfinite(samples).all():
        raise AudioError("holds samples that are not numbers", "audio")
    if rate == SAMPLE_RATE:
        return np.ascontiguousarray(samples)
    import soxr

    return np.ascontiguousarray(soxr.resample(samples, rate, SAMPLE_RATE), dtype=np.float32)


def require_length(samples: int, rate: int, longest: Seconds) -> None:
    """Raises AudioError for a recording that lasts too long, or would fill the memory as one that does."""
    if samples == UNKNOWN_LENGTH:
        raise AudioError("does not say how long it is", "audio", "write it to a file, not into a pipe, and send that")
    if samples > longest * rate:
        raise AudioError(f"is longer than {longest:g} s (the server's --max-audio)", "audio", "split it")
    if samples > longest * RATES[-1]:
        why = f"has {samples} samples, more than {longest:g} s at {RATES[-1]} Hz (the server's --max-audio)"
        raise AudioError(why, "audio", f"split it, or send {RATES[-1]} Hz")


def _contained(content: bytes, longest: Seconds) -> tuple[Samples, int]:
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            refuse_channels(file.channels)
            require_length(file.frames, file.samplerate, longest)
            return file.read(file.frames, dtype="float32"), int(file.samplerate)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise AudioError(f"cannot be decoded ({plain_reason(error)})", "audio") from None


def refuse_channels(count: int) -> None:
    """Which channel holds the speaker is not ours to guess."""
    if count != 1:
        raise AudioError(f"has {count} channels", "audio", "send the one with the speaker")


def _refuse_cut_off(content: bytes) -> None:
    """A WAV that lost its end would be transcribed without a word about it."""
    form = WavHeader().form(content)
    if form is None:
        raise AudioError("is a WAV without samples", "audio")
    there = len(content) - form.start
    if form.declared not in UNKNOWN_SIZES and there < form.declared:
        raise AudioError(f"is cut off: its header declares {form.declared} bytes, {there} are there", "audio")
