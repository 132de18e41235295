"""A real NeMo FastConformer with random weights, made in seconds: what the engine tests run on.

``python tests/tiny_model.py OUT.nemo`` writes one by hand; ``--layers 12 --width 192`` gives the mini base's shape,
``--parakeet`` that of Parakeet TDT 0.6B v2: speed and memory are measured on it where the real weights are missing.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUBJECTS = ("the nurse", "a doctor", "my neighbour", "the pharmacist", "our team", "the patient")
VERBS = ("asked for", "wrote down", "explained", "forgot", "prepared", "checked", "carried")
OBJECTS = ("the chart", "a glass of water", "the morning report", "her medicine", "fifty milligrams", "two numbers")
PLACES = ("in the kitchen", "before surgery", "after lunch", "at the desk", "on the quiet ward", "by the window")
SENTENCES = [f"{s} {v} {o} {p}" for s in SUBJECTS for v in VERBS for o in OBJECTS for p in PLACES][::5]


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the defaults train and decode in milliseconds."""

    layers: int = 2
    width: int = 48
    heads: int = 4
    channels: int = 16
    hidden: int = 48
    prediction_layers: int = 1
    vocabulary: int = 96
    mels: int = 80
    dropout: float = 0.1
    bias: bool = True


PARAKEET_06B = Shape(
    layers=24, width=1024, heads=8, channels=256, hidden=640, prediction_layers=2, vocabulary=1024, mels=128, bias=False
)
"""Parakeet TDT 0.6B v2, as its own configuration gives it."""


def write_tokenizer(folder: Path, vocabulary: int, sentences: list[str] = SENTENCES) -> Path:
    """A SentencePiece BPE model of these sentences, as NeMo keeps one: model, vocab and token list."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=vocabulary, model_type="bpe",
        character_coverage=1.0, bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    tokens = [pieces.id_to_piece(index) for index in range(pieces.get_piece_size())]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (folder / "tokenizer.vocab").write_text("".join(f"{t}\t{-i}\n" for i, t in enumerate(tokens)), encoding="utf-8")
    return folder


def everyday_sentences() -> list[str]:
    """The package's own general English: words enough for a vocabulary of a thousand pieces."""
    from importlib import resources

    data = resources.files("clinical_asr") / "data"
    texts = [(data / f"{kind}_sentences.txt").read_text(encoding="utf-8") for kind in ("guard", "replay")]
    return [line for text in texts for line in text.splitlines() if line.strip()]


def _preprocessor(shape: Shape) -> dict[str, Any]:
    return {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": 16000, "normalize": "per_feature", "window_size": 0.025, "window_stride": 0.01,
        "window": "hann", "features": shape.mels, "n_fft": 512, "log": True, "frame_splicing": 1,
        "dither": 1e-5, "pad_to": 0,
    }  # fmt: skip


def _encoder(shape: Shape) -> dict[str, Any]:
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": shape.mels, "feat_out": -1, "n_layers": shape.layers, "d_model": shape.width,
        "subsampling": "dw_striding", "subsampling_factor": 8, "subsampling_conv_channels": shape.channels,
        "causal_downsampling": False, "ff_expansion_factor": 4, "self_attention_model": "rel_pos",
        "n_heads": shape.heads, "use_bias": shape.bias,
        "att_context_size": [-1, -1], "xscaling": False, "untie_biases": True,
        "pos_emb_max_len": 5000, "conv_kernel_size": 9, "conv_norm_type": "batch_norm", "conv_context_size": None,
        "dropout": shape.dropout, "dropout_pre_encoder": shape.dropout, "dropout_emb": 0.0,
        "dropout_att": shape.dropout,
    }  # fmt: skip


def _transducer(shape: Shape, durations: list[int]) -> dict[str, Any]:
    """Prediction network, joint, greedy decoding and loss; no durations means a plain RNN-T."""
    loss = {"loss_name": "tdt", "tdt_kwargs": {"durations": durations, "sigma": 0.02, "omega": 0.1}}
    extra = {"model_type": "tdt", "durations": durations} if durations else {}
    return {
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder", "normalization_mode": None,
            "random_state_sampling": False, "blank_as_pad": True,
            "prednet": {
                "pred_hidden": shape.hidden, "pred_rnn_layers": shape.prediction_layers, "dropout": shape.dropout,
            },
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint", "log_softmax": None, "preserve_memory": False,
            "fuse_loss_wer": True, "fused_batch_size": 4, "num_extra_outputs": len(durations),
            "jointnet": {"joint_hidden": shape.hidden, "activation": "relu", "dropout": shape.dropout},
        },
        "decoding": {
            "strategy": "greedy_batch", **extra,
            "greedy": {"max_symbols": 10, "loop_labels": True},
        },
        "loss": loss if durations else {"loss_name": "default"},
    }  # fmt: skip


