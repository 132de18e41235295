"""What a split holds out: what is too long, whole voices, terms and sentences, then single takes until every category
has its share.

Whole hold-outs count towards each category's validation fraction; single rows, drawn at random, fill up to it, so that
``same sentence`` rows exist too. Where whole hold-outs already exceed the fraction, one such row per category is still
drawn if the category has one to give. Pure. The draw depends on the rows' ids and the seed, never on the order of the
file.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Collection, Sequence

import numpy as np

from clinical_asr.config import SplitConfig
from clinical_asr.errors import ConfigError
from clinical_asr.records import EntityCategory
from clinical_asr.split_columns import CATEGORIES, Array, SplitColumns

Texts = Callable[[Array], list[str]]
"""Positions in order of ids -> normalised texts of these rows."""
Saying = Callable[[Collection[str]], Array]
"""Normalised terms -> which rows say any of them, in order of ids."""


class Draw:
    """Which takes are held out so far: rows are held with their whole take."""

    def __init__(self, rows: SplitColumns) -> None:
        self.rows = rows
        self.sizes = np.bincount(rows.take)
        self._held = np.zeros(len(self.sizes), bool)

    def hold(self, rows: Array) -> None:
        """Hold out rows, by position or by a mask."""
        self._held[self.rows.take[rows]] = True

    @property
    def held(self) -> Array:
        """Mask of the rows that are held out."""
        return self._held[self.rows.take]

    @property
    def left(self) -> Array:
        """Positions of the rows still free to be trained on."""
        return np.flatnonzero(~self.held)


def hold_out(draw: Draw, config: SplitConfig, texts: Texts, saying: Saying) -> list[str]:
    """Hold out what ``config`` asks for; the warnings. Raises ConfigError if the rows cannot give it."""
    warnings = _hold_out_long(draw, config)
    _hold_out_voices(draw, config)
    _hold_out_terms(draw, config, saying)
    _hold_out_sentences(draw, config, texts)
    return warnings + _fill_up(draw, config)


def _hold_out_long(draw: Draw, config: SplitConfig) -> list[str]:
    """Rows that nobody trains on, with their whole takes."""
    long = draw.rows.duration > config.max_duration
    draw.hold(long)
    told = f"longer than {config.max_duration:g} s, and so held out: nobody trains on them"
    return [f"rows {told}: {np.count_nonzero(long)}"] if long.any() else []


def _rng(config: SplitConfig, purpose: str) -> random.Random:
    """An own stream per purpose, so that holding out a voice does not change which terms are held out."""
    return random.Random(f"{config.seed}/{purpose}")


def _hold_out_voices(draw: Draw, config: SplitConfig) -> None:
    voices = sorted(draw.rows.voices)
    if config.hold_out_voices and config.hold_out_voices >= len(voices):
        raise ConfigError(
            f"the manifest has only {len(voices)} voices", where="--hold-out-voices", mend="keep one to train on"
        )
    chosen = set(_rng(config, "voices").sample(voices, config.hold_out_voices))
    draw.hold(np.array([name in chosen for name in draw.rows.voices])[draw.rows.voice])


def _hold_out_terms(draw: Draw, config: SplitConfig, saying: Saying) -> None:
    """Rows about a chosen term, and those that merely say it: hearing a term in passing is hearing it."""
    chosen = _chosen_terms(draw.rows, config)
    if chosen:
        about = np.array([name in chosen for name in draw.rows.terms])[draw.rows.term]
        draw.hold(about | saying(chosen))


def _chosen_terms(rows: SplitColumns, config: SplitConfig) -> set[str]:
    """Terms to hold out, spread over the categories in turn, priority categories first; each keeps one term."""
    pools: dict[EntityCategory, list[str]] = {}
    for category in _priority_first(rows.sizes(), config):
        of_category = rows.term[rows.positions(CATEGORIES.index(category))]
        terms = sorted(rows.terms[number] for number in np.unique(of_category).tolist())
        _rng(config, f"terms/{category}").shuffle(terms)
        pools[category] = terms[1:]
    longest = max(map(len, pools.values()), default=0)
    in_turn = [pool[i] for i in range(longest) for pool in pools.values() if i < len(pool)]
    chosen = list(dict.fromkeys(in_turn))[: config.hold_out_terms]
    if len(chosen) < config.hold_out_terms:
        why = f"only {len(chosen)} terms can be held out and still leave each category one"
        raise ConfigError(why, where="--hold-out-terms", mend="add terms or hold out fewer")
    return set(chosen)


def _priority_first(categories: Collection[EntityCategory], config: SplitConfig) -> list[EntityCategory]:
    return sorted(categories, key=lambda c: (c not in config.priority_categories, c.value))


def _hold_out_sentences(draw: Draw, config: SplitConfig, texts: Texts) -> None:
    if not config.hold_out_sentences:
        return
    free = ~draw.held  # looked at once: what one category holds out stays another's to choose from
    for place, category in enumerate(CATEGORIES):
        rows = np.flatnonzero(free & (draw.rows.category == place))
        if len(rows):
            chosen = _chosen_sentences(draw.rows, rows, texts, config, category)
            draw.hold(free & np.isin(draw.rows.sentence, chosen))  # in whatever category it is said


def _chosen_sentences(
    columns: SplitColumns, rows: Array, texts: Texts, config: SplitConfig, category: EntityCategory
) -> list[int]:
    """A share of one category's sentences, spread over its terms; each term keeps a sentence to be trained on."""
    of_term = {columns.terms[term]: term for term in np.unique(columns.term[rows]).tolist()}
    rng = _rng(config, f"sentences/{category}")
    pools = []
    for term in rng.sample(sorted(of_term), len(of_term)):
        sentences = _by_text(columns, rows[columns.term[rows] == of_term[term]], texts)
        pools.append(rng.sample(sentences, len(sentences))[1:])
    in_turn = [pool[i] for i in range(max(map(len, pools), default=0)) for pool in pools if i < len(pool)]
    wanted = max(1, int(config.hold_out_sentences * len(np.unique(columns.sentence[rows]))))
    return list(dict.fromkeys(in_turn))[:wanted]


