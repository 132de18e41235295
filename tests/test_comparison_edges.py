"""Verdicts where something is missing: no statistics, no held-out row, no guard interval, no candidate inside."""

from __future__ import annotations

from dataclasses import asdict, replace

import msgspec
import pytest

from board import all_strata, guard, rows, scored
from clinical_asr.compared import Comparison
from clinical_asr.comparison import compare
from clinical_asr.config import ComparisonConfig
from clinical_asr.errors import ScoringError
from clinical_asr.evidence import comparison_grounds
from clinical_asr.records import Decision, EntityCategory, Stratum
from clinical_asr.report import comparison_markdown
from clinical_asr.statistics import PairedComparison
from clinical_asr.tally import Score, Signature
from clinical_asr.training import Candidate, Margins, Selection
from clinical_asr.verdict import decide


def compared(
    after: int = 20,
    *,
    before: int = 100,
    guards: tuple[list[Score], list[Score]] | None = None,
    stratum: Stratum = Stratum.NEW_SENTENCE,
    selection: Selection | None = None,
    config: ComparisonConfig | None = None,
    terms: int = 20,
) -> Comparison:
    """200 rows, of which ``before`` were missed and ``after`` are."""
    old, signature = scored(rows(200, before, terms=terms))
    new, other = scored(rows(200, after, terms=terms, model="tuned", digest="bb"))
    left, right = guards or (guard(1000, 10), guard(1000, 10))
    strata = all_strata((row.id for row in old), stratum)
    return compare(old, new, strata, left, right, (signature, other), config, selection=selection)


def chosen_among(*candidates: Candidate, rows: tuple[str, ...] = ()) -> Selection:
    return Selection(rows, 40, {"ker": 0.5}, candidates, candidates[0], Margins())


def test_where_every_candidate_costs_too_much_nothing_is_promoted_and_the_trade_off_is_told() -> None:
    strong = Candidate(3, 1.0, {"ker": 0.1, "guard_rise": 0.25})
    mild = Candidate(3, 0.25, {"ker": 0.4, "guard_rise": 0.0125})
    between = Candidate(3, 0.5, {"ker": 0.2, "guard_rise": 0.1})
    found = compared(selection=chosen_among(strong, between, mild))
    assert (found.verdict, found.next_stage, found.exit_code) == ("not promoted", "finetune", 5)
    assert found.reason == (
        "no candidate stays within 0.30 points of general speech on the rows that choose "
        "(factor 0.25: KER 0.400, general WER +1.25 points; factor 1: KER 0.100, general WER +25.00 points)"
    )


def test_a_single_candidate_is_told_once_and_what_it_lacks_is_unknown() -> None:
    only = Candidate(1, 1.0, {"ker": None, "guard_high": 0.5})
    reason = compared(selection=chosen_among(only)).reason
    assert reason.endswith("rows that choose (factor 1: KER unknown, general WER unknown)")


def test_a_candidate_inside_the_margins_leaves_the_verdict_to_held_out_rows_less_those_that_chose() -> None:
    inside = chosen_among(Candidate(1, 1.0, {"ker": 0.1, "guard_rise": 0.0}), rows=("r00000", "r00199"))
    found = compared(selection=inside)
    assert (found.verdict, found.held_out.rows, found.selection) == ("promote", 198, inside)
    assert (found.held_out.misses_before, found.held_out.misses_after) == (99, 19)
    assert compared().held_out.rows == 200 and compared().selection is None


def test_a_worse_guard_set_is_told_even_where_no_row_was_held_out() -> None:
    found = compared(guards=(guard(1000, 10), guard(1000, 500)), stratum=Stratum.TRAINED)
    assert (found.verdict, found.next_stage, found.exit_code) == ("not promoted", "finetune", 5)
    assert found.reason == (
        "general-English WER rose by 4.90 points (0.10% -> 5.00% on 1000 guard rows), more than the allowed "
        "0.30 points; KER was not measured on held-out rows"
    )


def test_one_guard_row_cannot_rule_anything_out() -> None:
    found = compared(guards=(guard(1, 0), guard(1, 0)))
    assert (found.verdict, found.next_stage, found.exit_code) == ("inconclusive", "guard", 4)
    assert "the guard set of 1 rows cannot rule out a rise of an unknown amount (allowed: 1.00 points)" in found.reason


