"""What looks like a real person's data in a sentence: names with titles, dates, numbers, addresses.

A net for sentences that a language model made up: a model may repeat what it was trained on. It looks for those
identifiers of the HIPAA safe-harbour list (45 CFR 164.514(b)(2)) that can be told by their form; it proves nothing
about text written about a real patient, which has no place here at all.
"""

from __future__ import annotations

import re

_DIGIT = r"(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|[0-9])"
_MONTH = (
    "(?:january|february|march|april|may|june|july|august|september|october|november|december|"
    "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)"
)
_ORDINAL = (
    r"(?:[0-9]{1,2}(?:st|nd|rd|th)?|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|\w+teenth|"
    r"eleventh|twelfth|twentieth|twenty \w+|thirtieth|thirty first)"
)
_STREET = r"(?:street|st|avenue|ave|road|rd|lane|drive|boulevard|blvd|court|terrace)"
_GIVEN = (
    "james john robert michael david richard joseph thomas christopher daniel matthew anthony steven paul andrew "
    "kenneth kevin brian george edward ronald timothy jason jeffrey ryan jacob gary nicholas eric jonathan "
    "stephen larry justin scott brandon benjamin samuel gregory patrick alexander jack dennis jerry mary patricia "
    "jennifer linda elizabeth barbara susan jessica sarah karen nancy lisa margaret sandra ashley emily donna "
    "michelle carol amanda melissa deborah stephanie rebecca laura helen sharon cynthia kathleen amy angela anna "
    "ruth brenda pamela nicole katherine samantha christine emma catherine virginia rachel janet maria heather "
    "diane julie joyce victoria kelly smith johnson williams jones garcia miller davis rodriguez martinez "
    "hernandez lopez gonzalez wilson anderson thompson jackson harris clark lewis robinson"
)
"""Common given and family names that are no English words."""

PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a name with a title", re.compile(
        r"\b(?:mr|mrs|ms|mx|messrs|dr)\b\.? ?\w+|\b(?:miss|madam|sir) [A-Z]\w+"
        r"|\b(?i:doctor|nurse|professor|prof|sister|patient) (?:[A-Z]\. ?)?[A-Z][a-z]+"
    )),
    ("a person's name", re.compile(rf"\b(?:{'|'.join(_GIVEN.split())})\b|\b(?:named|name is|name was|goes by) \w+")),
    ("a date of birth", re.compile(
        rf"\b(?:dob\b|date of birth[ :]*(?:is|was|of|[0-9]|{_MONTH})|born (?:on|in) (?!hospital|labou?r)\w+)"
    )),
    ("a date", re.compile(
        rf"\b[0-9]{{1,4}}[/.-][0-9]{{1,2}}[/.-][0-9]{{1,4}}\b|\b{_MONTH} {_ORDINAL}\b(?! (?:time|dose))"
        rf"|\b{_ORDINAL} (?:of )?{_MONTH}\b|\b(?:19|20)[0-9]{{2}}\b|\b(?:nineteen|twenty) \w+ty \w+\b"
    )),
    ("a record number", re.compile(
        r"\b(?:mrn|nhs number|ssn|social security|(?:record|hospital|account|insurance|policy|passport) number)\b"
    )),
    ("a telephone number", re.compile(r"\+?[0-9][0-9() .-]{6,}[0-9]")),
    ("a long number", re.compile(rf"\b[0-9]{{5,}}\b|\b(?:{_DIGIT}[ -]){{4,}}{_DIGIT}\b")),
    ("an e-mail or web address", re.compile(r"\S+@\S+|\bat \w+ dot (?:com|org|net|edu)\b|https?:|\bwww\.")),
    ("a postal address", re.compile(
        rf"\b(?:[0-9]+|{_DIGIT}) (?:\w+ ){{1,2}}{_STREET}\b|\bzip code\b|\bpostcode\b"
    )),
    ("an age above 89", re.compile(
        r"\b(?:9[0-9]|1[01][0-9]|ninety(?:[ -]\w+)?|a? ?hundred(?: and \w+)?)[ -]?years?[ -]old"
    )),
)  # fmt: skip
"""What it looks like -> the pattern, tried on the text as it stands and in lower case."""


def identifier(text: str) -> str:
    """What in ``text`` looks like an identifier of a person, in words; nothing if nothing does.

    >>> identifier("Mr. Okafor was given cefazolin before the first cut."), identifier("he was born on march third")
    ('a name with a title', 'a date of birth')
    >>> identifier("call the doctor on call if the pressure drops below ninety again")
    ''
    """
    for what, pattern in PATTERNS:
        if pattern.search(text) or pattern.search(text.lower()):
            return what
    return ""
