"""Which rows the model learns from and which it is judged on, and what training has seen of each judged row.

Pure: rows in, rows out. The draw depends on the rows' ids and the seed, never on the order of the file.

Whole voices, sentences and terms are held out first. They count towards each category's validation fraction; single
rows, drawn at random, fill up to it, so that ``same sentence`` rows exist too. Where whole hold-outs already exceed the
fraction, one such row per category is still drawn if the category has one to give.

Rows are drawn by *take*: rows that share a recording, or the same words in the same voice at the same noise level,
stay on one side, because they would otherwise be trained on and judged on at once.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from clinical_asr.config import SplitConfig
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.records import ClinicalUtterance, Decision, EntityCategory, Stratum
from clinical_asr.text import normalise

AUDIO_DIGEST = "audio_digest"
"""Extra field of a manifest row that, where present, says that two files hold the same recording."""


class TooFewRowsError(FlywheelError):
    """A priority category is too small to be split; ``decision`` sends the cycle back to build (exit code 3)."""

    exit_code = 3

    def __init__(self, counts: Mapping[str, int], needed: int) -> None:
        named = ", ".join(f"{name} has {n}" for name, n in counts.items())
        what = f"a priority category needs {needed} rows to be split: {named}"
        super().__init__(what, where="split", mend="add terms, voices or contexts of it, then build again")
        self.decision = Decision(
            verdict="go back",
            reason=what,
            evidence={"rows": dict(counts), "needed": needed},
            next_stage="build",
            exit_code=3,
        )


@dataclass(frozen=True)
class Split:
    """``train`` and ``validation`` share no row and together hold all of them, each sorted by id."""

    train: list[ClinicalUtterance]
    validation: list[ClinicalUtterance]
    """Each row carries ``stratum``, ``seen_sentence``, ``seen_voice``, ``seen_term`` and ``seen_take`` in ``extra``."""
    strata: dict[str, Stratum]
    """Row id -> what training has seen of it; ``trained`` for the rows of ``train``."""
    warnings: list[str]

    def counts(self) -> dict[str, dict[str, int]]:
        """Rows per category: ``{"drug": {"trained": 80, "same sentence": 10, ...}, ...}``."""
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for row in (*self.train, *self.validation):
            table[row.entity_category.value][self.strata[row.id].value] += 1
        return {category: dict(table[category]) for category in sorted(table)}


@dataclass
class _Draw:
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


def split(rows: Sequence[ClinicalUtterance], config: SplitConfig | None = None) -> Split:
    """Divide ``rows`` into training and validation, stratified by entity category.

    A category of one row goes to training with a warning. Raises TooFewRowsError (exit code 3) if a priority one is
    too small, ConfigError if a hold-out would leave nothing to train on, FlywheelError on missing or doubled ids.
    """
    config = config or SplitConfig()
    rows = _checked(rows, config)
    sentences = {row.id: normalise(row.text) for row in rows}
    draw = _Draw(rows, sentences, _takes(rows, sentences))
    _hold_out_voices(draw, config)
    _hold_out_terms(draw, config)
    _hold_out_sentences(draw, config)
    warnings = _fill_up(draw, config)
    train = draw.left()
    if not train:
        raise ConfigError("leave no row to train on", where="--hold-out-*", mend="hold out less")
    return _labelled(draw, train, warnings + _empty_category_warnings(rows, train))


def _checked(rows: Sequence[ClinicalUtterance], config: SplitConfig) -> list[ClinicalUtterance]:
    ordered = sorted(rows, key=lambda row: row.id)
    doubled = [row_id for row_id, n in Counter(row.id for row in ordered).items() if n > 1 or not row_id]
    if doubled:
        raise FlywheelError(
            f"row id {doubled[0]!r} is missing or stands twice", where="split", mend="run: clinical-asr manifest check"
        )
    sizes = Counter(row.entity_category for row in ordered)
    small = {c.value: sizes[c] for c in config.priority_categories if sizes[c] < config.min_rows_per_category}
    if small:
        raise TooFewRowsError(small, config.min_rows_per_category)
    return ordered


def _takes(rows: Sequence[ClinicalUtterance], sentences: Mapping[str, str]) -> dict[str, list[str]]:
    """Row id -> ids of its take, itself included (union of all rows that share any key)."""
    take_of: dict[str, list[str]] = {}
    by_key: dict[tuple[object, ...], str] = {}
    for row in rows:
        take_of[row.id] = [row.id]
        for key in _take_keys(row, sentences[row.id]):
            first = by_key.setdefault(key, row.id)
            _join(take_of, first, row.id)
    return take_of


def _take_keys(row: ClinicalUtterance, sentence: str) -> list[tuple[object, ...]]:
    # A NeMo manifest may cut many rows from one file by offset; those are different recordings.
    offset = row.extra.get("offset", 0)
    keys: list[tuple[object, ...]] = [
        ("file", row.audio_filepath, offset),
        ("said", sentence, row.voice_id, row.noise_level),
    ]
    digest = row.extra.get(AUDIO_DIGEST)
    return [*keys, ("digest", str(digest), offset)] if digest else keys


def _join(take_of: dict[str, list[str]], one: str, other: str) -> None:
    if take_of[one] is take_of[other]:
        return
    small, large = sorted((take_of[one], take_of[other]), key=len)
    large.extend(small)
    for row_id in small:
        take_of[row_id] = large


def _rng(config: SplitConfig, purpose: str) -> random.Random:
    """An own stream per purpose, so that holding out a voice does not change which terms are held out."""
    return random.Random(f"{config.seed}/{purpose}")


def _hold_out_voices(draw: _Draw, config: SplitConfig) -> None:
    voices = sorted({row.voice_id for row in draw.rows})
    if config.hold_out_voices and config.hold_out_voices >= len(voices):
        raise ConfigError(
            f"the manifest has only {len(voices)} voices", where="--hold-out-voices", mend="keep one to train on"
        )
    chosen = set(_rng(config, "voices").sample(voices, config.hold_out_voices))
    draw.hold(row.id for row in draw.rows if row.voice_id in chosen)


def _hold_out_terms(draw: _Draw, config: SplitConfig) -> None:
    chosen = _chosen_terms(draw.rows, config)
    draw.hold(row.id for row in draw.rows if _mentions_any(draw.sentence[row.id], normalise(row.term), chosen))


def _chosen_terms(rows: Sequence[ClinicalUtterance], config: SplitConfig) -> set[str]:
    """Terms to hold out, spread over the categories in turn, priority categories first; each keeps one term."""
    pools: dict[EntityCategory, list[str]] = {}
    for category in _priority_first({row.entity_category for row in rows}, config):
        terms = sorted({normalise(row.term) for row in rows if row.entity_category is category})
        _rng(config, f"terms/{category}").shuffle(terms)
        pools[category] = terms[1:]
    in_turn = [pool[i] for i in range(len(rows)) for pool in pools.values() if i < len(pool)]
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


def _hold_out_sentences(draw: _Draw, config: SplitConfig) -> None:
    if not config.hold_out_sentences:
        return
    rows = draw.left()
    for category in sorted({row.entity_category for row in rows}):
        chosen = _chosen_sentences([row for row in rows if row.entity_category is category], draw, config, category)
        draw.hold(row.id for row in rows if draw.sentence[row.id] in chosen)


def _chosen_sentences(
    rows: Sequence[ClinicalUtterance], draw: _Draw, config: SplitConfig, category: EntityCategory
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


def _fill_up(draw: _Draw, config: SplitConfig) -> list[str]:
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
    draw: _Draw, free: Sequence[ClinicalUtterance], wanted: int, fits: Callable[[ClinicalUtterance], bool]
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


def _ensure_same_sentence(draw: _Draw, free: Sequence[ClinicalUtterance]) -> None:
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


def _labelled(draw: _Draw, train: list[ClinicalUtterance], warnings: list[str]) -> Split:
    seen = _Seen(train, draw.sentence)
    facts = {row.id: seen.facts(row, draw.sentence[row.id]) for row in draw.rows if row.id in draw.held}
    validation = [
        msgspec.structs.replace(row, extra={**row.extra, "stratum": stratum_of(facts[row.id]).value, **facts[row.id]})
        for row in draw.rows
        if row.id in draw.held
    ]
    strata = {row.id: Stratum.TRAINED for row in train} | {i: stratum_of(known) for i, known in facts.items()}
    return Split(train, validation, strata, warnings)


class _Seen:
    """What training hears, so that a judged row can be asked what of it is new."""

    def __init__(self, train: Sequence[ClinicalUtterance], sentences: Mapping[str, str]) -> None:
        self.sentences = {sentences[row.id] for row in train}
        self.voices = {row.voice_id for row in train}
        self.said = {(sentences[row.id], row.voice_id) for row in train}
        self._terms = {normalise(row.term): True for row in train}

    def facts(self, row: ClinicalUtterance, sentence: str) -> dict[str, bool]:
        """What of a judged row training has heard."""
        return {
            "seen_sentence": sentence in self.sentences,
            "seen_voice": row.voice_id in self.voices,
            "seen_term": self._heard(normalise(row.term)),
            "seen_take": (sentence, row.voice_id) in self.said,  # the same words in the same voice, other noise
        }

    def _heard(self, term: str) -> bool:
        if term not in self._terms:
            self._terms[term] = any(f" {term} " in f" {sentence} " for sentence in self.sentences)
        return self._terms[term]


def stratum_of(facts: Mapping[str, bool]) -> Stratum:
    """The gravest novelty names the row: new term, then new sentence, then new voice, else same sentence.

    >>> stratum_of({"seen_term": True, "seen_sentence": False, "seen_voice": False}).value
    'new sentence'
    >>> stratum_of({"seen_term": False, "seen_sentence": True, "seen_voice": True}).value
    'new term'
    """
    if not facts["seen_term"]:
        return Stratum.NEW_TERM
    if not facts["seen_sentence"]:
        return Stratum.NEW_SENTENCE
    return Stratum.SAME_SENTENCE if facts["seen_voice"] else Stratum.NEW_VOICE


def _empty_category_warnings(rows: Sequence[ClinicalUtterance], train: Sequence[ClinicalUtterance]) -> list[str]:
    """Categories that training does not hear, or of which most rows are held out."""
    total = Counter(row.entity_category for row in rows)
    kept = Counter(row.entity_category for row in train)
    shares = {category: 1 - kept[category] / n for category, n in sorted(total.items())}
    return [
        f"{category}: {share:.0%} of {total[category]} rows are held out"
        for category, share in shares.items()
        if share > 0.5
    ]
