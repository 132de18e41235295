"""A term and a frame become words: in the base's own style, with the number and the article that the term asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from clinical_asr.grammar import article, is_plural, said, with_digits
from clinical_asr.records import Term

Style = Literal["lower", "written"]
"""``lower``: bare words, for a base that writes so; ``written``: capital, comma and full stop, as Parakeet writes."""

SLOT = "{term}"
WORDS = range(10, 31)
"""How many words a finished sentence may have."""
_SLOTS = re.compile(r"\{(?P<slot>[^{}]*)\}")
_NOT_A_WORD = re.compile(r"[^a-z']+")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the words around a term must agree with."""

    plural: bool = False
    article: str = "a"


def agreement(term: Term) -> Agreement:
    """From the list's optional columns ``number`` (singular, plural) and ``article`` (a, an), else from the spelling.

    >>> agreement(Term(term="platelets", entity_category="lab")).plural
    True
    >>> agreement(Term(term="Lactated Ringers", entity_category="drug", extra={"number": "singular"})).plural
    False
    """
    told_number = str(term.extra.get("number", "")).strip().casefold()
    told_article = str(term.extra.get("article", "")).strip().casefold()
    plural = told_number == "plural" if told_number in ("singular", "plural") else is_plural(term.term)
    chosen = told_article if told_article in ("a", "an") else article(term.term, plural)
    return Agreement(plural=plural, article=chosen)


def worded(term: str, style: Style) -> str:
    """A term as it stands in a sentence of that style.

    >>> worded("Beta-Blocker", "lower"), worded("insulin, regular", "lower"), worded("Beta-Blocker", "written")
    ('beta blocker', 'insulin regular', 'Beta-Blocker')
    """
    if style == "written":
        return term
    bare = re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[-‐-―\"“”„();:!?]", " ", term.lower().replace("’", "'"))
    return " ".join(bare.split())


def fill(frame: str, term: str, style: Style = "lower", agree: Agreement | None = None) -> str:
    """The sentence in the base's own style.

    >>> fill("Give {term}, {1 g}, before she's moved.", "Cefazolin")
    "give cefazolin one gram before she's moved"
    >>> fill("Give {term}, {1 g}, before she's moved.", "Cefazolin", "written")
    "Give Cefazolin, 1 gram, before she's moved."
    >>> fill("The {term} {was|were} low.", "platelets"), fill("We need {a} {term}.", "urologist")
    ('the platelets were low', 'we need a urologist')
    """
    known = agree or Agreement(is_plural(term), article(term))
    before, after = (_filled(part, style, known) for part in frame.split(SLOT))
    if style == "written":
        return re.sub(r" {2,}", " ", f"{before}{term}{after}")
    bare = (_NOT_A_WORD.sub(" ", part.lower()) for part in (before, after))
    return " ".join(f" {worded(term, style)} ".join(bare).split())


def _filled(part: str, style: Style, agree: Agreement) -> str:
    return _SLOTS.sub(lambda match: _chosen(match["slot"], style, agree), part)


def _chosen(slot: str, style: Style, agree: Agreement) -> str:
    """What stands in one slot. Raises ValueError for a slot that means nothing."""
    if slot == "a":
        return agree.article
    if slot.count("|") == 1:
        return slot.split("|")[agree.plural]
    return said(slot) if style == "lower" else with_digits(slot)


def fault(frame: str) -> str:
    """What is wrong with a frame; nothing if it can be filled.

    >>> fault("Give {term} now."), fault("Give it now."), fault("Give {dose} of {term}.")
    ('', 'holds {term} 0 times', '{dose} is no slot')
    """
    if frame.count(SLOT) != 1:
        return f"holds {SLOT} {frame.count(SLOT)} times"
    rest = frame.replace(SLOT, "")
    for match in _SLOTS.finditer(rest):
        try:
            _chosen(match["slot"], "lower", Agreement())
        except ValueError:
            return f"{match.group()} is no slot"
    return "holds a lone brace" if re.search(r"[{}]", _SLOTS.sub("", rest)) else ""
