"""Rooms, lines, noises and levels are what they say; findings find; leaderboards place the new conditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clinical_asr import conditions, loudness, noise, plot_values, quality, rooms, telephone, wav
from clinical_asr.conditions import Condition
from clinical_asr.errors import ConfigError
from clinical_asr.leaderboard import leaderboard
from clinical_asr.loudness import Samples
from clinical_asr.records import EntityCategory, Hypothesis
from clinical_asr.scores import score, signature

RATE = 16_000


def bursts(words: int = 12, seed: int = 1) -> Samples:
    """Hiss in bursts of a quarter of a second, with pauses: speech as a level meter sees it."""
    hiss = np.random.default_rng(seed).standard_normal(words * 6400)
    envelope = np.clip(np.sin(np.arange(hiss.size) % 6400 / 4000 * np.pi), 0, None)
    return (0.2 * hiss * envelope).astype(np.float32)


@pytest.mark.parametrize(
    ("level", "condition"),
    [
        ("clean", Condition()), ("snr_15db", Condition(snr=15)), ("snr_-2.5db", Condition(snr=-2.5)),
        ("telephone", Condition(telephone=True)), ("room_0.4s", Condition(room=0.4)),
        ("room_1s+telephone+snr_0db", Condition(1.0, True, 0.0)), ("room_0.3s+snr_5db", Condition(0.3, snr=5)),
    ],
)  # fmt: skip
def test_conditions_are_read(level: str, condition: Condition) -> None:
    assert conditions.parse(level) == condition


@pytest.mark.parametrize(
    "level",
    ["", "+", "clean+telephone", "snr_5db+telephone", "telephone+telephone", "telephone+", "+telephone", "Telephone",
     "room_0.4", "room_9s", "room_0s", "room_.4s", "snr_5db+room_0.4s", "snr_999db", "telephone snr_5db", "snr_٣db"],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_the_grammar(level: str) -> None:
    with pytest.raises(ConfigError) as error:
        conditions.parse(level)
    assert "room_" in str(error.value) or "a room has" in str(error.value)


# --- sound ------------------------------------------------------------------------------------------------------------


def p56(speech: NDArray[np.floating]) -> float:
    """Active speech level by method B of ITU-T P.56: two-stage envelope, thresholds in octaves, hangover, 15.9 dB."""
    g = np.exp(-1 / (RATE * 0.03))
    p = q = 0.0
    hangover, thresholds = int(0.2 * RATE), 2.0 ** -np.arange(15, 0, -1)
    counts, hang = np.zeros(15), np.full(15, hangover)
    for value in np.abs(speech):
        p = g * p + (1 - g) * value
        q = g * q + (1 - g) * p
        above = q >= thresholds
        hang = np.where(above, 0, hang + 1)
        counts += hang < hangover
    energy = float(np.square(speech, dtype=np.float64).sum())
    levels = 10 * np.log10(energy / np.maximum(counts, 1))
    margins = levels - 20 * np.log10(thresholds)
    at = int(np.flatnonzero(margins <= 15.9)[0])
    share = (margins[at - 1] - 15.9) / (margins[at - 1] - margins[at])
    return float(levels[at - 1] + share * (levels[at] - levels[at - 1]))


def test_the_level_agrees_with_the_standard() -> None:
    pytest.importorskip("espeakng_loader")
    from clinical_asr.engines.espeak import Espeak, Voice

    for voice in ("en-us+f3-r120-p50", "en-gb+m2-r190-p40"):
        speech = Espeak().synthesise("please call the ward, and then wait for an answer", Voice.parse(voice))
        paused = np.concatenate([speech, np.zeros(2 * RATE, np.float32)])
        levels = [loudness.active_level(loudness.normalised(x)) for x in (speech, paused)]
        assert levels == pytest.approx([-26, -26], abs=0.01)
        assert p56(loudness.normalised(paused)) == pytest.approx(-26, abs=1.0)


def test_a_room_rings_as_long_as_it_says() -> None:
    for rt60 in (0.3, 0.8):
        tail = rooms.impulse_response(rt60, np.random.default_rng(2))[64:].astype(np.float64)
        decay = 10 * np.log10(np.cumsum(np.square(tail)[::-1])[::-1] / np.square(tail).sum())  # Schroeder 1965
        span = np.flatnonzero((decay < -5) & (decay > -25))
        slope = np.polyfit(span / RATE, decay[span], 1)[0]
        assert -60 / slope == pytest.approx(rt60, rel=0.1)
    wet = rooms.reverberated(bursts(), 0.8, np.random.default_rng(2))
    assert wet.size == bursts().size + round(0.8 * RATE) - 1


def test_a_telephone_passes_its_band_and_nothing_else() -> None:
    hiss = (0.1 * np.random.default_rng(3).standard_normal(4 * RATE)).astype(np.float32)
    power = np.abs(np.fft.rfft(telephone.companded(telephone.narrow(hiss)))) ** 2
    hertz = np.fft.rfftfreq(hiss.size, 1 / RATE)
    inside = power[(hertz > 500) & (hertz < 3000)].mean()
    for low, high in ((20, 100), (4500, 7900)):
        assert 10 * np.log10(power[(hertz > low) & (hertz < high)].mean() / inside) < -25
    assert telephone.companded(hiss[:12_345]).size == 12_345


@pytest.mark.parametrize("level", ["telephone+snr_10db", "room_0.4s+snr_5db", "room_0.4s+telephone+snr_0db"])
def test_the_ratio_is_kept_through_room_and_line(level: str) -> None:
    stated = conditions.parse(level).snr
    others = [bursts(8, seed) for seed in range(12)]
    kinds = set()
    for seed in range(12):
        mixture = noise.mix(bursts(), level, str(seed), others)
        kinds.add(mixture.noise_kind)
        assert mixture.measured_snr == pytest.approx(stated, abs=0.3)
    assert kinds == set(noise.NOISE_KINDS)


def test_babble_is_made_of_the_other_voices() -> None:
    tones = [np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32) for hertz in (500, 900, 1700)]
    crowd = noise.babble(2 * RATE, np.random.default_rng(1), tones)
    power = np.abs(np.fft.rfft(crowd)) ** 2
    loudest = sorted(np.fft.rfftfreq(crowd.size, 1 / RATE)[np.argsort(power)[-3:]])
    assert loudest == [500, 900, 1700]


# --- findings ---------------------------------------------------------------------------------------------------------


def found(samples: Samples, text: str = "", level: str = "clean") -> str:
    content = wav.encoded((np.clip(samples, -1, 1) * 32767).astype(np.int16))
    return "; ".join(quality.findings(wav.decoded(content, Path("x.wav")), text, level))


def test_findings() -> None:
    good = loudness.normalised(bursts())
    text = "twelve words that are said in about five seconds one after another"
    assert found(good, text) == ""
    assert "is silent" in found(good * 0.001) and "is quiet" in found(good * 0.1)
    assert "is clipped" in found(np.clip(good * 80, -1, 1)) and "DC offset of 5" in found(good + np.float32(0.05))
    assert "lasts 4.80 s for 2 words" in found(good, "two words")
    assert "lasts 4.80 s for 60 words" in found(good, "word " * 60)
    narrow = telephone.companded(telephone.narrow(good))
    assert "narrow-band before" in found(narrow) and found(narrow, level="telephone") == ""
    gap = np.concatenate([good, np.zeros(3 * RATE, np.float32), good])
    assert "pauses for 3" in found(gap) and found(gap, level="snr_5db") == ""


# --- leaderboard ------------------------------------------------------------------------------------------------------


def test_new_conditions_have_their_line_and_leave_the_curve_alone() -> None:
    levels = ["telephone+snr_10db", "snr_5db", "room_0.4s", "clean", "telephone", "snr_15db"]
    rows = [
        Hypothesis(id=f"{n}", audio_filepath="a.wav", duration=1.0, text="give cefazolin now", pred_text="give it now",
                   term="cefazolin", entity_category=EntityCategory.DRUG, noise_level=level)
        for n, level in enumerate(levels)
    ]  # fmt: skip
    board = leaderboard(score(rows), signature(rows))
    keys = [line.key for line in board.by_noise_level]
    assert keys[:3] == ["clean", "snr_15db", "snr_5db"] and sorted(keys) == sorted(levels)
    drawn = plot_values.with_snr(plot_values.points(board.by_noise_level))
    assert [(point.label, point.snr) for point in drawn] == [("clean", None), ("snr_15db", 15.0), ("snr_5db", 5.0)]
