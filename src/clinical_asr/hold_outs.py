"""What a split holds out: whole voices, terms and sentences first, then single takes until each category has its share.

Whole hold-outs count towards each category's validation fraction; single rows, drawn at random, fill up to it, so that
``same sentence`` rows exist too. Where whole hold-outs already exceed the fraction, one such row per category is still
drawn if the category has one to give. Pure. The draw depends on the rows' ids and the seed, never on the order of the
file.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from clinical_asr.config import SplitConfig
from clinical_asr.errors import ConfigError
from clinical_asr.records import ClinicalUtterance, EntityCategory
from clinical_asr.text import normalise


@dataclass
class Draw:
    """The rows, how they hang together, and which ids are held out so far."""

    rows: list[ClinicalUtterance]
    sentence: dict[str, str]
    takes: dict[str, list[str]]
    held: set[str] = field(default_factory=set)

    def hold(self, ids: Iterable[str]) -> None:
        """Hold out rows, each with its whole take."""
        for row_id in ids:
            self.held.update(self.takes[row_id])

    def left(self) -> list[ClinicalUtterance]:
        """Rows still free to be trained on."""
        return [row for row in self.rows if row.id not in self.held]


def hold_out(draw: Draw, config: SplitConfig) -> list[str]:
    """Hold out what ``config`` asks for; the warnings. Raises ConfigError if the rows cannot give it."""
    _hold_out_voices(draw, config)
    _hold_out_terms(draw, config)
    _hold_out_sentences(draw, config)
    return _fill_up(draw, config)


def _rng(config: SplitConfig, purpose: str) -> random.Random:
    """An own stream per purpose, so that holding out a voice does not change which terms are held out."""
    return random.Random(f"{config.seed}/{purpose}")


def _hold_out_voices(draw: Draw, config: SplitConfig) -> None:
    voices = sorted({row.voice_id for row in draw.rows})
    if config.hold_out_voices and config.hold_out_voices >= len(voices):
        raise ConfigError(
            f"the manifest has only {len(voices)} voices", where="--hold-out-voices", mend="keep one to train on"
        )
    chosen = set(_rng(config, "voices").sample(voices, config.hold_out_voices))
    draw.hold(row.id for row in draw.rows if row.voice_id in chosen)


def _hold_out_terms(draw: Draw, config: SplitConfig) -> None:
    chosen = _chosen_terms(draw.rows, config)
    draw.hold(row.id for row in draw.rows if _mentions_any(draw.sentence[row.id], normalise(row.term), chosen))


def _chosen_terms(rows: Sequence[ClinicalUtterance], config: SplitConfig) -> set[str]:
    """Terms to hold out, spread over the categories in turn, priority categories first; each keeps one term."""
    pools: dict[EntityCategory, list[str]] = {}
    for category in _priority_first({row.entity_category for row in rows}, config):
        terms = sorted({normalise(row.term) for row in rows if row.entity_category is category})
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


def _mentions_any(sentence: str, term: str, terms: Collection[str]) -> bool:
    """True if the row is about one of ``terms`` or merely says it: hearing a term in passing is hearing it."""
    return term in terms or any(f" {one} " in f" {sentence} " for one in terms)


def _hold_out_sentences(draw: Draw, config: SplitConfig) -> None:
    if not config.hold_out_sentences:
        return
    rows = draw.left()
    for category in sorted({row.entity_category for row in rows}):
        chosen = _chosen_sentences([row for row in rows if row.entity_category is category], draw, config, category)
        draw.hold(row.id for row in rows if draw.sentence[row.id] in chosen)


def _chosen_sentences(
    rows: Sequence[ClinicalUtterance], draw: Draw, config: SplitConfig, category: EntityCategory
) -> set[str]:
    """A share of one category's sentences, spread over its terms; each term keeps a sentence to be trained on."""
    of_term: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        of_term[normalise(row.term)].add(draw.sentence[row.id])
    rng = _rng(config, f"sentences/{category}")
    pools = [
        rng.sample(sorted(of_term[term]), len(of_term[term]))[1:] for term in rng.sample(sorted(of_term), len(of_term))
    ]
    in_turn = [pool[i] for i in range(max(map(len, pools), default=0)) for pool in pools if i < len(pool)]
    wanted = max(1, int(config.hold_out_sentences * len({draw.sentence[row.id] for row in rows})))
    return set(list(dict.fromkeys(in_turn))[:wanted])


def _fill_up(draw: Draw, config: SplitConfig) -> list[str]:
    """Draw single takes until each category has its fraction; at least one take per category in any case."""
    warnings = []
    for category in sorted({row.entity_category for row in draw.rows}):
        rows = [row for row in draw.rows if row.entity_category is category]
        if len(rows) == 1:
            if rows[0].id not in draw.held:
                warnings.append(f"{category} has one row: it is trained on and nothing of it is judged")
            continue
        held = sum(row.id in draw.held for row in rows)
        missing = max(1, int(config.validation_fraction * len(rows))) - held
        free = [row for row in rows if row.id not in draw.held]
        _rng(config, f"rows/{category}").shuffle(free)
        if missing > 0:
            _draw_takes(draw, free, missing, lambda row: True)
        if held:
            _ensure_same_sentence(draw, free)
    return warnings


def _draw_takes(
    draw: Draw, free: Sequence[ClinicalUtterance], wanted: int, fits: Callable[[ClinicalUtterance], bool]
) -> None:
    """Hold out takes of ``free`` in turn until ``wanted`` rows of it are held; the category keeps a row to train on."""
    ids = {row.id for row in free}
    drawn: set[str] = set()
    for row in free:
        if len(drawn) >= wanted:
            return
        take = ids.intersection(draw.takes[row.id])
        if row.id not in draw.held and len(drawn | take) < len(ids) and fits(row):
            draw.hold([row.id])
            drawn |= take


def _ensure_same_sentence(draw: Draw, free: Sequence[ClinicalUtterance]) -> None:
    """Hold out one row of ``free`` whose sentence, voice and term training still has, unless one is held already."""
    left = draw.left()
    trained = Counter(draw.sentence[row.id] for row in left)
    voices = Counter(row.voice_id for row in left)
    if any(row.id in draw.held and trained[draw.sentence[row.id]] and voices[row.voice_id] for row in free):
        return
    own = {row.id: len(draw.takes[row.id]) for row in free}
    _draw_takes(
        draw,
        [row for row in free if row.id not in draw.held],
        1,
        lambda row: trained[draw.sentence[row.id]] > own[row.id] and voices[row.voice_id] > own[row.id],
    )
