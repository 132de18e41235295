"""Pooled scores of a corpus, read once and kept in memory that does not grow with its rows: WER, CER, SER. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from clinical_asr.error_count import ErrorCount, counts_from_row
from clinical_asr.metrics import CHUNK, character_distances, word_counts


@dataclass(frozen=True, slots=True)
class CorpusScore:
    """Pooled counts of a corpus, in memory that does not grow with the rows.

    Character errors are kept without their split; ``wer_row_mean`` is the published mean of per-row rates, over
    the rows that have a reference.
    """

    words: ErrorCount
    character_errors: int
    characters: int
    rows: int
    rows_different: int
    row_rate_sum: float
    rows_with_reference: int

    @classmethod
    def zero(cls) -> CorpusScore:
        return cls(ErrorCount.zero(), 0, 0, 0, 0, 0.0, 0)

    def __add__(self, other: CorpusScore) -> CorpusScore:
        return CorpusScore(
            self.words + other.words,
            self.character_errors + other.character_errors,
            self.characters + other.characters,
            self.rows + other.rows,
            self.rows_different + other.rows_different,
            self.row_rate_sum + other.row_rate_sum,
            self.rows_with_reference + other.rows_with_reference,
        )

    @property
    def wer(self) -> float | None:
        """Word errors over reference words, pooled."""
        return self.words.rate

    @property
    def cer(self) -> float | None:
        """Character errors over reference characters, pooled."""
        return self.character_errors / self.characters if self.characters else None

    @property
    def ser(self) -> float | None:
        """Share of rows with any difference."""
        return self.rows_different / self.rows if self.rows else None

    @property
    def wer_row_mean(self) -> float | None:
        """Mean of per-row word error rates: the published column, beside the pooled headline."""
        return self.row_rate_sum / self.rows_with_reference if self.rows_with_reference else None


def score_chunk(references: Sequence[str], hypotheses: Sequence[str]) -> CorpusScore:
    """Pooled score of one chunk of normalised pairs.

    >>> s = score_chunk(["one two", "three"], ["one", "three"])
    >>> s.wer, s.ser, s.wer_row_mean
    (0.3333333333333333, 0.5, 0.25)
    """
    words = word_counts(references, hypotheses)
    lengths, errors = words[:, 4], words[:, :3].sum(axis=1)
    given = lengths > 0
    return CorpusScore(
        words=counts_from_row(words.sum(axis=0)),
        character_errors=int(character_distances(references, hypotheses).sum()),
        characters=sum(map(len, references)),
        rows=len(references),
        rows_different=int((errors > 0).sum()),
        row_rate_sum=float((errors[given] / lengths[given]).sum()),
        rows_with_reference=int(given.sum()),
    )


def score_stream(pairs: Iterable[tuple[str, str]], chunk: int = CHUNK) -> CorpusScore:
    """Pooled score of normalised (reference, hypothesis) pairs from any iterator, a chunk in memory at a time.

    >>> score_stream(iter([("a b", "a b"), ("c", "d")])).wer
    0.3333333333333333
    """
    total = CorpusScore.zero()
    for rows in _chunks(pairs, chunk):
        references, hypotheses = zip(*rows, strict=True)
        total = total + score_chunk(references, hypotheses)
    return total


def _chunks(pairs: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    source = iter(pairs)
    while rows := list(islice(source, size)):
        yield rows
