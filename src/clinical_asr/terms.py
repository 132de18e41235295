"""Stage terms: the clinician's list, ``term,entity_category``, read without guessing."""

from __future__ import annotations

import csv
from pathlib import Path

from clinical_asr.errors import ManifestError
from clinical_asr.jsonl import read_csv
from clinical_asr.records import EntityCategory, Term

COLUMNS = ("term", "entity_category")
_CATEGORIES = [category.value for category in EntityCategory]
_MEANT = {
    "drug": "medication medicine med meds drugs antibiotic vaccine pharmaceutical generic brand",
    "procedure": "surgery operation intervention imaging scan device treatment therapy procedures",
    "anatomy": "organ body bodypart body_part bone muscle vessel nerve site structure anatomical",
    "condition": "disease diagnosis disorder symptom syndrome problem finding illness injury conditions",
    "lab": "test labs laboratory analyte biomarker panel assay measurement lab_test labtest",
    "role": "staff person profession specialty speciality specialist clinician provider department roles",
}
_SYNONYMS = {word: category for category, words in _MEANT.items() for word in words.split()}


def suggestion(category: str) -> str:
    """How to mend a category that is none of the six.

    >>> suggestion("Medication")
    'write drug for Medication'
    >>> suggestion("colour")
    'use one of: drug, procedure, anatomy, condition, lab, role'
    """
    meant = _SYNONYMS.get(category.strip().lower().replace(" ", "_").replace("-", "_"))
    if category.strip().lower() in _CATEGORIES:
        meant = category.strip().lower()
    return f"write {meant} for {category}" if meant else f"use one of: {', '.join(_CATEGORIES)}"


class _Line(Term, frozen=True, kw_only=True):
    """A line whose category has not been checked yet."""

    entity_category: str  # type: ignore[assignment]


def read_terms(path: Path) -> list[Term]:
    """All terms of a CSV file with the header ``term,entity_category``; further columns are kept in ``extra``.

    Raises:
        ManifestError: no terms, an empty or repeated term, a category that is none of the six. It names the line.
    """
    try:
        lines = read_csv(path, _Line, required=COLUMNS)
    except (csv.Error, ValueError) as error:
        raise ManifestError(repr(str(path)), None, "", f"is not CSV ({error})", "save it as plain CSV") from None
    if not lines:
        raise ManifestError(path, None, "", "holds no terms", "write one `term,entity_category` a line")
    terms: list[Term] = []
    seen: dict[str, int] = {}
    for number, line in zip(_line_numbers(path), lines, strict=False):
        terms.append(_checked(path, number, line, seen))
    return terms


def _line_numbers(path: Path) -> list[int]:
    """Where each row after the header stands; CSV readers skip blank lines without counting them."""
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [number for number, line in enumerate(lines, 1) if line.strip("\r")][1:]


def _checked(path: Path, number: int, line: _Line, seen: dict[str, int]) -> Term:
    term = " ".join(line.term.split())
    if not any(character.isalnum() for character in term):
        why = f"has no letter: {term!r}" if term else "is empty"
        raise ManifestError(path, number, "term", why, "write the term or delete the line")
    if not line.term.isprintable():
        raise ManifestError(path, number, "term", "holds a line break or control character", "write it on one line")
    earlier = seen.setdefault(term.casefold(), number)
    if earlier != number:
        why = f"{term!r} stands already in line {earlier}"
        raise ManifestError(path, number, "term", why, "delete one of the lines")
    category = str(line.entity_category)
    if category not in _CATEGORIES:
        raise ManifestError(path, number, "entity_category", f"{category!r} is not a category", suggestion(category))
    return Term(term=term, entity_category=EntityCategory(category), extra=line.extra)
