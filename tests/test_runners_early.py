"""Runners: the staged base is the one that is meant, and what cannot work is told before anything is done for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from clinical_asr import bases
from clinical_asr.bases import base_digest, sidecar_of
from clinical_asr.cli.runners import runner
from clinical_asr.config import load_recipe
from clinical_asr.cycle import file_digest
from clinical_asr.engines.runners import staging
from clinical_asr.engines.runners.brev import Brev
from clinical_asr.engines.runners.hosts import Ssh
from clinical_asr.engines.runners.package import PackageRunner
from clinical_asr.engines.runners.slurm import Slurm
from clinical_asr.errors import ConfigError, TrainingError
from clinical_asr.rental import Rental
from clinical_asr.training import Example, TrainingJob

SMOKE, KEEP = load_recipe("smoke"), load_recipe("keep")


# --- the staged base --------------------------------------------------------------------------------------------------


class Broken:
    """A host on which every run leaves half of its work and fails; it notes what lay there when a run began."""

    def __init__(self) -> None:
        self.bases: list[bytes] = []
        self.halves: list[bytes] = []

    @contextmanager
    def holding(self, folder: Path) -> Iterator[PurePosixPath]:
        yield PurePosixPath(folder)

    def run(self, command: Any, log: Path) -> int:
        base = Path(command[command.index("--base") + 1])
        half = base.with_name("out") / "half"
        self.bases.append(base.read_bytes())
        self.halves.append(half.read_bytes() if half.exists() else b"")
        half.parent.mkdir(exist_ok=True)
        half.write_bytes(b"half of " + base.read_bytes())
        log.write_text("$ it\nerror: killed\n")
        return 1


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    base, audio = tmp_path / "A.nemo", tmp_path / "row.wav"
    base.write_bytes(b"AAAA")
    audio.write_bytes(b"sound")
    return TrainingJob(base, (Example("row", audio, "give it", 1.0),), SMOKE, tmp_path / "out" / "adapted.nemo")


def run(host: Broken, job: TrainingJob) -> None:
    with pytest.raises(TrainingError, match="error: killed"):
        PackageRunner(host)(job, None, None)


def no_links(source: Path, target: Path) -> None:
    raise OSError("another file system")


@pytest.fixture(params=["links", "copies"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system that has hard links, and two that have none between them."""
    if request.param == "copies":
        monkeypatch.setattr(os, "link", no_links)
    return str(request.param)


def test_another_base_of_the_same_size_is_trained_from(job: TrainingJob, disk: str) -> None:
    host, other = Broken(), job.base.with_name("B.nemo")
    other.write_bytes(b"BBBB")
    run(host, job)
    run(host, replace(job, base=other))
    run(host, job)
    assert host.bases == [b"AAAA", b"BBBB", b"AAAA"]
    assert host.halves == [b"", b"", b""], "a half run of another base must not be continued"
    assert job.base.read_bytes() == b"AAAA" and other.read_bytes() == b"BBBB", "the originals are not touched"


def test_a_base_that_was_rewritten_in_place_is_another(job: TrainingJob, disk: str) -> None:
    """A hard link follows what is written into its file: only what was noted of it tells."""
    host = Broken()
    run(host, job)
    job.base.write_bytes(b"CCCC")
    os.utime(job.base, (1, 1))  # whatever the clock's grain
    run(host, job)
    assert host.bases == [b"AAAA", b"CCCC"] and host.halves == [b"", b""]


def test_a_run_of_the_same_base_is_continued(job: TrainingJob, disk: str) -> None:
    host, again = Broken(), job.base.with_name("again.nemo")
    again.write_bytes(b"AAAA")
    for base in (job.base, job.base, again):
        run(host, replace(job, base=base))
    assert host.halves == [b"", b"half of AAAA", b"half of AAAA"]


def test_what_was_staged_without_a_digest_is_compared(job: TrainingJob) -> None:
    """As an earlier version left it."""
    host, staged = Broken(), staging.staged_beside(job.output)
    run(host, job)
    sidecar_of(staged / "base.nemo").unlink()
    run(host, job)
    assert host.halves[-1] == b"half of AAAA"
    sidecar_of(staged / "base.nemo").unlink()
    other = job.base.with_name("B.nemo")
    other.write_bytes(b"BBBB")
    run(host, replace(job, base=other))
    assert host.bases[-1] == b"BBBB" and host.halves[-1] == b""


def test_the_staged_base_has_its_digest_beside_it(job: TrainingJob) -> None:
    """Whoever reads it there sees whether all of it has arrived."""
    run(Broken(), job)
    staged = staging.staged_beside(job.output) / "base.nemo"
    assert sidecar_of(staged).read_text() == f"{file_digest(job.base)}  base.nemo\n"
    assert base_digest(staged) == file_digest(job.base)


