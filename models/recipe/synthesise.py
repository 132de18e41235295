"""Speak the training text: shards of int16 samples in training voices, on every core. Run it again to resume.

python models/recipe/synthesise.py --out /tmp/corpus --workers 16
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import random
import time
from pathlib import Path

from corpus import HERE, Config, disk_is_full, draw_voice, find_text, load_config, read_sentences, variants, write_shard

from clinical_asr.engines.espeak import SAMPLE_RATE, Espeak
from clinical_asr.errors import AudioError


def main() -> None:
    args = arguments()
    config = load_config(args.config, args.set)
    args.out.mkdir(parents=True, exist_ok=True)
    size = config["corpus"]["shard_utterances"]
    shards = range(-(-config["corpus"]["utterances"] // size))
    todo = [n for n in shards if not (args.out / f"{n:05d}.json").exists()]
    began, done = time.monotonic(), 0
    work = functools.partial(speak_shard, config=config, text=args.text, out=args.out)
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for seconds in pool.imap_unordered(work, todo):
            done += 1
            elapsed = time.monotonic() - began
            if done % 10 == 0 or done == len(todo):
                print(f"{done}/{len(todo)} shards  {elapsed:.0f} s  last {seconds / 3600:.2f} h of audio", flush=True)
    (args.out / "complete").touch()


def speak_shard(number: int, config: Config, text: Path, out: Path) -> float:
    """Speak one shard; returns its seconds of audio (0 when the disk is nearly full)."""
    limits, size = config["corpus"], config["corpus"]["shard_utterances"]
    if disk_is_full(out, limits["keep_free_gb"]):
        return 0.0
    sentences, names, espeak = shuffled(text, config["seed"]), tuple(variants(config, "train")), Espeak()
    spoken = []
    for index in range(number * size, min((number + 1) * size, limits["utterances"])):
        voice = draw_voice(config, list(names), random.Random(f"{config['seed']}:{index}"))
        sentence = sentences[index % len(sentences)]
        try:
            samples = espeak.synthesise(sentence, voice)
        except AudioError:
            continue  # a sentence with nothing to say
        if limits["min_seconds"] <= len(samples) / SAMPLE_RATE <= limits["max_seconds"]:
            spoken.append((samples, sentence, voice.voice_id))
    write_shard(out, number, spoken)
    return sum(len(samples) for samples, _, _ in spoken) / SAMPLE_RATE


@functools.lru_cache(maxsize=1)
def shuffled(text: Path, seed: int) -> list[str]:
    sentences = read_sentences(find_text(text, "train"))
    random.Random(seed).shuffle(sentences)
    return sentences


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--config", type=Path, default=HERE / "mini.yaml")
    parser.add_argument("--text", type=Path, default=HERE / "text", help="folder of train.txt.xz")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. corpus.utterances=200")
    return parser.parse_args()


if __name__ == "__main__":
    main()
