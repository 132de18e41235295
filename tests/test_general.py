"""General speech: enough different rows, the same every time, in the form of the benchmark."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clinical_asr import general, manifest
from clinical_asr.errors import ConfigError, ManifestError
from clinical_asr.jsonl import write_rows
from clinical_asr.records import Utterance

SENTENCES = [
    f"the {colour} {thing} stood there all day" for colour in ("red", "old", "big") for thing in ("bus", "cup")
]
VOICES = ("v1", "v2", "v3", "v4")


def fake(text: str, voice: str) -> NDArray[np.float32]:
    """Noise that lasts as long as its words would, different for every text and voice."""
    seed = int(hashlib.sha256(f"{text}{voice}".encode()).hexdigest()[:8], 16)
    return (0.1 * np.random.default_rng(seed).standard_normal(4800 * len(text.split()))).astype(np.float32)


def test_rows_pass_the_check_and_are_counted(tmp_path: Path) -> None:
    rows = general.build(SENTENCES, VOICES, tmp_path, fake, 20, seed=1, noise_levels=("clean", "snr_10db"))
    write_rows(tmp_path / "guard_manifest.jsonl", rows)
    report = manifest.check(tmp_path / "guard_manifest.jsonl", Utterance)
    assert report.ok and len(report.rows) == 20 and not report.warnings
    assert [row.id for row in report.rows] == [row.id for row in rows] and len({row.id for row in rows}) == 20
    assert Counter(row.noise_level for row in rows) == {"clean": 10, "snr_10db": 10}


def test_every_sentence_once_before_any_twice_and_no_pair_twice() -> None:
    clips = general.plan(SENTENCES, VOICES, 24, seed=3)
    assert len({clip.text for clip in clips[:6]}) == 6
    assert len({(clip.text, clip.voice_id) for clip in clips}) == 24
    assert Counter(clip.voice_id for clip in clips) == dict.fromkeys(VOICES, 6)


def test_same_seed_same_rows_and_more_rows_keep_the_first(tmp_path: Path) -> None:
    few = general.build(SENTENCES, VOICES, tmp_path / "a", fake, 6, seed=1)
    assert general.build(SENTENCES, VOICES, tmp_path / "b", fake, 6, seed=1) == few
    assert general.build(SENTENCES, VOICES, tmp_path / "a", fake, 12, seed=1)[:6] == few
    assert general.build(SENTENCES, VOICES, tmp_path / "c", fake, 6, seed=2) != few


@pytest.mark.parametrize(("sentences", "count"), [(SENTENCES, 25), (SENTENCES[:1] * 9, 5), ([], 1), (SENTENCES, 0)])
def test_more_rows_than_pairs_are_refused(sentences: list[str], count: int) -> None:
    with pytest.raises(ConfigError, match=f"{count} rows cannot be drawn"):
        general.plan(sentences, VOICES, count, seed=1)


def test_sentences_are_read_without_blanks_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "guard.txt"
    path.write_text("# where they come from\nthe bus was late\n\n  she laughed \n")
    assert general.read_sentences(path) == ["the bus was late", "she laughed"]
    for bad in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(ManifestError):
            general.read_sentences(bad)
