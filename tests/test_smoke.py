"""The smoke test: what is said of each engine, and that a fault never escapes as an exception."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clinical_asr.cli import app
from clinical_asr.errors import AudioError, FlywheelError, ModelError
from clinical_asr.smoke import SENTENCE, smoke

TONE = (0.2 * np.sin(np.arange(32_000) / 20)).astype(np.float32)


def run(text: str | FlywheelError = SENTENCE, opening: FlywheelError | None = None, voice: object = TONE) -> list:  # type: ignore[type-arg]
    seen: dict[str, bytes] = {}

    def speak(said: str, voice_id: str) -> np.ndarray:  # type: ignore[type-arg]
        assert (said, voice_id) == (SENTENCE, "v")
        if isinstance(voice, FlywheelError):
            raise voice
        return np.asarray(voice)

    def listen(audio: Mapping[str, Path]) -> dict[str, str | FlywheelError]:
        (path,) = audio.values()
        seen["audio"] = path.read_bytes()
        assert (path.parent / "receipts.jsonl").is_file(), "a hosted service needs the receipt"
        return dict.fromkeys(audio, text)

    def opened() -> object:
        if opening:
            raise opening
        return listen

    findings = smoke(speak, "v", opened, "tts", "asr")  # type: ignore[arg-type]
    assert opening or isinstance(voice, FlywheelError) or seen["audio"][:4] == b"RIFF"
    return findings


def test_a_round_trip_is_told() -> None:
    spoken, heard = run("The patient was prescribed cefazolin.")
    assert spoken.ok and heard.ok and "cefazolin heard" in heard.found


def test_a_term_that_is_new_to_the_base_is_no_failure_but_is_said() -> None:
    heard = run("the patient was prescribed sephazolin")[1]
    assert heard.ok and "not heard" in heard.found


@pytest.mark.parametrize("text", ["", "uh huh", "der patient bekam cefazolin"])
def test_another_sentence_is_a_failure(text: str) -> None:
    heard = run(text)[1]
    assert not heard.ok and heard.required and heard.mend


def test_faults_become_findings_with_their_mend() -> None:
    for findings in (run(ModelError("chokes", mend="mend me")), run(opening=ModelError("no model", mend="mend me"))):
        assert findings[0].ok and not findings[1].ok and findings[1].mend == "mend me"
    mute = run(voice=AudioError("no sound", mend="mend me"))
    assert [finding.ok for finding in mute] == [False, False] and mute[0].mend == "mend me"


def test_a_service_that_is_not_allowed_is_a_finding(tmp_path: Path) -> None:
    command = ["doctor", "--json", "--smoke", "--endpoint", "nvcf", "--folder", str(tmp_path)]
    result = CliRunner(env={"NVIDIA_API_KEY": "nvapi-do-not-print-me"}).invoke(app, command)
    assert result.exit_code == 2 and "do-not-print" not in result.output
    last = json.loads(result.stdout[result.stdout.index("[") :])[-1]
    assert "may send nothing to grpc.nvcf.nvidia.com" in last["found"] and "--allow nvcf" in last["mend"]


@pytest.mark.nemo
def test_the_mini_base_hears_the_sentence(tmp_path: Path) -> None:
    pytest.importorskip("nemo")
    result = CliRunner(env={"ASR_ENDPOINT": ""}).invoke(app, ["doctor", "--smoke", "--json", "--folder", str(tmp_path)])
    assert result.exit_code == 0, result.output
    spoken, heard = json.loads(result.stdout[result.stdout.index("[") :])[-2:]
    assert spoken["ok"] and heard["ok"] and "the patient was prescribed" in heard["found"]
