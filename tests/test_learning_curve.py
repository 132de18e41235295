"""Parts of the rows, and what is said of them, with a trainer that learns only what it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinical_asr.config import load_recipe
from clinical_asr.errors import ConfigError
from clinical_asr.judge import Recordings
from clinical_asr.learning_curve import ALL, HALF_SENTENCES, HALF_VOICES, QUARTER, learning_curve, markdown, parts
from clinical_asr.records import ClinicalUtterance, Utterance
from clinical_asr.training import TrainingJob

TERMS = [f"term{chr(97 + n)}" for n in range(24)]
GENERAL = [Utterance(audio_filepath=f"g{n}.wav", text="hello", duration=1.0, id=f"g{n}") for n in range(400)]


def row(term: str, sentence: int, voice: str) -> ClinicalUtterance:
    key = f"{term}-{sentence}-{voice}"
    return ClinicalUtterance(
        audio_filepath=f"{key}.wav", text=f"say {sentence} {term} now", duration=2.0, id=key, term=term,
        entity_category="drug", ipa_source="g2p", voice_id=voice, noise_level="clean", context_type="handoff",
    )  # fmt: skip


EVEN = msgspec.structs.replace(load_recipe("keep"), replay_ratio=1.0)
TRAIN = [row(term, n, voice) for term in TERMS for n in range(4) for voice in "abcd"]
HELD = [row(term, 9, voice) for term in TERMS for voice in "ab"]


def test_halves_keep_every_term_and_the_quarter_is_both_halves() -> None:
    found = parts(TRAIN, 1)
    assert [len(found[name]) for name in (QUARTER, HALF_SENTENCES, HALF_VOICES, ALL)] == [96, 192, 192, 384]
    assert all({r.term for r in part} == set(TERMS) for part in found.values())
    assert len({r.voice_id for r in found[HALF_VOICES]}) == 2 and len({r.voice_id for r in found[HALF_SENTENCES]}) == 4
    shared = {r.id for r in found[HALF_SENTENCES]} & {r.id for r in found[HALF_VOICES]}
    assert {r.id for r in found[QUARTER]} == shared


def test_rows_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ConfigError, match="half of the voices"):
        parts([r for r in TRAIN if r.voice_id == "a"], 1)


def test_a_quarter_without_rows_is_no_part() -> None:
    """Two sentences, each in a voice of its own: half of them may be said in the other half's voice."""
    rows = [row("terma", 0, "a"), row("terma", 1, "b")]
    found = [parts(rows, seed) for seed in range(50)]
    assert all(all(each.values()) for each in found)
    assert {len(each) for each in found} == {3, 4} and all({HALF_SENTENCES, HALF_VOICES, ALL} <= set(e) for e in found)


def trained(train: list[ClinicalUtterance], replay: list[Utterance], seed: int = 42, **recipe: Any) -> Any:
    """The jobs that a curve on these rows would train, and what is said of it."""
    jobs: list[TrainingJob] = []

    def engine(job: TrainingJob, evaluate: Any, on_step: Any) -> Any:
        jobs.append(job)
        evaluate(None)

    config = msgspec.structs.replace(EVEN, seed=seed, **recipe)
    sides = Recordings(train), Recordings(HELD), Recordings(replay)
    found = learning_curve(Path("base.nemo"), config, *sides, Path("nowhere"), engine, lambda *_, **__: {})
    return jobs, found


def test_a_part_is_trained_as_fine_tuning_would() -> None:
    """Neither rows that are too long nor rows that are learnt anyway; none choose; every epoch has its general ones."""
    long = [msgspec.structs.replace(each, duration=41.0) for each in (TRAIN[0], TRAIN[100], GENERAL[0])]
    train = [each for each in TRAIN if each.id not in {long[0].id, long[1].id}]
    taken = msgspec.structs.replace(GENERAL[0], id=TRAIN[1].id)
    jobs, found = trained([*train, *long[:2]], [long[2], taken, *GENERAL[1:]], selection_fraction=0.2)  # type: ignore[list-item]
    learnt = [[e.id for e in job.examples if not e.replayed] for job in jobs]
    assert [point.rows for point in found.points] == [len(ids) for ids in learnt] and len(learnt[-1]) == 382
    assert not any({each.id for each in long} & {e.id for e in (*job.examples, *job.more_replay)} for job in jobs)
    assert [len(job.more_replay) for job in jobs[:2]] == [len(ids) for ids in learnt[:2]], "two epochs, others in each"
    assert all(e.id != TRAIN[1].id for job in jobs for e in (*job.examples, *job.more_replay) if e.replayed)
    assert found.left_out == ["rows longer than the recipe's max_duration, 40 s, are in no part: 2"]
    assert "Rows longer than the recipe's max_duration, 40 s, are in no part: 2.\n\n" in markdown(found)


