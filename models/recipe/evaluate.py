"""Word error rate of a ``.nemo`` on unseen sentences in unseen voices: clean and in noise, and its speed.

    python models/recipe/evaluate.py --device cuda --model models/mini-fastconformer-tdt.nemo --out evaluation.json
    python models/recipe/evaluate.py --device cpu --model MODEL.nemo --set evaluation.utterances=200

Held-out natural sentences, each in a random held-out voice, both drawn with ``evaluation.seed``: the same on every
machine. WERs are pooled shares (0.0333 is 3.33 %); ``rtfx`` is seconds of clean audio per second of ``transcribe``.
``voices`` counts the different ones in use, an accent with a variant each.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import augment
import numpy as np
import torch
from corpus import HERE, Config, find_text, load_config, read_sentences, speak_all
from train import word_error_rate

from clinical_asr.engines.espeak import SAMPLE_RATE, Voice

EXPONENTS = {"white": 0.0, "pink": 1.0, "brown": 2.0}


def main() -> None:
    args = arguments()
    config = load_config(args.config, args.set)
    numbers, model = config["evaluation"], restore(args.model, args.device)
    everything = read_sentences(find_text(args.text, "heldout_natural"))
    order = np.random.default_rng(numbers["seed"]).permutation(len(everything))
    sentences = [everything[i] for i in order[: numbers["utterances"]]]
    audio, voices = speak_all(config, sentences, "heldout", numbers["seed"])
    result = {"model": args.model.name, "utterances": len(audio), "voices": len({Voice.parse(v).name for v in voices})}
    result |= {"noise": numbers["noise"], "hours": sum(map(len, audio)) / SAMPLE_RATE / 3600}
    examples, result["wer_clean"], result["rtfx"] = score(model, audio, sentences, numbers["batch"])
    for snr_db in numbers["snr_db"]:
        _, result[f"wer_{snr_db}_db"], _ = score(model, noisy(audio, snr_db, numbers), sentences, numbers["batch"])
    result["examples"] = [list(pair) for pair in zip(sentences[:5], examples, strict=False)]
    print(json.dumps(result, indent=1))
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def restore(path: Path, device: str) -> Any:
    """The model as any user gets it: stock NeMo, fp32."""
    np.row_stack = np.vstack  # type: ignore[attr-defined]  # NumPy 2.4 dropped it; older numba-cuda wants it
    from nemo.collections.asr.models import EncDecRNNTBPEModel
    from nemo.utils import logging

    logging.setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    model = EncDecRNNTBPEModel.restore_from(str(path), map_location=device)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    return model.eval()


def score(model: Any, audio: list[Any], references: list[str], batch: int) -> tuple[list[str], float, float]:
    """Transcripts, pooled WER and seconds of audio per second of work, through NeMo's own ``transcribe``."""
    model.transcribe(audio[:batch], batch_size=batch, verbose=False)  # the first call compiles
    began = time.monotonic()
    hypotheses = [h.text for h in model.transcribe(audio, batch_size=batch, verbose=False)]
    took = time.monotonic() - began
    assert len(hypotheses) == len(references)
    return hypotheses, word_error_rate(hypotheses, references), sum(map(len, audio)) / SAMPLE_RATE / took


def noisy(audio: list[Any], snr_db: float, numbers: Config) -> list[Any]:
    """The utterances in seeded noise at this SNR (mean power over the utterance)."""
    torch.manual_seed(numbers["seed"])
    exponent, mixed = torch.full((1, 1), EXPONENTS[numbers["noise"]]), []
    for samples in audio:
        speech = torch.from_numpy(samples)[None]
        noise = augment.coloured(speech, exponent)
        sound = augment.mix(speech, noise, torch.ones_like(speech), torch.full((1, 1), float(snr_db)))[0].numpy()
        mixed.append(sound / max(1.0, np.abs(sound).max()))
    return mixed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("evaluation.json"))
    parser.add_argument("--config", type=Path, default=HERE / "mini.yaml")
    parser.add_argument("--text", type=Path, default=HERE / "text")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. evaluation.utterances=50")
    return parser.parse_args()


if __name__ == "__main__":
    main()
