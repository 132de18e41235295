"""An audition's booth without a speech engine: tones, one pronunciation per term, overrides in a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from clinical_asr import wav
from clinical_asr.audition_desk import Booth, Samples
from clinical_asr.clips import ClipPlan, Receipt
from clinical_asr.errors import FlywheelError
from clinical_asr.pronunciations import Override, append_override, read_overrides, resolve
from clinical_asr.records import EntityCategory, Term

TERMS = [Term(term=name, entity_category=EntityCategory.DRUG) for name in ("cefazolin", "heparin", "apixaban")]


def booth(folder: Path, terms: Sequence[Term] = TERMS, seconds: float = 0.2) -> Booth:
    """Clips of ``seconds``; the engine refuses an ``r``, as the real one does."""
    fixes = folder / "pronunciation_overrides.csv"
    return Booth(
        plans=partial(plans, fixes, terms), record=partial(record, seconds), say=partial(say, seconds),
        own_ipa=lambda word: f"{word[0]}ə", suggest=lambda term: [("sʌˈdʒɛst", "by its ending"), ("hə", "no other")],
        override=partial(override, fixes),
    )  # fmt: skip


def plans(fixes: Path, terms: Sequence[Term]) -> list[ClipPlan]:
    return [
        ClipPlan(text=f"give {said.term} now", voice_id="v", label=said.term, term=said.term,
                 ipa={said.term: said.ipa} if said.ipa else {}, entity_category=term.entity_category,
                 ipa_source=said.ipa_source, context_type="handoff")
        for term, said in zip(terms, resolve(terms, read_overrides(fixes)), strict=True)
    ]  # fmt: skip


def tone(seconds: float, text: str) -> Samples:
    pitch = 200 + sum(map(ord, text)) % 500
    return (0.3 * np.sin(np.arange(int(16_000 * seconds)) * pitch * 2 * np.pi / 16_000)).astype(np.float32)


def record(seconds: float, wanted: Sequence[ClipPlan], folder: Path) -> list[Receipt]:
    folder.mkdir(parents=True, exist_ok=True)
    receipts = []
    for plan in wanted:
        path = folder / plan.file_name
        if not path.exists():
            wav.write(path, wav.encoded((tone(seconds, plan.file_name) * 32767).astype(np.int16)))
        made = wav.read(path)
        receipts.append(Receipt(audio_filepath=path.name, audio_digest=made.digest, text=plan.text, voice_id="v",
                                noise_level="clean", duration=made.duration))  # fmt: skip
    return receipts


def say(seconds: float, text: str, sounds: dict[str, str], voice: str) -> Samples:
    for ipa in sounds.values():
        if "r" in ipa:
            raise FlywheelError("'r' is a trill", "IPA", "write ɹ")
    return tone(seconds, text + "".join(sounds.values()))


def override(fixes: Path, term: str, ipa: str, who: str, notes: str) -> None:
    append_override(fixes, Override(term=term, ipa=ipa, verified_by=who, verified_at="2026-01-02", notes=notes))
