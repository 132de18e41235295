"""Trials of fine-tuning that does not forget: what each costs in general English and what it buys in terms.

    clinical-asr demo --out demo                                   # makes the benchmark, the split, guard and replay
    python benchmarks/forgetting.py demo/cycle1 --out trials 'plain' 'bn_frozen lr=1e-4 epochs=6' ...

Every trial starts from the same base in one process and is a line of switches (see :class:`Trial`). After training, the
tuned weights are set back towards the base by several factors (WiSE-FT) and each point is judged: KER of the held-out
rows per stratum, false insertions, WER of the guard set and of a second set of general speech that decides nothing
(``--second``). One JSON record a trial in ``OUT/trials.jsonl``, a Markdown table at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import nemo_file
from clinical_asr.bases import inspect_base, resolve_base
from clinical_asr.config import TrainingConfig
from clinical_asr.engines.nemo_asr import NemoTranscriber, _decode_in_batches
from clinical_asr.engines.nemo_sft import _loss_for, _Run
from clinical_asr.engines.nemo_sft.batches import Batches, tokenize
from clinical_asr.engines.nemo_sft.epochs import seed_everything, weights_of
from clinical_asr.error_count import ErrorCount
from clinical_asr.finetune import Recordings, draw_replay
from clinical_asr.jsonl import read_rows
from clinical_asr.keywords import KeywordCount, keyword_hits
from clinical_asr.metrics import word_errors_batch
from clinical_asr.records import ClinicalUtterance, Utterance
from clinical_asr.selection import term_of
from clinical_asr.text import normalise
from clinical_asr.training import Example, TrainingJob


@dataclass(frozen=True)
class Trial:
    """One way to fine-tune; written on the command line as ``key=value``, switches without a value."""

    epochs: int = 3
    lr: float = 3e-4
    floor: float = 5e-6
    decay: float = 1e-3
    warmup: int = 5
    batch: int = 4
    replay: float = 0.0
    """General utterances per clinical one, fresh ones every epoch if ``fresh``."""
    fresh: bool = False
    bn_frozen: bool = False
    """BatchNorm uses and keeps the base's statistics."""
    no_dropout: bool = False
    no_masks: bool = False
    """Without SpecAugment."""
    freeze: str = ""
    """Frozen parts, with commas: prefixes of parameter names; ``layers<6`` the lower six encoder layers."""
    l2sp: float = 0.0
    """Pull per step towards the base's weights, decoupled, times the rate (Xuhong et al. 2018)."""
    match: float = 0.0
    """Weight of the squared distance to the base's encoder outputs on replayed rows (Li and Hoiem 2016)."""
    match_all: float = 0.0
    """The same on all rows."""
    ema: float = 0.0
    """Decay per step of averaged weights, which are the ones judged."""
    seed: int = 42
    alphas: str = "1,0.75,0.5"

    @classmethod
    def parse(cls, text: str) -> Trial:
        kinds = {f.name: f.type for f in fields(cls)}
        given: dict[str, Any] = {}
        for part in text.split():
            key, _, value = part.partition("=")
            if key == "plain":
                continue
            cast = {"int": int, "float": float, "str": str}.get(str(kinds[key]))
            given[key] = cast(value) if cast else True
        return cls(**given)

    @property
    def line(self) -> str:
        plain = Trial()
        now = [(f.name, getattr(self, f.name)) for f in fields(self)]
        changed = [(name, value) for name, value in now if value != getattr(plain, name)]
        told = (k if v is True else f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in changed)
        return " ".join(told) or "plain"


@dataclass(frozen=True)
class Material:
    """Rows of one cycle, read once."""

    train: Recordings
    held: Recordings
    guard: Recordings
    second: Recordings
    replay: Recordings


