"""deploy: a promoted model in, a folder to hand over out: the model, its card, its evidence, the commands to serve it.

Nothing is served here. The folder appears whole or not at all, and every file in it has its digest in ``SHA256SUMS``.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import __version__
from clinical_asr.cycle import file_digest
from clinical_asr.errors import ConfigError, FlywheelError, ModelError
from clinical_asr.handoff import Evidence
from clinical_asr.jsonl import read_json, write_json, write_text
from clinical_asr.licences import licence_of
from clinical_asr.model_card import Card, card, deployment_page
from clinical_asr.riva_commands import Plan, Step, doubts, plan_of, steps_of
from clinical_asr.routes import route_of

SUMS, SUMMARY, CARD, PAGE = "SHA256SUMS", "deploy.json", "README.md", "DEPLOY.md"
SHORTEST_REASON = 15
"""Letters that a reason for overriding the decision has at least."""


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    """What a person decides about a hand-off."""

    name: str
    """Name of the model file and of the pipeline."""
    mode: str = "offline"
    """``offline`` or ``streaming``."""
    language: str = "en-US"
    head: str = ""
    """Which head of a hybrid is kept: ``rnnt`` or ``ctc``."""
    container: str = ""
    """NIM image; by default one of the family that fits the decoder."""
    tag: str = "latest"
    licence: str = ""
    """Of the base, where it is not known by the base's name."""
    not_promoted: str = ""
    """Why a model that was not promoted is handed over all the same; stands in the card."""

    def __post_init__(self) -> None:
        shapes = [("--name", self.name, r"[a-z0-9][a-z0-9._-]{0,62}", "lower-case letters, digits, dots and hyphens"),
                  ("--language", self.language, r"[a-z]{2,3}(-[A-Z]{2})?", "a language code such as en-US"),
                  ("--container", self.container, r"[a-z0-9._/-]*", "the name of a NIM image"),
                  ("--tag", self.tag, r"\w[\w.-]{0,127}", "the tag of an image")]  # fmt: skip
        for flag, value, shape, what in shapes:
            if re.fullmatch(shape, value) is None:
                raise ConfigError(f"{value!r:.80} cannot be used", flag, f"give {what}")
        if self.not_promoted and len(self.not_promoted.strip()) < SHORTEST_REASON:
            mend = "say in a sentence why this model is served although the evaluation did not promote it"
            raise ConfigError("is no reason", "--not-promoted", mend)


@dataclass(frozen=True)
class HandOff:
    """What was written."""

    folder: Path
    digest: str
    plan: Plan
    steps: list[Step]
    already: bool = False
    """True if the folder was there, whole, from an earlier run of the same command."""


def deploy(evidence: Evidence, config: DeployConfig, folder: Path) -> HandOff:
    """Write the hand-off folder; the same call again finds it complete.

    Raises FlywheelError if the model was not promoted and no reason is given; ModelError, with what was read, for an
    architecture that has no way to Riva; ConfigError if ``folder`` holds something else.
    """
    _refuse_unpromoted(evidence, config)
    where = str(evidence.sources.model)
    if evidence.architecture.streaming:
        mend = "serve an offline base in chunks"
        raise ModelError("is cache-aware, which fine-tuning here does not support", where, mend)
    route = route_of(evidence.architecture, where, config.head)
    plan = plan_of(config.name, evidence.architecture, route, config.mode, config.language, config.container,
                   config.tag, config.head)  # fmt: skip
    waiver = config.not_promoted.strip() if evidence.problems else ""
    content = Card(evidence, plan, licence_of(evidence.story.base.name, config.licence), waiver)
    steps = steps_of(plan)
    summary = summary_of(content, steps)
    done = HandOff(folder, evidence.digest, plan, steps, already=_is_complete(folder, summary))
    if not done.already:
        _write(folder, content, steps, summary)
    return done


def _refuse_unpromoted(evidence: Evidence, config: DeployConfig) -> None:
    if evidence.problems and not config.not_promoted:
        mend = 'tune again, or hand it over all the same with --not-promoted "why"'
        raise FlywheelError(f"was not promoted ({'; '.join(evidence.problems)})", str(evidence.sources.model), mend)


def summary_of(content: Card, steps: list[Step]) -> dict[str, Any]:
    """``deploy.json``: the hand-off as data."""
    evidence, plan = content.evidence, content.plan
    return {
        "package": __version__,
        "model": {"name": plan.name, "file": f"{plan.name}.nemo", "sha256": evidence.digest},
        "architecture": asdict(plan.architecture),
        "decision": {"verdict": evidence.judgement.verdict, "reason": evidence.judgement.reason,
                     "promoted": not evidence.problems, "override": content.waiver},
        "base": {"name": evidence.story.base.name, "sha256": evidence.story.base.sha256},
        "rollback": _named(evidence),
        "licence": asdict(content.licence),
        "riva": {"decoder": plan.route.decoder, "nim_family": plan.route.family, "image": plan.image,
                 "nemo2riva": plan.route.nemo2riva, "mode": plan.mode, "language": plan.language, "head": plan.head},
        "steps": [{"title": step.title, "command": step.command, "note": step.note} for step in steps],
        "check_first": doubts(plan),
    }  # fmt: skip


def _named(evidence: Evidence) -> list[dict[str, str]]:
    known = [evidence.previous, evidence.story.base]
    return [{"name": one.name, "sha256": one.sha256} for one in known if one is not None]


def _is_complete(folder: Path, summary: dict[str, Any]) -> bool:
    """True if the folder is this very hand-off. Raises ConfigError if it holds anything else, or is damaged."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    told = folder / SUMMARY
    if not (told.is_file() and read_json(told) == msgspec.json.decode(msgspec.json.encode(summary))):
        raise ConfigError("is not empty", str(folder), "give a folder of its own: --out")
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if not (folder / name).is_file() or file_digest(folder / name) != digest:
            raise ConfigError(f"has been changed ({name})", str(folder), "give another folder: --out")
    return True


def _write(folder: Path, content: Card, steps: list[Step], summary: dict[str, Any]) -> None:
    """Into ``<folder>.part`` first; what a killed run left there is made anew."""
    part = folder.with_name(f"{folder.name}.part")
    if part.exists():
        shutil.rmtree(part)
    (part / "evidence").mkdir(parents=True)
    model = part / f"{content.plan.name}.nemo"
    shutil.copyfile(content.evidence.sources.model, model)
    if file_digest(model) != content.evidence.digest:
        raise ModelError("changed while it was copied", str(content.evidence.sources.model), "run the command again")
    write_text(part / f"{model.name}.sha256", f"{content.evidence.digest}  {model.name}\n")
    for name, path in content.evidence.sources.evidence().items():
        shutil.copyfile(path, part / "evidence" / name)
    _copy_transcripts(content.evidence, part)
    write_json(part / SUMMARY, summary)
    write_text(part / PAGE, deployment_page(content, steps))
    write_text(part / CARD, card(content, _digests(part)))
    write_text(part / SUMS, "".join(f"{digest}  {name}\n" for name, digest in _digests(part)))
    part.replace(folder)


def _copy_transcripts(evidence: Evidence, part: Path) -> None:
    """What the model heard offline, so that served transcripts can be held against it."""
    if evidence.sources.offline is not None and evidence.sources.offline.is_file():
        shutil.copyfile(evidence.sources.offline, part / "offline_hyps.jsonl")


def _digests(folder: Path) -> list[tuple[str, str]]:
    """(name, sha256) of every file but the list itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return [(path.relative_to(folder).as_posix(), file_digest(path)) for path in files]
