"""The server under Riva's own client: every field honoured or refused, limits kept, nobody harmed by a neighbour."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("riva.client")

import grpc
import riva.client
from riva.client.proto import health_pb2, health_pb2_grpc, riva_asr_pb2

from clinical_asr.engines.riva_server import Identity, ServingConfig
from clinical_asr.engines.riva_server.batcher import Batcher
from clinical_asr.engines.riva_server.incoming import decode
from clinical_asr.errors import ConfigError
from patience import until
from served import Parrot, audio, certificate, client, config, pieces, serving, streaming, text_of

PCM = riva.client.AudioEncoding.LINEAR_PCM


def status(call: Any) -> tuple[str, str]:
    """Code and details of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def raw(seconds: float = 1.0) -> bytes:
    return audio(seconds)[44:]


@pytest.fixture(scope="module")
def server() -> Any:
    with serving() as running:
        yield running


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (audio(), {}),
        (audio(), {"encoding": PCM, "sample_rate_hertz": 16_000, "audio_channel_count": 1}),
        (raw(), {"encoding": PCM, "sample_rate_hertz": 16_000}),
        (audio(rate=48_000), {}),
        (audio(rate=8_000, subtype="ULAW"), {}),
        (audio(format="FLAC"), {"encoding": riva.client.AudioEncoding.FLAC}),
        (
            audio(rate=8_000, format="RAW", subtype="ULAW"),
            {"encoding": riva.client.AudioEncoding.MULAW, "sample_rate_hertz": 8_000},
        ),
        (
            audio(rate=8_000, format="RAW", subtype="ALAW"),
            {"encoding": riva.client.AudioEncoding.ALAW, "sample_rate_hertz": 8_000},
        ),
        (audio(rate=16_000, format="OGG", subtype="OPUS"), {"encoding": riva.client.AudioEncoding.OGGOPUS}),
        (audio(), {"model": "parrot", "verbatim_transcripts": True, "language_code": "en"}),
    ],
)  # fmt: skip
def test_one_second_is_heard_in_every_form(server: Any, content: bytes, fields: dict[str, Any]) -> None:
    response = client(server).offline_recognize(content, config(**fields))
    assert text_of(response) == "heard 16000" and response.results[0].audio_processed == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"speech_contexts": [riva_asr_pb2.SpeechContext(phrases=["cefazolin"], boost=20)]}, "speech_contexts"),
        ({"max_alternatives": 2}, "max_alternatives"),
        ({"profanity_filter": True}, "profanity_filter"),
        ({"audio_channel_count": 2}, "audio_channel_count"),
        ({"enable_separate_recognition_per_channel": True}, "enable_separate_recognition_per_channel"),
        ({"diarization_config": riva_asr_pb2.SpeakerDiarizationConfig(enable_speaker_diarization=True)}, "diarization"),
        ({"custom_configuration": {"a": "b"}}, "custom_configuration"),
        ({"endpointing_config": riva_asr_pb2.EndpointingConfig(stop_history=800)}, "endpointing_config"),
        ({"model": "another"}, "model"),
        ({"language_code": "de-DE"}, "language_code"),
        ({"enable_automatic_punctuation": True}, "enable_automatic_punctuation"),
        ({"sample_rate_hertz": 4_000}, "sample_rate_hertz"),
        ({"encoding": 9}, "encoding 9"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_honoured_is_refused_by_name(server: Any, fields: dict[str, Any], names: str) -> None:
    asked = config(**fields)
    for call in (
        lambda: client(server).offline_recognize(audio(), asked),
        lambda: list(client(server).streaming_response_generator(pieces(audio()), streaming(**fields))),
    ):
        code, details = status(call)
        assert code == "INVALID_ARGUMENT" and names in details


def test_every_field_of_the_protocol_is_read() -> None:
    """A new version of Riva's protos brings fields that must be honoured or refused: this test then fails."""
    read = {
        "encoding", "sample_rate_hertz", "language_code", "max_alternatives", "profanity_filter", "speech_contexts",
        "audio_channel_count", "enable_word_time_offsets", "enable_automatic_punctuation", "model",
        "enable_separate_recognition_per_channel", "verbatim_transcripts", "diarization_config",
        "custom_configuration", "endpointing_config",
    }  # fmt: skip
    assert {field.name for field in riva_asr_pb2.RecognitionConfig.DESCRIPTOR.fields} == read


@pytest.mark.parametrize(
    ("content", "fields", "names"),
    [
        (audio(channels=2), {}, "2 channels"),
        (audio()[:-2000], {}, "cut off"),
        (raw(), {}, "no encoding"),
        (raw(), {"encoding": PCM}, "sample_rate_hertz is 0"),
        (raw()[:-1], {"encoding": PCM, "sample_rate_hertz": 16_000}, "within a sample"),
        (audio(), {"sample_rate_hertz": 8_000}, "16000 Hz, sample_rate_hertz says 8000"),
        (audio(), {"encoding": riva.client.AudioEncoding.FLAC}, "the audio is WAV"),
        (audio(format="FLAC"), {"encoding": PCM}, "the audio is FLAC"),
        (audio(format="FLAC")[:3000], {}, ""),
        (audio(0.01), {}, "no speech"),
        (b"", {}, ""),
        (b"RIFF\0\0\0\0WAVE", {}, "without samples"),
        (b"fLaC" + b"\xff" * 500, {}, "cannot be decoded"),
    ],
)
def test_audio_that_is_not_what_it_seems_is_refused(
    server: Any, content: bytes, fields: dict[str, Any], names: str
) -> None:
    code, details = status(lambda: client(server).offline_recognize(content, config(**fields)))
    assert code == "INVALID_ARGUMENT" and names in details


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (audio(3.0), {}),
        (audio(3.0), {"encoding": PCM, "sample_rate_hertz": 16_000}),
        (raw(3.0), {"encoding": PCM, "sample_rate_hertz": 16_000}),
        (audio(3.0, format="FLAC"), {"encoding": riva.client.AudioEncoding.FLAC}),
        (audio(3.0, subtype="FLOAT"), {}),
    ],
)
def test_a_stream_ends_in_one_final_result(server: Any, content: bytes, fields: dict[str, Any]) -> None:
    results = list(client(server).streaming_response_generator(pieces(content), streaming(**fields)))
    assert [(r.results[0].is_final, text_of(r)) for r in results] == [(True, "heard 48000")]


