"""Rows that choose: taken out of training, whole sentences, never of a term that would lose its teaching."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_asr.cli import wheel
from clinical_asr.general import read_sentences
from clinical_asr.judge import Judge, Recordings
from clinical_asr.records import ClinicalUtterance, Utterance
from clinical_asr.selection import LEFT, carve
from clinical_asr.text import normalise


def row(term: str, sentence: int, voice: str) -> ClinicalUtterance:
    key = f"{term}-{sentence}-{voice}"
    return ClinicalUtterance(
        audio_filepath=f"{key}.wav", text=f"Sentence {sentence} says {term}.", duration=2.0, id=key, term=term,
        entity_category="drug", ipa_source="g2p", voice_id=voice, noise_level="clean", context_type="handoff",
    )  # fmt: skip


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(1, 6), max_size=9), st.floats(0, 0.5), st.integers(0, 9))
def test_whole_sentences_go_and_every_term_stays_taught(terms: dict[str, int], fraction: float, seed: int) -> None:
    rows = [row(term, n, voice) for term, sentences in terms.items() for n in range(sentences) for voice in "xy"]
    taken = carve(rows, fraction, seed)
    assert taken == carve(rows[::-1], fraction, seed), "the order of the rows is of no matter"
    assert len(taken) <= fraction * len(rows) + 2, "a last sentence may go beyond by its other voice"
    for term, sentences in terms.items():
        left = {r.text for r in rows if r.term == term and r.id not in taken}
        gone = {r.text for r in rows if r.term == term and r.id in taken}
        assert not left & gone and len(left) >= min(sentences, LEFT)


def test_terms_come_in_turn_before_one_gives_a_second_sentence() -> None:
    rows = [row(term, n, voice) for term in ("aa", "bb", "cc", "dd") for n in range(4) for voice in "xy"]
    assert {key[:2] for key in carve(rows, 0.25, 1)} == {"aa", "bb", "cc", "dd"}


def shipped(kind: str) -> set[str]:
    data = Path(str(resources.files("clinical_asr"))) / "data"
    return {normalise(line) for line in read_sentences(data / f"{kind}_sentences.txt")}


@pytest.mark.parametrize(("one", "other"), [("guard", "replay"), ("guard", "selection"), ("selection", "replay")])
def test_what_is_replayed_what_chooses_and_what_guards_share_no_sentence_and_no_voice(one: str, other: str) -> None:
    assert shipped(one) and not shipped(one) & shipped(other)
    voices = [set(getattr(wheel, f"{kind.upper()}_VOICES").split(",")) for kind in (one, other)]
    timbres = [{voice.split("+")[-1].split("-")[0] for voice in side} for side in voices]
    assert timbres[0] and not timbres[0] & timbres[1]


class Listener:
    """Hears what it is told to; the model is the dictionary of what it says."""

    def __call__(self, model: Any, audio: dict[str, Path], *, exact: bool = False) -> dict[str, str]:
        return {key: model.get(key, f"one two three word{key}") for key in audio}


def test_the_first_model_is_the_base_and_the_others_are_set_against_it() -> None:
    rows = [Utterance(audio_filepath=f"{n}.wav", text=f"one two three word{n}", duration=1.0, id=str(n))
            for n in range(50)]  # fmt: skip
    judge = Judge(Recordings([row("aa", 0, "x")]), Recordings(rows), Listener())
    base = judge({"0": "one two three"})
    assert (base["guard_wer"], base["guard_rise"], base["ker"]) == (1 / 200, 0.0, 1.0)
    tuned = judge({"aa-0-x": "sentence 0 says aa", "0": "one two", "1": "one two three"})
    assert tuned["ker"] == 0.0 and tuned["guard_rise"] == pytest.approx(2 / 200)
    assert (tuned["guard_high"] or 0) > 2 / 200


def test_transcripts_that_are_garbage_only_in_reduced_precision_are_heard_again_and_said() -> None:
    """The first item of each batch is fine and the rest is not: what a decoder in bf16 has been seen to do."""
    rows = [Utterance(audio_filepath=f"{n}.wav", text=f"one two three word{n}", duration=1.0, id=str(n))
            for n in range(8)]  # fmt: skip
    calls: list[bool] = []

    def listen(model: str, audio: dict[str, Path], *, exact: bool = False) -> dict[str, str]:
        calls.append(exact)
        said = {key: f"one two three word{key}" for key in audio}
        garbled = model == "tuned" and not exact
        return {key: "the the the the the" if garbled and n else text for n, (key, text) in enumerate(said.items())}

    judge = Judge(Recordings(rows), Recordings(), listen)
    assert judge("base")["wer"] == 0.0 and judge("tuned")["wer"] == 0.0 and judge("tuned")["wer"] == 0.0
    assert calls == [False, False, True, True], "once it is known, reduced precision is not tried again"
    assert len(judge.notes) == 1 and "full precision" in judge.notes[0]


def test_a_model_that_is_really_bad_stays_bad() -> None:
    rows = [Utterance(audio_filepath="0.wav", text="one two three", duration=1.0, id="0")]
    judge = Judge(Recordings(rows), Recordings(), lambda model, audio, *, exact=False: {"0": model})
    assert judge("one two three")["wer"] == 0.0 and judge("no no no")["wer"] == 1.0 and not judge.notes
