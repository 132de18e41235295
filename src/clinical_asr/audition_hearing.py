"""Who has heard which clip to its end: what stands between a listener and the verdict ``good``.

A browser tab is given a name when it loads the page. It has heard a clip when it fetched the clip, said that playing
ended, and as much time passed between the two as the clip lasts. So a slip of the finger vouches for nothing.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from clinical_asr.audition_desk import ConflictError
from clinical_asr.records import Seconds

MOST_TABS = 200  # the oldest is forgotten: it is told to load the page again
TOLERANCE = 0.9  # of the clip's duration: a sound card's clock and this one differ


class Hearing:
    """What each tab has fetched and heard. Safe for several threads."""

    def __init__(self, clock: Callable[[], Seconds] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._fetched: dict[str, dict[str, Seconds]] = {}
        self._heard: dict[str, set[str]] = {}

    def new_tab(self) -> str:
        """A name for a page that is being loaded."""
        tab = secrets.token_urlsafe(12)
        with self._lock:
            self._fetched[tab], self._heard[tab] = {}, set()
            while len(self._fetched) > MOST_TABS:
                oldest = next(iter(self._fetched))
                del self._fetched[oldest], self._heard[oldest]
        return tab

    def known(self, tab: str) -> bool:
        """Whether this tab was given its name here and is not forgotten."""
        with self._lock:
            return tab in self._fetched

    def fetched(self, tab: str, clip: str) -> None:
        """The tab was sent all of the clip."""
        with self._lock:
            if tab in self._fetched:
                self._fetched[tab].setdefault(clip, self._clock())

    def ended(self, tab: str, clip: str, seconds: Seconds) -> None:
        """The tab says that it played the clip, which lasts ``seconds``, to its end.

        Raises ConflictError if it was not sent the clip, or not long enough ago.
        """
        with self._lock:
            since = self._fetched.get(tab, {}).get(clip)
            if since is None:
                raise ConflictError("was not sent to this page", "clip", "play it")
            if self._clock() - since < TOLERANCE * seconds:
                raise ConflictError(f"lasts {seconds:.1f} s and was sent less long ago", "clip", "play it to its end")
            self._heard[tab].add(clip)

    def heard(self, tab: str, clip: str) -> bool:
        """Whether this tab has played this clip to its end."""
        with self._lock:
            return clip in self._heard.get(tab, ())
