"""Speech from eSpeak NG: an offline voice that needs no account, no key and no GPU.

The library and its voices come bundled in the ``espeakng-loader`` wheel and are called through ctypes. It keeps one
global state per process (voice, rate, pitch), so every call here takes a lock and sets all of it again.

>>> Voice("en-us", "f3").voice_id
'en-us+f3-r165-p50'
>>> Voice.parse("en-gb-r130-p20")
Voice(language='en-gb', variant=None, rate=130, pitch=20)
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from clinical_asr.errors import AudioError, ConfigError, FlywheelError, MissingDependency
from clinical_asr.wav import scaled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000  # Hz, what `synthesise` returns
MARGIN_SECONDS = 0.1  # silence kept before the first and after the last sound
SILENCE_RATIO = 1e-3  # of the peak (-60 dB): quieter edges count as silence
RATES = range(80, 451)  # words per minute the library accepts
PITCHES = range(100)

# speak_lib.h
_SYNCHRONOUS, _DONT_EXIT, _UTF8, _PHONEMES_IN = 2, 0x8000, 1, 0x100
_RATE, _PITCH, _RANGE, _WORDGAP = 1, 3, 4, 7
_AS_IPA = 0x02
_VOICE_ID = re.compile(r"(?P<language>[a-z0-9-]+?)(\+(?P<variant>[^+]+))?-r(?P<rate>\d+)-p(?P<pitch>\d+)")


@dataclass(frozen=True)
class Voice:
    """One way of speaking: an accent, a voice variant (timbre), a rate in words per minute and a pitch from 0 to 99.

    Raises:
        ConfigError: the rate is outside 80 to 450 or the pitch outside 0 to 99.
    """

    language: str = "en-us"
    variant: str | None = None
    rate: int = 165
    pitch: int = 50

    def __post_init__(self) -> None:
        for field, value, allowed in (("rate", self.rate, RATES), ("pitch", self.pitch, PITCHES)):
            if value not in allowed:
                raise ConfigError(f"{field} is {value}", "voice", f"choose {allowed.start} to {allowed.stop - 1}")

    @property
    def name(self) -> str:
        """The name eSpeak NG knows: language and variant.

        >>> Voice("en-gb", "m2").name
        'en-gb+m2'
        """
        return self.language + (f"+{self.variant}" if self.variant else "")

    @property
    def voice_id(self) -> str:
        """A stable name for manifests; `parse` reads it back."""
        return f"{self.name}-r{self.rate}-p{self.pitch}"

    @classmethod
    def parse(cls, voice_id: str) -> Voice:
        """The voice that carries this id.

        Raises:
            ConfigError: the text has not the form of a voice id.
        """
        found = _VOICE_ID.fullmatch(voice_id)
        if not found:
            raise ConfigError(f"{voice_id!r} is no voice id", mend="write it like en-us+f3-r165-p50")
        return cls(found["language"], found["variant"], int(found["rate"]), int(found["pitch"]))


class Espeak:
    """The voices of eSpeak NG in this process. Instances are cheap: all share the one loaded library and its lock."""

    def __enter__(self) -> Self:
        _library()
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to close: the library stays for the life of the process."""

    def synthesise(self, text: str, voice: Voice, *, phonemes: bool = False) -> Samples:
        """Speak ``text``: mono float32 at 16,000 Hz in [-1, 1], with 0.1 s of silence at each end.

        The same text and voice always give the same samples. Markup in the text is read out, never obeyed; with
        ``phonemes=True`` parts in ``[[...]]`` are eSpeak phoneme mnemonics.

        Raises:
            ConfigError: the language or the variant is unknown.
            AudioError: there is nothing to say, or nothing was said.
        """
        import soxr

        with _LOCK:
            raw = self._speak(_encoded(text), voice, _UTF8 | (_PHONEMES_IN if phonemes else 0))
        return _with_margins(soxr.resample(raw, _library().rate, SAMPLE_RATE, quality="HQ"), text)

    def phonemes(self, text: str, voice: Voice) -> str:
        """How ``text`` would be said, in IPA; clauses are separated by one space."""
        import ctypes

        with _LOCK:
            engine = self._set(voice)
            rest = ctypes.cast(ctypes.pointer(ctypes.c_char_p(_encoded(text))), ctypes.POINTER(ctypes.c_void_p))
            clauses = []
            while rest[0]:
                clauses.append(engine.dll.espeak_TextToPhonemes(rest, _UTF8, _AS_IPA).decode())
        return " ".join(" ".join(clauses).split())

    def trace(self, text: str, voice: Voice) -> str:
        """What `synthesise` says with ``phonemes=True``, in IPA, as the library traces it while it speaks.

        Stress marks stand before their vowel; clauses are separated by one space.
        """
        with _LOCK, _traced(_library()) as clauses:
            engine = self._set(voice)
            encoded = _encoded(text)
            with _interrupts_wait():
                status = engine.dll.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8 | _PHONEMES_IN, None, None)
            engine.check("Synth", status)
        return " ".join(" ".join(clauses).split())

    def voices(self) -> list[str]:
        """The English accents, as `Voice.language` takes them."""
        return sorted(_accents())

    def variants(self) -> list[str]:
        """The timbres, as `Voice.variant` takes them."""
        return sorted(path.name for path in (_library().data / "voices" / "!v").iterdir())

    def _set(self, voice: Voice) -> _Library:
        """Put the whole state of the library to this voice; the caller holds the lock."""
        engine = _library()
        for kind, name, known in (
            ("language", voice.language, self.voices()),
            ("variant", voice.variant, self.variants()),
        ):
            if name is not None and name not in known:
                raise ConfigError(
                    f"unknown {kind} {name!r}", f"voice {voice.name}", f"choose one of {', '.join(known)}"
                )
        name = voice.name.replace(voice.language, _accents()[voice.language], 1)
        engine.check("SetVoiceByName", engine.dll.espeak_SetVoiceByName(name.encode()))
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, 50), (_WORDGAP, 0)):
            engine.check("SetParameter", engine.dll.espeak_SetParameter(parameter, value, 0))
        return engine

    def _speak(self, encoded: bytes, voice: Voice, flags: int) -> Samples:
        """The engine's own samples as float32, at the engine's rate; the caller holds the lock."""
        import numpy as np

        _unload()
        engine = self._set(voice)
        engine.chunks.clear()
        engine.seed_c(1)  # speechPlayer variants draw from the C library
        engine.check("ng_SetRandSeed", engine.dll.espeak_ng_SetRandSeed(1))  # else seeded with the time of day
        with _interrupts_wait():
            engine.check("Synth", engine.dll.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, flags, None, None))
        return scaled(np.frombuffer(b"".join(engine.chunks), dtype=np.int16))


