"""Hypotheses in, counts per row out; and any other transcripts that can be paired without guessing.

``score`` is ours: one :class:`Score` per row, keyed by id. ``read_transcripts`` and ``read_pairs`` bring in what other
tools wrote. ``summary`` scores whole transcripts against a list of terms: every occurrence of every listed term.
Nothing is paired by position, with one exception that says so: two plain text files, line by line, of equal length.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from clinical_asr.cycle import sorted_digest
from clinical_asr.errors import ScoringError
from clinical_asr.keywords import KeywordCount, count_keyword
from clinical_asr.metrics import METRIC_VERSION, character_errors_batch, word_errors_batch
from clinical_asr.records import Hypothesis, Stratum
from clinical_asr.row_ids import IdColumn, SeenIds, chunks
from clinical_asr.tally import Score, Signature, Tally
from clinical_asr.text import DEFAULT_NORMALISER
from clinical_asr.text import normaliser as _function


class RowError(ScoringError):
    """A row that cannot be scored, named by its id and its recording."""

    def __init__(self, what: str, row: Hypothesis, mend: str) -> None:
        recording = f" ({row.audio_filepath})" if row.audio_filepath else ""
        super().__init__(what, where=f"row {row.id or '?'}{recording}", mend=mend)

    def within(self, file: object) -> RowError:
        """The same, with the file that the row stands in; only who read it knows."""
        self.where = f"{file}, {self.where}"
        return self


def score(hypotheses: Iterable[Hypothesis], normaliser: str = DEFAULT_NORMALISER) -> list[Score]:
    """Counts of every row. Raises RowError naming the row: see :func:`iter_scores`."""
    return list(iter_scores(hypotheses, normaliser))


def iter_scores(hypotheses: Iterable[Hypothesis], normaliser: str = DEFAULT_NORMALISER) -> Iterator[Score]:
    """Counts row by row, a chunk in memory at a time; of the rows that have passed only ids are kept, 16 bytes each.

    Raises RowError naming the row if its id is missing or stands twice, if its reference is empty, or if its term
    is not in its reference: such a row would count as a hit or a miss of nothing.
    """
    return (scored for scored, _, _ in iter_scored_texts(hypotheses, normaliser))


def iter_scored_texts(
    hypotheses: Iterable[Hypothesis], normaliser: str = DEFAULT_NORMALISER
) -> Iterator[tuple[Score, str, str]]:
    """The same with both normalised texts, which are the same object where nothing was heard otherwise."""
    clean, seen = _function(normaliser), SeenIds()
    for rows in chunks(hypotheses):
        ids = [row.id for row in rows]
        repeated = seen.repeated(ids)
        if repeated is not None or "" in ids:
            row = rows[ids.index("")] if repeated is None else _last(rows, repeated)
            raise RowError("stands twice" if row.id else "has no id", row, "run: clinical-asr manifest check")
        yield from _score_chunk(rows, clean)


def _last(rows: Sequence[Hypothesis], row_id: str) -> Hypothesis:
    return next(row for row in reversed(rows) if row.id == row_id)


def _score_chunk(rows: Sequence[Hypothesis], clean: Callable[[str], str]) -> Iterator[tuple[Score, str, str]]:
    references = [_reference(row, clean) for row in rows]
    hypotheses = [clean(row.pred_text) for row in rows]
    words = word_errors_batch(references, hypotheses)
    characters = character_errors_batch(references, hypotheses)
    for row, said, heard, word, character in zip(rows, references, hypotheses, words, characters, strict=True):
        wrong = said != heard
        tally = Tally(
            rows=1,
            wrong_rows=int(wrong),
            words=word,
            characters=character,
            keywords=_keywords(row, said, heard, clean),
            row_rates=word.rate or 0.0,
        )
        yield _score_row(row, tally), said, heard if wrong else said


def _reference(row: Hypothesis, clean: Callable[[str], str]) -> str:
    reference = clean(row.text)
    if not reference:
        raise RowError("reference is empty", row, "write what was said, or leave the row out")
    return reference


def _keywords(row: Hypothesis, reference: str, hypothesis: str, clean: Callable[[str], str]) -> KeywordCount:
    if not row.term and row.entity_category is None:
        return KeywordCount.zero()
    term = _clean_term(row.term, clean)
    if not term or f" {term} " not in f" {reference} ":
        why = f"term {row.term!r} is not in its reference {row.text!r}" if term else f"term {row.term!r} is empty"
        raise RowError(why, row, "correct the term or the reference")
    return count_keyword(reference, hypothesis, term)


@lru_cache(maxsize=16_384)
def _clean_term(term: str, clean: Callable[[str], str]) -> str:
    return clean(term)


def _score_row(row: Hypothesis, tally: Tally) -> Score:
    extra = dict(row.extra)
    return Score(
        id=row.id,
        tally=tally,
        reference=row.text,
        hypothesis=row.pred_text,
        term=row.term,
        entity_category=row.entity_category,
        ipa_source=row.ipa_source,
        noise_level=row.noise_level,
        voice_id=row.voice_id,
        context_type=row.context_type,
        audio_filepath=row.audio_filepath,
        stratum=_stratum(extra.pop("stratum", None), row),
        extra=extra,
    )


def _stratum(name: Any, row: Hypothesis) -> Stratum | None:
    if name is None:
        return None
    try:
        return Stratum(name)
    except ValueError:
        known = ", ".join(stratum.value for stratum in Stratum)
        raise RowError(f"stratum {name!r} is unknown", row, f"use one of: {known}") from None


class Signing:
    """What scores rest on, learnt from the hypotheses as they pass; of each row only its id is kept."""

    def __init__(self, normaliser: str = DEFAULT_NORMALISER) -> None:
        _function(normaliser)  # an unknown name is refused here, not in the middle of the rows
        self._normaliser = normaliser
        self._ids, self._models = IdColumn(), Counter[tuple[str, str]]()

    def watch(self, hypotheses: Iterable[Hypothesis]) -> Iterator[Hypothesis]:
        """The same rows."""
        for rows in chunks(hypotheses):
            self._ids.add([row.id for row in rows])
            self._models.update((row.model, row.model_digest) for row in rows)
            yield from rows

    def signature(self) -> Signature:
        """Of the rows that passed. Raises ScoringError if several models transcribed them, or if there are none."""
        if not len(self._ids):
            raise ScoringError("there are no hypotheses", where="scores", mend="transcribe a manifest first")
        if len(self._models) > 1:
            named = " and ".join(
                f"{model or '?'} ({digest or 'no digest'}): {n} rows" for (model, digest), n in self._models.items()
            )
            raise ScoringError(f"hypotheses of several models in one file: {named}", where="scores",
                               mend="score each model by itself")  # fmt: skip
        (model, digest) = next(iter(self._models))
        return Signature(
            self._normaliser, METRIC_VERSION, model, digest, sorted_digest(self._ids.sorted()), len(self._ids)
        )


def signature(hypotheses: Iterable[Hypothesis], normaliser: str = DEFAULT_NORMALISER) -> Signature:
    """What the scores rest on. Raises ScoringError as :meth:`Signing.signature` does."""
    signing = Signing(normaliser)
    deque(signing.watch(hypotheses), maxlen=0)
    return signing.signature()
