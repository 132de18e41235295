"""The agent's door under the SDK's own client: what is offered, what is refused, what the person allows, and jobs."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import typer

pytest.importorskip("mcp")

import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters

from clinical_asr.agent import prompts, resources
from clinical_asr.agent.jobs import FINISHED, LOST, RUNNING, Jobs
from clinical_asr.agent.keys import Environment
from clinical_asr.agent.project import OWN, Project
from clinical_asr.agent.schema import parameters_of
from clinical_asr.agent.server import make_server
from clinical_asr.agent.tools import PERSONS_WORDS, Toolbox
from clinical_asr.cli import app
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.lock import locked
from clinical_asr.records import Decision
from patience import until
from tiny_model import Shape, make_tiny_model

ROOT = typer.main.get_command(app)
BOX = Toolbox.of(ROOT)
CANARY = "nvapi-canary-0123456789abcdef"
ERAS = ("2026-07-28", "legacy")
SENTENCE = "It is a test of the driver, nobody will use it."
Talk = Callable[[Client], Awaitable[Any]]


class Person:
    """Answers what the client shows; keeps what was asked."""

    def __init__(self, action: str = "accept", **content: Any) -> None:
        self.action, self.content, self.asked = action, content, []  # type: ignore[var-annotated]

    async def __call__(self, _: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params.message)
        content = self.content if self.action == "accept" else None
        return types.ElicitResult(action=self.action, content=content)  # type: ignore[arg-type]


WILLING = {"allow": True, "waive_audition": SENTENCE, "not_promoted": SENTENCE}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with three terms; outside it a file that must never be reached."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "terms.csv").write_text("term,entity_category\ncefazolin,drug\napixaban,drug\nwarfarin,drug\n")
    (tmp_path / "outside.csv").write_text("term,entity_category\nsecretdrug,drug\n")
    return folder


def here(project: Path, talk: Talk, person: Person | None = None, mode: str = "2026-07-28", **env: str) -> Any:
    """Talk to a server in this process."""
    server = make_server(Project.at(project), ROOT, {**os.environ, **env})

    async def run() -> Any:
        async with Client(server, mode=mode, elicitation_callback=person) as client:
            return await talk(client)

    return anyio.run(run)


def over_stdio(project: Path, talk: Talk, person: Person | None = None, mode: str = "auto", **env: str) -> Any:
    """Talk to a server of its own process, as a client starts it."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "clinical_asr", "mcp", "--project", str(project)],
        env={"OMP_NUM_THREADS": "1", **env},
    )

    async def run() -> Any:
        async with Client(command, mode=mode, elicitation_callback=person) as client:
            return await talk(client)

    return anyio.run(run)


def call(project: Path, name: str, arguments: Mapping[str, Any], person: Person | None = None, mode: str = ERAS[0],
         **env: str) -> dict[str, Any]:  # fmt: skip
    """One call; its structured answer with ``is_error``."""

    async def talk(client: Client) -> dict[str, Any]:
        return told(await client.call_tool(name, dict(arguments)))

    return here(project, talk, person, mode, **env)  # type: ignore[no-any-return]


def told(result: Any) -> dict[str, Any]:
    assert json.loads(result.content[0].text) == result.structured_content
    return {**result.structured_content, "is_error": result.is_error}


def nothing_started(project: Path) -> bool:
    return not list((project / OWN).rglob("job.json"))


# what is offered


@pytest.mark.parametrize("name", sorted(BOX.tools))
def test_a_tool_offers_its_commands_own_parameters_and_nothing_else(name: str) -> None:
    tool, command = BOX.tools[name], ROOT
    for word in tool.command:
        command = command.commands[word]  # type: ignore[attr-defined]
    own = {one.name for one in parameters_of(command)}
    assert own and tool.hidden - own <= {"tls", "tls_ca", "json"}
    assert set(tool.schema["properties"]) == own - tool.hidden
    assert tool.schema["additionalProperties"] is False
    assert len(tool.help.split()) > 5 and all(one["description"] for one in tool.schema["properties"].values())
    known = {word for one in command.params for word in one.opts}
    assert set(tool.fixed) <= known, "words that are always added are options of the command"


def test_every_stage_is_a_tool() -> None:
    async def talk(client: Client) -> set[str]:
        return {tool.name for tool in (await client.list_tools()).tools}

    wanted = "advise doctor model_inspect terms_check terms_add sentences pronunciations audition_status audio "
    wanted += "manifest_check hypotheses scores leaderboard gate split finetune comparison cycle deploy "
    wanted += "job_list job_status job_result job_cancel"
    folder = Path(__file__).parent
    assert here(folder, talk) >= set(wanted.split())


