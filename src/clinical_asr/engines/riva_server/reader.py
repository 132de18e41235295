"""Messages of a stream, read beside the work on them: a client that falls silent or vanishes blocks nobody."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from clinical_asr.engines.riva_server.asked import WENT_AWAY, Refused
from clinical_asr.records import Seconds

AHEAD = 4  # messages that may wait here; more are held back by gRPC's own flow control
HANG_UP: Seconds = 0.05  # gRPC ends the messages of a client that went a moment before it tells that it went
_END, _GONE = object(), object()


class Reader:
    """``next()`` gives messages until the client has sent its last."""

    def __init__(self, requests: Iterator[Any], context: Any, idle: Seconds) -> None:
        self._messages: queue.Queue[Any] = queue.Queue()
        self._room = threading.Semaphore(AHEAD)
        self._over = threading.Event()
        self.idle = idle
        if not context.add_callback(self._gone):
            self._gone()
        threading.Thread(target=self._read, args=(requests,), name="stream", daemon=True).start()

    @property
    def behind(self) -> bool:
        """True while messages wait to be worked on."""
        return not self._messages.empty()

    def next(self) -> Any | None:
        """The next message; None after the last. Raises Refused when the client is silent too long, or gone."""
        try:
            message = self._messages.get(timeout=self.idle)
        except queue.Empty:
            raise Refused("DEADLINE_EXCEEDED", f"the client sent nothing for {self.idle:.0f} s") from None
        self._room.release()
        if message is _GONE:
            raise Refused(*WENT_AWAY)
        return None if message is _END else message

    def gone(self) -> bool:
        """True if the client hung up; asked after its last message, since that may be how its going looks at first."""
        return self._over.wait(HANG_UP)

    def _read(self, requests: Iterator[Any]) -> None:
        try:
            for message in requests:
                self._room.acquire()
                if self._over.is_set():
                    return
                self._messages.put(message)
            self._messages.put(_END)
        except Exception:  # gRPC raises a bare Exception when a call ends from the other side
            self._messages.put(_GONE)

    def _gone(self) -> None:
        self._over.set()
        self._room.release()
        self._messages.put(_GONE)
