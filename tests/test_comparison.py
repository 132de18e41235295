"""Cycle against cycle: every verdict on both sides of its threshold, what is refused, and what the JSON holds."""

from __future__ import annotations

import msgspec
import pytest

from board import all_strata, guard, rows, scored
from clinical_asr.compared import Comparison
from clinical_asr.comparison import compare
from clinical_asr.config import ComparisonConfig
from clinical_asr.errors import ScoringError
from clinical_asr.records import Decision, EntityCategory, Hypothesis, Stratum
from clinical_asr.scores import score
from clinical_asr.training import Selection
from clinical_asr.verdict import decide

N, TERMS = 200, 20


def cycle(misses: int, *, model: str = "base", n: int = N, terms: int = TERMS, **fields: object) -> list[Hypothesis]:
    """``n`` rows, of which ``misses`` are missed, spread evenly over the terms."""
    return rows(n, misses, terms=terms, model=model, digest="aa" if model == "base" else model, **fields)


def compared(
    before: int = 100,
    after: int = 20,
    guard_errors: tuple[int, int] = (10, 10),
    guard_rows: int = 1000,
    previous: tuple[Decision, ...] = (),
    n: int = N,
    terms: int = TERMS,
    selection: Selection | None = None,
) -> Comparison:
    old, old_signature = scored(cycle(before, n=n, terms=terms))
    new, new_signature = scored(cycle(after, model="tuned", n=n, terms=terms))
    return compare(
        old,
        new,
        all_strata(row.id for row in old),
        guard(guard_rows, guard_errors[0]),
        guard(guard_rows, guard_errors[1]),
        (old_signature, new_signature),
        previous=previous,
        selection=selection,
    )


@pytest.mark.parametrize(
    ("after", "verdict", "exit_code", "next_stage"),
    [
        (20, "promote", 0, "deploy"),
        (80, "promote", 0, "deploy"),  # exactly 20 % down
        (81, "grow", 5, "build"),
        (95, "grow", 5, "build"),  # exactly 5 % down
        (100, "no change", 5, "leaderboard"),
        (105, "no change", 4, "leaderboard"),  # exactly 5 % up, on too few terms to tell
        (106, "overfit", 5, "build"),
        (160, "overfit", 5, "build"),
    ],
)
def test_the_fall_of_held_out_ker_decides(after: int, verdict: str, exit_code: int, next_stage: str) -> None:
    found = compared(after=after)
    assert (found.verdict, found.exit_code, found.next_stage) == (verdict, exit_code, next_stage)
    decision = decide(found)
    assert (decision.verdict, decision.exit_code, decision.reason) == (verdict, exit_code, found.reason)


def test_inside_five_percent_is_no_change_and_says_where_to_look() -> None:
    found = compared(after=96)
    assert found.verdict == "no change"
    assert "look per category" in found.reason


def test_no_change_is_inconclusive_where_a_change_could_not_have_been_seen() -> None:
    old, signature = scored(cycle(20, n=40, terms=4))
    # Two terms better, two worse: the mean stands still and the spread over terms is wide.
    flipped = cycle(20, n=40, terms=4, model="tuned")
    flipped = [msgspec.structs.replace(r, pred_text=r.text if r.term in ("term0", "term1") else "no") for r in flipped]
    new, other = scored(flipped)
    found = compare(old, new, all_strata(r.id for r in old), guard(500, 5), guard(500, 5), (signature, other))
    assert (found.verdict, found.exit_code) == ("no change", 4)
    assert "more terms" in found.reason


def test_a_large_fall_on_few_terms_is_inconclusive_and_says_how_many_more() -> None:
    found = compared(before=20, after=5, n=40, terms=4)
    assert found.held_out.ker_relative_change == pytest.approx(-0.75)
    assert (found.verdict, found.exit_code) == ("inconclusive", 4)
    assert "more terms" in found.reason and "p = 0.125" in found.reason


@pytest.mark.parametrize(("errors", "verdict"), [(40, "promote"), (41, "not promoted"), (2000, "not promoted")])
def test_the_guard_set_overrules_ker_beyond_its_margin(errors: int, verdict: str) -> None:
    """10,000 words, 10 errors before: 40 errors are exactly 0.30 points more."""
    found = compared(guard_errors=(10, errors), guard_rows=1000 if errors < 1000 else 2000)
    assert found.verdict == verdict
    assert found.exit_code == (0 if verdict == "promote" else 5)


