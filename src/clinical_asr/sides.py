"""What the two files of a split say of each row: the draw itself is never made twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from clinical_asr.errors import ManifestError
from clinical_asr.jsonl import iter_rows
from clinical_asr.records import Stratum, Utterance
from clinical_asr.row_ids import IdCodes, chunks


def read_strata(train: Path, validation: Path) -> dict[str, Stratum]:
    """Row id -> what training has seen of it. Raises ManifestError as :func:`labels` does."""
    return dict(labels(train, validation))


def labels(train: Path, validation: Path) -> Iterator[tuple[str, Stratum]]:
    """The same, row after row.

    Raises ManifestError for a held-out row without its label, or one that stands among the training rows too.
    """
    trained, number = IdCodes(), 0
    for some in chunks(iter_rows(train, Utterance)):
        trained.add([row.id for row in some], 0)
        yield from ((row.id, Stratum.TRAINED) for row in some)
    for some in chunks(iter_rows(validation, Utterance)):
        for row, code in zip(some, trained.of([row.id for row in some]), strict=True):
            number += 1
            if code is not None:
                _refuse_trained(row.id, train, validation, number)
            yield row.id, _stratum(row, validation, number)


def _refuse_trained(row_id: str, train: Path, validation: Path, number: int) -> NoReturn:
    why = f"{row_id[:60]!r} stands in {train} too: what was trained on is not held out"
    raise ManifestError(validation, number, "id", why, "split the manifest again: clinical-asr split")


def _stratum(row: Utterance, validation: Path, number: int) -> Stratum:
    label = str(row.extra.get("stratum") or "")
    try:
        return Stratum(label)
    except ValueError:
        why = f"is {label!r}" if label else "is missing"
        raise ManifestError(validation, number, "stratum", why, "split the manifest: clinical-asr split") from None