@pytest.mark.parametrize("mode", ERAS)
def test_no_tool_takes_a_key_or_text_that_only_the_person_can_give(project: Path, mode: str) -> None:
    async def talk(client: Client) -> list[Any]:
        return (await client.list_tools()).tools

    names = []
    for tool in here(project, talk, mode=mode):
        names += [(tool.name, name) for name in tool.input_schema["properties"]]
        for name in PERSONS_WORDS:
            assert tool.input_schema["properties"].get(name, {"type": "boolean"})["type"] == "boolean"
    assert len(names) > 100
    assert not [pair for pair in names if re.search(r"key|token|secret|passw|credential", pair[1])]


@pytest.mark.parametrize("mode", ERAS)
def test_no_tool_takes_the_address_of_a_cluster(project: Path, mode: str) -> None:
    """What joins a Ray cluster runs on all of its machines: a tool may spread work over this one, never over others."""

    async def talk(client: Client) -> dict[str, set[str]]:
        return {tool.name: set(tool.input_schema["properties"]) for tool in (await client.list_tools()).tools}

    offered = here(project, talk, mode=mode)
    assert {name for name, options in offered.items() if "ray" in options} == {"audio", "hypotheses"}
    assert not [one for options in offered.values() for one in options if re.search("cluster|address", one)]


@pytest.mark.parametrize("name", ["audio", "hypotheses"])
def test_nor_is_one_taken_that_was_never_offered(project: Path, name: str) -> None:
    person = Person(**WILLING)
    for address in ("auto", "127.0.0.1:6379", ""):
        answer = call(project, name, {**LEAST[name], "ray": "2", "ray_address": address}, person)
        assert answer["is_error"] and "has no argument 'ray_address'" in answer["error"]
    assert person.asked == [] and nothing_started(project)
    for worded in ("127.0.0.1:6379", "2 --ray-address=127.0.0.1:6379"):
        answer = call(project, name, {**LEAST[name], "ray": worded}, person)
        assert answer["exit_code"] == 2 and f"{worded!r} is no number of workers" in answer["errors"]


def test_types_and_limits_come_from_the_command() -> None:
    properties = BOX.tools["advise"].schema["properties"]
    assert properties["priority_ker"] == {
        "type": "number", "minimum": 0, "maximum": 1, "description": "KER of the priority category."}  # fmt: skip
    assert properties["evidence"]["type"] == "array" and properties["deploy"]["type"] == "boolean"
    assert BOX.tools["cycle"].schema["properties"]["cycle"]["minimum"] == 1
    assert BOX.tools["cycle"].schema["required"] == ["base"]


# what is refused


OUTSIDE = ["../outside.csv", "a/../../outside.csv", "/etc/passwd", "link.csv", "away/outside.csv",
           "x/../../../etc/passwd", "terms.csv\nx", "terms\u202e.csv", f"{OWN}/jobs"]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("name, option", [("terms_check", "path"), ("sentences", "terms"), ("sentences", "output")])
def test_no_path_leads_out_of_the_project(project: Path, path: str, name: str, option: str) -> None:
    (project / "link.csv").symlink_to(project.parent / "outside.csv")
    (project / "away").symlink_to(project.parent)
    given = {"path": "terms.csv"} if name == "terms_check" else {"terms": "terms.csv", "output": "s.jsonl"}
    answer = call(project, name, {**given, option: path})
    assert answer["is_error"] and answer["state"] == "refused"
    assert re.search("leads out of the project|cannot be seen|server's own folder", answer["error"])
    assert nothing_started(project) and "secretdrug" not in json.dumps(answer)


@pytest.mark.parametrize("name, arguments", [
    ("advise", {"base": "../outside.csv"}), ("advise", {"evidence": ["terms.csv", "../outside.csv"]}),
    ("model_inspect", {"model": "/etc/passwd"}), ("terms_add", {"path": "terms.csv", "from": "../outside.csv"}),
    ("terms_add", {"path": "terms.csv", "from": "link.csv"}),
    ("cycle", {"base": "mini", "recipe": "../recipe.yaml", "terms": "terms.csv"}),
    ("cycle", {"base": "away/x.nemo", "terms": "terms.csv"}), ("cycle", {"base": "mini", "terms": "terms.csv"}),
    ("leaderboard", {"paths": ["../h.jsonl"]}), ("hypotheses", {"manifest": "m.jsonl", "output": "../h.jsonl"}),
])  # fmt: skip
def test_nor_does_a_name_a_list_or_a_default(project: Path, name: str, arguments: dict[str, Any]) -> None:
    (project / "link.csv").symlink_to(project.parent / "outside.csv")
    (project / "away").symlink_to(project.parent)
    (project.parent / "x.nemo").write_bytes(b"model")
    (project.parent / "elsewhere").mkdir()
    (project / "cycles").symlink_to(project.parent / "elsewhere")  # where a cycle goes by default
    answer = call(project, name, arguments, Person(**WILLING))
    assert answer["is_error"] and "leads out of the project folder" in answer["error"]
    assert nothing_started(project)


