"""eSpeak NG, the real library: what it says, how it sounds, and that it says the same twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_asr.engines.espeak import PITCHES, RATES, SAMPLE_RATE, Espeak, Voice
from clinical_asr.errors import AudioError, ConfigError

pytest.importorskip("espeakng_loader")
pytest.importorskip("soxr")
SENTENCE = "the patient was given cefazolin one gram before surgery"


@pytest.fixture
def espeak() -> Iterator[Espeak]:
    with Espeak() as engine:
        yield engine


@given(
    st.sampled_from(["en-us", "en-gb", "en-gb-x-rp", "en-029"]),
    st.sampled_from([None, "f3", "klatt2", "Mr serious"]),
    st.sampled_from(RATES),
    st.sampled_from(PITCHES),
)
def test_voice_id_round_trip(language: str, variant: str | None, rate: int, pitch: int) -> None:
    voice = Voice(language, variant, rate, pitch)
    assert Voice.parse(voice.voice_id) == voice


@pytest.mark.parametrize("voice_id", ["", "en-us", "en-us+f3-r165", "en-us-r1e2-p50", "en-us+f3-r165-p50 "])
def test_parse_refuses_what_is_no_voice_id(voice_id: str) -> None:
    with pytest.raises(ConfigError, match="no voice id"):
        Voice.parse(voice_id)


@pytest.mark.parametrize("bad", [{"rate": 79}, {"rate": 451}, {"pitch": -1}, {"pitch": 100}])
def test_voice_refuses_numbers_out_of_range(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Voice(**bad)  # type: ignore[arg-type]


def test_speech_has_the_promised_form(espeak: Espeak) -> None:
    samples = espeak.synthesise(SENTENCE, Voice())
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert 0.1 < np.abs(samples).max() <= 1.0
    assert 2.5 < samples.size / SAMPLE_RATE < 5.0  # nine words at 165 a minute
    margin = round(0.1 * SAMPLE_RATE)
    assert not samples[:margin].any() and not samples[-margin:].any()
    assert samples[margin] and samples[-margin - 1]


@pytest.mark.parametrize("variant", [None, "f2", "m7", "klatt3", "whisper", "Gene", "croak"])
def test_same_samples_whatever_was_said_before(espeak: Espeak, variant: str | None) -> None:
    voice = Voice("en-us", variant, rate=150, pitch=40)
    first = espeak.synthesise(SENTENCE, voice)
    espeak.synthesise("something else", Voice("en-gb", "whisper", rate=210, pitch=80))
    espeak.phonemes("something else", Voice("en-gb-scotland", "f1"))
    np.testing.assert_array_equal(espeak.synthesise(SENTENCE, voice), first)


def test_every_voice_property_is_heard(espeak: Espeak) -> None:
    voices = [Voice(), Voice("en-gb-scotland"), Voice(variant="f3"), Voice(rate=130), Voice(pitch=20)]
    assert len({espeak.synthesise(SENTENCE, voice).tobytes() for voice in voices}) == len(voices)
    slow, fast = (espeak.synthesise(SENTENCE, Voice(rate=rate)).size for rate in (120, 220))
    assert slow > 1.3 * fast


def test_every_accent_and_variant_speaks(espeak: Espeak) -> None:
    for language in espeak.voices():
        assert espeak.synthesise("good morning", Voice(language)).size > SAMPLE_RATE // 2
    for variant in espeak.variants():
        assert espeak.synthesise("good morning", Voice(variant=variant)).size > SAMPLE_RATE // 2
    assert "en-us" in espeak.voices() and len(espeak.variants()) > 50


def test_unknown_names_are_refused_with_the_list(espeak: Espeak) -> None:
    with pytest.raises(ConfigError, match=r"variant 'nobody'.*croak.*whisper"):
        espeak.synthesise(SENTENCE, Voice(variant="nobody"))
    with pytest.raises(ConfigError, match=r"language 'tlh'.*en-gb.*en-us"):
        espeak.phonemes(SENTENCE, Voice("tlh"))


def test_markup_in_text_is_not_obeyed(espeak: Espeak) -> None:
    asked = espeak.synthesise("[[h@l'oU]]", Voice(), phonemes=True)
    hello = espeak.synthesise("hello", Voice())
    assert abs(asked.size - hello.size) < 0.1 * SAMPLE_RATE
    assert espeak.synthesise("[[h@l'oU]]", Voice()).size > 1.5 * asked.size
    with_tag = espeak.synthesise('good <break time="9s"/> morning', Voice())
    assert with_tag.size < 6 * SAMPLE_RATE
    assert "bɹˈeɪk" in espeak.phonemes("good <break/> morning", Voice())


def test_phonemes_are_ipa(espeak: Espeak) -> None:
    assert espeak.phonemes("good morning", Voice()) == "ɡˈʊd mˈɔːɹnɪŋ"
    assert espeak.phonemes("one. two, three", Voice()).split() == ["wˈʌn", "tˈuː", "θɹˈiː"]


@pytest.mark.parametrize("text", ["", "   ", "\0"])
def test_nothing_to_say_is_an_error(espeak: Espeak, text: str) -> None:
    with pytest.raises(AudioError):
        espeak.synthesise(text, Voice())


def test_a_nul_does_not_end_the_text(espeak: Espeak) -> None:
    assert espeak.phonemes("good\0morning", Voice()) == espeak.phonemes("good morning", Voice())


def test_threads_do_not_mix_their_voices() -> None:
    voices = [Voice(variant="f3", pitch=70), Voice(variant="m2", rate=140)]
    expected = [Espeak().synthesise(SENTENCE, voice) for voice in voices]
    wrong: list[str] = []

    def speak(which: int) -> None:
        for _ in range(5):
            if not np.array_equal(Espeak().synthesise(SENTENCE, voices[which]), expected[which]):
                wrong.append(voices[which].voice_id)

    threads = [threading.Thread(target=speak, args=(i % 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong and not any(thread.is_alive() for thread in threads)
