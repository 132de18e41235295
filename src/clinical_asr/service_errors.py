"""What a speech service's refusal means and what mends it: gRPC status codes in, one line for a person out.

The codes are gRPC's (https://grpc.io/docs/guides/status-codes/); the causes are those that NVIDIA's hosted functions
and self-hosted Riva servers are known for. Pure: no gRPC is imported here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from clinical_asr.errors import FlywheelError

PARAKEET_FUNCTION = "d3fe9151-442b-4204-a70d-5fcc597fd610"
"""Parakeet TDT 0.6B v2 on NVIDIA's hosted functions."""
WHISPER_FUNCTION = "b702f636-f60c-4a3d-a6f4-f3568c13bd7d"
"""Whisper large v3 there; its language is ``en``, not ``en-US``."""

BUSY = frozenset({"RESOURCE_EXHAUSTED", "UNAVAILABLE"})
"""Asked again later, the same request may succeed."""
FATAL = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "UNIMPLEMENTED"})
"""No other row will fare better: the run stops."""


class ServiceError(FlywheelError):
    """A service refused or failed. ``code`` is the name of the gRPC status; ``fatal`` if no row will fare better."""

    def __init__(self, code: str, what: str, where: str, mend: str, fatal: bool = False) -> None:
        super().__init__(what, where, mend)
        self.code, self.fatal = code, fatal

    @property
    def busy(self) -> bool:
        """True if waiting may help."""
        return self.code in BUSY and not self.fatal


@dataclass(frozen=True)
class _Cause:
    """A row of the table: the status code, a pattern its details must match, what it means, what mends it."""

    codes: frozenset[str]
    details: str
    what: str
    mend: str
    fatal: bool = False


def _codes(*names: str) -> frozenset[str]:
    return frozenset(names)


_SPOKE_NO_TLS = r"wrong.version.number|failed parsing http/2|trying to connect an http1|peer may not speak|goaway"
_CAUSES = (
    _Cause(
        _codes("UNAVAILABLE", "INTERNAL", "UNKNOWN"), r"certificate.verify.failed|self.signed|local issuer|peer name",
        "its TLS certificate is not trusted", "give --tls-ca its authority's certificate, and the name in it", True,
    ),
    _Cause(
        _codes("UNAVAILABLE", "INTERNAL", "UNKNOWN"), rf"ssl|tls|handshake|{_SPOKE_NO_TLS}|socket closed",
        "the TLS handshake failed", "one side speaks TLS, the other does not: check the port, --tls and --tls-ca", True,
    ),
    _Cause(
        _codes("UNAUTHENTICATED"), r"", "the key was not accepted (401)",
        "export a valid NVIDIA_API_KEY (hosted) or CLINICAL_ASR_TOKEN (self-hosted)", True,
    ),
    _Cause(
        _codes("PERMISSION_DENIED"), r"", "the key may not use this function (403)",
        "use a key of an account that has the function", True,
    ),
    _Cause(
        _codes("INTERNAL", "UNKNOWN", "UNAVAILABLE", "INVALID_ARGUMENT"),
        r"cuda|cublas|cudnn|illegal memory access|device-side assert|triton.*(fail|error)",
        "the service's GPU backend failed",
        f"try again later, or use Whisper large v3: export ASR_NVCF_FUNCTION_ID={WHISPER_FUNCTION} and --language en",
    ),
    _Cause(
        _codes("NOT_FOUND"), r"", "there is no such function",
        f"unset ASR_NVCF_FUNCTION_ID, or export one that exists, such as {PARAKEET_FUNCTION}", True,
    ),
    _Cause(
        _codes("RESOURCE_EXHAUSTED"), r"larger than max", "the recording is larger than the service takes",
        "split the recording, or raise --max-message-mib of your own server",
    ),
    _Cause(
        _codes("RESOURCE_EXHAUSTED"), r"", "the service's limit of requests or credits is reached",
        "wait, lower --concurrency, then run the same command again: what was answered is kept",
    ),
    _Cause(
        _codes("INVALID_ARGUMENT"), r"language", "the service does not know the language",
        "Parakeet takes --language en-US, Whisper --language en",
    ),
    _Cause(
        _codes("UNAVAILABLE"), r"refused|no route|failed to connect|dns|name resolution", "nobody answers there",
        "is the server started, and are host and port right?",
    ),
    _Cause(
        _codes("UNAVAILABLE"), r"errors resolving|domain name not found|address lookup failed",
        "its name is not known to this machine", "is the host spelled right, and is there a network?",
    ),
    _Cause(_codes("UNAVAILABLE"), r"", "the service does not answer now", "wait, then run the same command again"),
    _Cause(_codes("UNIMPLEMENTED"), r"", "it is no Riva speech recognition service", "check host and port", True),
    _Cause(_codes("DEADLINE_EXCEEDED"), r"", "the answer took too long", "raise --timeout, or lower --concurrency"),
    _Cause(_codes("INVALID_ARGUMENT"), r"", "the service refuses the request", "read its reason"),
)  # fmt: skip


def explain(code: str, details: str, where: str) -> ServiceError:
    """The error a person sees for a gRPC status. ``details`` are the service's own words, shortened.

    >>> error = explain("UNAUTHENTICATED", "invalid token", "grpc.nvcf.nvidia.com:443")
    >>> print(error)
    grpc.nvcf.nvidia.com:443: the key was not accepted (401), invalid token; export a valid NVIDIA_API_KEY ...
    >>> explain("INTERNAL", "CUDA error: illegal memory access", "h").mend.endswith("and --language en")
    True
    """
    told = " ".join(details.split())[:160]
    for cause in _CAUSES:
        if code in cause.codes and re.search(cause.details, details, re.IGNORECASE):
            return ServiceError(code, f"{cause.what}{f', {told}' if told else ''}", where, cause.mend, cause.fatal)
    what = f"the service failed with {code}{f', {told}' if told else ''}"
    return ServiceError(code, what, where, "run the same command again", code in FATAL)