@pytest.mark.parametrize("one_side", [(guard(9, 1), []), ([], guard(9, 1))])
def test_a_guard_set_transcribed_once_only_is_none(one_side: tuple[list[Score], list[Score]]) -> None:
    found = compared(guards=one_side)
    assert found.guard.rows == 0 and found.guard.difference is None
    assert (found.verdict, found.next_stage) == ("not promoted", "guard")
    assert "no guard set says what it cost in general English" in found.reason


def test_a_comparison_that_was_read_back_without_statistics_promotes_nothing() -> None:
    decision = decide(replace(compared(), statistics=None))
    assert (decision.verdict, decision.next_stage, decision.exit_code) == ("inconclusive", "build", 4)
    assert decision.reason.endswith(", but no term was measured twice") and decision.evidence["statistics"] is None
    still = decide(replace(compared(after=100), statistics=None))
    assert (still.verdict, still.exit_code) == ("no change", 4)


def test_a_decision_carries_all_that_it_rests_on() -> None:
    found = compared()
    evidence = decide(found).evidence
    assert evidence == {
        "priority_categories": ["drug"], "held_out": asdict(found.held_out), "new_terms": asdict(found.new_terms),
        "trained_on": asdict(found.trained_on), "statistics": asdict(found.statistics), "guard": asdict(found.guard),
        "missing": {"held_out": 0, "guard": 0, "others": 0, "added": 0},
    }  # fmt: skip


def test_a_guard_set_that_was_read_back_without_its_rates_is_told_as_unknown() -> None:
    bare = replace(compared().guard, worse=True, wer_before=None, wer_after=None, difference=None)
    decision = decide(replace(compared(), guard=bare))
    assert (decision.verdict, decision.next_stage, decision.exit_code) == ("not promoted", "finetune", 5)
    assert decision.reason.startswith("general-English WER rose by an unknown amount (unknown), more than the allowed")


def test_a_guard_set_too_small_to_tell_says_how_far_the_rise_may_reach() -> None:
    wide = replace(compared().guard, proven=False, high=0.0234)
    decision = decide(replace(compared(), guard=wide))
    assert (decision.verdict, decision.next_stage, decision.exit_code) == ("inconclusive", "guard", 4)
    assert decision.reason.endswith(
        "the guard set of 1000 rows cannot rule out a rise of 2.34 points (allowed: 1.00 points); add guard rows"
    )


def test_where_nothing_was_missed_before_no_relative_change_is_told() -> None:
    assert compared(after=20, before=0).reason.startswith(
        "held-out KER 0.000 -> 0.100 on 200 rows (200 new sentence): worse on what it has not heard"
    )


def test_each_stratum_of_the_held_out_rows_is_told_with_its_number_of_rows() -> None:
    mixed = replace(compared().held_out, strata={"new voice": 150, "new sentence": 50})
    reason = decide(replace(compared(), held_out=mixed)).reason
    assert " on 200 rows (150 new voice, 50 new sentence), p < 0.001" in reason


def test_a_second_small_cycle_says_why_it_stops() -> None:
    assert decide(compared(after=100), [earlier(0.0)]).reason == (
        "held-out KER 0.500 -> 0.500 (+0%) on 200 rows (200 new sentence): "
        "the second cycle in a row under 5%; stop tuning"
    )


def test_a_promotion_says_what_it_rests_on() -> None:
    assert compared().reason == (
        "held-out KER 0.500 -> 0.100 (-80%) on 200 rows (200 new sentence), p < 0.001 over 20 terms; "
        "general-English WER 0.10% -> 0.10% on 1000 guard rows"
    )


def statistics(p_value: float | None, terms_needed: int | None = 25) -> PairedComparison:
    return PairedComparison(20, 200, -0.4, -0.5, -0.3, p_value, 0.1, terms_needed)


@pytest.mark.parametrize(
    ("p_value", "verdict"), [(0.0499, "promote"), (0.05, "inconclusive"), (0.2, "inconclusive"), (None, "inconclusive")]
)
def test_significant_is_below_alpha_and_not_at_it(p_value: float | None, verdict: str) -> None:
    assert decide(replace(compared(), statistics=statistics(p_value))).verdict == verdict


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (statistics(0.2), "20 terms cannot tell it from chance (p = 0.200): needs about 5 more terms"),
        (statistics(None), "20 terms cannot tell it from chance: needs about 5 more terms"),
        (statistics(0.2, 20), "20 terms cannot tell it from chance (p = 0.200): needs about 1 more terms"),
        (statistics(0.2, 3), "20 terms cannot tell it from chance (p = 0.200): needs about 1 more terms"),
        (statistics(0.2, None), "20 terms cannot tell it from chance (p = 0.200): more terms are needed"),
    ],
)
def test_too_few_terms_says_how_many_more_at_least_one(found: PairedComparison, says: str) -> None:
    assert decide(replace(compared(), statistics=found)).reason.endswith(f", but {says}")


