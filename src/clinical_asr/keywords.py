"""Keyword error rate (KER), the headline of this field, and what stands beside it.

* **Strict KER** (``keyword_hits``, ``count_keyword``): an occurrence of the term is a miss unless its words stand in
  the hypothesis, in order and adjacent. Occurrences are pooled: a term said twice and heard once is one miss of two.
  Where each row has its term once, that is the published share of rows that miss it.
* **Variant-aware KER** (``TermIndex.score(..., variants=True)``): registered spellings count too; beside strict KER.
* **False insertions**: a listed term heard that was not said.
* **Confusions** (``confusions``): what came instead.
* **Numbers and doses** (``number_errors``).
"""

from __future__ import annotations

from clinical_asr.confusions import Confusion, confusions
from clinical_asr.doses import number_errors
from clinical_asr.keyword_count import KeywordCount
from clinical_asr.occurrences import (
    Normaliser,
    Occurrence,
    TermIndex,
    count_keyword,
    count_occurrences,
    keyword_hits,
)
from clinical_asr.text import DEFAULT_NORMALISER

__all__ = [
    "Confusion",
    "KeywordCount",
    "Occurrence",
    "TermIndex",
    "confusions",
    "count_keyword",
    "count_occurrences",
    "ker_row",
    "keyword_hits",
    "number_errors",
]


def ker_row(reference: str, hypothesis: str, term: str, normaliser: Normaliser = DEFAULT_NORMALISER) -> float:
    """KER of one row: 1.0 or 0.0 for a term said once, the missed share for one said more often.

    >>> ker_row("cefazolin one gram", "cefa zolin one gram", "cefazolin")
    1.0
    >>> ker_row("cefazolin one gram", "the cefazolin won gram", "cefazolin")
    0.0
    >>> ker_row("cefazolin, repeat cefazolin", "cefazolin repeat it", "cefazolin")
    0.5
    """
    count = keyword_hits(reference, hypothesis, term, normaliser)
    return count.misses / count.occurrences
