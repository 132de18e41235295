"""What one client can take from a server: memory, a place among the streams, a processor's time. Each has an end."""

from __future__ import annotations

import io
import queue
import re
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("riva.client")

import grpc
import riva.client
from riva.client.proto import riva_asr_pb2

from clinical_asr.engines.riva_server.asked import Refused
from clinical_asr.engines.riva_server.incoming import LONGEST_HEADER, decode
from clinical_asr.engines.riva_server.reader import Reader
from clinical_asr.engines.riva_server.stream import Stream
from clinical_asr.errors import AudioError
from served import audio, client, config, pieces, serving, streaming, text_of

PCM = riva.client.AudioEncoding.LINEAR_PCM
FLAC = riva.client.AudioEncoding.FLAC


def status(call: Callable[[], Any]) -> tuple[str, str]:
    """Code and details of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


# --- memory -----------------------------------------------------------------------------------------------------------


def silence(seconds: float, rate: int = 16_000, channels: int = 1) -> bytes:
    """A FLAC of a thousandth of what it holds."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((round(seconds * rate), channels), np.int16), rate, format="FLAC")
    return buffer.getvalue()


def declaring(content: bytes, samples: int) -> bytes:
    """The same FLAC, with another number of samples in its header."""
    told = int.from_bytes(content[18:26], "big") >> 36 << 36 | samples
    return content[:18] + told.to_bytes(8, "big") + content[26:]


def peak_of(call: Callable[[], Any]) -> float:
    """MiB that ``call`` allocates at most; NumPy's arrays count."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


LONG = silence(600)  # 37 MiB as float32


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (LONG, "longer than 300 s .*--max-audio.*split it"),
        (silence(200, channels=8), "8 channels"),
        (silence(100, rate=192_000), "more than 300 s at 48000 Hz"),
        (declaring(silence(1), 2**36 - 1), "longer than 300 s"),
        (declaring(silence(1), 0), "does not say how long it is"),
    ],
    ids=["long", "channels", "fast", "lying", "untold"],
)
def test_a_small_message_of_many_samples_is_refused_before_it_is_decoded(content: bytes, why: str) -> None:
    def refused() -> None:
        with pytest.raises(AudioError, match=why):
            decode(content, "FLAC", 0, 300.0)

    assert len(content) < 2**20 and peak_of(refused) < 2


def test_raw_samples_are_counted_before_they_are_resampled() -> None:
    content = bytes(8_000 * 600)

    def refused() -> None:
        with pytest.raises(AudioError, match="longer than 300 s"):
            decode(content, "MULAW", 8_000, 300.0)

    assert peak_of(refused) < 2


def test_as_much_as_is_allowed_is_heard() -> None:
    assert len(decode(silence(2), "FLAC", 0, 2.0)) == 32_000
    assert len(decode(silence(0.25, rate=192_000), "FLAC", 0, 1.0)) == 4_000
    assert len(decode(bytes(16_000), "MULAW", 8_000, 2.0)) == 32_000


def test_both_calls_of_a_server_refuse_a_small_message_of_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda file, *a, **k: decoded.append(1) or read(file, *a, **k))
    with serving() as server:
        asr = client(server)
        asked = {"encoding": FLAC}
        for call in (
            lambda: asr.offline_recognize(LONG, config(**asked)),
            lambda: list(asr.streaming_response_generator(pieces(LONG), streaming(**asked))),
        ):
            code, details = status(call)
            assert code == "INVALID_ARGUMENT" and "longer than 300 s" in details and not decoded
        assert text_of(asr.offline_recognize(silence(1), config(**asked))) == "heard 16000"


# --- a place among the streams ----------------------------------------------------------------------------------------


def message(content: bytes = b"") -> Any:
    return riva_asr_pb2.StreamingRecognizeRequest(audio_content=content)


def first(**fields: Any) -> Any:
    asked = streaming(encoding=PCM, sample_rate_hertz=16_000, **fields)
    return riva_asr_pb2.StreamingRecognizeRequest(streaming_config=asked)


def dripping(content: bytes, every: float) -> Iterator[Any]:
    """A client that never ends, as long as the test may take."""
    yield first()
    until = time.monotonic() + 15
    while time.monotonic() < until:
        time.sleep(every)
        yield message(content)


@pytest.mark.parametrize(
    ("content", "every", "why"),
    [(b"", 0.1, "no audio for 0.5 s .*--idle"), (b"", 0.0, "no audio"), (b"a", 0.1, "longer than 1 s .*--max-stream")],
    ids=["empty", "flood", "a byte"],
)
def test_nobody_holds_a_place_without_speaking(content: bytes, every: float, why: str) -> None:
    with serving(max_requests=2, idle=0.5, max_stream=1.0) as server, ThreadPoolExecutor(2) as threads:
        stub, began = client(server).stub, time.monotonic()
        held = [
            threads.submit(status, lambda: list(stub.StreamingRecognize(dripping(content, every)))) for _ in range(2)
        ]
        for code, details in (call.result() for call in held):
            assert code == "DEADLINE_EXCEEDED" and re.search(why, details), details
        assert time.monotonic() - began < 8
        assert text_of(client(server).offline_recognize(audio(), config())) == "heard 16000"


def test_a_stream_of_the_longest_length_is_heard_as_it_is_spoken() -> None:
    def spoken() -> Iterator[Any]:
        yield first()
        for piece in pieces(audio(2.0)[44:], 6400):
            time.sleep(0.2)
            yield message()  # harms nobody
            yield message(piece)

    with serving(idle=2.0, max_stream=2.0) as server:
        results = list(client(server).stub.StreamingRecognize(spoken()))
    assert [text_of(result) for result in results] == ["heard 32000"]


class Context:
    """Of a call that goes on."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return True


