"""A model and a manifest through NeMo's public ``transcribe()``, as its documentation shows it; nothing of ours.

Usage: python benchmarks/gpu/nemo_transcribe.py MODEL.nemo MANIFEST.jsonl OUTPUT.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from nemo.collections.asr.models import ASRModel


def main(model: Path, manifest: Path, output: Path) -> None:
    """Write one ``{"audio_filepath", "text", "pred_text"}`` a line, in the order of the manifest."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    place = "cuda" if torch.cuda.is_available() else "cpu"
    recogniser = ASRModel.restore_from(str(model), map_location=place).eval()
    audio = [str(manifest.parent / row["audio_filepath"]) for row in rows]
    with torch.autocast(place, torch.bfloat16, enabled=place == "cuda"):
        heard = recogniser.transcribe(audio, batch_size=32)
    if len(heard) != len(rows):
        sys.exit(f"{len(heard)} transcripts for {len(rows)} recordings")
    lines = (
        {"audio_filepath": row["audio_filepath"], "text": row["text"], "pred_text": getattr(told, "text", told)}
        for row, told in zip(rows, heard, strict=True)
    )
    output.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
