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
