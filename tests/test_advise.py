"""Advice: every situation has an answer, with its numbers, a command that exists, and an exit code."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from board import guard
from clinical_asr.advise import AFTER, advise, knowledge
from clinical_asr.cli import app
from clinical_asr.compared import Comparison
from clinical_asr.errors import ConfigError
from clinical_asr.records import Decision, Stratum
from clinical_asr.situation import Situation, board_of
from clinical_asr.triage import triage
from clinical_asr.verdict import NOT_PROMOTED, decide, judge
from test_comparison_edges import compared

ENOUGH = {"drug": 60, "lab": 70}


def asked(**known: Any) -> tuple[str, int, str]:
    """Verdict, exit code and everything that is said."""
    first = advise(Situation(**known))[0]
    return first.verdict, first.exit_code, " ".join([*first.reasons, first.next_command, *first.say_first])


@pytest.mark.parametrize(
    ("known", "verdict", "code", "said"),
    [
        ({}, "build a benchmark first", 3, "--terms TERMS.csv"),
        ({"rows": 130}, "evaluate first", 3, "clinical-asr hypotheses"),
        ({"priority_ker": 0.42, "rows": 130, "rows_per_category": ENOUGH}, "fine-tune", 0, "0.420 on 130 rows"),
        ({"priority_ker": 0.42, "rows": 39, "rows_per_category": {"drug": 39}}, "grow", 3, "39 rows, 100 needed"),
        ({"priority_ker": 0.42, "rows": 130, "rows_per_category": {"drug": 4}}, "grow", 3, "4 drug rows, 5 needed"),
        ({"priority_ker": 0.2, "rows": 130, "rows_per_category": ENOUGH}, "expand terms", 3, "first evaluation"),
        ({"priority_ker": 0.2, "rows": 130, "rows_per_category": ENOUGH, "evaluation": 2}, "fine-tune", 0, "0.200"),
        ({"priority_ker": 0.05, "rows": 130, "rows_per_category": ENOUGH}, "harden benchmark", 3, "under 0.1"),
        (
            {"priority_ker": 0.4, "rows": 130, "ker_by_source": {"g2p": (0.6, 20), "override": (0.05, 20)}},
            "fix pronunciations", 3, "clinical-asr audition",
        ),
        (
            {"priority_ker": 0.4, "rows": 130, "ker_by_noise": {"clean": (0.05, 30), "snr_5db": (0.6, 30)}},
            "add noise diversity", 3, "0.600 at snr_5db",
        ),
        ({"base": "nvidia/nemotron-speech-streaming-en-0.6b"}, "refused", 2, "serve it in chunks"),
        ({"base": "openai/whisper-large-v3"}, "refused", 2, "attention decoder"),
        ({"wishes": ("adapters",)}, "refused", 2, "NaN"),
        ({"wishes": ("tokenizer",)}, "refused", 2, "RNN-T"),
        ({"wishes": ("fp16",)}, "refused", 2, "bf16-mixed"),
        ({"symptoms": ("out-of-memory",)}, "smaller batch", 3, "accumulate_grad_batches"),
        ({"symptoms": ("no-bf16",)}, "train in fp32", 3, "fp32"),
        ({"symptoms": ("unknown-tokens",)}, "change the base", 3, "offline base"),
        ({"symptoms": ("every-row-missed",)}, "look before tuning", 3, "manifest check"),
        ({"symptoms": ("words-wrong-terms-right",)}, "not a vocabulary problem", 3, "style"),
        ({"symptoms": ("served-differs",)}, "mend the serving", 3, "Do not fine-tune"),
        ({"symptoms": ("no-gpu",)}, "use the mini base, or a rented GPU", 3, "$1.50 an hour"),
        ({"topics": ("api-keys",)}, "ask elsewhere", 0, "dictionaryapi.com"),
        ({"topics": ("container-toolkit",)}, "ask elsewhere", 0, "doctor"),
        ({"wants_deploy": True, "base": "x.nemo"}, "read the model first", 3, "model inspect x.nemo"),
    ],
)  # fmt: skip
def test_every_situation_has_its_answer(known: dict[str, Any], verdict: str, code: int, said: str) -> None:
    found = asked(**known)
    assert found[:2] == (verdict, code) and said in found[2]


def outcomes() -> dict[str, Comparison]:
    """What a comparison can come to, by the symptom under which somebody tells it; 100 of 200 rows missed before."""
    barely, spoilt = compared(98, terms=200), (guard(1000, 10), guard(1000, 50))
    stopped = judge(barely, [decide(barely)])
    return {
        "ker-barely-moved": barely, "ker-got-worse": compared(140),
        "two-flat-cycles": replace(barely, verdict=stopped[0], next_stage=stopped[2], exit_code=stopped[3]),
        "guard-worse": compared(guards=spoilt), "grew": compared(90), "promoted": compared(20),
        "too few terms": compared(20, terms=2), "no guard set": compared(guards=([], [])),
        "nothing held out": compared(stratum=Stratum.TRAINED),
    }  # fmt: skip


@pytest.mark.parametrize("name", outcomes())
def test_whatever_a_cycle_decided_has_its_advice(name: str) -> None:
    found = outcomes()[name]
    decision = Decision(
        verdict=found.verdict, reason=found.reason, evidence={}, next_stage=found.next_stage, exit_code=found.exit_code
    )
    first, *others = advise(Situation(decision=decision, folder="cycles/cycle1"))
    assert (first.verdict, first.reasons, first.exit_code, others) == (
        found.verdict, [found.reason], found.exit_code, [])  # fmt: skip
    assert first.next_command == advise_command(found.next_stage)


def advise_command(stage: str) -> str:
    known = {"folder": "cycles/cycle1", "base": "BASE", "manifest": "cycles/cycle1/manifest.jsonl"}
    return AFTER[stage].format(**known, out="cycles", turn="--cycle 2", recipe="RECIPE.yaml")


@pytest.mark.parametrize("symptom", [name for name, told in knowledge()["symptoms"].items() if "stage" in told])
def test_what_is_only_told_of_a_cycle_is_answered_as_the_cycle_itself_would(symptom: str) -> None:
    found, told = outcomes()[symptom], knowledge()["symptoms"][symptom]
    assert (told["verdict"], told["stage"]) == (found.verdict, found.next_stage)
    first = advise(Situation(symptoms=(symptom,)))[0]
    assert (first.verdict, first.exit_code) == (found.verdict, NOT_PROMOTED)


def test_every_ending_of_a_bad_cycle_can_be_told() -> None:
    assert {"ker-barely-moved", "ker-got-worse", "two-flat-cycles", "guard-worse"} <= set(knowledge()["symptoms"])


def test_a_read_model_says_its_way_to_a_server() -> None:
    from clinical_asr.architecture import architecture_of

    read = architecture_of(
        {"target": "nemo.collections.asr.models.EncDecCTCModelBPE", "decoder": {}, "sample_rate": 16000}
    )
    verdict, code, said = asked(wants_deploy=True, base="ctc.nemo", architecture=read)
    assert (verdict, code) == ("deploy", 0) and "decoder=greedy_ctc" in said and "parakeet-*-ctc-*" in said


def test_refusals_come_before_the_numbers() -> None:
    found = advise(Situation(priority_ker=0.42, rows=130, rows_per_category=ENOUGH, wishes=("adapters",)))
    assert [advice.verdict for advice in found] == ["refused", "fine-tune"]


@pytest.mark.parametrize("field", ["symptoms", "wishes", "topics"])
def test_what_is_not_known_is_named(field: str) -> None:
    with pytest.raises(ConfigError, match=r"no advice about 'toothache'; one of"):
        advise(Situation(**{field: ("toothache",)}))


@given(
    ker=st.floats(0, 1), rows=st.integers(0, 400), drug=st.integers(0, 300), evaluation=st.integers(1, 3),
)  # fmt: skip
def test_the_gate_itself_decides(ker: float, rows: int, drug: int, evaluation: int) -> None:
    known = Situation(priority_ker=ker, rows=rows, rows_per_category={"drug": drug}, evaluation=evaluation)
    first = advise(known)[0]
    assert first.verdict == triage(board_of(known), evaluation, known.gate).verdict
    assert advise(known) == advise(known)


# --- commands that are recommended exist ------------------------------------------------------------------------------


def recommended() -> list[str]:
    entries = [entry for section in ("symptoms", "wishes") for entry in knowledge()[section].values()]
    told = [entry["next"] for entry in entries if "next" in entry]
    source = (Path(__file__).parents[1] / "src" / "clinical_asr" / "advise.py").read_text()
    return [*told, *AFTER.values(), *re.findall(r'"(clinical-asr [^"]+)"', source)]


def found(command: str) -> tuple[Any, list[str]]:
    """What a command line leads to, as far as there are commands, and the words that are left."""
    place: Any = typer.main.get_command(app)
    words = shlex.split(command)[1:]
    while words and words[0] in getattr(place, "commands", {}):
        place = place.commands[words.pop(0)]
    return place, words


@pytest.mark.parametrize("command", sorted(set(recommended())))
def test_a_recommended_command_exists_with_its_options(command: str) -> None:
    place, words = found(command)
    assert not hasattr(place, "commands"), f"{command}: no such command"
    options = {name for parameter in place.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_no_threshold_of_the_gate_is_written_down_twice() -> None:
    """The advice takes its numbers from the gate: none stands in its own source."""
    source = (Path(__file__).parents[1] / "src" / "clinical_asr" / "advise.py").read_text()
    assert not re.search(r"(?<![\w.])0\.[0-9]*[13]\b", source)


# --- the command line -------------------------------------------------------------------------------------------------


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clinical_asr", "advise", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_json_for_machines() -> None:
    done = run("--priority-ker", "0.42", "--rows", "130", "--rows-per-category", "drug=60,lab=70", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["verdict"] == "fine-tune" and told["also"] == []
    assert told["evidence"]["conditions"][0]["number"] == pytest.approx(0.42)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows-per-category", "drug"], "'drug' is not name=number"),
        (["--ker-by-source", "g2p=much:20"], "'much' is no number"),
        (["--ker-by-noise", "clean=0.1"], "is no number"),
        (["--symptom", "toothache"], "no advice about 'toothache'"),
        (["nowhere.json"], "nowhere.json: no such file"),
        (["a", "b", "c"], "3 files"),
    ],
)
def test_wrong_input_is_one_line(words: list[str], said: str) -> None:
    done = run(*words)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_a_cycle_folder_is_read(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert done.returncode == 2 and "holds no decision.json" in done.stderr
    decided = {"verdict": "promote", "reason": "held-out KER fell", "evidence": {}, "next_stage": "deploy"}
    (tmp_path / "decision.json").write_text(json.dumps({**decided, "exit_code": 0}))
    done = run(str(tmp_path))
    assert done.returncode == 0 and f"clinical-asr deploy --cycle {tmp_path} --out handoff" in done.stdout


def test_a_decision_that_leads_nowhere_is_refused_in_one_line(tmp_path: Path) -> None:
    decided = {"verdict": "go", "reason": "", "evidence": {}, "next_stage": "moon", "exit_code": 0}
    (tmp_path / "decision.json").write_text(json.dumps(decided))
    done = run(str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "decision.json: names a next stage 'moon'" in done.stderr


def test_two_boards_say_what_they_cannot_say(tmp_path: Path) -> None:
    import msgspec

    paths = []
    for name, ker in (("before", 0.5), ("after", 0.1)):
        board = board_of(Situation(priority_ker=ker, rows=130, rows_per_category=ENOUGH))
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_bytes(
            msgspec.json.encode(msgspec.to_builtins(board)).replace(b":30.0,", b":30,").replace(b":6.0,", b":6,")
        )
    done = run(*map(str, paths))
    assert done.returncode == 4 and "0.500 -> 0.100" in done.stdout and "trained on" in done.stdout


def test_a_decision_that_lies_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text("{}")
    folder = tmp_path / "cycle1"
    folder.mkdir()
    (folder / "decision.json").symlink_to(tmp_path / "elsewhere.json")
    done = run(str(folder))
    assert done.returncode == 2 and "is a link that leads out of its folder" in done.stderr
