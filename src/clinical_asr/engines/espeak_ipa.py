"""IPA to eSpeak NG's phoneme mnemonics, and what the engine makes of them.

The library reads mnemonics, not IPA (``[[h'Ep@rIn]]``). Every row of the tables was traced through the library (1.52)
and is traced again by the tests. Sounds that an accent does not tell apart are said in the accent's own way: ``oʊ`` is
``əʊ`` in British voices, as a British speaker reads an American dictionary. `ALLOPHONES` lists all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from clinical_asr.ipa import PhonemeError, decomposed, refusal, require_ipa

VOWELS = {
    "æ": "a", "a": "a", "ɐ": "a#", "ʌ": "V", "ɑː": "A:", "ɑ": "A:", "ɒ": "0", "ɔː": "O:", "ɔ": "O", "ə": "@",
    "ɛ": "E", "e": "e", "eː": "e:", "ɪ": "I", "ᵻ": "I#", "i": "i", "iː": "i:", "o": "o", "oː": "o:", "ʊ": "U",
    "u": "u", "uː": "u:", "ɜː": "3:", "ɜ": "3:", "ɝ": "3:", "ɝː": "3:", "ɚ": "3",
    "aɪ": "aI", "aʊ": "aU", "eɪ": "eI", "oʊ": "oU", "əʊ": "oU", "ɔɪ": "OI",
    "eə": "e@", "ɛə": "e@", "iə": "i@", "ɪə": "i@3", "ʊə": "U|@",
    "ɑ̃": "A~", "ɔ̃": "O~", "l̩": "l-", "m̩": "m-", "n̩": "n-", "ŋ̩": "N-",
}  # fmt: skip
"""Nuclei of syllables; a syllabic consonant is one."""

RHOTIC = {
    "ɑːɹ": "A@", "ɑɹ": "A@", "ɔːɹ": "O@", "ɔɹ": "O@", "oʊɹ": "o@", "oɹ": "o@", "ɛɹ": "e@", "eɹ": "e@", "ɛəɹ": "e@",
    "eəɹ": "e@", "ɪɹ": "i@3", "ɪəɹ": "i@3", "iɹ": "i@3", "iːɹ": "i@3", "ʊɹ": "U@", "ʊəɹ": "U@", "uːɹ": "U@",
    "ɜːɹ": "3:", "ɜɹ": "3:", "əɹ": "3",
}  # fmt: skip
"""A vowel and the ɹ that closes its syllable: one sound for the engine. Before another vowel they are two."""

CONSONANTS = {
    "p": "p", "b": "b", "t": "t", "d": "d", "k": "k", "ɡ": "g", "ʔ": "?", "ɾ": "*", "m": "m", "n": "n", "ŋ": "N",
    "f": "f", "v": "v", "θ": "T", "ð": "D", "s": "s", "z": "z", "ʃ": "S", "ʒ": "Z", "h": "h", "x": "x", "l": "l",
    "ɫ": "l", "j": "j", "w": "w", "ʍ": "w#", "tʃ": "tS", "t͡ʃ": "tS", "ʧ": "tS", "dʒ": "dZ", "d͡ʒ": "dZ", "ʤ": "dZ",
    "ç": "C", "ɲ": "n^", "ʎ": "l^", "ɬ": "l#", "β": "B", "ɣ": "Q", "χ": "X", "ʁ": 'Q"', "ɕ": "S;", "ʑ": "Z;",
    "ʋ": "v#",
}  # fmt: skip
"""ɹ stands apart: before a vowel it is ``r``, elsewhere ``r-``."""

_EVERYWHERE = {
    "ɑ": "ɑː", "ɜ": "ɜː", "ɝ": "ɜː", "ɝː": "ɜː", "ɜːɹ": "ɜː", "ɜɹ": "ɜː", "ɫ": "l",
    "t͡ʃ": "tʃ", "ʧ": "tʃ", "d͡ʒ": "dʒ", "ʤ": "dʒ",
}  # fmt: skip
_AMERICAN = {
    "a": "æ", "ɒ": "ɑː", "əʊ": "oʊ", "eə": "ɛɹ", "ɛə": "ɛɹ", "ɪə": "ɪɹ", "ɑɹ": "ɑːɹ", "ɔɹ": "ɔːɹ", "oʊɹ": "ɔːɹ",
    "oɹ": "ɔːɹ", "eɹ": "ɛɹ", "ɛəɹ": "ɛɹ", "eəɹ": "ɛɹ", "ɪəɹ": "ɪɹ", "iɹ": "ɪɹ", "iːɹ": "ɪɹ", "ʊəɹ": "ʊɹ", "uːɹ": "ʊɹ",
    "əɹ": "ɚ",
}  # fmt: skip
_BRITISH = {
    "oʊ": "əʊ", "ᵻ": "ɪ", "ɚ": "ə", "əɹ": "ə", "ɛə": "eə", "ɪə": "iə",
    **dict.fromkeys(("ɑːɹ", "ɑɹ"), "ɑː"), **dict.fromkeys(("ɔːɹ", "ɔɹ", "oʊɹ", "oɹ"), "ɔː"),
    **dict.fromkeys(("ɛɹ", "eɹ", "ɛəɹ", "eəɹ"), "eə"), **dict.fromkeys(("ɪɹ", "ɪəɹ", "iɹ", "iːɹ"), "iə"),
    **dict.fromkeys(("ʊɹ", "ʊəɹ", "uːɹ"), "ʊə"),
}  # fmt: skip
ALLOPHONES = {
    "en-us": _EVERYWHERE | _AMERICAN,
    "en-gb": _EVERYWHERE | _BRITISH | {"æ": "a"},
    "en-gb-x-rp": _EVERYWHERE | _BRITISH | {"a": "æ", "i": "ɪ", **dict.fromkeys(("ʊɹ", "ʊəɹ", "uːɹ"), "ɔː")},
}
"""By accent: the sounds it says as another one, wherever they stand. What is not listed is said as it is written."""

_ONE_R = (r"ɹ+", "ɹ")
_WEAK_END = (r"ˌ(?=[əɐɪiᵻ]( |$))", "")
_VELAR_N = (r"ŋ(?=[ˈˌ]?[kɡŋxɣχʁ])", "n")
_LINKING_R = (r"(?<=[əɐɑɔɜː])ɹ(?=[ˈˌ ]*[aæɐʌɑɒɔəɛeɪiouʊɜlmnŋ])", "")
CONTEXTUAL = {
    "en-us": [
        ("ɾ", "t"),
        ("ɚ", "ə"),
        ("ɔːɹ", "ɑːɹ"),
        (r"(?<=[ˈˌ])ɐ", "æ"),
        ("ɐɹ", "əɹ"),
        ("ɐ", "æ"),
        (r"ɪ(?= |$)", "i"),
        _ONE_R,
        _WEAK_END,
        _VELAR_N,
    ],
    "en-gb": [("ɐ", "a"), _ONE_R, _WEAK_END, _VELAR_N, _LINKING_R],
    "en-gb-x-rp": [("ɐ", "ə"), ("ˌə", "ə"), ("i", "ɪ"), _ONE_R, _WEAK_END, _VELAR_N, _LINKING_R],
}
"""By accent: what its own rules exchange in some places, as pattern and replacement; not told apart in a trace.

