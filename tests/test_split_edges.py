"""Corners of the split: hold-outs that swallow everything, categories of one row, chains of shared recordings."""

from __future__ import annotations

import pytest

from board import utterance
from clinical_asr.config import SplitConfig
from clinical_asr.errors import ConfigError
from clinical_asr.records import EntityCategory, Stratum
from clinical_asr.split import TooFewRowsError, split


def test_a_hold_out_that_reaches_every_row_by_shared_recordings_is_refused() -> None:
    """Each recording is listed under both voices, so that holding out one voice holds out all recordings."""
    rows = [
        utterance(f"{i}{voice}", text=f"give cefazolin {i}", voice=voice, audio=f"{i}.wav")
        for i in range(6)
        for voice in ("v1", "v2")
    ]
    with pytest.raises(ConfigError, match=r"--hold-out-\*: leave no row to train on; hold out less"):
        split(rows, SplitConfig(hold_out_voices=1))


def test_the_only_row_of_a_category_may_be_held_out_with_its_voice() -> None:
    """Then it is judged, nothing of its category is trained on, and that is what the warning says."""
    rows = [utterance(f"{i}{v}", text=f"give cefazolin {i}", voice=v) for i in range(6) for v in ("v1", "v2")]
    lonely = [utterance("sister", text="call the sister", term="sister", category=EntityCategory.ROLE, voice=v)
              for v in ("v1", "v2")]  # fmt: skip
    told = {}
    for one in lonely:
        found = split([*rows, one], SplitConfig(hold_out_voices=1))
        told[found.strata["sister"]] = [warning for warning in found.warnings if warning.startswith("role")]
    assert told == {
        Stratum.TRAINED: ["role has one row: it is trained on and nothing of it is judged"],
        Stratum.NEW_TERM: ["role: 100% of 1 rows are held out"],
    }


def test_a_category_too_small_to_split_is_told_with_its_mend_and_its_evidence() -> None:
    with pytest.raises(TooFewRowsError) as caught:
        split([utterance(f"{i}", text=f"give cefazolin {i}") for i in range(3)])
    assert str(caught.value) == (
        "split: a priority category needs 5 rows to be split: drug has 3; "
        "add terms, voices or contexts of it, then build again"
    )
    decision = caught.value.decision
    assert (decision.verdict, decision.next_stage, decision.exit_code) == ("go back", "build", 3)
    assert decision.evidence == {"rows": {"drug": 3}, "needed": 5} and decision.reason == caught.value.what


def test_every_category_that_is_too_small_is_told() -> None:
    rows = [utterance(f"{i}", text=f"give cefazolin {i}") for i in range(3)]
    rows += [utterance("x", text="call the sister", term="sister", category=EntityCategory.ROLE)]
    wanted = SplitConfig(priority_categories=(EntityCategory.DRUG, EntityCategory.ROLE))
    with pytest.raises(TooFewRowsError, match="split: drug has 3, role has 1; add terms"):
        split(rows, wanted)


def test_rows_are_counted_by_category_and_by_what_training_has_of_them() -> None:
    rows = [utterance(f"d{i}", text=f"give cefazolin {i}") for i in range(10)]
    rows += [utterance(f"r{i}", text=f"call sister {i}", term="sister", category=EntityCategory.ROLE) for i in range(5)]
    counts = split(rows).counts()
    assert counts == {"drug": {"trained": 8, "new sentence": 2}, "role": {"trained": 4, "new sentence": 1}}
    assert list(counts) == ["drug", "role"]


@pytest.mark.parametrize("priority", [EntityCategory.DRUG, EntityCategory.ROLE])
def test_the_first_term_held_out_is_one_of_the_priority_category(priority: EntityCategory) -> None:
    """Anatomy comes before drug and role by the alphabet, not by what the user asked for."""
    kinds = [EntityCategory.ANATOMY, EntityCategory.DRUG, EntityCategory.ROLE]
    rows = [
        utterance(f"{kind}{t}{v}", text=f"say {kind}{t}", term=f"{kind}{t}", category=kind, voice=f"v{v}")
        for kind in kinds
        for t in range(3)
        for v in range(4)
    ]
    found = split(rows, SplitConfig(hold_out_terms=1, priority_categories=(priority,)))
    assert {row.entity_category for row in found.validation if row.extra["stratum"] == "new term"} == {priority}


GRID = [
    utterance(
        f"{kind[0]}{t}{s}{v}", text=f"sentence {s} says {kind}{t}", term=f"{kind}{t}", category=kind, voice=f"v{v}"
    )
    for kind in (EntityCategory.DRUG, EntityCategory.LAB)
    for t in range(3)
    for s in range(3)
    for v in range(3)
]


@pytest.mark.parametrize(
    ("config", "held"),
    [
        (SplitConfig(), "d012 d020 d100 d212 d221 l002 l110 l121 l212 l220"),
        (SplitConfig(hold_out_sentences=0.25), "d020 d120 d121 d122 d210 d211 d212 l010 l011 l012 l120 l200 l201 l202"),
        (
            SplitConfig(hold_out_voices=1, hold_out_terms=1),
            "d000 d001 d002 d010 d011 d012 d020 d021 d022 d102 d112 d122 d200 d202 d212 d222 "
            "l002 l012 l020 l022 l102 l112 l122 l202 l212 l222",
        ),
    ],
)
def test_a_seed_holds_out_the_same_rows_in_every_version_of_this_program(config: SplitConfig, held: str) -> None:
    """Numbers of two cycles can only be set side by side if the same rows are drawn again: ids are category, term,
    sentence, voice."""
    assert " ".join(row.id for row in split(GRID, config).validation) == held