def test_interim_results_grow_towards_the_final_one(server: Any) -> None:
    def slowly() -> Any:
        for piece in pieces(audio(3.5), 16_000):
            yield piece
            time.sleep(0.1)

    results = list(client(server).streaming_response_generator(slowly(), streaming(interim=True)))
    assert [r.results[0].is_final for r in results[-2:]] == [False, True]
    lengths = [int(text_of(r).split()[1]) for r in results]
    assert len(lengths) >= 3 and lengths == sorted(lengths) and lengths[-1] == 56_000


def test_an_interim_result_that_gave_way_to_others_comes_with_the_next_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, shown = threading.Event(), threading.Event()

    def waiting(batcher: Batcher) -> int:
        first = not looked.is_set()
        looked.set()
        return int(first)

    def two_pieces() -> Any:
        yield raw(1.5)
        assert looked.wait(30)
        yield raw(0.2)  # less than a second after the first: only what was owed is due
        shown.wait(30)  # a stream that is behind, if only by its end, shows nothing

    monkeypatch.setattr(Batcher, "waiting", property(waiting))
    asked = streaming(interim=True, encoding=PCM, sample_rate_hertz=16_000)
    with serving() as server:
        results = client(server).streaming_response_generator(two_pieces(), asked)
        assert (text_of(owed := next(results)), owed.results[0].is_final) == ("heard 27200", False)
        shown.set()
        assert [(text_of(last), last.results[0].is_final) for last in results] == [("heard 27200", True)]


def test_recordings_nobody_waits_for_are_not_counted_as_waiting() -> None:
    parrot = Parrot()
    parrot.gate.clear()
    with serving(parrot, max_batch=1, max_wait=0.0) as server:
        asr = client(server)
        first, second = (asr.offline_recognize(audio(1.0), config(), future=True) for _ in range(2))
        until(lambda: server.batcher.waiting == 1)
        first.cancel(), second.cancel()
        until(lambda: server.batcher.waiting == 0, seconds=20)  # before the gate opens by itself
        parrot.gate.set()


def test_interim_results_of_flac_are_refused(server: Any) -> None:
    asked = streaming(interim=True, encoding=riva.client.AudioEncoding.FLAC)
    code, details = status(
        lambda: list(client(server).streaming_response_generator(pieces(audio(format="FLAC")), asked))
    )
    assert code == "INVALID_ARGUMENT" and "interim_results" in details


