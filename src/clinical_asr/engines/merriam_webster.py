"""Merriam-Webster's Medical Dictionary over its JSON service: how a word is pronounced, in the dictionary's respelling.

Each word is asked once and kept, known or not, in a file of the project. A reply is a list of entries, or a list of
plain strings (suggestions: the word is not there), or, with a key that is not accepted, a sentence instead of JSON.
Free keys are good for 1,000 queries a day; every query is counted in a file, so the next run knows what is left.
"""

from __future__ import annotations

import hashlib
import http.client
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from clinical_asr.egress import Egress, Service, is_local
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.jsonl import append_row, complete_rows
from clinical_asr.records import Row, Seconds

MEDICAL = "https://www.dictionaryapi.com/api/v3/references/medical/json"
QUOTA = 1000  # queries a day
TIMEOUT: Seconds = 10.0
PAUSES: tuple[Seconds, ...] = (1.0, 4.0, 16.0)  # between attempts
LONGEST_PAUSE: Seconds = 60.0  # what the service may ask for
MOST_BYTES = 4_000_000  # of a reply


class Answer(Row, frozen=True, kw_only=True):
    """What the dictionary said of one word; no respellings means that it does not know how the word sounds."""

    word: str
    respellings: list[str]
    reply_digest: str
    """SHA-256 of the reply."""
    at: str


class Query(Row, frozen=True, kw_only=True):
    """One query that was sent, answered or not."""

    word: str
    at: str
    status: str


@dataclass(frozen=True)
class _Reply:
    status: int
    body: bytes
    retry_after: str = ""


