"""Reading what evaluation commands are given: hypotheses, other tools' transcripts, or scores written before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clinical_asr.mishearings import About
    from clinical_asr.records import Decision
    from clinical_asr.row_ids import IdCodes
    from clinical_asr.tally import Score, Signature


@dataclass(frozen=True)
class Scored:
    """Scores that are read from their file, row by row, as often as they are asked for."""

    path: Path
    signature: Signature
    """What they rest on."""
    about: list[About]
    """A row of each term that they are about: the one of the smallest id."""
    rows: Callable[[], Iterator[Score]]


def read_scored(path: Path, normaliser: str = "") -> tuple[list[Score], Signature]:
    """:func:`stream_scored` with all rows in memory."""
    found = stream_scored(path, normaliser)
    return list(found.rows()), found.signature


def stream_scored(path: Path, normaliser: str = "") -> Scored:
    """Scores from hypotheses (scored on the way) or from a file that ``scores --output`` wrote.

    Raises ManifestError or ScoringError naming the row; ConfigError if a score file used another normaliser.
    """
    from clinical_asr.scores import Signing
    from clinical_asr.text import DEFAULT_NORMALISER
    from clinical_asr.transcripts import iter_transcripts

    if signature_of(path).is_file():
        return _stream_scores(path, normaliser)
    chosen = normaliser or DEFAULT_NORMALISER
    signing = Signing(chosen)
    about = _about(signing.watch(iter_transcripts(path)))
    return Scored(path, signing.signature(), about, lambda: _scores(path, chosen))


def _scores(path: Path, normaliser: str) -> Iterator[Score]:
    from clinical_asr.scores import RowError, iter_scores
    from clinical_asr.transcripts import iter_transcripts

    try:
        yield from iter_scores(iter_transcripts(path), normaliser)
    except RowError as error:
        raise error.within(path) from None


def _about(rows: Iterable[About]) -> list[About]:
    found: dict[tuple[str, str | None], About] = {}
    for row in rows:
        if row.term:
            first = found.setdefault((row.term, row.entity_category), row)
            if row.id < first.id:
                found[row.term, row.entity_category] = row
    return list(found.values())


def signature_of(scores: Path) -> Path:
    """Where the signature of a score file lies."""
    return scores.with_name(f"{scores.stem}.signature.json")


def _stream_scores(path: Path, normaliser: str) -> Scored:
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import iter_glances, iter_rows, read_json
    from clinical_asr.tally import Score, Signature, Subject

    signature = read_json(signature_of(path), Signature)
    if normaliser not in ("", signature.normaliser):
        mend = "score the hypotheses again with the other one"
        raise ConfigError(f"was scored with {signature.normaliser}, not {normaliser}", str(path), mend)
    return Scored(path, signature, _about(iter_glances(path, Subject)), lambda: iter_rows(path, Score))


def read_decision(path: Path) -> Decision:
    """A decision of an earlier cycle. Raises ManifestError."""
    from clinical_asr.jsonl import read_json
    from clinical_asr.records import Decision

    decision: Decision = read_json(path, Decision)
    return decision


def with_strata(scored: Scored, folder: Path) -> Scored:
    """Rows labelled by the split that lies in a folder; those of neither side stay without a label.

    Raises ManifestError as ``sides.labels`` does; ScoringError, once the rows have been read, if the split knows
    none of them: it is another manifest's.
    """
    from clinical_asr.records import Stratum
    from clinical_asr.row_ids import IdCodes, chunks
    from clinical_asr.sides import labels

    strata, codes = list(Stratum), IdCodes()
    for some in chunks(labels(folder / "train.jsonl", folder / "validation.jsonl")):
        for code, stratum in enumerate(strata):
            codes.add([row_id for row_id, label in some if label is stratum], code)
    return replace(scored, rows=lambda: _labelled(scored.rows(), codes, folder))


def _labelled(rows: Iterator[Score], codes: IdCodes, folder: Path) -> Iterator[Score]:
    import msgspec

    from clinical_asr.errors import ScoringError
    from clinical_asr.records import Stratum
    from clinical_asr.row_ids import chunks

    strata, known = list(Stratum), False
    for some in chunks(rows):
        for row, code in zip(some, codes.of([row.id for row in some]), strict=True):
            known = known or code is not None
            yield msgspec.structs.replace(row, stratum=None if code is None else strata[code])
    if not known:
        raise ScoringError("knows none of the scored rows", str(folder), "give the folder of this manifest's split")
