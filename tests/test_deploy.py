"""What a model is told to be, and what a hand-off holds: real tiny models, cycles that promote or do not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from clinical_asr.cli import app
from clinical_asr.cycle import Cycle, file_digest
from clinical_asr.deploy import DeployConfig, deploy
from clinical_asr.errors import ConfigError, FlywheelError, ManifestError, ModelError
from clinical_asr.flywheel import turn
from clinical_asr.handoff import Evidence, Sources, cycle_at, gather, sources_of
from clinical_asr.inspection import inspect_model
from clinical_asr.jsonl import read_json, write_json
from clinical_asr.licences import licence_of
from clinical_asr.model_card import _data, cell
from clinical_asr.riva_commands import build_command, deploy_command, plan_of, run_command, steps_of
from clinical_asr.routes import ROUTES, route_of
from clinical_asr.training import TrainingReport
from nemo_builder import CTC, HYBRID, RNNT, STREAMING, TDT, nemo, tensor_table, weights
from test_docs import check_command
from wheel import Works, engines, request

CONFIG = DeployConfig(name="ward-model", licence="cc-by-4.0")
KINDS = {"tdt": TDT, "rnnt": RNNT, "ctc": CTC}


class RealFiles(Works):
    """The fakes of the wheel, but what is trained is a readable ``.nemo``."""

    config: Any = TDT

    def train(self, job: Any, evaluate: Any, on_step: Any) -> TrainingReport:
        report = super().train(job, evaluate, on_step)
        nemo(job.output, self.config, weights(tensor_table()))
        return replace(report, digest=file_digest(job.output))


def turned(folder: Path, number: int = 1, config: Any = TDT, **works: Any) -> Cycle:
    """A whole cycle whose trained model is readable, and that the recogniser still takes for tuned."""
    at, done = Cycle(folder / "cycles", number), RealFiles(**works)
    done.config = config
    machines = engines(done, at, [])

    def transcriber(path: Path, name: str) -> Any:
        heard = machines.transcriber(path, name)
        heard.tuned = path.name == at.adapted_model.name
        return heard

    turn(at, request(folder), replace(machines, transcriber=transcriber))
    return at


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Cycle:
    """A cycle that ended with ``promote``."""
    cycle = turned(tmp_path_factory.mktemp("promoted"))
    assert read_json(cycle.decision)["verdict"] == "promote"
    return cycle


def copied(cycle: Cycle, folder: Path) -> Cycle:
    shutil.copytree(cycle.root, folder / "cycles")
    return Cycle(folder / "cycles", cycle.number)


def evidence_of(cycle: Cycle) -> Evidence:
    return gather(sources_of(cycle))


# --- what a model is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_route_follows_the_decoder(kind: str, tmp_path: Path) -> None:
    found = inspect_model(nemo(tmp_path / "a.nemo", KINDS[kind], weights(tensor_table())))
    assert found.architecture.decoder == kind and found.trainable and found.parameters == 2000
    assert found.deploy == {"riva_decoder": "greedy_ctc" if kind == "ctc" else "nemo",
                            "nim_family": ROUTES[kind].family, "nemo2riva": ROUTES[kind].nemo2riva}  # fmt: skip
    assert ROUTES[kind].nemo2riva["format"] == ("onnx" if kind == "ctc" else "nemo")


def test_a_hybrid_is_converted_first(tmp_path: Path) -> None:
    found = inspect_model(nemo(tmp_path / "a.nemo", HYBRID))
    assert found.deploy["convert_first"] == {"rnnt": "tdt", "ctc": "ctc"}
    assert not found.trainable and "two heads" in found.refusals[0]
    with pytest.raises(ModelError, match="--head rnnt or --head ctc"):
        route_of(found.architecture, "a.nemo")
    for head, file in (("rnnt", "m-rnnt.nemo"), ("ctc", "m-ctc.nemo")):
        plan = plan_of("m", found.architecture, route_of(found.architecture, "a", head), "offline", "en-US", head=head)
        convert = steps_of(plan)[1].command
        assert convert[convert.index("python") :][2:] == ["-i", "m.nemo", "-o", file, "-m", head]
        assert f"path: /riva_build_deploy/{file}," in " ".join(build_command(plan))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_a_model_does_not_have_is_not_kept(kind: str, tmp_path: Path) -> None:
    found = inspect_model(nemo(tmp_path / "a.nemo", KINDS[kind], weights(tensor_table())))
    own, other = ("ctc", "rnnt") if kind == "ctc" else ("rnnt", "ctc")
    assert route_of(found.architecture, "a.nemo", own) == ROUTES[kind]
    for head in (other, "attention"):
        with pytest.raises(ModelError, match=f"a.nemo: has one head, {kind}, and no '{head}'; leave --head out"):
            route_of(found.architecture, "a.nemo", head)


def test_streaming_unknown_and_adapted_models_say_what_was_read(tmp_path: Path) -> None:
    streaming = inspect_model(nemo(tmp_path / "s.nemo", STREAMING))
    assert (
        streaming.deploy["nim_family"] == "nemotron-streaming-*"
        and streaming.architecture.context == "[70, 13] [70, 0]"
    )
    assert "collapses" in streaming.refusals[0]
    other = inspect_model(
        nemo(tmp_path / "o.nemo", {**TDT, "target": "nemo.collections.asr.models.EncDecMultiTaskModel"})
    )
    assert "class nemo.collections.asr.models.EncDecMultiTaskModel" in other.deploy["refused"]
    adapted = inspect_model(nemo(tmp_path / "a.nemo", {**TDT, "adapters": {"ward": {"dim": 8}}}))
    assert not adapted.trainable and "NaN" in adapted.refusals[0]


@pytest.mark.nemo
def test_real_models_are_described(tiny_nemo: Path, tiny_ctc: Path, tiny_rnnt: Path) -> None:
    for path, kind in ((tiny_nemo, "tdt"), (tiny_ctc, "ctc"), (tiny_rnnt, "rnnt")):
        found = inspect_model(path)
        a = found.architecture
        assert (a.decoder, a.layers, a.width, a.mels, a.subsampling, a.frame_ms) == (kind, 2, 48, 80, 8, 80.0)
        assert (a.tokenizer, a.vocabulary, a.sample_rate, a.context) == ("SentencePiece", 96, 16000, "full")
        assert a.text_style == "lower case, no punctuation" and found.nemo_version.startswith("3.")
        assert found.sha256 == file_digest(path) and found.deploy["nim_family"] == ROUTES[kind].family
        assert a.durations == ((0, 1, 2, 3, 4) if kind == "tdt" else ())


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "clinical_asr", *words], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **environment})  # fmt: skip


def test_inspect_prints_a_table_or_json_and_loads_no_torch() -> None:
    shown = command("model", "inspect", "mini", COLUMNS="200")
    assert shown.returncode == 0 and "11,900,102" in shown.stdout and "parakeet-tdt-*" in shown.stdout
    told = json.loads(command("model", "inspect", "mini", "--json").stdout)
    assert (told["parameters"], told["trainable"], told["architecture"]["frame_ms"]) == (11_900_102, True, 80.0)
    assert told["sha256"] in shown.stdout
    code = ("import sys; sys.argv = ['x', 'model', 'inspect', 'mini']\nfrom clinical_asr.cli import main\n"
            "try: main()\nexcept SystemExit: pass\nprint({'torch', 'nemo'} & set(sys.modules))")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.endswith("set()\n")


# --- the hand-off -----------------------------------------------------------------------------------------------------


def test_a_promoted_cycle_becomes_a_whole_folder(promoted: Cycle, tmp_path: Path) -> None:
    out = tmp_path / "handoff"
    done = deploy(evidence_of(promoted), CONFIG, out)
    assert not done.already and not (tmp_path / "handoff.part").exists()
    assert file_digest(out / "ward-model.nemo") == done.digest == file_digest(promoted.adapted_model)
    sums = dict(line.split("  ")[::-1] for line in (out / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert set(sums) == files - {"SHA256SUMS"}
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    told = {"comparison.json", "decision.json", "training_run_info.json", "leaderboard.json"}
    assert {"README.md", "DEPLOY.md", "deploy.json", "offline_hyps.jsonl"} | {
        f"evidence/{one}" for one in told
    } <= files
    assert subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out).returncode == 0


def test_the_card_says_what_it_is_worth_and_where_it_fails(promoted: Cycle, tmp_path: Path) -> None:
    evidence = evidence_of(promoted)
    deploy(evidence, CONFIG, tmp_path / "h")
    card = (tmp_path / "h" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "cc-by-4.0" and front["library_name"] == "nemo" and front["language"] == ["en"]
    judgement = read_json(promoted.comparison("json"))
    assert f"| {judgement['held_out']['rows']} | {judgement['held_out']['terms']} | 100.0 % | 0.0 % |" in card
    assert f"| {judgement['guard']['rows']} |" in card and "within the margin" in card and "95 %" in card
    for needed in (evidence.digest, evidence.story.base.sha256, "Not a medical device", "licensed under CC BY 4.0",
                   evidence.story.data["train"]["manifest_digest"], "Recipe `fake`", "Way back"):  # fmt: skip
        assert needed in card, needed
    assert "Not promoted" not in card
    assert "| held out, chose the best epoch |" in card and "that chose" not in card


def test_the_card_says_who_chose() -> None:
    """Where rows of their own choose, those that decide did not."""
    counts = {name: {"rows": n, "seconds": 3600.0, "manifest_digest": "d"} for n, name in enumerate(
        ("selection", "train", "selection_guard", "validation"), 4)}  # fmt: skip
    told = _data(counts)
    assert "| clinical rows that chose | 4 | 1.00 | d |" in told and "| general speech that chose | 6 |" in told
    assert "| held out | 7 |" in told and "held out, chose" not in told


def test_deploy_json_holds_the_commands_as_lists_and_the_page_as_shell(promoted: Cycle, tmp_path: Path) -> None:
    deploy(evidence_of(promoted), CONFIG, tmp_path / "h")
    told, page = read_json(tmp_path / "h" / "deploy.json"), (tmp_path / "h" / "DEPLOY.md").read_text()
    shown = re.findall(r"```sh\n(.*?)\n```", page, re.DOTALL)
    assert [shlex.split(line) for line in shown] == [step["command"] for step in told["steps"]]
    assert told["riva"] | {"image": ""} == {
        "decoder": "nemo", "nim_family": "parakeet-tdt-*", "image": "", "nemo2riva": {"format": "nemo"},
        "mode": "offline", "language": "en-US", "head": "",
    }  # fmt: skip
    assert told["decision"] == {"verdict": "promote", "promoted": True, "override": "",
                                "reason": read_json(promoted.decision)["reason"]}  # fmt: skip
    assert all(doubt in page for doubt in told["check_first"]) and len(told["check_first"]) >= 4
    ours = [step["command"][1:] for step in told["steps"] if step["command"][0] == "clinical-asr"]
    assert [words[0] for words in ours] == ["hypotheses", "parity"]
    for words in ours:
        check_command(words)


def test_commands_say_the_architecture_outright() -> None:
    from clinical_asr.architecture import architecture_of

    ctc = architecture_of(CTC)
    plan = plan_of("m", ctc, ROUTES["ctc"], "streaming", "en-US", tag="1.2")
    build = build_command(plan)
    assert (
        build[:5] == ["docker", "run", "--rm", "--gpus", "all"]
        and "nvcr.io/nim/nvidia/parakeet-0-6b-ctc-en-us:1.2" in build
    )
    settings = build[build.index("--config-name=streaming") + 1 :]
    assert (
        settings[1]
        == "source_path=[{path: /riva_build_deploy/m.nemo, nemo2riva: {format:onnx, onnx_opset:19, max_dim:1000}}]"
    )
    assert {"decoder=greedy_ctc", "ms_per_timestep=80", "chunk_size=0.16", "language_code=en-US"} <= set(settings)
    place = deploy_command(plan)
    assert place[place.index("./nim_export:/model_tar") - 1] == "-v" and place[-2] == "-c"
    serve = run_command(plan)
    assert "NGC_API_KEY" in serve and not any(word.startswith("NGC_API_KEY=") for word in serve)
    assert [word for word in serve if word.startswith("127.0.0.1:")] == ["127.0.0.1:9000:9000", "127.0.0.1:50051:50051"]


def test_the_same_command_again_finds_it_complete_and_another_is_refused(promoted: Cycle, tmp_path: Path) -> None:
    evidence, out = evidence_of(promoted), tmp_path / "h"
    deploy(evidence, CONFIG, out)
    (tmp_path / "h.part").mkdir()  # what a killed run left
    assert deploy(evidence, CONFIG, out).already
    with pytest.raises(ConfigError, match="is not empty"):
        deploy(evidence, DeployConfig(name="other", licence="cc-by-4.0"), out)
    (out / "README.md").write_text("changed")
    with pytest.raises(ConfigError, match=r"has been changed \(README.md\)"):
        deploy(evidence, CONFIG, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        deploy(evidence, CONFIG, tmp_path / "full")
    assert (tmp_path / "full" / "x").read_text() == "mine"


def test_a_copy_that_goes_wrong_leaves_no_folder(
    promoted: Cycle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = evidence_of(promoted)
    real = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", lambda a, b: (real(a, b), b.write_bytes(b"cut")))
    with pytest.raises(ModelError, match="changed while it was copied"):
        deploy(evidence, CONFIG, tmp_path / "h")
    assert not (tmp_path / "h").exists()
    monkeypatch.undo()
    assert not deploy(evidence, CONFIG, tmp_path / "h").already


def test_what_was_not_promoted_needs_a_typed_reason_that_stands_in_the_card(tmp_path: Path) -> None:
    cycle = turned(tmp_path, general_errors=50)
    assert read_json(cycle.decision)["verdict"] == "not promoted"
    evidence = evidence_of(cycle)
    with pytest.raises(FlywheelError, match="was not promoted"):
        deploy(evidence, CONFIG, tmp_path / "h")
    with pytest.raises(ConfigError, match="no reason"):
        DeployConfig(name="m", not_promoted="because")
    reason = "A trial on ward 4B only; | <b>nobody</b> relies on it"
    deploy(evidence, DeployConfig(name="m", licence="apache-2.0", not_promoted=reason), tmp_path / "h")
    card = (tmp_path / "h" / "README.md").read_text()
    assert "**Not promoted.**" in card and cell(reason) in card and "<b>" not in card
    told = read_json(tmp_path / "h" / "deploy.json")["decision"]
    assert told["override"] == reason and told["promoted"] is False


def test_a_model_that_is_not_the_one_that_was_judged_is_refused(promoted: Cycle, tmp_path: Path) -> None:
    cycle = copied(promoted, tmp_path)
    nemo(cycle.adapted_model, RNNT, weights(tensor_table()))
    with pytest.raises(ModelError, match=r"training_run_info\.json says [0-9a-f]{64}, the digest here is"):
        evidence_of(cycle)
    for path, change in ((cycle.comparison("json"), "signatures"), (cycle.leaderboard("after", "json"), "signature")):
        other = copied(promoted, tmp_path / path.stem)
        target = other.folder / path.name
        told = read_json(target)
        signature = told[change][1] if change == "signatures" else told[change]
        signature["model_digest"] = "0" * 16
        write_json(target, told)
        with pytest.raises(ModelError, match="is about another model"):
            evidence_of(other)


def test_a_decision_that_was_edited_is_noticed(promoted: Cycle, tmp_path: Path) -> None:
    cycle = copied(promoted, tmp_path)
    told = read_json(cycle.comparison("json"))
    write_json(cycle.comparison("json"), {**told, "verdict": "not promoted", "exit_code": 5})
    with pytest.raises(FlywheelError, match="comparison and decision differ"):
        evidence_of(cycle)


def test_cycles_that_are_missing_unfinished_or_not_tuned_say_so(promoted: Cycle, tmp_path: Path) -> None:
    for folder in (tmp_path / "cycle9", tmp_path, promoted.root):
        with pytest.raises(ConfigError, match="there is no cycle in"):
            cycle_at(folder)
    cycle = copied(promoted, tmp_path)
    cycle.adapted_model.unlink()
    with pytest.raises(FlywheelError, match=r"holds no adapted_model\.nemo"):
        sources_of(cycle_at(cycle.folder))
    cycle.decision.unlink()
    with pytest.raises(FlywheelError, match="it is not finished"):
        sources_of(cycle)


def test_the_last_promoted_model_is_the_first_way_back(promoted: Cycle, tmp_path: Path) -> None:
    first = copied(promoted, tmp_path)
    shutil.copytree(first.folder, first.root / "cycle2")
    second = Cycle(first.root, 2)
    shutil.move(second.folder / "leaderboard_cycle2.json", second.leaderboard("after", "json"))
    found = evidence_of(second)
    assert found.previous is not None and found.previous.sha256 == file_digest(first.adapted_model)
    deploy(found, CONFIG, tmp_path / "h")
    told = read_json(tmp_path / "h" / "deploy.json")["rollback"]
    assert [one["sha256"] for one in told] == [found.previous.sha256, found.story.base.sha256]


def test_a_base_that_nobody_knows_is_refused(promoted: Cycle, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="under which licence fake may be passed on"):
        deploy(evidence_of(promoted), DeployConfig(name="m"), tmp_path / "h")
    sources = sources_of(promoted)
    with pytest.raises(ModelError, match="nobody knows what it was tuned from"):
        gather(Sources(sources.model, tmp_path / "gone.json", sources.comparison))
    (tmp_path / "info.json").write_text('{"model": {"sha256": "x"}}')
    with pytest.raises(ManifestError, match="base"):
        gather(Sources(sources.model, tmp_path / "info.json", sources.comparison))
    assert licence_of("mini").identifier == "apache-2.0"
    for alike in ("evil/parakeet-tdt-0.6b-v2", "parakeet-tdt-0.6b-v2.nemo", "nvidia/parakeet-tdt-0.6b-v2-mine"):
        with pytest.raises(ModelError, match="licence"):
            licence_of(alike)


def test_streaming_and_unknown_models_are_not_handed_over(promoted: Cycle, tmp_path: Path) -> None:
    from clinical_asr.architecture import architecture_of

    evidence = evidence_of(promoted)
    with pytest.raises(ModelError, match="cache-aware"):
        deploy(replace(evidence, architecture=architecture_of(STREAMING)), CONFIG, tmp_path / "h")
    other = architecture_of({**TDT, "target": "nemo.collections.asr.models.EncDecMultiTaskModel"})
    with pytest.raises(
        ModelError, match=r"no known way to Riva: class nemo\.collections\.asr\.models\.EncDecMultiTask"
    ):
        deploy(replace(evidence, architecture=other), CONFIG, tmp_path / "h")
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize(("field", "value"), [("name", "../x"), ("name", "A b"), ("language", "english"),
                                              ("tag", "a b"), ("container", "x; rm -rf /")])  # fmt: skip
def test_values_that_cannot_stand_in_a_command_are_refused(field: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"--{field}"):
        DeployConfig(**{"name": "m", field: value})


def test_the_command_line_writes_repeats_and_refuses(promoted: Cycle, tmp_path: Path) -> None:
    words = ("deploy", "--cycle", str(promoted.folder), "--out", str(tmp_path / "h"), "--licence", "apache-2.0")
    first, again = command(*words), command(*words)
    assert first.returncode == again.returncode == 0, first.stderr
    assert "written" in first.stdout and "complete already" in again.stdout
    assert (tmp_path / "h" / "fake-clinical.nemo").is_file()
    for wrong, reason in (
        (("deploy", "--cycle", str(tmp_path / "cycle3"), "--out", "x"), "there is no cycle in"),
        (("deploy", "--model", str(promoted.adapted_model), "--out", "x"), "--model and --comparison"),
        ((*words[:3], "--out", str(tmp_path), *words[5:]), "is not empty"),
        ((*words, "--sha256", "0" * 64), "not the pinned"),
        ((*words, "--mode", "fast"), "--mode"),
    ):
        error = CliRunner().invoke(app, wrong).exception
        assert isinstance(error, FlywheelError) and reason in str(error) and "\n" not in str(error)
    beside = ("--model", str(promoted.adapted_model), "--comparison", str(promoted.comparison("json")))
    done = CliRunner().invoke(app, ["deploy", *beside, "--out", str(tmp_path / "h2"), "--licence", "apache-2.0"])
    assert done.exit_code == 0 and "not known, no leaderboard" in (tmp_path / "h2" / "README.md").read_text()


def test_a_promoting_cycle_names_the_next_command(promoted: Cycle, capsys: pytest.CaptureFixture[str]) -> None:
    from clinical_asr.cli.wheel import _show
    from clinical_asr.records import Decision

    _show(promoted, read_json(promoted.decision, Decision))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next: "))
    words = shlex.split(line.removeprefix("next:"))
    assert words[:4] == ["clinical-asr", "deploy", "--cycle", str(promoted.folder)]
    assert command(*words[1:], "--licence", "apache-2.0").returncode == 0
