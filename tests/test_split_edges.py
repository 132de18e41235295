"""Corners of the split: hold-outs that swallow everything, categories of one row, chains of shared recordings."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from board import utterance
from clinical_asr.audio import plan
from clinical_asr.cli.wheel import _demo_request
from clinical_asr.config import SplitConfig
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.records import ClinicalUtterance, EntityCategory, IpaSource, Pronunciation, Stratum
from clinical_asr.sentences import build_sentences
from clinical_asr.split import TooFewRowsError, split
from clinical_asr.terms import read_terms


def test_a_hold_out_that_reaches_every_row_by_shared_recordings_is_refused() -> None:
    """Each recording is listed under both voices, so that holding out one voice holds out all recordings."""
    rows = [
        utterance(f"{i}{voice}", text=f"give cefazolin {i}", voice=voice, audio=f"{i}.wav")
        for i in range(6)
        for voice in ("v1", "v2")
    ]
    with pytest.raises(ConfigError, match=r"--hold-out-\*, --max-duration: leave no row to train on; hold out less"):
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


def test_no_row_at_all_is_too_few() -> None:
    with pytest.raises(TooFewRowsError, match="drug has 0"):
        split([])


def test_a_row_without_an_id_is_told_as_such() -> None:
    rows = [utterance(f"{i}" if i else "", text=f"give cefazolin {i}") for i in range(6)]
    with pytest.raises(FlywheelError, match="row id '' is missing or stands twice"):
        split(rows)


def test_half_of_a_category_may_be_held_out_without_a_warning() -> None:
    rows = [utterance(f"d{i}", text=f"give cefazolin {i}") for i in range(10)]
    rows += [utterance(f"r{i}", text=f"call sister {i}", term="sister", category=EntityCategory.ROLE) for i in range(2)]
    found = split(rows)
    assert found.counts()["role"] == {"trained": 1, "new sentence": 1} and found.warnings == []


def test_a_term_that_training_heard_in_passing_in_any_of_its_rows_is_no_new_one() -> None:
    """The second voice alone speaks of warfarin, apixaban and heparin; the first mentions two of them."""
    said = [f"give cefazolin {i}" for i in range(8)] + ["cefazolin and warfarin", "cefazolin, no apixaban"]
    rows = [utterance(f"a{i:02d}", text=text, term="cefazolin", voice="v1") for i, text in enumerate(said)]
    others = ("warfarin", "apixaban", "heparin")
    rows += [utterance(f"b{term}", text=f"give {term}", term=term, voice="v2") for term in others]
    found = next(one for seed in range(20) if (one := split(rows, SplitConfig(hold_out_voices=1, seed=seed)))
                 and all(row.voice_id == "v1" for row in one.train))  # fmt: skip
    seen = {row.term: row.extra["seen_term"] for row in found.validation if row.voice_id == "v2"}
    assert seen == {"warfarin": True, "apixaban": True, "heparin": False}


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


WIDE = [
    utterance(f"{kind}{t}{s}{v}", text=f"say {kind}{t} {s}", term=f"{kind}{t}", category=kind, voice=f"v{v}")
    for kind in (EntityCategory.DRUG, EntityCategory.LAB)
    for t in range(6)
    for s in range(4)
    for v in range(7)
]


@pytest.mark.parametrize(
    ("config", "voices", "terms", "sentences"),
    [
        (SplitConfig(hold_out_voices=2), "v0 v5", "", ""),
        (SplitConfig(hold_out_terms=5), "", "drug1 drug3 drug5 lab1 lab3", ""),
        (SplitConfig(hold_out_sentences=0.2), "", "",
         "drug0 0,drug3 0,drug4 3,drug5 1,lab0 1,lab1 0,lab2 2,lab4 3"),
    ],
)  # fmt: skip
def test_a_seed_holds_out_the_same_voices_terms_and_sentences_in_every_version(
    config: SplitConfig, voices: str, terms: str, sentences: str
) -> None:
    """As drawn before rows were read as columns, too."""
    train = split(WIDE, config).train
    assert {row.voice_id for row in WIDE} - {row.voice_id for row in train} == set(voices.split())
    assert {row.term for row in WIDE} - {row.term for row in train} == set(terms.split())
    if not terms:
        without = {row.text for row in WIDE} - {row.text for row in train}
        assert without == {f"say {text}" for text in sentences.split(",") if text}


def sentences_said_twice(others: int) -> list[ClinicalUtterance]:
    """Of 23 sentences one is said by v1 and v3, which says nothing else, one by v1 and v4; v2 has ``others``."""
    rows = [utterance(f"a{i:02d}", text=f"give cefazolin {i}", voice="v1") for i in range(20)]
    rows += [utterance(f"b{v}", text="hang cefazolin", voice=v) for v in ("v1", "v3")]
    rows += [utterance(f"c{v}", text="stop cefazolin", voice=v) for v in ("v1", "v4")]
    rows += [utterance("d", text="cefazolin alone", voice="v4")]
    return rows + [utterance(f"e{i}", text=f"cefazolin later {i}", voice="v2") for i in range(others)]


def drawn_without_v2(others: int) -> list[tuple[dict[str, Stratum], bool]]:
    """Of each seed that holds out v2: what else is held out, and whether a sentence is still trained on in two voices.

    A row drawn for its sentence is one whose sentence and voice training still has.
    """
    rows, told = sentences_said_twice(others), []
    for seed in range(150):
        strata = split(rows, SplitConfig(hold_out_voices=1, seed=seed)).strata
        held = {row: stratum for row, stratum in strata.items() if stratum is not Stratum.TRAINED and row[0] != "e"}
        if any(strata[f"e{i}"] is Stratum.TRAINED for i in range(others)):
            continue
        told.append((held, any(not held.keys() & pair for pair in ({"bv1", "bv3"}, {"cv1", "cv4"}))))
    return told


def test_one_row_is_drawn_for_its_sentence_where_nothing_else_is_drawn() -> None:
    for held, _ in drawn_without_v2(9):
        assert list(held.values()) == [Stratum.SAME_SENTENCE]


def test_rows_drawn_for_the_share_count_if_training_has_their_sentence_and_their_voice() -> None:
    """Two rows fill up the share; if neither is such a one, a third is drawn."""
    told = drawn_without_v2(3)
    assert {len(held) for held, _ in told} == {2, 3}
    for held, is_left in told:
        same = list(held.values()).count(Stratum.SAME_SENTENCE)
        assert same or not is_left
        assert len(held) == 2 or same == 1


@pytest.mark.parametrize(("offset", "counts"), [(None, {"trained": 2}), (0, {"trained": 2}),
                                                (1, {"trained": 1, "new sentence": 1})])  # fmt: skip
def test_a_category_that_is_one_recording_is_trained_on(offset: int | None, counts: dict[str, int]) -> None:
    """A row without an offset begins where the file begins."""
    rows = [utterance(f"d{i}", text=f"give cefazolin {i}") for i in range(10)]
    extras: list[dict[str, object]] = [{}, {} if offset is None else {"offset": offset}]
    rows += [utterance(f"r{i}", text=f"call sister {i}", term="sister", category=EntityCategory.ROLE, audio="one.wav",
                       **extra) for i, extra in enumerate(extras)]  # fmt: skip
    assert split(rows).counts()["role"] == counts


def test_a_row_says_whether_training_has_its_words_in_its_voice_under_other_noise() -> None:
    rows = [utterance(f"d{i}", text=f"give cefazolin {i}") for i in range(10)]
    rows += [utterance(f"r{noise}", text="call sister", term="sister", category=EntityCategory.ROLE, noise=noise)
             for noise in ("clean", "snr_5db")]  # fmt: skip
    seen = {(row.entity_category, row.extra["seen_take"]) for row in split(rows).validation}
    assert seen == {(EntityCategory.DRUG, False), (EntityCategory.ROLE, True)}


def test_the_smallest_share_is_one_sentence_of_each_category() -> None:
    train = split(WIDE, SplitConfig(hold_out_sentences=0.01)).train
    without = {row.text for row in WIDE} - {row.text for row in train}
    assert sorted(text.split()[1][:3] for text in without) == ["dru", "lab"]


def test_a_row_that_mentions_a_term_held_out_is_held_out_with_it() -> None:
    """Both ways, so that it does not matter which of the two is drawn."""
    rows = [utterance(f"a{i}", text=f"give cefazolin {i}") for i in range(6)]
    rows += [utterance(f"b{i}", text=f"give warfarin {i}", term="warfarin") for i in range(6)]
    rows += [utterance("a9", text="cefazolin instead of warfarin"),
             utterance("b9", text="warfarin instead of cefazolin", term="warfarin")]  # fmt: skip
    found = split(rows, SplitConfig(hold_out_terms=1))
    (taught,) = {row.term for row in found.train}
    (new,) = {"cefazolin", "warfarin"} - {taught}
    assert not [row.text for row in found.train if new in row.text]


def test_more_terms_than_can_be_held_out_are_counted() -> None:
    why = "--hold-out-terms: only 10 terms can be held out and still leave each category one; add terms"
    with pytest.raises(ConfigError, match=why):
        split(WIDE, SplitConfig(hold_out_terms=11))


@pytest.mark.parametrize("draw", range(5))
def test_the_demo_s_hold_outs_leave_rows_in_every_stratum(draw: int) -> None:
    """Its own terms, sentences, voices and settings; the recordings give other ids, hence another draw."""
    _, request = _demo_request(Path("nowhere"), "keep")
    assert request.terms is not None
    terms = read_terms(request.terms)
    spoken = [Pronunciation(term=term.term, ipa_source=IpaSource.G2P) for term in terms]
    plans = plan(build_sentences(terms, request.contexts_per_term, request.seed), spoken, request.synthesis)
    clips = random.Random(draw).sample(plans, len(plans))
    rows = [
        utterance(f"{n:03d}", text=one.text, term=one.term, category=one.entity_category, voice=one.voice_id,
                  noise=one.noise_level)
        for n, one in enumerate(clips)
    ]  # fmt: skip
    assert len(rows) == 360 and set(split(rows, request.split).strata.values()) == set(Stratum)
