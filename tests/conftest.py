"""Shared by all tests: a tiny real NeMo model and recordings it can be trained on, made once per session."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from commands import Run
from tiny_model import SENTENCES, make_tiny_model, write_tones


@pytest.fixture(scope="session", autouse=True)
def _one_thread_each() -> Iterator[None]:
    """Several test processes on few cores: torch threads that wait for each other are slower than one."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    yield


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heard() -> None:
    """In the background (``nohup make test &``) SIGINT and SIGHUP are ignored, and every child inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def one_thread() -> None:
    """For fixtures that import torch themselves."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_nemo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FastConformer-TDT of 2 layers with random weights, in a ``.nemo`` that stock NeMo wrote."""
    pytest.importorskip("nemo")
    one_thread()
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.nemo")


@pytest.fixture(scope="session")
def tiny_ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same encoder with a CTC head."""
    pytest.importorskip("nemo")
    one_thread()
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny-ctc.nemo", "ctc")


@pytest.fixture(scope="session")
def tiny_rnnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same encoder with a plain RNN-T head."""
    pytest.importorskip("nemo")
    one_thread()
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny-rnnt.nemo", "rnnt")


@pytest.fixture(scope="session")
def tiny_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sentences spelled in tones, with ids."""
    return write_tones(tmp_path_factory.mktemp("tones"), SENTENCES[:12])


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    with sync_api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = next(filter(None, map(shutil.which, BROWSERS)), None) or (own if Path(own).exists() else None)
        if not found:
            pytest.skip(f"needs a Chromium: one of {', '.join(BROWSERS[:4])}, or `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command as a person types it: exit code, what it says, what it complains about."""
    from clinical_asr.cli import main

    def typed(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["clinical-asr", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return typed
