"""Runners: commands as lists against Hydra, a stand-in docker, ssh through a real sshd, rentals that always end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest
import soundfile
import yaml

import sshd as loopback
from clinical_asr.config import TrainingConfig, load_recipe
from clinical_asr.cycle import file_digest
from clinical_asr.engines.nemo_sft import NO_MEMORY
from clinical_asr.engines.runners import guard, outcome, stock
from clinical_asr.engines.runners.brev import Brev
from clinical_asr.engines.runners.container import ContainerRunner
from clinical_asr.engines.runners.hosts import Local, Ssh
from clinical_asr.engines.runners.package import PackageRunner
from clinical_asr.engines.runners.slurm import Slurm
from clinical_asr.engines.runners.torchrun import Torchrun
from clinical_asr.errors import ConfigError, FlywheelError, TrainingError
from clinical_asr.jsonl import iter_objects
from clinical_asr.rental import Rental
from clinical_asr.training import Example, TrainingJob
from patience import within

SMOKE = load_recipe("smoke")
STAND_INS = Path(__file__).parent / "stand_ins"
needs_sshd = pytest.mark.skipif(not loopback.SSHD or bool(loopback.MISSING), reason="no sshd or rsync on this machine")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins on PATH; the file their calls are noted in."""
    path = tmp_path / "calls.jsonl"
    monkeypatch.setenv("PATH", f"{STAND_INS}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_CALLS", str(path))
    return path


