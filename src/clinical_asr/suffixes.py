"""What the ending of a term suggests: candidates for a person to hear, never applied by themselves.

Drug stems (INN/USAN) and surgical endings are said one way whatever stands before them, while an engine's rules stumble
just there (``-prazole``, ``-mab``). A candidate is the engine's own reading of what stands before the ending, plus the
ending as it is said in American English.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from clinical_asr.ipa import PhonemeError

SUFFIXES = {
    "mycin": "ˈmaɪsɪn", "micin": "ˈmaɪsɪn", "prazole": "ˈpɹeɪzoʊl", "conazole": "ˈkɑːnəzoʊl", "nidazole": "ˈnaɪdəzoʊl",
    "azole": "ˈeɪzoʊl", "statin": "ˈstætɪn", "sartan": "ˈsɑːɹtən", "cillin": "ˈsɪlɪn", "parin": "ˈpɛɹɪn",
    "parinux": "ˈpɛɹɪnʌks", "zumab": "ˈzuːmæb", "ximab": "ˈzɪmæb", "lumab": "ˈluːmæb", "tumab": "ˈtuːmæb",
    "mumab": "ˈmuːmæb", "kinumab": "ˈkɪnuːmæb", "mab": "mæb", "tinib": "ˈtɪnɪb", "ciclib": "ˈsaɪklɪb",
    "zomib": "ˈzoʊmɪb", "nib": "nɪb", "pril": "pɹɪl", "olol": "əlɔːl", "caine": "keɪn", "floxacin": "ˈflɑːksəsɪn",
    "oxacin": "ˈɑːksəsɪn", "cycline": "ˈsaɪkliːn", "dipine": "dɪpiːn", "gliptin": "ˈɡlɪptɪn",
    "gliflozin": "ɡlɪˈfloʊzɪn", "glitazone": "ˈɡlɪtəzoʊn", "glutide": "ˈɡluːtaɪd", "tidine": "tɪdiːn",
    "setron": "sɛtɹɑːn", "triptan": "ˈtɹɪptæn", "cyclovir": "ˈsaɪkloʊvɪɹ",
    "ciclovir": "ˈsaɪkloʊvɪɹ", "navir": "nəvɪɹ", "buvir": "bjuːvɪɹ",
    "vir": "vɪɹ", "xaban": "ksəbæn", "gatran": "ˈɡætɹən", "grel": "ɡɹɛl", "zepam": "zəpæm", "zolam": "zəlæm",
    "barbital": "ˈbɑːɹbɪtɔːl", "thiazide": "ˈθaɪəzaɪd", "semide": "səmaɪd", "lukast": "ˈluːkæst",
    "terol": "tɛɹɔːl", "sone": "soʊn", "solone": "səloʊn", "platin": "ˈplætɪn", "rubicin": "ˈɹuːbɪsɪn",
    "taxel": "ˈtæksəl", "tecan": "ˈtiːkæn", "penem": "ˈpɛnəm", "bactam": "ˈbæktəm", "fungin": "ˈfʌndʒɪn",
    "curonium": "kjʊˈɹoʊniəm", "curium": "ˈkjʊɹiəm", "dronate": "dɹəneɪt", "formin": "ˈfɔːɹmɪn", "ectomy": "ˈɛktəmi",
    "ostomy": "ˈɑːstəmi", "otomy": "ˈɑːtəmi", "itis": "ˈaɪtɪs", "oscopy": "ˈɑːskəpi", "scopy": "skəpi",
    "plasty": "ˌplæsti", "pexy": "ˌpɛksi", "rrhaphy": "ɹəfi", "centesis": "sɛnˈtiːsɪs", "ography": "ˈɑːɡɹəfi",
    "gram": "ˌɡɹæm", "emia": "ˈiːmiə", "osis": "ˈoʊsɪs", "pathy": "pəθi", "algia": "ˈældʒə", "oma": "ˈoʊmə",
    "ologist": "ˈɑːlədʒɪst",
}  # fmt: skip
"""Ending to how it is said. One that begins with ˈ draws the stress; the others leave it before them."""


class Candidate(NamedTuple):
    """A pronunciation to try, and what speaks for it."""

    ipa: str
    why: str


def candidates(term: str, own_ipa: Callable[[str], str], require: Callable[[str], object]) -> list[Candidate]:
    """What each ending that fits suggests for ``term``, the longest ending first; none if nothing fits.

    ``own_ipa`` is the speech engine's reading of a text in IPA; ``require`` raises PhonemeError for IPA that it cannot
    say. A candidate that it cannot say, or that equals its own reading of the term, is left out.

    >>> own = {"pantoprazole": "pˈæntəpɹˌæzoʊl", "panto": "pˈæntoʊ", "pantopr": "pˈæntəpɹ"}.__getitem__
    >>> for candidate in candidates("pantoprazole", own, str): print(*candidate)
    pˌæntoʊˈpɹeɪzoʊl -prazole is said ˈpɹeɪzoʊl
    pˌæntəpɹˈeɪzoʊl -azole is said ˈeɪzoʊl
    """
    *before, last = term.split() or [""]
    seen = {_bare(own_ipa(term))} if last else set()
    found: list[Candidate] = []
    for ending in sorted((e for e in SUFFIXES if last.lower().endswith(e)), key=len, reverse=True):
        stem = last[: -len(ending)]
        if len(stem) < 2 or not stem.isalpha():
            continue
        word = _joined(own_ipa(stem), SUFFIXES[ending])
        ipa = " ".join([*(own_ipa(other) for other in before), word])
        if word and _bare(ipa) not in seen and _sayable(ipa, require):
            seen.add(_bare(ipa))
            found.append(Candidate(ipa, f"-{ending} is said {SUFFIXES[ending]}"))
    return found


def _joined(stem: str, suffix: str) -> str:
    """One word of two readings: an ending that draws the stress makes the stem's secondary.

    >>> _joined("ˈoʊm", "ˈpɹeɪzoʊl"), _joined("ɹˈæmɪ", "pɹɪl")
    ('ˌoʊmˈpɹeɪzoʊl', 'ɹˈæmɪpɹɪl')
    """
    stem = stem.replace(" ", "")
    return (stem.replace("ˌ", "").replace("ˈ", "ˌ") if "ˈ" in suffix else stem) + suffix if stem else ""


def _sayable(ipa: str, require: Callable[[str], object]) -> bool:
    try:
        require(ipa)
    except PhonemeError:
        return False
    return True


def _bare(ipa: str) -> str:
    """Sounds without the place of their marks, to tell one reading from another."""
    return re.sub(r"[ ˌˈ]", "", ipa)
