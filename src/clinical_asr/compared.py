"""What a comparison of two cycles holds: the value that is judged, written down and shown.

``comparison.json`` is the value as it stands::

    {"verdict", "reason", "next_stage", "exit_code", "priority_categories",
     "held_out":   {"rows", "ker_before", "ker_after", "ker_relative_change", ..., "strata", "all_categories": {...}},
     "new_terms":  {the same fields, rows of terms never taught},
     "trained_on": {the same fields},
     "by_stratum": [change, ...], "by_category": [change with p_value and p_holm, ...], "by_term": [change, ...],
     "statistics": {"n_terms", "n_rows", "mean_difference", "low", "high", "p_value", ...} or null,
     "missing": {"held_out", "guard", "others", "added"},
     "guard": {"rows", "wer_before", "wer_after", "difference", "low", "high", ...},
     "selection": {"rows", "general_rows", "base", "candidates": [{"epoch", "factor", "metrics"}, ...], "chosen", ...},
     "known_to_base": rows that the base was trained on,
     "signatures": [before, after]}
"""

from __future__ import annotations

from dataclasses import dataclass

from clinical_asr.changes import Change, Guard, Side
from clinical_asr.config import ComparisonConfig
from clinical_asr.statistics import PairedComparison
from clinical_asr.tally import Signature
from clinical_asr.training import Selection


@dataclass(frozen=True)
class Missing:
    """Rows that one side alone holds, by number: nobody knows what the other would have heard."""

    held_out: int = 0
    """Rows to judge by that were scored before and are not after."""
    guard: int = 0
    """The same of general speech."""
    others: int = 0
    """The same of trained rows, of other categories, and of terms that were not taught."""
    added: int = 0
    """Rows that were scored after and not before, general speech included."""

    @property
    def decides(self) -> bool:
        """Whether the tuned model was spared rows that it should be judged by."""
        return bool(self.held_out or self.guard)

    def __str__(self) -> str:
        """
        >>> str(Missing(held_out=40, added=2)), str(Missing())
        ('only before: 40 held-out rows; only after: 2 rows', '')
        """
        named = {"held-out": self.held_out, "guard": self.guard, "other": self.others}
        before = ", ".join(f"{number} {name} rows" for name, number in named.items() if number)
        parts = [f"only before: {before}" if before else "", f"only after: {self.added} rows" if self.added else ""]
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class Comparison:
    """Everything that was found, and the verdict. The verdicts: :mod:`verdict`."""

    verdict: str
    reason: str
    next_stage: str
    exit_code: int
    priority_categories: list[str]
    held_out: Side
    """What the verdict rests on: recordings training never heard, of terms it was taught."""
    new_terms: Side
    """Held-out rows of terms that were not taught; shown, not judged."""
    trained_on: Side
    by_stratum: list[Change]
    """Priority categories only, the trained-on rows first."""
    by_category: list[Change]
    """Held-out rows, with Holm's correction over the categories."""
    by_term: list[Change]
    """Held-out rows, worst after first."""
    statistics: PairedComparison | None
    """Held-out priority rows, paired by term; ``None`` if there are none."""
    guard: Guard
    signatures: list[Signature]
    config: ComparisonConfig
    missing: Missing
    """What the comparison could not pair."""
    selection: Selection | None = None
    """How the tuned model was chosen among candidates, on rows that this comparison leaves out."""
    known_to_base: int = 0
    """Rows that are left out since the base itself was trained on them, in an earlier cycle."""
