"""A language model behind an OpenAI-compatible ``/chat/completions`` endpoint, over the standard library's HTTP.

vLLM, llama.cpp, Ollama, NIM and the hosted services speak it. Nothing is sent to a host that the run may not send to;
redirects are not followed, since they would carry the key elsewhere; the key stands in no message.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from clinical_asr.egress import Egress, Service, is_local
from clinical_asr.errors import ConfigError, FlywheelError

LARGEST_REPLY = 2**20
LONGEST_PAUSE = 60.0  # seconds; a server that asks for more is asked again after this
TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Statuses after which the same request may succeed."""


class LlmError(FlywheelError):
    """The endpoint gave no reply that can be read."""


class _Again(Exception):
    """The same request may succeed after ``pause`` seconds, or after the usual back-off."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass
class Chat:
    """Callable: a conversation in, the model's reply out.

    Raises ConfigError for an address that cannot be used, FlywheelError for one that nothing may be sent to.
    """

    url: str
    """``https://host/v1``, or the whole address of ``/chat/completions``; plain ``http`` only to this machine."""
    model: str
    egress: Egress
    key: str = field(default="", repr=False)
    timeout: float = 60.0
    """Seconds without a byte after which a request is given up and asked again."""
    attempts: int = 6
    temperature: float = 0.8
    max_tokens: int = 1024
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self.url = endpoint(self.url)
        self.host = urlsplit(self.url).netloc
        self.egress.require(Service.LLM, self.host)
        # A proxy would see what is meant to stay on this machine.
        handlers = [_NoRedirect(), *([urllib.request.ProxyHandler({})] if is_local(self.host) else [])]
        self._opener = urllib.request.build_opener(*handlers)

    def __call__(self, conversation: Sequence[Mapping[str, str]], *, seed: int, subject: str) -> str:
        """The reply's text. Waits and asks again while the endpoint is busy. Raises LlmError if that does not help."""
        body = json.dumps({"model": self.model, "messages": list(conversation), "seed": seed, "stream": False,
                           "temperature": self.temperature, "max_tokens": self.max_tokens}).encode()  # fmt: skip
        why = ""
        for attempt in range(self.attempts):
            self.egress.record(Service.LLM, self.host, subject, len(body))
            try:
                return _content(self._keyless(self._post(body)))
            except _Again as signal:  # its words may be the server's own, which has seen the key
                why = self._without_key(str(signal))[:160]
                if attempt + 1 < self.attempts:
                    self.sleep(min(2.0**attempt if signal.pause is None else signal.pause, LONGEST_PAUSE))
        mend = "try again later: the same command asks only for what is missing"
        raise LlmError(f"gave no reply in {self.attempts} attempts ({why})", self.host, mend)

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                content: bytes = answer.read(LARGEST_REPLY)
                return content
        except urllib.error.HTTPError as error:
            raise self._status(error) from None
        except ConnectionRefusedError:
            raise self._nobody() from None
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            if isinstance(getattr(error, "reason", None), ConnectionRefusedError):
                raise self._nobody() from None
            raise _Again(_plain(getattr(error, "reason", error))) from None

    def _nobody(self) -> LlmError:
        return LlmError("nothing listens there", self.host, "start the server, or check --llm")

    def _status(self, error: urllib.error.HTTPError) -> Exception:
        """What a status other than 200 means."""
        with error:
            told = self._without_key(_plain(error.read(4096).decode("utf-8", "replace")))
        if error.code in TRANSIENT:
            return _Again(f"status {error.code}", _pause(error.headers.get("Retry-After")))
        if error.code in (401, 403):
            held = f"a key of {len(self.key)} characters" if self.key else "no key"
            return LlmError(f"refused access with {held} (status {error.code})", self.host, "set CLINICAL_ASR_LLM_KEY")
        if 300 <= error.code < 400:
            where = urlsplit(error.headers.get("Location") or "").netloc or "elsewhere"
            return LlmError(f"sends on to {where}, which is not followed", self.host, "give that address as --llm")
        return LlmError(f"answered status {error.code} ({told[:160]})", self.host, "check --llm and --llm-model")

    def _keyless(self, reply: bytes) -> bytes:
        return reply.replace(self.key.encode(), b"***") if self.key else reply

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


def endpoint(url: str) -> str:
    """The address to post to. Raises ConfigError for what is no address, holds a password, or is not encrypted.

    >>> endpoint("http://127.0.0.1:8000/v1/")
    'http://127.0.0.1:8000/v1/chat/completions'
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is no address", "--llm", "as http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError("holds more than a host and a path", "--llm", "give a key in CLINICAL_ASR_LLM_KEY")
    if parts.scheme == "http" and not is_local(parts.netloc):
        raise ConfigError(f"would send to {parts.netloc} unencrypted", "--llm", "use https://")
    path = parts.path.rstrip("/")
    whole = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
    return f"{parts.scheme}://{parts.netloc}{whole}"


def _content(document: bytes) -> str:
    """The text of a completion. Raises _Again for anything else: servers under load cut replies short."""
    try:
        content = json.loads(document)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _Again(f"no completion but {_plain(document[:80].decode('utf-8', 'replace'))!r}") from None
    if not isinstance(content, str):
        raise _Again("a completion without text")
    return content


def _pause(header: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header; a date in it counts as none."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def _plain(reason: object) -> str:
    return " ".join(str(reason).split()) or type(reason).__name__
