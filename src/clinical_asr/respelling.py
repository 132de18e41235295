"""Merriam-Webster's respelling to IPA.

The dictionary writes ``\\ˈhep-ə-rən\\``: letters with diacritics, hyphens between syllables, stress marks before the
syllable, parentheses around what some speakers leave out, a superscript ᵊ before a consonant that carries a syllable.
The alphabet is the one of the dictionary's guide to pronunciation. A symbol that is not in it is an error, no guess.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from clinical_asr.errors import FlywheelError

_LETTERS = {
    "ə": "ə", "a": "æ", "ā": "eɪ", "ä": "ɑː", "ȧ": "a", "au̇": "aʊ", "b": "b", "ch": "tʃ", "d": "d", "e": "ɛ", "ē": "iː",
    "f": "f", "g": "ɡ", "h": "h", "hw": "hw", "i": "ɪ", "ī": "aɪ", "j": "dʒ", "k": "k",
    "ḵ": "x", "k̲": "x", "k̟": "x", "l": "l",
    "m": "m", "n": "n", "äⁿ": "ɑ̃", "ōⁿ": "ɔ̃", "ȯⁿ": "ɔ̃", "aⁿ": "æ̃", "œⁿ": "œ̃",
    "ŋ": "ŋ", "ō": "oʊ", "ȯ": "ɔː", "ȯi": "ɔɪ", "œ": "œ", "œ̄": "øː", "p": "p",
    "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t", "th": "θ", "th̲": "ð", "t͟h": "ð", "t̲h̲": "ð", "ü": "uː", "u̇": "ʊ", "ᵫ": "y",
    "ᵫ̄": "yː", "ue": "y", "u̅e̅": "yː", "v": "v", "w": "w", "y": "j", "ʸ": "j", "z": "z", "zh": "ʒ", "ᵊ": "ə",
    "ᵊl": "l̩", "ᵊm": "m̩", "ᵊn": "n̩", "ᵊŋ": "ŋ̩",
    "är": "ɑːɹ", "er": "ɛɹ", "ir": "ɪɹ", "ȯr": "ɔːɹ", "ōr": "oʊɹ", "u̇r": "ʊɹ", "ər": "ɚ",
}  # fmt: skip
_MARKS = ("ˈ", "ˌ")


def _nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


_STRESSED = {"ə": "ʌ", "ər": "ɜːɹ"}  # the dictionary writes one letter for both
_UNSTRESSED = {_nfd("ē"): "i"}
_TABLE = {_nfd(letter): ipa for letter, ipa in _LETTERS.items()}
_SYMBOL = re.compile("|".join(map(re.escape, sorted(_TABLE, key=len, reverse=True))))
_DIACRITICS = re.compile(r"[\u0300-\u036f]")


class RespellingError(FlywheelError):
    """A respelling that holds a symbol outside the alphabet, or that is only a part of a pronunciation."""


def to_ipa(respelling: str) -> str:
    """IPA of one whole respelling: the first of its variants that stands for itself.

    What stands in parentheses is said. An \\ə\\ under stress is ʌ, an \\ē\\ without stress i; r is ɹ.

    >>> to_ipa("ˈhep-ə-rən"), to_ipa("ˌhī-pər-ˈten(t)-shən"), to_ipa("ˈbət-ᵊn")
    ('ˈhɛpəɹən', 'ˌhaɪpɚˈtɛntʃən', 'ˈbʌtn̩')

    Raises:
        RespellingError: nothing to read, a symbol outside the alphabet, or a first variant that is cut short.
    """
    first = next(iter(variants(respelling)), "")
    if not first:
        raise RespellingError("is empty", f"respelling {respelling!r}")
    return " ".join(_word(word, respelling) for word in first.split())


def variants(respelling: str) -> list[str]:
    """The ways of saying it, whole: a cut variant is completed from the first one; disputed ones (÷) come last.

    >>> variants("ˈhep-ə-rən, -ˌrin")
    ['ˈhep-ə-rən', 'ˈhep-ə-ˌrin']
    >>> variants("ə-ˈnal-jə-sik; ˌan-ᵊl-")
    ['ə-ˈnal-jə-sik', 'ˌan-ᵊl-jə-sik']
    """
    parts = [part for part in re.split(r"\s*[,;]\s*", respelling.strip().strip("\\").strip()) if part.strip("÷ ")]
    whole: list[tuple[bool, str]] = []
    for part in parts:
        disputed, bare = part.startswith("÷"), part.lstrip("÷ ")
        if _is_cut(bare):
            bare = _completed(bare, whole[0][1] if whole else "", respelling)
        whole.append((disputed, bare))
    return [bare for _, bare in sorted(whole, key=lambda entry: entry[0])]


def _is_cut(variant: str) -> bool:
    return variant.startswith("-") or variant.endswith("-")


def _completed(cut: str, model: str, respelling: str) -> str:
    """A variant written as ``-ˌlīn`` or ``sē-``: as many of the model's syllables are replaced as it has.

    A middle part (``-ˈfa-``) has its place only if one syllable of the model bears the same stress.
    """
    syllables, new = model.split("-"), cut.strip("-").split("-")
    if not model or len(new) >= len(syllables):
        raise RespellingError(f"{cut!r} is cut short and nothing completes it", f"respelling {respelling!r}")
    if not cut.endswith("-"):
        return "-".join([*syllables[: -len(new)], *new])
    if not cut.startswith("-"):
        return "-".join([*new, *syllables[len(new) :]])
    at = [i for i, syllable in enumerate(syllables) if _stress(syllable) == _stress(new[0])]
    if len(at) != 1 or not _stress(new[0]) or at[0] + len(new) > len(syllables):
        raise RespellingError(f"{cut!r} may stand in several places", f"respelling {respelling!r}")
    return "-".join([*syllables[: at[0]], *new, *syllables[at[0] + len(new) :]])


def _stress(syllable: str) -> str:
    bare = syllable.lstrip("(")
    return bare[:1] if bare[:1] in _MARKS else ""


def _word(word: str, respelling: str) -> str:
    syllables = _nfd(word.replace("(", "").replace(")", "")).split("-")
    return "".join("".join(_sounds(syllable, respelling)) for syllable in syllables)


def _sounds(syllable: str, respelling: str) -> Iterator[str]:
    """The sounds of one syllable, its stress mark first."""
    mark = syllable[:1] if syllable[:1] in _MARKS else ""
    yield mark
    by_stress = _STRESSED if mark else _UNSTRESSED
    at = len(mark)
    while at < len(syllable):
        match = _SYMBOL.match(syllable, at)
        if match is None or _DIACRITICS.match(syllable, match.end()):
            raise _unknown(syllable[at:], respelling)
        yield by_stress.get(match.group(), _TABLE[match.group()])
        at = match.end()


def _unknown(rest: str, respelling: str) -> RespellingError:
    symbol = re.match(r".[\u0300-\u036f]*", rest)
    wrong = unicodedata.normalize("NFC", symbol.group() if symbol else rest)
    return RespellingError(f"{wrong!r} is no symbol of the alphabet", f"respelling {respelling!r}", "write an override")
