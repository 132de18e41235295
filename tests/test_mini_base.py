"""The mini base as shipped: the file its card describes, English it never heard in voices it never heard, and few of
the demo's terms."""

from __future__ import annotations

import csv
import hashlib
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clinical_asr.bases import mini_base, sidecar_of
from clinical_asr.engines.espeak import Espeak, Voice
from clinical_asr.keywords import ker_row
from clinical_asr.metrics import word_counts
from clinical_asr.nemo_file import check_archive, read_architecture

ROOT = Path(__file__).parents[1]
BASE = ROOT / "models" / "mini-fastconformer-tdt.nemo"
CARD = BASE.with_suffix(".md")
RECIPE = ROOT / "models" / "recipe"
LARGEST = 25_000_000  # bytes
LETTERS = re.compile(r"(?:[a-z']+(?: [a-z']+)*)?")
SENTENCE = "the team on the evening round asked about {term} and wrote it down twice"
Hear = Callable[[list[str]], list[str]]

pytestmark = pytest.mark.nemo


def heldout_voices() -> list[Voice]:
    """Every held-out variant once, the accents in turn, at the middle of the recipe's rates and pitches."""
    voices = yaml.safe_load((RECIPE / "mini.yaml").read_text())["voices"]
    accents, rate, pitch = list(voices["accents"]), sum(voices["rate"]) // 2, sum(voices["pitch"]) // 2
    return [Voice(accents[i % len(accents)], name, rate, pitch) for i, name in enumerate(voices["heldout"])]


def heldout_sentences(count: int) -> list[str]:
    """Evenly spread over the held-out file, eight words or more."""
    lines = lzma.decompress((RECIPE / "text" / "heldout_natural.txt.xz").read_bytes()).decode().splitlines()
    long = [line.split("\t")[1] for line in lines if len(line.split()) > 8]
    return long[:: len(long) // count][:count]


def terms_of_each_category(count: int) -> list[str]:
    """The first terms of every category but ``role``: roles are spelled right from their pieces (see the card)."""
    categories: dict[str, list[str]] = {}
    with (ROOT / "examples" / "terms.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            categories.setdefault(row["entity_category"], []).append(row["term"])
    return [term for name, terms in categories.items() if name != "role" for term in terms[:count]]


@pytest.fixture(scope="module")
def model() -> Any:
    """The base as any user of stock NeMo gets it, on CPU."""
    pytest.importorskip("nemo")
    import torch

    np.row_stack = np.vstack  # NumPy 2.4 dropped it; older numba-cuda wants it
    from nemo.collections.asr.models import EncDecRNNTBPEModel

    torch.set_num_threads(1)
    return EncDecRNNTBPEModel.restore_from(str(BASE), map_location="cpu").eval()


@pytest.fixture(scope="module")
def hear(model: Any) -> Hear:
    """Speaks sentences in the held-out voices, one after the other, and returns what the base hears."""

    def speak_and_transcribe(sentences: list[str]) -> list[str]:
        voices = heldout_voices()
        with Espeak() as espeak:
            spoken = [espeak.synthesise(text, voices[i % len(voices)]) for i, text in enumerate(sentences)]
        return [found.text for found in model.transcribe(spoken, batch_size=4, verbose=False)]

    return speak_and_transcribe


def test_the_file_is_the_one_of_the_sidecar_and_of_the_card() -> None:
    digest = hashlib.sha256(BASE.read_bytes()).hexdigest()
    assert mini_base() == BASE
    assert sidecar_of(BASE).read_text().split() == [digest, BASE.name]
    assert digest in CARD.read_text()
    assert BASE.stat().st_size <= LARGEST


def test_the_card_names_the_training_text_and_the_unheard_voices() -> None:
    card, summary = CARD.read_text(), json.loads((RECIPE / "text" / "summary.json").read_text())
    assert [name for name, told in summary["files"].items() if told["sha256"] not in card] == []
    voices = yaml.safe_load((RECIPE / "mini.yaml").read_text())["voices"]
    assert [name for name in voices["heldout"] + voices["guard"] if f"`{name}`" not in card] == []


def test_the_card_repeats_the_evaluation_that_was_run() -> None:
    card, found = CARD.read_text(), json.loads((RECIPE / "run" / "evaluation.json").read_text())
    told = [f"{100 * found[key]:.2f} %" for key in ("wer_clean", "wer_10_db", "wer_5_db")]
    assert [figure for figure in told if figure not in card] == []


def test_the_architecture_is_read_without_running_the_file() -> None:
    check_archive(BASE)
    found = read_architecture(BASE)
    assert found.target == "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel"
    assert (found.decoder, found.durations, found.vocabulary) == ("tdt", (0, 1, 2, 3, 4), 512)
    assert (found.layers, found.width, found.mels, found.sample_rate) == (12, 192, 80, 16_000)
    assert (found.sigma, found.omega, found.streaming, found.adapters) == (0.02, 0.1, False, False)


def test_stock_nemo_restores_it_whole(model: Any) -> None:
    import torch

    parameters = list(model.parameters())
    assert all(part.dtype == torch.float32 and bool(torch.isfinite(part).all()) for part in parameters)
    assert 11_000_000 < sum(part.numel() for part in parameters) < 13_000_000


def test_held_out_sentences_in_held_out_voices_are_understood(hear: Hear) -> None:
    references = heldout_sentences(12)
    hypotheses = hear(references)
    assert len(set(references)) == 12
    assert [text for text in hypotheses if not LETTERS.fullmatch(text)] == []
    substituted, deleted, inserted, _, length = word_counts(references, hypotheses).sum(axis=0)
    assert (substituted + deleted + inserted) / length <= 0.06, list(zip(references, hypotheses, strict=True))


def test_most_terms_of_the_demo_are_missed(hear: Hear) -> None:
    terms = terms_of_each_category(4)
    assert len(terms) == 20
    references = [SENTENCE.format(term=term) for term in terms]
    heard = hear(references)
    misses = [ker_row(*row) for row in zip(references, heard, terms, strict=True)]
    assert sum(misses) / len(misses) >= 0.8, heard
    begins = [text.split()[:4] == SENTENCE.split()[:4] for text in heard]
    assert sum(begins) / len(begins) >= 0.9, heard  # the rest is heard, so a missed term is not a lost recording


def test_words_are_told_when_they_are_said() -> None:
    """A second of silence before the speech moves every word by a second, to a frame and a half of the encoder."""
    from clinical_asr.cli.endpoints import recogniser

    hear = recogniser(BASE, "mini")
    speech = Espeak().synthesise("the patient was given a glass of water before surgery", heldout_voices()[0])
    early, late = hear([speech, np.concatenate([np.zeros(16_000, speech.dtype), speech])], True)
    starts, later = ([word.start for word in one.words] for one in (early, late))  # type: ignore[union-attr]
    assert len(starts) == len(later) >= 8 and len(set(starts)) == len(starts)
    assert all(0.88 <= after - before <= 1.12 for before, after in zip(starts, later, strict=True))
    assert starts == sorted(starts) and starts[-1] < len(speech) / 16_000
