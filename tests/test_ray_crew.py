"""Ray itself, on this machine with two workers: order, errors, deaths, the driver's end, and what it listens on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ray_work
from clinical_asr.cli import app
from clinical_asr.config import TranscriptionConfig
from clinical_asr.engines import ray_crew
from clinical_asr.engines.ray_crew import Cluster, RowCrew, cluster
from clinical_asr.errors import ConfigError, FlywheelError, ManifestError, MissingDependency
from clinical_asr.jsonl import iter_objects, read_rows
from clinical_asr.records import Hypothesis, Outcome, Utterance
from clinical_asr.rendering import iter_render
from patience import within
from processes import command_of, descendants, ray_workers
from test_rendering import files, plans, speak
from tiny_model import SENTENCES, write_tones

pytestmark = [
    pytest.mark.xdist_group("ray"),  # one Ray for all, and its processes counted by one test at a time
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray"),  # not imported before it is told where to listen
]
HERE = Path(__file__).parent
NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = str(HERE)  # workers unpack what stands in these modules
    os.environ["RAY_ADDRESS"] = NOWHERE  # Ray by itself would join whatever this names
    with cluster(2, "", os.environ, gpus=False) as found:
        yield found
    os.environ.clear()
    os.environ.update(before)


def asked(folder: Path) -> list[str]:
    return (folder / "log").read_text().split()


# --- work -------------------------------------------------------------------------------------------------------------


def test_two_workers_answer_in_order_and_jobs_are_drawn_as_they_are_needed(two: Cluster) -> None:
    drawn: list[int] = []
    results = two.in_order(ray_work.who, (drawn.append(number) or number for number in range(1000)))
    first = [next(results) for _ in range(20)]
    assert [job for job, *_ in first] == list(range(20)) and len(drawn) < 40
    assert len({pid for _, pid, *_ in first}) == 2 and os.getpid() not in {pid for _, pid, *_ in first}
    assert {(threads, statistics) for *_, threads, statistics in first} == {(1, "0")}


def test_an_error_of_the_work_is_the_error_of_the_run_with_all_that_it_knows(two: Cluster) -> None:
    with pytest.raises(ManifestError, match=r"m\.jsonl line 1, text: is empty") as caught:
        list(two.in_order(ray_work.refuses, range(1, 4)))
    assert caught.value.line == 1


def test_what_comes_before_a_refused_job_is_handed_out_however_soon_it_was_refused(two: Cluster) -> None:
    """As by one process: the first error in the order of the jobs, after the results of those before it."""
    results = two.in_order(ray_work.slow_then_refuses, [0, 0, 0, 7, 8, 0])
    assert [next(results) for _ in range(3)] == [0, 0, 0]
    with pytest.raises(ManifestError, match=r"m\.jsonl line 7, text: is empty"):
        next(results)


def test_clips_are_the_same_bytes_and_folders_may_be_relative(
    two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = list(iter_render(plans(), tmp_path / "one", speak))
    monkeypatch.chdir(tmp_path)
    assert list(iter_render(plans(), Path("two"), speak, spread=two.in_order)) == alone
    assert files(tmp_path / "one") == files(tmp_path / "two") and not list(tmp_path.rglob("*.part"))


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_a_worker_killed_from_outside_loses_nothing_and_nothing_is_written_twice(two: Cluster, tmp_path: Path) -> None:
    def progress(batches: Any, _what: str) -> Any:
        for number, batch in enumerate(batches):
            if number == 2:
                assert within(20, lambda: len(ray_workers(os.getpid())) == 2), "those of the test before are still here"
                os.kill(ray_workers(os.getpid())[0], signal.SIGKILL)
            yield batch

    given, before = ray_work.rows(60), two.deaths
    work = ray_work.Namesake(tmp_path / "log", 0.1)
    entries = ray_work.transcribe_rows(
        given, tmp_path, work, tmp_path / "h.jsonl", tmp_path / "l.jsonl", progress=progress, spread=two.rows_in_order
    )
    assert two.deaths == before + 1
    assert [entry.outcome for entry in entries] == [Outcome.SCORED] * 60
    assert [(row.id, row.pred_text) for row in read_rows(tmp_path / "h.jsonl", Hypothesis)] == [
        (row.id, Path(row.audio_filepath).stem) for row in given
    ]


def test_a_row_that_kills_its_worker_fails_alone(two: Cluster, tmp_path: Path) -> None:
    entries = ray_work.heard(tmp_path, ray_work.rows(9, deadly=4), two.rows_in_order)
    fates = {entry.id: (entry.outcome, entry.reason) for entry in entries}
    assert fates.pop("row004") == (Outcome.FAILED, "the worker that transcribed it alone died, 3 times")
    assert len(fates) == 8 and {outcome for outcome, _ in fates.values()} == {Outcome.SCORED}
    assert len(read_rows(tmp_path / "hypotheses.jsonl", Hypothesis)) == 8


def test_work_that_nobody_survives_and_cannot_be_cut_is_given_up(two: Cluster) -> None:
    with pytest.raises(FlywheelError, match="Ray: a worker died 3 times over the same work"):
        list(two.in_order(ray_work.dies, [1]))


def test_workers_that_die_before_they_begin_cost_no_row(two: Cluster) -> None:
    with pytest.raises(FlywheelError, match="Ray: workers die before they begin"):
        list(two.rows_in_order(ray_work.Unloadable().transcribe, [{"a": Path("a.wav")}]))


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_halves_are_a_partition(size: int) -> None:
    crew, job = RowCrew.__new__(RowCrew), {f"r{number}": Path() for number in range(size)}
    halves = crew._halves(job)
    assert [row for half in halves for row in half] == (list(job) if size > 1 else [])
    assert all(halves) and abs(len(halves[0]) - len(halves[-1])) <= 1 if halves else size == 1


# --- the end of the driver --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_ends_leaves_no_process_and_the_same_again_goes_on(
    how: signal.Signals, two: Cluster, tmp_path: Path
) -> None:
    part, command = tmp_path / "hypotheses.jsonl.part", [sys.executable, str(HERE / "ray_work.py"), str(tmp_path)]
    driver = subprocess.Popen(command, start_new_session=True)
    assert within(60, lambda: part.exists() and part.read_bytes().count(b"\n") > 12), "it never began"
    agents = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # hold nothing; these two notice a SIGKILL within a minute
    left = {pid for pid, told in descendants(driver.pid).items() if how == signal.SIGINT or not told.startswith(agents)}
    assert len(left) > 4
    driver.send_signal(how)
    assert driver.wait(30) != 0
    assert within(30, lambda: not any(command_of(pid) for pid in left)), "Ray was left behind"
    known = [fields["id"] for _, fields in iter_objects(part)]
    (tmp_path / "log").unlink()
    ray_work.heard(tmp_path, ray_work.rows(400), two.rows_in_order)
    assert set(asked(tmp_path)).isdisjoint(known) and len(asked(tmp_path)) + len(known) == 400
    written = [row.id for row in read_rows(tmp_path / "hypotheses.jsonl", Hypothesis)]
    assert written == [row.id for row in ray_work.rows(400)]


# --- NeMo, by the command line ----------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Enough rows to be killed in the middle."""
    texts = [f"{one} {other}" for one in SENTENCES[:12] for other in SENTENCES[:12]]
    return write_tones(tmp_path, texts, seconds_a_letter=0.02)


