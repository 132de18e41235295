"""Does anything pile up? ``serve`` under mixed load, and cycles of a tiny model one after the other in one process.

    python benchmarks/soak.py serve --model mini --minutes 20
    python benchmarks/soak.py cycles --count 50

The server is a process of its own and is measured from outside, every ``EVERY`` seconds: resident memory, threads,
descriptors. Its clients ask for whole recordings, stream, open a connection for each question, leave in the middle of
a stream, and send what is no audio; each of them waits ``--pause`` seconds between two questions. Cycles are those of
the command line, in this process, where whatever a cycle does not give back stays; each has a folder of its own, and
temporary files go to a folder that is looked at. The first third is not judged: caches and pools fill up in it. A leak
goes on: what is told is the median of the second and of the last third. Exit code 1 if memory grew between them by more
than ``GROWTH``, anything else by more than ``SLACK``, or a client got another answer than it should have.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
EVERY = 5.0  # seconds between two looks at the server
GROWTH = 0.05  # of the memory of the second third, above which it is not called flat
SLACK = 2  # threads, descriptors, children or files that may come and go
Sample = dict[str, float]


def held(pid: int | str = "self") -> Sample:
    """What a process holds now: resident MiB, threads, descriptors, children."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return {
        "memory_mib": int(status["VmRSS"].split()[0]) / 1024, "threads": int(status["Threads"]),
        "descriptors": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        "children": sum(map(len, children)),
    }  # fmt: skip


def grown(samples: list[Sample]) -> dict[str, Any]:
    """Each quantity's median in the second and the last third, its highest value, and the names of those that grew."""
    third = len(samples) // 3
    told: dict[str, Any] = {"samples": len(samples), "grew": []}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        before, after = median(values[third : 2 * third]), median(values[-third:])
        told[name] = {"first": round(values[0], 1), "second_third": round(before, 1), "last_third": round(after, 1),
                      "highest": round(max(values), 1)}  # fmt: skip
        allowed = GROWTH * before if name == "memory_mib" else SLACK
        told["grew"] += [name] if after > before + allowed else []
    return told


# --- serve ------------------------------------------------------------------------------------------------------------


