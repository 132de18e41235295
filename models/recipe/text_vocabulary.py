"""Which words count as plain English: the wordfreq list, sorted into parts of speech with WordNet's help."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

COMMON, KNOWN, CORE, SHIELDED = 25_000, 60_000, 3_000, 4_000
_POS = {"n": "noun", "v": "verb", "a": "adj", "s": "adj", "r": "adv"}
_RUDE_GLOSS = re.compile(
    r"\b(obscene|slur|vulgar|offensive (?:term|name|word)|disparag\w+ (?:term|name|word))\b"
)
_RUDE = re.compile(
    r"^(?:\w*fuck\w*|shit\w*|bullshit\w*|cunt\w*|nigg\w*|fag(?:s|got\w*)?|cocks?|dicks?|puss(?:y|ies)|"
    r"whor\w*|slut\w*|bitch\w*|rap(?:e[sd]?|ist\w*|ing)|porn\w*|tits?|ass(?:es|hole\w*)?|retard\w*|anal|"
    r"blowjob\w*|masturb\w*|orgasm\w*|dildo\w*|cum(?:s|ming)?|jizz\w*|hentai|milf\w*|nazi\w*|wank\w*|sex\w*)$"
)
# Last look at whole sentences: words WordNet does not mark as rude, and what is out of place in a demo.
UNWELCOME = re.compile(
    r"\b(?:dickheads?|negros?|negroes|goddamn\w*|bastards?|horny|nudes?|nudity|erotic\w*|molest\w*|boobs?|titties|"
    r"piss\w*|crap|crappy|douche\w*|bondage|fetish\w*|incest\w*|hookers?|homo|hardcore|strippers?|pedophil\w*|"
    r"jackass|badass|dumbass|threesome|boner|redskins?|skanks?|buggers?|hitler|slags?)\b"
)
# Read by a synthesiser letter by letter or in its own way, so of no use as a transcript.
_COMPUTER = frozenset(
    [
        "html",
        "http",
        "https",
        "url",
        "urls",
        "php",
        "sql",
        "xml",
        "css",
        "linux",
        "unix",
        "api",
        "apis",
        "gui",
        "ascii",
        "unicode",
        "utf",
        "stdin",
        "stdout",
        "stderr",
        "init",
        "malloc",
        "numpy",
        "scipy",
        "pandas",
        "boolean",
        "int",
        "str",
        "tuple",
        "tuples",
        "regex",
        "perl",
        "tcl",
        "ssh",
        "ftp",
        "tcp",
        "ip",
        "dns",
        "usb",
        "cpu",
        "gpu",
        "ram",
        "rom",
        "pdf",
        "gif",
        "png",
        "jpeg",
        "org",
        "com",
        "www",
        "usr",
        "etc",
        "vs",
        "eg",
        "ie",
        "ok",
        "id",
        "ids",
        "io",
        "app",
        "apps",
        "config",
        "configs",
        "param",
        "params",
        "args",
        "async",
        "del",
        "elif",
        "ceo",
        "cfo",
        "nba",
        "nfl",
        "nhl",
        "mlb",
        "usa",
        "uk",
        "uae",
        "fbi",
        "cia",
        "dna",
        "rna",
        "dvd",
        "cd",
        "tv",
        "pc",
        "mac",
        "lol",
        "omg",
        "wtf",
        "gonna",
        "gotta",
        "wanna",
        "im",
        "ive",
        "dont",
        "didnt",
        "doesnt",
        "cant",
        "wont",
        "isnt",
        "thats",
        "whats",
        "youre",
        "theyre",
        "hes",
        "shes",
        "lets",
        "ya",
        "ur",
        "il",
        "le",
        "la",
        "de",
        "el",
        "un",
        "una",
        "di",
        "du",
        "von",
        "van",
        "des",
        "les",
        "st",
        "nd",
        "rd",
        "th",
        "jr",
        "sr",
        "inc",
        "ltd",
        "corp",
        "dept",
        "mt",
        "ave",
        "blvd",
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "aka",
        "ibm",
        "bbc",
        "cnn",
        "nbc",
        "abc",
        "cbs",
        "hbo",
        "mtv",
        "espn",
        "nasa",
        "gdp",
        "ipo",
        "lgbt",
        "wifi",
        "iphone",
        "ipad",
        "ios",
        "youtube",
        "ebay",
        "metadata",
        "namespace",
        "namespaces",
        "runtime",
        "plugin",
        "plugins",
        "backend",
        "frontend",
        "charset",
        "timestamp",
        "timestamps",
        "hostname",
        "username",
        "filename",
        "filenames",
        "docstring",
        "emacs",
        "debian",
        "ubuntu",
        "doc",
        "docs",
        "var",
        "vars",
        "func",
        "env",
        "dict",
        "dev",
        "admin",
        "sync",
        "cache",
    ]
)


@dataclass(frozen=True)
class Vocabulary:
    """`plain` words may stand in a natural sentence; `decks` are the common words by part of speech."""

    plain: frozenset[str]
    decks: dict[str, list[str]]


def build_vocabulary(ranked: list[str], wordnet_lines: Iterable[str], excluded: list[str]) -> Vocabulary:
    """Vocabulary of a frequency-ranked word list and WordNet's data files."""
    classes, names, rude = _read_wordnet(wordnet_lines)
    rude -= set(ranked[:SHIELDED])
    plain: list[str] = []
    for rank, word in enumerate(ranked[:KNOWN]):
        if (
            not re.fullmatch(r"[a-z]+(?:'[a-z]+)?", word)
            or word in rude
            or _RUDE.match(word)
            or word in _COMPUTER
        ):
            continue
        if any(term in word for term in excluded) or not (re.search(r"[aeiouy]", word)):
            continue
        known = "'" in word or bool(_parts(word, classes))
        if known or rank < CORE or (rank < COMMON and len(word) > 3) or (word in names and len(word) > 3):
            plain.append(word)
    common = frozenset(ranked[:COMMON])
    return Vocabulary(
        frozenset(plain), _decks([word for word in plain if word in common and len(word) > 1], classes)
    )