class MerriamWebster:
    """The dictionary with its cache and its count of queries, both in ``folder``.

    ``key`` is a person's own and leaves this object only for the dictionary. ``address`` is another server for tests.

    Raises ConfigError for a key or an address that cannot be used.
    """

    def __init__(
        self,
        key: str,
        folder: Path,
        egress: Egress,
        *,
        address: str = MEDICAL,
        quota: int = QUOTA,
        timeout: Seconds = TIMEOUT,
        pauses: tuple[Seconds, ...] = PAUSES,
        sleep: Callable[[Seconds], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"a key of {len(key)} characters cannot be used", "MERRIAM_WEBSTER_API_KEY", "copy it again"
            )
        self._key, self._egress, self._quota, self._timeout = key, egress, quota, timeout
        self._pauses, self._sleep, self._now = pauses, sleep, now
        self._target = _target(address)
        self._answers, self._queries = folder / "merriam_webster.jsonl", folder / "merriam_webster_queries.jsonl"
        self._known = {answer.word: answer for answer in complete_rows(self._answers, Answer)}
        self._sent = Counter(query.at[:10] for query in complete_rows(self._queries, Query))

    def __call__(self, word: str) -> list[str]:
        """Respellings of ``word``, the first first; none if the dictionary does not know it. Asks once per project.

        Raises FlywheelError: not allowed, no key that works, today's queries used up, or no answer after several tries.
        """
        asked = " ".join(word.split()).casefold()
        known = self._known.get(asked)
        if known is None:
            known = self._known[asked] = self._ask(asked)
            append_row(self._answers, known)
        return list(known.respellings)

    @property
    def left_today(self) -> int:
        """Queries that may still be sent today (UTC)."""
        return self._quota - self._sent[self._now().date().isoformat()]

    def _ask(self, word: str) -> Answer:
        self._egress.require(Service.MERRIAM_WEBSTER, self._target.host)
        for pause in (*self._pauses, None):
            reply = self._send(word)
            if isinstance(reply, _Reply) and reply.status == 200:
                return self._answer(word, reply.body)
            why = reply if isinstance(reply, str) else f"status {reply.status}"
            if isinstance(reply, _Reply) and reply.status != 429 and reply.status < 500:
                raise _trouble(f"refused the query for {word!r} ({why})", "check the key and the word")
            if pause is not None:
                self._sleep(max(pause, _asked_pause(reply)))
        raise _trouble(f"did not answer for {word!r} ({why})", "run the same command later: what was answered is kept")

    def _send(self, word: str) -> _Reply | str:
        """One counted query: the reply, or why there is none."""
        if self.left_today < 1:
            raise _trouble(
                f"was asked {self._quota} times today, which is all a free key may",
                "run the same command tomorrow (UTC): what was answered is kept",
            )
        path = f"{self._target.path}/{quote(word, safe='')}"
        reply = self._get(path)
        at, status = self._now().isoformat(timespec="seconds"), reply if isinstance(reply, str) else str(reply.status)
        append_row(self._queries, Query(word=word, at=at, status=status))
        self._sent[at[:10]] += 1
        self._egress.record(Service.MERRIAM_WEBSTER, self._target.host, word, len(path))
        return reply

    def _get(self, path: str) -> _Reply | str:
        """A GET without redirects. The key is in the address alone, and no error carries the address on."""
        connection = self._target.connect(self._timeout)
        deadline = time.monotonic() + self._timeout
        try:
            connection.request("GET", f"{path}?key={quote(self._key, safe='')}", headers={"Accept": "application/json"})
            response = connection.getresponse()
            return _Reply(response.status, _read(response, deadline), response.getheader("Retry-After") or "")
        except TimeoutError:
            return f"silent for {self._timeout:g} s"
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()

    def _answer(self, word: str, body: bytes) -> Answer:
        digest = hashlib.sha256(body).hexdigest()
        at = self._now().isoformat(timespec="seconds")
        return Answer(word=word, respellings=respellings(word, body), reply_digest=digest, at=at)


@dataclass(frozen=True)
class _Target:
    """Where queries go."""

    secure: bool
    host: str
    path: str

    def connect(self, timeout: Seconds) -> http.client.HTTPConnection:
        """A connection that is not open yet; certificates are verified."""
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        return kind(self.host, timeout=timeout)


def _target(address: str) -> _Target:
    parts = urlsplit(address)
    secure = parts.scheme == "https"
    ours = secure and parts.netloc == urlsplit(MEDICAL).netloc
    if not (ours or (parts.netloc and parts.scheme in ("http", "https") and is_local(parts.netloc))):
        raise ConfigError(f"{address!r} is neither Merriam-Webster's nor on this machine", "the dictionary's address")
    return _Target(secure, parts.netloc, parts.path.rstrip("/"))


def _read(response: http.client.HTTPResponse, deadline: Seconds) -> bytes:
    """The body, however slowly it drips. Raises TimeoutError at the deadline, HTTPException if it does not end."""
    body = b""
    while chunk := response.read1(65536):
        body += chunk
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(body) > MOST_BYTES:
            raise http.client.HTTPException
    if response.length:  # the connection ended before the body did
        raise http.client.IncompleteRead(body, response.length)
    return body


def _asked_pause(reply: _Reply | str) -> Seconds:
    """Seconds the service asked to wait, within reason."""
    wanted = reply.retry_after if isinstance(reply, _Reply) else ""
    return min(float(wanted), LONGEST_PAUSE) if wanted.isdecimal() else 0.0


def _trouble(what: str, mend: str) -> FlywheelError:
    return FlywheelError(what, "Merriam-Webster", mend)


def respellings(word: str, reply: bytes) -> list[str]:
    """Every respelling a reply gives for exactly this word, in the order of its entries; none for suggestions.

    A run-on (``heparinization`` under ``heparinize``), an inflection or a variant counts if it is the word; the
    pronunciation of another headword never does.

    >>> respellings("heparin", b'[{"hwi": {"hw": "hep*a*rin", "prs": [{"mw": "\\u02c8hep-\\u0259-r\\u0259n"}]}}]')
    ['ˈhep-ə-rən']
    >>> respellings("hepparin", b'["heparin", "heparins"]')
    []

    Raises FlywheelError for a reply that is none, such as the sentence sent for a key that is not accepted.
    """
    try:
        entries = msgspec.json.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if b"key" in reply[:200].lower():
            raise _trouble(
                "does not accept the key", "check MERRIAM_WEBSTER_API_KEY: it must be one for Medical"
            ) from None
        raise _trouble("sent something that is not JSON", "run the same command later") from None
    if not isinstance(entries, list):
        raise _trouble("sent something that is no list of entries", "run the same command later")
    found = [said for entry in entries if isinstance(entry, dict) for said in _pronounced(word, entry)]
    return list(dict.fromkeys(found))


_SPELLINGS = ("hw", "ure", "va", "if")  # headword, run-on, variant, inflection


def _pronounced(word: str, part: Any) -> Iterator[str]:
    """Walk an entry: wherever something spelt as ``word`` has pronunciations, those."""
    if isinstance(part, list):
        for item in part:
            yield from _pronounced(word, item)
    if not isinstance(part, dict):
        return
    if any(_plain(part.get(name)) == _plain(word) for name in _SPELLINGS):
        yield from (said["mw"] for said in part.get("prs") or () if isinstance(said, dict) and _is_text(said.get("mw")))
    for name in ("hwi", "uros", "vrs", "ins", "dros"):
        yield from _pronounced(word, part.get(name))


def _plain(spelling: object) -> str:
    """A spelling without its syllable marks.

    >>> _plain("hep*a*rin")
    'heparin'
    """
    return " ".join(spelling.replace("*", "").split()).casefold() if isinstance(spelling, str) else ""


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