@pytest.mark.parametrize(("p_value", "shown"), [(0.001, "p = 0.001"), (0.00099, "p < 0.001"), (0.0421, "p = 0.042")])
def test_p_values_have_three_places(p_value: float, shown: str) -> None:
    assert f", {shown} over 20 terms" in decide(replace(compared(), statistics=statistics(p_value))).reason


def test_growth_and_overfit_that_chance_could_explain_say_so() -> None:
    untested = decide(replace(compared(after=90), statistics=statistics(None)))
    assert untested.reason.endswith("(but 20 terms cannot tell it from chance: needs about 5 more terms)")
    for after in (90, 110):
        over_terms = [replace(statistics(p), mean_difference=(after - 100) / 200) for p in (0.01, 0.4)]
        sure, unsure = (decide(replace(compared(after=after), statistics=found)) for found in over_terms)
        assert "chance" not in sure.reason
        assert unsure.reason == (
            f"{sure.reason} (but 20 terms cannot tell it from chance (p = 0.400): needs about 5 more terms)"
        )
        assert (sure.verdict, sure.exit_code) == (unsure.verdict, unsure.exit_code)


def test_no_change_is_firm_where_a_change_of_five_percent_would_have_been_seen() -> None:
    """KER 0.5 before: five percent of it is 0.025."""
    still = compared(after=100)
    for detectable, code in ((0.025, 5), (0.0251, 4), (None, 4)):
        found = replace(statistics(0.9), minimum_detectable_difference=detectable)
        decision = decide(replace(still, statistics=found))
        assert (decision.verdict, decision.next_stage, decision.exit_code) == ("no change", "leaderboard", code)
        assert ("needs about 5 more terms" in decision.reason) is (code == 4)
    perfect = compared(after=0, before=0)
    assert (perfect.verdict, perfect.exit_code) == ("no change", 5)


def earlier(change: float | None) -> Decision:
    return Decision(verdict="", reason="", next_stage="", exit_code=5,
                    evidence={"held_out": {"ker_relative_change": change}})  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ((-0.049,), "stop"),
        ((0.3,), "stop"),
        ((-0.05,), "no change"),
        ((None,), "no change"),
        ((-0.5, 0.0), "stop"),
        ((0.0, -0.5), "no change"),
        ((), "no change"),
    ],
)
def test_only_the_last_cycle_counts_towards_two_in_a_row(changes: tuple[float | None, ...], verdict: str) -> None:
    assert decide(compared(after=100), [earlier(change) for change in changes]).verdict == verdict


def test_an_earlier_decision_without_held_out_rows_stops_nothing() -> None:
    for evidence in ({}, {"held_out": None}):
        old = Decision(verdict="", reason="", evidence=evidence, next_stage="", exit_code=5)
        assert decide(compared(after=100), [old]).verdict == "no change"


def test_what_training_has_seen_comes_from_the_split_and_else_from_the_row_itself() -> None:
    old, signature = scored(rows(20, 10))
    new = [msgspec.structs.replace(row, stratum=Stratum.TRAINED if i < 5 else Stratum.NEW_VOICE)
           for i, row in enumerate(old)]  # fmt: skip
    found = compare(old, new, {old[0].id: Stratum.NEW_TERM}, [], [], (signature, signature))
    assert (found.new_terms.rows, found.trained_on.rows, found.held_out.strata) == (1, 4, {"new voice": 15})
    assert {line.key: line.rows for line in found.by_stratum} == {"trained": 4, "new voice": 15, "new term": 1}


def test_rows_that_were_never_split_are_counted_and_the_first_is_named() -> None:
    old, signature = scored(rows(4, 1))
    with pytest.raises(ScoringError, match="row r00001: 3 rows were never split, so nobody knows"):
        compare(old, old, {"r00000": Stratum.NEW_VOICE}, [], [], (signature, signature))


