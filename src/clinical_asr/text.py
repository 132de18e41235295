"""Text normalisers, named and versioned. The name is part of every score's signature.

``flywheel-v1`` repeats the published recipe so that old numbers stay comparable, faults included.
``clinical-v1`` (the default) is for dictated medicine: no rule ever joins two digits that something stood between,
so a dose cannot change by a factor of ten without the score noticing.

What a name does never changes: a new rule is a new name. Both normalisers are idempotent. ``clinical-v1`` was settled
with release 0.1.0; a score from before in which a backtick stands beside a non-ASCII character, or letters of another
script carry vowel signs, may differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from clinical_asr.errors import FlywheelError

DEFAULT_NORMALISER = "clinical-v1"

_NOT_WORD_OR_HYPHEN = re.compile(r"[^\w\s-]")


def flywheel_v1(text: str) -> str:
    """Published four steps: NFKD, lower case, drop punctuation except hyphen, collapse white space.

    >>> flywheel_v1("Give Cefazolin, post-op.")
    'give cefazolin post-op'

    It joins digits across whatever it drops, which is why it is not the default:

    >>> flywheel_v1("2.5 mg") == flywheel_v1("25 mg"), flywheel_v1("120/80"), flywheel_v1("½")
    (True, '12080', '12')
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).lower())
    return " ".join(_NOT_WORD_OR_HYPHEN.sub("", text.lower()).split())


class _Typography(dict[int, str]):
    """Plain spelling of one character, worked out on first sight; used with ``str.translate``.

    Goes before Unicode folding, which alone would make "Lantus™" into "lantustm" and "1½" into "11/2".
    """

    def __missing__(self, code: int) -> str:
        char = chr(code)
        spelling = char
        if code > 127 and char not in _SUPERSCRIPTS:
            folded = unicodedata.normalize("NFKD", char).replace("⁄", "/")
            if unicodedata.category(char) == "Nd":
                spelling = str(unicodedata.digit(char))
            elif any(c.isdecimal() for c in folded) and char not in _SUBSCRIPTS:
                spelling = f" {folded} "  # ½, ①, ㏠: spaced, so that no neighbour's digit joins it
        self[code] = spelling
        return spelling


_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"
_TYPOGRAPHY = _Typography(
    str.maketrans(
        {
            **dict.fromkeys("‘’ʼ′´＇‛", "'"),  # no ASCII character: all-ASCII text does not come by here
            **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\ufe58\ufe63\uff0d", "-"),
            **dict.fromkeys("·‧⋅∙٫", "."),  # raised and Arabic decimal points (the Lancet prints 2·5)
            **dict.fromkeys("⁄∕", "/"),
            **dict.fromkeys("®™℠©°º…", " "),
            **dict.fromkeys("≤⩽≦", "<="),
            **dict.fromkeys("≥⩾≧", ">="),
            **dict.fromkeys("æÆ", "ae"),
            **dict.fromkeys("œŒ", "oe"),
            **dict.fromkeys("øØ", "o"),
            **dict.fromkeys("łŁ", "l"),
            **dict.fromkeys("ßẞ", "ss"),
            "٬": ",",
            "×": " x ",
            "№": " number ",  # folded, it would read "no": a negation out of nothing
            "℃": " c ",
            "℉": " f ",
        }
    )
)
_SCRIPT_RUN = re.compile(f"([0-9]?)([{_SUPERSCRIPTS}]+|[{_SUBSCRIPTS}]+)(?=([0-9{_SUPERSCRIPTS}{_SUBSCRIPTS}]?))")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
_MINUS = re.compile("(?<![0-9])(?<![0-9] )\u2212 ?(?=\\.?[0-9])")
_AFTER_LATIN = re.compile(r"(?<=[a-z])[^\x00-\x7f]+")
_MICROGRAM = re.compile(r"(?<![^\W\d])\u03bcg(?!\w)")


