"""Paired rows and what changed between them: the values a comparison is made of. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from clinical_asr.errors import ScoringError
from clinical_asr.records import Stratum
from clinical_asr.statistics import PairedComparison, compare_by_term, holm, non_inferiority
from clinical_asr.tally import Score, Tally, pooled
from clinical_asr.text import term_key

Pair = tuple[Score, Score]
"""One row before and after."""


@dataclass(frozen=True)
class Change:
    """One group of rows before and after. Rates are fractions; ``ker_relative_change`` is negative where KER fell."""

    key: str
    rows: int
    ker_before: float | None
    ker_after: float | None
    ker_relative_change: float | None
    """(after - before) / before; ``None`` where nothing was missed before."""
    terms: int
    occurrences: int
    misses_before: int
    misses_after: int
    wer_before: float | None
    wer_after: float | None
    low: float | None = None
    """95 % interval of the mean difference per term (after - before)."""
    high: float | None = None
    p_value: float | None = None
    """Two-sided sign-flip test over terms."""
    p_holm: float | None = None
    """``p_value`` corrected over the categories."""


@dataclass(frozen=True, kw_only=True)
class Side(Change):
    """Held-out or trained-on rows of the priority categories, and beside them those of all categories."""

    strata: dict[str, int]
    """Rows by what training has seen of them."""
    all_categories: Change


@dataclass(frozen=True)
class Guard:
    """General speech before and after: what fine-tuning must not cost."""

    rows: int
    wer_before: float | None
    wer_after: float | None
    difference: float | None
    """Absolute rise of pooled WER; negative where it fell."""
    low: float | None
    high: float | None
    """95 % interval of the rise."""
    margin: float
    upper: float
    worse: bool
    """The rise is beyond ``margin``."""
    proven: bool
    """The rise is within ``margin`` and the interval's upper end within ``upper``."""


def paired_rows(before: Sequence[Score], after: Sequence[Score]) -> list[Pair]:
    """Rows that both sides hold, sorted by id.

    Raises ScoringError naming the row if its text or audio differs, or if no row is shared.
    """
    left, right = _by_id(before), _by_id(after)
    shared = sorted(left.keys() & right.keys())
    for row_id in shared:
        _refuse_other_text(left[row_id], right[row_id])
    _refuse_changed_rows(left, right)
    if not shared:
        raise ScoringError("the two cycles share no row", where="comparison", mend="transcribe the same manifest twice")
    return [(left[row_id], right[row_id]) for row_id in shared]


def _by_id(scores: Sequence[Score]) -> dict[str, Score]:
    by_id = {row.id: row for row in scores}
    if len(by_id) < len(scores):
        doubled = next(row_id for row_id, n in Counter(row.id for row in scores).items() if n > 1)
        raise ScoringError("stands twice", where=f"row {doubled}", mend="score each row once")
    return by_id


