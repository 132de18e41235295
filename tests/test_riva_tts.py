"""Speech over Riva's protocol, against a real gRPC server on this machine that can be busy, break off and lie."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

grpc = pytest.importorskip("grpc")
tts = pytest.importorskip("riva.client.proto.riva_tts_pb2")

from riva.client.proto.riva_tts_pb2_grpc import (  # noqa: E402
    RivaSpeechSynthesisServicer,
    add_RivaSpeechSynthesisServicer_to_server,
)

from clinical_asr.clips import Clip  # noqa: E402
from clinical_asr.egress import Egress, Sending, Service  # noqa: E402
from clinical_asr.engines.riva_tts import ASKED_RATE, MAGPIE_VOICES, RivaSpeech, SpeechEndpoint  # noqa: E402
from clinical_asr.errors import AudioError, ConfigError, FlywheelError  # noqa: E402
from clinical_asr.jsonl import read_rows  # noqa: E402
from clinical_asr.rendering import render  # noqa: E402
from clinical_asr.service_errors import ServiceError  # noqa: E402

MIA = MAGPIE_VOICES[0]
TEXT = "please give cefazolin two grams before the incision"
Fault = Callable[[Any], bytes | None]


def speech(seconds: float, rate: int) -> np.ndarray:
    """A second of noisy tone for each second asked for, as int16."""
    time = np.arange(round(seconds * rate)) / rate
    hiss = np.random.default_rng(1).standard_normal(time.size)
    return (6000 * np.sin(2 * np.pi * 300 * time) + 400 * hiss).astype("<i2")


class Magpie(RivaSpeechSynthesisServicer):
    """Speaks 0.06 s a letter; ``faults`` are taken in turn and come instead of an answer."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.faults: list[Fault] = []

    def Synthesize(self, request: Any, context: Any) -> Any:  # noqa: N802 - Riva's name
        self.asked.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        audio = self.faults.pop(0)(context) if self.faults else None
        if audio is None:
            audio = speech(0.06 * len(TEXT), request.sample_rate_hz).tobytes()
        return tts.SynthesizeSpeechResponse(audio=audio)

    def GetRivaSynthesisConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - Riva's name
        names = ",".join(f"EN-US.{name}:{at}" for at, name in enumerate(("Mia", "Jason", "Ray")))
        config = tts.RivaSynthesisConfigResponse.Config(
            model_name="magpie", parameters={"voice_name": "Magpie-Multilingual", "subvoices": names}
        )
        return tts.RivaSynthesisConfigResponse(model_config=[config])


def refuses(code: str, details: str = "") -> Fault:
    return lambda context: context.abort(getattr(grpc.StatusCode, code), details)


def answers(content: bytes) -> Fault:
    return lambda _: content


