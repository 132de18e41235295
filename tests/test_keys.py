"""A key is sent where it belongs and stands nowhere else: not in a file, a message, a trace, the list of processes."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from clinical_asr.egress import Egress, Service
from clinical_asr.engines.llm import Chat
from clinical_asr.engines.merriam_webster import MerriamWebster
from clinical_asr.errors import FlywheelError
from served import certificate

CANARY = "canary+Key/7f3a9c51e8d24b60"
SHAPES = tuple({
    CANARY.encode(), quote(CANARY, safe="").encode(), quote(CANARY).encode(),
    *(base64.b64encode(b"x" * pad + CANARY.encode())[4:-4] for pad in range(3)),
    CANARY[:16].encode(),
})  # fmt: skip
"""The key as it stands, in an address, in base64, and its greater half."""
KEYS = ("NVIDIA_API_KEY", "CLINICAL_ASR_TOKEN", "CLINICAL_ASR_LLM_KEY", "MERRIAM_WEBSTER_API_KEY", "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN", "NGC_API_KEY")  # fmt: skip


def leaks(content: bytes) -> list[bytes]:
    return [shape for shape in SHAPES if shape in content]


# --- servers that fail in every way -----------------------------------------------------------------------------------


def _http(status: str, body: bytes, *headers: bytes) -> bytes:
    length = b"Content-Length: %d" % len(body)
    said = [length, b"Content-Type: text/plain", b"Connection: close"]  # else the next request may meet a closed line
    return b"\r\n".join([b"HTTP/1.1 " + status.encode(), *said, *headers, b"", body])


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "401 that tells all": lambda asked: _http("401 No", asked),
    "403": lambda asked: _http("403 No", b"forbidden"),
    "400 that tells all": lambda asked: _http("400 Bad", asked),
    "404 in JSON": lambda asked: _http("404 None", b'{"error": "' + asked.split(b"\r\n")[0] + b'"}'),
    "302 elsewhere": lambda asked: _http("302 Go", b"", b"Location: http://127.0.0.1:9/" + asked.split()[1]),
    "500": lambda asked: _http("500 Oops", asked),
    "200 that is no JSON": lambda asked: _http("200 OK", asked),
    "200 of wrong JSON": lambda asked: _http("200 OK", b'["' + asked.split()[1] + b'", {}]'),
    "cut": lambda asked: _http("200 OK", asked)[:60],
    "hung up": lambda asked: b"",
    "no HTTP": lambda asked: b"\0\xff" + asked,
    "two status lines": lambda asked: b"HTTP/1.1 " + asked.replace(b"\r\n", b" ")[:300] + b"\r\n\r\n",
    "a header without end": lambda asked: b"HTTP/1.1 200 OK\r\nX: " + asked[:200] * 400,
}


@contextmanager
def faulty(
    answer: Callable[[bytes], bytes], context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """A server on 127.0.0.1 that answers so; (its port, what it was asked)."""
    asked: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        try:
            connection.settimeout(2)
            with context.wrap_socket(connection, server_side=True) if context else connection as peer:
                heard = b""
                while b"\r\n\r\n" not in heard and (more := peer.recv(65536)):  # headers may come in pieces
                    heard += more
                    if not heard.startswith((b"GET", b"POST", b"HEAD")):  # gRPC: answered at once
                        break
                asked.append(heard)
                peer.sendall(answer(heard))
        except OSError:
            pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1], asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def ask_dictionary(address: str, folder: Path) -> object:
    egress = Egress(frozenset(Service), folder / "egress.jsonl")
    return MerriamWebster(CANARY, folder, egress, address=address, timeout=2, pauses=(0.0,), sleep=lambda _: None)("x")


def ask_model(address: str, folder: Path) -> object:
    egress = Egress(frozenset(Service), folder / "egress.jsonl")
    chat = Chat(address, "m", egress, key=CANARY, timeout=2, attempts=2, sleep=lambda _: None)
    assert CANARY not in repr(chat)
    return chat([{"role": "user", "content": "x"}], seed=1, subject="x")


CLIENTS = {"dictionary": ask_dictionary, "language model": ask_model}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_failure_of_a_service_brings_the_key_out(client: str, fault: str, tmp_path: Path) -> None:
    with faulty(FAULTS[fault]) as (port, asked):
        try:
            found = CLIENTS[client](f"http://127.0.0.1:{port}/v1", tmp_path)
        except FlywheelError as error:
            told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
            assert not leaks(told.encode()), told
        else:
            assert client == "dictionary" and fault == "200 of wrong JSON" and found == []
        assert asked and leaks(b"".join(asked)), "the key was never sent: this test proves nothing"
    for path in tmp_path.rglob("*"):
        assert not leaks(path.read_bytes()), path


# --- the commands that take keys --------------------------------------------------------------------------------------


def processes_with_the_key() -> list[str]:
    """Processes of this machine whose arguments hold the key."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if leaks(place.read_bytes()):
                found.append(str(place))
        except OSError:
            continue
    return found


