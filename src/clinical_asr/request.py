"""What a turn of the wheel is asked to do, what it is given to do it with, and the journal it keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr.bases import base_digest
from clinical_asr.boosting import Boosting
from clinical_asr.clips import Markup, Synthesise
from clinical_asr.config import ComparisonConfig, GateConfig, SplitConfig, SynthesisConfig, TrainingConfig
from clinical_asr.cycle import Cycle, file_digest
from clinical_asr.errors import ConfigError
from clinical_asr.finetune import Listen
from clinical_asr.hypotheses import Transcriber
from clinical_asr.jsonl import append_row, read_json, write_json
from clinical_asr.records import Row, Seconds
from clinical_asr.text import DEFAULT_NORMALISER
from clinical_asr.training import Margins, OnStep, TrainModel

Progress = Callable[[Sequence[Any], str], Iterable[Any]]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One cycle's order. Either ``terms`` (build a benchmark from them) or ``manifest`` is given."""

    base: Path
    """The ``.nemo`` to start from."""
    base_name: str
    """What the user called it; stands in signatures."""
    recipe: TrainingConfig
    terms: Path | None = None
    manifest: Path | None = None
    guard: Path | None = None
    """General-speech manifest; synthesised from the package's guard sentences if not given."""
    replay: Path | None = None
    """General-speech manifest to replay; synthesised from the package's replay sentences if not given."""
    selection: Path | None = None
    """General-speech manifest that helps to choose a candidate; spoken by ``selection_voices`` if not given."""
    data_root: Path | None = None
    """Folder that all audio of ``manifest`` must lie in; by default the manifest's own."""
    overrides: Path | None = None
    """``pronunciation_overrides.csv``."""
    auditions: Path | None = None
    """``auditions.jsonl``: a person's verdict per term."""
    waiver: str = ""
    """Typed sentence that stands in for a person's listening; it goes to ``cycle_notes.md``."""
    contexts_per_term: int = 4
    guard_rows: int = 480
    selection_rows: int = 472
    synthesis: SynthesisConfig
    guard_voices: tuple[str, ...]
    replay_voices: tuple[str, ...]
    selection_voices: tuple[str, ...] = ()
    gate: GateConfig = GateConfig()
    split: SplitConfig = SplitConfig()
    comparison: ComparisonConfig = ComparisonConfig()
    normaliser: str = DEFAULT_NORMALISER
    seed: int = 42
    ladder: bool = False
    """Lay boosting and fine-tuning side by side at the end."""

    @property
    def general_rows_that_choose(self) -> int:
        """Rows of general speech that help to choose a candidate; 0 where there is neither a manifest nor a voice."""
        return _rows(self.selection, self.selection_rows if self.selection_voices else 0)

    @property
    def general_rows_that_decide(self) -> int:
        """Rows of the guard set; 0 where none is given and none is to be spoken."""
        return _rows(self.guard, self.guard_rows)

    @property
    def splitting(self) -> SplitConfig:
        """What is too long for the recipe is held out."""
        return msgspec.structs.replace(self.split, max_duration=self.recipe.max_duration)

    def margins(self, guard_wer: float | None) -> Margins:
        """What general speech may cost, meant for a guard set on which the base has this WER."""
        return Margins(self.comparison.guard_margin, self.comparison.guard_upper, guard_wer)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that changes a result, files by their digest and not by their place."""
        fields: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        fields.pop("data_root")
        if not self.ladder:
            fields.pop("ladder")
        fields["base"] = base_digest(self.base)
        for name in ("terms", "manifest", "guard", "replay", "selection", "overrides", "auditions"):
            path = getattr(self, name)
            fields[name] = file_digest(path) if path else None
        return fields


def _rows(given: Path | None, spoken: int) -> int:
    """Rows to speak; at least one where a manifest is given, for that is taken whole whatever was to be spoken."""
    return max(spoken, 1) if given else spoken


@dataclass(frozen=True)
class Engines:
    """Everything that does the work, handed in: fakes in tests, espeak-ng and NeMo in life."""

    synthesise: Synthesise
    """(text, voice id) -> float32 mono samples at 16 kHz."""
    transcriber: Callable[[Path, str], Transcriber]
    """(``.nemo``, name) -> a loaded recogniser."""
    train: TrainModel
    listen: Listen
    """(model in memory, recordings) -> transcripts: what judges each epoch."""
    journal: Journal
    progress: Progress
    markup: Markup | None = None
    """(text, {term: IPA}) -> what ``synthesise`` reads; without it no pronunciation can be imposed."""
    workers: int = 1
    """Processes that speak; more than one needs picklable ``synthesise`` and ``markup``."""
    on_step: Callable[[], OnStep] | None = None
    """Makes the callback that shows how far training is."""
    boost: Callable[[Transcriber, Boosting], Transcriber] | None = None
    """(a loaded recogniser, terms and strength) -> the same, leaning; ModelError for one that cannot be boosted."""


class Entry(Row, frozen=True, kw_only=True):
    """One finished step: what it did and how long it took."""

    stage: str
    line: str
    seconds: Seconds


@dataclass
class Journal:
    """Tells each finished step in a line and keeps its time in ``timings.jsonl``."""

    path: Path
    tell: Callable[[str], None]

    @contextmanager
    def step(self, stage: str) -> Iterator[Callable[[str], None]]:
        """``with journal.step("gate") as did: ...; did("pass")``: the line is told when the block ends well."""
        lines: list[str] = []
        start = time.perf_counter()
        yield lines.append
        seconds = round(time.perf_counter() - start, 2)
        append_row(self.path, Entry(stage=stage, line=lines[-1], seconds=seconds))
        self.tell(f"{stage:<12} {lines[-1]} ({seconds:.1f} s)")

    def skip(self, stage: str, path: Path) -> None:
        """Say that a step's result is already here."""
        self.tell(f"{stage:<12} already done: {path.name}")


ADDS = {"ladder"}
"""Fields of a request that ask for more of the same cycle and change nothing that is there."""


def remember(cycle: Cycle, request: Request) -> None:
    """Keep the request beside its results; refuse to finish a cycle with another request than it was started with.

    It binds once the manifest is there: until then a wrong flag is simply given again, rightly. What only adds to a
    cycle (``ADDS``) may be asked for at any time. Raises ConfigError naming each difference.
    """
    asked = msgspec.json.decode(msgspec.json.encode(request.fingerprint()))  # as it will be read back
    if not (cycle.request.exists() and cycle.manifest.exists()):
        write_json(cycle.request, asked)
        return
    started = read_json(cycle.request)
    changed = [found for found in _differences(started, asked) if found[0] not in ADDS]
    differences = [f"{key}: {old!r} then, {new!r} now" for key, old, new in changed]
    if differences:
        raise ConfigError(
            f"was started with another request ({'; '.join(differences[:4])})",
            where=str(cycle.folder),
            mend="repeat the first command, or start afresh with --cycle or --out",
        )
    if added := {key: asked[key] for key in ADDS & asked.keys() - started.keys()}:
        write_json(cycle.request, started | added)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}", before, after
