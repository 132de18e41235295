"""The mini network: its NeMo configuration, its loss on any device, its weights on disk and its ``.nemo``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Config = dict[str, Any]
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
DATA = {"manifest_filepath": None, "sample_rate": 16000, "batch_size": 8, "num_workers": 0, "pin_memory": True}
DATA |= {"use_start_end_token": False, "trim_silence": False}


def train_tokenizer(config: Config, sentences: list[str], folder: Path) -> Path:
    """A SentencePiece model for these sentences, laid out as NeMo wants it."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "vocab.txt").exists():
        numbers = config["tokenizer"]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_prefix=str(folder / "tokenizer"),
            vocab_size=numbers["vocabulary"], model_type=numbers["model_type"],
            character_coverage=numbers["character_coverage"], bos_id=-1, eos_id=-1, minloglevel=2,
            normalization_rule_name="identity",
        )  # fmt: skip
        pieces = (folder / "tokenizer.vocab").read_text(encoding="utf-8").splitlines()
        (folder / "vocab.txt").write_text("\n".join(p.split("\t")[0] for p in pieces) + "\n", encoding="utf-8")
    return folder


def nemo_config(config: Config, tokenizer: Path) -> Config:
    """The model section of a FastConformer-TDT with the recipe's numbers."""
    numbers, specaugment = config["model"], config["augmentation"]
    hidden, durations = numbers["hidden"], numbers["durations"]
    return {
        "name": config["name"], "sample_rate": 16000, "compute_eval_loss": False, "log_prediction": False,
        "skip_nan_grad": False,
        "model_defaults": {
            "enc_hidden": numbers["width"], "pred_hidden": hidden, "joint_hidden": hidden,
            "tdt_durations": durations, "num_tdt_durations": len(durations),
        },
        "tokenizer": {"dir": str(tokenizer), "type": "bpe"},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": 16000, "normalize": "per_feature", "window_size": 0.025, "window_stride": 0.01,
            "window": "hann", "features": numbers["mels"], "n_fft": 512, "frame_splicing": 1,
            "dither": 0.0, "pad_to": 0,
        },
        "spec_augment": {
            "_target_": "nemo.collections.asr.modules.SpectrogramAugmentation",
            "freq_masks": specaugment["freq_masks"], "freq_width": specaugment["freq_width"],
            "time_masks": specaugment["time_masks"], "time_width": specaugment["time_width"],
            "use_numba_spec_augment": False,
        },
        "encoder": encoder_config(numbers),
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None, "random_state_sampling": False, "blank_as_pad": True,
            "prednet": {"pred_hidden": hidden, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.1},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None, "preserve_memory": False, "fuse_loss_wer": False, "fused_batch_size": -1,
            "num_extra_outputs": len(durations),
            "jointnet": {"joint_hidden": hidden, "activation": "relu", "dropout": 0.1},
        },
        "decoding": {
            "strategy": "greedy_batch", "model_type": "tdt", "durations": durations,
            "greedy": {"max_symbols": 10, "use_cuda_graph_decoder": False},
            "beam": {"beam_size": 2, "return_best_hypothesis": True},
        },
        "loss": {
            "loss_name": "tdt",
            "tdt_kwargs": {
                "fastemit_lambda": 0.0, "durations": durations, "sigma": numbers["sigma"], "omega": numbers["omega"],
            },
        },
    }  # fmt: skip


def encoder_config(numbers: Config) -> Config:
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": numbers["mels"], "feat_out": -1, "n_layers": numbers["layers"], "d_model": numbers["width"],
        "subsampling": "dw_striding", "subsampling_factor": 8, "causal_downsampling": False,
        "subsampling_conv_channels": numbers["subsampling_channels"], "use_bias": True,
        "ff_expansion_factor": 4, "self_attention_model": "rel_pos", "n_heads": numbers["heads"],
        "att_context_size": [-1, -1], "xscaling": numbers["xscaling"], "untie_biases": True, "pos_emb_max_len": 5000,
        "conv_kernel_size": numbers["conv_kernel"], "conv_norm_type": "batch_norm", "conv_context_size": None,
        "dropout": numbers["dropout"], "dropout_pre_encoder": numbers["dropout"], "dropout_emb": 0.0,
        "dropout_att": numbers["dropout"], "stochastic_depth_drop_prob": 0.0,
    }  # fmt: skip


