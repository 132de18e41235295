"""A model served over Riva's speech recognition protocol (gRPC), from the protos that nvidia-riva-client carries.

Any Riva client works against it unchanged. The recogniser is handed in; one thread owns it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from clinical_asr.engines.riva_server.batcher import Batcher
from clinical_asr.engines.riva_server.health import MOST_WATCHERS, Health
from clinical_asr.engines.riva_server.log import Log
from clinical_asr.engines.riva_server.servicer import Recogniser
from clinical_asr.engines.riva_server.settings import Identity, ServedModel, ServingConfig
from clinical_asr.errors import ConfigError, MissingDependency
from clinical_asr.recognition import Recognise

__all__ = ["Identity", "Log", "ServedModel", "Server", "ServingConfig"]


class Server:
    """Listens as soon as it is made; ``with Server(...) as server`` stops it gracefully at the end of the block."""

    def __init__(
        self, recognise: Recognise, model: ServedModel, config: ServingConfig | None = None, log: Log | None = None
    ) -> None:
        """Raises ConfigError if the address cannot be listened on, MissingDependency without the Riva client."""
        self.config, self.log, self.health = config or ServingConfig(), log or Log(), Health()
        self.batcher = Batcher(recognise, self.config.max_batch, self.config.max_wait, self.config.max_requests)
        try:
            self._grpc = _server(self.config)
            self._register(Recogniser(model, self.config, self.batcher, self.log))
            self.port = _listen(self._grpc, self.config)
        except BaseException:
            self.batcher.close()
            raise
        self._grpc.start()

    def _register(self, recogniser: Recogniser) -> None:
        from riva.client.proto import health_pb2_grpc, riva_asr_pb2_grpc

        riva_asr_pb2_grpc.add_RivaSpeechRecognitionServicer_to_server(recogniser, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._grpc)

    def stop(self) -> None:
        """Take no more requests, finish those in flight (for at most ``grace`` seconds), then end."""
        self.health.stop()
        self._grpc.stop(self.config.grace).wait()
        self.batcher.close(self.config.grace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def _server(config: ServingConfig) -> Any:
    try:
        import grpc
        import riva.client.proto.riva_asr_pb2_grpc  # noqa: F401 - found missing here, not in the first request
    except ImportError:
        raise MissingDependency("nvidia-riva-client", "riva") from None
    largest = config.max_message_mib * 2**20
    threads = config.max_requests + MOST_WATCHERS + 4  # those over the limit need a thread to be told so
    options = [
        ("grpc.so_reuseport", 0),  # else two servers share a port without a word
        ("grpc.max_receive_message_length", largest),
        ("grpc.max_send_message_length", largest),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_time_ms", 20_000),  # a client whose machine died is noticed
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    return grpc.server(ThreadPoolExecutor(threads, "rpc"), options=options, maximum_concurrent_rpcs=4 * threads)


def _listen(server: Any, config: ServingConfig) -> int:
    """The port that is listened on. Raises ConfigError."""
    import grpc

    mend = "choose another --port, or stop what listens there"
    try:
        if config.tls is None:
            port = server.add_insecure_port(config.address)
        else:
            pair = (config.tls.key, config.tls.certificate)
            port = server.add_secure_port(config.address, grpc.ssl_server_credentials([pair]))
    except RuntimeError:
        port = 0
    if not port:
        what = "cannot be listened on" + (", or certificate and key do not belong together" if config.tls else "")
        raise ConfigError(what, config.address, mend)
    return int(port)
