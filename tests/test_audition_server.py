"""The page's server over real HTTP: who is let in, what is taken, and that a slow client holds nobody up."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from booth import booth
from clinical_asr.audition_desk import Desk
from clinical_asr.audition_record import read_auditions
from clinical_asr.audition_server import BODY_LIMIT, AuditionServer
from clinical_asr.errors import ConfigError


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One tab, loaded as a browser would."""

    def __init__(self, server: AuditionServer) -> None:
        self.server, self.tab = server, ""
        found = re.search(rb'data-tab="([^"]+)"', self.ask("GET", "").body)
        assert found
        self.tab = found[1].decode()

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str = "", raw: str = "", **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        given = {"Host": self.server.host, "X-Audition-Tab": self.tab}
        if method == "POST":
            given["Origin"] = f"http://{self.server.host}"
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, raw or f"/{token or self.server.token}/{path}", skip_host=True)
        for name, value in given.items():
            if value:
                connection.putheader(name, value)
        if content is not None and "Content-Length" not in given:
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content)
        answer = connection.getresponse()
        found = Answer(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        return found

    def card(self, term: str) -> dict[str, Any]:
        return next(card for card in self.ask("GET", "state").json["cards"] if card["term"] == term)

    def hear(self, term: str) -> Answer:
        clip = self.card(term)["clip"]
        assert self.ask("GET", f"clip/{clip}").body[:4] == b"RIFF"
        time.sleep(0.2)  # it lasts that long
        return self.ask("POST", "heard", {"clip": clip})

    def judge(self, term: str, verdict: str, **more: str) -> Answer:
        given = {"term": term, "clip": self.card(term)["clip"], "verdict": verdict, "by": "Dr Lin", **more}
        return self.ask("POST", "verdict", given)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AuditionServer]:
    with AuditionServer(Desk(tmp_path, booth(tmp_path)), then=lambda: "type this") as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def client(server: AuditionServer) -> Client:
    return Client(server)


def test_it_listens_on_this_machine_alone(server: AuditionServer) -> None:
    assert server.server_address[0] == "127.0.0.1" and len(server.token) >= 32
    with pytest.raises(ConfigError, match="choose another"):
        AuditionServer(server.desk, port=server.server_port)


FOREIGN = [
    ("GET", "state", {"raw": "/"}), ("GET", "state", {"raw": "/state"}), ("GET", "state", {"token": "x" * 32}),
    ("GET", "", {"token": "wröng"}), ("GET", "state", {"Host": "evil.example"}), ("GET", "", {"Host": ""}),
    ("GET", "", {"Host": "localhost"}), ("GET", "", {"Origin": "http://evil.example"}), ("GET", "", {"Origin": "null"}),
    ("POST", "finish", {"Origin": "http://evil.example"}), ("POST", "finish", {"Origin": ""}),
    ("POST", "finish", {"Origin": "https://127.0.0.1"}), ("GET", "state", {"X_Audition_Tab": "guessed"}),
    ("POST", "finish", {"X_Audition_Tab": ""}), ("POST", "finish", {"token": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "how"), FOREIGN)
def test_whoever_is_not_the_page_is_turned_away(client: Client, method: str, path: str, how: dict[str, str]) -> None:
    if how.get("token") == "wröng":
        how = {"raw": "/wr%C3%B6ng/"}
    refused = client.ask(method, path, {} if method == "POST" else None, **how)
    assert refused.status == 403 and client.server.token.encode() not in refused.body
    assert client.ask("GET", "state").status == 200  # and it is still there


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "clip/../auditions.jsonl", "clip/..%2f..%2fetc%2fpasswd", "clip/%2e%2e", "audition.py",
     "clip/receipts.jsonl", "clip/", "nothing", "audition.css/x", "clip/" + "a" * 5000, "clip/%00", "page"],
)  # fmt: skip
def test_nothing_but_the_pages_own_files_can_be_had(client: Client, path: str) -> None:
    assert client.ask("GET", path).status == 404
    assert client.ask("POST", path, {}).status == 404


