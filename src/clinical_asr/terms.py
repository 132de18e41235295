"""Stage terms: the clinician's list, ``term,entity_category``, read without guessing, added to without loss."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from clinical_asr import intake
from clinical_asr.errors import ConfigError, ManifestError
from clinical_asr.jsonl import read_csv, write_csv
from clinical_asr.records import EntityCategory, Term

COLUMNS = ("term", "entity_category")
A_SESSION = range(4, 11)
"""Terms that a person can listen to and judge in one sitting."""
WHY_CLOSED = "the six are closed so that the numbers of two hospitals can be laid side by side"
_QUOTED = re.compile("[“„”«‘‚’‹](.+)[”“»’‘›]")
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


def category_of(name: str, where: str = "--category") -> EntityCategory:
    """One of the six. Raises ConfigError with the one that fits and why there is no seventh.

    >>> category_of("lab").value
    'lab'
    """
    if name not in _CATEGORIES:
        raise ConfigError(f"{name!r} is not a category", where, f"{suggestion(name)}; {WHY_CLOSED}")
    return EntityCategory(name)


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


def in_quotes(path: Path) -> list[str]:
    """Terms as :func:`read_terms` gives them whose file has a word processor's quotes around them."""
    written = [" ".join(line.term.split()) for line in read_csv(path, _Line, required=COLUMNS)]
    return [unquoted(term) for term in written if unquoted(term) != term]


def unquoted(text: str) -> str:
    """Without a word processor's quotes around the whole; plain ones are the CSV reader's to take off.

    >>> unquoted("“apixaban”"), unquoted("nurses’")
    ('apixaban', 'nurses’')
    """
    return match[1].strip() if (match := _QUOTED.fullmatch(text)) else text


def _line_numbers(path: Path) -> list[int]:
    """Where each row after the header stands; CSV readers skip blank lines without counting them."""
    lines = intake.document(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [number for number, line in enumerate(lines, 1) if line.strip("\r")][1:]


def _checked(path: Path, number: int, line: _Line, seen: dict[str, int]) -> Term:
    term = unquoted(" ".join(line.term.split()))
    if not any(character.isalnum() for character in term):
        why = f"has no letter: {term!r}" if term else "is empty"
        raise ManifestError(path, number, "term", why, "write the term or delete the line")
    if not line.term.isprintable():
        raise ManifestError(path, number, "term", "holds a line break or control character", "write it on one line")
    earlier = seen.setdefault(term.casefold(), number)
    if earlier != number:
        why = f"{term!r} stands already in line {earlier}"
        raise ManifestError(path, number, "term", why, "delete one of the lines")
    category = unquoted(str(line.entity_category))
    if category not in _CATEGORIES:
        raise ManifestError(path, number, "entity_category", f"{category!r} is not a category",
                            f"{suggestion(category)}; {WHY_CLOSED}")  # fmt: skip
    return Term(term=term, entity_category=EntityCategory(category), extra=line.extra)


def add_terms(path: Path, new: Sequence[Term]) -> list[Term]:
    """Append terms to a list, all or none; the file is made if it is not there. Returns the whole list.

    Columns that the file or the new terms have beside the two are kept. The file is replaced in one step, so that a
    full disk or a killed process leaves the old one.

    Raises:
        ManifestError: the file is no term list, or a new term is empty, cannot be read back, or stands in it already,
            whatever the case.
    """
    held = read_terms(path) if path.exists() and path.stat().st_size else []
    seen = {term.term.casefold(): place for place, term in enumerate(held, 1)}
    added = [_new(path, term, seen, place) for place, term in enumerate(new, len(held) + 1)]
    every = [*held, *added]
    write_csv(path, every, [*COLUMNS, *dict.fromkeys(name for term in every for name in term.extra)])
    return every


def _new(path: Path, term: Term, seen: dict[str, int], place: int) -> Term:
    name = unquoted(" ".join(term.term.split()))
    if not term.term.isprintable() or not any(character.isalnum() for character in name):
        raise ManifestError(path, None, "term", f"{term.term!r} is no term", "write a word or a phrase on one line")
    if seen.setdefault(name.casefold(), place) != place:
        why = f"{name!r} stands already in the list as term {seen[name.casefold()]}"
        raise ManifestError(path, None, "term", why, "leave it out; nothing was added")
    return Term(term=name, entity_category=term.entity_category, extra=term.extra)


def advice(added: int) -> str:
    """What to tell somebody who has added so many terms at once; nothing if it is a sitting's work.

    >>> advice(8)
    ''
    >>> advice(30)
    '30 terms are more than one sitting: 4 to 10 a session can be listened to with care'
    """
    if added < A_SESSION.stop:
        return ""
    few, many = A_SESSION[0], A_SESSION[-1]
    return f"{added} terms are more than one sitting: {few} to {many} a session can be listened to with care"
