"""The page's server: this machine only, one random token, nothing from elsewhere.

A web page in the same browser, or another user of this machine, must not reach it. So it listens on 127.0.0.1, asks for
a token in the path that only the printed address holds, and refuses a request that names another host (DNS rebinding)
or comes from another page (``Origin``). What is sent to it is small and typed; what it sends out are the page's own
files and the clips on the list, by name, never by path.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import msgspec

from clinical_asr.audition import Verdict
from clinical_asr.audition_desk import ConflictError, Desk, Judgement
from clinical_asr.audition_hearing import Hearing
from clinical_asr.audition_page import ASSETS, asset, page
from clinical_asr.errors import ConfigError, FlywheelError

BODY_LIMIT = 16 * 1024  # bytes of a request
SLOWEST: float = 15.0  # seconds a client may let the server wait for its next bytes
TAB_HEADER = "X-Audition-Tab"  # a header of our own: a foreign page cannot send it without asking first
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src blob:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Short = Annotated[str, msgspec.Meta(max_length=200)]
Long = Annotated[str, msgspec.Meta(max_length=2000)]


class _Ended(msgspec.Struct, forbid_unknown_fields=True):
    clip: Short


class _Say(msgspec.Struct, forbid_unknown_fields=True):
    term: Short
    ipa: Short = ""
    sentence: bool = False


class _Judge(msgspec.Struct, forbid_unknown_fields=True):
    term: Short
    clip: Short
    verdict: Verdict
    by: Short
    ipa: Short = ""
    notes: Long = ""


class _Suggest(msgspec.Struct, forbid_unknown_fields=True):
    term: Short


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class AuditionServer(ThreadingHTTPServer):
    """Serves one desk until somebody finishes or interrupts it. ``port`` 0 takes a free one.

    Raises ConfigError if the port is taken.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False  # else a second server on the port would take every other request
    request_queue_size = 64

    def __init__(
        self, desk: Desk, *, port: int = 0, by: str = "", then: Callable[[], str] = str, hearing: Hearing | None = None
    ) -> None:
        self.desk, self.by, self.then, self.hearing = desk, by, then, hearing or Hearing()
        self.token, self._ticket = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._ticket_lock = threading.Lock()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            why = error.strerror or str(error)
            raise ConfigError(f"{port}: {why.lower()}", "--port", "choose another, or 0 for a free one") from None

    @property
    def host(self) -> str:
        """What the Host header of every request must be."""
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        """The page's address, its token in it."""
        return f"http://{self.host}/{self.token}/"

    @property
    def ticket_url(self) -> str:
        """Leads to the page once: what a browser is started with stands in the list of processes for all to read."""
        return f"http://{self.host}/open/{self._ticket}"

    def spend(self, ticket: str) -> bool:
        """Whether this is the ticket and nobody has used it yet."""
        with self._ticket_lock:
            right = bool(self._ticket) and hmac.compare_digest(ticket.encode(), self._ticket.encode())
            self._ticket = "" if right else self._ticket
        return right

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; a fault of the program was answered with 500 already."""


class _Refusal(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class _Handler(BaseHTTPRequestHandler):
    server: AuditionServer
    protocol_version = "HTTP/1.0"  # a connection a request: none outlives the server and answers for it
    server_version, sys_version = "clinical-asr", ""
    timeout = SLOWEST

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, reply: Callable[[], None]) -> None:
        try:
            reply()
        except _Refusal as refusal:
            self._refuse(refusal.status, refusal.why)
        except ConflictError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        except FlywheelError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (TimeoutError, ConnectionError):
            self.close_connection = True
        except Exception as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")

    # --- who may ask --------------------------------------------------------------------------------------------------

    def _parts(self) -> list[str]:
        """The path behind the token. Raises _Refusal for whoever must not ask, before anything is read or looked up."""
        if self.headers.get_all("Host") != [self.server.host]:
            raise _Refusal(HTTPStatus.FORBIDDEN, "another host is named")
        origin = self.headers.get("Origin")
        if origin != f"http://{self.server.host}" and (origin is not None or self.command == "POST"):
            raise _Refusal(HTTPStatus.FORBIDDEN, "the request comes from another page")
        first, *parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
        if first == "open" and self.command == "GET" and len(parts) == 1:
            return ["open", parts[0]]
        if not hmac.compare_digest(first.encode("utf-8", "replace"), self.server.token.encode()):
            raise _Refusal(HTTPStatus.FORBIDDEN, "open the address that stands in the terminal")
        return parts

    def _tab(self) -> str:
        tab = self.headers.get(TAB_HEADER, "")
        if not self.server.hearing.known(tab):
            raise _Refusal(HTTPStatus.FORBIDDEN, "this page is too old: load it again")
        return tab

    # --- what there is to ask -----------------------------------------------------------------------------------------

    def _get(self) -> None:
        match self._parts():
            case ["open", ticket]:
                if not self.server.spend(ticket):
                    raise _Refusal(HTTPStatus.FORBIDDEN, "was used already: open the address in the terminal")
                self._send(b"", "text/plain", HTTPStatus.SEE_OTHER, {"Location": self.server.url})
            case [""]:
                by = self.server.by or self.server.desk.last_listener()
                made = page(self.server.hearing.new_tab(), by, ask=not self.server.by, folder=self.server.desk.folder)
                self._send(made.encode(), "text/html; charset=utf-8")
            case [name] if name in ASSETS:
                self._send(asset(name), ASSETS[name])
            case ["state"]:
                self._state()
            case ["clip", name]:
                self._clip(name)
            case _:
                raise _Refusal(HTTPStatus.NOT_FOUND, "there is no such thing here")

    def _clip(self, name: str) -> None:
        tab, content = self._tab(), self.server.desk.clip(name)
        if content is None:
            raise _Refusal(HTTPStatus.NOT_FOUND, "there is no such clip")
        self._send(content, "audio/wav")
        self.server.hearing.fetched(tab, name)

    def _state(self) -> None:
        self._tab()
        self._json({"cards": self.server.desk.cards(), "left": self.server.desk.left(), "then": self.server.then()})

    def _post(self) -> None:
        parts, desk = self._parts(), self.server.desk
        match parts:
            case ["heard"]:
                ended = self._body(_Ended)
                if desk.clip(ended.clip) is None:
                    raise ConflictError("is pronounced otherwise by now", "clip", "listen to the new clip")
                self.server.hearing.ended(self._tab(), ended.clip, desk.seconds(ended.clip))
                self._json({"heard": True})
            case ["suggestions"]:
                term = self._body(_Suggest).term
                self._json([{"ipa": ipa, "why": why} for ipa, why in desk.suggestions(term)])
            case ["say"]:
                wish = self._body(_Say)
                self._send(desk.say(wish.term, wish.ipa, sentence=wish.sentence), "audio/wav")
            case ["verdict"]:
                self._judge(self._body(_Judge))
            case ["finish"]:
                self._body(_Nothing)
                self._json({"left": desk.left()})
                threading.Thread(target=self.server.shutdown, daemon=True).start()
            case _:
                raise _Refusal(HTTPStatus.NOT_FOUND, "there is no such thing here")

    def _judge(self, given: _Judge) -> None:
        played = "browser" if self.server.hearing.heard(self._tab(), given.clip) else ""
        judged = Judgement(**msgspec.structs.asdict(given), played=played)
        self._json(self.server.desk.judge(judged))

    # --- the wire -----------------------------------------------------------------------------------------------------

    def _body(self, kind: type[Any]) -> Any:
        """The request's body, typed. Raises _Refusal for one that is too long, of no stated length, or no such JSON."""
        self._tab()
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or "Transfer-Encoding" in self.headers:
            raise _Refusal(HTTPStatus.LENGTH_REQUIRED, "the length is missing")
        if int(length[:20]) > BODY_LIMIT:
            raise _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {BODY_LIMIT} bytes")
        try:
            return msgspec.json.decode(self.rfile.read(int(length)), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refusal(HTTPStatus.BAD_REQUEST, f"cannot be read: {error}") from None

    def _json(self, value: Any) -> None:
        self._send(msgspec.json.encode(value), "application/json")

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Say no and hang up: the rest of the request, if there is one, was not read."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self._send(msgspec.json.encode({"error": why}), "application/json", status)
            self._drain()

    def _drain(self) -> None:
        """Take in some of what is still coming: to close on it would destroy the answer on its way."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(1.0)
        for _ in range(64):
            if not self.connection.recv(64 * 1024):
                break

    def _send(
        self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request line holds the token."""
