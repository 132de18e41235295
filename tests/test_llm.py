"""The endpoint client against a real server on this machine: busy, broken, silent, redirecting, and well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chat_server import Answer, ChatServer, Heard, chat_server, good, says
from clinical_asr.egress import Egress, Service
from clinical_asr.engines.llm import Chat, LlmError, endpoint
from clinical_asr.errors import ConfigError, FlywheelError

TALK = [{"role": "system", "content": "s"}, {"role": "user", "content": "letter by letter, this drug: cefazolin"}]
KEY = "sk-very-secret-000111"


def asked(answer: Callable[[Heard, int], Answer], **options: object) -> tuple[str, ChatServer, list[float]]:
    """The reply, what the server heard, and the pauses between attempts."""
    pauses: list[float] = []
    with chat_server(answer) as server:
        chat = Chat(server.url, "m1", Egress(), key=KEY, sleep=pauses.append, **options)  # type: ignore[arg-type]
        return chat(TALK, seed=7, subject="cefazolin"), server, pauses


def failing(times: int, fault: Answer) -> Callable[[Heard, int], Answer]:
    return lambda heard, n: fault if n < times else good(heard, n)


def test_a_well_behaved_endpoint_gets_one_request_with_everything_in_it() -> None:
    reply, server, pauses = asked(good)
    assert reply.startswith("Please give cefazolin") and not pauses
    (heard,) = server.heard
    assert heard.path == "/v1/chat/completions" and heard.key == f"Bearer {KEY}"
    assert heard.body["model"] == "m1" and heard.body["seed"] == 7 and heard.body["messages"] == TALK
    assert heard.body["stream"] is False


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_endpoint_is_asked_again_after_growing_pauses(status: int) -> None:
    reply, server, pauses = asked(failing(3, Answer(b"busy", status)))
    assert reply and len(server.heard) == 4 and pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(("header", "pause"), [("3", 3.0), ("0.5", 0.5), ("86400", 60.0),
                                               ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0)])  # fmt: skip
def test_an_endpoint_that_says_when_is_asked_then(header: str, pause: float) -> None:
    assert asked(failing(1, Answer(b"", 429, {"Retry-After": header})))[2] == [pause]


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}', b"<html>gateway</html>",
    b"[" * 100_000,
])  # fmt: skip
def test_a_reply_that_is_no_completion_is_asked_for_again(content: bytes) -> None:
    reply, server, _ = asked(failing(2, Answer(content)))
    assert reply and len(server.heard) == 3


def test_a_reply_cut_short_and_a_silent_server_are_asked_again() -> None:
    whole = says("Give cefazolin now.")
    assert asked(failing(1, Answer(whole.content, cut=20)))[0]
    reply, server, _ = asked(failing(1, Answer(whole.content, wait=1.0)), timeout=0.2)
    assert reply and len(server.heard) == 2


def test_an_endpoint_that_never_recovers_is_given_up_with_the_reason() -> None:
    with pytest.raises(LlmError, match=r"no reply in 4 attempts \(status 503\)"):
        asked(lambda *_: Answer(b"", 503), attempts=4)
    with pytest.raises(LlmError, match=r"no reply in 2 attempts .*timed out"):
        asked(lambda *_: Answer(b"", wait=0.6), attempts=2, timeout=0.1)


@pytest.mark.parametrize(("status", "told"), [(401, "a key of 21 characters"), (403, "CLINICAL_ASR_LLM_KEY"),
                                              (404, "no model like that"), (400, "--llm-model")])  # fmt: skip
def test_what_asking_again_will_not_mend_is_told_at_once_without_the_key(status: int, told: str) -> None:
    def refuse(heard: Heard, _: int) -> Answer:
        return Answer(f"no model like that {heard.key}".encode(), status)

    with pytest.raises(LlmError) as caught:
        asked(refuse)
    assert told in str(caught.value) and KEY not in str(caught.value)


def test_a_redirect_is_not_followed() -> None:
    with pytest.raises(LlmError, match=r"sends on to elsewhere\.example"):
        asked(lambda *_: Answer(b"", 307, {"Location": "https://elsewhere.example/v1"}))


def test_nobody_listening_is_told_at_once() -> None:
    with chat_server(good) as server:
        pass
    with pytest.raises(LlmError, match="nothing listens there"):
        Chat(server.url, "m", Egress())(TALK, seed=1, subject="")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://127.0.0.1/", "http://10.0.0.5:8000/v1",
                                 "https://user:key@llm.example/v1", "http://127.0.0.1@evil.example/v1",
                                 "https://llm.example/v1?key=1", "http://localhost.evil.example/v1"])  # fmt: skip
def test_addresses_that_leak_or_mean_nothing_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        endpoint(url)


def test_a_foreign_host_needs_leave_and_gets_a_line_for_each_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FlywheelError, match="--allow llm"):
        Chat("https://llm.example/v1", "m", Egress())
    log = tmp_path / "egress.jsonl"
    chat = Chat("https://llm.example/v1", "m", Egress(frozenset({Service.LLM}), log), key=KEY)
    monkeypatch.setattr(chat, "_post", lambda body: says("Good.").content)
    assert chat(TALK, seed=1, subject="cefazolin") == "Good."
    (sending,) = map(json.loads, log.read_text().splitlines())
    assert (sending["service"], sending["host"], sending["subject"]) == ("llm", "llm.example", "cefazolin")
    assert sending["bytes"] > 100 and KEY not in log.read_text() and KEY not in repr(chat)


def test_what_stays_here_passes_no_proxy_and_leaves_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with chat_server(good) as server:
        chat = Chat(server.url, "m", Egress(log=tmp_path / "egress.jsonl"))
        assert chat(TALK, seed=1, subject="cefazolin")
    assert not (tmp_path / "egress.jsonl").exists()
