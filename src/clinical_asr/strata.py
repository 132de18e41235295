"""What training has seen of a judged row. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from clinical_asr.records import Stratum
from clinical_asr.split_columns import Array, SplitColumns


def facts_of(
    rows: SplitColumns, train: Array, judged: Array, said: Callable[[Collection[str]], Collection[str]]
) -> dict[str, Array]:
    """What of each judged row training has heard. ``said`` finds those of some terms that training says in passing."""
    pairs = rows.sentence.astype(np.int64) * len(rows.voices) + rows.voice
    about = np.zeros(len(rows.terms), bool)
    about[rows.term[train]] = True
    asked = np.unique(rows.term[judged]).tolist()
    strange = [rows.terms[number] for number in asked if not about[number]]
    heard = said(strange) if strange else ()
    known = np.array([one or name in heard for one, name in zip(about.tolist(), rows.terms, strict=True)], bool)
    return {
        "seen_sentence": np.isin(rows.sentence[judged], rows.sentence[train]),
        "seen_voice": np.isin(rows.voice[judged], rows.voice[train]),
        "seen_term": known[rows.term[judged]],
        "seen_take": np.isin(pairs[judged], pairs[train]),  # the same words in the same voice, other noise
    }


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
