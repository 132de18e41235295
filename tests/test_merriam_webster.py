"""The dictionary against a server of our own: replies in the service's form, its errors, its silence, its limits."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from clinical_asr.egress import Egress, Service
from clinical_asr.engines.merriam_webster import MEDICAL, MerriamWebster, respellings
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.jsonl import iter_objects
from clinical_asr.pronunciations import from_dictionary, resolve
from clinical_asr.records import Term

KEY = "0f0f-secret-0f0f"


def entry(headword: str, *said: str, **more: Any) -> dict[str, Any]:
    """An entry in the form of the service; further parts as given."""
    word = headword.replace("*", "")
    return {
        "meta": {"id": word, "uuid": "b6a0", "src": "medical", "section": "alpha", "stems": [word, word + "s"],
                 "offensive": False},
        "hwi": {"hw": headword, "prs": [{"mw": mw, "sound": {"audio": word[:8]}} for mw in said]},
        "fl": "noun",
        "def": [{"sseq": [[["sense", {"dt": [["text", "{bc}a word"]]}]]]}],
        "shortdef": ["a word"],
        **more,
    }  # fmt: skip


HEPARIN = [
    entry("hep*a*rin", "ˈhep-ə-rən"),
    entry("hep*a*rin*ize", "ˈhep-ə-rə-ˌnīz",
          uros=[{"ure": "hep*a*rin*i*za*tion", "prs": [{"mw": "ˌhep-ə-rə-nə-ˈzā-shən"}], "fl": "noun"}]),
]  # fmt: skip
ENTRIES: dict[str, Any] = {
    "heparin": HEPARIN,
    "heparinization": HEPARIN,
    "lock": [entry("lock", "ˈläk")],
    "femur": [entry("fe*mur", "ˈfē-mər", ins=[{"if": "femurs"}, {"il": "or", "if": "fem*o*ra", "ifc": "-o*ra",
                                                               "prs": [{"mw": "ˈfem-(ə-)rə"}]}])],
    "femora": [entry("fe*mur", "ˈfē-mər", ins=[{"if": "fem*o*ra", "ifc": "-o*ra", "prs": [{"mw": "ˈfem-(ə-)rə"}]}])],
    "anaemia": [{**entry("ane*mia", "ə-ˈnē-mē-ə"), "vrs": [{"vl": "or chiefly British", "va": "anae*mia"}]}],
    "lumbar puncture": [entry("lumbar puncture")],
    "lumbar": [entry("lum*bar", "ˈləm-bər", "-ˌbär")],
    "puncture": [entry("punc*ture", "ˈpəŋk-chər")],
    "hepparin": ["heparin", "heparins", "hepatin"],
    "grippe": [entry("grippe", "ˈgrip")],
    "strange": [entry("strange", "ˈstrĕnj")],
    "guerin": [entry("gue*rin", "gā-ˈraⁿ")],
}  # fmt: skip


class Dictionary(ThreadingHTTPServer):
    """The service: ``script`` holds what the next requests get instead of an answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.script: list[Any] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v3/references/medical/json"


class _Handler(BaseHTTPRequestHandler):
    server: Dictionary

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        word = unquote(parts.path.rsplit("/", 1)[1])
        self.server.asked.append(word)
        self.server.keys |= set(parse_qs(parts.query).get("key", []))
        step = self.server.script.pop(0) if self.server.script else None
        if callable(step):
            step(self)
        elif isinstance(step, tuple):
            self.answer(*step)
        else:
            self.answer(200, json.dumps(ENTRIES.get(word, [])).encode())

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Dictionary]:
    with Dictionary() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()


def opened(server: Dictionary, folder: Path, **options: Any) -> MerriamWebster:
    settings = {"address": server.address, "sleep": lambda seconds: None, "timeout": 5.0, **options}
    return MerriamWebster(
        KEY, folder, Egress(frozenset({Service.MERRIAM_WEBSTER}), folder / "egress.jsonl"), **settings
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("heparin", ["ˈhep-ə-rən"]),
        ("HEPARIN ", ["ˈhep-ə-rən"]),
        ("heparinization", ["ˌhep-ə-rə-nə-ˈzā-shən"]),  # a run-on under another headword
        ("femora", ["ˈfem-(ə-)rə"]),  # an inflection, written cut back
        ("anaemia", []),  # a variant spelling without a pronunciation of its own: the headword's is not taken over
        ("lumbar", ["ˈləm-bər", "-ˌbär"]),
        ("hepparin", []),  # suggestions only
        ("femurs", []),
    ],
)
def test_a_word_gets_its_own_pronunciation_and_no_others(
    server: Dictionary, tmp_path: Path, word: str, said: list[str]
) -> None:
    assert opened(server, tmp_path)(word) == said


