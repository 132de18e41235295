"""The standard health service (grpc.health.v1), from the protos that the Riva client carries.

It answers without a token, so that probes need no secret; it tells nothing but whether requests are taken.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

SERVICES = ("", "nvidia.riva.asr.RivaSpeechRecognition")
MOST_WATCHERS = 4  # each holds a thread


class Health:
    """``Check`` and ``Watch``; SERVING until :meth:`stop`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._serving = True
        self._watchers = threading.Semaphore(MOST_WATCHERS)

    def stop(self) -> None:
        """From now on NOT_SERVING; those who watch are told and let go."""
        with self._changed:
            self._serving = False
            self._changed.notify_all()

    def _answer(self, service: str) -> Any:
        from riva.client.proto import health_pb2

        known = "SERVING" if self._serving else "NOT_SERVING"
        name = known if service in SERVICES else "SERVICE_UNKNOWN"
        return health_pb2.HealthCheckResponse(status=getattr(health_pb2.HealthCheckResponse, name))

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """The status of a service; NOT_FOUND for one that is not here."""
        import grpc

        if request.service not in SERVICES:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return self._answer(request.service)

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - the protocol's name
        """The status now, and again when it changes."""
        import grpc

        if not self._watchers.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MOST_WATCHERS} clients watch already")
        try:
            yield self._answer(request.service)
            with self._changed:
                while self._serving and context.is_active():
                    self._changed.wait(1.0)
            yield self._answer(request.service)
        finally:
            self._watchers.release()
