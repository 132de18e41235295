"""A chat endpoint on 127.0.0.1 that behaves as a test tells it: well, busy, broken, indiscreet or not at all."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = "Please give {term} slowly this evening and check the pressure twice before the next round, case {n}."
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass
class Heard:
    """One request as it arrived."""

    path: str
    key: str
    body: dict[str, Any]

    @property
    def term(self) -> str:
        """The term that the prompt asks for."""
        found = re.search(r"letter by letter, this \w+: (.*)", self.body["messages"][1]["content"])
        assert found is not None
        return found[1]


@dataclass
class Answer:
    """What to send back; ``wait`` seconds are slept first, ``cut`` ends the connection after so many bytes."""

    content: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    cut: int | None = None


def says(text: str) -> Answer:
    """A completion with this text."""
    return Answer(json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode())


def good(heard: Heard, n: int) -> Answer:
    """A sentence that can be used, another one each time."""
    number = " ".join(WORDS[int(digit)] for digit in str(n))
    return says(GOOD.format(term=heard.term, n=number))


@dataclass
class ChatServer:
    """Where it listens and what it has heard."""

    url: str
    heard: list[Heard]


@contextmanager
def chat_server(answer: Callable[[Heard, int], Answer]) -> Iterator[ChatServer]:
    """Serve ``answer(request, its number from 0)`` until the block ends."""
    heard: list[Heard] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = Heard(self.path, self.headers.get("Authorization", ""), body)
            heard.append(request)
            told = answer(request, len(heard) - 1)
            time.sleep(told.wait)
            self.send_response(told.status)
            for name, value in {**told.headers, "Content-Length": str(len(told.content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told.content[: told.cut])

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that has given up is no news; told on stderr it would stand among another test's lines."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield ChatServer(f"http://127.0.0.1:{server.server_port}/v1", heard)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
