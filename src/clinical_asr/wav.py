"""One recording on disk: written as the bases want it, and looked at without believing its header.

A WAV that was cut off in transfer still opens in most libraries, shorter and without a word. So the length that the
header declares is compared with the bytes that are there.
"""

from __future__ import annotations

import errno
import hashlib
import io
import shlex
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_asr import intake
from clinical_asr.errors import AudioError
from clinical_asr.loudness import active_level
from clinical_asr.records import SAMPLE_RATE, Decibels, Seconds

SILENT_BELOW: Decibels = -50.0  # dBFS of active speech; speech is usually recorded at -35 to -15
LONGEST: Seconds = 3600.0  # of one recording; bases hear minutes, and ten hours of samples would fill the memory
LARGEST = int(LONGEST * SAMPLE_RATE * 2) + 2**20  # bytes of such a file, its headers included
HEADER = 44  # bytes before the samples of a file that :func:`encoded` makes
CLIPPED_RUN = 3  # neighbouring samples at full scale: one alone may be an honest peak
FULL_SCALE = 32768  # of int16

Stored = NDArray[np.int16] | NDArray[np.float32]
"""Samples, shape (samples,): int16, or float32 in [-1, 1]."""


@dataclass(frozen=True)
class Recording:
    """A decoded file: its samples as int16 and the SHA-256 of its bytes."""

    samples: NDArray[np.int16]
    digest: str

    @property
    def duration(self) -> Seconds:
        """Frames over rate."""
        return self.samples.size / SAMPLE_RATE

    @property
    def scaled(self) -> NDArray[np.float32]:
        """Samples in [-1, 1)."""
        return scaled(self.samples)

    @property
    def level(self) -> Decibels:
        """Level of the active part in dB relative to full scale."""
        return active_level(self.scaled)

    def faults(self) -> list[str]:
        """What a listener would complain about: silence, clipping."""
        found = []
        if self.level < SILENT_BELOW:
            found.append(f"is silent ({self.level:.0f} dBFS, speech is above {SILENT_BELOW:.0f})")
        if is_clipped(self.samples):
            found.append(f"is clipped ({CLIPPED_RUN} or more neighbouring samples at full scale)")
        return found


def scaled(samples: Stored) -> NDArray[np.float32]:
    """The same samples in [-1, 1].

    >>> scaled(np.array([-32768, 1], np.int16)).tolist() == [-1.0, 2**-15]
    True
    """
    if samples.dtype == np.float32:
        return samples  # type: ignore[return-value]
    return np.multiply(samples, np.float32(1 / FULL_SCALE), dtype=np.float32)


def is_clipped(samples: NDArray[np.int16]) -> bool:
    """True where at least three neighbouring samples stand at the same end of the scale.

    >>> is_clipped(np.array([0, 32767, 32767, 32767, 5], dtype=np.int16))
    True
    >>> is_clipped(np.array([0, 32767, -32768, 32767, 5], dtype=np.int16))
    False
    """
    for end in (samples == 32767, samples <= -32767):
        if end.any() and np.convolve(end.astype(np.int8), np.ones(CLIPPED_RUN, np.int8)).max() == CLIPPED_RUN:
            return True
    return False


def encoded(samples: NDArray[np.int16]) -> bytes:
    """A WAV file of mono PCM16 at 16 kHz: ``HEADER`` bytes, then two for each sample."""
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    return content.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write an encoded file. Raises AudioError if the disk is full: what is there already is kept."""
    try:
        path.write_bytes(content)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        mend = "free some space and give the same command again: it goes on from here"
        raise AudioError(f"the disk is full ({len(content)} bytes did not fit)", str(path.parent), mend) from None


def read(path: Path) -> Recording:
    """Decode a whole file. Raises AudioError unless it is a complete mono PCM16 recording at 16 kHz."""
    return decoded(_bytes(path), path)


def decoded(content: bytes, path: Path) -> Recording:
    """Decode the bytes of the file at ``path``. Raises AudioError as :func:`read` does."""
    import soundfile

    declared = _declared_bytes(content)
    if declared is not None and declared[0] != declared[1]:
        raise AudioError(
            f"is cut off: its header declares {declared[0]} bytes of audio, {declared[1]} are there",
            str(path),
            "copy or record it again",
        )
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            _require_form(file.channels, file.samplerate, file.subtype, path)
            require_length(file.frames, file.samplerate, path)
            samples, frames = file.read(dtype="int16"), file.frames
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise AudioError(f"cannot be decoded ({plain_reason(error)})", str(path), "write it as 16-bit WAV") from None
    if samples.size != frames:
        raise AudioError(f"declares {frames} frames, {samples.size} can be decoded", str(path), "record it again")
    if not frames:
        raise AudioError("holds no samples", str(path), "record or synthesise it again")
    return Recording(samples, hashlib.sha256(content).hexdigest())


def _bytes(path: Path) -> bytes:
    try:
        return intake.document(path, LARGEST)
    except FileNotFoundError:
        raise AudioError("does not exist", str(path), "check the path") from None
    except IsADirectoryError:
        raise AudioError("is not a file", str(path), "check the path") from None
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.EFBIG:
            require_length(path.stat().st_size // 2, SAMPLE_RATE, path)
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"cannot be read ({reason})", repr(str(path)), "check the path") from None


def require_length(frames: int, rate: int, path: Path) -> None:
    """Raises AudioError for a recording that is longer than ``LONGEST``."""
    if frames > LONGEST * rate:
        why = f"lasts {frames / rate / 3600:.1f} hours, more than the {LONGEST / 3600:g} that one recording may last"
        raise AudioError(why, str(path), "cut it at its pauses")


def _require_form(channels: int, rate: int, subtype: str, path: Path) -> None:
    wrong = []
    if channels != 1:
        wrong.append(f"has {channels} channels")
    if rate != SAMPLE_RATE:
        wrong.append(f"has {rate} Hz")
    if subtype != "PCM_16":
        wrong.append(f"is {subtype}")
    if wrong:
        mend = f"convert it: {shlex.join(['sox', str(path), '-r', '16000', '-c', '1', '-b', '16', 'out.wav'])}"
        raise AudioError(f"{', '.join(wrong)}; mono PCM_16 at 16000 Hz is needed", str(path), mend)


def _declared_bytes(content: bytes) -> tuple[int, int] | None:
    """(declared, present) bytes of a WAV's data chunk; ``None`` for another container or a WAV without data."""
    sizes = ((size, min(size, len(content) - at)) for name, at, size in chunks(content) if name == b"data")
    return next(sizes, None)


def chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, place of its first byte, bytes it declares) of a WAV's chunks; none of another container's.

    >>> [(name, at, size) for name, at, size in chunks(encoded(np.zeros(3, np.int16)))]
    [(b'fmt ', 20, 16), (b'data', 44, 6)]
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        yield name, at + 8, size
        at += 8 + size + size % 2


def plain_reason(error: Exception) -> str:
    """Why libsndfile refused, in a line, without the place in memory where the bytes lay."""
    return " ".join(str(getattr(error, "error_string", error)).split())[:120]
