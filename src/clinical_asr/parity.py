"""Offline against served: does a service hear what the model hears in memory, row by row? Pure.

A difference lies in the serving pipeline, not in the model. Where it lies is told by hearing the differing rows again
under one change at a time: the change that gives the served text, and that the offline text lacks, is the cause.

| verdict | exit code | when |
|---|---|---|
| ``equal`` | 0 | the share of rows that differ after normalisation is within the tolerance |
| ``differs`` | 5 | it is not |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clinical_asr.errors import ScoringError
from clinical_asr.records import Decision, Hypothesis
from clinical_asr.text import DEFAULT_NORMALISER, normaliser

EQUAL, DIFFERS = 0, 5
TEXT = "text post-processing"
NOT_SERVED, NOT_OFFLINE, UNEXPLAINED, NOT_SOUGHT = "not served", "not offline", "unexplained", "not sought"
BASELINE = "offline again"
"""The variant without a change; if it gives the served text, the offline file is another model's or setting's."""

MEANINGS = {
    TEXT: "case, punctuation or number format: equal after normalisation",
    BASELINE: "the model gives the served text offline now: the offline file is of another model or setting",
    NOT_SERVED: "the row has no served transcript: see the ledger of that run",
    NOT_OFFLINE: "the row has no offline transcript: see the ledger of that run",
    UNEXPLAINED: "no variant gives the served text: other weights, another decoder or a language model behind it",
    NOT_SOUGHT: "give --model to have the cause sought",
}


@dataclass(frozen=True)
class Difference:
    """A row that is not the same. ``cause`` is a name from above, or of one or several variants."""

    id: str
    offline: str
    served: str
    cause: str
    audio_filepath: str = ""


@dataclass(frozen=True)
class Parity:
    """Counts add up: ``rows`` = ``identical`` + the differences, those of text alone among them."""

    rows: int
    identical: int
    differences: tuple[Difference, ...]
    normaliser: str
    models: tuple[str, str]
    """Names and digests of both sides."""

    @property
    def text_only(self) -> int:
        """Rows that differ, but not after normalisation."""
        return sum(row.cause == TEXT for row in self.differences)

    @property
    def share(self) -> float:
        """Share of rows that differ after normalisation."""
        return (len(self.differences) - self.text_only) / self.rows

    @property
    def causes(self) -> dict[str, int]:
        """Rows by cause, most first."""
        return dict(Counter(row.cause for row in self.differences).most_common())


def compare(
    offline: Sequence[Hypothesis], served: Sequence[Hypothesis], normaliser_name: str = DEFAULT_NORMALISER
) -> Parity:
    """Both sides by row id. Raises ScoringError: no rows, none in common, an id twice, references that differ.

    >>> row = lambda text: Hypothesis(audio_filepath="a.wav", text="", duration=1, id="a", pred_text=text)
    >>> [compare([row("give 5 mg")], [row(served)]).causes for served in ("Give 5 mg.", "give 50 mg")]
    [{'text post-processing': 1}, {'not sought': 1}]
    """
    left, right = _by_id(offline, "offline"), _by_id(served, "served")
    if not left.keys() & right.keys():
        raise ScoringError("no row is in both", "parity", "transcribe the same manifest both ways")
    plain = normaliser(normaliser_name)
    found = []
    for row_id, row in {**right, **left}.items():
        here, there = left.get(row_id), right.get(row_id)
        if here and there and here.text != there.text:
            raise ScoringError(f"row {row_id} has two references", "parity", "transcribe the same manifest both ways")
        cause = _cause(here, there, plain)
        if cause:
            offline_text, served_text = (side.pred_text if side else "" for side in (here, there))
            found.append(Difference(row_id, offline_text, served_text, cause, row.audio_filepath))
    count = len(left.keys() | right.keys())
    return Parity(count, count - len(found), tuple(found), normaliser_name, (_model(offline), _model(served)))


def _by_id(rows: Sequence[Hypothesis], side: str) -> dict[str, Hypothesis]:
    found = {row.id: row for row in rows}
    if not rows or len(found) < len(rows) or "" in found:
        why = "has no rows" if not rows else "has rows without an id of their own"
        raise ScoringError(why, f"the {side} file", "write it with: clinical-asr hypotheses")
    return found


def _cause(here: Hypothesis | None, there: Hypothesis | None, plain: Any) -> str:
    if there is None:
        return NOT_SERVED
    if here is None:
        return NOT_OFFLINE
    if here.pred_text == there.pred_text:
        return ""
    return TEXT if plain(here.pred_text) == plain(there.pred_text) else NOT_SOUGHT


def _model(rows: Sequence[Hypothesis]) -> str:
    return ", ".join(sorted({f"{row.model} {row.model_digest}".strip() for row in rows}))


def sought(found: Parity) -> list[Difference]:
    """Rows whose cause hearing them again may tell."""
    return [row for row in found.differences if row.cause == NOT_SOUGHT]


def explained(found: Parity, variants: Mapping[str, Mapping[str, str]]) -> Parity:
    """The same, with causes: ``variants`` maps a variant's name to what it hears, by row id.

    A variant explains a row if it gives the served text, or the same after normalisation where none gives it exactly.
    If the model gives the served text without a change, that is the explanation and no other is named.
    """
    plain = normaliser(found.normaliser)
    differences = []
    for row in found.differences:
        if row.cause == NOT_SOUGHT:
            exact = [name for name, heard in variants.items() if heard.get(row.id) == row.served]
            alike = [name for name, heard in variants.items() if plain(heard.get(row.id, "")) == plain(row.served)]
            names = exact or [name for name in alike if row.id in variants[name]]
            cause = BASELINE if BASELINE in names else " or ".join(names) or UNEXPLAINED
            row = Difference(row.id, row.offline, row.served, cause, row.audio_filepath)
        differences.append(row)
    return Parity(found.rows, found.identical, tuple(differences), found.normaliser, found.models)


def verdict(found: Parity, tolerance: float = 0.0) -> Decision:
    """``tolerance`` is the share of rows, 0 to 1, that may differ after normalisation."""
    equal = found.share <= tolerance
    differ = len(found.differences) - found.text_only
    reason = f"{found.identical} of {found.rows} rows identical, {found.text_only} equal after {found.normaliser}"
    reason += f", {differ} differ ({found.share:.1%}, tolerated {tolerance:.1%})"
    evidence = {
        "rows": found.rows, "identical": found.identical, "equal_after_normalisation": found.text_only,
        "differ": differ, "tolerance": tolerance, "normaliser": found.normaliser, "causes": found.causes,
        "models": list(found.models), "differences": [asdict(row) for row in found.differences],
    }  # fmt: skip
    return Decision(
        verdict="equal" if equal else "differs", reason=reason, evidence=evidence,
        next_stage="leaderboard" if equal else "serve", exit_code=EQUAL if equal else DIFFERS,
    )  # fmt: skip
