"""The rows that walk down the corridor: frozen, typed, with closed vocabularies.

Between two stages there is always a file of these rows. Unknown fields of a file are kept in ``extra`` and
written back, so a manifest of somebody else's pipeline survives a round trip.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

import msgspec

Seconds = float
Decibels = float
SAMPLE_RATE = 16_000  # Hz; every base this project fine-tunes is a 16 kHz model


class EntityCategory(StrEnum):
    """The six kinds of clinical entity. Closed, so that numbers of two hospitals can be laid side by side."""

    DRUG = "drug"
    PROCEDURE = "procedure"
    ANATOMY = "anatomy"
    CONDITION = "condition"
    LAB = "lab"
    ROLE = "role"


class IpaSource(StrEnum):
    """Who said how a term is pronounced: a person, the dictionary, or the speech engine's own rules."""

    OVERRIDE = "override"
    MERRIAM_WEBSTER = "merriam-webster"
    G2P = "g2p"
    MAGPIE_G2P = "magpie_g2p"  # the published name of g2p: read as g2p, written back as it was read

    @property
    def canonical(self) -> IpaSource:
        """The source to group by.

        >>> IpaSource("magpie_g2p").canonical.value
        'g2p'
        """
        return IpaSource.G2P if self is IpaSource.MAGPIE_G2P else self


class Stratum(StrEnum):
    """What training has seen of a row; the gravest novelty names the row."""

    TRAINED = "trained"
    SAME_SENTENCE = "same sentence"
    NEW_VOICE = "new voice"
    NEW_SENTENCE = "new sentence"
    NEW_TERM = "new term"

    @property
    def held_out(self) -> bool:
        """True for every row whose audio was not trained on."""
        return self is not Stratum.TRAINED


class Outcome(StrEnum):
    """How a row left a stage. Every row leaves with exactly one of them."""

    PASSED = "passed"
    SCORED = "scored"
    TRAINED = "trained"
    FAILED = "failed"
    EXCLUDED = "excluded"


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A typed line of JSONL; ``extra`` holds the fields this project does not know."""

    extra: dict[str, Any] = {}


class Term(Row, frozen=True, kw_only=True):
    """A clinical entity as the clinician wrote it."""

    term: str
    entity_category: EntityCategory


class Sentence(Row, frozen=True, kw_only=True):
    """A sentence that carries a term; ``source`` is ``template`` or names the language model."""

    text: str
    term: str
    entity_category: EntityCategory
    context_type: str
    source: str = "template"
    frame: str = ""
    """Identity of the template, so that two terms sharing one frame can be seen."""


class Pronunciation(Row, frozen=True, kw_only=True):
    """How an engine is to say a term. ``ipa`` is empty where the engine's own rules decide (``g2p``)."""

    term: str
    ipa_source: IpaSource
    ipa: str = ""


class Utterance(Row, frozen=True, kw_only=True):
    """A NeMo manifest row: one recording and its reference transcript."""

    audio_filepath: str
    """Relative to the manifest's folder, or absolute."""
    text: str
    """Reference transcript, in the base model's own style."""
    duration: Seconds
    """Measured from the file: frames / rate."""
    id: str = ""
    """Derived from content, see :func:`row_id`; empty until the manifest has been checked."""
    voice_id: str = ""
    noise_level: str = "clean"


class ClinicalUtterance(Utterance, frozen=True, kw_only=True):
    """A manifest row with the clinical extension: which term it is about and how it was made."""

    term: str
    entity_category: EntityCategory
    ipa_source: IpaSource
    voice_id: str
    noise_level: str
    context_type: str


class Hypothesis(Utterance, frozen=True, kw_only=True):
    """What a model heard, beside all it was given. Readable by NeMo's own tools (``text``, ``pred_text``).

    The clinical fields are empty for general speech (guard set).
    """

    pred_text: str
    model: str = ""
    """The base's name as the user gave it."""
    model_digest: str = ""
    """First 16 hex digits of the SHA-256 of the ``.nemo``; of a boosted decoder :meth:`boosting.Boosting.identity`."""
    term: str = ""
    entity_category: EntityCategory | None = None
    ipa_source: IpaSource | None = None
    context_type: str = ""


class LedgerEntry(Row, frozen=True, kw_only=True):
    """One row's fate in one stage."""

    id: str
    outcome: Outcome
    reason: str = ""
    audio_filepath: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict with its evidence. The command line prints it, writes it and exits with ``exit_code``."""

    verdict: str
    reason: str
    evidence: dict[str, Any]
    next_stage: str
    exit_code: int = 0


def row_id(audio_digest: str, text: str, term: str = "") -> str:
    """Identity of a row from its content: 16 hex digits; moving or renaming the audio does not change it.

    >>> row_id("ab12", "give cefazolin", "cefazolin") == row_id("ab12", "give cefazolin", "cefazolin")
    True
    >>> row_id("ab12", "give cefazolin", "cefazolin") == row_id("ab12", "give cefazolin")
    False
    """
    content = "\x1f".join((audio_digest, text, term))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