def test_a_long_stream_is_made_final_in_parts_and_no_sample_is_lost() -> None:
    with serving(chunk=10.0) as server:
        asked = streaming(enable_word_time_offsets=True)
        results = list(client(server).streaming_response_generator(pieces(audio(34.0), 32_000), asked))
    parts = [int(text_of(r).split()[1]) for r in results]
    assert len(parts) >= 4 and sum(parts) == 34 * 16_000 and max(parts) <= 11 * 16_000
    assert all(r.results[0].is_final for r in results) and text_of(results[0]).endswith(" ")
    starts = [r.results[0].alternatives[0].words[0].start_time for r in results]
    assert starts == [pytest.approx(sum(parts[:n]) / 16, abs=1) for n in range(len(parts))]


def test_a_stream_cut_off_within_its_wav_is_refused(server: Any) -> None:
    code, details = status(
        lambda: list(client(server).streaming_response_generator(pieces(audio()[:-5000]), streaming()))
    )
    assert code == "INVALID_ARGUMENT" and "cut off" in details


def test_word_times_are_milliseconds(server: Any) -> None:
    response = client(server).offline_recognize(audio(), config(enable_word_time_offsets=True))
    words = response.results[0].alternatives[0].words
    assert [(w.word, w.start_time, w.end_time, w.confidence) for w in words] == [
        ("heard", 0, 250, 0.5), ("16000", 500, 1000, 1.0),
    ]  # fmt: skip
    assert response.results[0].alternatives[0].confidence == 0.75


def test_word_times_that_a_model_cannot_give_are_refused() -> None:
    with serving(model_no_words="this model's decoder gives no word times") as server:
        code, details = status(lambda: client(server).offline_recognize(audio(), config(enable_word_time_offsets=True)))
    assert code == "INVALID_ARGUMENT" and "no word times" in details


def test_the_model_tells_who_it_is(server: Any) -> None:
    ask = client(server).stub.GetRivaSpeechRecognitionConfig
    (one,) = ask(riva_asr_pb2.RivaSpeechRecognitionConfigRequest()).model_config
    assert one.model_name == "parrot" and one.parameters["model_digest"] == "0123456789abcdef"
    wrong = riva_asr_pb2.RivaSpeechRecognitionConfigRequest(model_name="x")
    assert status(lambda: ask(wrong))[0] == "INVALID_ARGUMENT"


def test_the_clients_request_id_comes_back(server: Any) -> None:
    request = riva_asr_pb2.RecognizeRequest(config=config(), audio=audio())
    request.id.value = "mine"
    assert client(server).stub.Recognize(request).id.value == "mine"


def test_concurrent_requests_share_batches_and_get_their_own_answers() -> None:
    parrot = Parrot(seconds=0.05)
    with serving(parrot, max_batch=4, max_wait=0.02) as server, ThreadPoolExecutor(12) as threads:
        asr = client(server)
        lengths = [0.5 + 0.1 * n for n in range(12)]
        answers = list(threads.map(lambda seconds: text_of(asr.offline_recognize(audio(seconds), config())), lengths))
    assert answers == [f"heard {round(seconds * 16_000)}" for seconds in lengths]
    assert max(map(len, parrot.batches)) > 1 and all(len(batch) <= 4 for batch in parrot.batches)


def test_a_recording_the_model_chokes_on_fails_alone() -> None:
    with serving(Parrot(chokes=[8000])) as server, ThreadPoolExecutor(2) as threads:
        asr = client(server)
        bad = threads.submit(status, lambda: asr.offline_recognize(audio(0.5), config()))
        good = threads.submit(lambda: text_of(asr.offline_recognize(audio(1.0), config())))
        assert bad.result()[0] == "INTERNAL" and good.result() == "heard 16000"


def test_a_recogniser_that_raises_leaves_the_server_standing() -> None:
    calls = []

    def fails_once(recordings: Any, words: bool) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("kernel failed")
        return Parrot()(recordings, words)

    with serving(fails_once) as server:
        assert status(lambda: client(server).offline_recognize(audio(), config()))[0] == "INTERNAL"
        assert text_of(client(server).offline_recognize(audio(), config())) == "heard 16000"