def run(words: list[str], folder: Path, debug: bool, **more: str) -> tuple[int, bytes]:
    """A command with every key set; while it runs, the list of processes is read again and again."""
    environment = {**os.environ, **dict.fromkeys(KEYS, CANARY), "HF_HOME": str(folder / "hf"), "NO_PROXY": "*", **more}
    command = [sys.executable, "-m", "clinical_asr", *(["--debug"] if debug else []), *words]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        assert not processes_with_the_key()
        time.sleep(0.1)
    out, _ = process.communicate(timeout=10)
    return process.returncode, out


def commands(port: int) -> dict[str, list[str]]:
    here = f"127.0.0.1:{port}"
    return {
        "sentences": ["sentences", "--terms", "terms.csv", "--output", "s.jsonl", "--llm", f"http://{here}/v1",
                      "--llm-model", "m", "--llm-tries", "1", "--llm-timeout", "2"],
        "pronunciations": ["pronunciations", "--terms", "terms.csv", "--output", "p.jsonl", "--merriam-webster"],
        "hypotheses": ["hypotheses", "--manifest", "m.jsonl", "--endpoint", here, "--output", "h.jsonl"],
        "hypotheses --model": ["hypotheses", "--manifest", "m.jsonl", "--model", "org/name", "--output", "h2.jsonl"],
        "doctor": ["doctor"],
    }  # fmt: skip


def prepared(folder: Path) -> Path:
    from tiny_model import write_tones

    (folder / "terms.csv").write_text("term,entity_category\nheparin,drug\n")
    write_tones(folder, ["give the pin now"])
    (folder / "manifest.jsonl").rename(folder / "m.jsonl")
    (folder / ".env").write_text(f"NVIDIA_API_KEY={CANARY}\n")
    return folder