American: t between vowels is ɾ, ə, ɐ and ɒ before ɹ, stressed ɐ, a final ɪ. British: stressed ɐ; received, a final ə or
i, stress on ə; both link a vowel to the next by an r. All: two r are one, n before k and its like is ŋ,
a weak last vowel has no secondary stress.
"""

_NUCLEI = ("vowel", "rhotic")
_STRESS = {"ˈ": "'", "ˌ": ","}
_SILENT = ".‿"  # syllable boundary and liaison: heard in nothing

_POSSESSIVE = re.compile(r"['’]s(?!\w)")
_ABBREVIATING = re.compile(r"\.(?=\s+[a-z0-9])")  # after brackets it is read out: "heparin dot now"
_SIBILANTS, _VOICELESS = {"s", "z", "S", "Z", "tS", "dZ"}, {"p", "t", "k", "f", "T"}


def _any(symbols: Iterable[str]) -> str:
    """A pattern for any of these strings in decomposed form, the longest first."""
    return "|".join(sorted(map(decomposed, symbols), key=len, reverse=True))


_TABLE = {decomposed(ipa): mnemonic for ipa, mnemonic in (VOWELS | RHOTIC | CONSONANTS).items()}
_VOWEL = _any(VOWELS)
_ALONE = r"(?![\u0300-\u036fː])"  # no further diacritic or length mark: that would be another sound
_BEFORE_VOWEL = rf"(?=[ˈˌ{_SILENT}]*(?:{_VOWEL}))"
_SYMBOL = re.compile(
    rf"(?P<rhotic>(?:{_any(RHOTIC)}){_ALONE})(?!{_BEFORE_VOWEL})|(?P<vowel>(?:{_VOWEL}){_ALONE})"
    rf"|(?P<onset>ɹ{_ALONE}){_BEFORE_VOWEL}|(?P<coda>ɹ{_ALONE})"
    rf"|(?P<consonant>(?:{_any(CONSONANTS)}){_ALONE})|(?P<stress>[ˈˌ])|(?P<silent>[{_SILENT}])|(?P<space> )"
)
Symbols = list[tuple[str, str, int]]
"""(kind, symbol, position counted from 1)"""


def mnemonics(ipa: str) -> str:
    """What the library reads between ``[[`` and ``]]``.

    Bars keep neighbours apart that would read as one mnemonic. Stress belongs to the vowel that follows its mark; a
    single syllable is stressed without one. Of several syllables one must be marked, or the engine would choose.

    >>> mnemonics("ˈhɛpəɹɪn")
    "h|'E|p|@|r|I|n"
    >>> mnemonics("ˈhɑːɹt ˈreɪt")
    Traceback (most recent call last):
    clinical_asr.ipa.PhonemeError: IPA 'ˈhɑːɹt ˈreɪt': 'r' at character 9 cannot be used; r is a trill, ...

    Raises:
        PhonemeError: a symbol the engine cannot say, a stress mark without a vowel, no stress at all; it says where.
    """
    return " ".join(_word(word) for word in _words(ipa))


def _words(ipa: str) -> list[Symbols]:
    """The symbols of each word. Raises PhonemeError for what cannot be stressed as it is written."""
    words: list[Symbols] = [[]]
    for kind, symbol, position in symbols(ipa):
        if kind == "space":
            words.append([])
        else:
            words[-1].append((kind, symbol, position))
    for word in words:
        _check_word(ipa, word)
    nuclei = [at for word in words for at in word if at[0] in _NUCLEI]
    if not any(symbol == "ˈ" for word in words for _, symbol, _ in word):
        if len(nuclei) > 1:
            raise PhonemeError("no syllable is stressed", f"IPA {ipa!r}", "put ˈ before the one that is")
        words = [[("stress", "ˈ", 0), *(at for at in words[0] if at[0] != "stress")]]
    return words


def symbols(ipa: str) -> Symbols:
    """The sounds and marks of a transcription. Raises PhonemeError naming the first that the engine cannot say."""
    require_ipa(ipa)
    text, found, position = decomposed(ipa), [], 0
    while position < len(text):
        match = _SYMBOL.match(text, position)
        if match is None:
            symbol = re.match(r".[\u0300-\u036fː]*", text[position:])
            wrong = symbol.group() if symbol else text[position]
            raise refusal(ipa, wrong, position + 1, "eSpeak NG has no such sound in English: write the nearest it has")
        found.append((str(match.lastgroup), match.group(), position + 1))
        position = match.end()
    return found


def _check_word(ipa: str, word: Symbols) -> None:
    """Every stress mark is followed by a vowel, before the next mark or the end; every word has a vowel."""
    open_mark: tuple[str, int] | None = None
    for kind, symbol, position in word:
        if kind == "stress" and open_mark:
            break
        if kind == "stress":
            open_mark = (symbol, position)
        if kind in _NUCLEI:
            open_mark = None
    if open_mark:
        raise refusal(ipa, *open_mark, "put it before a syllable: a vowel must follow")
    if not any(kind in _NUCLEI for kind, _, _ in word):
        said = "".join(symbol for _, symbol, _ in word)
        raise PhonemeError(f"{said!r} has no vowel", f"IPA {ipa!r}", "write it as it is said, letters by their names")


def _stressed(word: Symbols) -> list[tuple[str, str]]:
    """(mark, sound) of each sound: marks moved to the vowel they belong to."""
    mark, sounds = "", []
    for kind, symbol, _ in word:
        if kind == "stress":
            mark = symbol
        elif kind in _NUCLEI:
            sounds.append((mark, symbol))
            mark = ""
        elif kind != "silent":
            sounds.append(("", symbol if kind != "coda" else "ɹ-"))
    return sounds


def _word(word: Symbols) -> str:
    return "|".join(_STRESS.get(mark, "") + _mnemonic(sound) for mark, sound in _stressed(word))


def _mnemonic(sound: str) -> str:
    return {"ɹ": "r", "ɹ-": "r-"}.get(sound) or _TABLE[sound]


def spoken(ipa: str, language: str) -> str:
    """What the library should trace for this transcription in this accent; marks stand before their vowel.

    >>> spoken("ˈhɑːɹt.bɜːn", "en-us"), spoken("ˈhɑːɹt.bɜːn", "en-gb")
    ('hˈɑːɹtbɜːn', 'hˈɑːtbɜːn')

    Raises PhonemeError for what the engine cannot say.
    """
    as_heard = {decomposed(asked): decomposed(heard) for asked, heard in ALLOPHONES[language].items()}
    words = ("".join(mark + as_heard.get(sound, sound) for mark, sound in _stressed(word)) for word in _words(ipa))
    return " ".join(words).replace("ɹ-", "ɹ")


def agrees(ipa: str, traced: str, language: str) -> bool:
    """True if what the library traced is what was asked for, up to the accent's documented allophones.

    >>> agrees("ˈbɛtə", "bˈɛɾə", "en-us"), agrees("ˈbɛtə", "bˈɛɾə", "en-gb")
    (True, False)
    """
    return _folded(spoken(ipa, language), language) == _folded(decomposed(traced), language)


def _folded(trace: str, language: str) -> str:
    folded = trace.replace("ʲ", "")
    for pattern, replacement in CONTEXTUAL[language]:
        folded = re.sub(pattern, replacement, folded)
    return folded


class Phonemic(str):
    """Text in which double brackets hold phonemes. Brackets of any other text are read out, never obeyed."""

    __slots__ = ()


def phonemic(pieces: Iterable[tuple[str, str | None]]) -> Phonemic:
    """Pieces of text, some with IPA, to what the library reads.

    The library loses brackets that touch a character before them, so each gets a space there; brackets in the text
    itself are taken apart. A possessive s goes into the brackets, or it would be spelt.

    >>> phonemic([("give ", None), ("heparin", "ˈhɛpəɹɪn"), ("'s dose", None)])
    "give [[h|'E|p|@|r|I|n|z]] dose"

    Raises PhonemeError for IPA that the engine cannot say.
    """
    said = ""
    follows = False
    for text, ipa in pieces:
        if ipa is None:
            said = _after(said, text) if follows else said + _harmless(text)
        else:
            said += (" " if said and not said[-1].isspace() else "") + f"[[{mnemonics(ipa)}]]"
        follows = ipa is not None
    return Phonemic(said)


def _after(said: str, text: str) -> str:
    """``said``, which ends in brackets, and the text after them."""
    possessive = _POSSESSIVE.match(text)
    if possessive:
        said, text = f"{said[:-2]}|{_ending(said)}]]", text[possessive.end() :]
    return said + _harmless(_ABBREVIATING.sub("", text, count=1) if text.startswith(".") else text)


def _ending(said: str) -> str:
    """How a possessive s sounds after the last sound in brackets."""
    last = re.split(r"[|' ,]", said[:-2])[-1]
    return "I|z" if last in _SIBILANTS else "s" if last in _VOICELESS else "z"


def _harmless(text: str) -> str:
    return text.replace("[[", "[ [")
