"""The skill for coding agents holds true: every command, flag, file, word and number in it is the code's own."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from clinical_asr import gate, rental, verdict
from clinical_asr.advise import Advice, knowledge
from clinical_asr.agent.asking import SHORTEST_SENTENCE
from clinical_asr.agent.job_tools import JOB_TOOLS, WAIT
from clinical_asr.agent.tools import PERSONS_WORDS, Toolbox
from clinical_asr.cli import app
from clinical_asr.config import ComparisonConfig, GateConfig
from clinical_asr.cycle import Cycle
from clinical_asr.egress import Service
from clinical_asr.inspection import Inspection
from clinical_asr.records import Decision, EntityCategory, IpaSource

HERE = Path(__file__).parents[1]
SKILL = (HERE / "skills" / "clinical-asr" / "SKILL.md").read_text(encoding="utf-8")
ROOT: Any = typer.main.get_command(app)
TOOLS = {**Toolbox.of(ROOT).tools, **JOB_TOOLS}
SOURCES = "".join(p.read_text(encoding="utf-8") for p in (HERE / "src").rglob("*") if p.suffix in (".py", ".yaml"))


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def commands(text: str) -> list[list[str]]:
    """Every command line, without the program."""
    lines = [line for block in blocks(text) for line in block.splitlines()] + spans(text)
    return [shlex.split(line)[1:] for line in lines if line.startswith("clinical-asr")]


def faults_of(words: list[str]) -> list[str]:
    """What the command line does not know: a command, an option, a second option of one kind."""
    command = ROOT
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return [words[0]]
        command, words = command.commands[words[0]], words[1:]
    known = {name for one in command.params for name in one.opts}
    places = [one for one in command.params if one.param_type_name == "argument"]
    takes = {name: not one.is_flag for one in command.params for name in one.opts if one not in places}
    unknown, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            unknown += [] if word in known else [word]
            rest = rest[1:] if takes.get(word) else rest
        elif not places:
            unknown.append(word)
    return unknown


def every_flag() -> Iterator[str]:
    def walk(command: Any) -> Iterator[str]:
        yield from (name for one in command.params for name in one.opts)
        for child in getattr(command, "commands", {}).values():
            yield from walk(child)

    return walk(ROOT)


def vocabulary() -> set[str]:
    """Words that a code span may hold: names of the code, no others."""
    known = knowledge()
    names = {*TOOLS, *PERSONS_WORDS, *(name for tool in TOOLS.values() for name in tool.schema["properties"])}
    names |= {*known["symptoms"], *known["wishes"], *known["elsewhere"]}
    names |= {one.value for kind in (EntityCategory, IpaSource, Service) for one in kind}
    names |= {field.name for kind in (Advice, Inspection) for field in fields(kind)} | set(Decision.__struct_fields__)
    codes = {0, 2, 130, gate.GO_BACK, verdict.INCONCLUSIVE, verdict.NOT_PROMOTED}
    told = json.loads(CliRunner().invoke(app, ["advise", "--json"]).output)
    return names | {str(code) for code in codes} | {*ROOT.commands, "term,entity_category", *told}


def files_of_a_cycle() -> set[str]:
    at = Cycle(Path())
    made = {getattr(at, name).name for name in dir(Cycle) if isinstance(getattr(Cycle, name), property)}
    for when in ("before", "after"):
        made |= {at.hypotheses(when).name, at.scores(when).name}
        made |= {at.leaderboard(when, kind).name for kind in ("json", "md", "html")}
    return made | {at.comparison(kind).name for kind in ("json", "md", "html")}


def is_file(span: str) -> bool:
    return re.fullmatch(r"[\w/.-]+\.(json|jsonl|csv|md|html|nemo|yaml)", span) is not None


def numbers(text: str) -> set[str]:
    """Numbers of the prose: no code blocks, no code spans, no headings, no list numbers, no names such as L40S."""
    prose = re.sub(r"^---\n.*?^---\n", "", text, count=1, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```\n.*?^```", "", prose, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`\n]+`|^#.*$|^\d\. |fp16|L40S", "", prose, flags=re.MULTILINE)
    return set(re.findall(r"\$?\d+(?:\.\d+)?(?: %)?", prose))


def numbers_of_the_code() -> set[str]:
    asked, kept, hour = GateConfig(), ComparisonConfig(), rental.DOLLARS_PER_HOUR
    low, high = rental.RUN_MINUTES
    assert asked.min_rows_per_category == asked.min_rows_per_source
    return {
        f"{asked.tune_above:g}", f"{asked.saturated_below:g}", str(asked.min_rows), str(asked.min_rows_per_category),
        f"{100 * kept.keep_reduction:g} %", f"{100 * kept.grow_reduction:g} %", f"{100 * kept.grow_reduction:g}",
        f"{100 * kept.guard_margin:g}", f"${hour:.2f}", f"${24 * hour:.0f}", f"${168 * hour:.0f}", str(low), str(high),
        str(WAIT["maximum"]), *(str(code) for code in (gate.GO_BACK, verdict.INCONCLUSIVE, verdict.NOT_PROMOTED)),
    }  # fmt: skip


def test_it_is_a_skill() -> None:
    front = yaml.safe_load(SKILL.split("---\n")[1])
    assert set(front) == {"name", "description"} and front["name"] == "clinical-asr"
    assert 50 < len(front["description"]) <= 1024 and len(SKILL.splitlines()) < 300
    assert SKILL.index("clinical-asr advise") < SKILL.index("clinical-asr cycle"), "the agent is sent to advise first"


@pytest.mark.parametrize("words", commands(SKILL), ids=" ".join)
def test_every_command_exists_as_it_is_written(words: list[str]) -> None:
    assert not faults_of(words)


def test_the_commands_were_found() -> None:
    assert len(commands(SKILL)) > 25
    assert {words[0] for words in commands(SKILL) if words} >= {
        "advise", "doctor", "cycle", "sentences", "pronunciations", "audition", "audio", "hypotheses", "scores",
        "leaderboard", "gate", "split", "finetune", "comparison", "deploy", "parity", "mcp", "demo",
    }  # fmt: skip


def test_every_flag_file_and_word_is_the_codes_own() -> None:
    flags, words, made = set(every_flag()), vocabulary(), files_of_a_cycle()
    unknown = []
    for span in spans(SKILL):
        if span.startswith("clinical-asr"):
            continue
        if span.startswith("--"):
            unknown += [word for word in span.split() if word.startswith("--") and word not in flags]
        elif is_file(span):
            unknown += [] if Path(span).name in made or f"{Path(span).name}" in SOURCES else [span]
        elif span not in words and span != Cycle(Path("cycles")).folder.as_posix():
            unknown.append(span)
    assert not unknown


def test_files_of_the_commands_are_those_the_code_writes() -> None:
    given = {"terms.csv", "my.nemo", "served_hyps.jsonl", "base_hyps.jsonl"}  # the person's own, or another program's
    named = {Path(word).name for words in commands(SKILL) for word in words if is_file(word)}
    assert not {name for name in named if name not in files_of_a_cycle() and name not in SOURCES} - given


def test_every_number_is_the_codes_own() -> None:
    found = numbers(SKILL)
    assert len(found) >= 12
    assert not found - numbers_of_the_code()
    gated = GateConfig()
    assert f"above {gated.tune_above:g}, with {gated.min_rows} rows and {gated.min_rows_per_category} rows" in SKILL
    assert (
        f"| {gated.saturated_below:g} to {gated.tune_above:g} |" in SKILL
        and f"below {gated.saturated_below:g} |" in SKILL
    )
    assert f"by more than {100 * ComparisonConfig().guard_margin:g} points" in SKILL


def test_all_that_can_be_asked_about_is_named() -> None:
    for section in ("symptoms", "wishes", "elsewhere"):
        assert not [name for name in knowledge()[section] if f"`{name}`" not in SKILL]


def test_every_tool_is_named() -> None:
    for name in TOOLS:
        assert f"`{name}`" in SKILL
    assert set(re.findall(r"`(\w+)`", SKILL.split("With tools instead")[1])) <= vocabulary()


@pytest.mark.parametrize("said", [
    "before anything is rented", "typed YES", "leaves the machine", "streaming bases", "adapters and LoRA", "tokenizer",
    "fp16", "Held-out rows only", "guard set", "Inconclusive is an answer", "Recordings of patients", "person's",
])  # fmt: skip
def test_what_must_be_said_is_there(said: str) -> None:
    assert said in SKILL


def test_the_checks_find_what_is_not_so() -> None:
    assert faults_of(["gate", "h.jsonl", "--loud"]) == ["--loud"] and faults_of(["turn"]) == ["turn"]
    assert faults_of(["doctor", "now"]) == ["now"] and not faults_of(["gate", "h.jsonl", "--priority", "drug"])
    assert numbers("a KER above 0.35, `0.9`") - numbers_of_the_code() == {"0.35"}
    assert commands("```\nclinical-asr gate h\n```\nor `clinical-asr turn`") == [["gate", "h"], ["turn"]]
    assert "invented_tool" not in vocabulary() and "invented.json" not in files_of_a_cycle()


def test_no_sentence_of_it_stands_in_the_documentation() -> None:
    """It is written for its reader: a page that is pasted in twice is wrong in one place soon."""
    sentences = {one.strip() for one in re.split(r"(?<=[.:])\s", SKILL) if len(one) > 60}
    for page in [HERE / "README.md", *(HERE / "docs").glob("*.md")]:
        assert not [one for one in sentences if one in page.read_text(encoding="utf-8")]
    assert SHORTEST_SENTENCE == 20, "the audition asks for as much"
