"""A model whose file name is no UTF-8, as from a Latin-1 disk: it works, and its name is written with escapes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import board
from clinical_asr.bases import base_digest, mini_base
from clinical_asr.inspection import inspect_model
from clinical_asr.jsonl import write_json, write_rows
from commands import Run
from test_nothing_lost import tune  # noqa: F401 - a fixture

ODD = os.fsdecode(b"b\xe9se")
PLAIN = r"b\udce9se"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return Path(shutil.copy(mini_base(), tmp_path / f"{ODD}.nemo"))


@pytest.mark.nemo
def test_hypotheses_of_it(odd: Path, tiny_nemo: Path, tiny_manifest: Path, tmp_path: Path, run: Run) -> None:
    shutil.copy(tiny_nemo, odd)
    out = tmp_path / "o.jsonl"
    words = ["hypotheses", "--manifest", tiny_manifest, "--model", odd, "--output", out]
    code, _, err = run(*words)
    assert code == 0, err
    assert {json.loads(line)["model"] for line in out.read_text().splitlines()} == {PLAIN}
    assert run(*words)[1] == f"{out}: complete already\n" and not list(tmp_path.glob("*.part"))


def test_fine_tuning_from_it_and_into_one(odd: Path, tune: list[Any], tmp_path: Path, run: Run) -> None:  # noqa: F811
    output = tmp_path / "out" / f"{ODD}-tuned.nemo"
    tune[tune.index("--base") + 1] = odd
    recipe = Path(shutil.copy(tune[-1], tmp_path / f"{ODD}.yaml"))
    code, _, err = run(*tune[:-1], recipe, "--output", output)
    assert code == 0, err
    story = json.loads((tmp_path / "out" / "training_run_info.json").read_text())
    assert (story["base"]["name"], story["recipe"]["name"]) == (f"{PLAIN}.nemo", PLAIN)
    assert base_digest(output) == story["model"]["sha256"] and f"{PLAIN}-tuned.nemo" in _sidecar(output)
    assert run(*tune[:-1], recipe, "--output", output)[0] == 0


def _sidecar(model: Path) -> str:
    return model.with_name(f"{model.name}.sha256").read_text()


def test_a_cycle_on_it(odd: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def turn(at: Any, request: Any, trainer: Any) -> None:
        asked.append(request)
        raise SystemExit(3)

    monkeypatch.setattr("clinical_asr.cli.wheel._turn", turn)
    (tmp_path / "terms.csv").write_text("term,entity_category\ncefazolin,drug\n", encoding="utf-8")
    assert run("cycle", "--base", odd, "--terms", tmp_path / "terms.csv", "--out", tmp_path / "cycles")[0] == 3
    write_json(tmp_path / "request.json", asked[0].fingerprint())
    assert asked[0].base_name == f"{tmp_path}/{PLAIN}.nemo"


def test_what_is_known_of_it(odd: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("model", "inspect", odd, "--json")
    told = json.loads(out)
    assert (code, told["name"], told["path"]) == (0, f"{tmp_path}/{PLAIN}.nemo", f"{tmp_path}/{PLAIN}.nemo")
    assert inspect_model(odd).name == PLAIN


def test_a_ranking_of_files_with_such_names(tmp_path: Path, run: Run) -> None:
    """Of nameless models, that is: the files' names stand for them."""
    for name, misses in ((ODD, 3), ("other", 30)):
        write_rows(tmp_path / f"{name}.jsonl", board.rows(60, misses, model="", digest=name[-1]))
    code, _, err = run("leaderboard", tmp_path / f"{ODD}.jsonl", tmp_path / "other.jsonl")
    assert code == 0, err
    ranking = json.loads((tmp_path / "ranking.json").read_text())
    assert [standing["name"] for standing in ranking["standings"]] == [PLAIN, "other"]