def test_a_worse_guard_set_overrules_every_other_verdict_too() -> None:
    assert compared(after=96, guard_errors=(10, 500)).verdict == "not promoted"
    assert compared(after=150, guard_errors=(10, 500)).verdict == "not promoted"


def test_a_guard_set_too_small_to_tell_does_not_promote() -> None:
    old, old_signature = scored(cycle(100))
    new, new_signature = scored(cycle(20, model="tuned"))
    before, after = guard(30, 10), score(
        Hypothesis(id=row.id, audio_filepath=row.audio_filepath, text=row.reference, duration=3.0,
                   pred_text=row.reference.replace("nine", "nein") if i >= 20 else row.reference)
        for i, row in enumerate(guard(30, 0))
    )  # fmt: skip
    found = compare(old, new, all_strata(r.id for r in old), before, after, (old_signature, new_signature))
    assert found.guard.difference == 0
    assert found.guard.high is not None and found.guard.high > found.guard.upper
    assert (found.verdict, found.exit_code, found.next_stage) == ("inconclusive", 4, "guard")
    assert f"cannot rule out a rise of {100 * found.guard.high:.2f} points" in found.reason


def test_without_a_guard_set_nothing_is_promoted() -> None:
    old, old_signature = scored(cycle(100))
    new, new_signature = scored(cycle(20, model="tuned"))
    found = compare(old, new, all_strata(r.id for r in old), [], [], (old_signature, new_signature))
    assert (found.verdict, found.exit_code) == ("not promoted", 5)
    assert "guard" in found.reason and found.guard.rows == 0 and found.guard.wer_before is None


def test_without_held_out_rows_nothing_is_promoted() -> None:
    old, old_signature = scored(cycle(100))
    new, new_signature = scored(cycle(0, model="tuned"))
    strata = all_strata((r.id for r in old), Stratum.TRAINED)
    found = compare(old, new, strata, guard(500, 5), guard(500, 5), (old_signature, new_signature))
    assert (found.verdict, found.exit_code) == ("inconclusive", 4)
    assert found.held_out.rows == 0 and found.trained_on.rows == N and "no held-out row of drug" in found.reason


def test_two_cycles_in_a_row_under_five_percent_stop() -> None:
    first = decide(compared(after=97))
    assert first.verdict == "no change"
    second = compared(after=98, previous=(first,))
    assert (second.verdict, second.exit_code, second.next_stage) == ("stop", 5, "stop")
    assert second.reason.endswith("the second cycle in a row under 5%; stop tuning")
    assert decide(compared(after=98), [first]).verdict == "stop"
    assert compared(after=98, previous=(decide(compared(after=20)),)).verdict == "no change"
    assert compared(after=20, previous=(first,)).verdict == "promote"


def test_trained_on_rows_do_not_count_towards_the_verdict() -> None:
    """Memory is perfect on trained-on rows; held-out rows got worse: overfit, whatever the pooled KER says."""
    old, old_signature = scored([*cycle(100), *rows(400, 400, start=1000)])
    new, new_signature = scored([*cycle(140, model="tuned"), *rows(400, 0, start=1000, model="tuned", digest="tuned")])
    strata = {r.id: Stratum.TRAINED if r.id >= "r01000" else Stratum.NEW_VOICE for r in old}
    found = compare(old, new, strata, guard(500, 5), guard(500, 5), (old_signature, new_signature))
    assert found.verdict == "overfit"
    assert found.trained_on.ker_after == 0 and found.held_out.strata == {"new voice": N}
    assert "200 new voice" in found.reason


def test_only_priority_categories_decide() -> None:
    others = rows(N, 0, terms=TERMS, start=5000, category=EntityCategory.ROLE)
    tuned = rows(N, N, terms=TERMS, start=5000, category=EntityCategory.ROLE, model="tuned", digest="tuned")
    old, old_signature = scored([*cycle(100), *others])
    new, new_signature = scored([*cycle(20, model="tuned"), *tuned])
    found = compare(
        old, new, all_strata(r.id for r in old), guard(1000, 5), guard(1000, 5), (old_signature, new_signature)
    )
    assert found.verdict == "promote"
    assert found.held_out.rows == N and found.held_out.all_categories.rows == 2 * N
    by_category = {change.key: change for change in found.by_category}
    assert by_category["role"].ker_after == 1 and by_category["role"].ker_relative_change is None
    drug = by_category["drug"]
    assert drug.p_value is not None and drug.p_holm is not None and drug.p_holm >= drug.p_value


