"""General speech without transcripts: the base's own texts, every row accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from clinical_asr.bases import base_digest
from clinical_asr.benchmark import general_stage
from clinical_asr.cli import tune
from clinical_asr.cycle import Cycle
from clinical_asr.errors import AudioError, ConfigError, FlywheelError, ManifestError
from clinical_asr.jsonl import read_rows
from clinical_asr.records import Hypothesis, LedgerEntry, Outcome, Utterance
from clinical_asr.self_texts import NOTHING_HEARD, bare_rows, lacks_texts, spoken
from wheel import Works, engines, request


def recordings(folder: Path, count: int = 4, **fields: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        tone = 0.3 * np.sin(np.arange(16_000) * (n + 2) * 0.05)
        soundfile.write(folder / f"{n}.wav", tone, 16_000, subtype="PCM_16")
    lines = [json.dumps({"audio_filepath": f"{n}.wav", **fields}) for n in range(count)]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "manifest.jsonl"


def test_a_manifest_with_all_its_texts_is_not_touched(tmp_path: Path) -> None:
    assert lacks_texts(recordings(tmp_path / "a")) and lacks_texts(recordings(tmp_path / "b", text="  "))
    assert not lacks_texts(recordings(tmp_path / "c", text="good morning"))


def test_rows_are_measured_and_damaged_ones_are_accounted_for(tmp_path: Path) -> None:
    manifest = recordings(tmp_path, 3)
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    rows, failed = bare_rows(manifest)
    assert [row.audio_filepath for row in rows] == ["0.wav", "2.wav"] and rows[0].duration == 1.0
    assert [(entry.id, entry.outcome) for entry in failed] == [("line 2", Outcome.FAILED)]
    manifest.write_text('{"text": "no audio"}\n')
    with pytest.raises(ManifestError, match="audio_filepath"):
        bare_rows(manifest)


def heard(row: Utterance, text: str) -> Hypothesis:
    return Hypothesis(audio_filepath=row.audio_filepath, text=row.text, duration=1.0, id=row.id, pred_text=text,
                      model="base", model_digest="d")  # fmt: skip


def test_what_the_base_hears_is_the_text_and_silence_is_left_out(tmp_path: Path) -> None:
    rows, _ = bare_rows(recordings(tmp_path, 3))
    told, silent = spoken([heard(rows[0], " Good morning. "), heard(rows[1], " ")], rows)
    assert [(row.audio_filepath, row.text) for row in told] == [("0.wav", "Good morning.")]
    assert [(entry.audio_filepath, entry.reason) for entry in silent] == [("1.wav", NOTHING_HEARD)]
    assert told[0].id != rows[0].id, "the id is of the audio and the text"


def test_a_cycle_replays_what_its_base_heard(tmp_path: Path) -> None:
    cycle, works = Cycle(tmp_path / "out", 1), Works()
    cycle.folder.mkdir(parents=True)
    order = request(tmp_path / "order", replay=recordings(tmp_path / "speech"))
    tools = engines(works, cycle, [])

    class Base:
        name, digest, batch_size = "base", "0" * 16, 2

        def transcribe(self, audio: dict[str, Path]) -> dict[str, str]:
            return {key: "" if path.name == "3.wav" else f"heard {path.stem}" for key, path in audio.items()}

    from dataclasses import replace

    rows = general_stage(cycle, order, replace(tools, transcriber=lambda path, name: Base()), "replay", 99)
    assert sorted(row.text for row in rows) == ["heard 0", "heard 1", "heard 2"]
    assert all((cycle.general / row.audio_filepath).exists() for row in rows)
    fates = {entry.outcome for entry in read_rows(cycle.ledger("replay"), LedgerEntry)}
    assert fates == {Outcome.SCORED, Outcome.EXCLUDED}


def test_texts_of_another_base_or_of_other_recordings_are_not_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie beside the output, and the next fine-tuning into the same folder would find them."""
    asked: list[Path] = []

    def transcriber(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(
            name="base",
            digest=base_digest(path)[:16],
            batch_size=9,
            transcribe=lambda audio: dict.fromkeys(audio, "hm"),
        )

    monkeypatch.setattr("clinical_asr.cli.engines.transcriber", transcriber)
    first, second = tmp_path / "first.nemo", tmp_path / "second.nemo"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    speech, output = recordings(tmp_path / "speech"), tmp_path / "adapted.nemo"
    assert [row.text for row in tune._replay(speech, first, output, None).rows] == ["hm"] * 4
    assert len(tune._replay(speech, first, output, None).rows) == 4 and asked == [first]
    with pytest.raises(ConfigError, match=r"adapted.replay.jsonl: holds texts of another model \(base [0-9a-f]{16}\)"):
        tune._replay(speech, second, output, None)
    speech.write_text("".join(speech.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    for _ in range(2):
        with pytest.raises(ConfigError, match="holds texts of other recordings; name another output, or delete it"):
            tune._replay(speech, first, output, None)
        (tmp_path / "adapted.replay_ledger.jsonl").unlink(missing_ok=True)


def test_recordings_that_are_away_are_not_replayed_as_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = AudioError("does not exist", "0.wav", "check the path")
    answers = iter([away, away, "good morning"])

    def transcriber(path: Path) -> Any:
        told, digest = next(answers), base_digest(path)[:16]
        return SimpleNamespace(
            name="base", digest=digest, batch_size=9, transcribe=lambda audio: dict.fromkeys(audio, told)
        )

    monkeypatch.setattr("clinical_asr.cli.engines.transcriber", transcriber)
    base, speech, output = tmp_path / "base.nemo", recordings(tmp_path / "speech"), tmp_path / "adapted.nemo"
    base.write_bytes(b"base")
    for _ in range(2):
        with pytest.raises(FlywheelError, match="none of 4 rows was heard; the first, "):
            tune._replay(speech, base, output, None)
    assert [row.text for row in tune._replay(speech, base, output, None).rows] == ["good morning"] * 4
