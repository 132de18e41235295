"""msgspec against pydantic on typed JSONL rows: why the row library is msgspec.

Run: ``python benchmarks/rows.py --rows 1000000`` (needs pydantic beside the dev extra).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pydantic

from clinical_asr.jsonl import from_dict, to_dict
from clinical_asr.records import ClinicalUtterance, EntityCategory, IpaSource

LINE = json.dumps(
    {
        "audio_filepath": "audio/0001.wav", "text": "please give cefazolin two grams before the incision",
        "duration": 4.25, "term": "cefazolin", "entity_category": "drug", "ipa_source": "g2p", "voice_id": "en-us+f3",
        "noise_level": "snr_15db", "context_type": "dictation", "id": "0123456789abcdef", "ward": "4B",
    }
)  # fmt: skip


class PydanticUtterance(pydantic.BaseModel):
    """The same row; pydantic keeps unknown fields by itself."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    audio_filepath: str
    text: str
    duration: float
    id: str = ""
    voice_id: str
    noise_level: str
    term: str
    entity_category: EntityCategory
    ipa_source: IpaSource
    context_type: str


def seconds(work: Callable[[], Any], rows: int) -> float:
    """Wall time of ``rows`` calls."""
    start = time.perf_counter()
    for _ in range(rows):
        work()
    return time.perf_counter() - start


def main() -> None:
    """Print one row per library: seconds to read and to write ``--rows`` rows, unknown fields kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    encode = msgspec.json.Encoder().encode
    ours = from_dict(ClinicalUtterance, json.loads(LINE))
    theirs = PydanticUtterance.model_validate_json(LINE)
    assert to_dict(ours)["ward"] == theirs.model_dump()["ward"] == "4B"
    read_ours = seconds(lambda: from_dict(ClinicalUtterance, msgspec.json.decode(LINE)), rows)
    write_ours = seconds(lambda: encode(to_dict(ours)), rows)
    read_theirs = seconds(lambda: PydanticUtterance.model_validate_json(LINE), rows)
    write_theirs = seconds(lambda: theirs.model_dump_json(), rows)
    print(f"{rows} rows      read s   write s")
    print(f"msgspec        {read_ours:7.2f}   {write_ours:7.2f}")
    print(f"pydantic {pydantic.VERSION} {read_theirs:7.2f}   {write_theirs:7.2f}")


if __name__ == "__main__":
    main()