def test_the_work_between_messages_is_not_the_clients_silence() -> None:
    reader = Reader(iter([first(), *(message(b"ab") for _ in range(6))]), Context(), 0.5, 0.1)
    assert reader.first() is not None
    for _ in range(6):
        time.sleep(0.2)
        assert reader.next().audio_content == b"ab"
    assert reader.next() is None


def test_a_client_whose_time_is_up_is_told_which() -> None:
    never, late = queue.Queue[Any](), queue.Queue[Any]()
    with pytest.raises(Refused, match=r"no audio for 0.2 s \(the server's --idle\)"):
        Reader(iter(never.get, None), Context(), 0.2, 0.2).next()
    reader = Reader(iter(late.get, None), Context(), 1.0, 0.1)
    threading.Timer(0.5, late.put, [message(b"ab")]).start()
    assert reader.next() is not None
    with pytest.raises(Refused, match=r"longer than 0.1 s \(the server's --max-stream\)"):
        reader.next()
    never.put(None), late.put(None)


# --- a processor's time -----------------------------------------------------------------------------------------------

RIFF = b"RIFF\0\0\0\0WAVE"
EMPTY = b"junk\0\0\0\0"


def format_chunk(rate: int = 16_000) -> bytes:
    return b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate & 0xFFFFFFFF, 2, 16)


def test_a_header_in_small_messages_is_read_once() -> None:
    stream, began = Stream("", 0), time.process_time()
    stream.add(RIFF)
    for _ in range(2**13):
        stream.add(EMPTY)
    assert time.process_time() - began < 1  # about 0.02 s; 4 s when each message began from the beginning


@pytest.mark.parametrize("size", [1, 2, 7, 5000])
def test_a_header_in_pieces_says_what_it_says_at_once(size: int) -> None:
    body = audio()[44:]
    content = RIFF + EMPTY + b"odd \1\0\0\0x\0" + format_chunk() + EMPTY + b"data" + struct.pack("<I", len(body)) + body
    stream = Stream("", 0)
    for piece in pieces(content, size):
        stream.add(piece)
    assert np.array_equal(stream.speech(), decode(content, "", 0)) and stream.seconds == 1.0


def test_a_header_without_an_end_is_refused() -> None:
    endless = RIFF + format_chunk() + EMPTY * (LONGEST_HEADER // len(EMPTY))
    for read in (lambda: Stream("", 0).add(endless), lambda: decode(endless, "", 0)):
        with pytest.raises(AudioError, match="no samples within 1,048,576 bytes; send it without pictures"):
            read()
    with serving() as server:
        asked = riva_asr_pb2.StreamingRecognizeRequest(streaming_config=streaming())
        sent = iter([asked, *map(message, pieces(endless, 2**16))])
        code, details = status(lambda: list(client(server).stub.StreamingRecognize(sent)))
        assert code == "INVALID_ARGUMENT" and "no samples within" in details


def test_a_header_with_a_picture_is_heard() -> None:
    body = audio()[44:]
    picture = b"id3 " + struct.pack("<I", 300_000) + bytes(300_000)
    content = RIFF + picture + format_chunk() + b"data" + struct.pack("<I", len(body)) + body
    with serving() as server:
        results = list(client(server).streaming_response_generator(pieces(content), streaming()))
    assert [text_of(result) for result in results] == ["heard 16000"]


@pytest.mark.parametrize("rate", [0, 2**32 - 1])
def test_a_rate_that_makes_every_stream_short_is_refused(rate: int) -> None:
    with pytest.raises(AudioError, match=f"has {rate} Hz; stream 8000 to 48000 Hz"):
        Stream("", 0).add(RIFF + format_chunk(rate) + b"data\0\0\0\0")


def test_a_part_is_never_longer_than_a_chunk_however_much_came_at_once() -> None:
    stream = Stream("LINEAR_PCM", 16_000)
    noise = np.random.default_rng(0).integers(-900, 900, 100 * 16_000, dtype=np.int16)
    stream.add(noise.tobytes())
    lengths = []
    while stream.seconds > 30:
        lengths.append(len(stream.cut(30.0)) / 16_000)
    assert max(lengths) <= 30 and sum(lengths) + stream.seconds == pytest.approx(100)