def noted(path: Path) -> list[list[str]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    import numpy as np

    def example(name: str) -> Example:
        audio = tmp_path / "audio" / f"{name} é.wav"
        audio.parent.mkdir(exist_ok=True)
        soundfile.write(audio, np.full(16_000, 0.1, np.float32) * (1 + hash(name) % 5), 16_000, subtype="PCM_16")
        return Example(name, audio, f"give {name}", 1.0, {"term": name, "voice_id": "v"})

    base = tmp_path / "base.nemo"
    base.write_bytes(b"weights")
    train = tuple(example(f"row{n}") for n in range(6))
    return TrainingJob(base, train, SMOKE, tmp_path / "out" / "adapted.nemo", (example("held"),))


def untouched(job: TrainingJob) -> list[str]:
    return [file_digest(path) for path in [job.base, *(example.audio for example in job.examples)]]


# --- the stock command ------------------------------------------------------------------------------------------------


def stock_configuration() -> dict[str, Any]:
    """The script's own configuration, rebuilt from its keys: what Hydra checks overrides against."""
    nested: dict[str, Any] = {}
    for key in stock.known_keys():
        *parents, leaf = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = None
    return nested


@pytest.mark.parametrize("recipe", ["smoke", "patient"])
def test_hydra_accepts_the_stock_arguments(recipe: str, tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    config = SMOKE if recipe == "smoke" else msgspec.structs.replace(SMOKE, early_stop_patience=3, warmup_epochs=1.0)
    (tmp_path / "stock.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(stock_configuration())))
    with initialize_config_dir(str(tmp_path), version_base=None):
        composed = compose("stock", stock.overrides(config, PurePosixPath("/workspace"), 104))
    assert composed.model.optim.lr == config.learning_rate and list(composed.model.optim.betas) == [0.9, 0.98]
    assert composed.init_from_nemo_model == "/workspace/base.nemo" and composed.trainer.precision == "bf16-mixed"
    assert composed.model.optim.sched.warmup_steps == (5 if recipe == "smoke" else 26)


def test_the_published_way_to_name_the_base_needs_its_plus() -> None:
    """The reason this command starts from a file: the other key is not in the configuration."""
    assert "init_from_pretrained_model" not in stock.known_keys() and "init_from_nemo_model" in stock.known_keys()


def test_every_key_of_a_recipe_is_honoured_or_refused() -> None:
    assert set(TrainingConfig.__struct_fields__) >= stock.HONOURED
    beyond = [name for name in TrainingConfig.__struct_fields__ if name not in stock.HONOURED]
    for name in beyond:
        default = getattr(SMOKE, name)
        other = (not default) if isinstance(default, bool) else "x" if isinstance(default, str) else 0.5
        changed = _with(name, other)
        if changed is not None:
            with pytest.raises(ConfigError, match="stock script cannot do"):
                stock.refuse_unknown(changed)


def _with(name: str, value: Any) -> TrainingConfig | None:
    try:
        return msgspec.structs.replace(SMOKE, **{name: value})
    except (FlywheelError, TypeError):
        return None


# --- the container ----------------------------------------------------------------------------------------------------


def test_the_container_trains_and_its_model_takes_its_place(job: TrainingJob, calls: Path) -> None:
    before = untouched(job)
    report = ContainerRunner()(job, None, None)
    assert job.output.read_bytes() == b"tuned on batch 4" and report.digest == file_digest(job.output)
    assert report.epochs[0].rows == 6 and report.epochs[0].metrics == {"val_wer": 0.125} and report.best_epoch == 2
    assert untouched(job) == before
    assert sorted(path.name for path in job.output.parent.iterdir()) == [
        "adapted.nemo", "adapted.nemo.log", "adapted.nemo.sha256",
    ]  # fmt: skip
    (call,) = noted(calls)
    assert call[:3] == ["docker", "run", "--rm"] and call[call.index("--network") + 1] == "none"
    assert [word for word in call if word.endswith(":ro")], "the originals are mounted read only"


def test_podman_is_asked_where_it_is_named(job: TrainingJob, calls: Path) -> None:
    ContainerRunner(tool="podman")(job, None, None)
    assert noted(calls)[0][0] == "podman"


def test_out_of_memory_halves_the_batch_and_says_so(
    job: TrainingJob, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "memory memory fine")
    report = ContainerRunner()(job, None, None)
    assert (report.batch_size, report.accumulate_grad_batches) == (1, 4)
    assert [note for note in report.notes if "out of memory at batch 4: went on with 2, accumulating 2" in note]
    assert len(noted(calls)) == 3 and job.output.read_bytes() == b"tuned on batch 1"


def test_out_of_memory_at_batch_one_is_the_end(job: TrainingJob, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "memory")
    with pytest.raises(TrainingError, match=r"exit code 1: torch.OutOfMemoryError: CUDA out of memory"):
        ContainerRunner()(job, None, None)
    assert len(noted(calls)) == 3


@pytest.mark.parametrize(
    ("fate", "message"),
    [
        ("crash", "exit code 3: RuntimeError: the stand-in was asked to fail"),
        ("daemon", "exit code 125: docker: Cannot connect to the Docker daemon"),
        ("lost", "speaks of 5 rows, 6 were declared"),
        ("nothing", "wrote 0 models, one was expected"),
    ],
)
def test_a_container_that_fails_leaves_no_model(
    fate: str, message: str, job: TrainingJob, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", fate)
    with pytest.raises(TrainingError, match=message):
        ContainerRunner()(job, None, None)
    assert not job.output.exists()
    monkeypatch.setenv("STAND_IN_FAILS", "fine")
    assert ContainerRunner()(job, None, None).digest, "the same command again finishes the work"


def test_audio_that_changed_while_it_was_staged_is_noticed(job: TrainingJob, calls: Path) -> None:
    folder = job.output.with_name("adapted.nemo.stage.part") / "audio"
    folder.mkdir(parents=True)
    size = job.examples[0].audio.stat().st_size
    (folder / "row0.wav").write_bytes(b"x" * size)  # another file of the same size, as a broken copy would be
    with pytest.raises(FlywheelError, match="differs from its original"):
        ContainerRunner()(job, None, None)
    assert noted(calls) == []


def test_staged_manifests_keep_the_rows_and_name_the_container(job: TrainingJob, tmp_path: Path) -> None:
    from clinical_asr.engines.runners.staging import stage

    stage(job.base, {"train": job.examples}, tmp_path / "stage", PurePosixPath("/workspace"))
    rows = [fields for _, fields in iter_objects(tmp_path / "stage" / "train.jsonl")]
    assert rows[0]["audio_filepath"] == "/workspace/audio/row0.wav" and rows[0]["term"] == "row0"


def test_no_docker_is_said_in_a_line(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(TrainingError, match="docker is not installed"):
        ContainerRunner()(job, None, None)


# --- ssh --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[loopback.Server]:
    with loopback.sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def there(server: loopback.Server, tmp_path: Path) -> Ssh:
    """A host whose staged folders go to a folder of this test."""
    return Ssh(server.target, server.options, str(tmp_path / "there with space"))


@needs_sshd
def test_a_folder_goes_there_and_back_and_is_gone_there(server: loopback.Server, tmp_path: Path) -> None:
    host, folder = there(server, tmp_path), tmp_path / "stage"
    folder.mkdir()
    (folder / "in.txt").write_text("in")
    with host.holding(folder) as path:
        assert host.run(["sh", "-c", f"cat '{path}/in.txt' > '{path}/out.txt'; echo said it"], tmp_path / "log") == 0
        assert host.run(["sh", "-c", "exit 7"], tmp_path / "log") == 7
    assert (folder / "out.txt").read_text() == "in" and "said it" in (tmp_path / "log").read_text()
    assert list((tmp_path / "there with space").iterdir()) == []


@needs_sshd
def test_it_is_gone_there_after_a_fault_too(server: loopback.Server, tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt), there(server, tmp_path).holding(folder):
        raise KeyboardInterrupt
    assert list((tmp_path / "there with space").iterdir()) == []


HOLDING = """
import sys, time
from pathlib import Path
from clinical_asr.cli.runners import runner
from clinical_asr.engines.runners.hosts import Ssh
runner("ssh:me@there", "python3", 5.0, yes=False)
with Ssh(sys.argv[1], tuple(sys.argv[4:]), sys.argv[2]).holding(Path(sys.argv[3])):
    print("held", flush=True)
    time.sleep(60)
"""


@needs_sshd
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_is_gone_there_when_this_process_is_told_to_end(
    number: signal.Signals, server: loopback.Server, tmp_path: Path
) -> None:
    (tmp_path / "stage").mkdir()
    words = [server.target, str(tmp_path / "far"), str(tmp_path / "stage"), *server.options]
    process = subprocess.Popen([sys.executable, "-c", HOLDING, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n" and list((tmp_path / "far").iterdir())
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    process.stdout.close()
    assert list((tmp_path / "far").iterdir()) == []


@needs_sshd
def test_a_process_there_ends_when_it_is_interrupted_here(server: loopback.Server, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from clinical_asr.engines.runners.hosts import Ssh\n"
        f"Ssh({server.target!r}, {server.options!r}).run(['sleep', '3217'], Path({str(tmp_path / 'log')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    assert within(10, lambda: _running("sleep 3217")), "it runs there"
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert within(10, lambda: not _running("sleep 3217")), "it was left behind there"


def _running(words: str) -> bool:
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return any(line.strip() == words for line in lines)


@needs_sshd
def test_the_container_runs_on_a_machine_behind_ssh(
    server: loopback.Server, job: TrainingJob, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "memory fine")
    runner = ContainerRunner(there(server, tmp_path), tool=str(STAND_INS / "docker"))
    report = runner(job, None, None)
    assert report.batch_size == 2 and job.output.read_bytes() == b"tuned on batch 2"
    assert list((tmp_path / "there with space").iterdir()) == []


def test_a_machine_that_does_not_answer_is_named(job: TrainingJob, tmp_path: Path) -> None:
    host = Ssh("nobody@127.0.0.1", ("-p", "9", "-o", "ConnectTimeout=2", "-F", "none"))
    with pytest.raises(TrainingError, match=r"nobody@127.0.0.1: could not make a folder.*try: ssh"):
        ContainerRunner(host)(job, None, None)


@pytest.mark.nemo
@pytest.mark.xdist_group("nemo")
@needs_sshd
def test_this_package_trains_behind_ssh_with_replay(
    server: loopback.Server, tiny_nemo: Path, tiny_manifest: Path, tmp_path: Path
) -> None:
    """The real engine on a tiny model, in another process on another 'machine', and its whole report comes back."""
    rows = [fields for _, fields in iter_objects(tiny_manifest)][:12]
    examples = [
        Example(row["id"], tiny_manifest.parent / row["audio_filepath"], row["text"], row["duration"], row)
        for row in rows
    ]
    clinical = [_as_clinical(example) for example in examples[:8]]
    config = msgspec.structs.replace(SMOKE, name="one", epochs=1, replay_ratio=0.25)
    replayed = [replace(example, replayed=True) for example in examples[8:10]]
    parts, guard = (*clinical[:6], *replayed), tuple(examples[10:12])
    job = TrainingJob(tiny_nemo, parts, config, tmp_path / "adapted.nemo", tuple(clinical[6:]), selection_guard=guard)
    report = PackageRunner(there(server, tmp_path), sys.executable)(job, None, None)
    assert report.digest == file_digest(job.output) and report.epochs[0].rows == 8
    assert {"ker", "guard_wer"} <= set(report.epochs[0].metrics) and report.versions["torch"]
    assert report.chosen is not None and report.chosen in report.candidates and "guard_wer" in report.base_metrics


def _as_clinical(example: Example) -> Example:
    fields = {"term": example.text.split()[1], "entity_category": "drug", "ipa_source": "g2p", "voice_id": "tone",
              "noise_level": "clean", "context_type": "dictation"}  # fmt: skip
    return Example(example.id, example.audio, example.text, example.duration, {**example.row, **fields})


# --- several processes ------------------------------------------------------------------------------------------------


class Recorded:
    """A host that runs nothing: it notes the command and the batch of the recipe, and answers as it is told."""

    def __init__(self, said: str) -> None:
        self.said, self.commands, self.batches = said, [], []

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        self.folder = folder
        yield PurePosixPath(folder)

    def run(self, command: Any, log: Path) -> int:
        self.commands.append(list(command))
        self.batches.append(yaml.safe_load((self.folder / "recipe.yaml").read_text())["batch_size"])
        with log.open("a") as file:
            file.write(f"$ it\n{self.said}\n")
        return 1


def test_torchrun_starts_the_package_in_several_processes(job: TrainingJob) -> None:
    host = Recorded("error: row row3: its audio cannot be used")
    with pytest.raises(TrainingError, match=r"exit code 1: error: row row3: its audio cannot be used"):
        PackageRunner(Torchrun(host, "2"), "/opt/asr/bin/python")(job, None, None)
    expected = ["/opt/asr/bin/python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert host.commands[0][:8] == [*expected, "-m", "clinical_asr", "finetune"] and len(host.commands) == 1


def test_processes_out_of_memory_are_started_again_at_half_the_batch(job: TrainingJob) -> None:
    host = Recorded(f"error: batch of 4 on 2 GPUs: {NO_MEMORY}; halve it")
    with pytest.raises(TrainingError, match=NO_MEMORY):
        PackageRunner(Torchrun(host, "2"))(job, None, None)
    assert host.batches == [4, 2, 1]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["error: a", "E torch.distributed", "====="], "error: a"),
        (
            ["error: process 1 of 2: another process of the run has ended", "error: row 7: bad", "==="],
            "error: row 7: bad",
        ),
        (
            [
                "error: process 1 of 2: another process of the run has ended",
                "  traceback : Signal 15 (SIGTERM) received",
                "  traceback : Signal 9 (SIGKILL) received",
            ],
            "Signal 9 (SIGKILL) received (one of its processes)",
        ),
        (["ModuleNotFoundError: No module named clinical_asr"], "ModuleNotFoundError: No module named clinical_asr"),
    ],
)
def test_the_process_that_failed_is_heard_not_those_it_deserted(lines: list[str], said: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(["$ before", "error: of an earlier run", "$ now", *lines]))
    assert outcome.complaint(log) == said


def test_what_a_runner_started_ends_when_it_is_killed(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from clinical_asr.engines.runners.hosts import run_logged\n"
        f"run_logged(['sleep', '3219'], Path({str(tmp_path / 'log')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    assert within(10, lambda: _running("sleep 3219"))
    process.kill()
    process.wait(30)
    assert within(10, lambda: not _running("sleep 3219")), "it was left behind"


# --- Slurm ------------------------------------------------------------------------------------------------------------


def test_a_batch_script_is_shown_before_it_is_submitted(tmp_path: Path, calls: Path) -> None:
    shown: list[str] = []
    refused = Slurm(agrees=lambda script: bool(shown.append(script)))
    with pytest.raises(FlywheelError, match=r"train.job.sh: was written and not submitted"):
        refused.run(["echo", "hello there"], tmp_path / "train.log")
    assert "srun echo 'hello there'" in shown[0] and noted(calls) == []
    agreed = Slurm(agrees=lambda script: True)
    assert agreed.run(["echo", "hello there"], tmp_path / "train.log") == 0
    assert "hello there\n" in (tmp_path / "train.log").read_text()
    assert agreed.run(["false"], tmp_path / "train.log") == 1


def test_a_job_on_two_nodes_runs_once_on_each(tmp_path: Path, calls: Path) -> None:
    python = tmp_path / "python with space"
    python.write_text('#!/bin/sh\nshift 2\necho "$@"\n')
    python.chmod(0o755)
    slurm = Slurm(agrees=lambda script: True, nodes=2, gpus=4)
    assert slurm.run([str(python), "-m", "it", "a b"], tmp_path / "train.log") == 0
    said = [line for line in (tmp_path / "train.log").read_text().splitlines() if line.startswith("--nnodes")]
    assert len(said) == 2 and said[0] == said[1] and said[0].endswith(" -m it a b")
    words = dict(word.split("=") for word in said[0].split() if "=" in word)
    assert words["--nnodes"] == "2" and words["--nproc-per-node"] == "4" and words["--rdzv-backend"] == "c10d"
    assert words["--rdzv-endpoint"].startswith("localhost:2") and int(words["--rdzv-id"])


def test_a_job_that_nobody_waits_for_is_cancelled(tmp_path: Path, calls: Path) -> None:
    code = (
        "from pathlib import Path; from clinical_asr.engines.runners.slurm import Slurm\n"
        f"Slurm(agrees=lambda script: True).run(['sleep', '3221'], Path({str(tmp_path / 'log')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    assert within(10, lambda: _running("sleep 3221"))
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert noted(calls)[-1][0] == "scancel" and int(noted(calls)[-1][1])
    assert within(10, lambda: not _running("sleep 3221"))


# --- renting ----------------------------------------------------------------------------------------------------------


class Rented:
    """A rental whose machine is the loopback sshd."""

    def __init__(self, server: loopback.Server, answer: str = "YES", **wanted: Any) -> None:
        self.told: list[str] = []
        self.asked: list[str] = []
        user, _, address = server.target.partition("@")
        options = (*server.options, "-o", f"HostName={address}", "-o", f"User={user}")

        def ask(text: str) -> str:
            self.asked.append(text)
            return answer

        self.host = Brev(Rental(**wanted), ask, self.told.append, options, patience=0.05)


def verbs(calls: Path) -> list[str]:
    return [call[1] for call in noted(calls)]


@needs_sshd
def test_a_rental_is_asked_for_used_and_deleted(
    server: loopback.Server, job: TrainingJob, calls: Path, tmp_path: Path
) -> None:
    rented = Rented(server)
    report = ContainerRunner(rented.host, tool=str(STAND_INS / "docker"))(job, None, None)
    assert report.digest and verbs(calls) == ["create", "refresh", "run", "delete"]
    assert "$1.50 an hour" in rented.asked[0] and "YES" in rented.asked[0]
    assert rented.told[-1].startswith("brev delete clinical-asr-sft: done")


@needs_sshd
@pytest.mark.parametrize("answer", ["", "yes", "y", "YES!", "Yes"])
def test_anything_but_yes_rents_nothing(answer: str, calls: Path, tmp_path: Path) -> None:
    rented = Rented(loopback.Server("a@b", ()), answer)
    with pytest.raises(FlywheelError, match="nothing was rented"), rented.host.holding(tmp_path):
        pytest.fail("must not be reached")
    assert noted(calls) == []


def test_without_brev_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rented = Rented(loopback.Server("a@b", ()))
    with pytest.raises(TrainingError, match="brev is not installed"), rented.host.holding(tmp_path):
        pytest.fail("must not be reached")
    assert rented.asked == []


@needs_sshd
def test_a_rental_that_fails_to_start_is_deleted_all_the_same(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_BREV_FAILS", "create")
    rented = Rented(loopback.Server("a@b", ()))
    with pytest.raises(TrainingError, match=r'brev create failed: "no capacity"'), rented.host.holding(tmp_path):
        pytest.fail("must not be reached")
    assert verbs(calls) == ["create", "delete"]


@needs_sshd
@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_whatever_ends_the_work_ends_the_rental(
    fault: type[BaseException], server: loopback.Server, calls: Path, tmp_path: Path
) -> None:
    (tmp_path / "stage").mkdir()
    with pytest.raises(fault), Rented(server, keep_disk=True).host.holding(tmp_path / "stage"):
        raise fault
    assert verbs(calls)[-1] == "stop"


@needs_sshd
def test_the_watchdog_ends_what_costs_too_much(server: loopback.Server, calls: Path, tmp_path: Path) -> None:
    rented = Rented(server, max_cost=1.0)
    hours = [0.0]
    rented.host.clock = lambda: hours[0] * 3600
    threading.Timer(0.5, lambda: hours.__setitem__(0, 0.7)).start()  # 0.7 h at $1.50 are more than $1
    (tmp_path / "stage").mkdir()
    with (
        pytest.raises(TrainingError, match=r"the rental reached \$1.00 and was ended"),
        rented.host.holding(tmp_path / "stage"),
    ):
        rented.host.run(["sleep", "2"], tmp_path / "log")
    assert verbs(calls) == ["create", "refresh", "delete"], "ended once: a second time would be a false alarm"


@needs_sshd
def test_the_watchdog_tries_until_it_has_ended_it(
    server: loopback.Server, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_BREV_FAILS", "delete:3")
    rented = Rented(server, max_cost=1.0)
    hours = iter([0.0, *[0.7] * 1000])
    rented.host.clock = lambda: next(hours) * 3600
    (tmp_path / "stage").mkdir()
    with pytest.raises(TrainingError, match=r"reached \$1.00"), rented.host.holding(tmp_path / "stage"):
        rented.host.run(["sleep", "3"], tmp_path / "log")
    assert verbs(calls) == ["create", "refresh", *["delete"] * 4] and "done, about" in rented.told[-1]


RENTING = """
import sys, time
from pathlib import Path
from clinical_asr.engines.runners.brev import Brev
from clinical_asr.rental import Rental
with Brev(Rental(), lambda text: "YES", ssh_options=tuple(sys.argv[2:]), patience=0.2).holding(Path(sys.argv[1])):
    print("rented", flush=True)
    time.sleep(60)
"""


@needs_sshd
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_killed_leaves_no_rental(
    number: signal.Signals, server: loopback.Server, calls: Path, tmp_path: Path
) -> None:
    """No line of the process runs any more: its guard ends the machine, though the first two tries fail."""
    (tmp_path / "stage").mkdir()
    command = [sys.executable, "-c", RENTING, str(tmp_path / "stage"), *Rented(server).host.ssh_options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "STAND_IN_BREV_FAILS": "delete:2"}
    )
    assert process.stdout and process.stdout.readline() == "rented\n"
    assert verbs(calls) == ["create", "refresh"]
    process.send_signal(number)
    process.wait(30)
    process.stdout.close()
    assert within(10, lambda: verbs(calls) == ["create", "refresh", *["delete"] * 3])


def test_the_guard_ends_what_goes_on_too_long_and_nothing_that_was_released(calls: Path) -> None:
    command = [sys.executable, guard.__file__, "0.2", "0.01", "brev", "delete", "mine"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as late:
        assert late.wait(20) == 0
    assert noted(calls) == [["brev", "delete", "mine"]]
    command[2] = "60"
    assert subprocess.run(command, input=guard.RELEASED, timeout=20).returncode == 0
    assert len(noted(calls)) == 1


def test_every_rental_has_a_name_of_its_own() -> None:
    """A machine of that name that is there already would else be deleted when making a second one fails."""
    from clinical_asr.cli.runners import runner

    names = {runner("brev", "python3", 5.0, yes=False).host.rental.name for _ in range(20)}  # type: ignore[attr-defined]
    assert len(names) == 20 and all(name.startswith("clinical-asr-sft-") for name in names)


@needs_sshd
def test_a_rental_that_cannot_be_ended_is_shouted_about(
    server: loopback.Server, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_BREV_FAILS", "delete")
    rented = Rented(server)
    (tmp_path / "stage").mkdir()
    with rented.host.holding(tmp_path / "stage"):
        pass
    assert verbs(calls).count("delete") >= 3 and rented.told[-1].startswith("COULD NOT END THE RENTAL")
    monkeypatch.delenv("STAND_IN_BREV_FAILS")


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "runner", ["nowhere", "ssh", "ssh:", "brev:now", "local:2", "container:sh", "ssh:-oProxyCommand=id", "torchrun:0"]
)
def test_a_runner_there_is_not_is_refused(runner: str) -> None:
    command = [sys.executable, "-m", "clinical_asr", "finetune", "--train", "x", "--validation", "y"]
    done = subprocess.run([*command, "--runner", runner], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and f"error: --runner: '{runner}' is no runner" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gpus-per-node", "2"], "--gpus-per-node: works with slurm and ssh, not with local"),
        (["--runner", "ssh:me@there", "--nodes", "2"], "--nodes: works with slurm, not with ssh"),
    ],
)
def test_many_gpus_need_a_runner_that_has_them(options: list[str], said: str) -> None:
    command = [sys.executable, "-m", "clinical_asr", "finetune", "--train", "x", "--validation", "y", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and f"error: {said}" in done.stderr


@pytest.mark.parametrize("told", [{"RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, {}])
def test_a_cycle_is_not_shared(told: dict[str, str]) -> None:
    command = [sys.executable, "-m", "clinical_asr", "cycle", "--base", "mini"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "WORLD_SIZE": "2", **told}
    )
    wanted = "cycle: runs in one process, not in 2" if told else "start it with torchrun"
    assert done.returncode == 2 and wanted in done.stderr


def test_a_pipe_cannot_say_yes(calls: Path, tmp_path: Path) -> None:
    code = "from clinical_asr.cli.runners import _typed; print(repr(_typed('rent?')))"
    done = subprocess.run([sys.executable, "-c", code], input="YES\n", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["rent?", "''"]


def test_no_runner_trains_without_validation_rows(job: TrainingJob, calls: Path) -> None:
    with pytest.raises(ConfigError, match="NeMo's script needs some"):
        ContainerRunner(Local())(replace(job, validation=()), None, None)


TYPING = """
from clinical_asr.cli.console import steps
from clinical_asr.cli.runners import _typed
import time
moving = steps("training")
print(repr(_typed("rent? ")))
moving(1, 1, 0.5)
"""


def test_no_bar_moves_over_the_question_and_what_is_typed() -> None:
    """At a real terminal: from the question to the end of the answer nothing else is drawn."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", TYPING], {**os.environ, "TERM": "xterm"})
    seen = b""
    while b"rent? " not in seen:
        seen += os.read(terminal, 4096)
    time.sleep(0.5)  # five turns of a bar
    os.write(terminal, b"YES\n")
    while b"'YES'" not in seen:
        seen += os.read(terminal, 4096)
    os.waitpid(pid, 0)
    os.close(terminal)
    between = seen.split(b"rent? ")[1].split(b"YES")[0]
    assert b"training" in seen and between == b""