@pytest.fixture
def server() -> Iterator[tuple[Magpie, str]]:
    magpie = Magpie()
    running = grpc.server(futures.ThreadPoolExecutor(2))
    add_RivaSpeechSynthesisServicer_to_server(magpie, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield magpie, f"127.0.0.1:{port}"
    running.stop(0)


def engine(address: str, **changes: Any) -> RivaSpeech:
    order = {"address": address, "first_wait": 0.01, "attempts": 4, "timeout": 20.0}
    return RivaSpeech(SpeechEndpoint(**{**order, **changes}), Egress())


def test_a_sentence_comes_back_at_16_khz_in_the_voice_asked_for(server: tuple[Magpie, str]) -> None:
    magpie, address = server
    with engine(address) as say:
        samples = say(f"<speak>{TEXT}</speak>", MIA)
        assert say.voices() == sorted(MAGPIE_VOICES)
    assert samples.dtype == np.float32 and samples.size == pytest.approx(16_000 * 0.06 * len(TEXT), abs=2)
    assert 0.1 < np.abs(samples).max() < 0.4
    [asked] = magpie.asked
    assert (asked.voice_name, asked.language_code, asked.sample_rate_hz) == (MIA, "en-US", ASKED_RATE)
    assert asked.text == f"<speak>{TEXT}</speak>" and "authorization" not in magpie.metadata[0]


def test_key_and_function_travel_as_metadata_and_are_never_shown(server: tuple[Magpie, str]) -> None:
    magpie, address = server
    with engine(address, key="secret-key", function_id="f-1") as say:
        say(TEXT, MIA)
        assert "secret-key" not in repr(say.endpoint)
    assert magpie.metadata[0]["authorization"] == "Bearer secret-key" and magpie.metadata[0]["function-id"] == "f-1"


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"])
def test_a_busy_service_is_asked_again(server: tuple[Magpie, str], code: str) -> None:
    magpie, address = server
    magpie.faults = [refuses(code), refuses(code)]
    with engine(address) as say:
        assert say(TEXT, MIA).size and say.drops == 2
    assert len(magpie.asked) == 3


def test_a_connection_that_breaks_off_after_an_answer_is_no_tls_fault(server: tuple[Magpie, str]) -> None:
    magpie, address = server
    with engine(address) as say:
        say(TEXT, MIA)
        magpie.faults = [refuses("UNAVAILABLE", "Socket closed")]
        assert say(TEXT, MIA).size and say.drops == 1


@pytest.mark.parametrize("content", [b"", b"\1\2\3", b"RIFF\0\0\0\0WAVEjunk"], ids=["nothing", "half", "broken"])
def test_an_answer_without_its_sound_is_asked_for_again(server: tuple[Magpie, str], content: bytes) -> None:
    magpie, address = server
    magpie.faults = [answers(content)]
    with engine(address) as say:
        assert say(TEXT, MIA).size and say.drops == 1
        magpie.faults = [answers(content)] * 4
        with pytest.raises(AudioError, match="please give"):
            say(TEXT, MIA)


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "NOT_FOUND"])
def test_a_refusal_for_good_is_not_repeated(server: tuple[Magpie, str], code: str) -> None:
    magpie, address = server
    magpie.faults = [refuses(code, "because")]
    with engine(address) as say, pytest.raises(ServiceError, match="because") as error:
        say(TEXT, MIA)
    assert len(magpie.asked) == 1 and error.value.mend and error.value.where == address


def test_a_limit_that_stays_ends_the_run_and_the_same_command_goes_on(
    server: tuple[Magpie, str], tmp_path: Path
) -> None:
    magpie, address = server
    clips = [Clip(text=f"{TEXT} number {word}", voice_id=MIA) for word in ("one", "two", "three")]
    with engine(address) as say:
        magpie.faults = [lambda _: None, *[refuses("RESOURCE_EXHAUSTED", "no credits")] * 4]
        with pytest.raises(ServiceError, match=r"no credits.*goes on from here"):
            render(clips, tmp_path, say)
        assert len(list(tmp_path.glob("*.wav"))) == 1 and len(magpie.asked) == 5
        assert len(render(clips, tmp_path, say)) == 3
    assert len(magpie.asked) == 7  # nothing is paid for twice


def test_a_wav_file_is_read_at_its_own_rate_and_another_rate_is_noticed(
    server: tuple[Magpie, str], tmp_path: Path
) -> None:
    magpie, address = server
    file = io.BytesIO()
    soundfile.write(file, speech(3.0, 44_100), 44_100, subtype="PCM_16", format="WAV")
    magpie.faults = [answers(file.getvalue()), answers(speech(3.0, 8_000).tobytes())]
    with engine(address) as say:
        assert say(TEXT, MIA).size == pytest.approx(48_000, abs=2)
        [receipt] = render([Clip(text=TEXT + " and then call the ward", voice_id=MIA)], tmp_path, say)
    assert "for 13 words" in receipt.suspect  # 8 kHz samples played at 22 kHz: a chipmunk


def test_silence_is_no_speech(server: tuple[Magpie, str], tmp_path: Path) -> None:
    magpie, address = server
    magpie.faults = [answers(np.zeros(40_000, "<i2").tobytes())]
    with engine(address) as say, pytest.raises(AudioError, match="returned no speech"):
        render([Clip(text=TEXT, voice_id=MIA)], tmp_path, say)
    assert not list(tmp_path.glob("*.wav*"))