@dataclass(frozen=True)
class _Library:
    """The loaded library: its entry points, data folder, sample rate in Hz and the chunks of the call in flight."""

    dll: Any
    data: Path
    rate: int
    chunks: list[bytes]
    callback: Any  # ctypes frees a callback that nobody holds
    seed_c: Callable[[int], None]

    def check(self, call: str, status: int) -> None:
        if status != 0:
            raise FlywheelError(f"espeak_{call} failed with status {status}", "eSpeak NG")


_LOCK = threading.RLock()


def _library() -> _Library:
    with _LOCK:
        return _load()


def _unload() -> None:
    """Forget the library and all its state; the caller holds the lock."""
    import _ctypes

    if _load.cache_info().currsize:
        dll = _load().dll
        dll.espeak_Terminate()
        _ctypes.dlclose(dll._handle)
        _load.cache_clear()


@lru_cache(maxsize=1)
def _load() -> _Library:
    """Load and initialise eSpeak NG; initialising a library that is already initialised can lock up."""
    import ctypes

    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingDependency("espeakng-loader", "espeak") from error
    dll, data = ctypes.CDLL(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    dll.espeak_TextToPhonemes.restype = ctypes.c_char_p
    rate = dll.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT)
    if rate <= 0:
        raise FlywheelError(
            f"eSpeak NG cannot read its voices (status {rate})", str(data), "use a path under 150 bytes"
        )
    chunks: list[bytes] = []
    callback = _collector(chunks)
    dll.espeak_SetSynthCallback(callback)
    return _Library(dll, data, rate, chunks, callback, ctypes.CDLL(None).srand)


@lru_cache(maxsize=1)
def _accents() -> dict[str, str]:
    """Language tag to the name of its voice file, without the one that reads Shavian letters."""
    found: dict[str, str] = {}
    for path in sorted((_library().data / "lang" / "gmw").glob("en*")):
        tags = re.findall(r"^language\s+(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        found.setdefault(tags[0], path.name)
    return {tag: name for tag, name in found.items() if tag != "en-shaw"}


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back during a C call: raised in its callback it would be swallowed, and a block of sound with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        signal.raise_signal(signal.SIGINT)


def _collector(chunks: list[bytes]) -> Any:
    """A C callback that appends each block of int16 samples to ``chunks``."""
    import ctypes

    def collect(block: int | None, count: int, events: int | None) -> int:
        if block and count > 0:
            chunks.append(ctypes.string_at(block, count * 2))
        return 0

    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(collect)


@contextmanager
def _traced(engine: _Library) -> Iterator[list[str]]:
    """Collect the IPA of every clause spoken inside; the caller holds the lock."""
    import ctypes

    clauses: list[str] = []
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p)

    def append(clause: bytes) -> int:
        clauses.append(clause.decode())
        return 0

    collect = kind(append)
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    nowhere = ctypes.c_void_p(libc.fopen(os.devnull.encode(), b"w"))  # the library prints its trace as well
    try:
        engine.dll.espeak_SetPhonemeTrace(_AS_IPA, nowhere)
        engine.dll.espeak_SetPhonemeCallback(collect)
        yield clauses
    finally:
        engine.dll.espeak_SetPhonemeCallback(None)
        engine.dll.espeak_SetPhonemeTrace(0, None)
        libc.fclose(nowhere)
        engine.chunks.clear()


def _encoded(text: str) -> bytes:
    """UTF-8 for the library; a NUL would end the text early, so it becomes a space."""
    encoded = text.replace("\0", " ").strip().encode("utf-8", "replace")
    if not encoded:
        raise AudioError("the text is empty", "eSpeak NG", "give a sentence")
    return encoded


def _with_margins(samples: Samples, text: str) -> Samples:
    """Cut the silence at both ends and put back 0.1 s of it."""
    import numpy as np

    loudness = np.abs(samples)
    loud = np.flatnonzero(loudness > SILENCE_RATIO * loudness.max()) if samples.size else samples
    if loud.size == 0:
        raise AudioError(f"no sound for {text[:60]!r}", "eSpeak NG", "give a sentence with letters in it")
    margin = np.zeros(round(MARGIN_SECONDS * SAMPLE_RATE), dtype=np.float32)
    voiced = np.clip(samples[loud[0] : loud[-1] + 1], -1.0, 1.0)
    return np.concatenate([margin, voiced.astype(np.float32), margin])
