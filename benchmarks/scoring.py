"""Scoring speed: ours, jiwer, and the usual pure-Python recipe, on the same rows in the same run.

    python benchmarks/scoring.py --rows 100000

Each contender turns raw transcripts of 20 words into WER with S, D, I, CER, KER and SER, normalising included, in a
process of its own, so that its peak memory is its own too; rows are made on the fly and the time for that is left out.
Seconds are CPU seconds of one core. The pure-Python recipe gets ``--slow-rows`` rows; its seconds are scaled up and
marked so.

    python benchmarks/scoring.py --words 10000

scores one long transcript of that many words a side instead, against a list of terms. jiwer finds no terms: it gets
the corpus rates alone, ours gives hits, false insertions, confusions, numbers and intervals beside them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

Row = tuple[str, str, str]
VOCABULARY = [
    "the",
    "patient",
    "was",
    "given",
    "two",
    "grams",
    "of",
    "in",
    "theatre",
    "before",
    "skin",
    "and",
    "again",
    "after",
    "four",
    "hours",
    "with",
    "no",
    "reaction",
    "seen",
    "by",
    "nurse",
    "pressure",
    "stable",
    "at",
    "120/80,",
    "potassium",
    "4.2",
    "and",
    "HbA1c",
    "pending;",
    "continue",
    "2.5",
    "mg",
    "twice",
    "daily,",
    "review",
    "tomorrow",
]
TERMS = ("cefazolin", "heparin sodium", "metoprolol", "laparoscopy", "femur", "sepsis", "troponin", "anaesthetist")


def rows(count: int) -> Iterator[Row]:
    """Raw (reference, hypothesis, term) rows of about 20 words, one word in twelve misheard."""
    draw = random.Random(0)
    for _ in range(count):
        term = draw.choice(TERMS)
        words = draw.choices(VOCABULARY, k=19)
        words.insert(draw.randrange(20), term)
        heard = [draw.choice(VOCABULARY) if draw.random() < 0.08 else word for word in words]
        yield " ".join(words).capitalize() + ".", " ".join(heard), term


def ours(source: Iterator[Row]) -> dict[str, float | None]:
    """The package, streaming."""
    from clinical_asr.corpus_score import CorpusScore, score_chunk
    from clinical_asr.keywords import KeywordCount, count_keyword
    from clinical_asr.text import clinical_v1

    score, keywords = CorpusScore.zero(), KeywordCount.zero()
    while part := list(islice(source, 4096)):
        references = [clinical_v1(reference) for reference, _, _ in part]
        hypotheses = [clinical_v1(hypothesis) for _, hypothesis, _ in part]
        score += score_chunk(references, hypotheses)
        for (_, _, term), reference, hypothesis in zip(part, references, hypotheses, strict=True):
            keywords += count_keyword(reference, hypothesis, term)
    return {"wer": score.wer, "cer": score.cer, "ser": score.ser, "ker": keywords.ker}


def with_jiwer(source: Iterator[Row]) -> dict[str, float | None]:
    """jiwer on text normalised by the same normaliser; KER by substring."""
    import jiwer

    from clinical_asr.text import clinical_v1

    part = [(clinical_v1(reference), clinical_v1(hypothesis), term) for reference, hypothesis, term in source]
    references, hypotheses = [row[0] for row in part], [row[1] for row in part]
    words, characters = jiwer.process_words(references, hypotheses), jiwer.process_characters(references, hypotheses)
    return {"wer": words.wer, "cer": characters.cer, "ser": _different(part), "ker": _missed(part)}


def ours_with_terms(source: Iterator[Row]) -> dict[str, float | None]:
    """What ``clinical-asr scores --terms`` works out."""
    from clinical_asr.records import EntityCategory, Hypothesis, Term
    from clinical_asr.summary import summarise

    terms = [
        Term(term=term, entity_category=EntityCategory.DRUG) for term in (*TERMS, *(f"drug{n}" for n in range(42)))
    ]
    said, heard, _ = next(source)
    row = Hypothesis(id="a", audio_filepath="", duration=0.0, text=said, pred_text=heard)
    found = summarise([row], terms)
    return {"wer": found.wer, "cer": found.cer, "ser": found.ser, "ker": found.ker}


def jiwer_without_terms(source: Iterator[Row]) -> dict[str, float | None]:
    """jiwer on the same transcript; it knows no terms."""
    said, heard, _ = next(source)
    return {**with_jiwer(iter([(said, heard, "")])), "ker": None}


def transcript(words: int) -> Iterator[Row]:
    """The rows as one transcript of about so many words a side."""
    said, heard, _ = zip(*rows(max(1, words // 20)), strict=True)
    yield " ".join(said), " ".join(heard), ""


def pure_python(source: Iterator[Row]) -> dict[str, float | None]:
    """The textbook dynamic programme, with the same normaliser."""
    from clinical_asr.text import clinical_v1

    part = [(clinical_v1(reference), clinical_v1(hypothesis), term) for reference, hypothesis, term in source]
    word_errors = sum(_distance(reference.split(), hypothesis.split()) for reference, hypothesis, _ in part)
    letter_errors = sum(_distance(reference, hypothesis) for reference, hypothesis, _ in part)
    words, letters = sum(len(row[0].split()) for row in part), sum(len(row[0]) for row in part)
    return {"wer": word_errors / words, "cer": letter_errors / letters, "ser": _different(part), "ker": _missed(part)}


def _distance(left: Sequence[str], right: Sequence[str]) -> int:
    before = list(range(len(right) + 1))
    for i, one in enumerate(left, 1):
        now = [i]
        for j, other in enumerate(right, 1):
            now.append(min(before[j] + 1, now[-1] + 1, before[j - 1] + (one != other)))
        before = now
    return before[-1]


def _different(part: Sequence[Row]) -> float:
    return sum(reference != hypothesis for reference, hypothesis, _ in part) / len(part)


def _missed(part: Sequence[Row]) -> float:
    return sum(f" {term} " not in f" {hypothesis} " for _, hypothesis, term in part) / len(part)


Contender = Callable[[Iterator[Row]], dict[str, float | None]]


def measured(contender: Contender, source: Callable[[int], Iterator[Row]], count: int, queue: object) -> None:
    """Runs one contender; its seconds leave out the time that making the rows takes."""
    began = time.process_time()
    for _ in source(count):
        pass
    making = time.process_time() - began
    contender(source(64))  # imports and first-call work
    began = time.process_time()
    found = contender(source(count))
    seconds = time.process_time() - began - making
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queue.put((found, seconds, peak))  # type: ignore[attr-defined]


def line(contender: Contender, source: Callable[[int], Iterator[Row]], count: int, wanted: int) -> str:
    """One line of the table, from a process of its own; seconds scaled up where it got fewer rows than wanted."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=measured, args=(contender, source, count, queue))
    process.start()
    found, seconds, peak = queue.get()
    process.join()
    rates = "".join(
        "        –" if found[name] is None else f"{found[name]:9.4f}" for name in ("wer", "cer", "ker", "ser")
    )
    scaled = "" if count == wanted else f"   scaled up from {count} rows"
    return f"{contender.__name__:20}{seconds * wanted / count:9.2f}{peak:9.0f}{rates}{scaled}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--words", type=int, help="score one transcript of so many words a side instead")
    parser.add_argument("--slow-rows", type=int, default=2_000, help="rows for pure Python (default 2000)")
    parser.add_argument("--only-ours", action="store_true")
    options = parser.parse_args()
    contenders: list[tuple[Contender, int]] = [(ours, options.rows), (with_jiwer, options.rows),
                                               (pure_python, min(options.rows, options.slow_rows))]  # fmt: skip
    source, wanted, what = rows, options.rows, f"{options.rows} rows of about 20 words"
    if options.words:
        source, wanted, what = transcript, options.words, f"one transcript of {options.words} words a side, 50 terms"
        contenders = [(ours_with_terms, wanted), (jiwer_without_terms, wanted)]
    print(what)
    print(" " * 20 + "".join(name.rjust(9) for name in ("seconds", "peak MB", "WER", "CER", "KER", "SER")))
    for contender, count in contenders[: 1 if options.only_ours else None]:
        print(line(contender, source, count, wanted))


if __name__ == "__main__":
    main()