def build(config: Config, tokenizer: Path, device: torch.device) -> Any:
    """A freshly initialised NeMo model on the device."""
    np.row_stack = np.vstack  # type: ignore[attr-defined]  # NumPy 2.4 dropped it; older numba-cuda wants it
    from nemo.collections.asr.models import EncDecRNNTBPEModel
    from nemo.utils import logging
    from omegaconf import OmegaConf

    logging.setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.manual_seed(config["seed"])
    return EncDecRNNTBPEModel(cfg=OmegaConf.create(nemo_config(config, tokenizer))).to(device)


def transducer_loss(model: Any, config: Config, device: torch.device) -> Loss:
    """(logits (B, T, U+1, V+1+D), targets (B, U), frames (B), target lengths (B)) -> mean loss of an utterance.

    NeMo's own TDT loss runs on CUDA only. Elsewhere, or where its kernels do not compile, the loss of transformers
    stands in: the same but for omega, which it lacks.
    """

    def stock(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
        found: Tensor = model.loss(log_probs=logits, targets=targets, input_lengths=frames, target_lengths=lengths)
        return found

    if device.type == "cuda" and works(stock, model.joint.num_classes_with_blank, device):
        return stock
    print("NeMo's TDT loss does not run here: using the one of transformers")
    return portable_loss(model.joint.num_classes_with_blank, config["model"])


def works(loss: Loss, width: int, device: torch.device) -> bool:
    """Whether the loss gives a gradient for a tiny random batch."""
    logits = torch.randn(2, 6, 3, width, device=device, requires_grad=True)
    targets, lengths = torch.ones(2, 2, dtype=torch.long, device=device), torch.full((2,), 2, device=device)
    try:
        loss(logits, targets, torch.full((2,), 6, device=device), lengths).backward()
    except Exception as error:  # a compiler's error has no common type
        print(f"{type(error).__name__}: {error}")
        return False
    return logits.grad is not None and bool(torch.isfinite(logits.grad).all())


def portable_loss(width: int, numbers: Config) -> Loss:
    """The TDT loss of transformers for a joint of this output width."""
    from transformers.loss.loss_tdt import tdt_loss

    blank = width - 1 - len(numbers["durations"])

    def loss(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
        tokens, jumps = logits[..., : blank + 1], logits[..., blank + 1 :]
        found: Tensor = tdt_loss(
            tokens, jumps, targets, frames, lengths, blank, numbers["durations"], numbers["sigma"], "mean_batch"
        )
        return found

    return loss


def logits_of(
    model: Any, audio: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, *, masks: bool = True
) -> tuple[Tensor, Tensor]:
    """The joint's output (B, T, U+1, V+1+D) in float32, and the frames (B) of each utterance."""
    with torch.autocast(audio.device.type, enabled=False):
        features, frames = model.preprocessor(input_signal=audio, length=lengths)
        if masks:
            features = model.spec_augmentation(input_spec=features, length=frames)
    encoded, frames = model.encoder(audio_signal=features, length=frames)
    predicted, _, _ = model.decoder(targets=targets, target_length=target_lengths)
    joint = model.joint(encoder_outputs=encoded, decoder_outputs=predicted)
    return joint.float(), frames


def half_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state in fp16 on the CPU, batch statistics and the mel filters kept in fp32."""
    keep = ("preprocessor.", "running_mean", "running_var", "num_batches_tracked")
    halved = {}
    for name, value in state.items():
        halve = value.is_floating_point() and not any(part in name for part in keep)
        halved[name] = value.detach().to("cpu", torch.float16 if halve else value.dtype, copy=True)
    return halved


def export(model: Any, path: Path) -> None:
    """Write a ``.nemo`` with fp16 weights and no trace of the training data; stock NeMo restores it in fp32."""
    from omegaconf import OmegaConf, open_dict

    with open_dict(model.cfg):
        model.cfg.train_ds = {**DATA, "shuffle": True, "max_duration": 20.0, "min_duration": 0.1}
        model.cfg.validation_ds = {**DATA, "shuffle": False}
        model.cfg.test_ds = None
        model.cfg.optim = None
        model.cfg.tokenizer.dir = "tokenizer"  # where it was trained says nothing; the archive holds the files
        model.cfg.decoding.greedy = OmegaConf.create({"max_symbols": 10})
    state = half_weights(model.state_dict())
    model.cpu().state_dict = lambda *_, **__: state  # what save_to writes
    model.save_to(str(path))
    del model.state_dict