def test_each_word_is_asked_once_known_or_not(server: Dictionary, tmp_path: Path) -> None:
    for _ in range(2):
        lookup = opened(server, tmp_path)
        assert (lookup("heparin"), lookup("hepparin"), lookup("Heparin")) == (["ˈhep-ə-rən"], [], ["ˈhep-ə-rən"])
    assert server.asked == ["heparin", "hepparin"] and server.keys == {KEY}
    assert opened(server, tmp_path).left_today == 998


def test_a_line_cut_off_by_a_crash_is_asked_again(server: Dictionary, tmp_path: Path) -> None:
    opened(server, tmp_path)("heparin")
    with (tmp_path / "merriam_webster.jsonl").open("ab") as file:
        file.write(b'{"word": "lock", "respel')
    lookup = opened(server, tmp_path)
    assert lookup("lock") == ["ˈläk"]
    assert opened(server, tmp_path)("lock") and server.asked == ["heparin", "lock"]


def test_the_quota_is_counted_across_runs_and_ends_with_the_day(server: Dictionary, tmp_path: Path) -> None:
    day = [datetime(2026, 3, 1, 23, 59, tzinfo=UTC)]
    options: dict[str, Any] = {"quota": 3, "now": lambda: day[0]}
    server.script = [(500, b"")]
    opened(server, tmp_path, **options)("heparin")  # two queries: one failed, it counts
    lookup = opened(server, tmp_path, **options)
    lookup("lock")
    with pytest.raises(FlywheelError, match="asked 3 times today"):
        lookup("femora")
    assert lookup("lock") == ["ˈläk"] and len(server.asked) == 3
    day[0] = datetime(2026, 3, 2, tzinfo=UTC)
    assert lookup("femora") and lookup.left_today == 2


@pytest.mark.parametrize("trouble", [(429, b"", {"Retry-After": "7"}), (503, b"busy"), (500, b"")])
def test_it_backs_off_and_goes_on(server: Dictionary, tmp_path: Path, trouble: Any) -> None:
    pauses: list[float] = []
    server.script = [trouble, trouble]
    assert opened(server, tmp_path, sleep=pauses.append)("heparin") == ["ˈhep-ə-rən"]
    assert pauses == ([7.0, 7.0] if trouble[0] == 429 else [1.0, 4.0])


def test_it_gives_up_in_the_end_and_keeps_nothing_false(server: Dictionary, tmp_path: Path) -> None:
    server.script = [(503, b"")] * 4
    lookup = opened(server, tmp_path)
    with pytest.raises(FlywheelError, match=r"'heparin' \(status 503\).*later"):
        lookup("heparin")
    assert lookup("heparin") == ["ˈhep-ə-rən"]


def hang(handler: _Handler) -> None:
    time.sleep(1.0)


def drip(handler: _Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(20):
        try:
            handler.wfile.write(b"[")
        except OSError:
            return
        time.sleep(0.05)


def cut(handler: _Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"[]")


@pytest.mark.parametrize("fault", [hang, drip, cut])
def test_silence_dripping_and_cut_replies_end_and_are_asked_again(
    server: Dictionary, tmp_path: Path, fault: Any
) -> None:
    server.script = [fault, fault]
    begun = time.monotonic()
    assert opened(server, tmp_path, timeout=0.2)("heparin") == ["ˈhep-ə-rən"]
    assert time.monotonic() - begun < 5 and len(server.asked) == 3


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        ((200, b"Invalid API key. Not subscribed for this reference."), "does not accept the key"),
        ((200, b"<html>moved</html>"), "not JSON"),
        ((200, b'{"error": 1}'), "no list of entries"),
        ((403, b""), r"refused.*403"),
        ((302, b"", {"Location": "http://127.0.0.1:1/elsewhere"}), r"refused.*302"),
    ],
)
def test_other_replies_stop_at_once_in_one_line(server: Dictionary, tmp_path: Path, reply: Any, named: str) -> None:
    server.script = [reply]
    with pytest.raises(FlywheelError, match=named) as caught:
        opened(server, tmp_path)("heparin")
    assert len(server.asked) == 1 and KEY not in str(caught.value) and not (tmp_path / "merriam_webster.jsonl").exists()