def test_what_is_sent_is_small_and_typed(client: Client) -> None:
    card = client.card("heparin")
    good = {"term": "heparin", "clip": card["clip"], "verdict": "good", "by": "me"}
    for body, status in (
        (b"{", 400), (b"", 400), (b"[]", 400), (b"\xff\xfe", 400), (b"[" * 9000, 400), ({}, 400),
        ({**good, "verdict": "fine"}, 400), ({**good, "extra": 1}, 400), ({**good, "by": 7}, 400),
        ({**good, "notes": "n" * 3000}, 400), ({**good, "term": "warfarin"}, 400), ({**good, "by": " "}, 400),
        (good, 409), ({**good, "clip": "other.wav"}, 409), (b" " * (BODY_LIMIT + 1), 413), (b"x" * 3_000_000, 413),
    ):  # fmt: skip
        refused = client.ask("POST", "verdict", body)
        assert refused.status == status and refused.json["error"], (body if len(body) < 99 else len(body), refused)
    assert client.ask("POST", "verdict", b"{}", Content_Length="-1").status == 411
    assert client.ask("POST", "verdict", b"{}", Content_Length="9" * 30).status == 413
    assert client.ask("POST", "verdict", b"0\r\n\r\n", Transfer_Encoding="chunked").status == 411
    assert not read_auditions(client.server.desk.verdicts)


def test_every_answer_forbids_what_the_page_does_not_need(client: Client) -> None:
    for path in ("", "audition.css", "audition.js", "state", "nothing"):
        headers = client.ask("GET", path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
        assert "Python" not in headers["Server"]
    page = client.ask("GET", "").body.decode()
    assert not re.search(r"(src|href)=\"(https?:|//)", page) and "<script>" not in page and " style=" not in page


def test_a_verdict_from_hearing_to_file(client: Client) -> None:
    clip = client.card("cefazolin")["clip"]
    assert client.ask("POST", "heard", {"clip": clip}).status == 409  # never fetched
    assert client.ask("POST", "heard", {"clip": "gone.wav"}).status == 409
    client.ask("GET", f"clip/{clip}")
    assert client.ask("POST", "heard", {"clip": clip}).status == 409  # too soon
    assert client.judge("cefazolin", "good").status == 409
    assert client.hear("cefazolin").json == {"heard": True}
    assert Client(client.server).judge("cefazolin", "good").status == 409  # another tab has not heard it
    assert client.judge("cefazolin", "good", notes="clear").json["standing"] == "good"
    wrong = client.judge("heparin", "fix", ipa="hrə")
    assert wrong.status == 400 and "trill" in wrong.json["error"]
    mended = client.judge("heparin", "fix", ipa="hɛpə").json
    assert mended["standing"] == "changed" and mended["ipa"] == "hɛpə"
    assert client.judge("heparin", "good").status == 409
    client.hear("heparin")
    assert client.judge("heparin", "good").status == 200 and client.judge("apixaban", "drop").status == 200
    state = client.ask("GET", "state").json
    assert state["left"] == 0 and state["then"] == "type this"
    rows = [(row.term, row.verdict.value, row.played) for row in read_auditions(client.server.desk.verdicts)]
    assert rows == [("cefazolin", "good", "browser"), ("heparin", "fix", ""), ("heparin", "good", "browser"),
                    ("apixaban", "drop", "")]  # fmt: skip


def test_other_pronunciations_are_spoken_on_demand(client: Client) -> None:
    assert client.ask("POST", "suggestions", {"term": "heparin"}).json == [{"ipa": "sʌˈdʒɛst", "why": "by its ending"}]
    takes = {client.ask("POST", "say", {"term": "heparin", "ipa": ipa}).body for ipa in ("", "hɛ", "hɛpə")}
    assert len(takes) == 3 and all(take[:4] == b"RIFF" for take in takes)
    assert "trill" in client.ask("POST", "say", {"term": "heparin", "ipa": "r"}).json["error"]


def test_the_ticket_opens_the_page_once(client: Client) -> None:
    path = client.server.ticket_url.removeprefix(f"http://{client.server.host}")
    assert client.ask("GET", "", raw="/open/guessed").status == 403
    first = client.ask("GET", "", raw=path)
    assert first.status == 303 and first.headers["Location"] == client.server.url
    assert client.ask("GET", "", raw=path).status == 403


def test_a_slow_client_holds_nobody_up(client: Client) -> None:
    slow = [socket.create_connection(("127.0.0.1", client.server.server_port)) for _ in range(8)]
    for number, connection in enumerate(slow):
        head = f"POST /{client.server.token}/verdict HTTP/1.1\r\nHost: {client.server.host}\r\n"
        head += f"Origin: http://{client.server.host}\r\nX-Audition-Tab: {client.tab}\r\nContent-Length: 500\r\n\r\n"
        connection.sendall(head.encode()[: 20 if number % 2 else None])
    start = time.monotonic()
    assert client.judge("apixaban", "drop").status == 200
    assert time.monotonic() - start < 5
    for connection in slow:
        connection.close()


def test_finish_ends_the_server(tmp_path: Path) -> None:
    with AuditionServer(Desk(tmp_path, booth(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        assert Client(server).ask("POST", "finish", {}).json == {"left": 3}
        thread.join(5)
        assert not thread.is_alive()
