"""The journal of a service's answers: on disk before the next question, so that nothing is paid for twice."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

from clinical_asr.jsonl import append_row, read_rows
from clinical_asr.records import Row


class Answer(Row, frozen=True, kw_only=True):
    """What a service heard in a recording, known by its bytes."""

    id: str
    audio_digest: str
    model_digest: str
    """Identity of the service's model and of how it was asked."""
    pred_text: str
    at: str
    """ISO 8601 time, UTC."""


class Answers:
    """Answers of one model, kept in ``path`` beside those of others. Threads may share it."""

    def __init__(self, path: Path, model_digest: str) -> None:
        self.path, self.model_digest = path, model_digest
        self._lock = threading.Lock()
        _cut_to_whole_lines(path)
        rows = read_rows(path, Answer) if path.is_file() else []
        self._texts = {row.audio_digest: row.pred_text for row in rows if row.model_digest == model_digest}

    def get(self, audio_digest: str) -> str | None:
        """The transcript of a recording that was answered before."""
        return self._texts.get(audio_digest)

    def add(self, row_id: str, audio_digest: str, text: str) -> None:
        """Keep an answer; on disk when this returns."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        answer = Answer(
            id=row_id, audio_digest=audio_digest, model_digest=self.model_digest, pred_text=text, at=at
        )  # fmt: skip
        with self._lock:
            append_row(self.path, answer)
            self._texts[audio_digest] = text


def _cut_to_whole_lines(path: Path) -> None:
    """Drop a last line that a crash cut off."""
    if path.is_file():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            path.write_bytes(whole)
