"""Several systems on identical rows: ranked, each set against the best, and side by side per category and per term.

Pure. ``ranking.json`` is the value as it stands::

    {"metric", "standings": [{"place", "name", "ker", "wer", ..., "difference", "low", "high", "p_value", "p_holm"}],
     "by_category": [{"key", "rows", "occurrences", "systems": [{"misses", "ker", ...}, ...]}], "by_term": [...],
     "signatures": {name: signature}, "terms_digest", "trained_rows", "left_out", "note"}

``systems`` of a group stand in the order of ``standings``. ``difference`` is a system minus the best one, a mean over
terms; its interval and p value are those of ``statistics.compare_by_term``. The best is chosen by the same rows, so
its lead is a little flattered; Holm's correction is for the number of systems set against it, not for that choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from clinical_asr.board_table import BoardTable
from clinical_asr.cycle import manifest_digest
from clinical_asr.errors import ScoringError
from clinical_asr.mishearings import ListedTerms
from clinical_asr.records import Stratum, Term
from clinical_asr.statistics import SHARES, PairedComparison, compare_by_term, holm
from clinical_asr.tally import Line, Score, Signature
from clinical_asr.text import term_key
from clinical_asr.variants import Variants

System = tuple[str, Sequence[Score], Signature]


@dataclass(frozen=True, slots=True)
class Standing:
    """One system on a board of several, against the best. Differences are this system minus the best."""

    place: int
    name: str
    rows: int
    ker: float | None
    ker_low: float | None
    ker_high: float | None
    wer: float | None
    wer_low: float | None
    wer_high: float | None
    cer: float | None
    ser: float | None
    misses: int
    occurrences: int
    false_insertions: int
    """By the row, as on a leaderboard."""
    drugs_confused: int
    """Drugs heard as another listed drug: the gravest error."""
    variant_ker: float | None
    """With registered spellings counted; ``None`` without a list of terms. Does not rank."""
    difference: float | None
    """Mean over terms of the difference in KER (in WER where no row has a term); ``None`` for the best itself."""
    low: float | None
    high: float | None
    n_terms: int | None
    """What the difference was averaged over."""
    p_value: float | None
    p_holm: float | None
    """Corrected over the systems that were set against the best."""


@dataclass(frozen=True, slots=True)
class Heard:
    """How one system heard one group of rows."""

    misses: int
    ker: float | None
    ker_low: float | None
    ker_high: float | None
    wer: float | None
    variant_ker: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """One group of rows under every system, in the order of the standings."""

    key: str
    rows: int
    terms: int
    occurrences: int
    systems: list[Heard]
    entity_category: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Systems on identical rows, best first, with each one's signature."""

    metric: str
    """``ker``, or ``wer`` where no row has a term."""
    standings: list[Standing]
    by_category: list[Group]
    by_term: list[Group]
    """The term that all systems together miss most first."""
    signatures: dict[str, Signature]
    terms_digest: str = ""
    trained_rows: int | None = None
    """Rows that stand in a split's training part; ``None`` if no split was given."""
    left_out: int = 0
    """Rows that were not ranked, because a split does not hold them out."""
    note: str = ""
    """What that means for the ranking, in words."""


Lines = dict[tuple[str, str], Line]
"""By category and key: a term of two categories has a line in each."""


@dataclass(frozen=True, slots=True)
class _Board:
    """What one system's rows come to."""

    headline: Line
    by_category: Lines
    by_term: Lines
    drugs_confused: int


def on_held_out(systems: Sequence[System]) -> tuple[list[System], int]:
    """The systems on those of their rows that a split holds out, and how many other rows there are.

    A system tuned on the other rows would be ahead by what it learnt by heart. The signatures become those of the rows
    that stay. Raises ScoringError where no row is held out.
    """
    kept: list[System] = []
    for name, scores, signature in systems:
        rows = [row for row in scores if row.stratum is not None and row.stratum.held_out]
        if not rows:
            raise ScoringError("has no row that the split holds out", where=name, mend="rank it without a split")
        digest = manifest_digest(row.id for row in rows)
        kept.append((name, rows, replace(signature, rows=len(rows), manifest_digest=digest)))
    return kept, len(systems[0][1]) - len(kept[0][1])


def rank(systems: Sequence[System], terms: Sequence[Term] | None = None, left_out: int = 0) -> Ranking:
    """Rank systems by KER, then WER, with paired intervals against the best.

    ``left_out`` rows are not among those of the systems (:func:`on_held_out`); the ranking says so.

    Raises ScoringError naming the difference unless rows, references, terms and yardsticks are identical.
    """
    _refuse_other_rows(systems)
    variants = Variants(terms, systems[0][2].normaliser) if terms is not None else None
    boards = {name: _board(scores, signature, variants) for name, scores, signature in systems}
    metric = "ker" if all(board.headline.ker is not None for board in boards.values()) else "wer"
    order = sorted(systems, key=lambda system: _order(system[0], boards[system[0]].headline, metric))
    found = [_against(order[0][1], scores, metric) for _, scores, _ in order[1:]]
    p_holm = [None, *holm([one.p_value for one in found])]
    inside = [boards[name] for name, _, _ in order]
    trained = _trained_rows(systems[0][1])
    return Ranking(
        metric=metric,
        standings=[
            _standing(place, system[0], boards[system[0]], one, p)
            for place, (system, one, p) in enumerate(zip(order, [None, *found], p_holm, strict=True), 1)
        ],
        by_category=_groups([board.by_category for board in inside]),
        by_term=sorted(_groups([board.by_term for board in inside]), key=_worst_first),
        signatures={name: signature for name, _, signature in order},
        terms_digest=variants.digest if variants else "",
        trained_rows=trained,
        left_out=left_out,
        note=_note(trained, left_out),
    )


