"""Train the mini base on the shards that synthesise.py speaks, for a given time. Run it again to resume.

    python models/recipe/train.py --corpus /tmp/corpus --out /tmp/mini

Writes ``log.txt``, ``last.pt`` (everything), ``light.pt`` (fp16 weights, enough to go on elsewhere) and, at the end,
``mini-fastconformer-tdt.nemo``. The learning rate follows the clock, so it always reaches its end in the time given.
"""

from __future__ import annotations

import argparse
import math
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import augment
import network
import torch
from corpus import HERE, Config, Corpus, batches, find_text, load_config, read_sentences, speak_all
from torch import Tensor

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def main() -> None:
    args = arguments()
    config = load_config(args.config, args.set)
    device = torch.device(args.device)
    torch.set_float32_matmul_precision("high")
    if device.type == "cuda":
        torch.backends.cuda.cufft_plan_cache[0].max_size = 64  # every plan keeps its workspace
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = find_tokenizer(args, config)
    run = Run(config, network.build(config, tokenizer, device), device, args.out)
    run.resume(args.resume)
    corpus = Corpus(args.corpus, run.model.tokenizer.tokenizer.encode)
    corpus.wait(args.start_with)
    validation = validation_set(config, args.text)
    run.train(prefetched(corpus, config, device, run.step), validation)
    run.finish(validation)