def test_the_key_stands_nowhere(server: Dictionary, tmp_path: Path, caplog: pytest.LogCaptureFixture,
                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    server.script = [(500, b"")]
    with caplog.at_level(logging.DEBUG):
        lookup = opened(server, tmp_path)
        lookup("heparin")
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert written and KEY.encode() not in written
    assert KEY not in caplog.text + "".join(capsys.readouterr()) + repr(lookup)
    for bad in ("", "a b", "a\nb", "schlüssel"):
        with pytest.raises(ConfigError) as caught:
            MerriamWebster(bad, tmp_path, Egress())
        assert not bad or bad not in str(caught.value)


def test_nothing_is_asked_unless_the_run_allows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.create_connection", lambda *a, **k: pytest.fail("a socket was opened"))
    with pytest.raises(FlywheelError, match="--allow merriam-webster"):
        MerriamWebster(KEY, tmp_path, Egress())("heparin")
    for address in ("http://www.dictionaryapi.com/x", "https://example.org/x", "file:///etc/passwd", ""):
        with pytest.raises(ConfigError, match="neither"):
            MerriamWebster(KEY, tmp_path, Egress(), address=address)


def test_what_leaves_is_written_down_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def refused(address: tuple[str, int], *rest: object, **more: object) -> None:
        sent.append(f"{address[0]}:{address[1]}")
        raise ConnectionRefusedError

    monkeypatch.setattr("socket.create_connection", refused)
    egress = Egress(frozenset({Service.MERRIAM_WEBSTER}), tmp_path / "egress.jsonl")
    with pytest.raises(FlywheelError, match="ConnectionRefusedError"):
        MerriamWebster(KEY, tmp_path, egress, sleep=lambda seconds: None)("heparin")
    logged = [line for _, line in iter_objects(tmp_path / "egress.jsonl")]
    assert sent == ["www.dictionaryapi.com:443"] * 4 == [f"{line['host']}:443" for line in logged]
    assert {(line["service"], line["subject"]) for line in logged} == {("merriam-webster", "heparin")}
    assert MEDICAL.startswith("https://") and KEY not in (tmp_path / "egress.jsonl").read_text()


def test_certificates_are_verified(tmp_path: Path) -> None:
    """A server whose certificate nobody vouches for is not told the key."""
    import ssl
    import subprocess

    pem = tmp_path / "self.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(pem),
         "-out", str(tmp_path / "c.pem"), "-subj", "/CN=localhost", "-days", "1"], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", pem)
    with Dictionary() as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        running.handle_error = lambda *args: None  # type: ignore[method-assign]
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        lookup = MerriamWebster(
            KEY, tmp_path / "c", Egress(), address=f"https://localhost:{running.server_port}/x", pauses=()
        )
        with pytest.raises(FlywheelError, match="SSLCertVerificationError"):
            lookup("heparin")
        running.shutdown()
    assert not running.asked


def test_terms_of_several_words_whole_first_then_only_if_every_word_is_known(
    server: Dictionary, tmp_path: Path
) -> None:
    names = ["heparin lock", "lumbar puncture", "heparin grippox", "grippox heparin", "strange", "guerin"]
    terms = [Term(term=name, entity_category="drug") for name in names]  # type: ignore[arg-type]
    from clinical_asr.cli.engines import require_sayable

    said = resolve(terms, (), [from_dictionary(opened(server, tmp_path), require_sayable)])
    assert [(p.ipa_source.value, p.ipa) for p in said] == [
        ("merriam-webster", "ˈhɛpəɹən ˈlɑːk"),
        ("merriam-webster", "ˈlʌmbɚ ˈpʌŋktʃɚ"),  # the phrase stands there without a pronunciation
        ("g2p", ""), ("g2p", ""), ("g2p", ""), ("g2p", ""),
    ]  # fmt: skip
    assert server.asked[:2] == ["heparin lock", "heparin"]
    assert server.asked.count("grippox heparin") == server.asked.count("grippox") == 1
    assert "'ĕ' is no symbol" in said[4].extra["note"] and "æ̃" in said[5].extra["note"]


def test_odd_replies_are_no_fault_of_the_program() -> None:
    for reply in (
        b"[]",
        b"[1, null]",
        b'[{"hwi": null}]',
        b'[{"hwi": {"hw": "a", "prs": [null, {"l": "same"}, {"mw": ""}]}}]',
    ):
        assert respellings("a", reply) == []
