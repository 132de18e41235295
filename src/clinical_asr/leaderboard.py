"""Scores in, one leaderboard out; and several systems ranked on the same rows.

Pure. ``leaderboard_cycle<N>.json`` is the value as it stands, keys in this order::

    {"signature": {"normaliser", "metric_version", "model", "model_digest", "manifest_digest", "rows"},
     "headline": {"key": "all", "rows", "wer", "cer", "ker", "ser", "wer_row_mean", "terms", "words", ...},
     "by_entity_category": [line, ...], "by_ipa_source": [...], "by_noise_level": [...], "by_term": [...],
     "by_stratum": [...], "by_voice": [...], "by_context": [...], "false_insertions": [...],
     "confusions": [{"term", "heard", "count", "kind", ...}], "numbers": [{"kind", "errors", "length", ...}]}

Every line has the headline's fields; rates are fractions or null; ``_low`` and ``_high`` bound the 95 % interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import msgspec
import numpy as np
from scipy.special import stdtrit

from clinical_asr.errors import ScoringError
from clinical_asr.mishearings import ListedTerms, Wording, number_lines
from clinical_asr.records import Stratum
from clinical_asr.statistics import (
    PairedComparison,
    clustered_counts_interval,
    compare_by_term,
    holm,
    proportion_interval,
)
from clinical_asr.tally import Leaderboard, Line, Score, Signature

Key = Callable[[Score], str]


def leaderboard(
    scores: Sequence[Score], signature: Signature, strata: Mapping[str, Stratum] | None = None
) -> Leaderboard:
    """All sections from the rows' counts. ``strata`` (row id -> stratum) overrides what the rows carry.

    Raises ScoringError without rows, on a row that stands twice, or if the signature counts other rows.
    """
    rows = _checked(scores, signature)
    if strata is not None:
        rows = [_restratified(row, strata) for row in rows]
    wording = Wording(rows, signature.normaliser)
    listed = ListedTerms(rows, signature.normaliser, wording)
    table = _Table(rows, listed)
    return Leaderboard(
        signature=signature,
        headline=_headline(table),
        by_entity_category=table.section(lambda row: row.entity_category or ""),
        by_ipa_source=table.section(lambda row: row.ipa_source.canonical if row.ipa_source else ""),
        by_noise_level=sorted(table.section(lambda row: row.noise_level), key=lambda line: _noise_order(line.key)),
        by_term=_by_term(table),
        by_stratum=sorted(table.section(lambda row: row.stratum or ""), key=lambda line: _STRATUM_ORDER[line.key]),
        by_voice=table.section(lambda row: row.voice_id),
        by_context=table.section(lambda row: row.context_type),
        false_insertions=listed.false_insertions(),
        confusions=listed.confusions(),
        numbers=number_lines(wording),
    )


def _headline(table: _Table) -> Line:
    return table.line("all", np.arange(len(table.rows)))


_STRATUM_ORDER = {stratum.value: place for place, stratum in enumerate(Stratum)}


def _checked(scores: Sequence[Score], signature: Signature) -> list[Score]:
    rows = sorted(scores, key=lambda row: row.id)
    if not rows:
        raise ScoringError("has no rows", where="leaderboard", mend="score at least one row")
    doubled = [one.id for one, other in pairwise(rows) if one.id == other.id]
    if doubled:
        raise ScoringError("stands twice", where=f"row {doubled[0]}", mend="score each row once")
    if len(rows) != signature.rows:
        raise ScoringError(f"{len(rows)} rows, but the signature says {signature.rows}", where="leaderboard")
    return rows


def _restratified(row: Score, strata: Mapping[str, Stratum]) -> Score:
    return msgspec.structs.replace(row, stratum=strata.get(row.id))


def _noise_order(level: str) -> tuple[float, str]:
    """Clean first, then from the highest SNR to the lowest, then names nobody knows.

    >>> sorted(["snr_5db", "ward", "clean", "snr_15db"], key=_noise_order)
    ['clean', 'snr_15db', 'snr_5db', 'ward']
    """
    if level == "clean":
        return float("-inf"), level
    try:
        return -float(level.removeprefix("snr_").removesuffix("db")), level
    except ValueError:
        return float("inf"), level


class _Table:
    """The rows' counts as columns, so that a section is a sum over an index."""

    def __init__(self, rows: Sequence[Score], listed: ListedTerms) -> None:
        self.rows = rows
        tallies = [row.tally for row in rows]
        self.wrong = np.array([t.wrong_rows for t in tallies])
        self.words = np.array([(t.words.errors, t.words.length) for t in tallies])
        self.characters = np.array([(t.characters.errors, t.characters.length) for t in tallies])
        self.keywords = np.array([(t.keywords.occurrences - t.keywords.hits, t.keywords.occurrences) for t in tallies])
        self.false_insertions = np.array([len(listed.unsaid.get(row.id, ())) for row in rows])
        self.row_rates = np.array([t.row_rates for t in tallies])
        # Rows of one term share their fate; general speech has no term, its sentences are the clusters.
        self.cluster = np.unique([row.term or row.reference for row in rows], return_inverse=True)[1]
        self.has_term = np.array([bool(row.term) for row in rows])

    def section(self, key: Key) -> list[Line]:
        """One line per value of ``key``, by name; rows whose key is empty belong to none."""
        return [self.line(name, index) for name, index in self.groups(key).items()]

    def groups(self, key: Key) -> dict[str, np.ndarray]:
        """Value of ``key`` -> positions of its rows."""
        positions: dict[str, list[int]] = {}
        for position, row in enumerate(self.rows):
            positions.setdefault(str(key(row)), []).append(position)
        return {name: np.array(positions[name]) for name in sorted(positions) if name}

    def line(self, key: str, index: np.ndarray) -> Line:
        """The line of the rows at ``index``."""
        rows = len(index)
        cluster = self.cluster[index]
        errors, words = self.words[index].sum(axis=0).tolist()
        character_errors, characters = self.characters[index].sum(axis=0).tolist()
        misses, occurrences = self.keywords[index].sum(axis=0).tolist()
        wer_low, wer_high = ratio_interval(self.words[index], cluster)
        cer_low, cer_high = ratio_interval(self.characters[index], cluster)
        ker_low, ker_high = _proportion(self.keywords[index], cluster)
        ser_low, ser_high = _proportion(np.stack([self.wrong[index], np.ones(rows, int)], axis=1), cluster)
        return Line(
            key=key, rows=rows,
            wer=_rate(errors, words), cer=_rate(character_errors, characters), ker=_rate(misses, occurrences),
            ser=_rate(int(self.wrong[index].sum()), rows), wer_row_mean=_rate(float(self.row_rates[index].sum()), rows),
            terms=len(np.unique(cluster[self.has_term[index]])),
            words=words, characters=characters, occurrences=occurrences, misses=misses,
            false_insertions=int(self.false_insertions[index].sum()),
            wer_low=wer_low, wer_high=wer_high, cer_low=cer_low, cer_high=cer_high,
            ker_low=ker_low, ker_high=ker_high, ser_low=ser_low, ser_high=ser_high,
        )  # fmt: skip


