"""What a language model is asked for, and whether what it wrote can be used."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from clinical_asr.phi import identifier
from clinical_asr.records import Term
from clinical_asr.wording import SLOT, WORDS, Style, fault, fill

Message = dict[str, str]
"""``role`` and ``content``, as chat endpoints take them."""

SYSTEM = (
    "You write single sentences for testing a speech recogniser in a hospital. Everything is invented. Answer with the "
    "sentence alone: no quotation marks, no list, no comment."
)
REQUEST = (
    "Write one sentence, {context}. It must contain exactly once, letter by letter, this {category}: {term}\n"
    "Rules: {fewest} to {most} words; natural spoken clinical English; the sentence must make medical sense for this "
    "{category}; no names of people, no dates, no telephone, record or street numbers; {style}.{others}"
)
CONTEXTS = {
    "dictation": "as a physician dictates it into a report or letter",
    "handoff": "as a nurse says it to the next shift at handover",
    "chart_note": "as it stands in a terse note in the chart, read aloud",
    "history": "as part of a patient's history, told by a clinician",
}
STYLES: dict[Style, str] = {
    "lower": "numbers and units written out as words, no abbreviations, no symbols",
    "written": "numbers in digits with their units in full, punctuation as usual",
}
_ABBREVIATED = re.compile(r"\b(?:mg|mcg|kg|ml|mmol|mmhg|bpm|hr|hrs|iv|po|bid|tid|qid|prn|q[0-9]h)\b", re.IGNORECASE)
_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
_WRAPPING = re.compile(r"^(?:```\w*|sentence:|[\"'“”*-]|\s)+|(?:```|[\"“”*]|\s)+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """One sentence to be written: about which term, in which context; ``number`` tells apart several in one context."""

    term: Term
    context: str
    number: int = 0


def digest(style: Style) -> str:
    """Identity of the prompt: 12 hex digits over all its texts; a changed word gives another one.

    >>> digest("lower") == digest("lower"), digest("lower") == digest("written")
    (True, False)
    """
    parts = (SYSTEM, REQUEST, *(f"{name}={text}" for name, text in CONTEXTS.items()), style, STYLES[style])
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:12]


def messages(order: Order, style: Style, others: Sequence[str] = ()) -> list[Message]:
    """The conversation's beginning. ``others`` are sentences about the term that must not come again."""
    told = "".join(f"\nNot this one again: {text}" for text in others)
    request = REQUEST.format(
        context=CONTEXTS.get(order.context, f"as it is said in this situation: {order.context.replace('_', ' ')}"),
        category=order.term.entity_category.value,
        term=order.term.term,
        fewest=WORDS[0],
        most=WORDS[-1],
        style=STYLES[style],
        others=told,
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": request}]


def again(reply: str, why: str) -> list[Message]:
    """What follows a sentence that cannot be used."""
    request = f"This cannot be used: {why}. Write another one by the same rules."
    return [{"role": "assistant", "content": reply[:500]}, {"role": "user", "content": request}]


def tidy(reply: str) -> str:
    """The sentence of a reply, without what models like to put around it.

    >>> tidy('<think>hm</think> "Give cefazolin now."')
    'Give cefazolin now.'
    """
    text = _THINKING.sub("", reply).strip()
    return "\n".join(filter(None, (" ".join(line.split()) for line in _WRAPPING.sub("", text).splitlines())))


def unusable(text: str, term: str, style: Style, others: Sequence[str] = ()) -> str:
    """Why a sentence cannot be used, in words for the model and for a person; nothing if it can.

    >>> unusable("Give cefazoline now.", "cefazolin", "lower")
    "it does not contain 'cefazolin' as whole words"
    >>> unusable("We gave cefazolin to Mr. Smith within the hour before the first cut.", "cefazolin", "lower")
    'it contains what looks like a name with a title'
    """
    if not text or "\n" in text:
        return "it is not one sentence on one line"
    times = len(_occurrences(text, term, style))
    if times != 1:
        return f"it contains {term!r} {times} times" if times else f"it does not contain {term!r} as whole words"
    rest = " ".join(_occurrence(term, style).split(text))
    if what := identifier(rest):
        return f"it contains what looks like {what}"
    if style == "lower" and (found := re.search(r"[0-9%]", rest) or _ABBREVIATED.search(rest)):
        return f"{found.group()!r} is not written out in words"
    if re.search(r"[{}|<>]|[^\x00-\x7f‘’“”–—°µ½]", rest):
        return "it contains symbols that nobody says"
    words = len(in_style(text, term, style).split())
    if words not in WORDS:
        return f"it has {words} words, not {WORDS[0]} to {WORDS[-1]}"
    same = {in_style(other, term, style).casefold() for other in others}
    return "it is one of those there are already" if in_style(text, term, style).casefold() in same else ""


def in_style(text: str, term: str, style: Style) -> str:
    """The sentence as the base writes; ``text`` contains the term once.

    >>> in_style("We gave Cefazolin before the cut.", "cefazolin", "lower")
    'we gave cefazolin before the cut'
    """
    straight = text.translate(str.maketrans("‘’“”–—", "''\"\"--"))
    if style == "written":
        return straight
    frame = _occurrence(term, style).sub(lambda _: SLOT, straight, count=1)
    return straight.lower() if fault(frame) else fill(frame, term, style)


def _occurrences(text: str, term: str, style: Style) -> list[str]:
    return _occurrence(term, style).findall(text)


def _occurrence(term: str, style: Style) -> re.Pattern[str]:
    """Whole words. Where capitals count, a capital at the sentence's beginning is allowed."""
    literal = re.escape(term)
    if style == "written":
        literal = f"(?:{literal}|{re.escape(term[:1].upper() + term[1:])})"
    return re.compile(rf"(?<![\w-]){literal}(?![\w-])", re.IGNORECASE if style == "lower" else 0)
