"""The doctor: what is here, what is missing, and never a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clinical_asr.cli import app
from clinical_asr.doctor import MIN_FREE_DISK_GB, Finding, examine

SECRET = "nvapi-do-not-print-me"


def findings(folder: Path, keys: dict[str, str] | None = None) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(folder, keys or {})}


def test_what_is_here_is_found(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert found["Python"].ok and found["espeak-ng"].ok and found["mini base"].found == "24 MB"
    assert all(finding.mend for finding in found.values() if not finding.ok)


def test_of_a_key_only_the_length_is_told(tmp_path: Path) -> None:
    found = findings(tmp_path, {"NVIDIA_API_KEY": SECRET})["NVIDIA_API_KEY"]
    assert found.found == f"set, {len(SECRET)} characters" and SECRET not in str(found)


def test_a_missing_key_or_gpu_is_no_failure(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert not found["HF_TOKEN"].ok and not found["HF_TOKEN"].required and not found["CUDA GPU"].required


def test_a_full_disk_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinical_asr.doctor.shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**30}))
    found = findings(tmp_path / "not" / "there" / "yet")["disk"]
    assert not found.ok and f"free {MIN_FREE_DISK_GB:.0f} GiB" in found.mend


def test_a_missing_library_names_the_command_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinical_asr.doctor._version", lambda _: None)
    found = findings(tmp_path)["NeMo"]
    assert not found.ok and "pip install 'clinical-asr-flywheel[nemo]'" in found.mend


def test_what_only_a_frugal_recipe_needs_is_named_with_its_extra_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinical_asr.doctor._version", lambda _: None)
    found = findings(tmp_path)["torchao"]
    assert not found.ok and not found.required and found.needed_for == "finetune with frugal: true"
    assert found.mend == "pip install 'clinical-asr-flywheel[frugal]'"


def test_the_command_prints_json_without_the_key() -> None:
    result = CliRunner(env={"NVIDIA_API_KEY": SECRET}).invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0 and SECRET not in result.output
    assert {row["name"] for row in json.loads(result.output)} >= {"Python", "PyTorch", "NeMo", "espeak-ng", "disk"}


def test_a_required_thing_missing_is_exit_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinical_asr.doctor._version", lambda _: None)
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 2
