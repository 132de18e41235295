"""How many clients a served model holds: requests, failures, latency and throughput.

    python benchmarks/serving.py --model mini --clients 16 --seconds 60

Each client is Riva's own, on a connection of its own, and asks again as soon as it is answered; half of them stream.
They run four to a process, beside the server's. The sentences are spoken by eSpeak NG. Latency counts from the first
byte sent to the last result; throughput is audio seconds recognised per second of wall time. Processor time is that of
the server alone.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SENTENCES = (
    "the patient was given a glass of water before surgery",
    "please write down the morning report and leave it at the desk",
    "good morning",
    "the nurse asked for the chart of the patient in the second room because the family wanted to know when he leaves",
)
VOICES = ("en-us+f3-r165-p50", "en-gb+m3-r150-p45")


def recordings() -> list[bytes]:
    """Sentences in voices, as WAV files in memory; 1 to 7 s."""
    import soundfile

    from clinical_asr.engines.espeak import Espeak, Voice

    made = []
    for text in SENTENCES:
        for voice in VOICES:
            buffer = io.BytesIO()
            soundfile.write(buffer, Espeak().synthesise(text, Voice.parse(voice)), 16_000, "PCM_16", format="WAV")
            made.append(buffer.getvalue())
    return made


Request = tuple[float, float, float, str]
"""When it began on the machine's clock, seconds of audio, latency in seconds, fault."""


def some_clients(numbers: list[int], port: int, audio: list[bytes], seconds: float, answers: Any) -> None:
    """Put every request of these clients."""
    with ThreadPoolExecutor(len(numbers)) as threads:
        asked = threads.map(lambda number: one_client(number, port, audio, seconds), numbers)
        answers.put([request for requests in asked for request in requests])


def one_client(number: int, port: int, audio: list[bytes], seconds: float) -> list[Request]:
    """Ask until the time is over."""
    import grpc
    import riva.client

    asr = riva.client.ASRService(riva.client.Auth(uri=f"127.0.0.1:{port}"))
    config = riva.client.RecognitionConfig(language_code="en-US", max_alternatives=1)
    streaming = riva.client.StreamingRecognitionConfig(config=config)
    end = time.monotonic() + seconds
    asked: list[Request] = []
    while time.monotonic() < end:
        content = audio[(number + len(asked)) % len(audio)]
        began, fault = time.monotonic(), ""
        try:
            if number % 2:
                pieces = [content[at : at + 3200] for at in range(0, len(content), 3200)]
                if not list(asr.streaming_response_generator(pieces, streaming)):
                    fault = "no result"
            else:
                asr.offline_recognize(content, config)
        except grpc.RpcError as error:
            fault = f"{error.code().name}: {error.details()}"
        asked.append((began, (len(content) - 44) / 32_000, time.monotonic() - began, fault))
    return asked


def load(port: int, clients: int, seconds: float, audio: list[bytes]) -> list[Request]:
    """Every request of every client."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    groups = [list(range(clients))[start : start + 4] for start in range(0, clients, 4)]
    processes = [context.Process(target=some_clients, args=(group, port, audio, seconds, answers)) for group in groups]
    for process in processes:
        process.start()
    found = [request for _ in processes for request in answers.get(timeout=seconds + 120)]
    for process in processes:
        process.join()
    return found


def summary(requests: list[Request], cpu: float) -> dict[str, Any]:
    """The numbers of a run; its wall time is from the first question to the last answer."""
    waits = sorted(latency for _, _, latency, _ in requests)
    heard = sum(audio for _, audio, _, fault in requests if not fault)
    wall = max(began + latency for began, _, latency, _ in requests) - min(began for began, *_ in requests)
    return {
        "requests": len(requests), "failed": sum(bool(fault) for *_, fault in requests),
        "faults": sorted({fault for *_, fault in requests if fault})[:5],
        "p50_ms": round(1000 * waits[len(waits) // 2]), "p95_ms": round(1000 * waits[int(len(waits) * 0.95)]),
        "longest_ms": round(1000 * waits[-1]), "audio_s_per_s": round(heard / wall, 1),
        "audio_s_per_cpu_s": round(heard / cpu, 1), "wall_s": round(wall, 1),
    }  # fmt: skip


def main() -> int:
    """Serve in this process, ask from others, print one JSON document; exit 1 if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--max-batch", type=int, default=8)
    given = parser.parse_args()

    from clinical_asr.cli.serve import load_model
    from clinical_asr.engines.riva_server import Server, ServingConfig

    recognise, served = load_model(given.model, ("en-US",), "auto")
    audio = recordings()
    with Server(recognise, served, ServingConfig(port=0, max_batch=given.max_batch)) as server:
        cpu = time.process_time()
        requests = load(server.port, given.clients, given.seconds, audio)
        cpu = time.process_time() - cpu
    numbers = summary(requests, cpu)
    machine = {"cores": os.cpu_count(), "load_1m": round(os.getloadavg()[0], 1)}
    print(json.dumps({"model": given.model, "clients": given.clients, **numbers, **machine}, indent=1))
    return 1 if numbers["failed"] else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    sys.exit(main())
