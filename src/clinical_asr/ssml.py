"""Finding the words whose pronunciation is imposed, anywhere in a text, and SSML for engines that read it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from xml.sax.saxutils import escape, quoteattr

from clinical_asr.wording import worded

Piece = tuple[str, str | None]
"""(part of the text, the IPA imposed on it or None)"""

_LETTER = r"\w\u0300-\u036f"  # a combining accent belongs to its letter, whatever \w says
_ALIKE = {"-": "[-\u2010\u2011]", "'": "['’ʼ]", "’": "['’ʼ]"}
_WORD = re.compile(f"[{_LETTER}]+")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def pieces(text: str, ipa: Mapping[str, str]) -> list[Piece]:
    """The text cut into pieces that join to it again, each with the IPA imposed on it, if any.

    Whole words, whatever their case, the longest first wherever it stands; a word inside one taken already is left.
    Kinds of space, hyphen, apostrophe and of composed accents are not told apart, and a term is found in either style
    of a sentence: as it is written, and as bare words (:func:`clinical_asr.wording.worded`).

    >>> pieces("Heparin lock-flush", {"heparin": "ˈhɛpəɹɪn", "heparin lock": "x"})
    [('Heparin lock', 'x'), ('-flush', None)]
    >>> pieces("the beta blocker was held", {"beta-blocker": "x"})
    [('the ', None), ('beta blocker', 'x'), (' was held', None)]
    """
    taken: list[tuple[int, int, str]] = []
    for term in sorted(ipa, key=len, reverse=True):
        for match in _pattern(term).finditer(text):
            if all(match.end() <= start or end <= match.start() for start, end, _ in taken):
                taken.append((match.start(), match.end(), ipa[term]))
    found: list[Piece] = []
    at = 0
    for start, end, sound in sorted(taken):
        found += [(text[at:start], None), (text[start:end], sound)]
        at = end
    return [piece for piece in [*found, (text[at:], None)] if piece[0]]


class Terms:
    """Many terms, to be looked for in many texts: the cost is of the text's words, not of the number of terms.

    >>> Terms(["insulin", "insulin, regular", "heparin"]).within("give insulin regular now")
    ['insulin', 'insulin, regular']
    """

    def __init__(self, terms: Iterable[str]) -> None:
        self._by_first: dict[str, list[str]] = {}
        for term in terms:
            for first in {next(iter(_words(form)), "") for form in _forms(term)}:
                self._by_first.setdefault(first, []).append(term)

    def within(self, text: str) -> list[str]:
        """The terms that :func:`pieces` would find in the text, each if nothing else were taken."""
        likely = {term: None for word in ("", *_words(text)) for term in self._by_first.get(word, ())}
        return [term for term in likely if _pattern(term).search(text)]


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold().replace("ʼ", "'"))


@lru_cache(maxsize=4096)
def _pattern(term: str) -> re.Pattern[str]:
    alternatives = "|".join("".join(map(_loosely, form)) for form in sorted(_forms(term)))
    return re.compile(rf"(?<![{_LETTER}])(?:{alternatives or r'(?!)'})(?![{_LETTER}])", re.IGNORECASE)


def _forms(term: str) -> set[str]:
    """A term as it may stand in a text: in both styles, its accents composed or apart."""
    styles = (term, worded(term, "lower"))
    found = {unicodedata.normalize(form, " ".join(style.split())) for style in styles for form in ("NFC", "NFD")}
    return found - {""}


def _loosely(character: str) -> str:
    return r"\s+" if character == " " else _ALIKE.get(character, re.escape(character))


def ssml(text: str, ipa: Mapping[str, str]) -> str:
    """Text with every word of ``ipa`` wrapped in SSML, see :func:`pieces`; XML-escaped, to stand inside ``<speak>``.

    Characters that XML cannot hold become spaces.

    >>> ssml("give Heparin & wait", {"heparin": "ˈhɛpəɹɪn"})
    'give <phoneme alphabet="ipa" ph="ˈhɛpəɹɪn">Heparin</phoneme> &amp; wait'
    """
    return "".join(_element(word, sound) if sound else _escaped(word) for word, sound in pieces(text, ipa))


def speak(text: str, ipa: Mapping[str, str]) -> str:
    """A whole SSML document; the plain text where nothing is imposed.

    >>> speak("5 < 6", {}), speak("heparin", {"heparin": "ˈhɛpəɹɪn"})
    ('5 < 6', '<speak><phoneme alphabet="ipa" ph="ˈhɛpəɹɪn">heparin</phoneme></speak>')
    """
    imposed = any(sound for _, sound in pieces(text, ipa))
    return f"<speak>{ssml(text, ipa)}</speak>" if imposed else text


def _element(word: str, sound: str) -> str:
    return f'<phoneme alphabet="ipa" ph={quoteattr(_NOT_XML.sub(" ", sound))}>{_escaped(word)}</phoneme>'


def _escaped(text: str) -> str:
    return escape(_NOT_XML.sub(" ", text), {"\r": "&#13;"})
