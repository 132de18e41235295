"""Where everything of one cycle lies, what a file's digest is, and the ledger that accounts for every row."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clinical_asr.errors import FlywheelError
from clinical_asr.records import LedgerEntry, Outcome


@dataclass(frozen=True)
class Cycle:
    """The layout of ``<root>/cycle<number>/``. A file that is present is complete.

    >>> Cycle(Path("cycles"), 1).adapted_model.as_posix()
    'cycles/cycle1/adapted_model.nemo'
    >>> Cycle(Path("cycles"), 1).leaderboard("after", "md").as_posix()
    'cycles/cycle1/leaderboard_cycle2.md'
    """

    root: Path
    number: int = 1

    @property
    def folder(self) -> Path:
        """The cycle's own folder."""
        return self.root / f"cycle{self.number}"

    def _file(self, name: str) -> Path:
        return self.folder / name

    @property
    def request(self) -> Path:
        """What this cycle was asked to do; the same command again must ask the same."""
        return self._file("request.json")

    @property
    def notes(self) -> Path:
        """What a person decided by hand (waivers) and what the driver wants read."""
        return self._file("cycle_notes.md")

    @property
    def timings(self) -> Path:
        """Seconds of each finished step, one line a step."""
        return self._file("timings.jsonl")

    @property
    def terms(self) -> Path:
        """Curated terms, ``term,entity_category``."""
        return self._file("terms.csv")

    @property
    def sentences(self) -> Path:
        """One sentence a line, tagged with term, context and source."""
        return self._file("sentences.jsonl")

    @property
    def pronunciations(self) -> Path:
        """One term a line: how the engine is told to say it and who said so."""
        return self._file("pronunciations.jsonl")

    @property
    def auditions(self) -> Path:
        """A person's verdict per term."""
        return self._file("auditions.jsonl")

    @property
    def overrides(self) -> Path:
        """Pronunciations that a person gave in the audition; used where the request names no other file."""
        return self._file("pronunciation_overrides.csv")

    @property
    def audio(self) -> Path:
        """Clips of the benchmark."""
        return self._file("audio")

    @property
    def built_manifest(self) -> Path:
        """What the build stage wrote, before the check."""
        return self._file("built_manifest.jsonl")

    @property
    def manifest(self) -> Path:
        """The checked manifest: every row with its id."""
        return self._file("manifest.jsonl")

    @property
    def gate(self) -> Path:
        """The gate's decision with its evidence."""
        return self._file("gate.json")

    @property
    def train(self) -> Path:
        """Rows the model learns from."""
        return self._file("train.jsonl")

    @property
    def validation(self) -> Path:
        """Held-out rows, each labelled with its stratum."""
        return self._file("validation.jsonl")

    @property
    def adapted_model(self) -> Path:
        """The fine-tuned model; its digest lies beside it as ``.sha256``."""
        return self._file("adapted_model.nemo")

    @property
    def training_run_info(self) -> Path:
        """Hyper-parameters, data counts and digests, versions, hardware, metrics per epoch."""
        return self._file("training_run_info.json")

    @property
    def decision(self) -> Path:
        """The cycle's verdict: ``verdict``, ``reason``, ``next_stage``, ``evidence``."""
        return self._file("decision.json")

    @property
    def general(self) -> Path:
        """Folder of general speech: guard set and replay."""
        return self._file("general")

    def general_manifest(self, kind: str) -> Path:
        """``kind`` is ``guard`` or ``replay``."""
        return self.general / f"{kind}_manifest.jsonl"

    def hypotheses(self, when: str) -> Path:
        """``when`` is ``before`` or ``after`` fine-tuning."""
        return self._file({"before": "baseline_hyps.jsonl", "after": "offline_hyps.jsonl"}[when])

    def guard_hypotheses(self, when: str) -> Path:
        """The guard set's transcripts ``before`` or ``after`` fine-tuning."""
        return self.general / f"guard_{self.hypotheses(when).name}"

    def scores(self, when: str) -> Path:
        """Counts per row."""
        return self._file({"before": "baseline_scores.jsonl", "after": "offline_scores.jsonl"}[when])

    def leaderboard(self, when: str, suffix: str) -> Path:
        """The base is cycle N, the fine-tuned model is cycle N+1."""
        number = self.number + (when == "after")
        return self._file(f"leaderboard_cycle{number}.{suffix}")

    def comparison(self, suffix: str) -> Path:
        """Cycle against cycle."""
        return self._file(f"comparison.{suffix}")

    def ladder(self, suffix: str) -> Path:
        """Boosting and fine-tuning on one board."""
        return self._file(f"ladder.{suffix}")

    def rung(self, model: str, strength: float, part: str) -> Path:
        """What ``model`` (``base`` or ``tuned``) heard of a ``part`` of the rows, boosted with ``strength``."""
        return self.folder / "ladder" / f"{model}_boost{strength:g}_{part}.jsonl"

    @property
    def rung_speeds(self) -> Path:
        """Seconds of work and of audio of each batch that a rung heard."""
        return self.folder / "ladder" / "speeds.jsonl"

    def ledger(self, stage: str) -> Path:
        """Every row's fate in ``stage``."""
        return self._file(f"ledger_{stage}.jsonl")


