"""General speech whose texts the base itself gives, so that it can be replayed without a transcript from anybody.

What the base hears is what it should go on hearing: its own words, style and mistakes (self-distillation). The base's
text takes the place of any that the manifest holds. Rows in which it hears nothing teach nothing and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinical_asr import wav
from clinical_asr.errors import AudioError, ConfigError, ManifestError
from clinical_asr.jsonl import from_dict, iter_objects, to_dict
from clinical_asr.records import Hypothesis, LedgerEntry, Outcome, Utterance, row_id

UNSPOKEN = "(not transcribed)"
"""Stands where a row must have a text and nobody has given one yet."""
NOTHING_HEARD = "the base hears nothing in it, so it teaches nothing"


def lacks_texts(manifest: Path) -> bool:
    """True if a row of ``manifest`` has no text. Raises ManifestError."""
    return any(not str(fields.get("text") or "").strip() for _, fields in iter_objects(manifest))


def bare_rows(manifest: Path) -> tuple[list[Utterance], list[LedgerEntry]]:
    """Rows of a manifest that needs only ``audio_filepath``, measured and with ids; and those that cannot be read.

    A recording that stands twice comes once. Raises ManifestError for a line without ``audio_filepath``.
    """
    rows: dict[str, Utterance] = {}
    failed: list[LedgerEntry] = []
    for number, fields in iter_objects(manifest):
        audio = fields.get("audio_filepath")
        if not audio:
            raise ManifestError(manifest, number, "audio_filepath", "is missing", "name the recording")
        try:
            row = _measured(fields, manifest.parent)
        except AudioError as error:
            entry = LedgerEntry(id=f"line {number}", outcome=Outcome.FAILED, reason=str(error), audio_filepath=audio)
            failed.append(entry)
        else:
            rows.setdefault(row.id, row)
    return list(rows.values()), failed


def _measured(fields: Mapping[str, Any], folder: Path) -> Utterance:
    recording = wav.read(folder / fields["audio_filepath"])
    known = {"text": UNSPOKEN, "duration": recording.duration, "id": row_id(recording.digest, UNSPOKEN)}
    known["audio_digest"] = recording.digest
    return from_dict(Utterance, {**fields, **known})


def spoken(heard: Sequence[Hypothesis], rows: Sequence[Utterance]) -> tuple[list[Utterance], list[LedgerEntry]]:
    """``rows`` with what the base heard as their text; and the fate of those in which it heard nothing.

    >>> row = Utterance(audio_filepath="a.wav", text=UNSPOKEN, duration=1.0, id="a")
    >>> said = from_dict(Hypothesis, {**to_dict(row), "pred_text": "Good morning.", "model": "m", "model_digest": "d"})
    >>> [row.text for row in spoken([said], [row])[0]]
    ['Good morning.']
    """
    texts = {row.id: row.pred_text.strip() for row in heard}
    told = [row for row in rows if texts.get(row.id)]
    silent = [row for row in rows if row.id in texts and not texts[row.id]]
    fates = [LedgerEntry(id=row.id, outcome=Outcome.EXCLUDED, reason=NOTHING_HEARD, audio_filepath=row.audio_filepath)
             for row in silent]  # fmt: skip
    return [_told(row, texts[row.id]) for row in told], fates


def require_own(
    heard: Sequence[Hypothesis], fates: Sequence[LedgerEntry], rows: Sequence[Utterance], digest: str, where: Path
) -> None:
    """Raises ConfigError if what was heard before, in ``where``, is another model's or of other recordings."""
    mend = "name another output, or delete it"
    for row in heard:
        if row.model_digest != digest[:16]:
            raise ConfigError(f"holds texts of another model ({row.model} {row.model_digest})", str(where), mend)
    if {fate.id for fate in fates} != {row.id for row in rows}:
        raise ConfigError("holds texts of other recordings", str(where), mend)


def _told(row: Utterance, text: str) -> Utterance:
    digest = row.extra.get("audio_digest", "")
    return from_dict(Utterance, {**to_dict(row), "text": text, "id": row_id(digest, text)})
