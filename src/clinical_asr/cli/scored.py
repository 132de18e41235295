"""Reading what evaluation commands are given: hypotheses, other tools' transcripts, or scores written before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clinical_asr.records import Decision
    from clinical_asr.tally import Score, Signature


def read_scored(path: Path, normaliser: str = "") -> tuple[list[Score], Signature]:
    """Scores and what they rest on, from hypotheses (scored here) or from a file that ``scores --output`` wrote.

    Raises ManifestError or ScoringError naming the row; ConfigError if a score file used another normaliser.
    """
    from clinical_asr.scores import score, signature
    from clinical_asr.text import DEFAULT_NORMALISER
    from clinical_asr.transcripts import read_transcripts

    if signature_of(path).is_file():
        return _read_scores(path, normaliser)
    hypotheses = read_transcripts(path)
    chosen = normaliser or DEFAULT_NORMALISER
    return score(hypotheses, chosen), signature(hypotheses, chosen)


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