def test_requests_keep_to_the_rate(server: tuple[Magpie, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with engine(server[1], requests_per_minute=600) as say:
        waited: list[float] = []
        monkeypatch.setattr(say, "_wait", waited.append)
        monkeypatch.setattr("clinical_asr.engines.riva_tts.time.monotonic", lambda: 5.0)
        for _ in range(3):
            say(TEXT, MIA)
    assert waited == pytest.approx([0.1, 0.2])


def test_nothing_goes_to_another_machine_unasked_or_unencrypted(tmp_path: Path) -> None:
    away = SpeechEndpoint(address="speech.example.org:50051")
    assert away.encrypted and away.service is Service.ENDPOINT
    with pytest.raises(FlywheelError, match="--allow endpoint"):
        RivaSpeech(away, Egress())
    with pytest.raises(ConfigError, match="only over TLS"):
        SpeechEndpoint(address="speech.example.org:50051", tls=False)
    with pytest.raises(ConfigError, match="NVIDIA_API_KEY"):
        SpeechEndpoint(function_id="f")
    for address in ("nowhere", "host:", ":1"):
        with pytest.raises(ConfigError, match="HOST:PORT"):
            SpeechEndpoint(address=address)


def test_each_sending_is_written_down_but_not_what_stays_here(server: tuple[Magpie, str], tmp_path: Path) -> None:
    magpie, address = server
    log = tmp_path / "egress.jsonl"
    magpie.faults = [refuses("UNAVAILABLE")]
    allowed = Egress(frozenset({Service.ENDPOINT}), log)
    with RivaSpeech(SpeechEndpoint(address=address, first_wait=0.01), allowed) as say:
        say(TEXT, MIA)
        assert not log.exists()
        away = SpeechEndpoint(address="speech.example.org:443", first_wait=0.01)
        say.endpoint = away  # the connection stays; only the name it is booked under changes
        magpie.faults = [refuses("UNAVAILABLE")]
        say(TEXT, MIA)
    sent = read_rows(log, Sending)
    assert [one.host for one in sent] == [away.address] * 2 and all(one.bytes > len(TEXT) for one in sent)


def test_the_gate_asks_for_the_engine_that_will_speak(server: tuple[Magpie, str], tmp_path: Path) -> None:
    """A verdict on eSpeak NG opens nothing for a service; one on the service does, and says so in its line."""
    magpie, address = server
    (tmp_path / "terms.csv").write_text("term,entity_category\nbeta-blocker,drug\n", encoding="utf-8")
    (tmp_path / "b").mkdir()
    verdicts = tmp_path / "b" / "auditions.jsonl"
    verdicts.write_text('{"term": "beta-blocker", "verdict": "good"}\n', encoding="utf-8")

    def run(*words: str, answers: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "clinical_asr", *words], input=answers, capture_output=True, text=True, timeout=90,
            cwd=tmp_path, env={**os.environ, "PATH": ""},
        )  # fmt: skip

    assert run("sentences", "--terms", "terms.csv", "--output", "s.jsonl").returncode == 0
    assert run("pronunciations", "--terms", "terms.csv", "--output", "p.jsonl").returncode == 0
    service = ["--engine", "magpie", "--endpoint", address, "--allow", "endpoint"]
    order = ["audio", "--sentences", "s.jsonl", "--pronunciations", "p.jsonl", "--output-folder", "b", *service,
             "--noise-levels", "clean"]  # fmt: skip
    refused = run(*order)
    words = ["--terms", "TERMS.csv", "--folder", "b", "--pronunciations", "p.jsonl", *service]
    mend = f"listen: clinical-asr audition {' '.join(words)} (or waive it"
    assert refused.returncode == 2 and "beta-blocker (heard from espeak)" in refused.stderr and mend in refused.stderr
    assert magpie.asked == []
    listen = ["audition", "--terms", "terms.csv", "--folder", "b", *service, "--terminal", "--by", "Dr Lin"]
    heard = run(*listen, answers="s\nˈbeɪtə\nheard\n1\n")
    assert heard.returncode == 0 and f"--output-folder b {' '.join(service)}\n" in heard.stdout, heard.stderr
    assert "as the service reads it" in heard.stdout and "pronounced otherwise" in heard.stdout
    assert [asked.voice_name for asked in magpie.asked] == [MIA, MIA]
    assert 'ph="ˈbeɪtə"' in magpie.asked[1].text and "<phoneme" not in magpie.asked[0].text
    assert [row["engine"] for row in map(json.loads, verdicts.read_text().splitlines()[1:])] == ["magpie"]
    assert run(*order).returncode == 0 and len(magpie.asked) > 3
