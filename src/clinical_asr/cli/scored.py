"""Reading what evaluation commands are given: hypotheses, other tools' transcripts, or scores written before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clinical_asr.records import Decision, Stratum
    from clinical_asr.tally import Score, Signature


def read_scored(path: Path, normaliser: str = "") -> tuple[list[Score], Signature]:
    """Scores and what they rest on, from hypotheses (scored here) or from a file that ``scores --output`` wrote.

    Raises ManifestError or ScoringError naming the row; ConfigError if a score file used another normaliser.
    """
    from clinical_asr.scores import RowError, score, signature
    from clinical_asr.text import DEFAULT_NORMALISER
    from clinical_asr.transcripts import read_transcripts

    if signature_of(path).is_file():
        return _read_scores(path, normaliser)
    hypotheses = read_transcripts(path)
    chosen = normaliser or DEFAULT_NORMALISER
    try:
        return score(hypotheses, chosen), signature(hypotheses, chosen)
    except RowError as error:
        raise error.within(path) from None


def signature_of(scores: Path) -> Path:
    """Where the signature of a score file lies."""
    return scores.with_name(f"{scores.stem}.signature.json")


def _read_scores(path: Path, normaliser: str) -> tuple[list[Score], Signature]:
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import read_json, read_rows
    from clinical_asr.tally import Score, Signature

    signature = read_json(signature_of(path), Signature)
    if normaliser not in ("", signature.normaliser):
        mend = "score the hypotheses again with the other one"
        raise ConfigError(f"was scored with {signature.normaliser}, not {normaliser}", str(path), mend)
    return read_rows(path, Score), signature


def read_decision(path: Path) -> Decision:
    """A decision of an earlier cycle. Raises ManifestError."""
    from clinical_asr.jsonl import read_json
    from clinical_asr.records import Decision

    decision: Decision = read_json(path, Decision)
    return decision


def read_strata(train: Path, validation: Path) -> dict[str, Stratum]:
    """Row id -> what training has seen of it. Raises ManifestError for a held-out row without its label."""
    from clinical_asr.errors import ManifestError
    from clinical_asr.jsonl import read_rows
    from clinical_asr.records import Stratum, Utterance

    strata = {row.id: Stratum.TRAINED for row in read_rows(train, Utterance)}
    known = {stratum.value for stratum in Stratum}
    for number, row in enumerate(read_rows(validation, Utterance), 1):
        label = row.extra.get("stratum")
        if label not in known:
            why = f"is {label!r}" if label else "is missing"
            raise ManifestError(validation, number, "stratum", why, "split the manifest: clinical-asr split")
        strata[row.id] = Stratum(label)
    return strata


def with_strata(rows: list[Score], folder: Path) -> list[Score]:
    """Rows labelled by the split that lies in a folder; those of neither side stay without a label.

    Raises ScoringError if the split knows none of the rows: it is another manifest's.
    """
    import msgspec

    from clinical_asr.errors import ScoringError

    strata = read_strata(folder / "train.jsonl", folder / "validation.jsonl")
    if not any(row.id in strata for row in rows):
        raise ScoringError("knows none of the scored rows", str(folder), "give the folder of this manifest's split")
    return [msgspec.structs.replace(row, stratum=strata.get(row.id)) for row in rows]
