"""Plain spoken English: the one style of every sentence the mini base is trained on.

A sentence in this style has only ``a-z``, the apostrophe and single spaces, and 3 to 22 words. Whatever
cannot be turned into it without guessing (code, formulas, initials, option lists) is refused, never
repaired: a sentence lost costs nothing, a sentence that the synthesiser reads differently from its
transcript costs accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

MIN_WORDS, MAX_WORDS = 3, 22
STYLE = re.compile(r"[a-z]+(?:'[a-z]+)*(?: [a-z]+(?:'[a-z]+)*){2,21}")

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_SHORTENED = (
    (re.compile(r"\be\.\s?g\.,?", re.I), "for example"),
    (re.compile(r"\bi\.\s?e\.,?", re.I), "that is"),
    (re.compile(r"\betc\.", re.I), "and so on"),
    (re.compile(r"\bvs\.?(?= )", re.I), "versus"),
    (re.compile(r"\bMr\.?(?= )"), "Mister"),
    (re.compile(r"\bMrs\.?(?= )"), "Missus"),
    (re.compile(r"\bDr\.?(?= )"), "Doctor"),
    (re.compile(r"(?<=\d)\s?%"), " percent"),
    (re.compile(r"\$(\d[\d.,]*) (million|billion|thousand)"), r"\1 \2 dollars"),
    (re.compile(r"(?<=\w)\s?&\s?(?=\w)"), " and "),
)
_FUNCTION_WORDS = frozenset(
    [
        "the",
        "a",
        "an",
        "of",
        "to",
        "in",
        "on",
        "at",
        "by",
        "for",
        "with",
        "from",
        "into",
        "and",
        "or",
        "but",
        "if",
        "when",
        "while",
        "as",
        "than",
        "that",
        "which",
        "who",
        "this",
        "these",
        "those",
        "it",
        "its",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "has",
        "have",
        "had",
        "do",
        "does",
        "did",
        "not",
        "no",
        "can",
        "could",
        "will",
        "would",
        "shall",
        "should",
        "may",
        "might",
        "must",
        "he",
        "she",
        "they",
        "we",
        "you",
        "i",
        "his",
        "her",
        "their",
        "our",
        "your",
        "my",
        "him",
        "them",
        "us",
        "me",
        "there",
        "here",
        "what",
        "where",
        "how",
        "why",
        "so",
        "all",
        "any",
        "each",
        "some",
        "more",
        "most",
        "such",
        "only",
        "also",
        "then",
        "very",
        "just",
        "over",
        "under",
        "after",
        "before",
        "about",
        "between",
        "through",
    ]
)
# Letters left after these checks are words; initials such as "b c" or "x" are not.
_ONE_LETTER = frozenset({"a", "i", "o"})
_UNSPOKEN = re.compile(
    r"[^A-Za-z0-9 ,.;:!?'\"$-]|\w_|\d[A-Za-z]|[A-Za-z]\d|[A-Za-z]\.[A-Za-z]|\.\.|--|-\w+-\w+-|[ (]-"
)
_SHOUTED = re.compile(r"\b(?!I\b|A\b|O\b)[A-Z]{1,}\b(?!')|[a-z][A-Z]|\b[A-Z]{2}")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"']?\s+(?=[\"']?[A-Z])")
_QUOTES = str.maketrans(
    {
        "\u2019": "'",
        "\u2018": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2014": ", ",
        "\u2013": "-",
        "\u00a0": " ",
        "\u00e9": "e",
        "\u2026": ".",
    }
)


def spell_number(value: int) -> str:
    """Words of a whole number from 0 to 999,999,999.

    >>> spell_number(342)
    'three hundred and forty two'
    >>> spell_number(12005)
    'twelve thousand and five'
    """
    for size, name in ((1_000_000, "million"), (1_000, "thousand")):
        if value >= size:
            rest = value % size
            tail = "" if not rest else (" and " if rest < 100 else " ") + spell_number(rest)
            return f"{spell_number(value // size)} {name}{tail}"
    if value >= 100:
        return _ONES[value // 100] + " hundred" + (f" and {spell_number(value % 100)}" if value % 100 else "")
    if value < 20:
        return _ONES[value]
    return _TENS[value // 10] + (f" {_ONES[value % 10]}" if value % 10 else "")


def spell_year(value: int) -> str:
    """Words of a year as it is said.

    >>> spell_year(1942), spell_year(1807), spell_year(2009), spell_year(1900)
    ('nineteen forty two', 'eighteen oh seven', 'two thousand and nine', 'nineteen hundred')
    """
    high, low = divmod(value, 100)
    if 2000 <= value < 2010:
        return spell_number(value)
    tail = "hundred" if low == 0 else f"oh {_ONES[low]}" if low < 10 else spell_number(low)
    return f"{spell_number(high)} {tail}"


def spell_ordinal(value: int) -> str:
    """Ordinal words.

    >>> spell_ordinal(21), spell_ordinal(12), spell_ordinal(30)
    ('twenty first', 'twelfth', 'thirtieth')
    """
    head, _, last = spell_number(value).rpartition(" ")
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    else:
        last = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return f"{head} {last}".strip()


def _spell_match(found: re.Match[str]) -> str:
    whole = found.group(0)
    if found.group("ordinal"):
        return spell_ordinal(int(found.group("ordinal")[:-2]))
    digits = found.group("whole").replace(",", "")
    words = (
        spell_year(int(digits)) if re.fullmatch(r"1[6-9]\d\d|20[0-4]\d", whole) else spell_number(int(digits))
    )
    if found.group("part"):
        words += " point " + " ".join(_ONES[int(digit)] for digit in found.group("part")[1:])
    return words + " dollars" if found.group("money") else words


_NUMBER = re.compile(
    r"(?<![\w.])(?:(?P<ordinal>\d{1,3}(?:st|nd|rd|th))|(?P<money>\$)?(?P<whole>\d{1,3}(?:,\d{3}){1,2}|\d{1,6})"
    r"(?P<part>\.\d{1,2})?)(?![\w$%]|\.\d)"
)


def split_sentences(paragraph: str, clause_over: int = MAX_WORDS) -> Iterator[str]:
    """Sentences of a paragraph; those of more than `clause_over` words are cut at clauses."""
    cleaned = re.sub(r"\s+", " ", paragraph.translate(_QUOTES))
    cleaned = re.sub(r"\s?\([^()]*\)", "", cleaned)
    for pattern, words in _SHORTENED:
        cleaned = pattern.sub(words, cleaned)
    for sentence in _SENTENCE_END.split(cleaned):
        if len(sentence.split()) <= clause_over:
            yield sentence
            continue
        for part in re.split(r"[;:]\s", sentence):
            if len(part.split()) <= clause_over:
                yield part
            else:
                yield from (
                    p for p in re.split(r",\s(?=(?:and|but|which|for|because|while|although)\s)", part)
                )


def speak(sentence: str) -> str | None:
    """The sentence in the training style, or None when it is not plain spoken English.

    >>> speak("The committee met on 3 May 1942, and agreed.")
    'the committee met on three may nineteen forty two and agreed'
    >>> speak("Set the FOO_BAR variable to 3.") is None
    True
    """
    sentence = sentence.strip().strip("\"'")
    if _UNSPOKEN.search(sentence) or _SHOUTED.search(sentence[1:]):
        return None
    spelled = _NUMBER.sub(_spell_match, sentence)
    if re.search(r"\d|\$", spelled):
        return None
    text = re.sub(r"[^a-z']+", " ", spelled.lower()).strip()
    text = re.sub(r"(?<![a-z])'+|'+(?![a-z])", "", text)
    text = re.sub(r" +", " ", text).strip()
    return text if STYLE.fullmatch(text) and _is_prose(text.split()) else None


def _is_prose(words: list[str]) -> bool:
    if any(len(word) == 1 and word not in _ONE_LETTER for word in words):
        return False
    if any(a == b and a not in {"that", "had", "very"} for a, b in pairwise(words)):
        return False
    share = sum(word in _FUNCTION_WORDS for word in words) / len(words)
    return 0.2 <= share <= 0.8