@pytest.mark.nemo
def test_a_model_in_two_workers_one_of_them_killed_hears_what_it_hears_alone(tiny_nemo: Path, many: Path) -> None:
    if pytest.importorskip("torch").cuda.is_available():
        pytest.skip("a promise of the CPU: on GPUs workers are as many as they")
    output = many.with_name("two.jsonl")
    part = output.with_name("two.jsonl.part")
    words = ["hypotheses", "--manifest", many, "--model", tiny_nemo, "--output", output, "--batch-size", "2"]
    words = [sys.executable, "-m", "clinical_asr", *map(str, words), "--ray", "2"]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    began = within(300, lambda: running.poll() is None and part.exists() and part.read_bytes().count(b"\n") > 9)
    assert began, running.communicate()[1]
    os.kill(ray_workers(running.pid)[0], signal.SIGKILL)
    _, told = running.communicate(timeout=90)
    assert running.returncode == 0, told
    assert "Ray: 2 workers, one core each, on this machine alone" in told
    assert "Ray: deaths of workers: 1; what they had was given to others" in told
    heard, given = read_rows(output, Hypothesis), read_rows(many, Utterance)
    assert [row.text for row in heard] == [row.text for row in given] and len({row.id for row in heard}) == len(given)
    from clinical_asr.engines.nemo_asr import NemoTranscriber

    alone = NemoTranscriber(tiny_nemo, TranscriptionConfig(batch_size=2))
    texts = alone.transcribe({row.id: many.parent / row.audio_filepath for row in heard})
    assert {row.id: row.pred_text for row in heard} == texts and {row.model_digest for row in heard} == {alone.digest}


