"""The fine-tune stage with an engine that trains nothing and says what it was handed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinical_asr.config import load_recipe
from clinical_asr.errors import AudioError, ConfigError, TrainingError
from clinical_asr.finetune import Base, Outputs, Recordings, draw_replay, finetune, rates
from clinical_asr.jsonl import read_json, read_rows
from clinical_asr.records import ClinicalUtterance, LedgerEntry, Outcome, Utterance
from clinical_asr.training import EpochReport, TrainingJob, TrainingReport

RECIPE = msgspec.structs.replace(load_recipe("keep"), selection_fraction=0.0, epochs=3, replay_ratio=1.0)
FOLDER = Path("/data")


def general(count: int, prefix: str = "g") -> list[Utterance]:
    return [
        Utterance(audio_filepath=f"{prefix}{n}.wav", text="hello there", duration=2.0, id=f"{prefix}{n}")
        for n in range(count)
    ]


def clinical(row_id: str, text: str, term: str) -> ClinicalUtterance:
    return ClinicalUtterance(
        audio_filepath=f"{row_id}.wav", text=text, duration=2.0, id=row_id, term=term, entity_category="drug",
        ipa_source="g2p", voice_id="v", noise_level="clean", context_type="handoff",
    )  # fmt: skip


class Engine:
    """Reports ``rows`` trained rows (all of them by default) and keeps the job and the metrics of one judgement."""

    def __init__(self, rows: int | None = None) -> None:
        self.rows = rows

    def __call__(self, job: TrainingJob, evaluate: Any, on_step: Any) -> TrainingReport:
        self.job = job
        self.metrics = dict(evaluate("the model")) if evaluate else {}
        epoch = EpochReport(1, 1.5, len(job.examples) if self.rows is None else self.rows, 0.1, self.metrics)
        return TrainingReport(
            digest="d" * 64, epochs=(epoch,), best_epoch=1, stopped_early=False, steps=3, batch_size=4,
            accumulate_grad_batches=1, warmup_steps=2, precision="32-true", loss="none", seconds=0.1,
            peak_memory_mb=1.0, resumed_after_epoch=0, notes=(), versions={}, hardware="none",
        )  # fmt: skip


def run(
    tmp_path: Path, engine: Engine, train: list[Any], valid: list[Any], replay: list[Any], recipe: Any = RECIPE
) -> Any:
    outputs = Outputs(tmp_path / "adapted_model.nemo", tmp_path / "info.json", tmp_path / "ledger.jsonl")
    base = Base("mini", Path("mini.nemo"), "b" * 64)
    recordings = (Recordings(train, FOLDER), Recordings(valid, FOLDER), Recordings(replay, FOLDER / "general"))

    def listen(model: Any, audio: dict[str, Path], *, exact: bool = False) -> dict[str, Any]:
        assert model == "the model"
        return {key: AudioError("broken") if key == "v1" else "give cefazolin now" for key in audio}

    return finetune(base, recipe, *recordings, outputs, engine, listen)


def test_clinical_and_replayed_rows_are_mixed_and_counted_apart(tmp_path: Path) -> None:
    engine = Engine()
    run(tmp_path, engine, general(6, "c"), [], general(50))
    paths = [example.audio for example in engine.job.examples]
    assert len(paths) == 12
    assert sum(path.parent.name == "general" for path in paths) == 6
    data = read_json(tmp_path / "info.json")["data"]
    assert (data["train"]["rows"], data["replay"]["rows"], data["validation"]["rows"]) == (6, 18, 0)
    assert len(engine.job.more_replay) == 12 and all(example.replayed for example in engine.job.more_replay)
    ledger = read_rows(tmp_path / "ledger.jsonl", LedgerEntry)
    assert [(entry.id, entry.outcome) for entry in ledger] == [(f"c{n}", Outcome.TRAINED) for n in range(6)]


def test_long_rows_are_excluded_with_the_reason(tmp_path: Path) -> None:
    long = msgspec.structs.replace(general(1, "long")[0], duration=41.0)
    engine = Engine()
    run(tmp_path, engine, [*general(2, "c"), long], [], general(9))
    assert "long0" not in {example.id for example in engine.job.examples}
    (entry,) = (e for e in read_rows(tmp_path / "ledger.jsonl", LedgerEntry) if e.id == "long0")
    assert entry.outcome is Outcome.EXCLUDED and "41.0 s" in entry.reason and "max_duration" in entry.reason
    assert read_json(tmp_path / "info.json")["data"]["excluded"][0]["id"] == "long0"


def test_each_epoch_is_judged_on_normalised_ker_and_wer(tmp_path: Path) -> None:
    valid = [clinical("v0", "Give cefazolin, now.", "cefazolin"), clinical("v1", "Give heparin now", "heparin")]
    engine = Engine()
    run(tmp_path, engine, general(1, "c"), valid, general(9))
    assert engine.metrics == {"ker": 0.5, "wer": 0.5}  # v1 cannot be heard: three words lost, never left out


@pytest.mark.parametrize("trained", [0, 3, 5])
def test_another_number_of_rows_than_declared_stops_it(tmp_path: Path, trained: int) -> None:
    with pytest.raises(TrainingError, match=f"{trained} rows were trained, 4 declared"):
        run(tmp_path, Engine(trained), general(2, "c"), [], general(9))
    assert not (tmp_path / "info.json").exists()


def test_replay_is_seeded_and_never_draws_what_is_taken() -> None:
    pool = general(40)
    taken = {"g1", "g2", "g3"}
    first = draw_replay(pool, RECIPE, 30, taken)
    assert [row.id for row in first] == [row.id for row in draw_replay(pool[::-1], RECIPE, 30, taken)]
    assert len({row.id for row in first}) == 37 and not {row.id for row in first} & taken
    assert len(draw_replay(pool, RECIPE, 10, taken)) == 10 * RECIPE.epochs
    assert len(draw_replay(pool, RECIPE, 1000, taken)) == 37
    other = msgspec.structs.replace(RECIPE, seed=7)
    assert [row.id for row in first] != [row.id for row in draw_replay(pool, other, 30, taken)]


def test_replay_without_general_speech_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="replay_ratio"):
        run(tmp_path, Engine(), general(2, "c"), [], [])
    run(tmp_path, Engine(), general(2, "c"), [], [], load_recipe("smoke"))


def test_the_story_says_what_was_asked_and_what_was_done(tmp_path: Path) -> None:
    run(tmp_path, Engine(), general(2, "c"), [], general(9))
    info = read_json(tmp_path / "info.json")
    assert info["recipe"]["learning_rate"] == 3e-4 and info["recipe"]["name"] == "keep"
    assert info["effective"]["precision"] == "32-true" and info["effective"]["steps"] == 3
    assert info["base"] == {"name": "mini", "sha256": "b" * 64} and info["model"] == {"sha256": "d" * 64}
    assert info["metrics_per_epoch"][0]["rows"] == 4
    assert {"versions", "hardware", "seconds", "peak_memory_mb", "best_epoch", "package"} <= info.keys()


def test_rates_of_nothing_are_unknown() -> None:
    assert rates([], {}) == {"ker": None, "wer": None}


def test_rows_that_choose_are_taken_out_of_training_and_told_in_the_ledger(tmp_path: Path) -> None:
    train = [clinical(f"c{n}", f"sentence {n} says cefazolin", "cefazolin") for n in range(10)]
    engine, recipe = Engine(), msgspec.structs.replace(RECIPE, selection_fraction=0.2)
    run(tmp_path, engine, train, [clinical("v0", "give cefazolin", "cefazolin")], general(50), recipe)
    trained = {example.id for example in engine.job.examples if not example.replayed}
    chose = {example.id for example in engine.job.validation}
    assert len(chose) == 2 and trained | chose == {row.id for row in train} and not trained & chose
    fates = {entry.id: entry for entry in read_rows(tmp_path / "ledger.jsonl", LedgerEntry)}
    assert all("chooses" in fates[row_id].reason for row_id in chose)
    info = read_json(tmp_path / "info.json")
    assert set(info["selection"]["rows"]) == chose and info["data"]["excluded"] == []
    assert engine.job.config.selection_fraction == 0.0, "whoever trains must not divide a second time"


def test_without_selection_rows_the_validation_rows_choose(tmp_path: Path) -> None:
    engine = Engine()
    run(tmp_path, engine, general(2, "c"), [clinical("v0", "give cefazolin now", "cefazolin")], general(9))
    assert [example.id for example in engine.job.validation] == ["v0"] and engine.metrics["ker"] == 0.0