def test_an_absolute_path_inside_is_taken(project: Path) -> None:
    answer = call(project, "terms_check", {"path": str(project / "terms.csv")})
    assert answer["exit_code"] == 0 and answer["result"]["by_category"] == {"drug": 3}
    assert answer["command"] == "clinical-asr terms check --json -- terms.csv"


@pytest.mark.parametrize("name, arguments, said", [
    ("advise", {"rows": 130, "api_key": "x"}, "no argument 'api_key'"), ("advise", {"rows": "many"}, "is not of type"),
    ("advise", {"priority_ker": 3}, "greater than the maximum"), ("sentences", {"terms": "terms.csv"}, "required"),
    ("nothing", {}, "no such tool"), ("job_status", {"job": "../../etc"}, "no such job"),
    ("job_status", {"job": "cycle_0"}, "no such job"), ("job_list", {"all": True}, "no argument 'all'"),
    ("cycle", {"base": "mini", "waive_audition": "nobody need listen, says the agent"}, "is not of type 'boolean'"),
    ("audition_status", {"terms": "terms.csv", "by": "Dr Agent"}, "no argument 'by'"),
])  # fmt: skip
def test_what_the_schema_does_not_take_is_refused(project: Path, name: str, arguments: Any, said: str) -> None:
    answer = call(project, name, arguments, Person(**WILLING))
    assert answer["is_error"] and said in answer["error"] and "\n" not in answer["error"]
    assert nothing_started(project)


def test_advice_that_refuses_is_an_answer_and_a_file_that_is_missing_is_an_error(project: Path) -> None:
    advice = call(project, "advise", {"wish": "adapters"})
    assert advice["exit_code"] == 2 and not advice["is_error"] and "NaN" in json.dumps(advice["result"])
    missing = call(project, "scores", {"path": "none.jsonl"})
    assert missing["exit_code"] == 2 and missing["is_error"] and "none.jsonl" in missing["errors"]


