"""Where a command sends a person, a key or a verdict next: it must arrive, and nowhere else."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

import test_suspects
import wheel
from clinical_asr.advise import advise, knowledge
from clinical_asr.again import KEEP, OPTIONS, Asked
from clinical_asr.cli import app
from clinical_asr.config import load_recipe
from clinical_asr.cycle import Cycle
from clinical_asr.engines.runners.stock import refuse_unknown
from clinical_asr.errors import ConfigError
from clinical_asr.flywheel import turn
from clinical_asr.jsonl import append_row, read_rows
from clinical_asr.records import Decision, EntityCategory, Utterance
from clinical_asr.riva_service import HOSTED
from clinical_asr.round_trip import clearances_of, cycle_of, suspects_path, without_suspects
from clinical_asr.situation import Situation
from clinical_asr.suspects import Clearance
from test_advise import found, recommended, run

# --- a key goes to the service it is for ------------------------------------------------------------------------------

NVIDIA, OWN = "nvapi-SECRET", "token-of-the-hospital"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("ASR_ENDPOINT", "ASR_NVCF_FUNCTION_ID", "TTS_NVCF_FUNCTION_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NVIDIA_API_KEY", NVIDIA)
    monkeypatch.setenv("CLINICAL_ASR_TOKEN", OWN)
    return monkeypatch


def metadata(address: str, speaks: bool) -> dict[str, str]:
    """What goes along with each request to a service that speaks, or hears."""
    from clinical_asr.cli.endpoints import endpoint
    from clinical_asr.cli.voices import Speech, _endpoint

    return dict((_endpoint(Speech("magpie", address)) if speaks else endpoint(address)).metadata)


@pytest.mark.parametrize("speaks", [True, False], ids=["speech", "recogniser"])
@pytest.mark.parametrize(
    ("address", "key"),
    [(HOSTED, NVIDIA), ("192.0.2.2:50991", OWN), ("grpc.nvcf.nvidia.com.example.org:443", OWN)],
)
def test_a_key_goes_to_the_service_it_is_for(address: str, key: str, speaks: bool, keys: pytest.MonkeyPatch) -> None:
    assert metadata(address, speaks)["authorization"] == f"Bearer {key}"


@pytest.mark.parametrize("speaks", [True, False], ids=["speech", "recogniser"])
def test_nvidias_key_goes_to_no_other_service_for_want_of_its_own(speaks: bool, keys: pytest.MonkeyPatch) -> None:
    keys.delenv("CLINICAL_ASR_TOKEN")
    for address in ("192.0.2.2:50991", "127.0.0.1:50051"):
        assert "authorization" not in metadata(address, speaks)


def test_speech_on_this_machine_needs_no_key(keys: pytest.MonkeyPatch) -> None:
    assert "authorization" not in metadata("127.0.0.1:50051", speaks=True)


# --- a clearance holds from the next cycle on -------------------------------------------------------------------------


def a_spoilt_cycle(tmp_path: Path) -> tuple[Cycle, str]:
    test_suspects.SPOILT_ID[0] = ""
    cycle, _ = test_suspects.spun(tmp_path)
    return cycle, test_suspects.SPOILT_ID[0]


def rows_that_count(cycle: Cycle) -> int:
    return len(without_suspects(cycle, read_rows(cycle.manifest, Utterance), "clinical-v1"))


def test_a_clip_cleared_by_the_command_counts_in_the_next_cycle(tmp_path: Path) -> None:
    cycle, spoilt = a_spoilt_cycle(tmp_path)
    done = CliRunner().invoke(app, ["suspects", "clear", str(suspects_path(cycle)), spoilt, "--by", "A. Nurse"])
    assert done.exit_code == 0 and str(cycle.root / "cleared_clips.jsonl") in done.output
    later, _ = test_suspects.spun(tmp_path, 2)
    assert rows_that_count(later) == rows_that_count(cycle) + 1
    words = ["suspects", "find", str(later.hypotheses("before")), "--output", str(tmp_path / "s.jsonl")]
    again = CliRunner().invoke(app, words)
    assert "0 excluded; 1 cleared" in again.output


def test_what_was_cleared_in_a_cycles_own_folder_holds_too(tmp_path: Path) -> None:
    cycle, spoilt = a_spoilt_cycle(tmp_path)
    append_row(cycle.folder / "cleared_clips.jsonl", Clearance(id=spoilt, by="A. Nurse", at="2025-01-01T00:00:00"))
    later, _ = test_suspects.spun(tmp_path, 2)
    assert rows_that_count(later) == rows_that_count(cycle) + 1


def test_clearances_lie_beside_the_cycles_or_beside_the_suspects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cycle3").mkdir()
    monkeypatch.chdir(tmp_path / "cycle3")
    beside_all = tmp_path / "cleared_clips.jsonl"
    assert clearances_of(tmp_path / "cycle3" / "suspects.jsonl") == beside_all
    assert clearances_of(Path("suspects.jsonl")) == beside_all
    for name in ("boards", "cycle0", "cycle1b", "my cycle1"):
        assert cycle_of(tmp_path / name) is None
        assert clearances_of(tmp_path / name / "suspects.jsonl") == tmp_path / name / "cleared_clips.jsonl"


# --- what is printed can be typed -------------------------------------------------------------------------------------


def decided(stage: str) -> Decision:
    return Decision(verdict="v", reason="r", evidence={}, next_stage=stage, exit_code=5)


def next_words(folder: Path, stage: str = "gate", **known: Any) -> list[str]:
    """The advised command as a shell would split it."""
    return shlex.split(advise(Situation(decision=decided(stage), folder=str(folder), **known))[0].next_command)


def told(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def turned(tmp_path: Path, name: str = "my cycles", **changes: Any) -> Cycle:
    cycle = Cycle(tmp_path / name, 1)
    request = msgspec.structs.replace(wheel.request(tmp_path / "in"), **changes)
    turn(cycle, request, wheel.engines(wheel.Works(knows=0.0), cycle, []))
    return cycle


@pytest.mark.parametrize("stage", ["leaderboard", "pronunciations", "deploy", "guard", "gate", "stop"])
def test_a_folder_is_one_word_whatever_its_name(tmp_path: Path, stage: str) -> None:
    folder = tmp_path / "it's my $HOME" / "cycle1"
    words = next_words(folder, stage)
    assert [word for word in words if word.startswith(str(folder.parent))]
    assert not {"it's", "my"} & set(words)


@pytest.mark.parametrize("stage", ["guard", "split", "finetune", "gate"])
def test_the_next_turn_is_another_cycle_of_the_same_root_from_the_same_base(tmp_path: Path, stage: str) -> None:
    cycle = turned(tmp_path)
    words = next_words(cycle.folder, stage)
    assert told(words, "--manifest") == str(cycle.manifest) and told(words, "--base") == "fake"
    assert (told(words, "--out"), told(words, "--cycle")) == (str(cycle.root), "2")
    assert told(next_words(cycle.folder, stage, base="other.nemo"), "--base") == "other.nemo"
    assert "--data-root" not in words
    shutil.copytree(cycle.folder, cycle.root / "cycle2")
    assert told(next_words(cycle.folder, stage), "--cycle") == "3"


@pytest.mark.parametrize("brought", [False, True], ids=["spoken", "brought along"])
def test_the_next_turn_is_not_refused(tmp_path: Path, brought: bool) -> None:
    cycle = turned(tmp_path)
    if brought:
        cycle = turned(tmp_path, "other", manifest=cycle.manifest, terms=None)
    words = next_words(cycle.folder)
    root = Path(told(words, "--data-root")) if brought else None
    request = msgspec.structs.replace(
        wheel.request(tmp_path / "in"), terms=None, manifest=Path(told(words, "--manifest")), data_root=root
    )
    later = Cycle(Path(told(words, "--out")), int(told(words, "--cycle")))
    turn(later, request, wheel.engines(wheel.Works(knows=0.0), later, []))
    assert later.decision.is_file()


def options_of(folder: Path, stage: str = "gate") -> list[str]:
    """What the advised turn asks for beside its rows, its base and its place."""
    words = next_words(folder, stage)
    return words[words.index("--cycle") + 2 :]


def test_the_next_turn_asks_for_what_the_cycle_was_asked_for(tmp_path: Path) -> None:
    """All that a request tells; where a file lay it does not tell, and what a stage changes is not said twice."""
    folder, production = tmp_path / "cycle1", msgspec.to_builtins(load_recipe("production"))
    folder.mkdir()
    asked = {
        "base_name": "mini", "recipe": production, "guard_rows": 600, "replay": "3f", "seed": 7, "ladder": True,
        "gate": {"priority_categories": ["drug", "lab"], "min_rows": 60, "tune_above": 0.25},
        "split": {"hold_out_sentences": 0.05, "hold_out_terms": 2}, "comparison": {"guard_margin": 0.004},
    }  # fmt: skip
    (folder / "request.json").write_text(json.dumps(asked))
    said = "--priority drug,lab --min-rows 60 --tune-above 0.25 {}--guard-margin 0.004 --seed 7 --replay REPLAY.jsonl"
    rows, held, last = "--guard-rows 600 ", "--hold-out-sentences 0.05 --hold-out-terms 2 ", "--recipe production"
    assert options_of(folder) == f"{said.format(rows + held)} {last} --ladder".split()
    assert options_of(folder, "guard") == f"{said.format(held)} {last} --ladder --guard-rows 1000".split()
    assert options_of(folder, "finetune")[-3:] == ["--ladder", "--recipe", "keep"]
    first = advise(Situation(decision=decided("finetune"), folder=str(folder)))[0]
    assert first.say_first[0].startswith("The recipe that was used is production")
    (folder / "request.json").write_text(json.dumps({"recipe": {**production, "epochs": 99}}))
    assert options_of(folder) == ["--recipe", "RECIPE.yaml"]
    (folder / "request.json").write_text(json.dumps({"recipe": msgspec.to_builtins(load_recipe("keep"))}))
    assert options_of(folder) == [] and options_of(folder, "finetune") == ["--recipe", "RECIPE.yaml"]


def test_what_the_command_does_by_default_is_not_asked_for_again() -> None:
    known = {name: option.default for option in found("clinical-asr cycle")[0].params for name in option.opts}
    usual = {flag: attrgetter(place)(Asked()) for flag, place in OPTIONS.items()}
    assert {flag: known[flag] for flag in usual} == {**usual, "--priority": "drug"}
    assert usual["--priority"] == (EntityCategory.DRUG,) and known["--recipe"] == KEEP


def test_a_folder_that_is_no_cycle_of_a_root_begins_one(tmp_path: Path) -> None:
    words = next_words(tmp_path / "copied")
    assert told(words, "--out") == "cycles/" and "--cycle" not in words and told(words, "--base") == "BASE"


def test_a_request_or_manifest_that_lies_elsewhere_is_not_read(tmp_path: Path) -> None:
    cycle = turned(tmp_path)
    for name in (cycle.request.name, cycle.manifest.name):
        moved = cycle.folder.rename(tmp_path / name) / name
        cycle.folder.mkdir()
        (cycle.folder / name).symlink_to(moved)
        words = next_words(cycle.folder)
        assert told(words, "--base") == "BASE" and "--data-root" not in words
        (cycle.folder / name).unlink()
        cycle.folder.rmdir()
        (tmp_path / name).rename(cycle.folder)


def test_a_hostile_manifest_or_base_moves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "cycle1"
    folder.mkdir()
    (folder / "request.json").write_text(json.dumps({"base_name": "a; rm -rf ~ \x1b[2J"}))
    (folder / "manifest.jsonl").write_text('{"audio_filepath": "a\\u0000/b.wav"}\n{"audio_filepath": 3}\nnone\n')
    command = advise(Situation(decision=decided("gate"), folder=str(folder)))[0].next_command
    assert "\x1b" not in command and told(shlex.split(command), "--base").startswith("a; rm -rf ~")
    (folder / "request.json").write_text('{"base_name": 3}')
    with pytest.raises(Exception, match=r"request\.json: cannot be read") as refused:
        next_words(folder)
    assert "\n" not in str(refused.value)


def test_the_command_line_quotes_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my cycles" / "cycle1"
    folder.mkdir(parents=True)
    (folder / "decision.json").write_bytes(msgspec.json.encode(decided("guard")))
    done = run(str(folder))
    said = next(line for line in done.stdout.splitlines() if line.startswith("  next"))
    words = shlex.split(said)
    assert told(words, "--manifest") == f"{folder}/manifest.jsonl" and told(words, "--cycle") == "2"


@pytest.mark.parametrize("name", ["cyc[v2]", "q[/x]", "[bold]"])
def test_a_finished_cycle_names_its_files_as_they_are(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from clinical_asr.cli.wheel import _show

    cycle = turned(tmp_path, name)
    _show(cycle, decided("build"))
    lines = capsys.readouterr().out.splitlines()
    assert f"decision: {cycle.decision}" in lines and f"open:     {cycle.leaderboard('before', 'html')}" in lines


# --- what is recommended can run --------------------------------------------------------------------------------------


def test_a_rented_gpu_is_recommended_with_a_recipe_that_runs_there() -> None:
    rented = [command for command in recommended() if re.search(r"--runner (brev|container|ssh\+container)", command)]
    assert rented
    for command in rented:
        words = shlex.split(command)
        refuse_unknown(load_recipe(told(words, "--recipe")))
    sayings = [line for entry in knowledge()["symptoms"].values() for line in entry["say"]]
    sayings += advise(Situation(priority_ker=0.42, rows=130, rows_per_category={"drug": 60}))[0].say_first
    assert all("--recipe smoke" in line for line in sayings if "--runner brev" in line)


def test_what_else_a_rented_gpu_means_is_said_first() -> None:
    said = " ".join(advise(Situation(symptoms=("no-gpu",)))[0].say_first)
    assert "general English may get worse" in said


def test_no_placeholder_is_left_in_what_is_said() -> None:
    for known in [{"symptoms": (name,)} for name in knowledge()["symptoms"]] + [
        {"wishes": (name,)} for name in knowledge()["wishes"]
    ]:
        assert not re.search(r"[{}]", advise(Situation(**known))[0].next_command)


@pytest.mark.parametrize("command", sorted(set(recommended())))
def test_a_recommended_command_names_all_that_it_requires(command: str) -> None:
    place, words = found(command)
    required = [p for p in place.params if p.required and p.param_type_name == "option"]
    assert not [option.name for option in required if not set(option.opts) & set(words)]


# --- the doctor does not pass over what it was given ------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [["--endpoint", "nope.invalid:1"], ["--model", "mini"], ["--allow", "nvcf"], ["--tls"], ["--tls-ca", "ca.pem"],
     ["--language", "de-DE"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_an_endpoint_that_nobody_asks_is_refused(words: list[str]) -> None:
    error = CliRunner(env={"ASR_ENDPOINT": ""}).invoke(app, ["doctor", *words]).exception
    assert isinstance(error, ConfigError) and error.where == words[0] and "add --smoke" in error.mend


def test_the_smoke_test_hears_by_a_model_or_by_a_service() -> None:
    both = ["doctor", "--smoke", "--model", "mini", "--endpoint", "127.0.0.1:1"]
    assert isinstance(CliRunner().invoke(app, both).exception, ConfigError)


def test_an_address_in_the_environment_alone_is_no_order(tmp_path: Path) -> None:
    done = CliRunner(env={"ASR_ENDPOINT": "nope.invalid:1"}).invoke(
        app, ["doctor", "--json", "--folder", str(tmp_path)]
    )
    assert done.exit_code in (0, 2) and not isinstance(done.exception, ConfigError)