def test_a_comparison_may_hold_other_manifests_and_models_but_one_way_of_counting() -> None:
    old, signature = scored(rows(4, 1))
    strata, other = all_strata(row.id for row in old), replace(signature, manifest_digest="other", rows=9, model="x")
    assert compare(old, old, strata, [], [], (signature, other)).signatures == [signature, other]
    with pytest.raises(ScoringError, match="comparison: the two cycles were scored differently: metric_version: 1 / 2"):
        compare(old, old, strata, [], [], (signature, replace(signature, metric_version="2")))


def test_several_priority_categories_are_named_and_all_count() -> None:
    both = ComparisonConfig(priority_categories=(EntityCategory.DRUG, EntityCategory.LAB))
    found = compared(config=both, stratum=Stratum.TRAINED)
    assert found.priority_categories == ["drug", "lab"]
    assert "no held-out row of drug, lab whose term was taught" in found.reason and found.next_stage == "split"
    assert compared(config=both).held_out.rows == 200


def test_terms_that_change_the_other_way_than_the_rows_prove_nothing() -> None:
    """One term with most rows is learnt, ten others are lost: p is small, of a rise."""
    risen = replace(statistics(0.012), mean_difference=0.83)
    found = replace(compared(), statistics=risen)
    decision = decide(found)
    assert (decision.verdict, decision.exit_code) == ("inconclusive", 4)
    assert decision.reason.endswith(
        ", but the terms disagree with the rows: over 20 terms the mean change is 83.00 points up"
    )
    assert [ground.met for ground in comparison_grounds(found)] == [True, False, True]
    worse = decide(replace(compared(after=180), statistics=replace(statistics(0.01), mean_difference=-0.1)))
    even = decide(replace(compared(), statistics=replace(statistics(0.01), mean_difference=0.0)))
    untold = decide(replace(compared(), statistics=replace(statistics(0.01), mean_difference=None)))
    assert even.verdict == untold.verdict == "promote"
    assert worse.verdict == "overfit" and "over 20 terms the mean change is 10.00 points down" in worse.reason


# --- rows of one side alone -------------------------------------------------------------------------------------------


def with_rows_lost(
    lost: int = 0, guards_lost: int = 0, added: int = 0, stratum: Stratum = Stratum.NEW_SENTENCE
) -> Comparison:
    """100 rows missed before; after, ``lost`` of those that are missed still are left out, and others added."""
    old, signature = scored(rows(200, 100, terms=20))
    new, other = scored(rows(200, 20, terms=20, model="tuned", digest="bb"))
    general = guard(1000, 10)
    strata = {row.id: Stratum.NEW_SENTENCE for row in old} | {row.id: stratum for row in new[:lost]}
    return compare(old[: len(old) - added], new[lost:], strata, general, general[guards_lost:], (signature, other))


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ({"lost": 20}, "only before: 20 held-out rows"),
        ({"lost": 1, "added": 5}, "only before: 1 held-out rows; only after: 5 rows"),
        ({"guards_lost": 200}, "only before: 200 guard rows"),
    ],
)
def test_a_model_that_was_spared_rows_is_not_promoted(lost: dict[str, int], says: str) -> None:
    found = with_rows_lost(**lost)
    assert (found.verdict, found.next_stage, found.exit_code) == ("inconclusive", "hypotheses", 4)
    assert f"rows that the base heard are missing after ({says})" in found.reason
    assert found.reason.endswith("); transcribe them with the tuned model, or take them out of both")
    assert comparison_grounds(found)[-1].number == says and comparison_grounds(found)[-1].met is False
    assert f"Left out: {says}." in comparison_markdown(found)
    assert decide(found).evidence["missing"]["held_out"] == lost.get("lost", 0)


@pytest.mark.parametrize("stratum", [Stratum.TRAINED, Stratum.NEW_TERM])
def test_rows_that_do_not_decide_may_be_missing_and_are_told(stratum: Stratum) -> None:
    found = with_rows_lost(lost=7, stratum=stratum)
    assert found.verdict == "promote" and str(found.missing) == "only before: 7 other rows"
    assert comparison_grounds(found)[-1].met is True


def test_general_speech_that_only_the_tuned_model_heard_is_told_too() -> None:
    old, signature = scored(rows(200, 100, terms=20))
    new, other = scored(rows(200, 20, terms=20, model="tuned", digest="bb"))
    strata = all_strata((row.id for row in old), Stratum.NEW_SENTENCE)
    for left, right, says in ((900, 1000, "only after: 100 rows"), (0, 1000, ""), (1000, 0, "")):
        found = compare(old, new, strata, guard(left, 9), guard(right, 9), (signature, other))
        assert str(found.missing) == says


