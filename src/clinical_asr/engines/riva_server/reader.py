"""Messages of a stream, read beside the work on them: a client that falls silent or vanishes blocks nobody.

Riva's clients send their config, then audio and nothing else; what keeps a connection alive are pings of HTTP/2, which
are no messages. So a message without audio is silence, and no way to keep a place that others wait for.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from clinical_asr.engines.riva_server.asked import WENT_AWAY, Refused
from clinical_asr.records import Seconds

AHEAD = 4  # messages that may wait here; more are held back by gRPC's own flow control
HANG_UP: Seconds = 0.05  # gRPC ends the messages of a client that went a moment before it tells that it went
_END, _GONE = object(), object()


class Reader:
    """``first()`` gives the first message, ``next()`` those that follow it until the client has sent its last.

    A client is waited for ``idle`` at a time, and all in all no longer than a stream of ``longest`` takes as it is
    spoken, which a byte now and then would outlast by months. The work between messages does not count.
    """

    def __init__(self, requests: Iterator[Any], context: Any, idle: Seconds, longest: Seconds) -> None:
        self._messages: queue.Queue[Any] = queue.Queue()
        self._room = threading.Semaphore(AHEAD)
        self._over = threading.Event()
        self.idle, self.longest = idle, longest
        self._left = longest + idle  # of the time that this client may be waited for
        if not context.add_callback(self._gone):
            self._gone()
        threading.Thread(target=self._read, args=(requests,), name="stream", daemon=True).start()

    @property
    def behind(self) -> bool:
        """True while messages wait to be worked on."""
        return not self._messages.empty()

    def first(self) -> Any | None:
        """The first message, whatever it holds. Raises as :meth:`next` does."""
        return self._within(time.monotonic() + self.idle)

    def next(self) -> Any | None:
        """The next message that says something; None after the last. Raises Refused (DEADLINE_EXCEEDED) when the
        client is silent too long, Refused (CANCELLED) when it is gone.
        """
        began = time.monotonic()
        deadline = began + min(self.idle, self._left)
        while (message := self._within(deadline)) is not None and _is_empty(message):
            if time.monotonic() > deadline:
                raise self._too_slow()
        self._left -= time.monotonic() - began
        return message

    def _within(self, deadline: float) -> Any | None:
        """A message that is there or comes before ``deadline``; None after the last."""
        try:
            message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise self._too_slow() from None
        self._room.release()
        if message is _GONE:
            raise Refused(*WENT_AWAY)
        return None if message is _END else message

    def _too_slow(self) -> Refused:
        why = f"the client sent no audio for {self.idle:g} s (the server's --idle); send silence too, or end the stream"
        if self._left < self.idle:
            why = f"the stream took longer than {self.longest:g} s (the server's --max-stream); split it"
        return Refused("DEADLINE_EXCEEDED", why)

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


def _is_empty(message: Any) -> bool:
    """True for a message that neither brings audio nor asks for anything."""
    return not (message.audio_content or message.runtime_config or message.HasField("streaming_config"))