def _scripted(match: re.Match[str]) -> str:
    """10⁹ is 10^9 and H₂O is h2o; a raised or lowered digit never runs into a plain one."""
    before, run, after = match.groups()
    digits = unicodedata.normalize("NFKC", run)
    joint = ("^" if run[0] in _SUPERSCRIPTS else " ") if before else ""
    return f"{before}{joint}{digits}" + (" " if after else "")


def _visible(match: re.Match[str]) -> str:
    """Invisible characters vanish inside a word, but between two digits they are a separator like any other."""
    text, start, end = match.string, match.start(), match.end()
    between = start > 0 and text[start - 1].isdigit() and text[end : end + 1].isdigit()
    return " " if between else ""


def _unaccented(match: re.Match[str]) -> str:
    """What follows a Latin letter without the letter's accents, also those that stand after other scripts' marks."""
    run = match[0]
    marks = next((n for n, c in enumerate(run) if not (unicodedata.combining(c) or _is_accent(c))), len(run))
    return "".join(c for c in run[:marks] if not _is_accent(c)) + run[marks:]


def _is_accent(character: str) -> bool:
    return "\u0300" <= character <= "\u036f"


def _plain(text: str) -> str:
    """Non-ASCII text in lower case, with typography, width, accents and composition folded."""
    text = _INVISIBLE.sub(_visible, text).translate(_TYPOGRAPHY)
    text = _MINUS.sub(" minus ", _SCRIPT_RUN.sub(_scripted, text))
    # Once more: folding lays bare what typography spells out, as the "æ" in "ǣ" or the apostrophe in "ŉ".
    text = unicodedata.normalize("NFKD", text).lower().translate(_TYPOGRAPHY)
    return unicodedata.normalize("NFKC", _AFTER_LATIN.sub(_unaccented, text))


_SEPARATORS = str.maketrans(dict.fromkeys('-,;:?!()"', " "))
_ONLY_WORDS = re.compile(r"[a-z \-,;:?!()\"]*+\.?\s*")  # no digit, no inner point, no apostrophe: nothing to decide
# Each pattern begins with the character it decides about, so that the search skips to it.
_CONTRACTIONS = ("it", "he", "she", "that", "there", "here", "what", "who", "where", "how", "when", "why", "let")
_CONTRACTED = re.compile("'(?:" + "|".join(rf"(?<=\b{word}')" for word in _CONTRACTIONS) + r")(?=s\b)")
_POSSESSIVE = re.compile(r"'(?<=\w')s(?!\w)")
_INNER_APOSTROPHE = re.compile(r"'(?<=[^\W\d]')(?=[^\W\d])")
_INITIALS = re.compile(r"\.(?<=\b[a-z]\.)(?=[a-z]\b)")
_BARE_DECIMAL = re.compile(r"\.(?<![\w.']\.)(?=[0-9])")
_SPACED_SLASH = re.compile(r"(?<=[0-9])\s*/\s*(?=[0-9])")


@lru_cache(maxsize=1 << 10)
def _tokens(signs: str = "") -> re.Pattern[str]:
    """Words and numbers; ``signs`` belong to a word whose letters they follow."""
    word = f"[^\\W_][\\w{signs}]*"  # no "_" is left
    return re.compile(
        rf"""(?: (?<![\w.,]) [0-9]{{1,3}} (?:,[0-9]{{3}})+ (?![0-9]|,[0-9]) (?:[./^][0-9]+)*      # 1,000 or 1,000.5
              | {word} (?: (?<=[0-9])[./^](?=[0-9]) {word} )*                                # words, 2.5, 120/80, 10^9
            ) | [<>]=? | %""",
        re.VERBOSE,
    )


def _signs(part: str) -> str:
    """What a script writes onto its letters, each once: vowels of Hindi, Tamil, Arabic, Hebrew."""
    if part.isascii():
        return ""
    return "".join(sorted({c for c in part if unicodedata.category(c) in ("Mn", "Mc") and not _VARIANT.match(c)}))


