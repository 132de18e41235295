"""Where a person listens: one clip per term, its standing, and what becomes of a verdict.

The same desk stands behind the page and behind the terminal. Several desks may work on one folder at a time, in one
process or in several: before a verdict is taken, everything that others wrote is read again.
"""

from __future__ import annotations

import io
import threading
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_asr.audition import ESPEAK, Audition, Standing, Verdict, last_verdicts, standings
from clinical_asr.audition_record import alone, append_audition, mend_end, read_auditions
from clinical_asr.clips import ClipPlan, Receipt
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.records import SAMPLE_RATE, Pronunciation, Row, Seconds, Term

Samples = NDArray[np.float32]


class ConflictError(FlywheelError):
    """A verdict that cannot be taken as things stand: not played, or the pronunciation has changed meanwhile."""


@dataclass(frozen=True)
class Booth:
    """What the desk speaks with, handed in."""

    plans: Callable[[], Sequence[ClipPlan]]
    """One clean clip per term, as the terms are pronounced now; read afresh at every call."""
    record: Callable[[Sequence[ClipPlan], Path], Sequence[Receipt]]
    """Speaks into a folder what is not there yet; one receipt per plan, in order."""
    say: Callable[[str, Mapping[str, str], str], Samples]
    """(text, {word: IPA}, voice id) to samples, kept nowhere. Raises FlywheelError for IPA it cannot say."""
    own_ipa: Callable[[str], str]
    """How the speech engine itself would say a word, in IPA; empty if it does not tell."""
    suggest: Callable[[str], Sequence[tuple[str, str]]]
    """Other pronunciations of a term to hear, each with the reason for it."""
    override: Callable[[str, str, str, str], None]
    """Adds (term, IPA, who, notes) to the pronunciations that hold from now on. Raises FlywheelError."""
    engine: str = ESPEAK
    """What the speech engine is called: a verdict vouches for it alone."""


class Card(Row, frozen=True, kw_only=True):
    """One term as a listener meets it."""

    term: str
    category: str
    standing: Standing
    sentence: str
    ipa: str
    """The pronunciation imposed; empty where the speech engine's own rules decide."""
    shown: str
    """The same, by the engine's own rules where none is imposed; empty if the engine does not tell."""
    source: str
    clip: str
    """File name; another pronunciation has another."""
    seconds: Seconds
    suspect: str = ""
    notes: str = ""
    by: str = ""


class Judgement(Row, frozen=True, kw_only=True):
    """What a listener decided, on which clip, and how it is known that it was played."""

    term: str
    clip: str
    verdict: Verdict
    by: str
    ipa: str = ""
    """Of a ``fix``: the pronunciation wanted."""
    notes: str = ""
    played: str = ""
    """Empty if it was not played to its end."""


