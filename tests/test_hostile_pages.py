"""What a stranger sends to the audition's server, and what stands in data that becomes a page."""

from __future__ import annotations

import http.client
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from booth import booth
from clinical_asr.audition_desk import Desk
from clinical_asr.audition_record import read_auditions
from clinical_asr.audition_server import AuditionServer
from test_audition_server import Client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditionServer]:
    folder = tmp_path_factory.mktemp("audition")
    (folder.parent / "secret.txt").write_text("SECRET")
    with AuditionServer(Desk(folder, booth(folder))) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def raw(port: int, content: bytes, wait: float = 5.0) -> bytes:
    """Bytes to the server, all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as peer:
        peer.sendall(content)
        peer.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := peer.recv(65536):
            answer += chunk
    return answer


SEGMENTS = st.sampled_from(["..", "%2e%2e", "%2f", "..%2f..%2fsecret.txt", "clip", "state", "open",
                            "verdict", "say", "", ".", "%00",
                            "secret.txt", "etc", "passwd", "audition.js",
                             "\\..", "%c0%ae", "~root", "%0d%0aX-Evil:%201", "finish"])  # fmt: skip
HEADERS = st.sampled_from(
    ["X-Audition-Tab", "Host", "Origin", "Content-Length", "Transfer-Encoding", "X", "Cookie", "Range"]
)
VALUES = st.one_of(st.sampled_from(["", "0", "-1", "9" * 40, "chunked", "null", "127.0.0.1", "a" * 3000, "bytes=0-"]),
                   st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20))  # fmt: skip


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT", "\0"]), st.booleans(),
       st.lists(SEGMENTS, max_size=5), st.lists(st.tuples(HEADERS, VALUES), max_size=4),
       st.binary(max_size=60))  # fmt: skip
def test_no_request_gets_out_of_the_room(
    server: AuditionServer, method: str, knows: bool, segments: list[str], headers: list[tuple[str, str]], body: bytes
) -> None:
    """Any method, path, header and body, with the token and without: an answer of ours, nothing from elsewhere."""
    if segments[:1] == ["finish"]:
        segments = ["finish", "x"]
    path = "/" + "/".join([*([server.token] if knows else []), *segments])
    lines = [f"{method} {path} HTTP/1.1", f"Host: {server.host}", *(f"{name}: {value}" for name, value in headers)]
    answer = raw(server.server_port, "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body)
    head = answer.split(b"\r\n\r\n")[0]
    assert answer == b"" or answer.startswith((b"HTTP/1.0 ", b"<!DOCTYPE")) or b"Error" in answer, answer[:200]
    assert b"SECRET" not in answer and b"root:" not in answer and b"Traceback" not in answer
    assert b"x-evil" not in head.lower() and (knows or server.token.encode() not in answer)
    status = answer[9:12]
    if not knows and status:
        assert status in (b"403", b"400", b"404", b"405", b"411", b"414", b"431", b"501", b"505"), answer[:200]
    assert not read_auditions(server.desk.verdicts)


def test_bodies_of_every_kind_are_refused_or_taken(server: AuditionServer) -> None:
    client = Client(server)
    values = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
                          lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
                          max_leaves=8)  # fmt: skip
    keys = st.sampled_from(["term", "clip", "verdict", "by", "ipa", "notes", "sentence", "x"])

    @settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(["heard", "suggestions", "say", "verdict"]),
           st.one_of(st.dictionaries(keys, values), values, st.binary(max_size=40)))  # fmt: skip
    def attacked(route: str, body: Any) -> None:
        answer = client.ask("POST", route, body)
        assert answer.status in (200, 400, 403, 409, 411, 413), (answer, body)

    attacked()
    assert not read_auditions(server.desk.verdicts)


def test_slow_clients_hold_nobody_up_and_are_hung_up_on(
    server: AuditionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinical_asr import audition_server

    monkeypatch.setattr(audition_server._Handler, "timeout", 1.0)
    slow = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(100)]
    for peer in slow:
        peer.sendall(b"GET /" + server.token.encode() + b"/ HTTP/1.1\r\nHost: ")
    start = time.monotonic()
    assert Client(server).ask("GET", "state").status == 200
    assert time.monotonic() - start < 10
    for peer in slow:
        peer.settimeout(15)
        assert not peer.recv(10).startswith(b"HTTP/1.0 2")
        peer.close()


def requests(server: AuditionServer, count: int) -> None:
    """So many requests, right ones and wrong ones; then memory, threads and descriptors are where they were."""
    client = Client(server)
    for _ in range(50):
        client.ask("GET", "state")
    files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        path = f"/{server.token}/" if number % 2 else f"/wrong{number}/state"
        connection.request("GET", path, headers={"Host": server.host})
        answer = connection.getresponse()
        assert answer.status == (200 if number % 2 else 403)
        answer.read()
        connection.close()
    time.sleep(0.3)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 3 and threading.active_count() <= threads + 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 30 * 1024, "KiB"


def test_hundreds_of_requests_leave_nothing_behind(server: AuditionServer) -> None:
    requests(server, 300)


@pytest.mark.slow
def test_ten_thousand_requests_leave_nothing_behind(server: AuditionServer) -> None:
    requests(server, 10_000)


# --- pages ------------------------------------------------------------------------------------------------------------

PAYLOADS = [
    "<script>window.owned=1</script>", "<img src=x onerror=window.owned=1>", "<svg/onload=window.owned=1>",
    "'\"><script>window.owned=1</script>", "</script><script>window.owned=1</script>", "javascript:window.owned=1",
    "<iframe srcdoc='<script>parent.owned=1</script>'>",
    "{{7*7}}{%print(1)%}", "<!--<script>",
    "]]><script>window.owned=1</script>",
    "<a href=javascript:window.owned=1>x</a>", "<style>@import'http://127.0.0.1:9/x'</style>", "\u2028window.owned=1//",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>", "<base href=http://127.0.0.1:9/>",
    "&lt;script&gt;",
]  # fmt: skip


def hostile_rows() -> list[dict[str, Any]]:
    rows = []
    for n, evil in enumerate(PAYLOADS * 3):
        rows.append({
            "id": f"{evil}{n}", "text": f"give heparin {evil} now", "pred_text": f"give {evil} now", "term": "heparin",
            "audio_filepath": evil, "entity_category": "drug", "ipa_source": "g2p", "voice_id": evil, "duration": 1.0,
            "noise_level": "clean", "context_type": evil, "model": PAYLOADS[0] + PAYLOADS[1], evil: evil,
        })  # fmt: skip
    return rows


@pytest.mark.browser
def test_nothing_in_data_runs_in_the_reports(tmp_path: Path) -> None:
    """The leaderboard's and the ranking's pages in Chromium: no script of the data runs, no request is made."""
    import subprocess
    import sys

    playwright = pytest.importorskip("playwright.sync_api")
    for name, worse in (("a", ""), ("b", "x")):
        lines = (msgspec.json.encode({**row, "pred_text": row["pred_text"] + worse, "model": row["model"] + name})
                 for row in hostile_rows())  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(lines))
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    for words in (files[:1], files):
        done = subprocess.run([sys.executable, "-m", "clinical_asr", "leaderboard", *words], cwd=tmp_path,
                              capture_output=True, text=True, timeout=120)  # fmt: skip
        assert done.returncode == 0, done
    pages = sorted(tmp_path.glob("*.html"))
    assert len(pages) >= 2, pages
    with playwright.sync_playwright() as play:
        chromium = Path("/usr/bin/chromium")
        browser = play.chromium.launch(executable_path=str(chromium) if chromium.exists() else None)
        for path in pages:
            page = browser.new_page()
            asked: list[str] = []
            said: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("dialog", lambda dialog, said=said: (said.append(dialog.message), dialog.dismiss()))
            page.goto(path.as_uri())
            page.wait_for_timeout(300)
            for control in page.locator("summary, button:visible").all()[:10]:
                control.click(timeout=2000, force=True)
            page.wait_for_timeout(200)
            assert page.evaluate("window.owned === undefined && frames.length === 0"), path
            assert "window.owned" in page.content(), "the data is not on the page: this test proves nothing"
            assert not said and all(url.startswith("file:") for url in asked), asked
            assert page.url == path.as_uri()
        browser.close()
