"""The client of a speech service: nothing paid for twice, nothing sent that may not be, every fault with its mend."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("riva.client")

import grpc
from riva.client.proto import riva_asr_pb2, riva_asr_pb2_grpc

from clinical_asr.answers import Answers
from clinical_asr.cli import app
from clinical_asr.clips import Receipt
from clinical_asr.egress import Egress, Sending, Service
from clinical_asr.engines import riva_asr
from clinical_asr.engines.riva_asr import Endpoint, RivaTranscriber
from clinical_asr.errors import AudioError, ConfigError, FlywheelError
from clinical_asr.hypotheses import transcribe_rows
from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.leaving import ProvedSynthetic
from clinical_asr.records import Hypothesis, LedgerEntry, Outcome, Utterance
from clinical_asr.service_errors import WHISPER_FUNCTION, ServiceError
from served import Parrot, audio, certificate, serving

KEY = "nvapi-do-not-print-me"
Fault = tuple[grpc.StatusCode, str]


class Faulty(riva_asr_pb2_grpc.RivaSpeechRecognitionServicer):
    """A service that answers by the script: for the n-th question a fault, or None for a transcript."""

    def __init__(self, script: Callable[[int, bytes], Fault | None], config_fault: Fault | None = None) -> None:
        self.script, self.config_fault = script, config_fault
        self.asked: list[str] = []
        self.metadata: dict[str, str] = {}
        self.configs: list[Any] = []
        self._lock = threading.Lock()

    def GetRivaSpeechRecognitionConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.config_fault:
            context.abort(*self.config_fault)
        kind = riva_asr_pb2.RivaSpeechRecognitionConfigResponse
        return kind(model_config=[kind.Config(model_name="faulty", parameters={"v": "1"})])

    def Recognize(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            self.asked.append(hashlib.sha256(request.audio).hexdigest())
            number = len(self.asked)
        self.configs.append(request.config)
        self.metadata = dict(context.invocation_metadata())
        fault = self.script(number, request.audio)
        if fault:
            context.abort(*fault)
        best = riva_asr_pb2.SpeechRecognitionAlternative(transcript=f"heard {len(request.audio)} ")
        return riva_asr_pb2.RecognizeResponse(results=[riva_asr_pb2.SpeechRecognitionResult(alternatives=[best])])


@contextmanager
def faulty(script: Callable[[int, bytes], Fault | None] = lambda n, a: None, **options: Any) -> Iterator[Any]:
    """The service and its address."""
    service = Faulty(script, **options)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    riva_asr_pb2_grpc.add_RivaSpeechRecognitionServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield service, f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@pytest.fixture
def clips(tmp_path: Path) -> dict[str, Path]:
    """Eight recordings of different length."""
    made = {f"r{n}": tmp_path / f"{n}.wav" for n in range(8)}
    for n, path in enumerate(made.values()):
        path.write_bytes(audio(0.2 + n / 100, subtype="PCM_16"))
    return made


def connect(address: str, journal: Path | None = None, **options: Any) -> RivaTranscriber:
    fields = {"address": address, "first_wait": 0.01, "timeout": 5.0, **options}
    return RivaTranscriber(Endpoint(**fields), Egress(), lambda path, digest: None, journal)


def manifest_rows(clips: Mapping[str, Path]) -> list[Utterance]:
    return [Utterance(id=key, audio_filepath=path.name, text="t", duration=0.2) for key, path in clips.items()]


def test_rows_are_heard_under_their_keys(clips: dict[str, Path]) -> None:
    with faulty() as (service, address), connect(address) as engine:
        heard = engine.transcribe(clips)
        assert heard == {key: f"heard {path.stat().st_size}" for key, path in clips.items()}
        assert engine.name == "faulty" and len(engine.digest) == 16
    sent = service.configs[0]
    assert (sent.encoding, sent.sample_rate_hertz, sent.audio_channel_count, sent.language_code) == (
        1,
        16_000,
        1,
        "en-US",
    )


def test_the_identity_is_the_models_and_the_questions(clips: dict[str, Path]) -> None:
    with faulty() as (_, one), faulty() as (_, other):
        digests = [connect(a, **o).digest for a, o in ((one, {}), (other, {}), (one, {"language": "en"}))]
    assert digests[0] == digests[1] != digests[2]  # another port here is no other model


def test_busyness_is_waited_out(clips: dict[str, Path]) -> None:
    busy = (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate limit")
    with faulty(lambda n, _: busy if n <= 3 else None) as (service, address), connect(address) as engine:
        heard = engine.transcribe({"r0": clips["r0"]})
    assert heard["r0"] == f"heard {clips['r0'].stat().st_size}" and len(service.asked) == 4


def test_waits_grow_and_are_drawn(clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[tuple[float, float]] = []
    monkeypatch.setattr(riva_asr.random, "uniform", lambda low, high: waits.append((low, high)) or 0.0)
    busy = (grpc.StatusCode.UNAVAILABLE, "overloaded")
    with faulty(lambda n, _: busy) as (_, address), connect(address, attempts=4, first_wait=1.0) as engine:
        engine.transcribe({"r0": clips["r0"]})
    assert waits == [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)]


def test_a_row_the_service_chokes_on_fails_alone(clips: dict[str, Path], tmp_path: Path) -> None:
    bad = clips["r3"].read_bytes()
    fault = (grpc.StatusCode.INTERNAL, "CUDA error: an illegal memory access was encountered")
    with faulty(lambda n, a: fault if a == bad else None) as (_, address), connect(address) as engine:
        entries = transcribe_rows(
            manifest_rows(clips), tmp_path, engine, tmp_path / "out.jsonl", tmp_path / "ledger.jsonl"
        )
    fates = {entry.id: entry for entry in entries}
    assert fates["r3"].outcome is Outcome.FAILED and WHISPER_FUNCTION in fates["r3"].reason
    assert sum(entry.outcome is Outcome.SCORED for entry in entries) == 7


def test_a_service_that_is_down_stops_the_run_and_what_was_answered_is_kept(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    down = (grpc.StatusCode.UNAVAILABLE, "no capacity")
    journal = tmp_path / "answers.jsonl"
    with faulty(lambda n, _: None if n <= 4 else down) as (service, address):
        with connect(address, journal, attempts=2, concurrency=1) as engine, pytest.raises(ServiceError, match="again"):
            engine.transcribe(clips)
        assert len(service.asked) == 4 + 3 * 2  # three rows given up, two questions each
    with faulty() as (service, address), connect(address, journal) as engine:
        assert len(engine.transcribe(clips)) == 8 and len(service.asked) == 4


def test_nothing_is_paid_for_twice(clips: dict[str, Path], tmp_path: Path) -> None:
    """Killed in the middle of a batch, with the journal cut off in the middle of a line."""
    journal, output = tmp_path / "answers.jsonl", tmp_path / "out.jsonl"
    denied = (grpc.StatusCode.UNAUTHENTICATED, "expired")
    with faulty(lambda n, _: denied if n == 5 else None) as (service, address):
        with connect(address, journal, concurrency=1) as engine, pytest.raises(ServiceError):
            transcribe_rows(manifest_rows(clips), tmp_path, engine, output, tmp_path / "l.jsonl")
        first = service.asked[:4]
    journal.write_bytes(journal.read_bytes() + b'{"id": "cut o')
    with faulty() as (service, address), connect(address, journal) as engine:
        transcribe_rows(manifest_rows(clips), tmp_path, engine, output, tmp_path / "l.jsonl")
        assert len(service.asked) == 4 and not set(service.asked) & set(first)
    assert len(read_rows(output, Hypothesis)) == 8


def test_answers_of_another_model_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Answers(path, "a" * 16).add("r", "d1", "text")
    assert Answers(path, "a" * 16).get("d1") == "text" and Answers(path, "b" * 16).get("d1") is None


def test_concurrency_is_bounded(clips: dict[str, Path]) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def script(n: int, _: bytes) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.05)
        with lock:
            now -= 1

    with faulty(script) as (_, address), connect(address, concurrency=3) as engine:
        assert len(engine.transcribe(clips)) == 8
    assert most == 3


FAULTS = [
    (grpc.StatusCode.UNAUTHENTICATED, "invalid bearer token", "NVIDIA_API_KEY", True),
    (grpc.StatusCode.PERMISSION_DENIED, "forbidden", "account", True),
    (grpc.StatusCode.NOT_FOUND, "Function 'x' not found for account", "ASR_NVCF_FUNCTION_ID", True),
    (grpc.StatusCode.UNIMPLEMENTED, "unknown service", "host and port", True),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "credits", "what was answered is kept", False),
    (grpc.StatusCode.INTERNAL, "CUDA error: device-side assert triggered", WHISPER_FUNCTION, False),
    (grpc.StatusCode.INVALID_ARGUMENT, "language en-US is not supported", "--language en", False),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "late", "--timeout", False),
    (grpc.StatusCode.UNAVAILABLE, "errors resolving h:443: Domain name not found", "is there a network?", False),
    (grpc.StatusCode.DATA_LOSS, "odd", "same command again", False),
]


@pytest.mark.parametrize(("code", "details", "mend", "stops"), FAULTS, ids=lambda value: getattr(value, "name", ""))
def test_every_documented_fault_has_its_mend(
    code: Any, details: str, mend: str, stops: bool, clips: dict[str, Path]
) -> None:
    with faulty(lambda n, _: (code, details)) as (_, address), connect(address, attempts=1) as engine:
        if stops:
            with pytest.raises(ServiceError) as caught:
                engine.transcribe({"r0": clips["r0"]})
            error: object = caught.value
        else:
            error = engine.transcribe({"r0": clips["r0"]})["r0"]
    assert isinstance(error, ServiceError) and mend in error.mend and details in error.what
    assert error.where == address and error.code == code.name


@pytest.mark.parametrize(("code", "details", "mend", "stops"), FAULTS, ids=lambda value: getattr(value, "name", ""))
def test_the_doctor_names_the_same_mend(code: Any, details: str, mend: str, stops: bool, tmp_path: Path) -> None:
    with faulty(lambda n, _: (code, details)) as (_, address):
        command = ["doctor", "--json", "--smoke", "--endpoint", address, "--folder", str(tmp_path)]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and "smoke: espeak-ng speaks" in result.output
    (line,) = [row for row in _findings(result.stdout) if row["name"] == f"smoke: {address} hears"]
    assert not line["ok"] and mend in line["mend"] and details in line["found"]


def _findings(output: str) -> list[dict[str, Any]]:
    import json

    return json.loads(output[output.index("[") :])


def test_a_service_that_only_falls_silent_is_said(clips: dict[str, Path]) -> None:
    with pytest.raises(ServiceError, match="nobody answers there"):
        connect("127.0.0.1:1", attempts=1)


def test_tls_on_one_side_only_is_said(tmp_path: Path) -> None:
    from clinical_asr.engines.riva_server import Identity

    cert, key = certificate(tmp_path)
    with serving(tls=Identity(cert.read_bytes(), key.read_bytes())) as server:
        address = f"127.0.0.1:{server.port}"
        with pytest.raises(ServiceError, match="TLS"):
            connect(address, attempts=1)
        with pytest.raises(ServiceError, match="certificate is not trusted"):
            connect(address, attempts=1, tls=True)
        assert connect(address, tls=True, ca=cert.read_bytes()).name == "parrot"
    with serving() as server, pytest.raises(ServiceError, match="TLS"):
        connect(f"127.0.0.1:{server.port}", attempts=1, tls=True)


def test_the_token_opens_the_server_and_is_never_shown(clips: dict[str, Path]) -> None:
    with serving(token="correct horse battery staple") as server:
        address = f"127.0.0.1:{server.port}"
        with pytest.raises(ServiceError, match="401"):
            connect(address)
        engine = connect(address, key="correct horse battery staple")
        assert engine.transcribe({"a": clips["r0"]}) == {"a": "heard 3200"}
    assert "battery" not in repr(engine.endpoint)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"address": "asr.example:443"}, "only over TLS"),
        ({"address": "grpc.nvcf.nvidia.com:443", "tls": True, "function_id": "f"}, "NVIDIA_API_KEY"),
        ({"address": "grpc.nvcf.nvidia.com:443", "tls": True, "key": KEY}, "ASR_NVCF_FUNCTION_ID"),
        ({"address": "nowhere"}, "no address"),
        ({"address": "127.0.0.1:1", "concurrency": 0}, "more than 0"),
    ],
)
def test_endpoints_that_must_not_be_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        Endpoint(**fields)
    assert KEY not in str(caught.value)


def test_another_machine_must_be_allowed_before_anything_is_opened() -> None:
    end = Endpoint(address="grpc.nvcf.nvidia.com:443", tls=True, key=KEY, function_id="f")
    for allowed in (frozenset(), frozenset({Service.ENDPOINT})):
        with pytest.raises(FlywheelError, match="--allow nvcf"):
            RivaTranscriber(end, Egress(allowed), lambda path, digest: None)


def test_only_clips_with_a_receipt_leave_and_each_is_written_down(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receipt(path: Path, digest: str) -> Receipt:
        return Receipt(
            audio_filepath=path.name, audio_digest=digest, text="t", voice_id="v", noise_level="clean", duration=0.2
        )

    true = {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in clips.items()}
    write_rows(tmp_path / "receipts.jsonl", [receipt(clips["r0"], true["r0"]), receipt(clips["r1"], "0" * 64)])
    for module in ("engines.riva_asr", "egress"):  # this machine plays another one
        monkeypatch.setattr(f"clinical_asr.{module}.is_local", lambda host: False)
    log = tmp_path / "egress.jsonl"
    with faulty() as (service, address):
        monkeypatch.setattr(riva_asr, "_connect", lambda end, real=riva_asr._connect: real(_plain(end)))
        end = Endpoint(address=address, tls=True, key=KEY)
        with RivaTranscriber(end, Egress(frozenset({Service.ENDPOINT}), log), ProvedSynthetic().check) as engine:
            heard = engine.transcribe({key: clips[key] for key in ("r0", "r1", "r2")})
        assert service.asked == [true["r0"]]
        assert service.metadata["authorization"] == f"Bearer {KEY}"
    assert isinstance(heard["r0"], str)
    assert isinstance(heard["r1"], AudioError) and "is not the clip" in str(heard["r1"])
    assert isinstance(heard["r2"], AudioError) and "no synthesis receipt" in str(heard["r2"])
    (sending,) = read_rows(log, Sending)
    assert (sending.subject, sending.service, sending.bytes) == ("r0", Service.ENDPOINT, clips["r0"].stat().st_size)
    assert KEY not in log.read_text()


def _plain(end: Endpoint) -> Any:
    """The same endpoint without TLS, for a loopback server that plays another machine."""

    class Plain:
        address, tls, ca = end.address, False, None

    return Plain


def test_the_command_end_to_end(clips: dict[str, Path], tmp_path: Path) -> None:
    manifest, output = tmp_path / "manifest.jsonl", tmp_path / "served.jsonl"
    write_rows(manifest, manifest_rows(clips))
    fixed = read_rows(manifest, Utterance)
    write_rows(manifest, [_measured(row, clips[row.id]) for row in fixed])
    with serving(Parrot()) as server:
        command = ["hypotheses", "--manifest", str(manifest), "--endpoint", f"127.0.0.1:{server.port}", "--output"]
        first = CliRunner().invoke(app, [*command, str(output)])
        assert first.exit_code == 0, first.output
        again = CliRunner().invoke(app, [*command, str(output)])
        assert "complete already" in again.output
    rows = read_rows(output, Hypothesis)
    assert len(rows) == 8 and {row.model for row in rows} == {"parrot"}
    assert {entry.outcome for entry in read_rows(tmp_path / "served.ledger.jsonl", LedgerEntry)} == {Outcome.SCORED}


def _measured(row: Utterance, path: Path) -> Utterance:
    import msgspec
    import soundfile

    return msgspec.structs.replace(row, duration=soundfile.info(path).duration)


@pytest.mark.parametrize("words", [[], ["--model", "mini", "--endpoint", "127.0.0.1:1"]])
def test_a_model_or_a_service_must_be_named_not_both(words: list[str], tmp_path: Path) -> None:
    command = ["hypotheses", "--manifest", str(tmp_path / "m.jsonl"), "--output", str(tmp_path / "o.jsonl"), *words]
    result = CliRunner(env={"ASR_ENDPOINT": ""}).invoke(app, command)
    assert result.exit_code == 1 and isinstance(result.exception, ConfigError)
    assert "--model and --endpoint" in str(result.exception)


def test_the_hosted_service_is_asked_for_by_its_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from clinical_asr.cli.endpoints import endpoint

    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    monkeypatch.delenv("ASR_ENDPOINT", raising=False)
    monkeypatch.delenv("ASR_NVCF_FUNCTION_ID", raising=False)
    default = endpoint("nvcf")
    assert default.function_id.startswith("d3fe9151") and default.language == "en-US" and default.tls
    monkeypatch.setenv("ASR_NVCF_FUNCTION_ID", WHISPER_FUNCTION)
    assert endpoint("nvcf").language == "en" and KEY not in repr(endpoint("nvcf"))
    monkeypatch.setenv("ASR_ENDPOINT", "127.0.0.1:50051")
    assert endpoint().address == "127.0.0.1:50051" and not endpoint().function_id and not endpoint().tls