def _refuse_other_text(one: Score, other: Score) -> None:
    for name in ("reference", "term", "entity_category"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine != theirs:
            raise ScoringError(f"{name} differs: {mine!r} / {theirs!r}", where=f"row {one.id}")


def _refuse_changed_rows(left: Mapping[str, Score], right: Mapping[str, Score]) -> None:
    """A file that both cycles name, but under different ids, was recorded or transcribed anew in between."""
    only_left = {_recording(row): row for row in left.values() if row.id not in right and row.audio_filepath}
    for row in right.values():
        other = only_left.get(_recording(row)) if row.id not in left else None
        if other is not None:
            what = "audio" if other.reference == row.reference else "reference"
            raise ScoringError(f"{what} of {row.audio_filepath} is not the same in both cycles", where=f"row {row.id}",
                               mend="transcribe both with the same manifest")  # fmt: skip


def _recording(row: Score) -> tuple[str, str, object]:
    return row.audio_filepath, row.term, row.extra.get("offset")


def change_of(key: str, pairs: Sequence[Pair]) -> Change:
    before = pooled(before for before, _ in pairs)
    after = pooled(after for _, after in pairs)
    return Change(
        key=key,
        rows=len(pairs),
        ker_before=before.ker,
        ker_after=after.ker,
        ker_relative_change=relative_change(before.ker, after.ker),
        terms=len({term_key(pair[0].term) for pair in pairs if pair[0].term}),
        occurrences=before.keywords.occurrences,
        misses_before=_misses(before),
        misses_after=_misses(after),
        wer_before=before.wer,
        wer_after=after.wer,
    )


def _misses(tally: Tally) -> int:
    return tally.keywords.misses


def relative_change(before: float | None, after: float | None) -> float | None:
    """(after - before) / before.

    >>> relative_change(0.5, 0.125), relative_change(0.0, 0.1) is None
    (-0.75, True)
    """
    return (after - before) / before if before and after is not None else None


def side_of(pairs: Sequence[Pair], labels: Mapping[str, Stratum], wanted: Callable[[Pair], bool]) -> Side:
    chosen = [pair for pair in pairs if wanted(pair)]
    counts = Counter(labels[pair[0].id] for pair in chosen)
    strata = {stratum.value: counts[stratum] for stratum in Stratum if counts[stratum]}
    known = _tested(change_of("priority categories", chosen), chosen)
    return Side(**vars(known), strata=strata, all_categories=change_of("all categories", pairs))


def by_stratum(pairs: Sequence[Pair], labels: Mapping[str, Stratum]) -> list[Change]:
    groups = {stratum: [pair for pair in pairs if labels[pair[0].id] is stratum] for stratum in Stratum}
    return [_tested(change_of(stratum.value, group), group) for stratum, group in groups.items() if group]


def by_category(pairs: Sequence[Pair]) -> list[Change]:
    groups = _grouped(pairs, lambda row: row.entity_category or "")
    changes = [_tested(change_of(key, group), group) for key, group in groups.items()]
    tested = [change for change in changes if change.p_value is not None]
    corrected = dict(
        zip((c.key for c in tested), holm([c.p_value for c in tested if c.p_value is not None]), strict=True)
    )
    return [replace(change, p_holm=corrected.get(change.key)) for change in changes]


def by_term(pairs: Sequence[Pair]) -> list[Change]:
    """Each term as its first row spells it."""
    groups = _grouped(pairs, lambda row: term_key(row.term)).values()
    changes = [change_of(group[0][0].term, group) for group in groups]
    return sorted(changes, key=lambda c: (-(c.ker_after or 0.0), -(c.ker_before or 0.0), -c.rows, c.key))


def _grouped(pairs: Sequence[Pair], key: Callable[[Score], str]) -> dict[str, list[Pair]]:
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if key(pair[0]):
            groups[key(pair[0])].append(pair)
    return {name: groups[name] for name in sorted(groups)}


def paired_test(pairs: Sequence[Pair]) -> PairedComparison | None:
    """Sign-flip test over terms on the rows' own miss rates (most rows hold one occurrence: 0 or 1)."""
    told = [pair for pair in pairs if pair[0].tally.ker is not None and pair[1].tally.ker is not None]
    if not told:
        return None
    terms = [term_key(pair[0].term) for pair in told]
    return compare_by_term(terms, [p[0].tally.ker or 0.0 for p in told], [p[1].tally.ker or 0.0 for p in told])


def _tested(change: Change, pairs: Sequence[Pair]) -> Change:
    found = paired_test(pairs)
    if found is None:
        return change
    return replace(change, low=found.low, high=found.high, p_value=found.p_value)


def guard_of(pairs: Sequence[Pair], margin: float, upper: float) -> Guard:
    """General speech before and after: pooled WER, its rise, and the 95 % interval of the rise over sentences."""
    found = non_inferiority(
        [pair[0].tally.words for pair in pairs],
        [pair[1].tally.words for pair in pairs],
        margin=upper,
        clusters=[pair[0].reference for pair in pairs],
        level=0.975,  # one-sided: both bounds together are the two-sided 95 % interval
    )
    rise = found.difference
    within = rise is not None and rise <= margin
    return Guard(
        rows=len(pairs), wer_before=found.before, wer_after=found.after, difference=rise,
        low=found.lower, high=found.upper, margin=margin, upper=upper,
        worse=rise is not None and not within,
        proven=within and found.upper is not None and found.upper <= upper,
    )  # fmt: skip
