"""The offline build opens no internet socket, in its own process or in those it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader")
WATCH = """
import os, socket, sys
def watch(event, args):
    inet = event == "socket.__new__" and args[1] in (socket.AF_INET, socket.AF_INET6)
    if inet or event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "http.client.connect"):
        with open(os.environ["SOCKETS_SEEN"], "a") as seen:
            print(event, file=seen)
        raise RuntimeError("no sockets here: " + event)
sys.addaudithook(watch)
"""


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """An environment in which every Python process reports and refuses internet sockets."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    path = os.pathsep.join(filter(None, (str(tmp_path / "watch"), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "SOCKETS_SEEN": str(tmp_path / "seen"), "MERRIAM_WEBSTER_API_KEY": "k"}


def run(watched: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], env=watched, capture_output=True, text=True, timeout=120)


def test_the_watch_sees_sockets_in_children_too(watched: dict[str, str]) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import socket; socket.socket()'])"
    run(watched, "-c", child)
    assert Path(watched["SOCKETS_SEEN"]).read_text() == "socket.__new__\n"


def test_the_offline_build_opens_no_socket(watched: dict[str, str], tmp_path: Path) -> None:
    terms, fixes = tmp_path / "terms.csv", tmp_path / "pronunciation_overrides.csv"
    terms.write_text("term,entity_category\npantoprazole,drug\nheparin,drug\n", encoding="utf-8")
    fixes.write_text(
        "term,ipa,verified_by,verified_at,notes\nheparin,ˈhɛpəɹɪn,A. Person,2026-01-02,\n", encoding="utf-8"
    )
    sentences, said, folder = (str(tmp_path / name) for name in ("sentences.jsonl", "said.jsonl", "benchmark"))
    for words in (
        ("terms", "check", str(terms)),
        ("sentences", "--terms", str(terms), "--output", sentences, "--contexts-per-term", "3"),
        ("pronunciations", "--terms", str(terms), "--output", said, "--overrides", str(fixes)),
        ("say", "heparin", "--output", str(tmp_path / "heparin.wav")),
        ("audio", "--sentences", sentences, "--pronunciations", said, "--output-folder", folder, "--waive-audition",
         "a test that listens to nothing at all"),
        ("manifest", "check", f"{folder}/manifest.jsonl"),
    ):  # fmt: skip
        done = run(watched, "-m", "clinical_asr", *words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert not Path(watched["SOCKETS_SEEN"]).exists()
    assert len(list(Path(folder).rglob("*.wav"))) >= 12


def test_the_dictionary_is_not_asked_without_leave(watched: dict[str, str], tmp_path: Path) -> None:
    terms = tmp_path / "terms.csv"
    terms.write_text("term,entity_category\nheparin,drug\n", encoding="utf-8")
    done = run(watched, "-m", "clinical_asr", "pronunciations", "--terms", str(terms), "--output",
               str(tmp_path / "said.jsonl"), "--merriam-webster")  # fmt: skip
    assert done.returncode == 2 and "--allow merriam-webster" in done.stderr
    assert not Path(watched["SOCKETS_SEEN"]).exists() and not (tmp_path / "said.jsonl").exists()
