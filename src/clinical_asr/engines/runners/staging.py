"""One folder that holds all a fine-tuning needs, to be mounted into a container or copied to another machine.

    base.nemo  base.nemo.sha256  train.jsonl  validation.jsonl  audio/<row id>.<suffix>

The manifests name the audio where the script will see it; base and recordings are compared with their originals before
anything starts: a path that leads nowhere is a row that silently vanishes, another base a story that is not true.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clinical_asr.bases import base_digest, content_digest, sidecar_of
from clinical_asr.containment import refused_fields
from clinical_asr.cycle import file_digest
from clinical_asr.errors import AudioError
from clinical_asr.jsonl import atomic_path, from_dict, iter_objects, write_rows, write_text
from clinical_asr.records import Utterance
from clinical_asr.training import Example

_NAME = re.compile(r"[\w+-][\w.+-]{0,127}")
CHECK = "run: clinical-asr manifest check"
OUTPUT = "out"
"""Folder of what this package leaves when it runs over a staged folder, within it."""


@dataclass(frozen=True)
class Stage:
    """A staged folder: where it lies here, and where whoever trains will see it."""

    here: Path
    there: PurePosixPath


def staged_beside(output: Path) -> Path:
    """The folder that is staged for a model; gone once the model stands."""
    return output.with_name(f"{output.name}.stage.part")


def log_of(output: Path) -> Path:
    """What the run said; it stays beside the model."""
    return output.with_name(f"{output.name}.log")


def stage(base: Path, manifests: Mapping[str, Sequence[Example]], here: Path, there: PurePosixPath) -> Stage:
    """Lay the folder out, or complete one that was begun; ``manifests`` by name, without the suffix.

    Nothing of the originals is touched. Raises AudioError for a recording that is missing or whose copy differs,
    ModelError for a base that is missing or whose ``.sha256`` says otherwise.
    """
    for examples in manifests.values():
        _refuse_foreign(examples)
    (here / "audio").mkdir(parents=True, exist_ok=True)
    place_base(base, here)
    staged = Stage(here, there)
    for name, examples in manifests.items():
        for example in examples:
            place(example.audio, here / "audio" / _name(example))
        write_rows(here / f"{name}.jsonl", [_row(example, staged) for example in examples])
        check(staged, name, examples)
    return staged


def _refuse_foreign(examples: Sequence[Example]) -> None:
    """The staged manifest is read by NeMo itself, and ids become file names: nothing may lead out of the folder."""
    for example in examples:
        if not _NAME.fullmatch(example.id):
            raise AudioError(f"the row's id {example.id[:60]!r} is no file name", str(example.audio), CHECK)
        for field, why, _ in refused_fields(example.row):
            raise AudioError(f"the row's field {field} {why}", str(example.audio), CHECK)


def _name(example: Example) -> str:
    return f"{example.id}{example.audio.suffix.lower()}"


def _row(example: Example, staged: Stage) -> Utterance:
    seen = str(staged.there / "audio" / _name(example))
    own = {"id": example.id, "audio_filepath": seen, "text": example.text, "duration": example.duration}
    return from_dict(Utterance, {**example.row, **own})


def place_base(base: Path, here: Path) -> None:
    """The base and its digest. If another one was staged, what was trained from it goes first: none may continue it."""
    target, digest = here / "base.nemo", base_digest(base)
    if target.exists() and not _is_staged(base, target, digest):
        if (here / OUTPUT).exists():
            shutil.rmtree(here / OUTPUT)
        target.unlink()
    place(base, target)
    write_text(sidecar_of(target), f"{digest}  {target.name}\n")


def _is_staged(base: Path, target: Path, digest: str) -> bool:
    """True for a link to the base and for a true copy. A base rewritten in place is still linked: its digest tells."""
    told = sidecar_of(target)
    if told.exists() and told.read_text(encoding="utf-8", errors="replace").split()[:1] != [digest]:
        return False
    return target.samefile(base) or content_digest(target) == digest


def place(source: Path, target: Path) -> None:
    """A hard link where the disk allows it, else a copy: a container follows no symbolic link out of its mount."""
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        with atomic_path(target) as part:
            shutil.copyfile(source, part)


def check(staged: Stage, manifest: str, examples: Sequence[Example]) -> None:
    """Prove that each row of a rewritten manifest leads to the recording it came from."""
    originals = {_name(example): example.audio for example in examples}
    for _, fields in iter_objects(staged.here / f"{manifest}.jsonl"):
        seen = PurePosixPath(str(fields["audio_filepath"]))
        copy = staged.here / seen.relative_to(staged.there)
        if not copy.is_file() or file_digest(copy) != file_digest(originals[seen.name]):
            what = f"differs from its original {originals[seen.name]}"
            raise AudioError(what, str(copy), f"delete {staged.here} and run the command again")
