"""Rows that choose among candidates of one fine-tuning. They are taken out of the training rows, so that the held-out
rows, which decide, are listened to once, by the one model that was chosen. Pure.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from clinical_asr.jsonl import to_dict
from clinical_asr.records import Utterance
from clinical_asr.text import normalise, term_key

LEFT = 2
"""Sentences that training must keep of a term before one of it may choose: what is not taught cannot be chosen by."""


def term_of(row: Utterance) -> str:
    """The clinical entity of a row; empty for general speech."""
    return str(to_dict(row).get("term") or "")


def carve(rows: Sequence[Utterance], fraction: float, seed: int) -> set[str]:
    """Ids of about ``fraction`` of the rows: whole sentences, in every voice, at most one of a term in each lap.

    Each keeps ``LEFT`` sentences of its term for training, so what they ask is: is the term known in a new sentence?

    >>> rows = [Utterance(audio_filepath=f"{s}{v}", text=f"give it {s}", duration=1.0, id=f"{s}{v}")
    ...         for s in range(5) for v in "ab"]
    >>> sorted(carve(rows, 0.2, seed=1)), len(carve(rows, 0.9, seed=1))
    (['2a', '2b'], 6)
    """
    sentences: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        sentences[term_key(term_of(row))][normalise(row.text)].append(row.id)
    draw = random.Random(f"selection/{seed}")
    decks = [draw.sample([ids for _, ids in sorted(of.items())], len(of)) for _, of in sorted(sentences.items())]
    draw.shuffle(decks)
    taken: set[str] = set()
    for lap in range(max(map(len, decks), default=0)):
        for deck in decks:
            if len(taken) >= fraction * len(rows):
                return taken
            if lap < len(deck) - LEFT:
                taken.update(deck[lap])
    return taken