def test_a_client_killed_mid_stream_harms_nobody() -> None:
    lines: list[dict[str, Any]] = []
    with serving(lines=lines, max_requests=3) as server:
        for _ in range(5):  # more than there are slots: each must be given back
            dying = client(server)

            def endless() -> Any:
                for piece in pieces(audio(60.0)):
                    yield piece
                    time.sleep(0.01)

            call = dying.stub.StreamingRecognize(
                riva.client.asr.streaming_request_generator(endless(), streaming(interim=True))
            )
            next(call)
            dying.auth.channel.close()
        until(lambda: len(lines) == 5)
        assert [line["code"] for line in lines] == ["CANCELLED"] * 5
        assert text_of(client(server).offline_recognize(audio(), config())) == "heard 16000"


def test_a_recording_nobody_waits_for_is_not_recognised() -> None:
    parrot = Parrot()
    parrot.gate.clear()
    with serving(parrot, max_batch=1) as server:
        asr = client(server)
        first = asr.offline_recognize(audio(1.0), config(), future=True)
        time.sleep(0.3)
        second = asr.offline_recognize(audio(2.0), config(), future=True)
        time.sleep(0.3)
        second.cancel()
        time.sleep(0.3)
        parrot.gate.set()
        assert text_of(first.result()) == "heard 16000"
    assert parrot.batches == [[16_000]]


def test_limits_are_kept() -> None:
    with serving(max_audio=2.0, max_stream=3.0, max_message_mib=1, chunk=2.0) as server:
        asr = client(server)
        code, details = status(lambda: asr.offline_recognize(audio(2.5), config()))
        assert code == "INVALID_ARGUMENT" and "longer than 2 s" in details
        code, details = status(lambda: list(asr.streaming_response_generator(pieces(audio(4.0)), streaming())))
        assert code == "INVALID_ARGUMENT" and "longer than 3 s" in details
        assert status(lambda: asr.offline_recognize(audio(60.0), config()))[0] == "RESOURCE_EXHAUSTED"


def test_one_request_too_many_is_refused_and_the_others_are_served() -> None:
    parrot = Parrot()
    parrot.gate.clear()
    with serving(parrot, max_requests=2) as server:
        asr = client(server)
        held = [asr.offline_recognize(audio(), config(), future=True) for _ in range(2)]
        time.sleep(0.3)
        code, details = status(lambda: asr.offline_recognize(audio(), config()))
        assert code == "RESOURCE_EXHAUSTED" and "2 requests are in flight" in details
        parrot.gate.set()
        assert [text_of(call.result()) for call in held] == ["heard 16000"] * 2


def test_a_silent_client_is_let_go() -> None:
    with serving(idle=0.3) as server:

        def hesitant() -> Any:
            yield audio()[:2000]
            time.sleep(3)

        asr = client(server)
        code, details = status(lambda: list(asr.streaming_response_generator(hesitant(), streaming())))
    assert code == "DEADLINE_EXCEEDED" and "no audio for 0.3 s" in details


def test_deadlines_of_server_and_client_are_kept() -> None:
    parrot = Parrot()
    parrot.gate.clear()
    with serving(parrot, timeout=0.3) as server:
        request = riva_asr_pb2.RecognizeRequest(config=config(), audio=audio())
        assert status(lambda: client(server).stub.Recognize(request))[0] == "DEADLINE_EXCEEDED"
        began = time.monotonic()
        assert status(lambda: client(server).stub.Recognize(request, timeout=0.1))[0] == "DEADLINE_EXCEEDED"
        assert time.monotonic() - began < 0.3
        parrot.gate.set()


@pytest.mark.parametrize(
    ("messages", "names"),
    [
        ([], "first message"),
        ([riva_asr_pb2.StreamingRecognizeRequest(audio_content=b"ab")], "first message"),
        ([riva_asr_pb2.StreamingRecognizeRequest(streaming_config=streaming())] * 2, "only the first"),
        (
            [
                riva_asr_pb2.StreamingRecognizeRequest(streaming_config=streaming()),
                riva_asr_pb2.StreamingRecognizeRequest(runtime_config={"a": "b"}),
            ],
            "runtime_config",
        ),
        ([riva_asr_pb2.StreamingRecognizeRequest(streaming_config=streaming())], "no audio"),
    ],
)
def test_a_stream_out_of_order_is_refused(server: Any, messages: list[Any], names: str) -> None:
    code, details = status(lambda: list(client(server).stub.StreamingRecognize(iter(messages))))
    assert code == "INVALID_ARGUMENT" and names in details