class Bench:
    """The base in memory, and everything that is judged."""

    def __init__(self, base: Path, material: Material) -> None:
        self.path, self.material = base, material
        self.model = nemo_file.restore(base, "cpu")
        self.base = weights_of(self.model)
        self.architecture = inspect_base(base)
        self.listener = NemoTranscriber.from_model(self.model, "trial", "")
        _decode_in_batches(self.model)

    keep: Path | None = None

    def heard(self, side: Recordings) -> dict[str, str]:
        found = self.listener.transcribe({row.id: side.audio(row) for row in side.rows})
        return {key: text for key, text in found.items() if isinstance(text, str)}

    def judge(self, alpha: float, tuned: dict[str, Any]) -> dict[str, Any]:
        self.model.load_state_dict(mixed(self.base, tuned, alpha))
        self.model.eval()
        held, guard, second = self.material.held, self.material.guard, self.material.second
        heard = self.heard(held)
        found: dict[str, Any] = {"alpha": alpha, "ker": strata_ker(held.rows, heard)}
        found["held_wer"] = wer(held.rows, heard).rate
        terms = [term_of(row) for row in self.material.train.rows]
        said = self.heard(guard)
        errors = wer(guard.rows, said)
        found |= {"guard": errors.rate, "guard_errors": [errors.substitutions, errors.deletions, errors.insertions]}
        found["false"] = sum(
            f" {normalise(t)} " in f" {normalise(text)} " for t in set(terms) for text in said.values()
        )
        found["guard_hyps"] = said
        if second.rows:
            found["second"] = wer(second.rows, self.heard(second)).rate
        return found

    def run(self, trial: Trial) -> dict[str, Any]:
        start, cpu = time.monotonic(), time.process_time()
        self.model.load_state_dict(self.base)
        tuned, losses = train(self, trial)
        seconds = time.monotonic() - start
        spent = time.process_time() - cpu
        if self.keep:
            import torch

            torch.save(tuned, self.keep / f"{int(time.time())}.pt")
        points = [self.judge(float(a), tuned) for a in trial.alphas.split(",")]
        return {
            "trial": trial.line,
            "settings": asdict(trial),
            "train_s": round(seconds),
            "train_cpu_s": round(spent),
            "losses": losses,
            "cpu_s": round(time.process_time() - cpu),
            "all_s": round(time.monotonic() - start),
            "points": points,
        }


def mixed(base: dict[str, Any], tuned: dict[str, Any], alpha: float) -> dict[str, Any]:
    """``(1 - alpha) * base + alpha * tuned``; counters are taken from the tuned side."""
    return {k: base[k].lerp(v, alpha) if v.is_floating_point() else v for k, v in tuned.items()}


def wer(rows: Sequence[Utterance], heard: dict[str, str]) -> ErrorCount:
    pairs = [normalise(row.text) for row in rows], [normalise(heard.get(row.id, "")) for row in rows]
    return sum(word_errors_batch(*pairs), ErrorCount.zero())


def strata_ker(rows: Sequence[Utterance], heard: dict[str, str]) -> dict[str, Any]:
    """KER per stratum: all categories, and the drugs that decide."""
    found: dict[str, KeywordCount] = {}
    for row in rows:
        hits = keyword_hits(row.text, heard.get(row.id, ""), term_of(row), "clinical-v1")
        kind, drug = row.extra["stratum"], getattr(row, "entity_category", "") == "drug"
        keys = [kind, *([] if kind == "new term" else ["all taught", *(["drug"] if drug else [])])]
        for key in keys:
            found[key] = found.get(key, KeywordCount.zero()) + hits
    return {key: count.ker for key, count in sorted(found.items())}


# --- training ---------------------------------------------------------------------------------------------------------


