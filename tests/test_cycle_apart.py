"""What a cycle keeps apart: rows that teach, choose and decide; two orders' benchmarks; no audio and nothing heard."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from clinical_asr import benchmark, flywheel, general
from clinical_asr.config import GateConfig, SplitConfig, SynthesisConfig, TrainingConfig
from clinical_asr.cycle import Cycle
from clinical_asr.errors import AudioError, ConfigError, FlywheelError, ManifestError
from clinical_asr.finetune import Base, Outputs, Recordings, finetune
from clinical_asr.jsonl import iter_objects, read_json, write_rows
from clinical_asr.records import Decision, Utterance, row_id
from clinical_asr.training import Evaluate, OnStep, TrainingJob, TrainingReport
from wheel import TERMS, KilledError, Recogniser, Works, engines, request

CHOOSES = TrainingConfig(name="fake", epochs=1, replay_ratio=0.5, factors=(0.5, 1.0), selection_fraction=0.12)
WORDS = {"drug": ("cefazolin", "apixaban", "enoxaparin", "tacrolimus", "ondansetron"), "lab": ("troponin",)}
OTHERS = {"drug": ("insulin", "heparin", "digoxin", "morphine", "fentanyl"), "lab": ("lactate",)}
SMALL = {
    "words": WORDS,
    "guard_rows": 12,
    "gate": GateConfig(min_rows=20),
    "split": SplitConfig(hold_out_sentences=0.3),
}
"""Six terms, 48 rows, 12 guard rows."""


class Watched(Works):
    """Keeps the job that the trainer was given."""

    job: TrainingJob

    def train(self, job: TrainingJob, evaluate: Evaluate | None, on_step: OnStep | None) -> TrainingReport:
        self.job = job
        return super().train(job, evaluate, on_step)


def run(folder: Path, works: Works | None = None, **changes: Any) -> tuple[Decision, Cycle, list[str]]:
    cycle, told, works = Cycle(folder / "cycles"), list[str](), works or Works()
    return flywheel.turn(cycle, request(folder, **(SMALL | changes)), engines(works, cycle, told)), cycle, told


def speech(folder: Path, voice: str, count: int = 40) -> Path:
    """A manifest of general speech in one voice."""
    texts = [f"the {number} apples lay on the table for {'very ' * (number % 7)}long" for number in range(count)]
    rows = general.build(texts, (voice,), folder, Works().synthesise, count, seed=1)
    write_rows(folder / "manifest.jsonl", rows)
    return folder / "manifest.jsonl"


def ids(path: Path) -> set[str]:
    return {row["id"] for _, row in iter_objects(path)}


# --- guard set, replay, selection -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "two"), [("guard", "replay"), ("guard", "selection"), ("replay", "selection")])
def test_a_file_cannot_be_two_sides_of_general_speech(tmp_path: Path, one: str, two: str) -> None:
    given, works = speech(tmp_path / "speech", "s"), Works()
    row = next(fields for _, fields in iter_objects(given))
    with pytest.raises(ConfigError) as refused:
        run(tmp_path, works, **{one: given, two: given}, recipe=CHOOSES)
    assert str(refused.value) == (
        f"--{two} {given}: row {row['id']} ({row['audio_filepath']}) stands in --{one} {given} as well; "
        "take it out of one of the two: what is learnt from, chosen by and judged on must be apart"
    )
    assert works.calls == {}, "nothing is spoken, heard or trained before"


def test_a_wrong_file_is_simply_given_again_rightly(tmp_path: Path) -> None:
    guard, replay, works = speech(tmp_path / "a", "a"), speech(tmp_path / "b", "b"), Watched()
    with pytest.raises(ConfigError, match="stands in"):
        run(tmp_path, works, guard=guard, replay=guard)
    _, cycle, _ = run(tmp_path, works, guard=guard, replay=replay)
    replayed = {one.id for one in (*works.job.examples, *works.job.more_replay) if one.replayed}
    assert replayed and not replayed & ids(cycle.general_manifest("guard"))


@pytest.mark.parametrize("text", ["another style", ""], ids=["another text", "no text"])
def test_a_recording_is_known_again_under_another_name_and_text(tmp_path: Path, text: str) -> None:
    guard, replay = speech(tmp_path / "a", "a"), speech(tmp_path / "b", "b")
    one = sorted((guard.parent / "audio").glob("*.wav"))[0]
    shutil.copy(one, replay.parent / "audio" / "copied.wav")
    fields = {"audio_filepath": "audio/copied.wav", "text": text, "duration": 1.0}
    replay.write_text(replay.read_text() + json.dumps(fields) + "\n")
    with pytest.raises(ConfigError, match=r"row [0-9a-f]{16} \(audio/copied.wav\) stands in --guard .*a/manifest"):
        run(tmp_path, guard=guard, replay=replay)


def test_ids_that_somebody_numbered_do_not_make_rows_the_same(tmp_path: Path) -> None:
    files = {"guard": speech(tmp_path / "a", "a"), "replay": speech(tmp_path / "b", "b")}
    for path in files.values():
        rows = [fields | {"id": str(number)} for number, (_, fields) in enumerate(iter_objects(path))]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(tmp_path, **files)[1].decision.exists()


def test_the_guard_set_that_is_spoken_here_is_not_replayed_from_a_file(tmp_path: Path) -> None:
    """A cycle speaks the same guard set as the one before it: its file is no file to replay."""
    _, cycle, _ = run(tmp_path / "one")
    old, works = cycle.general_manifest("guard"), Works()
    with pytest.raises(ConfigError, match=f"--replay {old}: row .* stands in .*two/cycles/cycle1/general/guard_mani"):
        run(tmp_path / "two", works, replay=old)
    assert "transcribe" not in works.calls and "train" not in works.calls
    with pytest.raises(ConfigError, match=f"--selection {old}: row .* stands in .*three/cycles/cycle1/general/guard_"):
        run(tmp_path / "three", selection=old)


def test_what_is_spoken_for_replay_here_is_not_the_guard_set_that_was_given(tmp_path: Path) -> None:
    _, cycle, _ = run(tmp_path / "one")
    old, works = cycle.general_manifest("replay"), Works()
    with pytest.raises(ConfigError, match=f"general/replay_manifest.jsonl: row .* stands in --guard {old} as well"):
        run(tmp_path / "two", works, guard=old)
    assert "train" not in works.calls


@pytest.mark.parametrize("rows", [0, 5])
def test_a_guard_set_that_is_given_is_taken_whole_whatever_was_to_be_spoken(tmp_path: Path, rows: int) -> None:
    given = speech(tmp_path / "speech", "s")
    _, cycle, _ = run(tmp_path, guard=given, guard_rows=rows)
    assert read_json(cycle.comparison("json"))["guard"]["rows"] == 40


def test_without_rows_and_without_a_file_there_is_no_guard_set(tmp_path: Path) -> None:
    _, cycle, told = run(tmp_path, guard_rows=0)
    assert any("no guard set" in line for line in told) and not any("guard WER" in line for line in told)
    assert read_json(cycle.comparison("json"))["guard"]["rows"] == 0


def test_a_selection_that_is_given_chooses_whatever_was_to_be_spoken(tmp_path: Path) -> None:
    given, works = speech(tmp_path / "speech", "s"), Watched()
    run(tmp_path, works, selection=given, selection_rows=0, recipe=CHOOSES)
    assert {example.id for example in works.job.selection_guard} == ids(given)


@pytest.mark.parametrize("kind", ["guard", "replay", "selection"])
def test_a_benchmark_is_no_general_speech(tmp_path: Path, kind: str) -> None:
    _, first, _ = run(tmp_path / "one")
    old, works = first.manifest, Works()
    order = {"manifest": old, "terms": None, "recipe": CHOOSES}
    with pytest.raises(ConfigError, match=f"--{kind} {old}: row .* stands in --manifest {old} as well"):
        run(tmp_path / "two", works, **order, **{kind: old})
    assert works.calls == {}, "nothing is heard before"
    other = speech(tmp_path / "speech", "s")
    assert run(tmp_path / "two", works, **order, **{kind: other})[1].decision.exists()


def test_a_benchmark_that_is_spoken_here_is_no_general_speech_either(tmp_path: Path) -> None:
    """The same terms in the same voices give the same clips again."""
    _, first, _ = run(tmp_path / "one")
    plain = first.folder / "plain.jsonl"
    rows = [
        {name: row[name] for name in ("audio_filepath", "text", "duration")} for _, row in iter_objects(first.manifest)
    ]
    plain.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigError, match=f"--guard {plain}: row .* stands in .*two/cycles/cycle1/manifest"):
        run(tmp_path / "two", guard=plain)


def test_a_term_that_the_normaliser_does_not_find_is_refused_before_anything_is_heard(tmp_path: Path) -> None:
    """And the request does not bind: the same cycle takes another normaliser, or the file once it is mended."""
    given, works = run(tmp_path / "one")[1].folder / "given.jsonl", Works()
    rows = [row for _, row in iter_objects(given.with_name("manifest.jsonl"))]
    spelled = {"text": rows[0]["text"].replace(rows[0]["term"], "heparin-lock"), "term": "heparin lock", "id": ""}
    given.write_text("".join(json.dumps(row) + "\n" for row in (rows[0] | spelled, *rows[1:])))
    order = {"manifest": given, "terms": None}
    with pytest.raises(ManifestError, match=r"term: 'heparin lock' does not occur in the text \(flywheel-v1\)"):
        run(tmp_path / "two", works, **order, normaliser="flywheel-v1")
    assert works.calls == {}, "nothing is spoken, heard or trained before"
    assert run(tmp_path / "two", **order)[1].decision.exists()


@pytest.mark.parametrize("learnt", ["train", "replay"])
@pytest.mark.parametrize("side", ["selection_guard", "validation"])
@pytest.mark.parametrize("text", ["", "said otherwise"], ids=["the same row", "the same recording"])
def test_finetune_refuses_to_learn_from_what_chooses_or_is_held_out(
    tmp_path: Path, learnt: str, side: str, text: str
) -> None:
    rows = [Utterance(**fields) for _, fields in iter_objects(speech(tmp_path / "speech", "s", 6))]
    other = [replace_text(row, text) if text else row for row in rows[2:4]]
    works, name, general = Works(), side.replace("_", " "), {"replay": rows[4:]}
    with pytest.raises(ConfigError, match=f"{name}: row {other[0].id} .* stands in {learnt} as well"):
        finetuned(tmp_path, works, **general | {learnt: rows[:4], side: other})
    assert works.calls == {}
    finetuned(tmp_path, works, **general | {learnt: rows[:2], side: other})
    assert works.calls == {"train": 1}


def test_what_is_trained_on_may_stand_among_the_rows_to_replay_and_is_not_drawn(tmp_path: Path) -> None:
    rows = [Utterance(**fields) for _, fields in iter_objects(speech(tmp_path / "speech", "s", 6))]
    works = Watched()
    finetuned(tmp_path, works, train=rows[:3], replay=rows, validation=[])
    replayed = {example.id for example in works.job.examples if example.replayed}
    assert replayed and replayed <= {row.id for row in rows[3:]}


def replace_text(row: Utterance, text: str) -> Utterance:
    """The same recording with another text, and so with another id."""
    return Utterance(audio_filepath=row.audio_filepath, text=text, duration=row.duration, id=row_id("", text, row.id))


def finetuned(folder: Path, works: Works, **rows: list[Utterance]) -> None:
    """Fine-tune on four rows, with general speech of ``folder/speech``."""
    sides = {name: Recordings(side, folder / "speech") for name, side in rows.items()}
    lesson = [Utterance(audio_filepath=f"{n}.wav", text="hello", duration=1.0, id=f"c{n}") for n in range(4)]
    finetune(
        Base("mini", Path("mini.nemo"), "b" * 64), TrainingConfig(name="fake", epochs=1, replay_ratio=1.0),
        sides.get("train", Recordings(lesson)), sides.get("validation", Recordings()), sides["replay"],
        Outputs(folder / "adapted_model.nemo", folder / "info.json", folder / "ledger.jsonl"),
        works.train, lambda model, audio, *, exact=False: {},
        selection_guard=sides.get("selection_guard", Recordings()),
    )  # fmt: skip


def test_what_is_too_long_for_the_recipe_is_held_out(tmp_path: Path) -> None:
    """It would stand among what training has heard, and vouch for its term."""
    recipe = TrainingConfig(name="fake", epochs=1, replay_ratio=0.5, max_duration=6.3)
    _, cycle, _ = run(tmp_path, recipe=recipe)
    train, held = ([row["duration"] for _, row in iter_objects(path)] for path in (cycle.train, cycle.validation))
    assert max(train) <= 6.3 < max(held)
    assert {row["outcome"] for _, row in iter_objects(cycle.ledger("finetune"))} == {"trained"}


# --- a cycle that is begun again --------------------------------------------------------------------------------------


def test_rows_that_failed_once_are_heard_by_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decision asks for them; and the board of fewer rows does not stay."""
    hear = Recogniser.hear

    def fails(self: Recogniser, key: str, text: str, term: str) -> Any:
        return AudioError("cannot be read") if self.tuned and int(key, 16) % 3 == 0 else hear(self, key, text, term)

    whole = {"words": TERMS, "guard_rows": 40, "split": SplitConfig(hold_out_sentences=0.2)}
    with monkeypatch.context() as patch:
        patch.setattr(Recogniser, "hear", fails)
        decision, cycle, _ = run(tmp_path, **whole)
    assert (decision.verdict, decision.next_stage) == ("inconclusive", "hypotheses")
    works, batches = Works(), -(-len(ids(cycle.manifest) - ids(cycle.hypotheses("after"))) // Recogniser.batch_size)
    again, cycle, _ = run(tmp_path, works, **whole)
    lost = [row for _, row in iter_objects(cycle.general_manifest("guard")) if int(row["id"], 16) % 3 == 0]
    assert works.calls == {"transcribe": batches + -(-len(lost) // Recogniser.batch_size)}, "what is there stays"
    assert again.verdict == "promote" and ids(cycle.scores("after")) == ids(cycle.manifest)
    assert read_json(cycle.leaderboard("after", "json"))["headline"]["rows"] == len(ids(cycle.manifest))


def test_what_the_base_was_trained_on_in_an_earlier_cycle_decides_nothing(tmp_path: Path) -> None:
    works = Works(knows=0.2)
    _, first, _ = run(tmp_path, works)
    second = Cycle(first.root, 2)
    again = request(tmp_path, **SMALL | {"split": SplitConfig(hold_out_sentences=0.3, seed=7)})
    again = msgspec.structs.replace(again, base=first.adapted_model)
    told: list[str] = []
    flywheel.turn(second, again, engines(works, second, told))
    held, known = ids(second.validation), ids(first.train)
    found = read_json(second.comparison("json"))
    judged = found["held_out"]["all_categories"]["rows"] + found["new_terms"]["all_categories"]["rows"]
    assert found["known_to_base"] == len(held & known) > 0 and judged == len(held - known)
    assert f"without {len(held & known)} rows that the base was trained on" in told[-1]
    assert f"{len(held & known)} rows that the base was trained on" in second.comparison("md").read_text()
    third = Cycle(first.root, 3)
    assert flywheel.known_to_base(third, msgspec.structs.replace(again, base=second.adapted_model)) >= known


@pytest.mark.parametrize("kind", ["benchmark", "guard"])
def test_a_recording_that_was_changed_meanwhile_is_not_heard(tmp_path: Path, kind: str) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, Works(dies_at=("train", 1)))
    cycle, works = Cycle(tmp_path / "cycles"), Works()
    manifest = cycle.manifest if kind == "benchmark" else cycle.general_manifest("guard")
    one, other = ((manifest.parent / row["audio_filepath"]) for _, row in list(iter_objects(manifest))[:2])
    one.write_bytes(other.read_bytes())
    with pytest.raises(FlywheelError, match=r"row [0-9a-f]{16} \(.*wav\): its recording has been changed since"):
        run(tmp_path, works)
    assert "transcribe" not in works.calls


def test_rows_are_judged_by_the_split_that_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by one that is drawn again, perhaps by another version of this package."""
    with pytest.raises(KilledError):
        run(tmp_path, Works(dies_at=("train", 1)))
    cycle = Cycle(tmp_path / "cycles")
    held = ids(cycle.validation)
    monkeypatch.setattr(flywheel.split, "split", killed)
    _, cycle, _ = run(tmp_path)
    found = read_json(cycle.comparison("json"))
    assert found["held_out"]["rows"] + found["new_terms"]["rows"] <= len(held)
    first, *rest = (row for _, row in iter_objects(cycle.train))
    cycle.train.write_text("".join(json.dumps(row) + "\n" for row in rest))
    with cycle.validation.open("a") as file:
        file.write(json.dumps(first | {"stratum": "same sentence"}) + "\n")
    with pytest.raises(ConfigError, match="was trained on other rows than this split's"):
        run(tmp_path)


# --- a built benchmark and the request it was built for ---------------------------------------------------------------


def killed(*_: Any, **__: Any) -> None:
    raise KilledError


def test_another_request_builds_another_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(benchmark, "check_manifest", killed)
        run(tmp_path)
    voices = SynthesisConfig(voices=("v3", "v4"), noise_levels=("clean",))
    _, cycle, told = run(tmp_path, words=OTHERS, synthesis=voices)
    rows = [row for _, row in iter_objects(cycle.manifest)]
    assert {row["term"] for row in rows} == {term for terms in OTHERS.values() for term in terms}
    assert {row["voice_id"] for row in rows} == {"v3", "v4"} == set(read_json(cycle.request)["synthesis"]["voices"])
    assert [line.split()[0] for line in told[:3]] == ["terms", "sentences", "audio"]


def test_the_same_request_builds_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(benchmark, "check_manifest", killed)
        run(tmp_path)
    _, _, told = run(tmp_path, guard_rows=14)  # of another request, but not of what is built
    assert told[0].startswith("manifest")


def test_killed_while_another_request_is_built_the_first_one_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A, killed before its check; B, killed at every step of its build; then A: never what B has left."""
    expected, whole, _ = run(tmp_path / "whole")
    for at in ("write_json", "heard_terms", "render", "write_rows"):
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(benchmark, "check_manifest", killed)
            run(tmp_path / at)
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(benchmark, at, killed)
            run(tmp_path / at, words=OTHERS)
        decision, cycle, _ = run(tmp_path / at)
        assert decision == expected and ids(cycle.manifest) == ids(whole.manifest), at


def test_what_a_person_left_in_the_folder_counts_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pronunciations given in the audition lie in the cycle's own folder, and the request does not name them."""
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(benchmark, "check_manifest", killed)
        run(tmp_path)
    cycle = Cycle(tmp_path / "cycles")
    cycle.overrides.write_text("term,ipa,verified_by,verified_at,notes\ncefazolin,sɛˈfæzəlɪn,A. Nurse,2026-01-01,\n")
    works, told = Works(), list[str]()
    tools = replace(engines(works, cycle, told), markup=lambda text, known: text)
    flywheel.turn(cycle, request(tmp_path, **SMALL), tools)
    rows = [row for _, row in iter_objects(cycle.manifest)]
    assert {row["ipa_source"] for row in rows if row["term"] == "cefazolin"} == {"override"}


class Homophones(Works):
    """Says both spellings alike, and nothing else."""

    def synthesise(self, text: str, voice_id: str) -> Any:
        said = text.replace("cephalexin", "cefalexin")
        draw = np.random.default_rng(list(f"{said}/{voice_id}".encode()))
        return (0.1 * draw.standard_normal(16_000)).astype(np.float32)


def test_twins_are_taken_off_the_list_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = {**OTHERS, "drug": (*OTHERS["drug"], "cefalexin")}
    twins = {**words, "drug": (*words["drug"], "cephalexin")}
    with pytest.raises(ManifestError, match="the same audio has another text"):
        run(tmp_path, Homophones(), words=twins, contexts_per_term=8)
    _, cycle, _ = run(tmp_path, Homophones(), words=words, contexts_per_term=8)
    assert not {row["term"] for _, row in iter_objects(cycle.manifest)} & {"cephalexin"}


# --- recordings that are away -----------------------------------------------------------------------------------------


class Needs(Recogniser):
    """Cannot hear a recording that is not there."""

    def transcribe(self, audio: Any) -> Any:
        heard = super().transcribe(audio)
        return {key: heard[key] if path.exists() else AudioError("does not exist", str(path), "check the path")
                for key, path in audio.items()}  # fmt: skip


@pytest.fixture
def needs_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wheel.Recogniser", Needs)


def away_then_back(folder: Path, audio: Path, ledger: str, count: int) -> None:
    """Refused with the first row's reason while ``audio`` is away, each time; then the same command goes on."""
    audio.rename(folder / "away")
    for _ in range(2):
        with pytest.raises(FlywheelError) as refused:
            run(folder)
        assert f"{ledger}: none of {count} rows was heard; the first, " in str(refused.value)
        assert f"{audio}/" in str(refused.value) and "does not exist" in str(refused.value)
        assert str(refused.value).endswith("when the recordings can be heard, give the same command again")
    (folder / "away").rename(audio)
    assert run(folder)[1].decision.exists()


@pytest.mark.usefixtures("needs_audio")
@pytest.mark.parametrize(
    ("inside", "ledger", "count"),
    [("audio", "ledger_hypotheses_before.jsonl", 48), ("general/audio", "ledger_guard_before.jsonl", 12)],
    ids=["benchmark", "guard set"],
)
def test_audio_that_is_away_for_a_moment_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, ledger: str, count: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(flywheel, "evaluate", killed)
        run(tmp_path)
    away_then_back(tmp_path, tmp_path / "cycles" / "cycle1" / inside, ledger, count)


@pytest.mark.usefixtures("needs_audio")
def test_audio_that_is_away_after_training_spoils_nothing(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, Works(dies_at=("transcribe", 5)))  # the first batch that the tuned model hears
    audio = tmp_path / "cycles" / "cycle1" / "audio"
    assert (audio.parent / "training_run_info.json").exists()
    away_then_back(tmp_path, audio, "ledger_hypotheses_after.jsonl", 48)


def test_an_empty_file_that_a_kill_has_left_is_not_a_finished_one(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, Works(dies_at=("transcribe", 1)))
    Cycle(tmp_path / "cycles").hypotheses("before").write_bytes(b"")
    assert run(tmp_path)[1].decision.exists()


def test_rows_that_fail_among_others_are_accounted_for_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs_audio: None
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(flywheel, "evaluate", killed)
        run(tmp_path)
    cycle = Cycle(tmp_path / "cycles")
    sorted(cycle.audio.glob("*.wav"))[0].unlink()
    _, _, told = run(tmp_path)
    assert "59 rows heard by fake, 1 failed" in next(line for line in told if line.startswith("hypotheses"))


def test_replay_without_texts_that_cannot_be_heard_is_tried_again(tmp_path: Path) -> None:
    given = speech(tmp_path / "speech", "s")
    given.write_text("".join(json.dumps({"audio_filepath": row["audio_filepath"]}) + "\n"
                             for _, row in iter_objects(given)))  # fmt: skip
    cycle = Cycle(tmp_path / "cycles")
    order, tools = request(tmp_path, replay=given), replace(engines(Works(), cycle, []), transcriber=Hears)
    (given.parent / "audio").rename(tmp_path / "away")
    with pytest.raises(
        FlywheelError, match=r"ledger_replay.jsonl: none of 40 rows was heard; the first, line 1: .*not"
    ):
        benchmark.general_stage(cycle, order, tools, "replay", 99)
    (tmp_path / "away").rename(given.parent / "audio")
    assert len(benchmark.general_stage(cycle, order, tools, "replay", 99)) == 40


class Hears:
    """A base that hears the name of the file."""

    name, digest, batch_size = "base", "0" * 16, 8

    def __init__(self, *_: Any) -> None:
        pass

    def transcribe(self, audio: Any) -> Any:
        return {key: f"heard {path.stem}" for key, path in audio.items()}
