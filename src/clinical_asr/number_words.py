"""Reading numbers, units, negations and sides out of normalised text, digits and spelled numbers as the same value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import compress, count

KINDS = ("value", "unit", "negation", "laterality")

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS_AND_TEENS = {word: value for value, word in enumerate(_SMALL.split())}
_TENS = {word: 10 * value for value, word in enumerate(_ROUND.split(), 2)}
_VALUES = _UNITS_AND_TEENS | _TENS
_SCALES = {"thousand": 1_000, "million": 1_000_000}
_NUMBER_WORDS = {*_VALUES, *_SCALES, "hundred"}
_NUMERAL = re.compile(r"([<>]=?)?([0-9][0-9,]*(?:\.[0-9]+)?)(%)?")
_RATIO = re.compile(r"([0-9]+(?:\.[0-9]+)?)/([0-9]+(?:\.[0-9]+)?)")
_FRACTION = re.compile("([1-7])/([2348])")  # anything else is two values, as 120/80 is

_UNIT_NAMES = {
    "mg": "mg milligram milligrams",
    "mcg": "mcg ug μg microgram micrograms",
    "ng": "ng nanogram nanograms",
    "g": "g gm gram grams",
    "kg": "kg kilogram kilograms kilo kilos",
    "ml": "ml milliliter milliliters millilitre millilitres cc",
    "dl": "dl deciliter deciliters decilitre decilitres",
    "l": "l liter liters litre litres",
    "mmol": "mmol millimole millimoles",
    "mol": "mol mole moles",
    "meq": "meq milliequivalent milliequivalents",
    "unit": "unit units iu",
    "%": "% percent",
    "mmhg": "mmhg",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "bpm": "bpm",
    "second": "second seconds sec s",
    "minute": "minute minutes min",
    "hour": "hour hours hr hrs h",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years",
    "tablet": "tablet tablets",
    "drop": "drop drops",
    "puff": "puff puffs",
}
_UNITS = {name: unit for unit, names in _UNIT_NAMES.items() for name in names.split()}
_DENYING = (
    "no not without denies denied deny denying never none neither nor negative cannot absent "
    "dont doesnt didnt isnt wasnt arent werent cant couldnt wont wouldnt hasnt havent hadnt shouldnt"
)
_NEGATIONS = frozenset(_DENYING.split())
_SIDES = {"left": "left", "right": "right", "bilateral": "bilateral", "bilaterally": "bilateral"}

_JOINTS = ("per", "a", "an", "of")
_TELLING = frozenset([*_NUMBER_WORDS, "point", "oh", "half", "quarter", *_UNITS, *_NEGATIONS, *_SIDES, "and", *_JOINTS])
"""Words that may be more than a word, or stand between the parts of a number or of a dose."""

_NUMERIC = frozenset("0123456789<>")
"""What a number in digits begins with."""


class _Telling(dict[str, bool]):
    """Whether a word may be more than a word, or join the parts of a number; (boundedly many) answers are kept."""

    def __missing__(self, word: str) -> bool:
        telling = word in _TELLING or word[0] in _NUMERIC
        if len(self) < 1 << 16:
            self[word] = telling
        return telling


is_telling = _Telling().__getitem__
"""May this word be more than a word, or join the parts of a number?"""

Token = tuple[str, str]
"""Kind ("word" for all that is none of ``KINDS``) and canonical spelling."""


def tokens(text: str) -> list[Token]:
    """Kinds and canonical spellings of a normalised text, in order.

    >>> tokens("half a tablet in 1 1/2 hours")
    [('value', '0.5'), ('word', 'a'), ('unit', 'tablet'), ('word', 'in'), ('value', '1.5'), ('unit', 'hour')]
    """
    return read(text.split())


def read(words: Sequence[str]) -> list[Token]:
    """``tokens`` of words: only runs of telling ones have to be read."""
    found, end = list[Token](), 0
    for start, stop in _runs(words):
        found.extend([("word", word) for word in words[end:start]])
        found.extend(_run(tuple(words[start:stop])))
        end = stop
    found.extend([("word", word) for word in words[end:]])
    return found


def kind_counts(words: Sequence[str]) -> list[int]:
    """How many tokens of each of ``KINDS`` the words hold.

    >>> kind_counts("give two point five mg to the left knee not the right one".split())
    [2, 1, 1, 2]
    """
    counts = [0, 0, 0, 0]
    for start, stop in _runs(words):
        for kind, n in enumerate(_run_counts(tuple(words[start:stop]))):
            counts[kind] += n
    return counts


def _runs(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Half-open spans of neighbouring telling words."""
    start = end = -1
    for place in compress(count(), map(is_telling, words)):
        if place != end:
            if start >= 0:
                yield start, end
            start = place
        end = place + 1
    if start >= 0:
        yield start, end


@lru_cache(maxsize=1 << 14)
def _run_counts(words: tuple[str, ...]) -> tuple[int, ...]:
    kinds = [kind for kind, _ in _run(words)]
    return tuple(kinds.count(kind) for kind in KINDS)