def _rate(count: float, of: int) -> float | None:
    return count / of if of else None


Interval = tuple[float, float] | tuple[None, None]


def ratio_interval(counts: np.ndarray, cluster: np.ndarray, level: float = 0.95) -> Interval:
    """t interval of sum(errors) / sum(length), counts (n, 2), by linearisation over clusters (Cochran 1977, 6.3).

    One cluster alone falls back to its rows; a single row has no interval.

    >>> low, high = ratio_interval(np.array([[1, 10], [2, 10], [3, 10]]), np.array([0, 1, 2]))
    >>> round(low, 3), round(high, 3)
    (0.0, 0.448)
    """
    total = counts[:, 1].sum()
    names, groups = np.unique(cluster, return_inverse=True)
    if len(names) == 1:
        names, groups = np.arange(len(counts)), np.arange(len(counts))
    if len(names) < 2 or total == 0:
        return None, None
    sums = np.stack([np.bincount(groups, weights=counts[:, column]) for column in (0, 1)], axis=1)
    rate = counts[:, 0].sum() / total
    residuals = sums[:, 0] - rate * sums[:, 1]
    error = np.sqrt(len(names) / (len(names) - 1) * (residuals**2).sum()) / total
    half = stdtrit(len(names) - 1, (1 + level) / 2) * error
    return max(0.0, float(rate - half)), float(rate + half)


def _proportion(counts: np.ndarray, cluster: np.ndarray) -> Interval:
    """Interval of a share of yes/no outcomes, counts (n, 2) of yes and all; Wilson's for one cluster alone."""
    yes, trials = counts.sum(axis=0).tolist()
    if not trials:
        return None, None
    groups = np.unique(cluster, return_inverse=True)[1]
    by_cluster = np.stack([np.bincount(groups, weights=counts[:, column]) for column in (0, 1)], axis=1)
    if len(by_cluster) == 1:
        return proportion_interval(yes, trials)
    return clustered_counts_interval(*by_cluster.T)


