"""Cycle against cycle: did fine-tuning help on what training never heard, and did it harm general speech?

Pure. The verdict rests on held-out rows of the priority categories whose term was taught; trained-on rows are shown
apart, and so are rows of terms that training never heard: whether teaching some terms helps others is a question of its
own, and a mixture of both would measure how many terms somebody held out. Rows of one term share their fate, so every
test works on terms. The value: :mod:`compared`; what it comes to: :mod:`verdict`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

from clinical_asr.changes import (
    Pair,
    by_category,
    by_stratum,
    by_term,
    guard_of,
    paired_rows,
    paired_test,
    side_of,
)
from clinical_asr.compared import Comparison, Missing
from clinical_asr.config import ComparisonConfig
from clinical_asr.errors import ScoringError
from clinical_asr.records import Decision, Stratum
from clinical_asr.tally import Score, Signature
from clinical_asr.training import Selection
from clinical_asr.verdict import NOT_PROMOTED, judge


def compare(
    before: Sequence[Score],
    after: Sequence[Score],
    strata: Mapping[str, Stratum],
    guard_before: Sequence[Score],
    guard_after: Sequence[Score],
    signatures: tuple[Signature, Signature],
    config: ComparisonConfig | None = None,
    previous: Sequence[Decision] = (),
    selection: Selection | None = None,
    guard_signatures: tuple[Signature, Signature] | None = None,
    known: Set[str] = frozenset(),
) -> Comparison:
    """Compare two cycles on the rows both hold. ``previous`` are the decisions of earlier cycles, oldest first.

    Rows that chose the model (``selection``) are neither held out nor trained on, and are left out. So are held-out
    rows that the base itself was trained on before (``known``).

    Raises ScoringError, naming the difference, if normaliser, metric version, references or audio differ, if no row is
    shared, if a row has no stratum, or if the guard set holds rows of the benchmark or was heard by another model.
    """
    config = config or ComparisonConfig()
    _refuse_other_yardsticks(*signatures)
    _refuse_shared_rows(before, guard_before)
    if guard_signatures:
        _refuse_other_yardsticks(*guard_signatures, where="guard set")
        _refuse_other_models(signatures, guard_signatures)
    known = {row_id for row_id in known if (stratum := strata.get(row_id)) is not None and stratum.held_out}
    out = known | set(selection.rows if selection else ())
    pairs = [pair for pair in paired_rows(before, after) if pair[0].id not in out]
    labels = _strata_of(pairs, strata)
    unheard = [pair for pair in pairs if labels[pair[0].id].held_out]
    held = [pair for pair in pairs if _decides(labels[pair[0].id])]
    trained = [pair for pair in pairs if not labels[pair[0].id].held_out]
    wanted = _is_priority(config)
    comparison = Comparison(
        verdict="", reason="", next_stage="", exit_code=NOT_PROMOTED,
        priority_categories=[category.value for category in config.priority_categories],
        held_out=side_of(held, labels, wanted),
        new_terms=side_of([pair for pair in unheard if labels[pair[0].id] is Stratum.NEW_TERM], labels, wanted),
        trained_on=side_of(trained, labels, wanted),
        by_stratum=by_stratum([pair for pair in pairs if wanted(pair)], labels),
        by_category=by_category(held),
        by_term=by_term(held),
        statistics=paired_test([pair for pair in held if wanted(pair)]),
        guard=guard_of(
            paired_rows(guard_before, guard_after) if guard_before and guard_after else [],
            config.guard_margin,
            config.guard_upper,
        ),
        signatures=list(signatures),
        config=config,
        missing=_missing(before, after, strata, wanted, out, guard_before, guard_after),
        selection=selection,
        known_to_base=len(known),
    )  # fmt: skip
    verdict, reason, next_stage, exit_code = judge(comparison, previous)
    return replace(comparison, verdict=verdict, reason=reason, next_stage=next_stage, exit_code=exit_code)


def _refuse_other_yardsticks(before: Signature, after: Signature, where: str = "comparison") -> None:
    yardsticks = ("normaliser", "metric_version")
    differences = [d for d in before.differences(after) if d.split(":")[0] in yardsticks]
    if differences:
        raise ScoringError(f"the two cycles were scored differently: {'; '.join(differences)}", where=where,
                           mend="score both again with one normaliser")  # fmt: skip


def _refuse_shared_rows(benchmark: Sequence[Score], guard: Sequence[Score]) -> None:
    """What training may have heard says nothing of what it cost."""
    shared = {row.id for row in benchmark} & {row.id for row in guard}
    if shared:
        what = f"{len(shared)} of its rows stand in the benchmark as well, {min(shared)} for one"
        raise ScoringError(what, "guard set", "give general speech that nobody trained on")


def _refuse_other_models(benchmark: tuple[Signature, Signature], guard: tuple[Signature, Signature]) -> None:
    """A model whose general speech was another's would be promoted for nothing; digests that are not known pass."""
    for when, one, other in zip(("before", "after"), benchmark, guard, strict=True):
        if one.model_digest and other.model_digest and one.model_digest != other.model_digest:
            what = f"was heard {when} by {_named(other)}, the benchmark by {_named(one)}"
            raise ScoringError(what, "guard set", "transcribe both with the same model")


def _named(signature: Signature) -> str:
    return f"{signature.model or 'a model'} ({signature.model_digest[:12]})"


def _missing(
    before: Sequence[Score],
    after: Sequence[Score],
    strata: Mapping[str, Stratum],
    wanted: Callable[[Pair], bool],
    out: Set[str],
    guard_before: Sequence[Score],
    guard_after: Sequence[Score],
) -> Missing:
    """Rows that cannot be paired; a row of no known stratum is one of the others."""
    lost = [row for row in _alone(before, after) if row.id not in out]
    judged = [row for row in lost if wanted((row, row)) and _decides(strata.get(row.id) or row.stratum)]
    general = (guard_before, guard_after) if guard_before and guard_after else ((), ())
    return Missing(
        held_out=len(judged),
        guard=len(_alone(general[0], general[1])),
        others=len(lost) - len(judged),
        added=len(_alone(after, before)) + len(_alone(general[1], general[0])),
    )


def _decides(stratum: Stratum | None) -> bool:
    """Whether a verdict may rest on rows of it: never heard, of a term that was taught."""
    return stratum is not None and stratum.held_out and stratum is not Stratum.NEW_TERM


def _alone(rows: Sequence[Score], others: Sequence[Score]) -> list[Score]:
    known = {row.id for row in others}
    return [row for row in rows if row.id not in known]


def _strata_of(pairs: Sequence[Pair], strata: Mapping[str, Stratum]) -> dict[str, Stratum]:
    labels = {pair[0].id: strata.get(pair[0].id) or pair[1].stratum for pair in pairs}
    unknown = [row_id for row_id, stratum in labels.items() if stratum is None]
    if unknown:
        raise ScoringError(f"{len(unknown)} rows were never split, so nobody knows whether they were trained on",
                           where=f"row {unknown[0]}", mend="split the manifest that was scored")  # fmt: skip
    return {row_id: stratum for row_id, stratum in labels.items() if stratum is not None}


def _is_priority(config: ComparisonConfig) -> Callable[[Pair], bool]:
    return lambda pair: pair[0].entity_category in config.priority_categories