def _by_text(columns: SplitColumns, rows: Array, texts: Texts) -> list[int]:
    """The rows' sentences by their texts."""
    sentences, first = np.unique(columns.sentence[rows], return_index=True)
    said = texts(rows[first])
    return [sentence for _, sentence in sorted(zip(said, sentences.tolist(), strict=True))]


def _fill_up(draw: Draw, config: SplitConfig) -> list[str]:
    """Draw single takes until each category has its fraction; at least one take per category in any case."""
    warnings = []
    for place, category in enumerate(CATEGORIES):
        rows = draw.rows.positions(place)
        held = draw.held[rows]
        if len(rows) <= 1:
            if len(rows) and not held[0]:
                warnings.append(f"{category} has one row: it is trained on and nothing of it is judged")
            continue
        missing = max(1, int(config.validation_fraction * len(rows))) - int(held.sum())
        free = _shuffled(rows[~held], _rng(config, f"rows/{category}"))
        if missing > 0:
            _draw_takes(draw, free, missing)
        if held.any():
            _ensure_same_sentence(draw, free)
    return warnings


def _shuffled(rows: Array, rng: random.Random) -> Array:
    positions = array("q", rows.tolist())
    rng.shuffle(positions)
    return np.frombuffer(positions, np.int64)


def _draw_takes(draw: Draw, free: Array, wanted: int, fits: Array | None = None) -> None:
    """Hold out takes of ``free`` in turn until ``wanted`` rows of it are held; the category keeps a row to train on."""
    take = draw.rows.take[free]
    inside = np.bincount(take, minlength=len(draw.sizes))[take]  # of each row's take, how many rows are free
    drawn, chosen = 0, set[int]()
    suits: Sequence[bool] = (np.ones(len(free), bool) if fits is None else fits).tolist()
    for number, size, fit in zip(take.tolist(), inside.tolist(), suits, strict=True):
        if drawn >= wanted:
            break
        if fit and number not in chosen and drawn + size < len(free):
            chosen.add(number)
            drawn += size
    draw.hold(np.isin(draw.rows.take, list(chosen)))


def _ensure_same_sentence(draw: Draw, free: Array) -> None:
    """Hold out one row of ``free`` whose sentence, voice and term training still has, unless one is held already."""
    rows, left = draw.rows, draw.left
    trained = np.bincount(rows.sentence[left], minlength=int(rows.sentence.max()) + 1)
    voices = np.bincount(rows.voice[left], minlength=len(rows.voices))
    held = draw.held[free]
    if (held & (trained[rows.sentence[free]] > 0) & (voices[rows.voice[free]] > 0)).any():
        return
    free = free[~held]
    own = draw.sizes[rows.take[free]]
    _draw_takes(draw, free, 1, (trained[rows.sentence[free]] > own) & (voices[rows.voice[free]] > own))