@pytest.mark.parametrize("debug", [False, True])
def test_the_commands_that_take_keys_show_none(debug: bool, tmp_path: Path) -> None:
    """Every command against a server that answers 401 with all it was sent; each artifact and line is searched."""
    folder = prepared(tmp_path)
    told: dict[str, tuple[int, bytes]] = {}
    with faulty(FAULTS["401 that tells all"]) as (port, asked):
        for name, words in commands(port).items():
            before = len(asked)
            told[name] = run(words, folder, debug, MERRIAM_WEBSTER_ADDRESS=f"http://127.0.0.1:{port}/v3",
                             HF_ENDPOINT=f"http://127.0.0.1:{port}")  # fmt: skip
            if name != "doctor":
                assert len(asked) > before, (name, told[name])
        assert sum(bool(leaks(one)) for one in asked) >= 3, "the keys were never sent: this test proves nothing"
    for name, (code, out) in told.items():
        assert not leaks(out), (name, out)
        if not debug:
            assert b"Traceback" not in out and (code == 2 or name == "doctor"), (name, code, out)
    searched = [path for path in folder.rglob("*") if path.is_file() and path.name != ".env"]
    assert len(searched) >= 3
    for path in searched:
        assert not leaks(path.read_bytes()), path


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"401 that tells all"}))
def test_no_command_shows_a_key_whatever_the_server_does(fault: str, tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    with faulty(FAULTS[fault]) as (port, _):
        for name in ("sentences", "pronunciations"):
            for debug in (False, True):
                _, out = run(commands(port)[name], folder, debug, MERRIAM_WEBSTER_ADDRESS=f"http://127.0.0.1:{port}/v3")
                assert not leaks(out), (name, out)
    for path in folder.rglob("*"):
        assert path.name == ".env" or path.is_dir() or not leaks(path.read_bytes()), path


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_a_certificate_that_nobody_vouches_for_is_refused_before_the_key_is_sent(client: str, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    refused = pytest.raises(FlywheelError, match=r"(?i)certificate|SSLCert")
    with faulty(FAULTS["403"], context) as (port, asked), refused:
        CLIENTS[client](f"https://127.0.0.1:{port}/v1", tmp_path)
    assert not asked


def test_riva_refuses_it_too(tmp_path: Path) -> None:
    pytest.importorskip("riva.client")
    from clinical_asr.engines.riva_asr import Endpoint, RivaTranscriber

    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    with faulty(FAULTS["403"], context) as (port, asked):
        end = Endpoint(address=f"127.0.0.1:{port}", tls=True, key=CANARY, attempts=1, timeout=3)
        with pytest.raises(FlywheelError, match="certificate is not trusted") as refusal:
            RivaTranscriber(end, Egress(), lambda path, digest: None, None)
        assert CANARY not in repr(end) and not leaks(repr(refusal.value).encode())
    assert not asked


# --- nothing leaves ---------------------------------------------------------------------------------------------------

CYCLE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from clinical_asr.cycle import Cycle
from clinical_asr.flywheel import turn
from wheel import Works, engines, request
cycle, works = Cycle(Path(sys.argv[1]) / "cycles"), Works()
turn(cycle, request(Path(sys.argv[1])), engines(works, cycle, []))
print("TURNED", cycle.decision.is_file(), works.calls["train"])
"""


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """An environment in which every Python process reports and refuses internet sockets."""
    from test_offline import WATCH

    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    path = os.pathsep.join(filter(None, (str(tmp_path / "watch"), os.environ.get("PYTHONPATH"))))
    keys = dict.fromkeys(KEYS, CANARY)
    return {**os.environ, **keys, "PYTHONPATH": path, "SOCKETS_SEEN": str(tmp_path / "seen")}


def test_a_whole_cycle_opens_no_socket(watched: dict[str, str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    words = [sys.executable, "-c", CYCLE, str(work), str(Path(__file__).parent)]
    done = subprocess.run(words, env=watched, capture_output=True, text=True, timeout=300)
    assert "TURNED True 1" in done.stdout, done.stderr
    assert not Path(watched["SOCKETS_SEEN"]).exists(), Path(watched["SOCKETS_SEEN"]).read_text()
    for path in work.rglob("*"):
        assert path.is_dir() or not leaks(path.read_bytes()), path


def test_the_commands_that_need_no_service_open_no_socket(watched: dict[str, str], tmp_path: Path) -> None:
    import msgspec

    row = {"text": "give heparin now", "pred_text": "give a pin now", "term": "heparin", "audio_filepath": "a.wav",
           "entity_category": "drug", "ipa_source": "g2p", "voice_id": "v", "noise_level": "clean",
           "duration": 1.0}  # fmt: skip
    path = tmp_path / "h.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode({**row, "id": f"{n}"}) + b"\n" for n in range(6)))
    for words, codes in (
        (["scores", str(path)], {0}), (["gate", str(path)], {3}), (["leaderboard", str(path)], {0}),
        (["advise", "--priority-ker", "0.4", "--rows", "120"], {0}), (["inspect", "mini"], {0, 2}),
        (["manifest", "check", str(path)], {2}), (["doctor"], {0, 2}), (["terms", "packs"], {0}),
        (["manifest", "rewrite", str(path), "--from", ".", "--to", "/w", "--output", str(tmp_path / "r.jsonl")], {0}),
    ):  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "clinical_asr", *words], env=watched, cwd=tmp_path,
                              capture_output=True, text=True, timeout=120)  # fmt: skip
        assert done.returncode in codes, (words, done.stdout, done.stderr)
        assert not leaks((done.stdout + done.stderr).encode())
    assert not Path(watched["SOCKETS_SEEN"]).exists(), Path(watched["SOCKETS_SEEN"]).read_text()
