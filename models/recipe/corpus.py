"""The spoken corpus on disk: sentences, the split of voices, shards of int16 samples, and batches cut from them."""

from __future__ import annotations

import json
import lzma
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from clinical_asr.engines.espeak import SAMPLE_RATE, Espeak, Voice

HERE = Path(__file__).parent
GRAIN = 8000  # batches are padded to a multiple of this many samples: few shapes, each a fast FFT
Config = dict[str, Any]


def load_config(path: Path, overrides: list[str]) -> Config:
    """The recipe's numbers; an override is ``section.key=value`` in YAML."""
    config: Config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for override in overrides:
        keys, _, value = override.partition("=")
        *sections, key = keys.split(".")
        target = config
        for section in sections:
            target = target[section]
        if key not in target:
            raise SystemExit(f"{path}: no key {keys}")
        target[key] = yaml.safe_load(value)
    return config


def read_sentences(path: Path, kinds: tuple[str, ...] = ()) -> list[str]:
    """The sentences of one text file (``kind<TAB>sentence``, plain or xz), of the given kinds or of all."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t", 1) for line in lines if "\t" in line]
    return [sentence for kind, sentence in rows if not kinds or kind in kinds]


def find_text(folder: Path, name: str) -> Path:
    """``name.txt.xz`` or ``name.txt`` in the folder."""
    for path in (folder / f"{name}.txt.xz", folder / f"{name}.txt"):
        if path.exists():
            return path
    raise SystemExit(f"{folder}: no {name}.txt.xz; make the text first (README.md)")


def variants(config: Config, split: str) -> list[str | None]:
    """The voice variants of ``train``, ``heldout`` or ``guard``; ``None`` is the engine's plain voice."""
    voices = config["voices"]
    if split != "train":
        return list(voices[split])
    taken = {*voices["unusable"], *voices["heldout"], *voices["guard"]}
    return [None, *(name for name in Espeak().variants() if name not in taken)]


def draw_voice(config: Config, names: list[str | None], draw: random.Random) -> Voice:
    """A random voice out of these variants, with the recipe's accents, rates and pitches."""
    voices = config["voices"]
    accent = draw.choices(list(voices["accents"]), weights=list(voices["accents"].values()))[0]
    return Voice(accent, draw.choice(names), draw.randint(*voices["rate"]), draw.randint(*voices["pitch"]))


def speak_all(
    config: Config, sentences: list[str], split: str, seed: int
) -> tuple[list[np.ndarray[Any, Any]], list[str]]:
    """Each sentence in a random voice of the split: samples (float32, 16 kHz) and voice ids."""
    draw, names, espeak = random.Random(seed), variants(config, split), Espeak()
    voices = [draw_voice(config, names, draw) for _ in sentences]
    return [espeak.synthesise(s, v) for s, v in zip(sentences, voices, strict=True)], [v.voice_id for v in voices]


def write_shard(folder: Path, number: int, spoken: list[tuple[np.ndarray[Any, Any], str, str]]) -> None:
    """Write samples, then the index; the index appears last and whole, so a shard with an index is complete."""
    rows, offset = [], 0
    with (folder / f"{number:05d}.i16").open("wb") as out:
        for samples, text, voice_id in spoken:
            out.write((samples * 32767).astype(np.int16).tobytes())
            rows.append([offset, len(samples), text, voice_id])
            offset += len(samples)
    part = folder / f"{number:05d}.part"
    part.write_text(json.dumps(rows), encoding="utf-8")
    part.rename(folder / f"{number:05d}.json")


def disk_is_full(folder: Path, keep_free_gb: float) -> bool:
    return shutil.disk_usage(folder).free < keep_free_gb * 1e9


@dataclass
class Corpus:
    """All complete shards of a folder, tokenised; `refresh` picks up the new ones."""

    folder: Path
    tokenise: Any

    def __post_init__(self) -> None:
        self.seen: set[Path] = set()
        self.audio: list[np.ndarray[Any, Any]] = []
        self.tokens: list[list[int]] = []

    def refresh(self) -> int:
        """Load new shards; returns how many utterances there are now."""
        for path in sorted(set(self.folder.glob("*.json")) - self.seen):
            samples = np.memmap(path.with_suffix(".i16"), dtype=np.int16, mode="r").view(np.ndarray)
            rows = json.loads(path.read_text(encoding="utf-8"))
            self.audio += [samples[start : start + length] for start, length, _, _ in rows]
            self.tokens += self.tokenise([text for _, _, text, _ in rows])
            self.seen.add(path)
        return len(self.audio)

    def wait(self, utterances: int) -> None:
        while self.refresh() < utterances and not (self.folder / "complete").exists():
            time.sleep(0.5)
        if not self.refresh():
            raise SystemExit(f"{self.folder}: no shard was spoken")


def batches(corpus: Corpus, batch_seconds: float, batch_utterances: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """Endless batches of similar duration: samples (B, N) int16, lengths (B), tokens (B, U), token lengths (B)."""
    draw = np.random.default_rng(seed)
    while True:
        count, order = corpus.refresh(), draw.permutation(corpus.refresh())
        for start in range(0, count, 16384):
            groups = _grouped(order[start : start + 16384], corpus, batch_seconds, batch_utterances)
            for at in draw.permutation(len(groups)):
                yield _padded([corpus.audio[i] for i in groups[at]], [corpus.tokens[i] for i in groups[at]])
            if corpus.refresh() > count:
                break  # new shards: draw from all of them


def _grouped(chunk: np.ndarray[Any, Any], corpus: Corpus, seconds: float, utterances: int) -> list[list[int]]:
    """Indices sorted by duration and cut so that each group, padded, stays within the given seconds."""
    groups: list[list[int]] = [[]]
    for index in sorted(chunk.tolist(), key=lambda i: len(corpus.audio[i])):
        padded = (len(groups[-1]) + 1) * len(corpus.audio[index]) / SAMPLE_RATE
        if groups[-1] and (padded > seconds or len(groups[-1]) >= utterances):
            groups.append([])
        groups[-1].append(index)
    return groups


def _padded(audio: list[Any], tokens: list[list[int]]) -> tuple[Any, ...]:
    lengths = np.array([len(a) for a in audio], dtype=np.int64)
    token_lengths = np.array([len(t) for t in tokens], dtype=np.int64)
    samples = np.zeros((len(audio), -(-lengths.max() // GRAIN) * GRAIN), dtype=np.int16)
    targets = np.zeros((len(audio), token_lengths.max()), dtype=np.int64)
    for row, (a, t) in enumerate(zip(audio, tokens, strict=True)):
        samples[row, : len(a)], targets[row, : len(t)] = a, t
    return samples, lengths, targets, token_lengths
