"""The page's own files: a document, a style, a script and an icon, sent as they are. Nothing is built."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path

import jinja2

ASSETS = {
    "audition.css": "text/css; charset=utf-8",
    "audition.js": "text/javascript; charset=utf-8",
    "audition_sound.js": "text/javascript; charset=utf-8",
    "audition.svg": "image/svg+xml",
}
"""Name -> media type: what can be asked for, and nothing beside it."""

SOUNDS = (
    ("ˈ", "main stress, before the syllable"), ("ˌ", "lighter stress"), ("ː", "long"),
    ("ə", "about"), ("ɪ", "sit"), ("i", "happy"), ("iː", "see"), ("ɛ", "bed"), ("æ", "cat"), ("ɑː", "father"),
    ("ɔː", "law"), ("ʊ", "book"), ("uː", "blue"), ("ʌ", "cup"), ("ɜː", "bird, British"), ("ɚ", "letter, American"),
    ("eɪ", "day"), ("aɪ", "my"), ("ɔɪ", "boy"), ("aʊ", "now"), ("oʊ", "go"), ("ɹ", "red"), ("j", "yes"),
    ("ʃ", "ship"), ("ʒ", "vision"), ("tʃ", "chin"), ("dʒ", "jam"), ("θ", "thin"), ("ð", "this"), ("ŋ", "sing"),
    ("ɡ", "go"),
)  # fmt: skip
"""Letters that a keyboard lacks, each with a word that has it."""


@lru_cache(maxsize=len(ASSETS))
def asset(name: str) -> bytes:
    """The content of one of :data:`ASSETS`."""
    return _template(name)


def page(tab: str, by: str, *, ask: bool, folder: Path) -> str:
    """The document for one tab. ``by`` is who listened last; with ``ask`` the page asks whether it is still they."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    made = environment.from_string(_template("audition.html.j2").decode("utf-8"))
    return made.render(tab=tab, by=by, ask=ask, folder=str(folder), sounds=SOUNDS)


def _template(name: str) -> bytes:
    return (resources.files("clinical_asr") / "templates" / name).read_bytes()