@pytest.mark.parametrize("ratio", [2.0, 0.2])
def test_a_recipe_that_replays_needs_general_speech(ratio: float) -> None:
    """Before the first training, though the smallest part may be too small to replay anything."""
    few = [row("terma", n, voice) for n in range(2) for voice in "ab"]
    told = rf"replay_ratio: is {ratio:g}, but there is no general speech; give general speech with --replay, or"
    with pytest.raises(ConfigError, match=told):
        learning_curve(
            Path("base.nemo"), msgspec.structs.replace(load_recipe("keep"), replay_ratio=ratio), Recordings(few),
            Recordings(HELD), Recordings(), Path("nowhere"), lambda *_: pytest.fail("trained"), lambda *_, **__: {},
        )  # type: ignore[arg-type, return-value] # fmt: skip


def test_a_curve_without_a_quarter_says_so() -> None:
    rows = [row("terma", 0, "a"), row("terma", 1, "b")]
    seed = next(seed for seed in range(50) if QUARTER not in parts(rows, seed))
    jobs, found = trained(rows, GENERAL, seed)
    assert len(jobs) == 3 and [point.part for point in found.points] == [HALF_SENTENCES, HALF_VOICES, ALL]
    assert all(not e.replayed for job in jobs for e in job.examples[:1]), "something clinical in each"
    assert "A quarter is not on the curve: none of its sentences is said in its voices." in markdown(found)


def curve(tmp_path: Path, needs: str) -> Any:
    """A model hears a term if it was taught in enough voices, or in enough sentences."""
    jobs: list[TrainingJob] = []

    def train(job: TrainingJob, evaluate: Any, on_step: Any) -> Any:
        jobs.append(job)
        job.output.write_bytes(b"model")
        keys = [example.id.split("-") for example in job.examples if not example.replayed]
        count = len({key[2] for key in keys}) if needs == "voices" else len({tuple(key[:2]) for key in keys}) / 24
        evaluate(count >= 4 or needs == "nothing")

    def listen(model: bool, audio: dict[str, Path], *, exact: bool = False) -> dict[str, str]:
        return {key: f"say 9 {key.split('-')[0] if model else 'what'} now" for key in audio}

    sides = Recordings(TRAIN, tmp_path), Recordings(HELD, tmp_path), Recordings(GENERAL, tmp_path)
    found = learning_curve(tmp_path / "base.nemo", EVEN, *sides, tmp_path, train, listen)
    assert [sum(e.replayed for e in job.examples) for job in jobs] == [96, 192, 192, 384]
    assert not list(tmp_path.glob("*.nemo")), "no model is kept"
    return found


@pytest.mark.parametrize("needs", ["voices", "sentences"])
def test_what_helped_is_named(tmp_path: Path, needs: str) -> None:
    found = curve(tmp_path, needs)
    assert found.advice.startswith(f"more {needs} would help most") and found.points[-1].ker == 0.0
    assert f"More {needs} would help most" in markdown(found)


def test_where_half_is_as_good_it_is_flat(tmp_path: Path) -> None:
    assert curve(tmp_path, "nothing").advice.startswith("flat at KER 0%")


def test_held_out_terms_that_were_not_taught_say_nothing(tmp_path: Path) -> None:
    sides = Recordings(TRAIN), Recordings([row("unheard", 1, "a")]), Recordings(GENERAL)
    with pytest.raises(ConfigError, match="taught"):
        learning_curve(tmp_path, load_recipe("keep"), *sides, tmp_path, lambda *_: None, lambda *_, **__: {})  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("side", ["train", "replay"])
def test_held_out_rows_that_are_trained_on_say_nothing(tmp_path: Path, side: str) -> None:
    """Trained on them, more of them always seems to help."""
    more = {"train": TRAIN, "replay": GENERAL} | {side: [*(TRAIN if side == "train" else GENERAL), HELD[3]]}
    sides = Recordings(more["train"]), Recordings(HELD), Recordings(more["replay"])
    with pytest.raises(ConfigError, match=rf"validation: row .* stands in {side} as well; take it out of one"):
        learning_curve(tmp_path, EVEN, *sides, tmp_path, lambda *_: None, lambda *_, **__: {})  # type: ignore[arg-type, return-value]