class Run:
    """One training run: the model, its average, its optimiser and its clock (seconds of training so far)."""

    def __init__(self, config: Config, model: Any, device: torch.device, out: Path) -> None:
        self.config, self.numbers, self.model, self.device, self.out = config, config["training"], model, device, out
        self.loss = network.transducer_loss(model, config, device)
        named = model.state_dict().items()
        self.names = [n for n, v in named if v.is_floating_point() and not n.startswith("preprocessor.")]
        self.live = [model.state_dict()[name] for name in self.names]
        self.average = [value.detach().clone() for value in self.live]
        decay, rate = self.numbers["weight_decay"], self.numbers["learning_rate"]
        self.optimizer = torch.optim.AdamW(model.parameters(), rate, (0.9, 0.98), weight_decay=decay, fused=True)
        self.step, self.seconds, self.utterances = 0, 0.0, 0

    def train(self, stream: Iterator[Batch], validation: tuple[list[Any], list[str]]) -> None:
        numbers, began, saved, total = self.numbers, time.monotonic() - self.seconds, time.monotonic(), []
        limit, logged, spoken = numbers["minutes"] * 60, time.monotonic(), 0
        self.model.train()
        while self.seconds < limit:
            batch = next(stream)
            total.append(self.update(batch))
            spoken += len(batch[0])
            self.seconds = time.monotonic() - began
            if self.step % numbers["log_every"] == 0 or self.step <= 3:
                pace, logged = spoken / (time.monotonic() - logged), time.monotonic()
                self.log(f"loss {torch.stack(total).mean().item():.3f}  lr {self.rate():.2e}  {pace:.0f} utt/s")
                total, spoken = [], 0
            if self.step % numbers["validate_every"] == 0:
                self.log(f"validation WER {self.validate(validation):.4f}")
            if time.monotonic() - saved > numbers["checkpoint_every_seconds"]:
                self.save()
                saved = time.monotonic()

    def update(self, batch: Batch) -> Tensor:
        """One step of AdamW; returns the loss, still on the device. A step with a non-finite gradient is skipped."""
        audio, lengths, targets, target_lengths = batch
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        clean = self.seconds < self.numbers["clean_minutes"] * 60
        distort = augment.change_gain if clean else augment.augment
        audio, lengths = distort(audio.float() / 32768, lengths, self.config["augmentation"])
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits, frames = network.logits_of(self.model, audio, lengths, targets, target_lengths, masks=not clean)
        loss = self.loss(logits, targets, frames, target_lengths)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.numbers["clip"])
        self.optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]  # read by fused AdamW
        self.optimizer.step()
        self.step += 1
        weight = 1 - min(self.numbers["ema"], (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, self.live, weight)
        return loss.detach()

    def rate(self) -> float:
        """Learning rate now: linear warm-up, then half a cosine down to the final rate, by the clock."""
        low, high = self.numbers["final_learning_rate"], self.numbers["learning_rate"]
        warm = min(1.0, (self.seconds + 1) / (self.numbers["warmup_minutes"] * 60 + 1))
        done = min(1.0, self.seconds / (self.numbers["minutes"] * 60))
        return warm * (low + (high - low) * (1 + math.cos(math.pi * done)) / 2)

    @torch.no_grad()
    def validate(self, validation: tuple[list[Any], list[str]]) -> float:
        """WER of the averaged weights."""
        kept = [value.clone() for value in self.live]
        torch._foreach_copy_(self.live, self.average)
        self.model.eval()
        try:
            return word_error_rate(transcribe(self.model, validation[0], self.device), validation[1])
        finally:
            torch._foreach_copy_(self.live, kept)
            self.model.train()

    def save(self) -> None:
        """``last.pt`` to go on here, ``light.pt`` to go on after the machine is lost."""
        state = {"step": self.step, "seconds": self.seconds, "model": self.model.state_dict(), "average": self.average}
        replace(self.out / "last.pt", {**state, "optimizer": self.optimizer.state_dict()})
        raw = network.half_weights(self.model.state_dict())
        average = list(network.half_weights(dict(zip(self.names, self.average, strict=True))).values())
        files = {path.name: path.read_bytes() for path in (self.out / "tokenizer").iterdir()}
        replace(self.out / "light.pt", {**state, "model": raw, "average": average, "tokenizer": files})
        self.log("saved")

    def resume(self, light: Path | None) -> None:
        path = next((p for p in (self.out / "last.pt", light) if p and p.exists()), None)
        if path is None:
            return
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        for mine, stored in zip(self.average, state["average"], strict=True):
            mine.copy_(stored)
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.log(f"resumed from {path.name}")

    def finish(self, validation: tuple[list[Any], list[str]]) -> None:
        self.save()
        self.log(f"final validation WER {self.validate(validation):.4f}")
        torch._foreach_copy_(self.live, self.average)
        path = self.out / f"{self.config['name']}.nemo"
        network.export(self.model.eval(), path)
        self.log(f"wrote {path.name}, {path.stat().st_size / 1e6:.1f} MB")

    def log(self, message: str) -> None:
        line = f"{time.strftime('%H:%M:%S')}  step {self.step}  {self.seconds:.0f} s  {message}"
        print(line, flush=True)
        with (self.out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def replace(path: Path, state: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def transcribe(model: Any, audio: list[Any], device: torch.device, size: int = 64) -> list[str]:
    """Greedy transcripts of float32 waveforms."""
    texts: list[str] = []
    for start in range(0, len(audio), size):
        parts = [torch.from_numpy(samples) for samples in audio[start : start + size]]
        lengths = torch.tensor([len(part) for part in parts], device=device)
        signal = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).to(device)
        encoded, frames = model.forward(input_signal=signal, input_signal_length=lengths)
        found = model.decoding.rnnt_decoder_predictions_tensor(encoder_output=encoded, encoded_lengths=frames)
        texts += [getattr(hypothesis, "text", hypothesis) for hypothesis in found]
    return texts


def word_error_rate(hypotheses: list[str], references: list[str]) -> float:
    """Pooled: all word errors over all reference words."""
    import kaldialign

    pairs = [(reference.split(), text.split()) for reference, text in zip(references, hypotheses, strict=True)]
    return sum(kaldialign.edit_distance(*pair)["total"] for pair in pairs) / sum(len(words) for words, _ in pairs)


def validation_set(config: Config, text: Path) -> tuple[list[Any], list[str]]:
    """Unseen sentences in guard voices."""
    sentences = read_sentences(find_text(text, "validation"))[: config["training"]["validation_utterances"]]
    return speak_all(config, sentences, "guard", config["seed"])[0], sentences


def prefetched(corpus: Corpus, config: Config, device: torch.device, step: int) -> Iterator[Batch]:
    """Batches on the device, padded by a thread that runs ahead."""
    numbers, ready = config["training"], queue.Queue[Any](maxsize=6)
    seed = config["seed"] + step  # a resumed run sees another order

    def work() -> None:
        for batch in batches(corpus, numbers["batch_seconds"], numbers["batch_utterances"], seed):
            tensors = [torch.from_numpy(part) for part in batch]
            ready.put([t.pin_memory() for t in tensors] if device.type == "cuda" else tensors)

    threading.Thread(target=work, daemon=True).start()
    while True:
        audio, lengths, targets, target_lengths = (t.to(device, non_blocking=True) for t in ready.get(timeout=300))
        yield audio, lengths, targets, target_lengths


def find_tokenizer(args: argparse.Namespace, config: Config) -> Path:
    """The run's tokenizer: kept, taken from the checkpoint to resume, or trained on the text."""
    folder = args.out / "tokenizer"
    if args.resume and args.resume.exists() and not folder.exists():
        folder.mkdir()
        for name, content in torch.load(args.resume, map_location="cpu")["tokenizer"].items():
            (folder / name).write_bytes(content)
    return network.train_tokenizer(config, read_sentences(find_text(args.text, "train")), folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the shards; may still be growing")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--config", type=Path, default=HERE / "mini.yaml")
    parser.add_argument("--text", type=Path, default=HERE / "text")
    parser.add_argument("--resume", type=Path, help="a light.pt, used when --out has no last.pt")
    parser.add_argument("--start-with", type=int, default=20000, help="utterances to wait for")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. training.minutes=18")
    return parser.parse_args()


if __name__ == "__main__":
    main()
