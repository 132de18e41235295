"""Stage sentences: every term in several contexts, in sentences that somebody on a ward would say.

Frames come from ``data/templates.yaml``: entity category x context, at least eight each. Terms are dealt onto frames so
that no two terms stand in the same set of frames: a model that learns a frame by heart has then learned no term.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import intake
from clinical_asr.errors import ConfigError, ManifestError
from clinical_asr.records import EntityCategory, Sentence, Term
from clinical_asr.wording import SLOT, WORDS, Style, agreement, fault, fill

CONTEXTS = ("dictation", "handoff", "chart_note", "history")

Frames = Mapping[EntityCategory, Mapping[str, Sequence[str]]]


def load_frames(path: Path | None = None) -> Frames:
    """Frames by category and context: the shipped ones, or a person's own YAML. Raises ManifestError."""
    source = path or resources.files("clinical_asr") / "data" / "templates.yaml"
    try:
        content = intake.document(path, intake.LARGEST_YAML) if path else source.read_bytes()
        document: Any = intake.plain_yaml(content)
        frames = msgspec.convert(document, dict[EntityCategory, dict[str, list[str]]])
    except OSError as error:
        raise ManifestError(source, None, "", str(error.strerror).lower(), "check the path") from None
    except (ValueError, msgspec.ValidationError) as error:
        why = f"is not a file of sentence frames ({' '.join(str(error).split())[:120]})"
        raise ManifestError(source, None, "", why, "write category: {context: [frames]}") from None
    _require_slots(source, frames)
    return frames


def _require_slots(source: object, frames: Frames) -> None:
    for category, contexts in frames.items():
        for context, cell in contexts.items():
            for number, frame in enumerate(cell, 1):
                if why := fault(frame):
                    where = f"{category.value}/{context} frame {number}"
                    mend = f"write {SLOT} once, and slots as the package's frames do"
                    raise ManifestError(source, None, where, why, mend)


def build_sentences(
    terms: Sequence[Term],
    contexts_per_term: int = 4,
    seed: int = 42,
    *,
    frames: Frames | None = None,
    style: Style = "lower",
) -> list[Sentence]:
    """``contexts_per_term`` sentences for every term, in as many contexts as there are, each in another frame.

    A term that is appended to the list leaves the sentences of the terms before it as they are.

    Raises:
        ConfigError: fewer than 3 contexts per term, or more than there are frames.
        ManifestError: the frames lack a category, or a term makes a sentence too long.
    """
    if contexts_per_term < 3:
        raise ConfigError("must be at least 3", where="--contexts-per-term")
    known = frames or load_frames()
    decks = {category: _shuffled(known, category, seed) for category in {term.entity_category for term in terms}}
    turns = dict.fromkeys(decks, 0)
    taken: set[frozenset[str]] = set()
    sentences: list[Sentence] = []
    for term in terms:
        deck = decks[term.entity_category]
        chosen, turns[term.entity_category] = _choose(deck, contexts_per_term, turns[term.entity_category], taken)
        sentences += [_sentence(term, identity, deck[identity.split("/")[1]][identity], style) for identity in chosen]
    return sentences


Deck = Mapping[str, Mapping[str, str]]
"""Context to (frame identity to frame), in the order of dealing."""


def _shuffled(frames: Frames, category: EntityCategory, seed: int) -> Deck:
    contexts = frames.get(category)
    if not contexts or not all(contexts.values()):
        raise ManifestError("sentence frames", None, category.value, "has no frames", "write frames for this category")
    deck = {}
    for context, cell in contexts.items():
        named = [(f"{category.value}/{context}/{number}", frame) for number, frame in enumerate(cell, 1)]
        random.Random(f"{seed}/{category.value}/{context}").shuffle(named)
        deck[context] = dict(named)
    return deck


def _choose(deck: Deck, count: int, turn: int, taken: set[frozenset[str]]) -> tuple[list[str], int]:
    """Frames of the next free turn, and the turn after it. A set of frames that another term has is passed over."""
    there = sum(len(cell) for cell in deck.values())
    if count > there:
        raise ConfigError(f"is {count}, more than there are frames", "--contexts-per-term", f"at most {there}")
    for attempt in range(turn, turn + 10_000):
        chosen = _deal(deck, count, attempt)
        if len(set(chosen)) == count and frozenset(chosen) not in taken:
            taken.add(frozenset(chosen))
            return chosen, attempt + 1
    raise ConfigError("the frames are used up: every set of them belongs to a term", mend="write more frames")


def _deal(deck: Deck, count: int, turn: int) -> list[str]:
    """Frames of one turn: contexts in turn, and in each context another step through its frames.

    With eight frames a context, turns 0 to 63 differ in at least two frames of any three contexts but few.
    """
    contexts = list(deck)
    chosen = []
    for place in range(count):
        which = (turn + place) % len(contexts)
        cell = list(deck[contexts[which]])
        lap, far = turn // len(cell), turn // len(cell) ** 2
        chosen.append(cell[(turn + which * lap + (which == 2) * far + place // len(contexts)) % len(cell)])
    return chosen


def _sentence(term: Term, identity: str, frame: str, style: Style) -> Sentence:
    text = fill(frame, term.term, style, agreement(term))
    if len(text.split()) not in WORDS:
        why = f"{len(text.split())} words with frame {identity}: {text!r}"
        raise ManifestError("terms", None, term.term, why, f"a sentence has {WORDS[0]} to {WORDS[-1]} words")
    return Sentence(
        text=text,
        term=term.term,
        entity_category=term.entity_category,
        context_type=identity.split("/")[1],
        frame=identity,
    )
