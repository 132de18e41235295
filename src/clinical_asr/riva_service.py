"""What every service that speaks Riva's protocol has in common: its address, its rules, its connection."""

from __future__ import annotations

from typing import Any

from clinical_asr.egress import Service, is_local
from clinical_asr.errors import ConfigError

HOSTED = "grpc.nvcf.nvidia.com:443"
LARGEST_MESSAGE = 64 * 2**20


class RivaService:
    """To be inherited by the settings of one kind of service, which bring the fields."""

    address: str
    """``host:port``."""
    function_id: str
    """Of a hosted function; empty elsewhere."""
    key: str

    @property
    def hosted(self) -> bool:
        """True for NVIDIA's hosted functions."""
        return self.address.rpartition(":")[0].endswith("nvcf.nvidia.com")

    @property
    def service(self) -> Service:
        """Under which name a run must allow it."""
        return Service.NVCF if self.hosted else Service.ENDPOINT

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What goes with every request: the hosted function and the key, where there are any."""
        pairs = [("function-id", self.function_id), ("authorization", self.key and f"Bearer {self.key}")]
        return [(name, value) for name, value in pairs if value]

    def require_address(self, mend: str) -> None:
        """Raises ConfigError for what is no address."""
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"{self.address!r} is no address", "--endpoint", mend)

    def require_secrecy(self, encrypted: bool, sent: str, function: str) -> None:
        """Raises ConfigError if ``sent`` would leave this machine in the clear, or a hosted function has no key.

        ``function`` is the environment variable that names the hosted function.
        """
        if not is_local(self.address) and not encrypted:
            raise ConfigError(f"{self.address} is another machine: {sent} there only over TLS", "--endpoint")
        if self.hosted and not (self.key and self.function_id):
            missing = "NVIDIA_API_KEY" if not self.key else function
            raise ConfigError("needs a key and a function", self.address, f"export {missing}")


def open_channel(address: str, encrypted: bool, ca: bytes | None) -> Any:
    """A gRPC channel; ``ca`` is what to trust, None is what is usual. Raises ImportError without gRPC."""
    import grpc

    sizes = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
    options = [(size, LARGEST_MESSAGE) for size in sizes]
    if encrypted:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca), options)
    return grpc.insecure_channel(address, options)
