"""Hypotheses in, counts per row out; and any other transcripts that can be paired without guessing.

``score`` is ours: one :class:`Score` per row, keyed by id. ``read_transcripts`` and ``read_pairs`` bring in what other
tools wrote. ``summary`` scores whole transcripts against a list of terms: every occurrence of every listed term.
Nothing is paired by position, with one exception that says so: two plain text files, line by line, of equal length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from clinical_asr.cycle import manifest_digest
from clinical_asr.errors import ScoringError
from clinical_asr.keywords import KeywordCount, count_keyword
from clinical_asr.metrics import METRIC_VERSION, character_errors_batch, word_errors_batch
from clinical_asr.records import Hypothesis, Stratum
from clinical_asr.tally import Score, Signature, Tally
from clinical_asr.text import DEFAULT_NORMALISER
from clinical_asr.text import normaliser as _function

_CHUNK = 4096  # rows scored at a time: large enough to be fast, small enough for flat memory


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
    """Counts row by row, a chunk in memory at a time.

    Raises RowError naming the row if its id is missing or stands twice, if its reference is empty, or if its term
    is not in its reference: such a row would count as a hit or a miss of nothing.
    """
    clean = _function(normaliser)
    source, seen = iter(hypotheses), set[str]()
    while rows := list(islice(source, _CHUNK)):
        for row in rows:
            if not row.id or row.id in seen:
                why = "stands twice" if row.id else "has no id"
                raise RowError(why, row, "run: clinical-asr manifest check")
            seen.add(row.id)
        yield from _score_chunk(rows, clean)


def _score_chunk(rows: Sequence[Hypothesis], clean: Callable[[str], str]) -> Iterator[Score]:
    references = [_reference(row, clean) for row in rows]
    hypotheses = [clean(row.pred_text) for row in rows]
    words = word_errors_batch(references, hypotheses)
    characters = character_errors_batch(references, hypotheses)
    for place, row in enumerate(rows):
        tally = Tally(
            rows=1,
            wrong_rows=int(references[place] != hypotheses[place]),
            words=words[place],
            characters=characters[place],
            keywords=_keywords(row, references[place], hypotheses[place], clean),
            row_rates=words[place].rate or 0.0,
        )
        yield _score_row(row, tally)


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


def signature(hypotheses: Iterable[Hypothesis], normaliser: str = DEFAULT_NORMALISER) -> Signature:
    """What the scores rest on. Raises ScoringError if several models transcribed the rows, or if there are none."""
    _function(normaliser)  # an unknown name is refused here, not in the middle of the rows
    ids, models = list[str](), Counter[tuple[str, str]]()
    for row in hypotheses:
        ids.append(row.id)
        models[row.model, row.model_digest] += 1
    if not ids:
        raise ScoringError("there are no hypotheses", where="scores", mend="transcribe a manifest first")
    if len(models) > 1:
        named = " and ".join(
            f"{model or '?'} ({digest or 'no digest'}): {n} rows" for (model, digest), n in models.items()
        )
        raise ScoringError(f"hypotheses of several models in one file: {named}", where="scores",
                           mend="score each model by itself")  # fmt: skip
    (model, digest) = next(iter(models))
    return Signature(normaliser, METRIC_VERSION, model, digest, manifest_digest(ids), len(ids))
