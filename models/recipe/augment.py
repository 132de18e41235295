"""What happens to speech on the way to a microphone, on a batch of waveforms, on their device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

RATE = 16_000
GRAIN = 8000  # samples; keeps the number of FFT sizes small
Config = dict[str, Any]


def augment(audio: Tensor, lengths: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Speed, filter, noise and gain at random; audio (B, N) float32 in [-1, 1], lengths (B) in samples."""
    audio, lengths = change_speed(audio, lengths, config)
    audio = equalise(audio, config)
    within = torch.arange(audio.shape[1], device=audio.device) < lengths[:, None]
    audio, lengths = change_gain(add_noise(audio, lengths, within, config), lengths, config)
    return audio * within, lengths


def change_gain(audio: Tensor, lengths: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Louder or softer, each utterance on its own."""
    return audio * 10 ** (uniform(audio, config["gain_db"]) / 20), lengths


def uniform(like: Tensor, bounds: list[float]) -> Tensor:
    """(B, 1) uniform draws."""
    low, high = bounds
    return low + (high - low) * torch.rand(like.shape[0], 1, device=like.device)


def chosen(like: Tensor, share: float) -> Tensor:
    """(B, 1) booleans, true for about this share."""
    return torch.rand(like.shape[0], 1, device=like.device) < share


def change_speed(audio: Tensor, lengths: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Play the whole batch faster or slower: tempo, pitch and formants move together."""
    low, high = config["speed"]
    coin, factor = torch.rand(2).tolist()
    if coin >= config["speed_share"]:
        return audio, lengths
    samples = round(audio.shape[1] / (low + (high - low) * factor))
    stretched = torch.nn.functional.interpolate(audio[:, None], size=samples, mode="linear", align_corners=False)
    stretched = torch.nn.functional.pad(stretched, (0, -samples % GRAIN))
    return stretched[:, 0], (lengths * (samples / audio.shape[1])).long()


def equalise(audio: Tensor, config: Config) -> Tensor:
    """A random straight tilt for all and a narrower band for some."""
    spectrum = torch.fft.rfft(audio)
    hertz = torch.linspace(0, RATE / 2, spectrum.shape[1], device=audio.device)[None]
    tilt = uniform(audio, [-config["tilt_db"], config["tilt_db"]]) * (hertz / (RATE / 2) - 0.5)
    inside = (hertz < uniform(audio, config["low_pass_hz"])) & (hertz > uniform(audio, config["high_pass_hz"]))
    curve = 10 ** (tilt / 20) * torch.where(chosen(audio, config["band_share"]), inside, True)
    return torch.fft.irfft(spectrum * curve, n=audio.shape[1])


def add_noise(audio: Tensor, lengths: Tensor, within: Tensor, config: Config) -> Tensor:
    """Coloured noise or babble at a random SNR, measured over the utterance."""
    exponents = uniform(audio, [0.0, 2.0])
    noise = torch.where(chosen(audio, config["babble_share"]), babble(audio, config), coloured(audio, exponents))
    noisy = mix(audio, noise, within, uniform(audio, config["snr_db"]))
    return torch.where(chosen(audio, config["noise_share"]), noisy, audio)


def mix(audio: Tensor, noise: Tensor, within: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise so that the ratio of the mean powers over the utterance is ``snr_db`` (B, 1)."""
    speech_power = (audio.square() * within).sum(1, keepdim=True)
    noise_power = (noise.square() * within).sum(1, keepdim=True).clamp(min=1e-12)
    return audio + noise * (speech_power / noise_power / 10 ** (snr_db / 10)).sqrt()


def coloured(audio: Tensor, exponents: Tensor) -> Tensor:
    """Gaussian noise like ``audio`` with power spectrum f^-exponent: 0 white, 1 pink, 2 brown."""
    spectrum = torch.fft.rfft(torch.randn_like(audio))
    hertz = torch.linspace(0, RATE / 2, spectrum.shape[1], device=audio.device).clamp(min=20.0)[None]
    return torch.fft.irfft(spectrum * hertz ** (-exponents / 2), n=audio.shape[1])


def babble(audio: Tensor, config: Config) -> Tensor:
    """The sum of some other utterances of the batch, each shifted in time."""
    total = torch.zeros_like(audio)
    for _ in range(config["babble_voices"]):
        other = torch.randint(1, max(audio.shape[0], 2), (1,)).item()
        shift = torch.randint(0, audio.shape[1], (1,)).item()
        total += audio.roll((int(other), int(shift)), dims=(0, 1))
    return total
