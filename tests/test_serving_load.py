"""A few seconds of the benchmark's load on a real (tiny) model, while one more client dies again and again."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("riva.client")
pytest.importorskip("nemo")
HERE = Path(__file__).parents[1]
sys.path.insert(0, str(HERE / "benchmarks"))

import serving as benchmark  # noqa: E402

from patience import until  # noqa: E402
from served import audio, client, config, serving, text_of  # noqa: E402

pytestmark = pytest.mark.nemo

DYING = """
import sys, time, riva.client
asr = riva.client.ASRService(riva.client.Auth(uri=f"127.0.0.1:{sys.argv[1]}"))
config = riva.client.RecognitionConfig(encoding=1, sample_rate_hertz=16000, language_code="en-US")
def audio():
    yield bytes(64000)
    print("sent", flush=True)
    time.sleep(60)
list(asr.streaming_response_generator(audio(), riva.client.StreamingRecognitionConfig(config=config)))
"""


def test_clients_that_die_harm_nobody(tiny_nemo: Path) -> None:
    from clinical_asr.cli.endpoints import recogniser

    recordings = [audio(seconds, subtype="PCM_16") for seconds in (0.5, 1.0, 2.0)]
    lines: list[dict[str, Any]] = []
    with serving(recogniser(tiny_nemo, "tiny"), lines=lines, max_requests=9) as server:
        killer = threading.Thread(target=_kill_mid_stream, args=(server.port,))
        killer.start()
        requests = benchmark.load(server.port, 8, 4.0, recordings)
        killer.join()
        assert text_of(client(server).offline_recognize(recordings[0], config())) is not None
        until(lambda: server.log.codes["CANCELLED"] >= 2)
    numbers = benchmark.summary(requests, cpu=1.0)
    assert numbers["requests"] >= 16 and numbers["failed"] == 0, numbers["faults"]
    assert server.log.codes["CANCELLED"] == 2
    assert max(line["batch"] for line in lines) > 1, "concurrent requests were never recognised together"


def _kill_mid_stream(port: int) -> None:
    """Two clients, one after the other, killed without a word while they stream."""
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", DYING, str(port)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"sent\n"
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_the_command_serves_and_stops_gracefully(tiny_nemo: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    command = [
        sys.executable,
        "-m",
        "clinical_asr",
        "serve",
        "--model",
        str(tiny_nemo),
        "--port",
        "0",
        "--log",
        str(log),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    greeting = process.stdout.readline()
    assert greeting.startswith("serving tiny "), greeting
    port = greeting.split(" (")[0].rsplit(":", 1)[1]
    server = type("Running", (), {"port": port})
    text = text_of(client(server).offline_recognize(audio(), config()))
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "served: 1 OK" in rest
    assert '"code":"OK"' in log.read_text() and (not text or text not in log.read_text())