def test_missing_more_where_nothing_was_missed_before_is_overfit() -> None:
    assert compared(before=0, after=10).verdict == "overfit"
    assert compared(before=0, after=0).verdict == "no change"


def test_only_rows_both_cycles_hold_are_compared() -> None:
    old, old_signature = scored(cycle(100)[:-1])
    new, new_signature = scored(cycle(20, model="tuned")[1:])
    found = compare(old, new, all_strata(f"r{i:05d}" for i in range(N)), guard(9, 1), guard(9, 1),
                    (old_signature, new_signature))  # fmt: skip
    assert found.held_out.rows == N - 2


def refused(old: list[Hypothesis], new: list[Hypothesis], normalisers: tuple[str, str] = ("clinical-v1",) * 2) -> str:  # type: ignore[assignment]
    from clinical_asr.scores import signature

    with pytest.raises(ScoringError) as caught:
        compare(
            score(old, normalisers[0]), score(new, normalisers[1]), all_strata(r.id for r in old), [], [],
            (signature(old, normalisers[0]), signature(new, normalisers[1])),
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_differs_is_named_and_refused() -> None:
    replace = msgspec.structs.replace
    old = cycle(5, n=10)
    assert "normaliser: clinical-v1 / flywheel-v1" in refused(old, old, ("clinical-v1", "flywheel-v1"))
    changed = [replace(old[0], text="Please give term0 later."), *old[1:]]
    assert "reference differs" in refused(old, changed) and "r00000" in refused(old, changed)
    anew = [replace(old[0], id="other"), *old[1:]]
    assert "audio of audio/r00000.wav is not the same" in refused(old, anew)
    rewritten = [replace(old[0], id="other", text="Please give term0 later."), *old[1:]]
    assert "reference of audio/r00000.wav" in refused(old, rewritten)
    apart = [replace(row, id=f"x{row.id}", audio_filepath=f"x{row.id}") for row in old]
    assert "share no row" in refused(old, apart)


def test_a_row_that_was_never_split_is_refused() -> None:
    old, signature = scored(cycle(5, n=10))
    with pytest.raises(ScoringError, match="never split"):
        compare(old, old, {}, [], [], (signature, signature))


def test_the_json_has_what_machines_read_and_reads_back() -> None:
    found = compared()
    document = msgspec.json.decode(msgspec.json.encode(found))
    assert {"verdict", "reason", "priority_categories", "held_out", "trained_on", "by_stratum", "by_category",
            "by_term", "statistics", "guard", "signatures"} <= document.keys()  # fmt: skip
    for side in ("held_out", "trained_on"):
        assert {"rows", "ker_before", "ker_after", "ker_relative_change", "all_categories"} <= document[side].keys()
    assert {"rows", "wer_before", "wer_after", "difference", "low", "high"} <= document["guard"].keys()
    assert document["held_out"]["ker_before"] == 0.5 and document["held_out"]["ker_relative_change"] == pytest.approx(
        -0.8
    )
    assert msgspec.json.decode(msgspec.json.encode(found), type=Comparison) == found
    evidence = msgspec.json.decode(msgspec.json.encode(decide(found)))["evidence"]
    assert evidence["held_out"]["rows"] == N and evidence["statistics"]["n_terms"] == TERMS


def test_thresholds_come_from_the_config() -> None:
    old, old_signature = scored(cycle(100))
    new, new_signature = scored(cycle(85, model="tuned"))
    found = compare(
        old,
        new,
        all_strata(r.id for r in old),
        guard(1000, 5),
        guard(1000, 5),
        (old_signature, new_signature),
        ComparisonConfig(keep_reduction=0.15),
    )
    assert found.verdict == "promote"


def test_terms_that_were_never_taught_are_shown_and_do_not_decide() -> None:
    """Twenty terms, ten of them held out whole: their rows count in no test and in no verdict."""
    old, old_signature = scored(cycle(200))
    new, new_signature = scored(cycle(100, model="tuned"))
    untaught = set(sorted({row.term for row in old})[:10])
    strata = {row.id: Stratum.NEW_TERM if row.term in untaught else Stratum.NEW_SENTENCE for row in old}
    found = compare(old, new, strata, guard(500, 5), guard(500, 5), (old_signature, new_signature))
    assert found.held_out.strata == {"new sentence": N // 2} and found.new_terms.strata == {"new term": N // 2}
    assert found.statistics is not None and found.statistics.n_terms == found.held_out.terms == 10
    assert not untaught & {line.key for line in found.by_term}