def _trained_rows(scores: Sequence[Score]) -> int | None:
    known = [row.stratum for row in scores if row.stratum is not None]
    return known.count(Stratum.TRAINED) if known else None


def _note(trained: int | None, left_out: int = 0) -> str:
    """What a reader of the ranking must know about training, in one line.

    >>> _note(0, 276)
    'Ranked on the rows that the split holds out; its 276 other rows decide nothing and are left out.'

    >>> _note(None)
    'No split was given: rows that a system was tuned on are counted like the others, in its favour.'
    >>> _note(1)
    '1 row was trained on, by the split given: counted like the others, in favour of a system tuned on it.'
    """
    if left_out:
        return (
            f"Ranked on the rows that the split holds out; its {left_out} other rows decide nothing and are left out."
        )
    if trained is None:
        return "No split was given: rows that a system was tuned on are counted like the others, in its favour."
    if not trained:
        return "No row was trained on, by the split given."
    rows, them = ("1 row was", "it") if trained == 1 else (f"{trained} rows were", "them")
    return f"{rows} trained on, by the split given: counted like the others, in favour of a system tuned on {them}."


def _order(name: str, line: Line, metric: str) -> tuple[float, float, str]:
    return getattr(line, metric) or 0.0, line.wer or 0.0, name


def _refuse_other_rows(systems: Sequence[System]) -> None:
    names = [name for name, _, _ in systems]
    if len(systems) < 2 or len(set(names)) < len(names):
        raise ScoringError("needs two systems or more, each under its own name", where="leaderboard")
    first_name, first_scores, first = systems[0]
    known = {row.id: row for row in first_scores}
    for name, scores, signature in systems[1:]:
        differences = first.differences(signature) or _other_content(known, scores)
        if differences:
            lost = _lost(known, {row.id for row in scores})
            raise ScoringError(f"was not scored on the same rows as {first_name}: {'; '.join([*differences, *lost])}",
                               where=name, mend="score every system on one manifest with one normaliser")  # fmt: skip


def _lost(known: Mapping[str, Score], ids: set[str]) -> list[str]:
    """Rows that only one of two systems has, by name."""
    sides = (("it lacks", sorted(known.keys() - ids)), ("only it has", sorted(ids - known.keys())))
    return [f"{what} {len(rows)} ({', '.join(rows[:3])}{', ...' if len(rows) > 3 else ''})"
            for what, rows in sides if rows]  # fmt: skip


def _other_content(known: Mapping[str, Score], scores: Sequence[Score]) -> list[str]:
    """The first row that is not about the same words, by name."""
    for row in scores:
        other = known.get(row.id)
        if other is None:
            return [f"row {row.id} is not there"]
        for name in ("reference", "term", "entity_category"):
            if getattr(row, name) != getattr(other, name):
                return [f"{name} of row {row.id}: {getattr(other, name)!r} / {getattr(row, name)!r}"]
    return []


def _board(scores: Sequence[Score], signature: Signature, variants: Variants | None) -> _Board:
    listed = ListedTerms(scores, signature.normaliser)
    table = BoardTable(scores, listed, signature.normaliser, variants, signature.rows)
    return _Board(
        headline=table.headline(),
        by_category=_keyed(table.section("entity_category")),
        by_term=_keyed(table.by_term()),
        drugs_confused=sum(one.count for one in table.misheard.confusions() if one.kind == "listed drug"),
    )


def _keyed(lines: Iterable[Line]) -> Lines:
    return {(line.entity_category, line.key): line for line in lines}


def _groups(boards: Sequence[Lines]) -> list[Group]:
    """The lines of all systems side by side; all have the same keys, since all have the same rows."""
    return [
        Group(line.key, line.rows, line.terms, line.occurrences, [_heard(board[key]) for board in boards],
              line.entity_category)
        for key, line in boards[0].items()
    ]  # fmt: skip


def _heard(line: Line) -> Heard:
    return Heard(line.misses, line.ker, line.ker_low, line.ker_high, line.wer, line.variant_ker)


def _worst_first(group: Group) -> tuple[float, int, str, str]:
    share = sum(one.misses for one in group.systems) / max(1, group.occurrences)
    return -share, -group.occurrences, group.key, group.entity_category


def _against(best: Sequence[Score], other: Sequence[Score], metric: str) -> PairedComparison:
    theirs = {row.id: row for row in other}
    pairs = [(row, theirs[row.id]) for row in sorted(best, key=lambda row: row.id)]
    rates = [(getattr(a.tally, metric), getattr(b.tally, metric)) for a, b in pairs]
    told = [place for place, (a, b) in enumerate(rates) if a is not None and b is not None]
    clusters = [term_key(pairs[place][0].term) or pairs[place][0].reference for place in told]
    bounds = SHARES if metric == "ker" else None  # WER has no upper end
    return compare_by_term(
        clusters, [rates[place][0] for place in told], [rates[place][1] for place in told], bounds=bounds
    )


def _standing(place: int, name: str, board: _Board, found: PairedComparison | None, p_holm: float | None) -> Standing:
    line = board.headline
    return Standing(
        place=place, name=name, rows=line.rows, ker=line.ker, ker_low=line.ker_low, ker_high=line.ker_high,
        wer=line.wer, wer_low=line.wer_low, wer_high=line.wer_high, cer=line.cer, ser=line.ser,
        misses=line.misses, occurrences=line.occurrences,
        false_insertions=line.false_insertions, drugs_confused=board.drugs_confused, variant_ker=line.variant_ker,
        difference=found.mean_difference if found else None,
        low=found.low if found else None, high=found.high if found else None, n_terms=found.n_terms if found else None,
        p_value=found.p_value if found else None, p_holm=p_holm,
    )  # fmt: skip