@contextmanager
def server(model: str, log: Path) -> Iterator[tuple[int, str]]:
    """(process id, port) of ``clinical-asr serve``; ended as its user would end it."""
    command = [sys.executable, "-m", "clinical_asr", "serve", "--model", model, "--port", "0", "--log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    greeting = process.stdout.readline()
    if not greeting.startswith("serving "):
        raise SystemExit(f"the server did not begin: {greeting!r}")
    try:
        yield process.pid, greeting.split(" (")[0].rsplit(":", 1)[1]
    finally:
        process.terminate()
        print(process.communicate(timeout=120)[0].strip(), file=sys.stderr)


class Clients:
    """Kinds of clients; each call puts one question and returns what came of it, ``ok`` if that is as it should be."""

    def __init__(self, port: str, audio: list[bytes]) -> None:
        import riva.client

        self.riva, self.port, self.audio = riva.client, port, audio
        self.config = riva.client.RecognitionConfig(language_code="en-US", max_alternatives=1)
        self.stream = riva.client.StreamingRecognitionConfig(config=self.config, interim_results=True)

    def service(self) -> Any:
        return self.riva.ASRService(self.riva.Auth(uri=f"127.0.0.1:{self.port}"))

    def whole(self, asr: Any, draw: random.Random) -> str:
        return "ok" if asr.offline_recognize(draw.choice(self.audio), self.config).results else "no result"

    def pieces(self, asr: Any, draw: random.Random) -> str:
        content = draw.choice(self.audio)
        parts = [content[at : at + 3200] for at in range(0, len(content), 3200)]
        return "ok" if list(asr.streaming_response_generator(parts, self.stream)) else "no result"

    def connects_anew(self, _: Any, draw: random.Random) -> str:
        asr = self.service()
        try:
            return self.whole(asr, draw)
        finally:
            asr.auth.channel.close()

    def leaves(self, asr: Any, draw: random.Random) -> str:
        messages = self.riva.proto.riva_asr_pb2.StreamingRecognizeRequest
        content = draw.choice(self.audio)

        def half() -> Iterator[Any]:
            yield messages(streaming_config=self.stream)
            yield messages(audio_content=content[: len(content) // 2])
            time.sleep(1.0)

        call = asr.stub.StreamingRecognize(half(), metadata=asr.auth.get_auth_metadata())
        time.sleep(draw.uniform(0, 0.5))
        call.cancel()
        return "ok"

    def sends_rubbish(self, asr: Any, draw: random.Random) -> str:
        import grpc

        content = draw.choice(self.audio)
        wrong = draw.choice([b"", content[:-1000], draw.randbytes(5001), b"RIFF" + draw.randbytes(400), b"fLaC1234"])
        try:
            asr.offline_recognize(wrong, self.config)
        except grpc.RpcError as error:
            return "ok" if error.code() == grpc.StatusCode.INVALID_ARGUMENT else f"{error.code().name} for rubbish"
        return "rubbish was transcribed"


def ask(clients: Clients, kind: str, pause: float, end: float, seen: Counter[str]) -> None:
    """One client of one kind, until the time is over."""
    import grpc

    draw, asr, put = random.Random(kind), clients.service(), getattr(clients, kind)
    while time.monotonic() < end:
        try:
            came = put(asr, draw)
        except grpc.RpcError as error:
            came = f"{error.code().name}: {error.details()}"
        seen[f"{kind}: {came}"] += 1
        time.sleep(pause)


KINDS = ("whole", "pieces", "connects_anew", "leaves", "sends_rubbish")


def soak_server(given: argparse.Namespace) -> dict[str, Any]:
    """Questions of every kind for so many minutes, while the server is looked at."""
    from serving import recordings

    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, server(given.model, Path(folder, "log.jsonl")) as (pid, port):
        clients, end = Clients(port, recordings()), time.monotonic() + 60 * given.minutes
        asking = [threading.Thread(target=ask, args=(clients, kind, given.pause, end, seen)) for kind in KINDS]
        for thread in asking:
            thread.start()
        samples = []
        while time.monotonic() < end:
            samples.append(held(pid))
            time.sleep(EVERY)
        for thread in asking:
            thread.join()
    wrong = {what: count for what, count in seen.items() if not what.endswith(": ok")}
    return {"model": given.model, "minutes": given.minutes, "requests": sum(seen.values()),
            "by_kind": {kind: seen[f"{kind}: ok"] for kind in KINDS}, "wrong": wrong, **grown(samples)}  # fmt: skip


# --- cycles -----------------------------------------------------------------------------------------------------------

TERMS = ("cefazolin", "apixaban", "warfarin", "heparin", "tacrolimus", "amiodarone")


def material(folder: Path) -> list[str]:
    """A tiny base, a recipe of one epoch, six terms; the words of a cycle's command but for its folder."""
    from tiny_model import Shape, make_tiny_model

    base = make_tiny_model(folder / "tiny.nemo", shape=Shape(vocabulary=512))
    (folder / "tiny.yaml").write_text("epochs: 1\nprecision: 32-true\nbatch_size: 8\n")
    (folder / "terms.csv").write_text("term,entity_category\n" + "".join(f"{term},drug\n" for term in TERMS))
    small = "--min-rows 10 --guard-rows 6 --contexts-per-term 3 --voices-per-sentence 1 --noise-levels clean"
    return ["cycle", "--base", str(base), "--recipe", str(folder / "tiny.yaml"), "--terms", str(folder / "terms.csv"),
            *small.split(), "--waive-audition", "a soak test: there is nobody to listen"]  # fmt: skip


def turn(words: list[str], out: Path) -> tuple[int, list[str]]:
    """(exit code, names of the files) of one cycle of the command line, in this process."""
    from clinical_asr.cli import app

    try:
        app([*words, "--out", str(out)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def soak_cycles(given: argparse.Namespace) -> dict[str, Any]:
    """So many cycles in this process; after each one what it holds, and what lies in the folder of temporary files."""
    samples, codes, layouts = [], Counter[int](), Counter[tuple[str, ...]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        words = material(folder)
        for number in range(given.count):
            code, files = turn(words, folder / f"turn{number}")
            codes[code] += 1
            layouts[tuple(file for file in files if not file.endswith(".wav"))] += 1
            gc.collect()
            samples.append({**held(), "temporary_files": sum(1 for _ in (folder / "tmp").rglob("*"))})
            print(json.dumps({"cycle": number + 1, "exit": code, "files": len(files), **samples[-1]}), file=sys.stderr)
        tempfile.tempdir = None
    part = [file for layout in layouts for file in layout if file.endswith((".part", ".tmp"))]
    wrong = {"exit codes": dict(codes)} if len(codes) > 1 or 1 in codes or 2 in codes else {}
    wrong |= {"layouts": len(layouts)} if len(layouts) > 1 else {}
    return {"cycles": given.count, "exit_codes": dict(codes), "unfinished_files": part, "wrong": wrong,
            **grown(samples)}  # fmt: skip


def main() -> int:
    """Print one JSON document; exit 1 if something grew or went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True)
    serve = kinds.add_parser("serve")
    serve.add_argument("--model", default="mini")
    serve.add_argument("--minutes", type=float, default=20.0)
    serve.add_argument("--pause", type=float, default=0.3)
    serve.set_defaults(soak=soak_server)
    cycles = kinds.add_parser("cycles")
    cycles.add_argument("--count", type=int, default=50, help="6 or more")
    cycles.set_defaults(soak=soak_cycles)
    given = parser.parse_args()
    if getattr(given, "count", 6) < 6:
        parser.error("--count: thirds of fewer than 6 cycles say nothing")
    soak: Callable[[argparse.Namespace], dict[str, Any]] = given.soak
    found = soak(given)
    print(json.dumps(found, indent=1))
    return 1 if found["grew"] or found["wrong"] or found.get("unfinished_files") else 0


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "benchmarks")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
