"""Guard set: is general speech recognised no worse than before, within a stated margin? Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtrit

from clinical_asr.error_count import ErrorCount
from clinical_asr.errors import FlywheelError
from clinical_asr.power import grouped


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """Guard set before and after: pooled WERs, their difference, its one-sided bounds, and the verdict.

    ``not worse``: the upper bound lies below the margin. ``worse``: the lower bound lies above it.
    Else ``inconclusive``.
    """

    before: float | None
    after: float | None
    difference: float | None
    lower: float | None
    upper: float | None
    margin: float
    level: float
    n_rows: int
    n_clusters: int

    @property
    def verdict(self) -> Literal["not worse", "worse", "inconclusive"]:
        """What the bounds say about the margin."""
        if self.lower is None or self.upper is None:
            return "inconclusive"
        if self.upper < self.margin:
            return "not worse"
        return "worse" if self.lower > self.margin else "inconclusive"


def non_inferiority(
    before: Sequence[ErrorCount],
    after: Sequence[ErrorCount],
    margin: float,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> NonInferiority:
    """Is the pooled WER worse by less than ``margin`` (absolute: 0.01 is one point)? Paired by utterance.

    The difference of two ratios with the same reference lengths is itself a ratio; its standard error is the linearised
    one over clusters (utterances, or the sentences given in ``clusters``), its bounds one-sided at ``level`` by t.
    Clusters that all agree say nothing of their spread: then the bounds are those of an error more, or less, in as many
    clusters as may hide behind none that was seen (Clopper and Pearson, 1934).

    >>> old, new = [ErrorCount(1, 0, 0, 9, 10)] * 50, [ErrorCount(1, 0, 0, 9, 10), ErrorCount(2, 0, 0, 8, 10)] * 25
    >>> found = non_inferiority(old, new, margin=0.02)
    >>> round(found.difference, 3), round(found.lower, 3), found.verdict
    (0.05, 0.038, 'worse')
    >>> non_inferiority(old, old, margin=0.02).verdict, non_inferiority(old[:1], old[:1], 0.02).verdict
    ('not worse', 'inconclusive')
    >>> round(non_inferiority(old[:2], old[:2], margin=0.02).upper, 3), non_inferiority(old, old, 0.02).upper < 0.006
    (0.078, True)
    """
    if [count.length for count in before] != [count.length for count in after]:
        raise FlywheelError("guard sets before and after differ in their references", mend="pair rows by id")
    labels = list(range(len(before))) if clusters is None else list(clusters)
    old, new = (sum(c.errors for c in side) for side in (before, after))
    errors = grouped([b.errors - a.errors for a, b in zip(before, after, strict=True)], labels)[0]
    lengths = grouped([count.length for count in before], labels)[0]
    total, k = float(lengths.sum()), len(lengths)
    if not total:
        return NonInferiority(None, None, None, None, None, margin, level, len(before), k)
    difference, lower, upper = float(errors.sum() / total), None, None
    if k > 1:
        error = math.sqrt(k / (k - 1) * float(((errors - difference * lengths) ** 2).sum())) / total
        half = float(stdtrit(k - 1, level)) * error if error > 1e-12 else (1 - (1 - level) ** (1 / k)) * k / total
        lower, upper = difference - half, difference + half
    return NonInferiority(old / total, new / total, difference, lower, upper, margin, level, len(before), k)
