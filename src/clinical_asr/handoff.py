"""What a deployment rests on: a model, how it was made, what it was found to be worth; and proof that all three belong
together.

Files are the only link to the stages that wrote them; every digest in them is held against the model itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from clinical_asr.architecture import Architecture
from clinical_asr.bases import base_digest
from clinical_asr.cycle import Cycle
from clinical_asr.errors import ConfigError, FlywheelError, ModelError, printable
from clinical_asr.findings import Board, Judgement, Named, Story
from clinical_asr.jsonl import read_json
from clinical_asr.nemo_file import check_archive, read_architecture
from clinical_asr.records import Decision

PROMOTED = "promote"


@dataclass(frozen=True)
class Sources:
    """Where the files of a hand-off lie."""

    model: Path
    info: Path
    comparison: Path
    decision: Path | None = None
    board: Path | None = None
    """Leaderboard of the tuned model."""
    offline: Path | None = None
    """What the tuned model heard offline: what served transcripts are held against."""
    earlier: tuple[Cycle, ...] = ()
    """Cycles before this one, the last first."""

    def evidence(self) -> dict[str, Path]:
        """Small files that go along, by the name they get."""
        known = {"training_run_info.json": self.info, "comparison.json": self.comparison,
                 "decision.json": self.decision, "leaderboard.json": self.board}  # fmt: skip
        return {name: path for name, path in known.items() if path is not None}


@dataclass(frozen=True)
class Evidence:
    """Everything that was read, proved to belong together."""

    sources: Sources
    digest: str
    architecture: Architecture
    story: Story
    judgement: Judgement
    board: Board | None
    previous: Named | None = None
    """The last model that an earlier cycle promoted; ``None`` if there is none: then the base is the way back."""
    problems: tuple[str, ...] = field(default=())
    """Why it was not promoted; empty if it was."""


def cycle_at(folder: Path) -> Cycle:
    """The cycle that lies in ``.../cycle<N>``. Raises ConfigError if none does.

    >>> cycle_at(Path("no/cycle7"))
    Traceback (most recent call last):
    clinical_asr.errors.ConfigError: --cycle: there is no cycle in no/cycle7; give the folder of one, such as ...
    """
    named = re.fullmatch(r"cycle([1-9]\d*)", folder.resolve().name)
    if named is None or not folder.is_dir():
        raise ConfigError(f"there is no cycle in {folder}", "--cycle", "give the folder of one, such as cycles/cycle1")
    return Cycle(folder.resolve().parent, int(named[1]))


def sources_of(cycle: Cycle) -> Sources:
    """The files of a finished cycle. Raises FlywheelError saying how far the cycle came if one is missing."""
    needed = (cycle.decision, cycle.training_run_info, cycle.adapted_model, cycle.comparison("json"))
    missing = [path.name for path in needed if not path.is_file()]
    if missing:
        verdict = read_json(cycle.decision, Decision) if cycle.decision.is_file() else None
        how = f"it ended with {verdict.verdict!r}" if verdict else "it is not finished"
        mend = f"next stage: {verdict.next_stage}" if verdict else "run the cycle's own command again"
        raise FlywheelError(f"holds no {', '.join(missing)}: {how}", str(cycle.folder), mend)
    board = cycle.leaderboard("after", "json")
    return Sources(
        model=cycle.adapted_model, info=cycle.training_run_info, comparison=cycle.comparison("json"),
        decision=cycle.decision, board=board if board.is_file() else None, offline=cycle.hypotheses("after"),
        earlier=tuple(Cycle(cycle.root, number) for number in range(cycle.number - 1, 0, -1)),
    )  # fmt: skip


def gather(sources: Sources) -> Evidence:
    """Read all of it and prove that it belongs together. Raises ModelError or ManifestError naming what does not."""
    if not sources.info.is_file():
        mend = "give the training_run_info.json that was written beside it: --info"
        raise ModelError("nobody knows what it was tuned from", str(sources.model), mend)
    check_archive(sources.model)
    digest = base_digest(sources.model)
    story, judgement = read_json(sources.info, Story), read_json(sources.comparison, Judgement)
    board = read_json(sources.board, Board) if sources.board else None
    _refuse_strangers(sources, digest, story, judgement, board)
    return Evidence(
        sources, digest, read_architecture(sources.model), story, judgement, board,
        previous=_previous(sources.earlier), problems=_problems(sources, judgement),
    )  # fmt: skip


def _refuse_strangers(sources: Sources, digest: str, story: Story, judgement: Judgement, board: Board | None) -> None:
    judged = [signature.model_digest for signature in judgement.signatures]
    claims = [
        (sources.info, story.model.sha256, digest),
        (sources.comparison, judged[1] if len(judged) == 2 else "", digest[:16]),
        (sources.comparison, judged[0] if judged else "", story.base.sha256[:16]),
    ]
    if board is not None and sources.board is not None:
        claims.append((sources.board, board.signature.model_digest, digest[:16]))
    for path, said, found in claims:
        if said != found:
            what = f"is about another model: {path.name} says {said or 'nothing'}, the digest here is {found}"
            raise ModelError(what, str(path), "a hand-off needs the files of one and the same run")


def _problems(sources: Sources, judgement: Judgement) -> tuple[str, ...]:
    """Why this model was not promoted: both files must say that it was."""
    said = [(judgement.verdict, judgement.exit_code, judgement.reason)]
    if sources.decision is not None:
        decision = read_json(sources.decision, Decision)
        said.append((decision.verdict, decision.exit_code, decision.reason))
    if len({(verdict, code) for verdict, code, _ in said}) > 1:
        names = " and ".join(f"{verdict!r}" for verdict, _, _ in said)
        what = f"comparison and decision differ: {names}"
        raise FlywheelError(what, str(sources.decision), "run the cycle's own command again")
    return tuple(f"{verdict}: {reason}" for verdict, code, reason in said[:1] if verdict != PROMOTED or code)


def _previous(earlier: tuple[Cycle, ...]) -> Named | None:
    for cycle in earlier:
        files = (cycle.decision, cycle.training_run_info, cycle.adapted_model)
        if all(path.is_file() for path in files) and read_json(cycle.decision, Decision).verdict == PROMOTED:
            name = printable(cycle.adapted_model.as_posix())
            return Named(read_json(cycle.training_run_info, Story).model.sha256, name)
    return None