def test_a_project_is_a_folder_of_its_own(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", Path("/"), Path.home(), Path.home().parent):
        with pytest.raises(ConfigError):
            Project.at(folder)


# what only the person can allow

NEEDS_LEAVE = [
    ("pronunciations", {"merriam_webster": True, "allow": "merriam-webster"}, "single terms, one query each"),
    ("sentences", {"llm": "https://models.example.org/v1", "llm_model": "m", "allow": "llm"}, "prompt around them"),
    ("sentences", {"llm": "http://127.0.0.1@models.example.org/v1", "llm_model": "m"}, "models.example.org"),
    ("hypotheses", {"endpoint": "nvcf", "allow": "nvcf"}, "NVIDIA's hosted functions"),
    ("hypotheses", {"endpoint": "asr.example.org:50051"}, "asr.example.org:50051"),
    ("hypotheses", {"model": "nvidia/parakeet-tdt-0.6b-v2"}, "downloads the base"),
    ("finetune", {"base": "nvidia/parakeet-tdt-0.6b-v2"}, "downloads the base"),
    ("cycle", {"runner": "ssh:me@host"}, "to me@host"),
    ("cycle", {"runner": "slurm", "yes": True}, "batch job"),
    ("cycle", {"runner": "container"}, "NeMo image"),
    ("finetune", {"runner": "ssh+container:host"}, "to host"),
    ("split", {"force": True}, "--force"),
    ("sentences", {"output": "terms2.csv"}, "replaces terms2.csv"),
    ("leaderboard", {}, "replaces leaderboard_cycle1.json"),
    ("comparison", {}, "replaces decision.json"),
    ("gate", {}, "replaces gate.json"),
    ("audio", {"waive_audition": True}, "nobody will have listened"),
    ("cycle", {"waive_audition": True}, "nobody will have listened"),
    ("deploy", {"not_promoted": True}, "did not promote"),
]
LEAST: dict[str, dict[str, Any]] = {
    "pronunciations": {"terms": "terms.csv", "output": "p.jsonl"},
    "sentences": {"terms": "terms.csv", "output": "s.jsonl"},
    "hypotheses": {"manifest": "m.jsonl", "output": "h.jsonl"}, "finetune": {"train": "train.jsonl"},
    "cycle": {"base": "mini", "terms": "terms.csv"}, "split": {"manifest": "m.jsonl"},
    "leaderboard": {"paths": ["h.jsonl"]},
    "comparison": {"before": "b.jsonl", "after": "h.jsonl"}, "gate": {"path": "h.jsonl"},
    "audio": {"sentences": "s.jsonl", "pronunciations": "p.jsonl", "output_folder": "b"}, "deploy": {"out": "handoff"},
}  # fmt: skip


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("name, extra, shown", NEEDS_LEAVE, ids=lambda value: str(value)[:40])
def test_without_leave_nothing_starts(project: Path, mode: str, name: str, extra: dict[str, Any], shown: str) -> None:
    for there in ("terms2.csv", "leaderboard_cycle1.json", "decision.json", "gate.json"):
        (project / there).write_text("{}")
    arguments = {**LEAST[name], **extra}
    unasked = call(project, name, arguments, mode=mode)
    assert unasked["is_error"] and "this client cannot ask them" in unasked["error"]
    assert f"cd {project} && clinical-asr {' '.join(BOX.tools[name].command)} " in unasked["error"]
    for person in (
        Person("decline"),
        Person("cancel"),
        Person(allow=False),
        Person(allow="yes"),
        Person(ok=True),
    ):
        answer = call(project, name, arguments, person, mode)
        assert answer["is_error"] and answer["state"] == "refused"
        assert len(person.asked) == 1 and shown in person.asked[0] and "clinical-asr" in person.asked[0]
    assert nothing_started(project)


@pytest.mark.parametrize("name", ["cycle", "finetune"])
def test_a_rented_machine_is_never_started_here(project: Path, name: str) -> None:
    person = Person(**WILLING)
    answer = call(project, name, {**LEAST[name], "runner": "brev", "yes": True, "max_cost": 3}, person)
    assert answer["is_error"] and "$1.50 an hour" in answer["error"] and "after $3.00 it is ended" in answer["error"]
    assert f"type it yourself: cd {project} && clinical-asr {name} " in answer["error"]
    assert "--runner=brev" in answer["error"] and person.asked == [] and nothing_started(project)


EVIL = ["container:./evil.sh", "ssh:-oProxyCommand=evil", "ssh:host evil", "slurm:--wrap=evil", "evil:x", "local:x"]


@pytest.mark.parametrize("runner", EVIL)
def test_a_runner_is_no_way_to_run_another_program(project: Path, runner: str) -> None:
    person = Person(**WILLING)
    answer = call(project, "cycle", {**LEAST["cycle"], "runner": runner}, person)
    assert answer["is_error"] and "nothing a tool may pass" in answer["error"]
    assert person.asked == [] and nothing_started(project)


def test_what_stays_here_and_replaces_nothing_is_not_asked(project: Path) -> None:
    person = Person("decline")
    arguments = {**LEAST["sentences"], "llm": "http://127.0.0.1:9/v1", "llm_model": "m", "llm_tries": 1}
    answer = call(project, "sentences", arguments, person)
    assert person.asked == [] and answer["exit_code"] == 2 and "127.0.0.1" in answer["errors"]


@pytest.mark.parametrize("mode", ERAS)
def test_with_leave_a_file_is_replaced(project: Path, mode: str) -> None:
    (project / "s.jsonl").write_text("old\n")
    person = Person(allow=True)
    answer = call(project, "sentences", LEAST["sentences"], person, mode)
    assert answer["exit_code"] == 0 and person.asked and "apixaban" in (project / "s.jsonl").read_text()


def test_a_waiver_is_the_persons_own_sentence(project: Path) -> None:
    assert call(project, "sentences", {**LEAST["sentences"], "contexts_per_term": 3})["exit_code"] == 0
    assert call(project, "pronunciations", LEAST["pronunciations"])["exit_code"] == 0
    unheard = finished(project, call(project, "audio", {**LEAST["audio"], "voices_per_sentence": 1}))
    assert unheard["exit_code"] == 2 and "audition" in unheard["errors"]
    short = call(project, "audio", {**LEAST["audio"], "waive_audition": True}, Person(allow=True, waive_audition="no"))
    assert short["is_error"] and "20 letters" in short["error"]
    person = Person(**WILLING)
    answer = call(project, "audio", {**LEAST["audio"], "voices_per_sentence": 1, "waive_audition": True}, person)
    assert finished(project, answer)["exit_code"] == 0, answer
    assert SENTENCE in "".join(path.read_text() for path in (project / "b").glob("*.md"))
    status = call(project, "audition_status", {"terms": "terms.csv", "folder": "b"})
    assert status["exit_code"] == 3 and not status["is_error"] and "3 terms left" in status["output"]
    heard = project / "b" / "auditions.jsonl"
    assert not heard.exists() or not heard.read_text(), "no tool gives a verdict"


def finished(project: Path, answer: dict[str, Any], seconds: float = 120) -> dict[str, Any]:
    """The job's result, waited for."""
    deadline = time.monotonic() + seconds
    while answer["state"] == RUNNING and time.monotonic() < deadline:
        time.sleep(0.3)
        answer = call(project, "job_status", {"job": answer["job"]})
    return call(project, "job_result", {"job": answer["job"]})


def test_an_answer_counts_once_and_for_the_call_it_was_asked_for(project: Path) -> None:
    (project / "s.jsonl").write_text("old\n")
    (project / "other.jsonl").write_text("old\n")
    yes = {"leave": types.ElicitResult(action="accept", content={"allow": True})}

    async def talk(client: Client) -> list[Any]:
        ask = client.session.call_tool
        forged = await ask("sentences", LEAST["sentences"], input_responses=yes, allow_input_required=True)
        state = forged.request_state
        others = {**LEAST["sentences"], "output": "other.jsonl"}
        with pytest.raises(MCPError, match="Invalid or expired"):
            await ask("sentences", others, input_responses=yes, request_state=state, allow_input_required=True)
        first = await ask("sentences", LEAST["sentences"], input_responses=yes, request_state=state)
        again = await ask("sentences", LEAST["sentences"], input_responses=yes, request_state=state)
        return [forged, first, again]

    forged, first, again = here(project, talk, Person("decline"))
    assert isinstance(forged, types.InputRequiredResult), "an answer to no question is not an answer"
    assert first.structured_content["exit_code"] == 0
    assert again.is_error and "answered already" in again.structured_content["error"]
    assert (project / "other.jsonl").read_text() == "old\n"


# keys


def test_a_key_shows_in_no_reply_and_no_record(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "gate.json").write_text(json.dumps({"key": CANARY}))

    async def talk(client: Client) -> list[Any]:
        replies: list[Any] = [await client.list_tools(), await client.list_resources(), await client.list_prompts()]
        for name, arguments in (("doctor", {}), ("advise", {"about": "api-keys"}), ("terms_check", {"path": CANARY}),
                                ("sentences", {**LEAST["sentences"], "llm_model": CANARY}),
                                ("job_status", {"job": CANARY}), ("cycle", {**LEAST["cycle"], "runner": "brev"}),
                                (CANARY, {})):  # fmt: skip
            replies.append(await client.call_tool(name, arguments))
        replies.append(await client.read_resource("clinical-asr://files/gate.json"))
        return replies

    replies = over_stdio(project, talk, NVIDIA_API_KEY=CANARY, CLINICAL_ASR_TOKEN=CANARY)
    doctor = next(one for one in replies[3].structured_content["result"] if one["name"] == "NVIDIA_API_KEY")
    assert doctor["found"] == f"set, {len(CANARY)} characters"
    assert CANARY not in "".join(reply.model_dump_json() for reply in replies)
    assert [reply.is_error for reply in replies[5:10]] == [True] * 5
    records = [path for path in (project / OWN).rglob("*") if path.is_file()]
    assert records and not [path for path in records if CANARY.encode() in path.read_bytes()]
    assert CANARY not in "".join(capfd.readouterr())


def test_a_command_gets_the_keys_of_the_services_it_was_allowed_and_no_address_it_did_not_name() -> None:
    from clinical_asr.agent.keys import OF_SERVICE
    from clinical_asr.egress import Service

    names = sorted({name for of in OF_SERVICE.values() for name in of})
    given = Environment({**dict.fromkeys(names, CANARY), "AWS_SECRET_ACCESS_KEY": CANARY, "PATH": "/bin",
                         "ASR_ENDPOINT": "elsewhere:50051", "RAY_ADDRESS": "elsewhere:6379"})  # fmt: skip
    kept = {service: {n for n, v in given.for_command({service}).items() if v == CANARY} for service in Service}
    assert kept == {service: set(OF_SERVICE[service]) for service in Service}
    nothing = given.for_command(())
    assert CANARY not in nothing.values() and nothing["HF_HUB_OFFLINE"] == "1"
    assert not [name for name, value in nothing.items() if "elsewhere" in value]


def test_the_keys_it_knows_are_those_the_commands_read() -> None:
    """Whatever the command line reads from the environment under a name that looks like a key is withheld."""
    from clinical_asr.agent.keys import OF_SERVICE, SECRET

    folder = Path(__file__).parents[1] / "src" / "clinical_asr" / "cli"
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    read = set(re.findall(r'"([A-Z][A-Z_]*(?:KEY|TOKEN|SECRET)[A-Z_]*)"', sources))
    assert {"NVIDIA_API_KEY", "HF_TOKEN", "CLINICAL_ASR_TOKEN"} <= read and all(SECRET.search(name) for name in read)
    assert read <= {name for names in OF_SERVICE.values() for name in names}


# jobs


@pytest.fixture
def jobs(project: Path) -> Iterator[Jobs]:
    made = Jobs(Project.at(project))
    yield made
    import signal

    for job in made.all():
        job.signal(signal.SIGKILL)


def waiting(jobs: Jobs, place: str = "b") -> Any:
    """A job that waits for a person until it is told to stop: the audition's page, without a browser."""
    words = ["audition", "--terms=terms.csv", f"--folder={place}", "--no-open"]
    job = jobs.start("audition", words, [place], [], Environment(dict(os.environ)).for_command(()))
    until(lambda: "terms to hear" in job.text("output.txt", 1000))
    return job


def test_two_jobs_never_work_in_one_place(project: Path, jobs: Jobs) -> None:
    job = waiting(jobs)
    for output in ("b", "b/inside/manifest.jsonl", "."):
        with pytest.raises(FlywheelError, match=f"job {job.id} is at work in b"):
            Jobs(Project.at(project)).start("sentences", ["sentences"], [output], [], {})
    answer = call(project, "audio", {**LEAST["audio"], "output_folder": "b"})
    assert answer["is_error"] and f"job {job.id} is at work" in answer["error"]
    assert call(project, "job_result", {"job": job.id})["error"].endswith("is still running; ask job_status")
    gone = call(project, "job_cancel", {"job": job.id})
    assert gone["state"] == FINISHED and gone["exit_code"] == 130 and "same call again continues" in gone["meaning"]
    listed = call(project, "job_list", {})["jobs"]
    assert [(one["job"], one["exit_code"]) for one in listed] == [(job.id, 130)]


def test_a_job_that_was_killed_without_a_word_is_lost_and_frees_its_place(project: Path, jobs: Jobs) -> None:
    job = waiting(jobs)
    command = json.loads((job.folder / "process.json").read_text())["pid"]
    worker = parent_of(command)
    os.kill(worker, 9)
    until(lambda: parent_of(command) != worker)
    assert job.state == RUNNING, "the command itself lives, and holds the lock"
    os.kill(command, 9)
    until(lambda: job.state == LOST)
    answer = call(project, "job_result", {"job": job.id})
    assert answer["is_error"] and "same call again continues" in answer["meaning"]
    assert (
        call(project, "terms_add", {"path": "b/terms.csv", "term": ["heparin"], "category": ["drug"]})["exit_code"] == 0
    )


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_a_job_outlives_its_server_and_answers_the_next(project: Path) -> None:
    examples = (Path(__file__).parents[1] / "examples" / "terms.csv").read_text().splitlines()
    (project / "terms.csv").write_text("\n".join(examples[:26]) + "\n")
    call(project, "sentences", LEAST["sentences"])
    call(project, "pronunciations", LEAST["pronunciations"])
    arguments = {**LEAST["audio"], "waive_audition": True, "workers": 1}

    async def start_and_die(client: Client) -> str:
        answer = told(await client.call_tool("audio", arguments))
        assert answer["state"] == RUNNING, answer
        command = json.loads((project / OWN / "jobs" / answer["job"] / "process.json").read_text())["pid"]
        server = parent_of(parent_of(command))
        assert "clinical_asr\0mcp\0" in Path(f"/proc/{server}/cmdline").read_text()
        os.kill(server, 9)
        await anyio.sleep(0.2)
        assert parent_of(parent_of(command)) != server, "the worker has lost its server"
        return str(answer["job"])

    seen: list[str] = []

    async def remember(client: Client) -> None:
        seen.append(await start_and_die(client))

    with suppress(Exception):
        over_stdio(project, remember, Person(**WILLING))

    async def ask_again(client: Client) -> dict[str, Any]:
        status = told(await client.call_tool("job_status", {"job": seen[0]}))
        while status["state"] == RUNNING:
            status = told(await client.call_tool("job_status", {"job": seen[0], "wait_seconds": 20}))
        return told(await client.call_tool("job_result", {"job": seen[0]}))

    answer = over_stdio(project, ask_again)
    assert answer["exit_code"] == 0, answer
    assert sum(1 for _ in (project / "b" / "manifest.jsonl").open()) == 25 * 4 * 2


# resources and prompts


def test_resources_are_the_small_files_of_the_project(project: Path) -> None:
    folder = project / "cycles" / "cycle1"
    folder.mkdir(parents=True)
    for name in (
        "request.json",
        "decision.json",
        "comparison.md",
        "leaderboard_cycle2.json",
        "comparison.html",
        "train.jsonl",
    ):
        (folder / name).write_text("{}")
    (folder / "gate.json").symlink_to(project.parent / "outside.csv")
    (project / "leaderboard_cycle1.json").write_text(" " * (resources.LARGEST + 1))

    async def talk(client: Client) -> tuple[dict[str, Any], list[str]]:
        listed = {one.name: one for one in (await client.list_resources()).resources}
        whole = (await client.read_resource(listed["cycles/cycle1"].uri)).contents[0]
        refusals = []
        for uri in ("files/..%2Foutside.csv", "files/../outside.csv", "files/cycles/cycle1/gate.json",
                    "files/terms.csv", "files/cycles/cycle1/train.jsonl", "files/leaderboard_cycle1.json",
                    "cycles/..", "cycles/."):  # fmt: skip
            with pytest.raises(MCPError) as refused:
                await client.read_resource(f"clinical-asr://{uri}")
            refusals.append(str(refused.value))
        return {**{name: one.size for name, one in listed.items()}, "whole": json.loads(whole.text)}, refusals

    listed, refusals = here(project, talk)
    whole = listed.pop("whole")
    assert set(listed) == {"cycles/cycle1", "leaderboard_cycle1.json", *(f"cycles/cycle1/{name}" for name in (
        "request.json", "decision.json", "comparison.md", "leaderboard_cycle2.json"))}  # fmt: skip
    assert whole["decision"] == {} and {"name": "train.jsonl", "bytes": 2} in whole["files"]
    assert "leads out" in refusals[0] and "leads out" in refusals[2] and "more than 1,000,000" in refusals[5]
    assert len(refusals) == 8 and "secretdrug" not in "".join(refusals)


@pytest.mark.parametrize("spoilt", [b"{broken", b"\xff\xfe", b"{}" + b" " * resources.LARGEST, "link"])
def test_a_cycle_whose_decision_is_spoilt_or_leads_out_is_refused_in_one_line(
    project: Path, spoilt: bytes | str
) -> None:
    folder = project / "cycles" / "cycle1"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text("{}")
    (project.parent / "outside.json").write_text('{"secretdrug": 1}')
    if isinstance(spoilt, bytes):
        (folder / "decision.json").write_bytes(spoilt)
    else:
        (folder / "decision.json").symlink_to(project.parent / "outside.json")

    async def talk(client: Client) -> str:
        with pytest.raises(MCPError) as refused:
            await client.read_resource("clinical-asr://cycles/cycles/cycle1")
        return str(refused.value)

    said = here(project, talk)
    assert "decision.json" in said and "\n" not in said and "secretdrug" not in said and "Internal" not in said


@pytest.mark.parametrize("spoilt", ["{broken}", "[1]", '{"line": 3}', "\udcff", "link"])
def test_what_is_no_finished_step_is_passed_over(project: Path, spoilt: str) -> None:
    folder = project / "cycles" / "cycle1"
    folder.mkdir(parents=True)
    (project.parent / "outside.jsonl").write_text('{"stage": "x", "line": "secretdrug"}\n')
    if spoilt == "link":
        (folder / "timings.jsonl").symlink_to(project.parent / "outside.jsonl")
    else:
        lines = f'{spoilt}\n{{"stage": "terms", "line": "3 terms"}}\n'
        (folder / "timings.jsonl").write_text(lines, encoding="utf-8", errors="surrogateescape")
    answer = call(project, "cycle", {"base": "mini", "terms": "none.csv"})
    assert answer["exit_code"] == 2 and "none.csv" in answer["errors"]
    assert [step["line"] for step in answer["steps"]] == ([] if spoilt == "link" else ["3 terms"])


def test_prompts_name_tools_that_exist_and_thresholds_that_hold(project: Path) -> None:
    async def talk(client: Client) -> dict[str, str]:
        names = [one.name for one in (await client.list_prompts()).prompts]
        texts = [(await client.get_prompt(name, {prompts.offered()[name].argument: "mine.x"})) for name in names]
        with pytest.raises(MCPError, match="no such prompt"):
            await client.get_prompt("nothing")
        return {name: text.messages[0].content.text for name, text in zip(names, texts, strict=True)}

    texts = here(project, talk)
    assert list(texts) == ["setup", "build", "evaluate", "finetune"]
    offered = {*BOX.tools, "job_status", "job_result", *PERSONS_WORDS, "audition_only", "entity_category"}
    for text in texts.values():
        assert "mine.x" in text and "Call advise first" in text and not re.search(r"[{}]", text)
        assert set(re.findall(r"\b[a-z]+_[a-z_]+\b", text)) <= offered
    assert "above 0.3 with 100 rows and 5 in" in texts["evaluate"] and "16 GB" in texts["setup"]


# a whole cycle


def whole_cycle(project: Path, arguments: dict[str, Any], person: Person) -> dict[str, Any]:
    """Through the SDK's client: refused while another works there, turned, followed, read, and asked what is next."""

    async def talk(client: Client) -> dict[str, Any]:
        async def ask(name: str, **given: Any) -> dict[str, Any]:
            return told(await client.call_tool(name, given))

        with locked(project / "cycles" / "cycle1"):
            busy = await follow(ask, await ask("cycle", **arguments))
        first = await ask("cycle", **arguments)
        second = await ask("cycle", **arguments)
        done = await follow(ask, first)
        uris = {one.name: one.uri for one in (await client.list_resources()).resources}
        board = (await client.read_resource(uris["cycles/cycle1/leaderboard_cycle1.json"])).contents[0].text
        advice = await ask("advise", evidence=["cycles/cycle1"])
        jobs = (await ask("job_list"))["jobs"]
        return {"busy": busy, "second": second, "done": done, "board": json.loads(board), "advice": advice,
                "jobs": jobs, "uris": uris}  # fmt: skip

    return over_stdio(project, talk, person)  # type: ignore[no-any-return]


async def follow(ask: Any, answer: dict[str, Any]) -> dict[str, Any]:
    while answer["state"] == RUNNING:
        answer = await ask("job_status", job=answer["job"], wait_seconds=20)
    return await ask("job_result", job=answer["job"])  # type: ignore[no-any-return]


def check_whole(found: dict[str, Any], person: Person) -> None:
    assert found["busy"]["exit_code"] == 2 and "is at work here" in found["busy"]["errors"]
    assert found["second"]["is_error"] and "is at work in cycles/cycle1" in found["second"]["error"]
    done = found["done"]
    decision = next((one["document"] for one in done["files"] if one["path"].endswith("decision.json")), None)
    assert decision, done
    assert done["exit_code"] == msgspec.convert(decision, Decision).exit_code
    stages = [step["stage"] for step in done["steps"]]
    assert [s for s in stages if s in ("gate", "split", "finetune", "comparison")] == [
        "gate", "split", "finetune", "comparison"]  # fmt: skip
    assert found["board"]["headline"]["rows"] > 0 and "cycles/cycle1/comparison.json" in found["uris"]
    assert found["advice"]["result"]["verdict"] == decision["verdict"]
    assert SENTENCE in str(found["done"]["command"]) and len(person.asked) == 3
    assert len(found["jobs"]) == 3


@pytest.mark.nemo
def test_a_whole_cycle_through_the_client(project: Path) -> None:
    """Tiny: a model of two layers, six terms, one epoch; every stage is the real one."""
    terms = ["cefazolin", "apixaban", "warfarin", "heparin", "tacrolimus", "amiodarone"]
    (project / "terms.csv").write_text("term,entity_category\n" + "".join(f"{term},drug\n" for term in terms))
    make_tiny_model(project / "tiny.nemo", shape=Shape(vocabulary=512))  # so large that it can write every letter
    (project / "tiny.yaml").write_text("epochs: 1\nprecision: 32-true\nbatch_size: 8\n")
    person = Person(**WILLING)
    arguments = {"base": "tiny.nemo", "terms": "terms.csv", "recipe": "tiny.yaml", "min_rows": 10, "guard_rows": 6,
                 "contexts_per_term": 3, "voices_per_sentence": 1, "waive_audition": True}  # fmt: skip
    check_whole(whole_cycle(project, arguments, person), person)


@pytest.mark.slow
@pytest.mark.nemo
@pytest.mark.timeout(3600)
def test_the_demos_cycle_through_the_client(project: Path) -> None:
    """The mini base and the example terms, as ``clinical-asr demo`` turns them; about ten minutes on two cores."""
    (project / "terms.csv").write_text((Path(__file__).parents[1] / "examples" / "terms.csv").read_text())
    person = Person(**WILLING)
    found = whole_cycle(project, {"base": "mini", "terms": "terms.csv", "waive_audition": True}, person)
    check_whole(found, person)
    assert found["board"]["headline"]["rows"] > 300, "of 360; clips that the engine spoilt are kept out"