def train(bench: Bench, trial: Trial) -> tuple[dict[str, Any], list[float]]:
    """A plain loop around NeMo's ``training_step``, so that anything can be put into it."""
    import torch

    model, job = bench.model, _job(bench, trial)
    masks = model.spec_augmentation
    model.spec_augmentation = None if trial.no_masks else masks
    frozen = freeze(model, trial)
    wanted = [p for p in model.parameters() if p.requires_grad]
    anchors = [bench.base[n].clone() for n, p in model.named_parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(wanted, lr=trial.lr, betas=(0.9, 0.98), weight_decay=trial.decay)
    per_epoch = [epoch_examples(bench, trial, job, epoch) for epoch in range(trial.epochs)]
    steps_in_all = sum(math.ceil(len(e) / trial.batch) for e in per_epoch)
    average = Average(model, trial.ema) if trial.ema else None
    teacher = Teacher(bench) if trial.match or trial.match_all else None
    step, losses = 0, []
    with _loss_for(model, _Run(job, bench.architecture, "cpu", job.config)):
        for epoch, examples in enumerate(per_epoch, 1):
            set_modes(model, trial)
            seed_everything(model, trial.seed, epoch)
            batches = Batches(examples, tokenize(model, examples), trial.batch, trial.seed)
            total, began = 0.0, time.monotonic()
            for indices in batches.plan(epoch):
                rate = schedule(trial, step, steps_in_all)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                batch = batches._collate(indices)
                loss = forward(model, batch, teacher, trial, [examples[i].replayed for i in indices])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(wanted, 1.0)
                optimiser.step()
                if trial.l2sp:
                    with torch.no_grad():
                        for weight, anchor in zip(wanted, anchors, strict=True):
                            weight.lerp_(anchor, min(1.0, rate * trial.l2sp))
                if average:
                    average.update(step)
                total, step = total + float(loss.detach()), step + 1
            losses.append(round(total / len(batches), 4))
            print(f"  epoch {epoch}: loss {losses[-1]}, {time.monotonic() - began:.0f} s", flush=True)
    for parameter in frozen:
        parameter.requires_grad_(True)
    model.spec_augmentation = masks
    return (average.weights() if average else weights_of(model)), losses


def forward(model: Any, batch: Any, teacher: Teacher | None, trial: Trial, replayed: list[bool]) -> Any:
    """NeMo's training step without its logging."""
    signal, samples, tokens, counts = batch
    encoded, lengths = model(input_signal=signal, input_signal_length=samples)
    predicted, counts, _ = model.decoder(targets=tokens, target_length=counts)
    lattice = model.joint(encoder_outputs=encoded, decoder_outputs=predicted)
    loss = model.loss(log_probs=lattice, targets=tokens, input_lengths=lengths, target_lengths=counts)
    if teacher is None:
        return loss
    return loss + teacher.distance(batch, encoded, [trial.match_all + (trial.match if r else 0.0) for r in replayed])


class Teacher:
    """The base itself, frozen: what its encoder makes of the same, undistorted speech."""

    def __init__(self, bench: Bench) -> None:
        self.model = nemo_file.restore(bench.path, "cpu")
        self.model.eval()

    def distance(self, batch: Any, seen: Any, weights: list[float]) -> Any:
        import torch

        rows = [place for place, weight in enumerate(weights) if weight]
        if not rows:
            return 0.0
        signal, samples, seen = batch[0][rows], batch[1][rows], seen[rows]
        with torch.no_grad():
            target, lengths = self.model(input_signal=signal[:, : int(samples.max())], input_signal_length=samples)
        seen = seen[:, :, : target.shape[2]]
        mask = (torch.arange(target.shape[2])[None] < lengths[:, None])[:, None].float()
        off = ((seen - target) ** 2 * mask).sum((1, 2)) / (mask.sum((1, 2)) * target.shape[1])
        scale = target.pow(2).mean()
        return (off / scale * torch.tensor([weights[place] for place in rows])).sum() / len(weights)


class Average:
    """Exponential moving average of the weights, warmed up."""

    def __init__(self, model: Any, decay: float) -> None:
        self.model, self.decay, self.kept = model, decay, weights_of(model)

    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.kept[name].lerp_(value.detach(), 1 - decay)

    def weights(self) -> dict[str, Any]:
        return self.kept


def schedule(trial: Trial, step: int, steps: int) -> float:
    if step < trial.warmup:
        return trial.lr * (step + 1) / (trial.warmup + 1)
    share = (step - trial.warmup) / max(1, steps - trial.warmup)
    return trial.floor + 0.5 * (trial.lr - trial.floor) * (1 + math.cos(math.pi * share))


def freeze(model: Any, trial: Trial) -> list[Any]:
    frozen = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(True)
        if any(_covers(prefix, name) for prefix in filter(None, trial.freeze.split(","))):
            parameter.requires_grad_(False)
            frozen.append(parameter)
    return frozen


def _covers(prefix: str, name: str) -> bool:
    if prefix.startswith("layers<"):
        layer = name.removeprefix("encoder.layers.").split(".")[0]
        return name.startswith("encoder.pre_encode") or (layer.isdigit() and int(layer) < int(prefix[7:]))
    return name.startswith(prefix)


def set_modes(model: Any, trial: Trial) -> None:
    import torch

    model.train()
    for module in model.modules():
        if trial.bn_frozen and isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
        if trial.no_dropout and isinstance(module, torch.nn.Dropout):
            module.eval()


def _job(bench: Bench, trial: Trial) -> TrainingJob:
    side = bench.material.train
    examples = tuple(Example(r.id, side.audio(r), r.text, r.duration) for r in side.rows)
    config = TrainingConfig(
        name="trial",
        epochs=trial.epochs,
        learning_rate=trial.lr,
        min_learning_rate=trial.floor,
        batch_size=trial.batch,
        replay_ratio=trial.replay,
        seed=trial.seed,
        precision="32-true",
    )
    return TrainingJob(bench.path, examples, config, Path("unused"))


def epoch_examples(bench: Bench, trial: Trial, job: TrainingJob, epoch: int) -> list[Example]:
    if not trial.replay:
        return list(job.examples)
    seed = trial.seed * 1000 + epoch if trial.fresh else trial.seed
    side = bench.material.replay
    config = msgspec.structs.replace(job.config, seed=seed, epochs=1)
    drawn = draw_replay(side.rows, config, len(job.examples), set())
    return [*job.examples, *(Example(r.id, side.audio(r), r.text, r.duration, replayed=True) for r in drawn)]


# --- material and table -----------------------------------------------------------------------------------------------


def material(cycle: Path, second: Path | None) -> Material:
    general = cycle / "general"
    return Material(
        Recordings(read_rows(cycle / "train.jsonl", ClinicalUtterance), cycle),
        Recordings(read_rows(cycle / "validation.jsonl", ClinicalUtterance), cycle),
        Recordings(read_rows(general / "guard_manifest.jsonl", Utterance), general),
        Recordings(read_rows(second, Utterance), second.parent) if second else Recordings(),
        Recordings(read_rows(general / "replay_manifest.jsonl", Utterance), general),
    )


def table(records: list[dict[str, Any]]) -> str:
    names = ("drug", "all taught", "new sentence", "new voice", "same sentence")
    head = ["trial", "factor", *(f"KER {n}" for n in names), "held WER", "guard WER", "S/D/I", "false", "second",
            "train CPU s"]  # fmt: skip
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for record in records:
        for p in record["points"]:
            cells = [
                record["trial"],
                f"{p['alpha']:g}",
                *(f"{p['ker'].get(n, math.nan):.3f}" for n in names),
                f"{p['held_wer']:.2%}",
                f"{p['guard']:.2%}",
                "/".join(map(str, p["guard_errors"])),
                str(p["false"]),
                f"{p.get('second', math.nan):.2%}",
                str(record["train_cpu_s"]),
            ]
            lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Run the trials in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cycle", type=Path)
    parser.add_argument("trials", nargs="+", help="switches of one trial, in one argument")
    parser.add_argument("--base", default="mini")
    parser.add_argument("--out", type=Path, default=Path("trials"))
    parser.add_argument("--second", type=Path, help="another manifest of general speech")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(resolve_base(arguments.base), material(arguments.cycle, arguments.second))
    bench.keep = arguments.out
    records = []
    for text in arguments.trials:
        trial = Trial.parse(text)
        print(trial.line, flush=True)
        records.append(bench.run(trial))
        with (arguments.out / "trials.jsonl").open("a") as file:
            file.write(json.dumps(records[-1]) + "\n")
        print(table(records[-1:]), flush=True)
    print(table(records))


if __name__ == "__main__":
    main()
