"""NeMo Data Designer against a real server on this machine; runs where the extra ``designer`` is installed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chat_server import Answer, Heard, chat_server, good, says
from clinical_asr.egress import Egress, Service
from clinical_asr.engines.data_designer import TELEMETRY, DataDesigner
from clinical_asr.errors import FlywheelError, MissingDependency

KEY = "sk-very-secret-000111"


def test_a_foreign_host_needs_leave_before_anything_is_imported() -> None:
    with pytest.raises(FlywheelError, match="--allow llm"):
        DataDesigner("https://llm.example/v1", "m", Egress())
    DataDesigner("https://llm.example/v1", "m", Egress(frozenset({Service.LLM})))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "data_designer.config", None)
    from clinical_asr.composition import Request

    with pytest.raises(MissingDependency, match=r"clinical-asr-flywheel\[designer\]"):
        DataDesigner("http://127.0.0.1:9/v1", "m", Egress())([Request([{"role": "system", "content": "s"}], 1, "t")])


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a list of terms, telemetry off, and no way off this machine."""
    monkeypatch.setenv(TELEMETRY, "false")
    pytest.importorskip("data_designer.interface")
    reach = socket.socket.connect
    foreign: list[object] = []

    def connect(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1"):
            foreign.append(address)
            raise OSError(f"would reach {address}")
        reach(self, address)  # type: ignore[arg-type]

    def look_up(host: str, *rest: object) -> list[object]:
        if host not in ("127.0.0.1", "localhost", "::1"):
            foreign.append(host)
            raise socket.gaierror(f"would look up {host}")
        return resolve(host, *rest)  # type: ignore[arg-type, return-value]

    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    (tmp_path / "t.csv").write_text("term,entity_category\ncefazolin,drug\nenoxaparin,drug\n")
    yield tmp_path  # type: ignore[misc]
    assert foreign == []


def call(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    from clinical_asr.cli import main

    words = ["sentences", "--terms", "t.csv", "--output", "s.jsonl", "--llm", url, "--llm-model", "tiny", "--designer"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["clinical-asr", *words, *more])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_all_sentences_of_a_round_are_asked_for_and_refused_ones_again(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINICAL_ASR_LLM_KEY", KEY)

    def indiscreet_at_first(heard: Heard, n: int) -> Answer:
        return says("Mr. Smith had his dose before dinner.") if n == 2 else good(plain(heard), n)

    with chat_server(indiscreet_at_first) as server:
        assert call(written, server.url, monkeypatch) == 0
        assert len(server.heard) == 9 and {request.key for request in server.heard} == {f"Bearer {KEY}"}
        last = str(server.heard[-1].body["messages"])
        assert "Your earlier answer: Mr. Smith" in last and "This cannot be used" in last
        assert call(written, server.url, monkeypatch) == 0 and len(server.heard) == 9
    rows = [json.loads(line) for line in (written / "s.jsonl").read_text().splitlines()]
    assert [row["term"] for row in rows] == ["cefazolin"] * 4 + ["enoxaparin"] * 4
    assert all(row["term"] in row["text"] and row["source"].startswith("tiny#") for row in rows)
    assert sorted(path.name for path in written.iterdir()) == ["s.jsonl", "s.llm.jsonl", "t.csv"]


def plain(heard: Heard) -> Heard:
    """The library sends each message as a list of parts."""
    for message in heard.body["messages"]:
        if isinstance(message["content"], list):
            message["content"] = "".join(part["text"] for part in message["content"])
    return heard


def test_an_endpoint_that_gives_nothing_is_one_line(
    written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLINICAL_ASR_LLM_KEY", KEY)
    with chat_server(lambda heard, n: Answer(b"no such model", 404)) as server:
        assert call(written, server.url, monkeypatch) == 2
    err = capsys.readouterr().err
    assert KEY not in err and "error: " in err.splitlines()[-1]


def test_telemetry_that_is_on_is_refused() -> None:
    pytest.importorskip("data_designer.interface")
    code = ("from clinical_asr.engines.data_designer import _library\n"
            "from clinical_asr.errors import FlywheelError\n"
            "try: _library()\nexcept FlywheelError as error: print(error)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={TELEMETRY: "true"})
    assert "would send usage events" in done.stdout, done.stderr
