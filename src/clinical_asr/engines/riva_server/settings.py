"""How a server listens and what it takes at most; who may be let in from where."""

from __future__ import annotations

from dataclasses import dataclass

from clinical_asr.egress import is_local
from clinical_asr.errors import ConfigError
from clinical_asr.records import Seconds

SHORTEST_TOKEN = 16  # characters; less can be tried out


@dataclass(frozen=True)
class Identity:
    """The PEM texts of a server's certificate (with its chain) and private key."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """Checked on construction. Nothing but this machine is served without TLS and a token. Raises ConfigError."""

    host: str = "127.0.0.1"
    port: int = 50051
    """0 lets the system choose."""
    tls: Identity | None = None
    token: str = ""
    """Bearer token that every request but health checks must carry; empty asks for none."""
    max_batch: int = 8
    """Recordings that are recognised together."""
    max_wait: Seconds = 0.01
    """How long the first recording of a batch waits for company."""
    max_requests: int = 64
    """Requests and streams in flight; one more is refused with RESOURCE_EXHAUSTED."""
    max_audio: Seconds = 300.0
    """Longest recording of one request, and longest part of a stream that cannot be cut (FLAC, Opus)."""
    max_stream: Seconds = 3600.0
    """Longest stream, in audio; a client is waited for so long too, and ``idle`` more."""
    chunk: Seconds = 30.0
    """A stream is made final, at its quietest moment, in parts of at most this length."""
    max_message_mib: int = 64
    timeout: Seconds = 120.0
    """Longest time a request waits for its transcript; a client's own shorter deadline counts."""
    idle: Seconds = 30.0
    """Longest silence of a client that streams; messages without audio are silence."""
    grace: Seconds = 30.0
    """How long a stopping server finishes what is in flight."""

    def __post_init__(self) -> None:
        for flag in ("max_batch", "max_requests", "max_message_mib", "max_audio", "max_stream", "timeout", "idle"):
            _require(getattr(self, flag) > 0, flag, "must be more than 0")
        _require(0 <= self.port < 65536, "port", "is 0 to 65535")
        _require(self.max_wait >= 0 and self.grace >= 0, "max_wait", "and grace must not be negative")
        _require(self.chunk >= 2, "chunk", "must be 2 seconds or more")
        if 0 < len(self.token) < SHORTEST_TOKEN:
            mend = f"it needs {SHORTEST_TOKEN}: export CLINICAL_ASR_TOKEN=$(openssl rand -hex 16)"
            raise ConfigError(f"has {len(self.token)} characters", "CLINICAL_ASR_TOKEN", mend)
        if not is_local(self.host) and not (self.tls and self.token):
            missing = " and ".join(name for name, here in (("TLS", self.tls), ("a token", self.token)) if not here)
            mend = "give --tls-cert and --tls-key, and export CLINICAL_ASR_TOKEN; or listen on 127.0.0.1"
            raise ConfigError(f"{self.host} is open to other machines, and that needs {missing}", "--host", mend)

    @property
    def address(self) -> str:
        """``host:port`` as gRPC writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What is served, as ``GetRivaSpeechRecognitionConfig`` tells it."""

    name: str
    digest: str
    languages: tuple[str, ...] = ("en-US", "en")
    punctuates: bool = False
    """True if the model writes punctuation itself."""
    no_words: str = ""
    """Why word times cannot be given; empty if they can."""

    def speaks(self, language: str) -> bool:
        """True for a language of the model, or a region of one.

        >>> model = ServedModel(name="mini", digest="", languages=("en",))
        >>> [model.speaks(code) for code in ("en-US", "en", "", "de-DE")]
        [True, True, True, False]
        """
        mine = {code.lower().split("-")[0] for code in self.languages}
        return not language or language.lower().split("-")[0] in mine


def _require(condition: bool, field: str, why: str) -> None:
    if not condition:
        raise ConfigError(why, f"--{field.replace('_', '-')}")
