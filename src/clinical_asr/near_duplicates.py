"""One thing written twice: plural, hyphen, accent, British and American spelling, two names of one drug.

Two terms of a list that are one thing would be counted as two and train each other's rows. Nothing is merged here: a
person is told and decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from clinical_asr.grammar import is_plural

BRITISH = (
    (r"(?<=[a-z])ae(?!$)|^ae(?=[mrst])|ae(?=[mr])", "e"),  # haemoglobin, aetiology; not "vertebrae"
    (r"oe(?=[dsmt])", "e"),  # oedema, oesophagus, foetus
    (r"(?<=[a-z]{2})our\b", "or"),  # tumour
    (r"(?<=[bt])re\b", "er"),  # fibre, litre
    (r"(?<=[a-z])yse\b", "yze"),
    (r"is(?=e\b|ed\b|ation)", "iz"),  # catheterisation
    (r"sulph", "sulf"),
    (r"^ceph(?=[aeou])|^kef", "cef"),  # cephalexin
    (r"amoxy", "amoxi"),
    (r"aluminium", "aluminum"),
    (r"cyclosporine?\b|ciclosporin\b", "ciclosporin"),
)
"""British or older spelling -> the one compared, as patterns."""

_NAMES = (
    "acetaminophen paracetamol; epinephrine adrenaline; norepinephrine noradrenaline; albuterol salbutamol; "
    "furosemide frusemide; lidocaine lignocaine; nitroglycerin glyceryl-trinitrate; meperidine pethidine; "
    "rifampin rifampicin; glyburide glibenclamide; isoproterenol isoprenaline; vasopressin argipressin; "
    "phytonadione phytomenadione; thiopental thiopentone; dextroamphetamine dexamfetamine; torsemide torasemide; "
    "succinylcholine suxamethonium; metaproterenol orciprenaline; levothyroxine thyroxine; mesalamine mesalazine; "
    "acyclovir aciclovir; valproate valproic-acid; penicillin-g benzylpenicillin; heart-attack myocardial-infarction"
)
SYNONYMS = {
    name.replace("-", " "): group.split()[0].replace("-", " ") for group in _NAMES.split(";") for name in group.split()
}
"""American and international (or British) names of one drug, each with the first of its group."""


def _joined(text: str) -> str:
    return re.sub(r"[\s\-'’]+", "", text)


def _unaccented(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _american(text: str) -> str:
    for pattern, spelling in BRITISH:
        text = re.sub(pattern, spelling, text)
    return text


def _singular(text: str) -> str:
    """The last word without its plural ending; Latin plurals by their commonest singulars."""
    if not is_plural(text):
        return text
    for ending, single in (("ae", "a"), ("ices", "ix"), ("ia", "ium"), ("ula", "ulum"), ("i", "us"), ("ases", "asis"),
                           ("oses", "osis"), ("ies", "y"), ("sses", "ss"), ("xes", "x"), ("s", "")):  # fmt: skip
        if text.endswith(ending):
            return text[: -len(ending)] + single
    return text


def _possessed(text: str) -> str:
    return re.sub(r"['’]s\b", "", text)


_STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("written with another accent", _unaccented),
    ("written with 's and without", _possessed),
    ("one is the plural of the other", _singular),
    ("British and American spelling", _american),
    ("two names of one drug", lambda text: SYNONYMS.get(text, text)),
    ("written with another hyphen or space", _joined),
)
"""What may differ between two spellings of one thing, in the order in which it is taken away."""


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Places in the list of two terms that seem to be one, and what makes it seem so."""

    first: int
    second: int
    why: str


def near_duplicates(terms: Sequence[str]) -> list[NearDuplicate]:
    """Pairs that become the same when accents, hyphens, number and national spelling are taken away, or that are one
    letter apart.

    >>> [pair.why for pair in near_duplicates(["haemoglobin", "hemoglobin", "beta-blockers", "beta blocker"])]
    ['British and American spelling', 'one is the plural of the other, written with another hyphen or space']
    """
    keys = [_key(term) for term in terms]
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    same = [pair for group in places.values() for pair in combinations(group, 2)]
    found = [NearDuplicate(one, other, _why(terms[one], terms[other])) for one, other in same]
    return sorted(found + _one_letter_apart(keys), key=lambda pair: (pair.first, pair.second))


def _key(term: str) -> str:
    text = " ".join(term.casefold().split())
    for _, step in _STEPS:
        text = step(text)
    return text


def _why(one: str, other: str) -> str:
    """Each step that brings the two closer, by name."""
    left, right = (" ".join(term.casefold().split()) for term in (one, other))
    reasons = []
    for reason, step in _STEPS:
        nearer_left, nearer_right = step(left), step(right)
        if Levenshtein.distance(nearer_left, nearer_right) < Levenshtein.distance(left, right):
            reasons.append(reason)
        left, right = nearer_left, nearer_right
    return ", ".join(reasons) or "the same"


def _one_letter_apart(keys: Sequence[str]) -> list[NearDuplicate]:
    distances = process.cdist(keys, keys, scorer=Levenshtein.distance, score_cutoff=1)
    return [
        NearDuplicate(int(first), int(second), "one letter apart: a slip, or two names easily confused")
        for first, second in zip(*(distances == 1).nonzero(), strict=True)
        if first < second and min(len(keys[first]), len(keys[second])) >= 4
    ]