@lru_cache(maxsize=1 << 14)
def _run(words: tuple[str, ...]) -> tuple[Token, ...]:
    """Tokens of a run; runs recur, hence the (bounded) memory of past answers."""
    found, place = list[Token](), 0
    while place < len(words):
        values, used = _values(words, place)
        found.extend(values or [_word(words[place], found)])
        place += used or 1
    return tuple(found)


def _word(word: str, before: Sequence[Token]) -> Token:
    if word in _NEGATIONS:
        return "negation", "no"
    if word in _SIDES:
        return "laterality", _SIDES[word]
    if word in _UNITS and _measured(before):
        return "unit", _UNITS[word]
    return "word", word


def _measured(before: Sequence[Token]) -> bool:
    """True after a value or a unit ("5 mg kg"), "per" or "a" between ("half a tablet"): "care unit" is no dose."""
    last = before[-2:-1] if before and before[-1][1] in _JOINTS else before[-1:]
    return bool(last) and last[0][0] in ("value", "unit")


def _values(words: Sequence[str], place: int) -> tuple[list[Token], int]:
    """Values that begin at a word, and the words they take; none and 0 where no number begins."""
    numeral, ratio = _NUMERAL.fullmatch(words[place]), _RATIO.fullmatch(words[place])
    if numeral:
        sign, digits, percent = numeral.groups()
        value, used = Decimal(digits.replace(",", "")), 1
        half, more = _fraction(words, place + 1)
        if half is not None and value == value.to_integral_value():
            value, used = value + half, used + more
        tail: list[Token] = [("unit", "%")] if percent else []
        return [("value", (sign or "") + _plain(value)), *tail], used
    if ratio:
        fraction, used = _fraction(words, place)
        if fraction is not None:
            return [("value", _plain(fraction))], used
        return [("value", _plain(Decimal(part))) for part in ratio.groups()], 1
    return _spelled(words, place)


def _fraction(words: Sequence[str], place: int) -> tuple[Decimal | None, int]:
    """1/2, half, a half, and a half, quarter: the fraction that begins here and the words it takes."""
    for lead in (("and", "a"), ("a",), ()):
        if tuple(words[place : place + len(lead)]) == lead and place + len(lead) < len(words):
            word, used = words[place + len(lead)], len(lead) + 1
            if word in ("half", "quarter"):
                return Decimal("0.5") if word == "half" else Decimal("0.25"), used
            ratio = _FRACTION.fullmatch(word)
            if ratio and not lead and int(ratio[1]) < int(ratio[2]):
                return round(Decimal(ratio[1]) / Decimal(ratio[2]), 4), used
    return None, 0


def _spelled(words: Sequence[str], place: int) -> tuple[list[Token], int]:
    """A number in words: "two hundred and fifty", "zero point two five", "point five", "one and a half", "half"."""
    value, at = _whole(words, place)
    digits, after = "", at
    if at < len(words) and words[at] == "point":
        after += 1
        while after < len(words) and (digit := _digit(words[after])) is not None:
            digits, after = digits + digit, after + 1
    if digits:
        return [("value", _plain(Decimal(f"{value or 0}.{digits}")))], after - place
    half, more = _fraction(words, at) if value is not None or words[place] in ("half", "quarter") else (None, 0)
    if half is not None:
        return [("value", _plain((value or 0) + half))], at + more - place
    return ([("value", str(value))], at - place) if value is not None else ([], 0)


def _digit(word: str) -> str | None:
    value = _UNITS_AND_TEENS.get("zero" if word == "oh" else word)
    return str(value) if value is not None and value < 10 else word if word.isdecimal() else None


def _whole(words: Sequence[str], place: int) -> tuple[int | None, int]:
    """Whole number in words from a place, and where it ends; "two five" is two numbers, "twenty five" one."""
    total = group = 0
    last, at = "", place
    while at < len(words):
        word = words[at]
        joined = word == "and" and last in ("hundred", "thousand") and words[at + 1 : at + 2]
        if joined and words[at + 1] in _NUMBER_WORDS - {"hundred", *_SCALES}:
            at += 1
            continue
        if not _continues(last, word, group):
            break
        if word in _SCALES:
            total, group = total + max(group, 1) * _SCALES[word], 0
        elif word == "hundred":
            group = max(group, 1) * 100
        else:
            group += _VALUES[word]
        last, at = word, at + 1
    return (total + group, at) if last else (None, place)


def _continues(last: str, word: str, group: int) -> bool:
    """May this number word follow the last one within one number?"""
    if word not in _NUMBER_WORDS:
        return False
    if word in _SCALES:
        return last not in _SCALES
    if word == "hundred":
        return not last or 0 < group < 100
    if not last or last == "hundred" or last in _SCALES:
        return True
    return last in _TENS and 0 < _UNITS_AND_TEENS.get(word, 0) < 10


def _plain(value: Decimal) -> str:
    """No trailing zeros, no exponent: 2.50 is 2.5, 100 stays 100."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
