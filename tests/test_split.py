"""The split: disjoint, complete, stratified, without leaks, whatever the order of the file."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from board import utterance
from clinical_asr.config import SplitConfig
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.records import ClinicalUtterance, EntityCategory, Stratum
from clinical_asr.split import TooFewRowsError, split

CATEGORIES = list(EntityCategory)


def benchmark(terms: int = 24, sentences: int = 3, voices: int = 4) -> list[ClinicalUtterance]:
    """Every term in every sentence in every voice; a quarter of the terms are drugs or more."""
    return [
        utterance(
            f"{t:02d}-{s}-{v}",
            text=f"sentence {s} of term{t} is spoken",
            term=f"term{t}",
            category=CATEGORIES[t % 6] if t >= 6 else EntityCategory.DRUG,
            voice=f"voice{v}",
            noise=("clean", "snr_15db", "snr_5db")[v % 3],
        )
        for t in range(terms)
        for s in range(sentences)
        for v in range(voices)
    ]


def ids(rows: list[ClinicalUtterance]) -> set[str]:
    return {row.id for row in rows}


def test_the_published_split_takes_a_fifth_of_each_category() -> None:
    rows = benchmark()
    found = split(rows)
    sizes = Counter(row.entity_category for row in rows)
    held = Counter(row.entity_category for row in found.validation)
    assert held == {category: max(1, int(0.2 * n)) for category, n in sizes.items()}
    assert not found.warnings


def test_another_seed_is_another_split_and_the_same_seed_the_same() -> None:
    rows = benchmark()
    assert split(rows).strata == split(list(reversed(rows))).strata
    assert split(rows).strata != split(rows, SplitConfig(seed=7)).strata


row_lists = st.lists(
    st.tuples(
        st.integers(0, 9),  # term
        st.integers(0, 3),  # sentence
        st.integers(0, 4),  # voice
        st.sampled_from(["clean", "snr_5db"]),
        st.integers(0, 60),  # recording: some rows share one
    ),
    min_size=20,
    max_size=80,
)
configs = st.builds(
    SplitConfig,
    validation_fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
    min_rows_per_category=st.just(0),
    hold_out_voices=st.integers(0, 1),
    hold_out_sentences=st.sampled_from([0.0, 0.1, 0.4]),
    hold_out_terms=st.integers(0, 2),
)


def drawn(tuples: list[tuple[int, int, int, str, int]]) -> list[ClinicalUtterance]:
    """Two recordings are too long to be trained on."""
    rows = [
        utterance(f"{i:03d}", text=f"sentence {s} says term{t}", term=f"term{t}", category=CATEGORIES[t % 3],
                  voice=f"voice{v}", noise=noise, audio=f"{recording}.wav")
        for i, (t, s, v, noise, recording) in enumerate(tuples)
    ]  # fmt: skip
    return [lasting(row, 41.0) if row.audio_filepath in ("7.wav", "9.wav") else row for row in rows]


def lasting(row: ClinicalUtterance, seconds: float) -> ClinicalUtterance:
    return msgspec.structs.replace(row, duration=seconds)


@settings(max_examples=150, deadline=None)
@given(row_lists, configs, st.randoms())
def test_every_split_is_whole_disjoint_and_free_of_leaks(
    tuples: list[tuple[int, int, int, str, int]], config: SplitConfig, shuffler: random.Random
) -> None:
    rows = drawn(tuples)
    try:
        found = split(rows, config)
    except ConfigError:
        return  # more was to be held out than there is
    train, validation = ids(found.train), ids(found.validation)
    assert not train & validation
    assert train | validation == ids(rows) == found.strata.keys()
    assert all(found.strata[row_id] is Stratum.TRAINED for row_id in train)
    assert max(row.duration for row in found.train) <= config.max_duration
    assert_no_leak(found.train, found.validation)
    assert_labels_are_true(found.train, found.validation)
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert split(shuffled, config) == found


def assert_no_leak(train: list[ClinicalUtterance], validation: list[ClinicalUtterance]) -> None:
    assert not {row.audio_filepath for row in train} & {row.audio_filepath for row in validation}
    takes = [{(row.text, row.voice_id, row.noise_level) for row in side} for side in (train, validation)]
    assert not takes[0] & takes[1]


def assert_labels_are_true(train: list[ClinicalUtterance], validation: list[ClinicalUtterance]) -> None:
    terms, texts, voices = ({getattr(row, name) for row in train} for name in ("term", "text", "voice_id"))
    for row in validation:
        if row.term not in terms:
            expected = "new term"
        elif row.text not in texts:
            expected = "new sentence"
        else:
            expected = "same sentence" if row.voice_id in voices else "new voice"
        assert row.extra["stratum"] == expected
        assert row.extra["seen_voice"] == (row.voice_id in voices)


@pytest.mark.parametrize("seed", range(5))
def test_whole_hold_outs_never_reach_training_and_every_stratum_has_rows(seed: int) -> None:
    config = SplitConfig(seed=seed, hold_out_voices=1, hold_out_sentences=0.1, hold_out_terms=3)
    found = split(benchmark(), config)
    held = Counter(found.strata.values())
    assert set(held) == set(Stratum)
    new_terms = {row.term for row in found.validation if row.extra["stratum"] == "new term"}
    assert len(new_terms) == 3
    assert not any(f" {term} " in f" {row.text} " for term in new_terms for row in found.train)
    assert len({row.voice_id for row in found.train}) == 3
    categories = Counter(next(r.entity_category for r in found.validation if r.term == term) for term in new_terms)
    assert categories[EntityCategory.DRUG] == 1 and len(categories) == 3


def test_a_held_out_term_is_held_out_where_it_is_only_mentioned() -> None:
    rows = [
        utterance(f"{i}{v}", text=f"give term{i}", term=f"term{i}", voice=f"v{v}") for i in range(4) for v in range(3)
    ]
    rows += [utterance(f"x{i}", text=f"not term{i} but other{i}", term=f"other{i}") for i in range(4)]
    found = split(rows, SplitConfig(hold_out_terms=2))
    for term in {row.term for row in found.validation if row.extra["stratum"] == "new term"}:
        assert not any(f" {term} " in f" {row.text} " for row in found.train)


def test_holding_out_voices_does_not_change_which_terms_are_held_out() -> None:
    def new_terms(**options: int) -> set[str]:
        validation = split(benchmark(), SplitConfig(hold_out_terms=2, **options)).validation
        return {row.term for row in validation if row.extra["stratum"] == "new term"}

    assert new_terms() == new_terms(hold_out_voices=1)


def test_single_rows_fill_up_to_the_fraction_that_hold_outs_leave() -> None:
    rows = benchmark(voices=10)
    found = split(rows, SplitConfig(hold_out_voices=1))
    sizes = Counter(row.entity_category for row in rows)
    held = Counter(row.entity_category for row in found.validation)
    assert held == {category: max(1, int(0.2 * n)) for category, n in sizes.items()}
    assert Counter(found.strata.values())[Stratum.SAME_SENTENCE] > 20


def test_a_same_sentence_row_per_category_is_left_where_hold_outs_exceed_the_fraction() -> None:
    found = split(benchmark(), SplitConfig(hold_out_voices=2))
    for category, counts in found.counts().items():
        assert counts["same sentence"] >= 1, category


def test_a_category_of_one_row_is_trained_on_with_a_warning() -> None:
    found = split(
        [*benchmark(6), utterance("lonely", text="call the sister", term="sister", category=EntityCategory.ROLE)]
    )
    assert found.strata["lonely"] is Stratum.TRAINED
    assert found.warnings == ["role has one row: it is trained on and nothing of it is judged"]


@pytest.mark.parametrize("n", [1, 4])
def test_a_priority_category_under_five_rows_stops_and_routes_to_build(n: int) -> None:
    rows = [utterance(f"{i}", text=f"give cefazolin {i}") for i in range(n)]
    with pytest.raises(TooFewRowsError) as caught:
        split(rows)
    assert caught.value.exit_code == 3
    assert caught.value.decision.next_stage == "build"
    assert f"drug has {n}" in str(caught.value)


def test_five_rows_of_a_priority_category_are_enough() -> None:
    found = split([utterance(f"{i}", text=f"give cefazolin {i}") for i in range(5)])
    assert (len(found.train), len(found.validation)) == (4, 1)


def test_what_only_long_rows_say_is_not_taught() -> None:
    """Nobody trains on them: their term would be judged as a taught one."""
    rows = [lasting(row, 40.5) if row.term == "term3" and row.id[-3:] != "0-0" else row for row in benchmark()]
    found = split(rows, SplitConfig(seed=1))
    assert found.warnings == ["rows longer than 40 s, and so held out: nobody trains on them: 11"]
    taught = {row.term for row in found.train}
    others = {Stratum.SAME_SENTENCE, Stratum.NEW_SENTENCE, Stratum.NEW_VOICE}
    said = {found.strata[row.id] for row in found.validation if row.term == "term3"}
    assert said <= (others if "term3" in taught else {Stratum.NEW_TERM})
    every = split([lasting(row, 40.5) if row.term == "term3" else row for row in benchmark()])
    assert {every.strata[row.id] for row in benchmark() if row.term == "term3"} == {Stratum.NEW_TERM}
    assert not split(rows, SplitConfig(max_duration=40.5)).warnings


def test_rows_that_are_all_too_long_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="leave no row to train on"):
        split([lasting(row, 41.0) for row in benchmark()])


def test_the_same_recording_under_two_names_stays_on_one_side() -> None:
    rows = [utterance(f"{i:02d}", text=f"give cefazolin {i}", audio_digest=f"d{i // 2}") for i in range(40)]
    found = split(rows)
    sides = [{row.extra["audio_digest"] for row in side} for side in (found.train, found.validation)]
    assert found.validation and not sides[0] & sides[1]


def test_rows_cut_from_one_file_by_offset_are_different_recordings() -> None:
    rows = [utterance(f"{i:02d}", text=f"give cefazolin {i}", audio="day.wav", offset=i * 2.0) for i in range(40)]
    assert len(split(rows).validation) == 8


def test_other_fields_of_a_row_survive() -> None:
    found = split([utterance(f"{i}", text=f"give cefazolin {i}", ward="4B") for i in range(10)])
    assert all(row.extra["ward"] == "4B" for row in [*found.train, *found.validation])


@pytest.mark.parametrize(
    ("config", "flag"),
    [
        (SplitConfig(hold_out_voices=4), "--hold-out-voices"),
        (SplitConfig(hold_out_terms=100), "--hold-out-terms"),
    ],
)
def test_too_much_to_hold_out_names_the_flag(config: SplitConfig, flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        split(benchmark(), config)


@pytest.mark.parametrize("other", ["", "00-0-0"])
def test_a_missing_or_doubled_id_is_refused(other: str) -> None:
    with pytest.raises(FlywheelError, match="missing or stands twice"):
        split([*benchmark(), utterance(other, text="give cefazolin twice")])


def test_most_of_a_category_held_out_is_said() -> None:
    found = split(benchmark(), SplitConfig(hold_out_voices=3))
    assert any(warning.startswith("drug: ") and "held out" in warning for warning in found.warnings)
