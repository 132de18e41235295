"""What a model in training is judged by: KER and WER of clinical rows and, against the base, WER of general speech.

All rates are of normalised text, of transcripts decoded as the product decodes. None of these rows is one that the
comparison rests on, if the recipe carves its selection rows out of the training rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clinical_asr import intake, wav
from clinical_asr.error_count import ErrorCount
from clinical_asr.errors import FlywheelError
from clinical_asr.keywords import KeywordCount, keyword_hits
from clinical_asr.metrics import word_errors_batch
from clinical_asr.noninferiority import non_inferiority
from clinical_asr.records import ClinicalUtterance, Utterance, row_id
from clinical_asr.selection import term_of
from clinical_asr.text import DEFAULT_NORMALISER, normalise


class Listen(Protocol):
    """(the model in memory, recordings) -> transcripts under the same keys, decoded as the product decodes.

    ``exact`` asks for full precision whatever the device would rather compute.
    """

    def __call__(
        self, model: Any, audio: Mapping[str, Path], *, exact: bool = False
    ) -> Mapping[str, str | FlywheelError]: ...


GARBAGE = 0.5
"""WER beyond which, if it is also twice the base's, transcripts in less than full precision are not believed."""


@dataclass(frozen=True)
class Recordings:
    """Rows of a manifest and the folder their relative audio paths start in."""

    rows: Sequence[Utterance] = ()
    folder: Path = Path()
    source: str = ""
    """How a person knows the manifest, if there is one."""

    def audio(self, row: Utterance) -> Path:
        """Where the recording of ``row`` lies."""
        return self.folder / row.audio_filepath

    def digests(self) -> Iterator[tuple[Utterance, str]]:
        """Each row with the SHA-256 of its recording; empty for one that cannot be read: who needs it will say so."""
        for row in self.rows:
            try:
                content = intake.document(self.audio(row), wav.LARGEST)
            except (OSError, ValueError):
                yield row, ""
            else:
                yield row, hashlib.sha256(content).hexdigest()

    def require_unchanged(self) -> None:
        """Raises FlywheelError if a recording is no longer the one that its row's id was made of."""
        for row, digest in self.digests():
            term = row.term if isinstance(row, ClinicalUtterance) else ""
            if digest and row.id != row_id(digest, row.text, term):
                where = f"row {row.id} ({row.audio_filepath})"
                mend = "put the old recording back, or begin another cycle: what was heard of it is no longer its own"
                raise FlywheelError("its recording has been changed since the manifest was checked", where, mend)


class Judge:
    """Judges models one after the other; the first one that it is shown is the base, which the others are set against.

    A row that cannot be transcribed counts as heard as nothing: it must not leave the denominator.
    """

    def __init__(self, clinical: Recordings, general: Recordings, listen: Listen) -> None:
        self.clinical, self.general, self.listen = clinical, general, listen
        self.notes: list[str] = []
        self._before: list[ErrorCount] | None = None
        self._wer: dict[int, float] = {}
        self._exact = False

    def __call__(self, model: Any) -> dict[str, float | None]:
        """``ker`` and ``wer`` of the clinical rows, ``guard_wer`` of the general ones with ``guard_rise`` since the
        base and ``guard_high``, the upper end of the rise's 95 % interval over sentences; ``None`` where nothing was
        counted."""
        found = rates(self.clinical.rows, self._heard(model, self.clinical))
        return found | self._cost(model) if self.general.rows else found

    def _heard(self, model: Any, side: Recordings) -> dict[str, str]:
        """Transcripts; heard again in full precision if they are garbage (in bf16, batches beyond the first row)."""
        heard = self._listen(model, side)
        wer = rates(side.rows, heard)["wer"] or 0.0
        base = self._wer.setdefault(id(side), wer)
        if wer <= GARBAGE or (wer < 2 * base and base <= GARBAGE) or self._exact:
            return heard
        again = self._listen(model, side, exact=True)
        better = rates(side.rows, again)["wer"] or 0.0
        if better < wer / 2:
            self._exact, self._wer[id(side)] = True, min(base, better)
            said = f"WER {wer:.0%} where full precision has {better:.0%}; judged in full precision from there on"
            self.notes.append(f"transcripts in reduced precision were garbage: {said}")
        return again

    def _listen(self, model: Any, side: Recordings, exact: bool = False) -> dict[str, str]:
        audio = {row.id: side.audio(row) for row in side.rows}
        heard = self.listen(model, audio, exact=True) if exact or self._exact else self.listen(model, audio)
        return {key: text for key, text in heard.items() if isinstance(text, str)}

    def _cost(self, model: Any) -> dict[str, float | None]:
        rows = self.general.rows
        after = _word_errors(rows, self._heard(model, self.general))
        self._before = before = self._before or after
        sentences = [normalise(row.text) for row in rows]
        found = non_inferiority(before, after, margin=0.0, clusters=sentences, level=0.975)
        return {"guard_wer": found.after, "guard_rise": found.difference, "guard_high": found.upper}


def rates(rows: Sequence[Utterance], heard: Mapping[str, str]) -> dict[str, float | None]:
    """``ker`` and ``wer`` of transcripts, pooled; None where there is nothing to divide by.

    >>> row = Utterance(audio_filepath="a.wav", text="Give cefazolin.", duration=1.0, id="a")
    >>> rates([row], {"a": "give cefazolin"})
    {'ker': None, 'wer': 0.0}
    """
    words = sum(_word_errors(rows, heard), ErrorCount.zero())
    spoken = [(row, term_of(row)) for row in rows]
    hits = [keyword_hits(row.text, heard.get(row.id, ""), term, DEFAULT_NORMALISER) for row, term in spoken if term]
    return {"ker": sum(hits, KeywordCount.zero()).ker, "wer": words.rate}


def _word_errors(rows: Sequence[Utterance], heard: Mapping[str, str]) -> list[ErrorCount]:
    references = [normalise(row.text) for row in rows]
    return list(word_errors_batch(references, [normalise(heard.get(row.id, "")) for row in rows]))
