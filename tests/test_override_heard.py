"""An override is heard: the audio changes, and the engine traces the IPA asked for, wherever the word stands."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from clinical_asr.cli.engines import markup, synthesiser
from clinical_asr.clips import Clip
from clinical_asr.engines.espeak import Espeak, Voice
from clinical_asr.engines.espeak_ipa import Phonemic, agrees
from clinical_asr.errors import FlywheelError
from clinical_asr.rendering import render

pytest.importorskip("espeakng_loader")
VOICE = "en-us+m7-r170-p45"
OWN, ASKED = "sˈɛfɐzˌɑːlɪn", "sɪˈfæzəlɪn"  # the engine's own guess at cefazolin, and how it is said


def traced(text: str, ipa: dict[str, str], language: str = "en-us") -> str:
    return Espeak().trace(markup()(text, ipa), Voice(language))


def test_the_override_changes_the_audio_and_the_trace_is_what_was_asked_for() -> None:
    say, mark = synthesiser(), markup()
    text = "the patient was given cefazolin before surgery"
    assert OWN in Espeak().phonemes(text, Voice())
    plain, imposed = say(text, VOICE), say(mark(text, {"cefazolin": ASKED}), VOICE)
    assert plain.shape != imposed.shape or np.abs(plain - imposed).max() > 0.1
    assert traced(text, {"cefazolin": ASKED}).split()[4] == "sɪfˈæzəlɪn"
    np.testing.assert_array_equal(say(mark(text, {"heparin": ASKED}), VOICE), plain)  # it stands nowhere
    assert traced(text, {"cefazolin": OWN}) == Espeak().phonemes(text, Voice())  # asked for what is said anyway


@pytest.mark.parametrize("language", ["en-us", "en-gb", "en-gb-x-rp"])
@pytest.mark.parametrize(
    "text",
    ["cefazolin", "give cefazolin, now", "(cefazolin)", '"Cefazolin"', "give CEFAZOLIN. Then wait", "mg/cefazolin/h",
     "non-cefazolin", "cefazolin-induced", "+cefazolin?", "start “cefazolin” …", "cefazolin: 2 g", "#cefazolin!"],
)  # fmt: skip
def test_it_is_heard_whatever_stands_around_it(text: str, language: str) -> None:
    def bare(trace: str) -> str:
        return trace.replace("ˈ", "").replace("ˌ", "")

    heard = traced(text, {"cefazolin": ASKED}, language)
    wanted = "sɪfæzəlɪn" if language != "en-gb" else "sɪfazəlɪn"
    assert wanted in bare(heard), heard


def test_words_around_it_are_said_as_before() -> None:
    text = "we gave the cefazolin's dose. then 2.5 mg of heparin (iv) again"
    own = Espeak().phonemes(text, Voice()).split()
    imposed = traced(text, {"cefazolin": ASKED}).split()
    assert [word for word in own if word not in imposed] == [OWN + "z"]
    assert [word for word in imposed if word not in own] == ["sɪfˈæzəlɪnz"]


@pytest.mark.parametrize(("ipa", "ending"), [("ˈmæks", "ᵻz"), ("ˈmæp", "s"), ("ˈmæb", "z"), ("ˈmeɪ", "z")])
def test_a_possessive_is_said_and_not_spelt(ipa: str, ending: str) -> None:
    heard = traced("the mab's effect", {"mab": ipa})
    assert agrees(f"{ipa}{ending.replace('ᵻ', 'ɪ')}", heard.split()[1], "en-us"), heard


def test_brackets_of_a_text_are_never_obeyed() -> None:
    say, mark = synthesiser(), markup()
    assert not isinstance(mark("say [[h@l'oU]] now", {}), Phonemic)
    marked = mark("say [[h@l'oU]] to heparin", {"heparin": "ˈhɛpəɹɪn"})
    assert marked.count("[[") == 1
    assert "həlˈoʊ" not in Espeak().trace(marked, Voice())
    assert say("say [[h@l'oU]] now", VOICE).size != say(Phonemic("say [[h@l'oU]] now"), VOICE).size


def test_what_cannot_be_said_is_refused_before_anything_is_spoken(tmp_path: Path) -> None:
    clip = Clip(text="give heparin", voice_id=VOICE, ipa={"heparin": "ˈhɛpəʘɪn"})
    with pytest.raises(FlywheelError, match="'ʘ' at character 6"):
        render([clip], tmp_path, synthesiser(), markup=markup())
    assert not list(tmp_path.rglob("*.wav"))


def test_engine_and_markup_travel_to_other_processes() -> None:
    marked = pickle.loads(pickle.dumps(markup()))("give heparin", {"heparin": "ˈhɛpəɹɪn"})
    assert isinstance(pickle.loads(pickle.dumps(marked)), Phonemic)
    assert pickle.loads(pickle.dumps(synthesiser()))(marked, VOICE).size > 8000