def test_rows_of_no_known_stratum_and_of_other_categories_do_not_decide() -> None:
    old, signature = scored([*rows(200, 100, terms=20), *rows(9, 9, start=300, category=EntityCategory.LAB)])
    new, other = scored(rows(190, 20, terms=20, model="tuned", digest="bb"))
    strata = {row.id: Stratum.NEW_SENTENCE for row in old if row.id not in {"r00190", "r00191"}}
    found = compare(old, new, strata, guard(1000, 9), guard(1000, 9), (signature, other))
    assert str(found.missing) == "only before: 8 held-out rows, 11 other rows"


def test_rows_that_only_the_tuned_model_heard_do_not_matter_and_are_told() -> None:
    found = with_rows_lost(added=30)
    assert found.verdict == "promote" and str(found.missing) == "only after: 30 rows"
    assert str(compared().missing) == "" and "Left out" not in comparison_markdown(compared())


def test_held_out_rows_that_the_base_was_trained_on_are_left_out_and_told() -> None:
    """A trained row stays one, and a row that nobody split is nobody's."""
    old, signature = scored(rows(200, 100, terms=20))
    new, other = scored(rows(200, 20, terms=20, model="tuned", digest="bb"))
    strata = {row.id: Stratum.TRAINED if row.id > "r00149" else Stratum.NEW_SENTENCE for row in old}
    known = {"r00001", "r00002", "r00150", "of another manifest"}
    found = compare(old, new[2:], strata, [], [], (signature, other), known=known)
    assert (found.known_to_base, found.held_out.rows, found.trained_on.rows) == (2, 147, 50)
    assert str(found.missing) == "only before: 1 held-out rows"
    assert "Left out: only before: 1 held-out rows; 2 rows that the base was trained on." in comparison_markdown(found)


def test_a_guard_set_with_a_row_of_the_benchmark_is_none() -> None:
    old, signature = scored(rows(200, 100, terms=20))
    with pytest.raises(ScoringError, match="guard set: 1 of its rows stand in the benchmark as well, r00007 for one"):
        compare(old, old, {}, [*guard(9, 0), old[7]], [*guard(9, 0), old[7]], (signature, signature))


# --- whose general speech ---------------------------------------------------------------------------------------------


def general_of(
    *digests: str, normalisers: tuple[str, str] = ("clinical-v1", "clinical-v1")
) -> tuple[Signature, Signature]:
    one, two = (
        Signature(normaliser, "1", digest, digest, "m", 1000)
        for normaliser, digest in zip(normalisers, digests, strict=True)
    )
    return one, two


def judged_with(signatures: tuple[Signature, Signature]) -> Comparison:
    old, signature = scored(rows(200, 100, terms=20))
    new, other = scored(rows(200, 20, terms=20, model="tuned", digest="bb"))
    strata = all_strata((row.id for row in old), Stratum.NEW_SENTENCE)
    sides = guard(1000, 10), guard(1000, 10)
    return compare(old, new, strata, *sides, (signature, other), guard_signatures=signatures)


def test_general_speech_of_another_model_is_refused() -> None:
    base = scored(rows(200, 100, terms=20))[1].model_digest
    assert judged_with(general_of(base, "bb")).verdict == "promote"
    assert judged_with(general_of("", "")).verdict == "promote", "older files do not know"
    for wrong, when in (((base, base), "after"), (("bb", "bb"), "before")):
        with pytest.raises(ScoringError, match=f"guard set: was heard {when} by .+, the benchmark by .+"):
            judged_with(general_of(*wrong))


def test_whose_general_speech_it_was_is_told_by_name_and_digest() -> None:
    base = scored(rows(200, 100, terms=20))[1]
    nameless = replace(general_of("f" * 64, "bb")[0], model="")
    with pytest.raises(ScoringError) as refused:
        judged_with((nameless, general_of("", "bb")[1]))
    told = f"guard set: was heard before by a model (ffffffffffff), the benchmark by {base.model} ({base.model_digest})"
    assert str(refused.value) == f"{told}; transcribe both with the same model"


def test_general_speech_that_was_scored_in_two_ways_is_refused() -> None:
    base = scored(rows(200, 100, terms=20))[1].model_digest
    with pytest.raises(ScoringError, match=r"guard set: .+ normaliser: flywheel-v1 / clinical-v1"):
        judged_with(general_of(base, "bb", normalisers=("flywheel-v1", "clinical-v1")))