_VARIANT = re.compile("[\u034f\u180b-\u180f\u20d0-\u20ff\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Says how the character before it is drawn, and is no part of a word."""
_LOOSE_COMPARATOR = re.compile(r"([<>]=?) (?=[0-9])")
_LONE_ANGLE = re.compile(r"(?<!\S)[<>](?!\S)")
_LOOSE_PERCENT = re.compile(r"(?<=[0-9]) %")
_GLUED_UNIT = re.compile(
    r"([0-9](?<![^ <>=].)[0-9.,/]*)(mg|mcg|ng|kg|g|ml|dl|cl|l|mmol|mol|meq|mmhg|mm|cm|iu|bpm|units?)(?!\S)"
)


def clinical_v1(text: str) -> str:
    """Normalise dictated English. Each pair below is a rule: what it merges, and what it keeps apart.

    Case, white space, composition and width (NBSP, tab, NFC/NFD, ligatures):

    >>> n = clinical_v1
    >>> n("Give\\u00a0Cefazolin\\tNOW.") == n("give  cefazolin now")
    True
    >>> n("Sjo\\u0308gren") == n("Sj\\u00f6gren") == n("sjogren"), n("ﬁbrosis") == n("fibrosis")
    (True, True)

    Decimal points stay, and a bare one gets its zero; raised points are points:

    >>> n("2.5 mg"), n("25 mg"), n(".5 mg") == n("0.5 mg"), n(".5 mg") == n("5 mg"), n("2·5 mg")
    ('2.5 mg', '25 mg', True, False, '2.5 mg')

    A slash stays between digits and separates elsewhere:

    >>> n("120/80"), n("120 / 80"), n("12080"), n("mg/kg")
    ('120/80', '120/80', '12080', 'mg kg')

    Fractions are spelled out, and powers keep their mark:

    >>> n("½ tablet"), n("1½"), n("12 tablet"), n("10⁹/L"), n("109"), n("H₂O")
    ('1/2 tablet', '1 1/2', '12 tablet', '10^9 l', '109', 'h2o')

    Comparators and per cent stay:

    >>> n("≥5") == n(">= 5") == ">=5", n("≥5") == n("5"), n("< 5"), n("5 %") == n("5%"), n("5%") == n("5")
    (True, False, '<5', True, False)

    Hyphens and dashes are spaces; only the true minus sign before a number is a word:

    >>> n("post-cefazolin"), n("10–20"), n("10-20") == n("1020"), n("X—ray"), n("\\u22125 mmol")
    ('post cefazolin', '10 20', False, 'x ray', 'minus 5 mmol')

    Possessives go, contractions and other apostrophes close up:

    >>> n("cefazolin's"), n("cefazolin’s"), n("nurses'"), n("it's"), n("don't"), n("5'10")
    ('cefazolin', 'cefazolin', 'nurses', 'its', 'dont', '5 10')

    A backtick is no apostrophe but separates, whatever else stands in the text:

    >>> n("don`t"), n("don`t, Zoë"), n("don\u00b4t, Zoë")
    ('don t', 'don t zoe', 'dont zoe')

    Names with digits are one word, and glued units come off their number:

    >>> n("HbA1c"), n("HbA 1c"), n("B12"), n("5mg") == n("5 mg"), n("250µg") == n("250 mcg"), n("T4")
    ('hba1c', 'hba 1c', 'b12', True, True, 't4')

    Commas stay in thousands, so that 1,000 is neither 1000 nor 1 000; elsewhere they separate:

    >>> n("1,000 units"), n("1000 units"), n("days 1,2"), n("2,5 mg"), n("now,then")
    ('1,000 units', '1000 units', 'days 1 2', '2 5 mg', 'now then')

    Dotted initials close up; trade marks and degree signs go; invisible characters never join digits:

    >>> n("q.i.d."), n("Lantus® 37 °C"), n("cefa\\u00adzolin"), n("2\\u00ad5")
    ('qid', 'lantus 37 c', 'cefazolin', '2 5')

    Signs of other scripts belong to their letters:

    >>> n("पानी, दो!"), n("पाना") == n("पानी"), n("كَتَبَ").split() == ["كَتَبَ"]
    ('पानी दो', False, True)
    """
    text = text.lower() if text.isascii() else _plain(text)
    if _ONLY_WORDS.fullmatch(text):
        return " ".join(text.rstrip().rstrip(".").translate(_SEPARATORS).split())
    text = " ".join(filter(None, map(_token, _mark(text).split())))
    return _attach(text) if "<" in text or ">" in text or "%" in text else text


@lru_cache(maxsize=1 << 15)
def _token(part: str) -> str:
    """Words and numbers in a part between two spaces, glued units off their number.

    Parts recur, hence the (bounded) memory of past answers.
    """
    text = " ".join(_tokens(_signs(part)).findall(part))
    return _GLUED_UNIT.sub(r"\1 \2", _MICROGRAM.sub("mcg", text) if "μ" in text else text)


def _mark(text: str) -> str:
    """Decide apostrophes, points and slashes by their neighbours; what is left over separates."""
    if "_" in text:
        text = text.replace("_", " ")
    if "'" in text:
        text = _POSSESSIVE.sub(" ", _CONTRACTED.sub("", text))
        text = _INNER_APOSTROPHE.sub("", text)
    if "." in text:
        text = _BARE_DECIMAL.sub("0.", _INITIALS.sub("", text))
    return _SPACED_SLASH.sub("/", text) if "/ " in text or " /" in text else text


def _attach(text: str) -> str:
    """Comparators and per cent go to their number."""
    if "<" in text or ">" in text:
        text = _LOOSE_COMPARATOR.sub(r"\1", text)
        text = " ".join(_LONE_ANGLE.sub("", text).split())
    if "%" in text:
        text = _LOOSE_PERCENT.sub("%", text)
    return text


_NORMALISERS: dict[str, Callable[[str], str]] = {"flywheel-v1": flywheel_v1, "clinical-v1": clinical_v1}


def normaliser_names() -> tuple[str, ...]:
    """Names that ``normaliser`` knows.

    >>> normaliser_names()
    ('clinical-v1', 'flywheel-v1')
    """
    return tuple(sorted(_NORMALISERS))


def normaliser(name: str = DEFAULT_NORMALISER) -> Callable[[str], str]:
    """The function behind a name.

    >>> normaliser("clinical-v2")
    Traceback (most recent call last):
    clinical_asr.errors.FlywheelError: unknown normaliser 'clinical-v2'; use one of: clinical-v1, flywheel-v1
    """
    if name not in _NORMALISERS:
        raise FlywheelError(f"unknown normaliser {name!r}", mend=f"use one of: {', '.join(normaliser_names())}")
    return _NORMALISERS[name]


def normalise(text: str, name: str = DEFAULT_NORMALISER) -> str:
    """``text`` as the named normaliser writes it: lower-case words with one space between.

    >>> normalise("Pt's BP was 120/80."), normalise("Pt's BP was 120/80.", "flywheel-v1")
    ('pt bp was 120/80', 'pts bp was 12080')
    """
    return normaliser(name)(text)


@lru_cache(maxsize=1 << 15)
def term_key(term: str) -> str:
    """The one identity of a term, whatever case, accents or hyphens its rows spell it in.

    Terms are counted by it, and rows of one term are one cluster. It is the default normaliser's, whichever one scores:
    the split knows no other, and what is one term where it is taught is one where it is judged.

    >>> term_key("Heparin-lock") == term_key("heparin lock"), term_key("heparin lock") == term_key("heparin")
    (True, False)
    """
    return normalise(term) or term  # marks alone, which ``flywheel-v1`` may keep, are still a term
