"""Variant-aware KER: other spellings of a term, registered in a file its user owns, count beside the strict score.

Beside it, never instead of it: the strict count divides both, so that ``variant misses <= misses`` on the same
occurrences, whatever the file says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from clinical_asr.errors import ScoringError
from clinical_asr.keyword_count import KeywordCount
from clinical_asr.occurrences import TermIndex, as_function
from clinical_asr.records import Term
from clinical_asr.text import DEFAULT_NORMALISER

_BETWEEN_VARIANTS = re.compile(r"\s*[;|]\s*")


def variants_of(term: Term) -> list[str]:
    """The column ``variants`` of a list of terms, ``;`` or ``|`` between them.

    >>> variants_of(Term(term="HbA1c", entity_category="lab", extra={"variants": "hemoglobin A1c; A1c"}))
    ['hemoglobin A1c', 'A1c']
    """
    written = str(term.extra.get("variants") or "").strip()
    return [variant for variant in _BETWEEN_VARIANTS.split(written) if variant]


class Variants:
    """The registered spellings of a list of terms, each term by itself.

    >>> listed = Variants([Term(term="HbA1c", entity_category="lab", extra={"variants": "hemoglobin A1c; A1c"})])
    >>> strict = KeywordCount(occurrences=1, hits=0)
    >>> listed.hits("HbA1c", "check the hba1c", "check the hemoglobin a1c", strict)
    1
    >>> listed.hits("HbA1c", "check the hba1c", "check the haemoglobin", strict)
    0

    A variant that the speaker said elsewhere in the row answers for itself, not for the term:

    >>> listed.hits("HbA1c", "the hba1c also called a1c", "the thing also called a1c", strict)
    0
    """

    def __init__(self, terms: Sequence[Term], normaliser: str = DEFAULT_NORMALISER) -> None:
        self._clean = as_function(normaliser)
        self._of: dict[str, TermIndex] = {}
        self._known: set[str] = set()
        for term in terms:
            self._known.add(self._clean(term.term))
            if variants_of(term):
                self._of[self._clean(term.term)] = TermIndex([(term.term, "", variants_of(term))], normaliser)
        forms = sorted(sorted(index.forms(term, True)) for index in self._of.values() for term in index.categories)
        self.digest = sha256(repr(forms).encode()).hexdigest()[:16]
        """Of the spellings; the order of the file does not matter."""

    def refuse_strangers(self, terms: Sequence[str], where: str = "the list of terms") -> None:
        """Raises ScoringError if the list holds none of these terms: it is another benchmark's."""
        if terms and not any(self._clean(term) in self._known for term in terms):
            raise ScoringError(f"holds none of the {len(terms)} scored terms", where=where,
                               mend="give the list this benchmark was made from")  # fmt: skip

    def hits(self, term: str, reference: str, hypothesis: str, strict: KeywordCount) -> int:
        """Occurrences of ``strict`` that were heard in any registered spelling, in normalised texts."""
        index = self._of.get(self._clean(term)) if strict.misses else None
        if index is None:
            return strict.hits
        said, heard = (len(index.find_words(text.split(), variants=True)) for text in (reference, hypothesis))
        for_themselves = max(0, said - strict.occurrences)
        return min(strict.occurrences, max(strict.hits, heard - for_themselves))