class Desk:
    """One clip per term in ``folder/audition`` and the verdicts in ``folder/auditions.jsonl``.

    With ``everything`` the list holds the settled terms too, else only what is left when the desk is opened.
    """

    def __init__(self, folder: Path, booth: Booth, *, everything: bool = False) -> None:
        self.folder, self.booth = folder, booth
        self.verdicts, self.clips = folder / "auditions.jsonl", folder / "audition"
        self._lock = threading.RLock()
        self._own: dict[str, str] = {}
        self._plans: list[ClipPlan] = []
        self._receipts: dict[str, Receipt] = {}
        with alone(self.verdicts):
            mend_end(self.verdicts)
            self._speak()
        self.listed = [card.term for card in self._cards() if everything or not card.standing.settled]

    def cards(self) -> list[Card]:
        """The list as it stands now, in the order of the terms."""
        with alone(self.verdicts):
            self._speak()
        listed = set(self.listed)
        return [card for card in self._cards() if card.term in listed]

    def left(self) -> int:
        """How many terms of the whole list are not settled."""
        return sum(not card.standing.settled for card in self._cards())

    def last_listener(self) -> str:
        """Who gave the last verdict, if it is known."""
        return next((one.by for one in reversed(read_auditions(self.verdicts)) if one.by), "")

    def clip(self, name: str) -> bytes | None:
        """The WAV file of that name, if it is the present clip of a term; nothing else can be had by a name."""
        with self._lock:
            receipt = self._receipts.get(name)
        return (self.clips / receipt.audio_filepath).read_bytes() if receipt else None

    def seconds(self, name: str) -> Seconds:
        """How long that clip lasts."""
        return self._receipts[name].duration

    def suggestions(self, term: str) -> list[tuple[str, str]]:
        """(IPA, why) of other pronunciations, without the present one. Raises FlywheelError for an unknown term."""
        plan = self._plan(term)
        present = {_bare(plan.ipa.get(term, "")), self._own_ipa(term) if not plan.ipa.get(term) else ""}
        return [(_bare(ipa), why) for ipa, why in self.booth.suggest(term) if _bare(ipa) not in present]

    def say(self, term: str, ipa: str = "", *, sentence: bool = False) -> bytes:
        """WAV of the term alone, or in its sentence; with ``ipa`` said that way, else as it is now.

        Raises FlywheelError if the speech engine cannot say it.
        """
        plan = self._plan(term)
        sounds = {**plan.ipa, term: _bare(ipa)} if _bare(ipa) else dict(plan.ipa)
        return _wav(self.booth.say(plan.text if sentence else term, sounds, plan.voice_id))

    def judge(self, given: Judgement) -> Card:
        """Take a verdict; the card as it stands after it.

        Raises:
            ConflictError: ``good`` without having played the clip, or a clip that is no longer the term's.
            FlywheelError: unknown term, nobody named, or an IPA that is missing, wrong or the one already heard.
        """
        with alone(self.verdicts):
            self._speak()
            plan = self._plan(given.term)
            _require(given, plan)
            if given.verdict is Verdict.FIX:
                self._mend(given, plan)
            append_audition(self.verdicts, self._row(given, plan))
            self._speak()
        return next(card for card in self._cards() if card.term == given.term)

    def _mend(self, given: Judgement, plan: ClipPlan) -> None:
        """The new pronunciation is spoken before it is written down: one that cannot be said never gets there."""
        ipa = _bare(given.ipa)
        if ipa == plan.ipa.get(given.term, ""):
            raise FlywheelError("is the pronunciation you have heard", "IPA", "write another one, or say good")
        self.booth.say(given.term, {given.term: ipa}, plan.voice_id)
        self.booth.override(given.term, ipa, _line(given.by), _line(given.notes))

    def _row(self, given: Judgement, plan: ClipPlan) -> Audition:
        return Audition(
            term=given.term,
            verdict=given.verdict,
            notes=_line(given.notes),
            by=_line(given.by),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            ipa=_bare(plan.ipa.get(given.term, "")),
            new_ipa=_bare(given.ipa) if given.verdict is Verdict.FIX else "",
            voice_id=plan.voice_id,
            audio_digest=self._receipts[plan.file_name].audio_digest,
            played=given.played,
            engine=self.booth.engine,
        )

    def _speak(self) -> None:
        """Bring the clips up to the pronunciations as they are now; the caller holds ``alone``."""
        plans = list(self.booth.plans())
        with self._lock:
            if plans != self._plans:
                receipts = self.booth.record(plans, self.clips)
                self._receipts = {plan.file_name: receipt for plan, receipt in zip(plans, receipts, strict=True)}
                self._plans = plans

    def _cards(self) -> list[Card]:
        with self._lock:
            plans, receipts = list(self._plans), dict(self._receipts)
        rows = read_auditions(self.verdicts)
        last = last_verdicts(rows, self.booth.engine)
        terms = [Term(term=plan.term, entity_category=plan.entity_category) for plan in plans]
        stand = standings(terms, rows, [_pronounced(plan) for plan in plans], self.booth.engine)
        return [
            self._card(plan, receipts[plan.file_name], stand[plan.term], last.get(plan.term.casefold()))
            for plan in plans
        ]

    def _card(self, plan: ClipPlan, receipt: Receipt, standing: Standing, last: Audition | None) -> Card:
        ipa = _bare(plan.ipa.get(plan.term, ""))
        return Card(
            term=plan.term,
            category=plan.entity_category.value,
            standing=standing,
            sentence=plan.text,
            ipa=ipa,
            shown=ipa or self._own_ipa(plan.term),
            source=plan.ipa_source.canonical.value,
            clip=plan.file_name,
            seconds=receipt.duration,
            suspect=receipt.suspect,
            notes=last.notes if last else "",
            by=last.by if last else "",
        )

    def _plan(self, term: str) -> ClipPlan:
        with self._lock:
            found = next((plan for plan in self._plans if plan.term == term), None)
        if found is None:
            raise ConfigError(f"{term[:60]!r} is not on the list", "audition", "reload the page")
        return found

    def _own_ipa(self, term: str) -> str:
        if term not in self._own:
            self._own[term] = _bare(self.booth.own_ipa(term))
        return self._own[term]


def _require(given: Judgement, plan: ClipPlan) -> None:
    """Raises what speaks against taking this verdict on this clip."""
    if not _line(given.by):
        raise FlywheelError("nobody is named", "audition", "say who is listening")
    if given.clip != plan.file_name:
        raise ConflictError("is pronounced otherwise by now", given.term, "listen to the new clip")
    if given.verdict is Verdict.GOOD and not given.played:
        raise ConflictError("was not played to its end", given.term, "good vouches for what you heard: play it first")
    if given.verdict is Verdict.FIX and not _bare(given.ipa):
        raise FlywheelError("a fix needs the pronunciation wanted", "IPA", "write it in IPA, like sɛˈfæzəlɪn")


def _pronounced(plan: ClipPlan) -> Pronunciation:
    return Pronunciation(term=plan.term, ipa_source=plan.ipa_source, ipa=plan.ipa.get(plan.term, ""))


def _bare(ipa: str) -> str:
    """IPA without the slashes or brackets that it is often written in.

    >>> _bare(" /sɛˈfæzəlɪn/ ")
    'sɛˈfæzəlɪn'
    """
    return ipa.strip().strip("/[]").strip()


def _line(text: str) -> str:
    """Free text as one printable line: it goes into a CSV and a JSON line, and to terminals."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _wav(samples: Samples) -> bytes:
    """A mono PCM16 WAV at 16 kHz, its loudest sample at -3 dB of full scale."""
    speech = np.asarray(samples, dtype=np.float32)
    loudest = float(np.abs(speech).max(initial=0.0)) or 1.0
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes((speech * (0.707 * 32767 / loudest)).astype("<i2").tobytes())
    return file.getvalue()