def _decks(words: list[str], classes: dict[str, set[str]]) -> dict[str, list[str]]:
    decks: dict[str, list[str]] = defaultdict(list)
    for word in words:
        parts = _parts(word, classes)
        for part in parts:
            decks[part].append(word)
        # Names, numerals and grammar words have no slot of their own.
        if not parts or parts == {"adv"}:
            decks["any"].append(word)
    return dict(decks)


def _parts(word: str, classes: dict[str, set[str]]) -> set[str]:
    """Parts of speech of a word form: base forms as listed, regular inflections by their ending."""
    if "'" in word:
        return set()
    parts = {part for part, words in classes.items() if word in words}
    stems = (
        {word[:-1], word[:-2], word[:-3] + "y"} if word.endswith("s") and not word.endswith("ss") else set()
    )
    if not parts and any(stem in classes["noun"] for stem in stems):
        parts.add("nouns")
    if any(stem in classes["verb"] for stem in stems) and not parts - {"nouns"}:
        parts.add("verbs")
    for ending, part in (("ed", "verbed"), ("ing", "verbing")):
        stem = word.removesuffix(ending)
        roots = {stem, stem + "e", stem[:-1], stem[:-1] + "y" if ending == "ed" else stem}
        if stem != word and len(stem) > 2 and any(root in classes["verb"] for root in roots):
            parts = {part}
    return parts


def _read_wordnet(lines: Iterable[str]) -> tuple[dict[str, set[str]], set[str], set[str]]:
    classes: dict[str, set[str]] = {"noun": set(), "verb": set(), "adj": set(), "adv": set()}
    names: set[str] = set()
    rude: set[str] = set()
    for line in lines:
        if line.startswith(" ") or " | " not in line:
            continue
        head, gloss = line.split(" | ", 1)
        fields = head.split()
        for word in (field.split("(")[0] for field in fields[4 : 4 + 2 * int(fields[3], 16) : 2]):
            if re.fullmatch(r"[a-z]+", word):
                classes[_POS[fields[2]]].add(word)
                if _RUDE_GLOSS.search(gloss):
                    rude.add(word)
            elif re.fullmatch(r"[A-Z][a-z]+", word):
                names.add(word.lower())
    return classes, names, rude