_OWN = re.compile(
    r"(request|gate|decision|training_run_info)\.json|cycle_notes\.md|(terms|pronunciation_overrides)\.csv"
    r"|(timings|sentences|pronunciations|auditions|suspects|manifest|built_manifest|train|validation)\.jsonl"
    r"|(baseline|offline)_(hyps|scores)\.jsonl|ledger_\w+\.jsonl|adapted_model\.nemo(\.sha256)?"
    r"|(leaderboard_cycle\d+|comparison|ladder)\.(md|json|html)"
)
_OWN_FOLDERS = ("audio", "general", "ladder")


def is_a_cycles_own(path: Path) -> bool:
    """True for a file that a cycle which was started writes itself; a folder is one's if a request lies in it."""
    place = path.resolve()
    if (place.parent / "request.json").is_file():
        return _OWN.fullmatch(place.name) is not None
    return place.parent.name in _OWN_FOLDERS and (place.parent.parent / "request.json").is_file()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


FileState = tuple[str, int, int, int]


def file_state(path: Path) -> FileState:
    """What changes when a file does: a name for what was once read of it, as long as this process lives."""
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino


def manifest_digest(ids: Iterable[str]) -> str:
    """Identity of a set of rows, whatever their order: 16 hex digits.

    >>> manifest_digest(["b", "a"]) == manifest_digest(["a", "b"])
    True
    """
    return sorted_digest(sorted(ids))


def sorted_digest(ids: Iterable[str]) -> str:
    """The same for ids that come sorted, one by one."""
    digest = hashlib.sha256()
    for place, row_id in enumerate(ids):
        digest.update(f"\n{row_id}".encode() if place else row_id.encode())
    return digest.hexdigest()[:16]


def account(stage: str, declared: Sequence[str], entries: Sequence[LedgerEntry]) -> dict[Outcome, int]:
    """Prove that every declared row left ``stage`` exactly once; return the counts.

    >>> entries = [LedgerEntry(id="a", outcome="scored"), LedgerEntry(id="b", outcome="failed", reason="corrupt")]
    >>> {str(k): n for k, n in account("hypotheses", ["a", "b"], entries).items()}
    {'scored': 1, 'failed': 1}

    Raises FlywheelError if a row is lost, counted twice or not declared.
    """
    seen = Counter(entry.id for entry in entries)
    expected = Counter(declared)
    if seen != expected:
        lost, extra = list((expected - seen).elements()), list((seen - expected).elements())
        raise FlywheelError(
            f"the row ledger does not add up: {len(lost)} lost {lost[:3]}, {len(extra)} too many {extra[:3]}",
            where=stage,
            mend="this is a fault of the stage; nothing was promoted",
        )
    return dict(Counter(entry.outcome for entry in entries))
