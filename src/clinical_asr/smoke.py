"""The doctor's smoke test: one sentence is spoken, checked and heard, by the engines that the work will use.

Every step ends in a :class:`doctor.Finding`; a fault becomes its mend, never an exception.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from clinical_asr.clips import Clip, Synthesise
from clinical_asr.doctor import Finding
from clinical_asr.errors import FlywheelError, ModelError
from clinical_asr.rendering import render
from clinical_asr.text import normalise

SENTENCE = "The patient was prescribed cefazolin."
TERM = "cefazolin"
ENOUGH = 0.5  # share of the everyday words that must be heard; the term itself may be new to a base

Listen = Callable[[Mapping[str, Path]], Mapping[str, str | FlywheelError]]
"""Recordings in, transcripts out, under the same keys: ``Transcriber.transcribe``."""


def smoke(
    synthesise: Synthesise, voice_id: str, open_listener: Callable[[], Listen], speaker: str, listener: str
) -> list[Finding]:
    """Speak the sentence with ``voice_id``, then hear it; ``speaker`` and ``listener`` name the engines.

    ``open_listener`` loads a model or connects to a service, and may raise FlywheelError.
    """
    name = f"smoke: {speaker} speaks"
    with tempfile.TemporaryDirectory(prefix="clinical-asr-smoke-") as folder:
        try:
            receipt = render([Clip(text=SENTENCE, voice_id=voice_id)], Path(folder), synthesise)[0]
        except FlywheelError as error:
            return [_failed(name, error, "audio"), _not_tried(f"smoke: {listener} hears")]
        told = f"{receipt.duration:.1f} s" + (f", {receipt.suspect}" if receipt.suspect else "")
        mend = "listen to a clip; try another voice" if receipt.suspect else ""
        spoken = Finding(name, not receipt.suspect, told, "audio", mend)
        return [spoken, _heard(Path(folder) / receipt.audio_filepath, open_listener, listener)]


def _heard(path: Path, open_listener: Callable[[], Listen], listener: str) -> Finding:
    name = f"smoke: {listener} hears"
    try:
        answer = open_listener()({"smoke": path}).get("smoke", ModelError("nothing came back"))
    except FlywheelError as error:
        return _failed(name, error, "hypotheses")
    if isinstance(answer, FlywheelError):
        return _failed(name, answer, "hypotheses")
    return judge(name, answer)


def judge(name: str, text: str) -> Finding:
    """Was the sentence heard? A term that is new to the base is told, and is no failure.

    >>> judge("smoke", "the patient was prescribed sef as a lin").ok, judge("smoke", "uh").ok
    (True, False)
    """
    heard = normalise(text).split()
    words = [word for word in normalise(SENTENCE).split() if word != TERM]
    share = sum(word in heard for word in words) / len(words)
    term = "heard" if TERM in heard else "not heard: what fine-tuning is for"
    ok = share >= ENOUGH
    mend = (
        "" if ok else "is it an English model, and does it want 16 kHz? try: clinical-asr doctor --smoke --model mini"
    )
    return Finding(name, ok, f"{text!r}; {TERM} {term}", "hypotheses", mend)


def _failed(name: str, error: FlywheelError, needed_for: str) -> Finding:
    what = f"{error.where}: {error.what}" if error.where else error.what
    return Finding(name, False, what, needed_for, error.mend)


def _not_tried(name: str) -> Finding:
    return Finding(name, False, "not tried: nothing was spoken", "hypotheses", "mend the voice first")
