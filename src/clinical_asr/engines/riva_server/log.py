"""A line of JSON for every request: what, how long, how it ended. Never what was said, unless it is asked for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from clinical_asr.records import Seconds


@dataclass
class Call:
    """One request while it is served."""

    rpc: str
    number: int
    began: float = field(default_factory=time.monotonic)
    code: str = "OK"
    why: str = ""
    audio: Seconds = 0.0
    waited: Seconds = 0.0
    """In the queue, summed over the parts of a stream."""
    batch: int = 0
    """Largest batch it was part of."""
    transcript: str = ""


class Log:
    """Counts of how requests ended, and a line for each; ``write`` takes the line as a dict."""

    def __init__(self, write: Callable[[dict[str, Any]], None] | None = None, transcripts: bool = False) -> None:
        self.write, self.transcripts = write, transcripts
        self.codes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._number = 0

    def begin(self, rpc: str) -> Call:
        """A new request; its number is ours, not the client's, whose ids may name a patient."""
        with self._lock:
            self._number += 1
            return Call(rpc, self._number)

    def end(self, call: Call) -> None:
        """Write the line of a request that ended."""
        line: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"), "request": call.number, "rpc": call.rpc,
            "code": call.code, "seconds": round(call.audio, 3), "ms": round(1000 * (time.monotonic() - call.began), 1),
            "queued_ms": round(1000 * call.waited, 1), "batch": call.batch,
        }  # fmt: skip
        if call.why:
            line["why"] = call.why
        if self.transcripts:
            line["transcript"] = call.transcript
        with self._lock:
            self.codes[call.code] += 1
            if self.write is not None:
                self.write(line)
