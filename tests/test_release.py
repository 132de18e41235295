"""A release: what is pinned, under which licences, what stands in the wheel, what the Dockerfile does, and whether each
check can fail."""

from __future__ import annotations

import email.message
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import clinical_asr
from clinical_asr.config import load_recipe

ROOT = Path(__file__).parents[1]
RELEASE = ROOT / "release"


def tool(name: str) -> ModuleType:
    """A script of release/, which imports its neighbours by their bare names."""
    sys.path.insert(0, str(RELEASE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(RELEASE))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


class Named(Distribution):
    """A distribution of nothing but metadata."""

    def __init__(self, **fields: str | list[str]) -> None:
        self.fields = fields

    def read_text(self, filename: str) -> str | None:
        message = email.message.Message()
        for key, value in self.fields.items():
            for one in [value] if isinstance(value, str) else value:
                message[key.replace("_", "-")] = one
        return str(message) if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise FileNotFoundError(path)


@pytest.mark.parametrize("script", sorted(RELEASE.glob("*.py")), ids=lambda path: path.stem)
def test_examples_in_the_scripts_hold(script: Path) -> None:
    import doctest

    assert doctest.testmod(tool(script.stem)).failed == 0


# One version, one set of pins


def test_the_version_stands_in_one_place() -> None:
    assert tool("distribution").version() == clinical_asr.__version__
    assert "version" not in project()["project"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == clinical_asr.__version__
    assert f"## {clinical_asr.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_build_tool_has_one_version() -> None:
    pins = tool("distribution").pins
    (required,) = project()["build-system"]["requires"]
    pinned = pins((ROOT / "constraints.txt").read_text())["hatchling"]
    assert required == f"hatchling=={pinned}"
    assert pins((RELEASE / "requirements.txt").read_text())["hatchling"] == pinned


def test_every_tool_of_a_release_is_pinned() -> None:
    lines = [line for line in (RELEASE / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines and all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)


def test_citation_has_what_the_format_asks_for() -> None:
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert told["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= told.keys()
    assert all("name" in author or "family-names" in author for author in told["authors"])
    assert told["license"] == project()["project"]["license"]


# Digests


def test_every_pin_but_torch_has_its_digest() -> None:
    hashes = tool("hashes")
    assert hashes.faults() == []
    assert {"torch"} == hashes.UNHASHED
    assert "torch" in tool("distribution").pins(hashes.CONSTRAINTS.read_text())


def test_all_that_the_product_runs_on_is_locked_for_running() -> None:
    hashes = tool("hashes")
    held = {name for name, _, _ in hashes.entries(hashes.LOCKS["run"].read_text())}
    assert tool("distribution").runtime().keys() - held == hashes.UNHASHED


LINE = "a==1 \\\n    --hash=sha256:" + "0" * 64 + "\n"


@pytest.mark.parametrize(
    ("pinned", "run", "dev", "told"),
    [
        ("a==1\ntorch==2\n", LINE, "", []),
        ("a==2\n", LINE, "", ["a: 2 in constraints.txt, 1 with digests"]),
        ("a==1\nb==1\n", LINE, "", ["b: 1 in constraints.txt, None with digests"]),
        ("a==1\n", "a==1\n", "", ["run.txt: a has no digest"]),
        ("a==1\n", "a==1 --hash=sha256:" + "0" * 63, "", ["run.txt: a has no digest"]),
        ("a==1\n", LINE, LINE, ["dev.txt: a stands in both files"]),
        ("b==1\n", LINE + LINE.replace("a==", "b=="), "", ["a: None in constraints.txt, 1 with digests"]),
        ("torch==2\n", "", "", ["constraints.txt pins nothing"]),
    ],
)
def test_what_is_wrong_with_digests_is_found(
    pinned: str, run: str, dev: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = tool("hashes")
    for name, text in (("constraints", pinned), ("run", run), ("dev", dev)):
        (tmp_path / f"{name}.txt").write_text(text)
    monkeypatch.setattr(hashes, "CONSTRAINTS", tmp_path / "constraints.txt")
    monkeypatch.setattr(hashes, "LOCKS", {"run": tmp_path / "run.txt", "dev": tmp_path / "dev.txt"})
    assert hashes.faults() == told


def test_pip_refuses_a_file_with_another_digest(tmp_path: Path) -> None:
    """What `make HASHES=1` rests on, tried on a wheel of our own, without an index."""
    wheel = tmp_path / "probe-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as opened:
        opened.writestr("probe-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: probe\nVersion: 1\n")
        opened.writestr("probe-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        opened.writestr("probe-1.dist-info/RECORD", "")
    locked = tmp_path / "locked.txt"
    locked.write_text(LINE.replace("a==1", "probe==1"))
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--no-index", "--find-links", str(tmp_path)]
    command += ["--dry-run", "--no-deps", "--require-hashes", "--requirement", str(locked)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode
    assert "DO NOT MATCH THE HASHES" in done.stderr, done.stderr


# Vulnerabilities


def found(**rows: Any) -> Any:
    return tool("audit").read({"dependencies": [{"name": name, "version": "1", **row} for name, row in rows.items()]})


def test_an_audit_is_clean_only_if_all_was_looked_up() -> None:
    assert found(a={"vulns": []}, b={"vulns": []}).exit_code == 0


@pytest.mark.parametrize(
    "rows", [{}, {"a": {"skip_reason": "no answer"}}, {"a": {"vulns": []}, "b": {"skip_reason": "no answer"}}]
)
def test_an_audit_of_nothing_or_of_a_part_is_never_clean(rows: dict[str, Any]) -> None:
    assert found(**rows).exit_code == 3
    assert "NOT CHECKED" in str(found(**rows))


def test_one_vulnerability_outweighs_all_that_was_skipped() -> None:
    told = found(a={"vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}, b={"skip_reason": "no answer"})
    assert told.exit_code == 1
    assert "a 1: CVE-1, mended in 2" in str(told)


def test_a_database_that_cannot_be_reached_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = tool("audit")
    broken = tmp_path / "pip-audit"
    broken.write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(audit, "TOOLS", tmp_path)
    assert audit.main() == 3


# Licences


def test_every_dependency_has_a_known_licence_and_the_page_says_so() -> None:
    licences = tool("licences")
    everything = tool("distribution").runtime()
    assert len(everything) > 100
    assert licences.unknown(everything) == []
    assert (ROOT / "THIRD_PARTY_LICENCES.md").read_text() == licences.table(everything), "make licences"


@pytest.mark.parametrize("written", [{}, {"License": "UNKNOWN"}, {"Classifier": ["License :: OSI Approved"]}])
def test_a_dependency_without_a_licence_is_an_error(written: dict[str, Any]) -> None:
    licences = tool("licences")
    nameless = {"probe": Named(Name="probe", Version="1", **written)}
    assert licences.unknown(nameless) == ["probe"]
    with pytest.raises(SystemExit, match="no known licence: probe"):
        licences.table(nameless)


def test_a_new_version_of_a_package_that_states_nothing_is_read_again() -> None:
    licences = tool("licences")
    assert licences.licence(Named(Name="espeakng-loader", Version="0.2.4")) == "GPL-3.0-or-later"
    assert licences.licence(Named(Name="espeakng-loader", Version="0.2.5")) == ""


def test_a_licence_is_read_where_its_author_wrote_it() -> None:
    licence = tool("licences").licence
    apache = "License :: OSI Approved :: Apache Software License"
    assert licence(Named(Name="a", Version="1", License_Expression="MIT", License="BSD")) == "MIT"
    assert licence(Named(Name="a", Version="1", License="Apache 2.0")) == "Apache-2.0"
    assert licence(Named(Name="a", Version="1", License="x" * 500, Classifier=[apache])) == "Apache-2.0"


def test_what_asks_for_something_back_is_named() -> None:
    page = (ROOT / "THIRD_PARTY_LICENCES.md").read_text()
    asking = page.split("### Asks for something back")[1].split("### All")[0]
    assert all(name in asking for name in ("espeakng-loader", "soxr", "soundfile"))
    assert "models/recipe/SOURCES.md" in (ROOT / "NOTICE").read_text()


# The wheel


def make_wheel(path: Path, leave_out: str = "", extra: str = "", version: str = clinical_asr.__version__) -> Path:
    """A wheel with every name that is asked for, but not its contents."""
    package = tool("package")
    info = f"clinical_asr_flywheel-{clinical_asr.__version__}.dist-info"
    told = f"Metadata-Version: 2.4\nName: x\nVersion: {version}\nLicense-Expression: Apache-2.0\n"
    told += "".join(f"Provides-Extra: {name}\n" for name in package.EXTRAS)
    names = (
        package.expected() | {f"{info}/licenses/{name}" for name in package.LICENCES} | ({extra} if extra else set())
    )
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr(f"{info}/METADATA", told)
        for name in names - {leave_out}:
            sidecar = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            opened.writestr(name, sidecar if name.endswith(".sha256") else "")
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"leave_out": "clinical_asr/recipes/keep.yaml"}, ["lacks clinical_asr/recipes/keep.yaml"]),
        ({"leave_out": "clinical_asr/examples/packs/icu.csv"}, ["lacks clinical_asr/examples/packs/icu.csv"]),
        ({"extra": "clinical_asr/__pycache__/gate.pyc"}, ["holds clinical_asr/__pycache__/gate.pyc"]),
        ({"extra": "tests/test_gate.py"}, ["holds tests/test_gate.py"]),
        ({"version": "9"}, ["METADATA says version 9"]),
    ],
)
def test_what_is_wrong_with_a_wheel_is_found(change: dict[str, str], told: list[str], tmp_path: Path) -> None:
    assert tool("package").faults(make_wheel(tmp_path / "probe.whl", **change)) == told


def test_a_base_that_is_not_its_digest_is_no_release(tmp_path: Path) -> None:
    path = make_wheel(tmp_path / "probe.whl", leave_out="clinical_asr/models/mini-fastconformer-tdt.nemo")
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("clinical_asr/models/mini-fastconformer-tdt.nemo", "another model")
    assert tool("package").faults(path) == [
        "clinical_asr/models/mini-fastconformer-tdt.nemo has another digest than its sidecar"
    ]


def test_the_small_cycle_passes_the_gate_and_its_recipe_is_valid(tmp_path: Path) -> None:
    install = tool("install")
    install.few_terms(ROOT / "examples", tmp_path / "few.csv")
    rows = (tmp_path / "few.csv").read_text().splitlines()[1:]
    assert len(rows) * 4 * 2 >= 100 and all(row.endswith(",drug") for row in rows)
    assert load_recipe(str(RELEASE / "smoke.yaml")).epochs == 1


# The Dockerfile


def test_every_instruction_of_the_dockerfile_can_be_tried() -> None:
    dockerfile = tool("dockerfile")
    found = dockerfile.steps((ROOT / "Dockerfile").read_text())
    assert sum(step.word == "RUN" for step in found) >= 5
    assert found[-2].word == "ENTRYPOINT"
    with pytest.raises(SystemExit, match="no test for ADD"):
        dockerfile.steps("FROM a\nADD b c\n")


def test_the_image_is_built_from_what_it_needs_and_nothing_private() -> None:
    sent = tool("dockerfile").sent()
    assert {"pyproject.toml", "constraints-hashes.txt", "models/mini-fastconformer-tdt.nemo"} <= set(sent)
    force = {"LICENSE", "NOTICE", "THIRD_PARTY_LICENCES.md", "README.md", "constraints.txt", "constraints-hashes.txt"}
    assert {path.split("/")[0] for path in sent} == force | {"pyproject.toml", "src", "models", "examples"}


def test_a_step_that_fails_ends_the_trial(tmp_path: Path) -> None:
    dockerfile = tool("dockerfile")
    builder = dockerfile.Builder(tmp_path, {"VARIANT": "rocm"}, pip=False)
    lines = dockerfile.steps((ROOT / "Dockerfile").read_text())
    (choice,) = [step for step in lines if step.word == "RUN" and "VARIANT" in step.rest]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for word, rest in (("FROM", f"python:{here}-slim"), ("ARG", "VARIANT=cpu"), ("ARG", "CPU_INDEX=")):
        builder.take(dockerfile.Step(word, rest))
    with pytest.raises(SystemExit, match="VARIANT is cpu or cuda, not rocm"):
        builder.take(choice)
    assert builder.ran == 0


# Make and hooks


def test_make_offers_every_target_and_runs_scripts_that_exist() -> None:
    text = (ROOT / "Makefile").read_text()
    for target in ("release", "licences", "sbom", "audit", "hashes", "dockerfile", "constraints"):
        assert re.search(rf"^{target}:", text, re.MULTILINE), target
    named = re.findall(r"release/\w+\.(?:py|txt)", text)
    assert named and all((ROOT / name).is_file() for name in named)


def test_the_hooks_are_valid_and_run_what_the_suite_runs() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {hook["id"] for hook in repo["hooks"]} == {"ruff", "mypy"}
    assert all((ROOT / hook["entry"].split()[0]).parent.name == "bin" for hook in repo["hooks"])


@pytest.mark.slow
def test_a_release_from_end_to_end_but_for_the_clean_environment(tmp_path: Path) -> None:
    """Builds twice, byte for byte the same, installs the wheel outside the repository and turns one small cycle."""
    if not (ROOT / "build" / "tools" / ".ready").is_file():
        pytest.skip("the tools of a release are not set up: make build/tools/.ready")
    package, install = tool("package"), tool("install")
    archive, wheel = package.build(tmp_path / "one")
    again = package.build(tmp_path / "two")
    assert [path.read_bytes() for path in again] == [archive.read_bytes(), wheel.read_bytes()]
    assert package.faults(wheel) == []
    programs = install.borrowed(tmp_path, wheel)
    install.use(programs, tmp_path)
    assert install.turn(programs, tmp_path)["verdict"]