def test_health_says_when_requests_are_taken() -> None:
    with serving() as server:
        stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(f"127.0.0.1:{server.port}"))
        for name in ("", "nvidia.riva.asr.RivaSpeechRecognition"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert status(lambda: stub.Check(health_pb2.HealthCheckRequest(service="x")))[0] == "NOT_FOUND"
        watched = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        server.health.stop()
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_stopping_server_finishes_what_is_in_flight_and_takes_no_more() -> None:
    parrot = Parrot()
    parrot.gate.clear()
    with serving(parrot) as server:
        asr = client(server)
        held = asr.offline_recognize(audio(), config(), future=True)
        time.sleep(0.3)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.2)
        assert status(lambda: client(server).offline_recognize(audio(), config()))[0] == "UNAVAILABLE"
        parrot.gate.set()
        assert text_of(held.result()) == "heard 16000"
        stopping.join(5)
        assert not stopping.is_alive()


def test_the_log_says_how_every_request_ended_and_nothing_that_was_said() -> None:
    lines: list[dict[str, Any]] = []
    with serving(lines=lines) as server:
        client(server).offline_recognize(audio(), config())
        list(client(server).streaming_response_generator(pieces(audio()), streaming(interim=True)))
        phrase = riva_asr_pb2.SpeechContext(phrases=["Mr Smith of ward 4"])
        status(lambda: client(server).offline_recognize(audio(), config(speech_contexts=[phrase])))
    assert [line["code"] for line in lines] == ["OK", "OK", "INVALID_ARGUMENT"]
    assert lines[0]["seconds"] == 1.0 and lines[0]["batch"] == 1
    assert "heard" not in json.dumps(lines) and "Smith" not in json.dumps(lines)


TOKEN = "correct horse battery staple"


def test_tls_and_token_guard_every_call_but_health(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    identity = Identity(cert.read_bytes(), key.read_bytes())
    with serving(tls=identity, token=TOKEN) as server:
        secured = {"ssl_root_cert": cert, "use_ssl": True}
        good = client(server, **secured, metadata_args=[["authorization", f"Bearer {TOKEN}"]])
        assert text_of(good.offline_recognize(audio(), config())) == "heard 16000"
        for wrong in ([], [["authorization", "Bearer guess"]]):
            asr = client(server, **secured, metadata_args=wrong)
            assert status(lambda asr=asr: asr.offline_recognize(audio(), config()))[0] == "UNAUTHENTICATED"
            assert status(lambda asr=asr: list(asr.streaming_response_generator([b"a"], streaming())))[0] == (
                "UNAUTHENTICATED"
            )
        assert status(lambda: client(server).offline_recognize(audio(), config()))[0] == "UNAVAILABLE"
        trusted = grpc.ssl_channel_credentials(cert.read_bytes())
        stub = health_pb2_grpc.HealthStub(grpc.secure_channel(f"localhost:{server.port}", trusted))
        assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "asr.example"])
@pytest.mark.parametrize("guard", [{}, {"token": TOKEN}, {"tls": Identity(b"c", b"k")}])
def test_beyond_loopback_tls_and_token_are_needed(host: str, guard: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="open to other machines"):
        ServingConfig(host=host, **guard)
    assert ServingConfig(host=host, token=TOKEN, tls=Identity(b"c", b"k")).host == host


@pytest.mark.parametrize(
    "wrong", [{"port": 70_000}, {"max_batch": 0}, {"token": "short"}, {"chunk": 0.5}, {"idle": 0}, {"grace": -1}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"--|CLINICAL_ASR_TOKEN: has 5 characters; it needs 16"):
        ServingConfig(**wrong)


def test_a_port_in_use_and_a_wrong_key_are_said(server: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be listened on"), serving(port=server.port):
        pass
    cert, _ = certificate(tmp_path)
    with pytest.raises(ConfigError, match="do not belong together"), serving(tls=Identity(cert.read_bytes(), b"no")):
        pass


def test_a_wav_of_unknown_length_is_heard_whole() -> None:
    content = bytearray(audio())
    content[40:44] = b"\xff\xff\xff\xff"  # what a writer to a pipe leaves there
    assert len(decode(bytes(content), "LINEAR_PCM", 0)) == 16_000