def test_a_linked_base_is_hashed_once(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return file_digest(path)

    monkeypatch.setattr(bases, "file_digest", counted)
    for _ in range(3):
        run(Broken(), job)
    assert hashed == [job.base]


# --- the recipe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["container", "container:podman", "ssh+container:me@there", "brev"])
def test_a_runner_of_the_stock_script_refuses_the_recipe_at_once(wanted: str) -> None:
    with pytest.raises(ConfigError, match=r"frozen: is \('decoder', 'joint'\), which NeMo's stock script cannot do"):
        runner(wanted, "python3", 5.0, False, recipe=KEEP)
    runner(wanted, "python3", 5.0, False, recipe=SMOKE)


@pytest.mark.parametrize("wanted", ["local", "torchrun:2", "ssh:me@there", "slurm"])
def test_a_runner_of_this_package_takes_every_recipe(wanted: str) -> None:
    for recipe in (KEEP, SMOKE):
        assert callable(runner(wanted, "python3", 5.0, False, recipe=recipe))


@pytest.mark.parametrize("wanted", ["container", "brev"])
def test_a_fine_tuning_that_could_not_run_does_not_begin(wanted: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clinical_asr", "finetune", "--base", "mini", "--train", "nowhere.jsonl"]
    command += ["--validation", "nowhere.jsonl", "--runner", wanted, "--output", str(tmp_path / "out" / "m.nemo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and done.stderr.startswith("error: frozen: is") and not (tmp_path / "out").exists()


@pytest.mark.parametrize("wanted", ["container", "brev"])
def test_a_cycle_that_could_not_be_trained_does_not_begin(wanted: str, tmp_path: Path) -> None:
    """The manifest is not even looked for."""
    command = [sys.executable, "-m", "clinical_asr", "cycle", "--base", "mini", "--manifest", "nowhere.jsonl"]
    command += ["--runner", wanted, "--out", str(tmp_path / "cycles")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: frozen: is") and "--recipe smoke" in done.stderr
    assert not (tmp_path / "cycles").exists()
    done = subprocess.run([*command, "--recipe", "smoke"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no file nowhere.jsonl" in done.stderr


# --- Slurm's output ---------------------------------------------------------------------------------------------------


def as_sbatch_reads(script: str) -> str:
    """The file that ``--output`` names, by Slurm's rules: quotes group, a backslash escapes, ``%%`` is a ``%``."""
    (line,) = (line for line in script.splitlines() if line.startswith("#SBATCH --output="))
    found = re.match(r'(?:"((?:[^"\\]|\\.)*)"|([^\s"\'\\#]*))$', line.removeprefix("#SBATCH --output="))
    assert found, f"sbatch would not take all of {line}"
    value = found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1])
    assert not re.search(r"(?<!%)(?:%%)*%(?!%)", value), f"a pattern is left in {value}"
    return value.replace("%%", "%")


@pytest.mark.parametrize(
    "path",
    ["/work/x.log", "/work/my runs/50%/x.log", "/work/%j/%%/x.log", '/work/"a" b\'s/#1.log', "/work/naïve é/x.log"],
)
def test_slurm_writes_where_it_is_told(path: str) -> None:
    script = Slurm(agrees=lambda script: False).script(["python"], Path(path))
    assert as_sbatch_reads(script) == path
    assert '#SBATCH --output="/work/my runs/50%%/x.log"' in script or path != "/work/my runs/50%/x.log"


@pytest.mark.parametrize("path", ["/work/a\\b/x.log", "/work/a\nb/x.log"])
def test_a_path_that_slurm_cannot_be_told_of_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="holds a backslash or a line break, so Slurm cannot write there"):
        Slurm(agrees=lambda script: False).script(["python"], Path(path))


# --- missing programs -------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A PATH with these programs and no others, which note that they were called."""

    def only(*names: str) -> Path:
        folder, calls = tmp_path / "bin", tmp_path / "calls"
        folder.mkdir()
        for name in names:
            (folder / name).write_text(f"#!/bin/sh\necho {name} >>'{calls}'\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return calls

    return only


@pytest.mark.parametrize(("there", "missing"), [(("ssh",), "rsync"), (("rsync",), "ssh"), ((), "ssh")])
def test_a_missing_program_is_told_before_anything_is_made_there(
    there: tuple[str, ...], missing: str, programs: Callable[..., Path], tmp_path: Path
) -> None:
    calls = programs(*there)
    with (
        pytest.raises(TrainingError, match=f"{missing} is not installed; install {missing}"),
        Ssh("me@there").holding(tmp_path),
    ):
        pytest.fail("must not be reached")
    assert not calls.exists()


def test_nothing_is_rented_without_a_program_that_is_needed_there(
    programs: Callable[..., Path], tmp_path: Path
) -> None:
    calls, asked = programs("brev", "ssh"), []
    brev = Brev(Rental(), ask=lambda text: asked.append(text) or "YES")
    with pytest.raises(TrainingError, match="rsync is not installed"), brev.holding(tmp_path):
        pytest.fail("must not be reached")
    assert asked == [] and not calls.exists()
