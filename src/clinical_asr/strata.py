"""What training has seen of a judged row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clinical_asr.records import ClinicalUtterance, Stratum
from clinical_asr.text import normalise


class Seen:
    """What training hears, so that a judged row can be asked what of it is new."""

    def __init__(self, train: Sequence[ClinicalUtterance], sentences: Mapping[str, str]) -> None:
        self.sentences = {sentences[row.id] for row in train}
        self.voices = {row.voice_id for row in train}
        self.said = {(sentences[row.id], row.voice_id) for row in train}
        self._terms = {normalise(row.term): True for row in train}

    def facts(self, row: ClinicalUtterance, sentence: str) -> dict[str, bool]:
        """What of a judged row training has heard."""
        return {
            "seen_sentence": sentence in self.sentences,
            "seen_voice": row.voice_id in self.voices,
            "seen_term": self._heard(normalise(row.term)),
            "seen_take": (sentence, row.voice_id) in self.said,  # the same words in the same voice, other noise
        }

    def _heard(self, term: str) -> bool:
        if term not in self._terms:
            self._terms[term] = any(f" {term} " in f" {sentence} " for sentence in self.sentences)
        return self._terms[term]


def stratum_of(facts: Mapping[str, bool]) -> Stratum:
    """The gravest novelty names the row: new term, then new sentence, then new voice, else same sentence.

    >>> stratum_of({"seen_term": True, "seen_sentence": False, "seen_voice": False}).value
    'new sentence'
    >>> stratum_of({"seen_term": False, "seen_sentence": True, "seen_voice": True}).value
    'new term'
    """
    if not facts["seen_term"]:
        return Stratum.NEW_TERM
    if not facts["seen_sentence"]:
        return Stratum.NEW_SENTENCE
    return Stratum.SAME_SENTENCE if facts["seen_voice"] else Stratum.NEW_VOICE