def _by_term(table: _Table) -> list[Line]:
    """Worst first; of equal ones the better measured first."""
    lines = []
    for name, index in table.groups(
        lambda row: f"{row.entity_category or ''}\x1f{row.term}" if row.term else ""
    ).items():
        category, _, term = name.partition("\x1f")
        lines.append(replace(table.line(term, index), entity_category=category))
    return sorted(lines, key=lambda line: (-(line.ker or 0.0), -line.occurrences, line.key))


# --- several systems --------------------------------------------------------------------------------------------------


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
    cer: float | None
    ser: float | None
    false_insertions: int
    difference: float | None
    """Mean over terms of the difference in KER (in WER where no row has a term); ``None`` for the best itself."""
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None
    """Corrected over the systems that were set against the best."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Systems on identical rows, best first, with each one's signature."""

    metric: str
    """``ker``, or ``wer`` where no row has a term."""
    standings: list[Standing]
    signatures: dict[str, Signature]


System = tuple[str, Sequence[Score], Signature]


def rank(systems: Sequence[System]) -> Ranking:
    """Rank systems by KER, then WER, with paired intervals against the best.

    Raises ScoringError naming the difference unless rows, references and yardsticks are identical.
    """
    _refuse_other_rows(systems)
    boards = {name: _board_of_one(scores, signature) for name, scores, signature in systems}
    metric = "ker" if all(line.ker is not None for line in boards.values()) else "wer"
    order = sorted(systems, key=lambda s: (getattr(boards[s[0]], metric), boards[s[0]].wer or 0.0, s[0]))
    found = [_against(order[0][1], scores, metric) for _, scores, _ in order[1:]]
    corrected = holm([one.p_value for one in found])
    standings = [_standing(1, order[0][0], boards[order[0][0]], None, None)]
    for place, (system, one, p_holm) in enumerate(zip(order[1:], found, corrected, strict=True), 2):
        standings.append(_standing(place, system[0], boards[system[0]], one, p_holm))
    return Ranking(metric, standings, {name: signature for name, _, signature in order})


def _refuse_other_rows(systems: Sequence[System]) -> None:
    names = [name for name, _, _ in systems]
    if len(systems) < 2 or len(set(names)) < len(names):
        raise ScoringError("needs two systems or more, each under its own name", where="leaderboard")
    first_name, first_scores, first = systems[0]
    known = {row.id: row.reference for row in first_scores}
    for name, scores, signature in systems[1:]:
        differences = first.differences(signature)
        if not differences and {row.id: row.reference for row in scores} != known:
            differences = ["references or row ids"]
        if differences:
            raise ScoringError(f"was not scored on the same rows as {first_name}: {'; '.join(differences)}", where=name,
                               mend="score every system on one manifest with one normaliser")  # fmt: skip


def _board_of_one(scores: Sequence[Score], signature: Signature) -> Line:
    rows = _checked(scores, signature)
    return _headline(_Table(rows, ListedTerms(rows, signature.normaliser)))


def _against(best: Sequence[Score], other: Sequence[Score], metric: str) -> PairedComparison:
    theirs = {row.id: row for row in other}
    pairs = [(row, theirs[row.id]) for row in sorted(best, key=lambda row: row.id)]
    rates = [(getattr(a.tally, metric), getattr(b.tally, metric)) for a, b in pairs]
    told = [place for place, (a, b) in enumerate(rates) if a is not None and b is not None]
    clusters = [pairs[place][0].term or pairs[place][0].reference for place in told]
    return compare_by_term(clusters, [rates[place][0] for place in told], [rates[place][1] for place in told])


def _standing(place: int, name: str, line: Line, found: PairedComparison | None, p_holm: float | None) -> Standing:
    return Standing(
        place=place, name=name, rows=line.rows, ker=line.ker, ker_low=line.ker_low, ker_high=line.ker_high,
        wer=line.wer, cer=line.cer, ser=line.ser, false_insertions=line.false_insertions,
        difference=found.mean_difference if found else None,
        low=found.low if found else None, high=found.high if found else None,
        p_value=found.p_value if found else None, p_holm=p_holm,
    )  # fmt: skip
