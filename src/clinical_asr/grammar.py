"""Enough English grammar to fit a term or a dose into a sentence: number, article, and numbers as they are said."""

from __future__ import annotations

import re

_SINGULAR_ENDINGS = (
    "ss", "us", "is", "biceps", "triceps", "quadriceps", "forceps", "diabetes", "ascites", "measles", "mumps", "herpes",
    "rabies", "scabies", "rickets", "pancreas", "pons", "lens", "caries", "aids", "gas", "series",
)  # fmt: skip
_PLURALS = frozenset((
    "vertebrae", "bullae", "bursae", "petechiae", "fistulae", "sequelae", "maxillae", "scapulae", "ganglia", "bacteria",
    "diverticula", "ova", "atria", "labia", "data", "bronchi", "alveoli", "emboli", "thrombi", "calculi", "nuclei",
    "fungi", "stimuli", "varices", "nares", "testes", "teeth", "feet",
))  # fmt: skip


def is_plural(term: str) -> bool:
    """Whether a term takes a plural verb, judged by its last word; of a phrase with "of", by the word before it.

    >>> [is_plural(t) for t in ("platelets", "diabetes", "tacrolimus", "blood cultures", "fracture of the ribs")]
    [True, False, False, True, False]
    """
    words = re.split(r"\s(?:of|with|for|in|to|and the)\s", term.casefold())[0].split()
    last = re.sub(r"['’]s$|[^a-z]", "", words[-1]) if words else ""
    if last in _PLURALS:
        return True
    return last.endswith("s") and len(last) > 3 and not last.endswith(_SINGULAR_ENDINGS)


_VOWEL_LETTERS = frozenset("aefhilmnorsx")  # whose names begin with a vowel sound
_LIKE_YOU = re.compile(r"^(?:uni(?!n)|ur(?!g|ti|en)|ut(?!t)|us(?=e|u)|uve|uvu|eu|ewe|one\b|once\b)")
_SILENT_H = re.compile(r"^(?:hour|honest|honou?r|heir)")


def article(term: str, plural: bool | None = None) -> str:
    """``a`` or ``an`` as a speaker would say it; nothing before a plural.

    >>> [article(t) for t in ("urologist", "ultrasound", "MRI scan", "ECG", "paramedics", "hospitalist")]
    ['a', 'an', 'an', 'an', '', 'a']
    """
    if not term or (is_plural(term) if plural is None else plural):
        return ""
    first, word = term.split()[0], term.split()[0].casefold()
    spelled = first.isupper() and (len(first) <= 5 or not re.search("[AEIOU]", first))
    if spelled or re.match(r"[a-z]\b", word) or not re.search("[aeiouy]", word):  # ECG, x-ray, mri
        return "an" if word[0] in _VOWEL_LETTERS else "a"
    if _SILENT_H.match(word):
        return "an"
    return "an" if word[0] in "aeiou" and not _LIKE_YOU.match(word) else "a"


_SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_UNITS = {
    "mg": "milligram", "mcg": "microgram", "g": "gram", "kg": "kilogram", "ml": "millilitre", "l": "litre",
    "mmol": "millimole", "unit": "unit", "units": "unit", "cm": "centimetre", "mm": "millimetre", "%": "percent",
}  # fmt: skip
_QUANTITY = re.compile(r"(?P<whole>[0-9]{1,6})(?:\.(?P<part>[0-9]+))?(?: ?(?P<unit>[a-z%]+))?")


def said(quantity: str) -> str:
    """A number, or a number with its unit, in words. Raises ValueError for what is neither.

    >>> said("2.5 mg"), said("120"), said("1 g"), said("0.05 mg")
    ('two point five milligrams', 'one hundred and twenty', 'one gram', 'zero point zero five milligrams')
    """
    whole, part, unit = _parts(quantity)
    fraction = " point " + " ".join(_SMALL[int(digit)] for digit in part) if part else ""
    return f"{_cardinal(int(whole))}{fraction}{unit}"


def with_digits(quantity: str) -> str:
    """The number in digits, its unit in full: what speech engines read aright. Raises ValueError, as :func:`said`.

    >>> with_digits("2.5 mg"), with_digits("1 g"), with_digits("90")
    ('2.5 milligrams', '1 gram', '90')
    """
    whole, part, unit = _parts(quantity)
    return f"{whole}.{part}{unit}" if part else f"{whole}{unit}"


def _parts(quantity: str) -> tuple[str, str, str]:
    """Whole part, decimals, and the unit in full with a space before it."""
    match = _QUANTITY.fullmatch(quantity)
    if not match or (match["unit"] or "mg") not in _UNITS:
        raise ValueError(f"{quantity!r} is no number with one of the units {', '.join(_UNITS)}")
    whole, part, unit = match["whole"], match["part"] or "", _UNITS.get(match["unit"] or "", "")
    ending = "" if not unit or unit == "percent" or (whole, part) == ("1", "") else "s"
    return whole, part, f" {unit}{ending}" if unit else ""


def _cardinal(number: int) -> str:
    """Whole numbers below a million, with the British "and" that speech uses on both sides of the ocean."""
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _TENS[tens] + (f" {_SMALL[rest]}" if rest else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_SMALL[hundreds]} hundred" + (f" and {_cardinal(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    joint = " and " if 0 < rest < 100 else " "
    return f"{_cardinal(thousands)} thousand" + (f"{joint}{_cardinal(rest)}" if rest else "")
