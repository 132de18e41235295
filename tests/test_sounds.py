"""The commands that say how a term sounds, as a person types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clinical_asr.jsonl import read_rows
from clinical_asr.records import Pronunciation
from test_merriam_webster import KEY, Dictionary, server

pytest.importorskip("espeakng_loader")
__all__ = ["server"]


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run([sys.executable, "-m", "clinical_asr", *words], cwd=folder, env=env, capture_output=True,
                          text=True, timeout=60)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ("heparin", "femora", "pantoprazole", "strange")
    (tmp_path / "t.csv").write_text("term,entity_category\n" + "".join(f"{name},drug\n" for name in names))
    (tmp_path / "o.csv").write_text(
        "\ufeffterm,ipa,verified_by,verified_at,notes\nFEMORA,ˈfɛmɚɹə,A,2026-01-02,\n", encoding="utf-8"
    )
    return tmp_path


def test_the_chain_from_the_shell(folder: Path, server: Dictionary) -> None:
    asked = ("pronunciations", "--terms", "t.csv", "--output", "p.jsonl", "--overrides", "o.csv", "--merriam-webster",
             "--allow", "merriam-webster", "--cache", "kept")  # fmt: skip
    keys = {"MERRIAM_WEBSTER_API_KEY": KEY, "MERRIAM_WEBSTER_ADDRESS": server.address}
    for _ in range(2):
        done = run(folder, *asked, **keys)
        assert done.returncode == 0, done.stderr
    said = {row.term: (row.ipa_source.value, row.ipa) for row in read_rows(folder / "p.jsonl", Pronunciation)}
    assert said == {
        "heparin": ("merriam-webster", "ˈhɛpəɹən"),
        "femora": ("override", "ˈfɛmɚɹə"),
        "pantoprazole": ("g2p", ""),
        "strange": ("g2p", ""),
    }
    assert server.asked == ["heparin", "pantoprazole", "strange"]  # once each, and the override's never
    assert done.stdout.startswith("this run may send merriam-webster: single terms")
    assert "pˌæntoʊˈpɹeɪzoʊl" in done.stdout and "no symbol of the alphabet" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert all(KEY.encode() not in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_an_override_the_engine_cannot_say_is_refused(folder: Path) -> None:
    (folder / "o.csv").write_text(
        "term,ipa,verified_by,verified_at,notes\nheparin,ˈhɛpəʘɪn,A,2026,\n", encoding="utf-8"
    )
    done = run(folder, "pronunciations", "--terms", "t.csv", "--output", "p.jsonl", "--overrides", "o.csv")
    assert done.returncode == 2 and "'ʘ' at character 6" in done.stderr and not (folder / "p.jsonl").exists()


def test_say_shows_what_is_heard(folder: Path) -> None:
    plain = run(folder, "say", "pantoprazole", "--output", "plain.wav")
    asked = run(folder, "say", "pantoprazole", "--ipa", "pænˈtoʊpɹəˌzoʊl", "--output", "asked.wav")
    assert "--ipa pˌæntoʊˈpɹeɪzoʊl" in plain.stdout
    assert "asked for pænˈtoʊpɹəˌzoʊl, said pæntˈoʊpɹəzˌoʊl" in asked.stdout
    assert (folder / "plain.wav").read_bytes() != (folder / "asked.wav").read_bytes()
    wrong = run(folder, "say", "heparin", "--ipa", "heparin", "--output", "x.wav")
    assert wrong.returncode == 2 and "write ɹ" in wrong.stderr and not (folder / "x.wav").exists()
