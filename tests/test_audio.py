"""Clips: planned evenly, mixed at the ratio they state, made once, resumed, and looked at afterwards."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clinical_asr import audio, noise, wav
from clinical_asr.clips import Clip, ClipPlan, Receipt, talker_clips
from clinical_asr.config import SynthesisConfig
from clinical_asr.errors import AudioError, ConfigError, FlywheelError
from clinical_asr.jsonl import read_rows
from clinical_asr.pronunciations import resolve, ssml
from clinical_asr.records import EntityCategory, IpaSource, Pronunciation, Sentence, Term
from clinical_asr.rendering import render
from clinical_asr.sentences import build_sentences

TERMS = [Term(term=t, entity_category=EntityCategory.DRUG) for t in ("cefazolin", "heparin", "apixaban")]
SENTENCES = build_sentences(TERMS)
VOICES = tuple(f"voice{n}" for n in range(6))


def fake(text: str, voice: str) -> NDArray[np.float32]:
    """Words as tone bursts with pauses between them: 0.4 s each, pitch by voice."""
    hertz = 120 + 40 * (int(hashlib.sha256(voice.encode()).hexdigest(), 16) % 7)
    seconds = np.arange(4000) / 16000
    burst = 0.4 * np.sin(2 * np.pi * hertz * seconds) + 0.02 * np.sin(2 * np.pi * 5000 * seconds)
    return np.concatenate([np.concatenate([burst, np.zeros(2400)]) for _ in text.split()]).astype(np.float32)


def planned(config: SynthesisConfig, sentences: list[Sentence] = SENTENCES) -> list[ClipPlan]:
    return audio.plan(sentences, resolve(TERMS), config)


def digests(folder: Path) -> dict[str, str]:
    """Of the clips that were planned; the voices of the babble lie beside them."""
    paths = [path for path in folder.glob("*.wav") if not path.name.startswith("babble-")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# --- plan -------------------------------------------------------------------------------------------------------------


def test_every_sentence_in_different_voices_and_noise_in_turn() -> None:
    plans = planned(SynthesisConfig(voices=VOICES, voices_per_sentence=3))
    assert len(plans) == 12 * 3
    assert all(len({p.voice_id for p in plans if p.text == s.text}) == 3 for s in SENTENCES)
    for term in TERMS:
        levels = Counter(p.noise_level for p in plans if p.term == term.term)
        assert max(levels.values()) - min(levels.values()) <= 1 and len(levels) == 3


def test_no_voice_is_tied_to_one_noise_level() -> None:
    many = [Term(term=f"word{chr(97 + n)}", entity_category=EntityCategory.LAB) for n in range(20)]
    plans = audio.plan(build_sentences(many), resolve(many), SynthesisConfig(voices=VOICES, voices_per_sentence=3))
    pairs = Counter((p.voice_id, p.noise_level) for p in plans)
    assert len(pairs) == 18 and min(pairs.values()) >= 5  # 240 clips over 18 pairs: 13.3 expected


def test_a_growing_term_list_keeps_its_clips() -> None:
    config = SynthesisConfig(voices=VOICES)
    few = planned(config, [s for s in SENTENCES if s.term != "apixaban"])
    assert [p.file_name for p in planned(config)][: len(few)] == [p.file_name for p in few]


def test_what_is_heard_names_the_file() -> None:
    base = Clip(text="good morning", voice_id="v", noise_level="snr_5db")
    other = [
        Clip(text="good evening", voice_id="v", noise_level="snr_5db"),
        Clip(text="good morning", voice_id="w", noise_level="snr_5db"),
        Clip(text="good morning", voice_id="v", noise_level="snr_6db"),
        Clip(text="good morning", voice_id="v", noise_level="snr_5db", ipa={"good": "ɡʊd"}),
        Clip(text="good morning", voice_id="v", noise_level="snr_5db", seed=7),
    ]
    assert len({clip.file_name for clip in [base, *other]}) == 6
    clean = [Clip(text="good morning", voice_id="v", seed=seed).file_name for seed in (1, 2)]
    assert clean[0] == clean[1]


def test_an_imposed_pronunciation_reaches_every_sentence_that_holds_the_word() -> None:
    said = [Pronunciation(term="cefazolin", ipa_source=IpaSource.OVERRIDE, ipa="sɛˈf"), *resolve(TERMS[1:])]
    plans = audio.plan(SENTENCES, said, SynthesisConfig(voices=VOICES))
    assert all(plan.ipa == ({"cefazolin": "sɛˈf"} if plan.term == "cefazolin" else {}) for plan in plans)


@pytest.mark.parametrize(
    ("term", "style"), [("beta-blocker", "lower"), ("insulin, regular", "lower"), ("Beta-blocker", "written"),
                        ("Ringer’s lactate", "lower")],
)  # fmt: skip
def test_an_imposed_pronunciation_reaches_a_term_in_the_style_of_the_base(term: str, style: Any) -> None:
    """Its words stand in the sentence without hyphen or comma; the pronunciation is meant all the same."""
    terms = [Term(term=term, entity_category=EntityCategory.DRUG)]
    said = [Pronunciation(term=term, ipa_source=IpaSource.OVERRIDE, ipa="ˈbeɪtə")]
    sentences = build_sentences(terms, 3, style=style)
    plans = audio.plan(sentences, said, SynthesisConfig(voices=VOICES))
    assert plans and all(plan.ipa == {term: "ˈbeɪtə"} for plan in plans)
    assert all("<phoneme" in ssml(plan.text, plan.ipa) for plan in plans)


def test_plans_that_cannot_be_spoken_are_refused() -> None:
    with pytest.raises(ConfigError, match="noise level"):
        planned(SynthesisConfig(voices=VOICES, noise_levels=("loud",)))
    with pytest.raises(FlywheelError, match="'heparin' has no pronunciation"):
        audio.plan(SENTENCES, resolve(TERMS[:1]), SynthesisConfig(voices=VOICES))


def test_one_clip_per_term_for_the_listener() -> None:
    plans = planned(SynthesisConfig(voices=VOICES))
    chosen = audio.audition_plans(plans)
    assert [clip.term for clip in chosen] == [term.term for term in TERMS]
    assert all(clip.noise_level == "clean" and clip in plans for clip in chosen)


# --- noise ------------------------------------------------------------------------------------------------------------


def measured_apart(speech: NDArray[np.float32], mixed: NDArray[np.int16]) -> float:
    """The ratio by another road: fit the speech into the mixture, call the rest noise, look at loud 10 ms frames."""
    whole = mixed / 32768.0
    gain = float(speech @ whole / (speech @ speech))
    rest = whole - gain * speech
    frames = speech[: speech.size // 160 * 160].reshape(-1, 160)
    loud = (np.abs(frames).max(axis=1) > 0.05 * np.abs(speech).max()).repeat(160)
    size = loud.size
    return 10 * float(np.log10(np.mean((gain * speech[:size][loud]) ** 2) / np.mean(rest[:size][loud] ** 2)))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([-5, 0, 5, 10, 15, 20]), st.integers(0, 10**6), st.floats(0.01, 2.4))
def test_the_stated_ratio_is_met_after_mixing(snr: int, seed: int, loudness: float) -> None:
    hiss = np.random.default_rng(seed).standard_normal(8 * 6400)  # no tone that a hum or a beep could be taken for
    speech = (0.4 * hiss * (np.arange(hiss.size) % 6400 < 4000)).astype(np.float32) * np.float32(loudness)
    mixture = noise.mix(speech, f"snr_{snr}db", seed=str(seed))
    assert mixture.measured_snr == pytest.approx(snr, abs=0.5)
    assert measured_apart(speech, mixture.samples) == pytest.approx(snr, abs=1.0)  # other frames, gain fitted
    assert np.abs(mixture.samples.astype(int)).max() <= round(32768 * 10 ** (-1 / 20))


def test_pauses_do_not_change_the_noise() -> None:
    brisk = fake("one two three four", "v")
    slow = np.concatenate([brisk, np.zeros(48_000, np.float32)])
    levels = [noise.mix(speech, "snr_10db", "a") for speech in (brisk, slow)]
    parts = [m.samples[: brisk.size] / 32768.0 - brisk for m in levels]
    assert noise.decibels(parts[0]) == pytest.approx(noise.decibels(parts[1]), abs=1.5)


def test_each_kind_of_noise_is_what_it_says() -> None:
    generator = np.random.default_rng(1)
    tilt = {}
    for kind in ("white", "pink", "babble"):
        power = np.abs(np.fft.rfft(noise.make_noise(kind, 160_000, generator))) ** 2
        tilt[kind] = 10 * np.log10(power[40_000:80_000].mean() / power[5_000:10_000].mean())  # 4-8 kHz over 0.5-1 kHz
    assert tilt["white"] == pytest.approx(0, abs=0.5)
    assert tilt["pink"] == pytest.approx(-9, abs=0.7)  # three octaves at -3 dB
    assert tilt["babble"] < -20
    babble = noise.make_noise("babble", 160_000, generator).reshape(100, -1)
    white = noise.make_noise("white", 160_000, generator).reshape(100, -1)
    swing = [float((rows**2).mean(axis=1).std() / (rows**2).mean()) for rows in (babble, white)]
    assert swing[0] > 4 * swing[1]  # babble comes and goes, white noise does not


def test_silence_has_no_ratio() -> None:
    with pytest.raises(AudioError, match="silent"):
        noise.mix(np.zeros(16_000, np.float32), "snr_5db", "a")


@pytest.mark.parametrize("level", ["", "snr_db", "15db", "snr_15", "snr_1e3db", "CLEAN", "snr_٣db"])
def test_other_noise_levels_are_refused(level: str) -> None:
    with pytest.raises(ConfigError):
        noise.snr_of(level)


# --- render -----------------------------------------------------------------------------------------------------------


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    plans = planned(SynthesisConfig(voices=VOICES))
    receipts = [render(plans, tmp_path / name, fake) for name in "ab"]
    assert receipts[0] == receipts[1]
    assert digests(tmp_path / "a") == digests(tmp_path / "b") and len(digests(tmp_path / "a")) == len(plans)
    book = {receipt.audio_filepath: receipt for receipt in read_rows(tmp_path / "a" / "receipts.jsonl", Receipt)}
    assert [book[plan.file_name] for plan in plans] == receipts[0]
    assert sorted(set(book) - {plan.file_name for plan in plans}) == sorted(c.file_name for c in talker_clips(VOICES))


def test_every_file_is_mono_pcm16_and_its_receipt_is_right(tmp_path: Path) -> None:
    plans = planned(SynthesisConfig(voices=VOICES))
    for plan, receipt in zip(plans, render(plans, tmp_path, fake), strict=True):
        info = soundfile.info(tmp_path / plan.file_name)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert receipt.duration == info.frames / 16_000 and not receipt.suspect
        assert receipt.audio_digest == hashlib.sha256((tmp_path / plan.file_name).read_bytes()).hexdigest()
        stated = noise.snr_of(plan.noise_level)
        assert (receipt.measured_snr is None) == (stated is None)
        assert stated is None or receipt.measured_snr == pytest.approx(stated, abs=0.5)


def test_killed_after_some_clips_and_run_again(tmp_path: Path) -> None:
    plans = planned(SynthesisConfig(voices=VOICES, noise_levels=("clean", "room_0.3s")))
    calls: list[str] = []

    def dies_at_ten(text: str, voice: str) -> NDArray[np.float32]:
        calls.append(text)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return fake(text, voice)

    with pytest.raises(KeyboardInterrupt):
        render(plans, tmp_path, dies_at_ten)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.wav")}
    assert len(before) == 9 and not (tmp_path / "receipts.jsonl").exists()
    receipts = render(plans, tmp_path, dies_at_ten)
    assert len(calls) == 10 + len(plans) - 9
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert receipts == render(plans, tmp_path / "whole", fake)
    render(plans, tmp_path, dies_at_ten)
    assert len(calls) == 10 + len(plans) - 9 and len(list(tmp_path.glob("*.part"))) == 0


def test_a_later_cycle_adds_clips_and_keeps_receipts(tmp_path: Path) -> None:
    plans = planned(SynthesisConfig(voices=VOICES))
    render(plans[:5], tmp_path, fake)
    render(plans, tmp_path, fake)
    names = [receipt.audio_filepath for receipt in read_rows(tmp_path / "receipts.jsonl", Receipt)]
    assert len(names) == len(set(names)) == len(digests(tmp_path)) + len(talker_clips(VOICES))


def test_a_clip_without_a_receipt_is_suspect_and_a_lost_clip_is_made_again(tmp_path: Path) -> None:
    plans = planned(SynthesisConfig(voices=VOICES))[:2]
    first = render(plans, tmp_path, fake)
    (tmp_path / plans[0].file_name).unlink()
    assert render(plans, tmp_path, fake) == first
    (tmp_path / "receipts.jsonl").unlink()
    assert all("has no receipt" in receipt.suspect for receipt in render(plans, tmp_path, fake))


@pytest.mark.parametrize(
    "output",
    [np.zeros(0), np.zeros(16_000), np.full(9, np.nan), np.zeros((2, 9)), np.full(3, np.inf)],
    ids=["nothing", "silence", "nan", "stereo", "inf"],
)
def test_an_engine_that_returns_no_speech_is_named(tmp_path: Path, output: NDArray[np.float64]) -> None:
    with pytest.raises(AudioError, match=r"voice v.*good morning"):
        render([Clip(text="good morning", voice_id="v")], tmp_path, lambda *_: output.astype(np.float32))
    assert not list(tmp_path.glob("*.wav*"))


def test_odd_clips_are_marked(tmp_path: Path) -> None:
    clip = Clip(text="six words that take some time", voice_id="v")
    short = render([clip], tmp_path / "short", lambda text, voice: fake("x", voice))
    quiet = render([clip], tmp_path / "quiet", lambda text, voice: fake(text, voice) * np.float32(1e-3))
    assert "for 6 words" in short[0].suspect and "silent as the engine spoke it" in quiet[0].suspect


def test_an_ignored_pronunciation_is_refused_and_markup_is_handed_over(tmp_path: Path) -> None:
    clip = Clip(text="give heparin", voice_id="v", ipa={"heparin": "ˈhɛpərɪn"})
    with pytest.raises(FlywheelError, match=r"1 are imposed \(heparin\)"):
        render([clip], tmp_path, fake)
    heard: list[str] = []
    render([clip], tmp_path, lambda text, voice: heard.append(text) or fake(clip.text, voice), markup=ssml)  # type: ignore[func-returns-value]
    assert heard == [ssml("give heparin", clip.ipa)]


def test_progress_sees_every_clip(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    plans = planned(SynthesisConfig(voices=VOICES))[:3]
    render(plans, tmp_path, fake, progress=lambda items, label: seen.append((label, len(items))) or items)  # type: ignore[func-returns-value]
    assert seen == [("synthesise", 3)]


def test_clipping_needs_neighbours_at_full_scale() -> None:
    tone = (30_000 * np.sin(np.arange(16_000) / 20)).astype(np.int16)
    assert not wav.is_clipped(tone)
    assert wav.is_clipped(np.clip(tone.astype(int) * 3, -32768, 32767).astype(np.int16))


def test_real_voices_at_real_noise(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    from clinical_asr.engines.espeak import Espeak, Voice

    def speak(text: str, voice: str) -> NDArray[np.float32]:
        return Espeak().synthesise(text, Voice.parse(voice))

    voices = ("en-us+f3-r165-p50", "en-gb+m2-r150-p40", "en-us-r180-p60")
    plans = planned(SynthesisConfig(voices=voices, voices_per_sentence=1))
    for plan, receipt in zip(plans, render(plans, tmp_path, speak), strict=True):
        samples = wav.read(tmp_path / plan.file_name).samples
        assert not receipt.suspect and 2 < receipt.duration < 20
        stated = noise.snr_of(plan.noise_level)
        if stated is not None:
            assert measured_apart(speak(plan.text, plan.voice_id), samples) == pytest.approx(stated, abs=1.5)
