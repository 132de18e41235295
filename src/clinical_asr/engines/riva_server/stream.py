"""A stream's bytes as they come, cut at quiet moments into parts that are made final one after the other."""

from __future__ import annotations

import numpy as np

from clinical_asr.engines.riva_server.incoming import (
    RATES,
    RAW_WIDTHS,
    UNKNOWN_SIZES,
    WavHeader,
    check_rate,
    container_of,
    decode,
    raw_samples,
    refuse_channels,
    to_speech,
)
from clinical_asr.errors import AudioError
from clinical_asr.recognition import Samples
from clinical_asr.records import Seconds
from clinical_asr.wav import LONGEST

QUIET: Seconds = 0.1  # a cut is made in the middle of the quietest stretch of this length
MAGIC = 4  # bytes that tell a container


class Stream:
    """Speech of one stream. ``whole`` where it can only be decoded at its end: FLAC, Opus, WAV that is not PCM16.

    Such a one may last ``longest``; how long the others last is seen as they come, and for the caller to judge.
    """

    def __init__(self, encoding: str, rate: int, longest: Seconds = LONGEST) -> None:
        self.encoding, self.rate, self.longest = encoding, rate, longest
        self.whole = False
        self.received = 0
        """Bytes of audio, headers included."""
        self.done: Seconds = 0.0
        """Seconds that were cut off and made final."""
        self._bytes = bytearray()
        self._header = WavHeader()
        self._known = False
        self._left: int | None = None  # bytes that a WAV header still promises

    def add(self, chunk: bytes) -> None:
        """Take the next bytes. Raises AudioError for what :func:`incoming.decode` refuses."""
        self.received += len(chunk)
        if self._known and self._left is not None:
            chunk = chunk[: self._left]
            self._left -= len(chunk)
        self._bytes += chunk
        if not self._known and len(self._bytes) >= MAGIC:
            self._look_at_header()

    @property
    def seconds(self) -> Seconds:
        """Length of what is not final yet; 0 while it cannot be told."""
        if self.whole or not self._known:
            return 0.0
        return len(self._bytes) / (RAW_WIDTHS[self.encoding] * self.rate)

    def speech(self, ended: bool = True) -> Samples:
        """All that is not final yet. Raises AudioError as :func:`incoming.decode` does."""
        content = bytes(self._bytes)
        if not content:
            raise AudioError("no audio was sent", "audio")
        if not self._known or self.whole:
            return decode(content, self.encoding, self.rate, self.longest)
        if self._left and ended:
            raise AudioError(f"is cut off: {self._left} bytes that its header declares were not sent", "audio")
        return to_speech(self._raw(content, ended), self.rate)

    def cut(self, chunk: Seconds) -> Samples:
        """Of the first ``chunk`` seconds, speech up to the quietest moment of the last third; the rest stays."""
        length = round(chunk * self.rate) * RAW_WIDTHS[self.encoding]
        samples = self._raw(bytes(self._bytes[:length]), ended=False)
        at = quietest(samples, self.rate)
        del self._bytes[: at * RAW_WIDTHS[self.encoding]]
        self.done += at / self.rate
        return to_speech(samples[:at], self.rate)

    def _raw(self, content: bytes, ended: bool) -> Samples:
        width = RAW_WIDTHS[self.encoding]
        whole = content if ended else content[: len(content) // width * width]  # a chunk may end within a sample
        return raw_samples(whole, self.encoding, self.rate)

    def _look_at_header(self) -> None:
        container = container_of(bytes(self._bytes[:MAGIC]), self.encoding)
        if container != "WAV":
            self._known, self.whole = True, bool(container)
            if not container:
                check_rate(self.rate)
            return
        form = self._header.form(self._bytes)
        if form is None:
            return
        refuse_channels(form.channels)
        if form.is_pcm16 and form.rate not in RATES:  # at four billion a second no stream would ever be long
            raise AudioError(f"has {form.rate} Hz", "audio", f"stream {RATES[0]} to {RATES[-1]} Hz")
        self._known, self.whole = True, not form.is_pcm16
        if self.rate and self.rate != form.rate:
            raise AudioError(f"has {form.rate} Hz, sample_rate_hertz says {self.rate}", "audio")
        if form.is_pcm16:
            self._begin(form.start, form.rate, form.declared)

    def _begin(self, start: int, rate: int, declared: int) -> None:
        """Forget the header; what follows are samples."""
        del self._bytes[:start]
        self.encoding, self.rate = "LINEAR_PCM", rate
        if declared not in UNKNOWN_SIZES:
            del self._bytes[declared:]
            self._left = declared - len(self._bytes)


def quietest(samples: Samples, rate: int) -> int:
    """Index of the quietest moment in the last third.

    >>> speech = np.ones(3000, dtype=np.float32); speech[2400:2600] = 0
    >>> quietest(speech, 1000)
    2450
    """
    width, start = max(1, round(QUIET * rate)), len(samples) * 2 // 3
    energy = np.cumsum(np.square(samples[start:], dtype=np.float64))
    if len(energy) <= width:
        return len(samples)
    return start + int(np.argmin(energy[width:] - energy[:-width])) + width // 2 + 1
