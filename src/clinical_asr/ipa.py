"""The International Phonetic Alphabet as far as text fields need it: what may stand in an ``ipa`` field.

Whether an engine can say it is the engine's own question; here a transcription is told from a slip of the hand.
"""

from __future__ import annotations

import unicodedata

from clinical_asr.errors import FlywheelError

_PLOSIVES_AND_NASALS = "pbtdʈɖcɟkɡgqɢʔmɱnɳɲŋɴ"
_TRILLS_TAPS_FRICATIVES = "ʙʀⱱɾɽɸβfvθðszʃʒʂʐçʝxɣχʁħʕhɦɬɮɕʑɧʜʢʡ"
_APPROXIMANTS = "ʋɹɻjɰlɭʎʟwɥʍɫɺ"
_LIGATURES = "ʦʣʧʤʨʥ"
_VOWELS = "iyɨʉɯuɪʏʊeøɘɵɤoəɛœɜɞʌɔæɐaɶɑɒɚɝᵻᵿ"
_SUPERSCRIPTS = "ʰʷʲˠˤⁿˡʱ"
_PROSODY = "ˈˌːˑ.‿| "
_COMBINING = (
    "\u0303\u0306\u0308\u030a\u031a\u031d\u031e\u031f\u0320\u0324\u0325\u0327\u0329\u032a\u032c"
    "\u032f\u0330\u0334\u035c\u0361"
)
_ALLOWED = frozenset(
    _PLOSIVES_AND_NASALS + _TRILLS_TAPS_FRICATIVES + _APPROXIMANTS + _LIGATURES + _VOWELS + _SUPERSCRIPTS
    + _PROSODY + _COMBINING
)  # fmt: skip
_MEANT = {
    "r": "r is a trill, which English has not: write ɹ",
    ":": "write the length mark ː",
    "'": "write the stress mark ˈ before the stressed syllable",
    "’": "write the stress mark ˈ before the stressed syllable",
    ",": "write the stress mark ˌ before the syllable of secondary stress",
    "-": "write a dot between syllables, or nothing",
}


class PhonemeError(FlywheelError):
    """A transcription that is none, or that holds a sound an engine cannot make."""


def require_ipa(ipa: str) -> None:
    """Raises PhonemeError naming the first character that no IPA transcription has, its place and the mend.

    A trilled r counts as a slip: who writes ``r`` for English means ɹ.

    >>> require_ipa("sɛˈfæzəlɪn")
    >>> require_ipa("ˈhɛpərɪn")
    Traceback (most recent call last):
    clinical_asr.ipa.PhonemeError: IPA 'ˈhɛpərɪn': 'r' at character 6 cannot be used; r is a trill, ...
    """
    text = decomposed(ipa)
    if not text:
        raise PhonemeError("is empty", "IPA", "write IPA, like sɛˈfæzəlɪn")
    for position, character in enumerate(text, 1):
        if character not in _ALLOWED:
            raise refusal(ipa, character, position, _MEANT.get(character, "write IPA, like sɛˈfæzəlɪn"))


def decomposed(ipa: str) -> str:
    """Canonical form: no slashes around it, single spaces, diacritics apart from their letters, one letter for g.

    >>> decomposed(" /gəʊ/ ")
    'ɡəʊ'
    """
    return " ".join(unicodedata.normalize("NFD", ipa.strip().strip("/")).replace("g", "ɡ").split())


def refusal(ipa: str, symbol: str, position: int, mend: str) -> PhonemeError:
    """The error that names a symbol and its place, counted from 1."""
    return PhonemeError(f"{symbol!r} at character {position} cannot be used", f"IPA {ipa!r}", mend)
