"""Downloads from a local server that speaks the hub's API; no network."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clinical_asr.bases import inspect_base, resolve_base
from clinical_asr.engines.hub import download
from clinical_asr.errors import ModelError
from test_bases import write_nemo

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODELS: dict[str, dict[str, bytes]] = {}
REQUESTS: list[str] = []


class Hub(BaseHTTPRequestHandler):
    """``/api/models/<id>[/revision/<sha>]`` and ``/<id>/resolve/<sha>/<file>``, as the public hub answers."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        REQUESTS.append(f"{self.command} {self.path}")
        status, body, headers = self._find(self.path.split("?")[0].strip("/").split("/"))
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _find(self, parts: list[str]) -> tuple[int, bytes, dict[str, str]]:
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            siblings = [{"rfilename": file} for file in MODELS.get(name, {})]
            info = {"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
            return (200, json.dumps(info).encode(), {}) if name in MODELS else (404, b"{}", _NOT_FOUND)
        content = MODELS.get("/".join(parts[:2]), {}).get(parts[-1])
        if content is None or parts[2] != "resolve":
            return 404, b"", _NOT_FOUND
        return 200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}


_NOT_FOUND = {"X-Error-Code": "RepoNotFound"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    MODELS.clear()
    REQUESTS.clear()
    content = write_nemo(tmp_path / "served.nemo").read_bytes()
    MODELS["org/one"] = {"README.md": b"a card", "one.nemo": content}
    MODELS["org/none"] = {"README.md": b"a card"}
    MODELS["org/two"] = {"a.nemo": content, "b.nemo": content}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_one_nemo_file_is_fetched_once(hub: str, tmp_path: Path) -> None:
    path = download("org/one", endpoint=hub, cache=tmp_path / "cache")
    assert path.read_bytes() == MODELS["org/one"]["one.nemo"]
    assert inspect_base(path).decoder == "tdt"
    REQUESTS.clear()
    assert download("org/one", endpoint=hub, cache=tmp_path / "cache") == path
    assert not [request for request in REQUESTS if request.startswith("GET") and "resolve" in request]


def test_it_is_what_a_hub_id_resolves_to(hub: str, tmp_path: Path) -> None:
    path = resolve_base("org/one", lambda name: download(name, endpoint=hub, cache=tmp_path / "cache"))
    assert path.name == "one.nemo"


@pytest.mark.parametrize(
    ("name", "why"),
    [("org/none", "but none"), ("org/two", r"but a\.nemo, b\.nemo"), ("org/gone", "no such public model")],
)
def test_models_that_cannot_be_a_base_are_one_line(hub: str, tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ModelError, match=why) as error:
        download(name, endpoint=hub, cache=tmp_path / "cache")
    assert "\n" not in str(error.value) and str(error.value).startswith(name)


def test_without_network_the_mend_is_to_pass_a_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pass its path") as error:
        download("org/one", endpoint="http://127.0.0.1:9", cache=tmp_path / "cache")
    assert "\n" not in str(error.value)