def _ctc(shape: Shape) -> dict[str, Any]:
    decoder = {"_target_": "nemo.collections.asr.modules.ConvASRDecoder", "feat_in": None, "num_classes": -1}
    return {"decoder": {**decoder, "vocabulary": []}, "ctc_reduction": "mean_batch", "decoding": {"strategy": "greedy"}}


def model_config(shape: Shape, tokenizer: Path, kind: str) -> dict[str, Any]:
    """The ``model:`` section NeMo's own recipes would write; ``kind`` is ``tdt``, ``rnnt`` or ``ctc``."""
    head = _ctc(shape) if kind == "ctc" else _transducer(shape, [0, 1, 2, 3, 4] if kind == "tdt" else [])
    data = {"manifest_filepath": None, "sample_rate": 16000, "batch_size": 4, "use_start_end_token": False}
    masks = {"freq_masks": 2, "time_masks": 2, "freq_width": 27, "time_width": 0.05}
    return {
        "sample_rate": 16000, "compute_eval_loss": False, "log_prediction": False, "rnnt_reduction": "mean_batch",
        "skip_nan_grad": False,
        "model_defaults": {"enc_hidden": shape.width, "pred_hidden": shape.hidden, "joint_hidden": shape.hidden},
        "tokenizer": {"dir": str(tokenizer), "type": "bpe"},
        "preprocessor": _preprocessor(shape),
        "spec_augment": {"_target_": "nemo.collections.asr.modules.SpectrogramAugmentation", **masks},
        "encoder": _encoder(shape),
        "train_ds": {**data, "shuffle": True}, "validation_ds": {**data, "shuffle": False},
        "optim": {"name": "adamw", "lr": 1e-3},
        **head,
    }  # fmt: skip


def make_tiny_model(path: Path, kind: str = "tdt", shape: Shape = Shape(), seed: int = 7) -> Path:
    """Write a ``.nemo`` with random weights through NeMo's own ``save_to``."""
    import torch
    from nemo.collections.asr.models import EncDecCTCModelBPE, EncDecRNNTBPEModel
    from nemo.utils import logging
    from omegaconf import OmegaConf

    logging.set_verbosity(logging.ERROR)
    path.parent.mkdir(parents=True, exist_ok=True)
    sentences = SENTENCES if shape.vocabulary < 512 else everyday_sentences()
    tokenizer = write_tokenizer(path.parent / f"{path.stem}-tokenizer", shape.vocabulary, sentences)
    torch.manual_seed(seed)
    config = OmegaConf.create(model_config(shape, tokenizer, kind))
    model = (EncDecCTCModelBPE if kind == "ctc" else EncDecRNNTBPEModel)(cfg=config)
    model.save_to(str(path))
    return path


def write_tones(folder: Path, sentences: list[str], seed: int = 3, seconds_a_letter: float = 0.05) -> Path:
    """A manifest whose audio spells each sentence in tones, one pitch a letter: small, learnable, no speech engine."""
    import numpy as np
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for index, sentence in enumerate(sentences):
        time = np.arange(int(16_000 * seconds_a_letter)) / 16_000
        letters = [np.sin(2 * np.pi * (200 + 60 * (ord(c) % 64)) * time) * (c != " ") for c in sentence]
        wave = 0.2 * np.concatenate(letters) + 0.005 * rng.standard_normal(len(time) * len(sentence))
        soundfile.write(folder / f"{index:03d}.wav", wave.astype(np.float32), 16_000, subtype="PCM_16")
        rows.append({"audio_filepath": f"{index:03d}.wav", "text": sentence, "duration": len(wave) / 16_000})
    return _write_manifest(folder / "manifest.jsonl", rows)


def _write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    from clinical_asr.jsonl import from_dict, write_rows
    from clinical_asr.records import Utterance

    named = [{**row, "id": f"row{index:03d}", "voice_id": f"tone{index % 2}"} for index, row in enumerate(rows)]
    write_rows(path, [from_dict(Utterance, row) for row in named])
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", default="tdt", choices=("tdt", "rnnt", "ctc"))
    parser.add_argument("--parakeet", action="store_true", help="the shape of Parakeet TDT 0.6B v2; 2.4 GB")
    for size in ("layers", "width", "hidden", "channels", "vocabulary"):
        parser.add_argument(f"--{size}", type=int, default=getattr(Shape, size))
    arguments = vars(parser.parse_args())
    out, kind, parakeet = (arguments.pop(name) for name in ("out", "kind", "parakeet"))
    print(make_tiny_model(out, kind, PARAKEET_06B if parakeet else Shape(**arguments)))