# --- nothing leaves the machine ---------------------------------------------------------------------------------------


def test_ray_listens_on_this_machine_alone_and_has_no_dashboard(two: Cluster) -> None:
    own = {os.getpid(), *descendants(os.getpid())}
    places = {address for pid in own for address in listening(pid)}
    assert places and places <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert not Path("/tmp/ray").exists() or not any("/tmp/ray/" in command_of(pid) for pid in own)


def test_an_address_that_only_the_environment_names_is_not_joined(two: Cluster) -> None:
    assert os.environ["RAY_ADDRESS"] == NOWHERE
    told = two.in_order(ray_work.who, [1, 2])
    _, pid, *_ = next(told)
    assert pid in ray_workers(os.getpid())  # looked at while there is still an answer to fetch: then they go home
    assert len(list(told)) == 1


def listening(pid: int) -> set[str]:
    """Addresses that a process listens on, in the kernel's hexadecimal."""
    try:
        sockets = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    except OSError:
        return set()
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A" and f"socket:[{line.split()[9]}]" in sockets:
                found.add(local.split(":")[0])
    return found


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_without_ray_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"Ray is not installed; run: pip install '.+\[ray\]'"):
        cluster(2, "", {}, gpus=False).__enter__()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "Ray at 127.0.0.1:1: no cluster answers"),
        ("ray://head:10001/", "Ray: 'ray://head:10001/' is no address of a cluster; write HOST:PORT, or auto"),
        ("head", "Ray: 'head' is no address of a cluster; write HOST:PORT, or auto"),
    ],
)
def test_a_cluster_that_does_not_answer_is_said_at_once(address: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ray_crew._join(None, address)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("workers", "has", "gpus", "told"),
    [
        (3, {"CPU": 16.0, "GPU": 2.0}, True, "has room for 2 workers, one for each GPU; ask for at most 2"),
        (9, {"CPU": 8.0}, True, "has room for 8 workers, one for each core; ask for at most 8"),
        (0, {}, False, "has room for 0 workers, one for each core; add a machine to it"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(workers: int, has: dict[str, float], gpus: bool, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ray_crew._sized(workers, has, gpus)
    assert str(caught.value) == f"Ray: {told}"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("hypotheses --model mini --ray two", "--ray: 'two' is no number of workers; use auto, or a number from 1"),
        ("hypotheses --model mini --ray 0", "--ray: '0' is no number of workers; use auto, or a number from 1"),
        ("hypotheses --endpoint 127.0.0.1:1 --ray 2", "--ray and --endpoint: a service is asked by this process alone"),
        ("audio --engine magpie --ray 2", "--ray and --engine magpie: a service is asked by this process alone"),
        ("audio --workers 2 --ray auto", "--ray and --workers: both say who speaks; leave one of them out"),
    ],
)
def test_what_cannot_be_spread_is_refused_before_anything_is_read(words: str, told: str, tmp_path: Path) -> None:
    command, *options = words.split()
    places = {"hypotheses": ["--manifest", "m.jsonl", "--output", "h.jsonl"],
              "audio": ["--sentences", "s.jsonl", "--pronunciations", "p.jsonl", "--output-folder", "out"]}  # fmt: skip
    result = CliRunner().invoke(app, [command, *places[command], *options])
    assert isinstance(result.exception, ConfigError) and str(result.exception).startswith(told)
