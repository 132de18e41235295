"""One turn of the wheel: the stages in the order of the flow, each leaving a file that the next one reads.

Read :func:`turn` first. A file that is present is complete, so the same call again, after a crash or a kill at any
point, goes on where the last one stopped. No engine is known here by name: all of them are handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clinical_asr import (
    comparison,
    finetune,
    gate,
    html_report,
    hypotheses,
    leaderboard,
    report,
    scores,
    split,
    triage,
    verdict,
)
from clinical_asr.bases import base_digest
from clinical_asr.benchmark import benchmark_stage, general_stage, require_general_apart
from clinical_asr.climb import climb
from clinical_asr.config import TrainingConfig
from clinical_asr.cycle import Cycle
from clinical_asr.finetune import Recordings, read_selection
from clinical_asr.jsonl import read_json, read_rows, write_json, write_rows, write_text
from clinical_asr.lock import locked
from clinical_asr.records import ClinicalUtterance, Decision, Hypothesis, LedgerEntry, Outcome, Stratum, Utterance
from clinical_asr.request import Engines, Request, remember
from clinical_asr.round_trip import without_suspects
from clinical_asr.sides import read_strata
from clinical_asr.tally import Leaderboard, Score, Signature, pooled


@dataclass(frozen=True)
class Evaluation:
    """What one model was found to be worth, on the benchmark and on general speech."""

    rows: list[Score]
    guard: list[Score]
    board: Leaderboard
    signature: Signature

    @property
    def guard_wer(self) -> float | None:
        """Pooled over the guard set; None without one."""
        return pooled(self.guard).wer


def turn(cycle: Cycle, request: Request, engines: Engines) -> Decision:
    """Turn the wheel once; the decision is also in ``decision.json``.

    Raises FlywheelError for anything a person can mend: bad rows, a refused base, a request that differs from the one
    this cycle was started with, another process at work in the same folder.
    """
    with locked(cycle.folder):
        remember(cycle, request)
        if not cycle.manifest.exists():  # before the request binds: a wrong file can simply be given again, rightly
            require_general_apart(cycle, request)
        benchmark = benchmark_stage(cycle, request, engines)
        guard = general_stage(cycle, request, engines, "guard", request.general_rows_that_decide)
        before = evaluate(cycle, request, engines, "before", benchmark, guard)
        passed = gate_stage(cycle, request, engines, before)
        decision = passed if passed.exit_code else learn(cycle, request, engines, before, benchmark, guard)
        conclude(cycle, decision)
        untuned = "" if cycle.training_run_info.exists() else f"nothing was trained ({decision.reason})"
        climb(cycle, request, engines, benchmark, guard, untuned)
        return decision


def learn(
    cycle: Cycle, request: Request, engines: Engines, before: Evaluation,
    benchmark: Sequence[ClinicalUtterance], guard: Sequence[Utterance],
) -> Decision:  # fmt: skip
    """What the gate lets pass: split, fine-tuning, evaluation of the tuned model, comparison."""
    try:
        strata = split_stage(cycle, request, engines, without_suspects(cycle, benchmark, request.normaliser))
    except split.TooFewRowsError as too_few:
        return too_few.decision
    finetune_stage(cycle, request, engines, before)
    after = evaluate(cycle, request, engines, "after", benchmark, guard, strata)
    return comparison_stage(cycle, request, engines, before, after, strata)


def evaluate(
    cycle: Cycle, request: Request, engines: Engines, when: str,
    benchmark: Sequence[Utterance], guard: Sequence[Utterance], strata: dict[str, Stratum] | None = None,
) -> Evaluation:  # fmt: skip
    """Hypotheses, scores and leaderboard of the base (``before``) or of the fine-tuned model (``after``).

    After training the board says per row what training has seen of it (``strata``).
    """
    transcribe(cycle, request, engines, when, benchmark, guard)
    heard = without_suspects(cycle, read_rows(cycle.hypotheses(when), Hypothesis), request.normaliser)
    heard_guard = read_rows(cycle.guard_hypotheses(when), Hypothesis) if guard else []
    signature = scores.signature(heard, request.normaliser)
    rows, guard_rows = scores.score(heard, request.normaliser), scores.score(heard_guard, request.normaliser)
    found = Evaluation(rows, guard_rows, leaderboard.leaderboard(rows, signature, strata), signature)
    if not cycle.leaderboard(when, "json").exists():
        with engines.journal.step("leaderboard") as did:
            publish_leaderboard(cycle, request, when, found.board, rows, strata)
            headline, general = found.board.headline, found.guard_wer
            cost = "no guard set" if general is None else f"guard WER {general:.3f}"
            did(f"KER {headline.ker:.3f}, WER {headline.wer:.3f}, {cost}")
    return found


def transcribe(
    cycle: Cycle, request: Request, engines: Engines, when: str,
    benchmark: Sequence[Utterance], guard: Sequence[Utterance],
) -> None:  # fmt: skip
    """Both manifests with one load of the model; what is there already is not heard again.

    Raises FlywheelError if no row of a manifest can be heard, or if a recording is another one than before; the same
    call tries them again.
    """
    todo = [
        (benchmark, cycle.folder, cycle.hypotheses(when), cycle.ledger(f"hypotheses_{when}")),
        (guard, cycle.general, cycle.guard_hypotheses(when), cycle.ledger(f"guard_{when}")),
    ]
    again = when == "after" and asks_to_hear_again(cycle)
    todo = [job for job in todo if job[0] and not hypotheses.is_heard(job[2], job[3] if again else None)]
    if not todo:
        return
    cycle.leaderboard(when, "json").unlink(missing_ok=True)  # it is of fewer rows
    for rows, folder, _, _ in todo:
        Recordings(rows, folder).require_unchanged()
    model = request.base if when == "before" else cycle.adapted_model
    name = request.base_name if when == "before" else f"{request.base_name}+{request.recipe.name}"
    with engines.journal.step("hypotheses") as did:
        transcriber = engines.transcriber(model, name)
        ledger: list[LedgerEntry] = []
        for rows, folder, output, entries in todo:
            if hypotheses.is_heard(output):
                hypotheses.reopen(output)
            ledger += hypotheses.hear(rows, folder, transcriber, output, entries, progress=engines.progress)
        failed = sum(entry.outcome is Outcome.FAILED for entry in ledger)
        did(f"{len(ledger) - failed} rows heard by {name}, {failed} failed")


def asks_to_hear_again(cycle: Cycle) -> bool:
    """Whether the decision waits for rows that could not be heard."""
    return cycle.decision.exists() and read_json(cycle.decision, Decision).next_stage == "hypotheses"


def publish_leaderboard(
    cycle: Cycle, request: Request, when: str, board: Leaderboard, rows: list[Score],
    strata: dict[str, Stratum] | None,
) -> None:  # fmt: skip
    """Scores, Markdown and HTML first, JSON last: its presence means that all are there."""
    number = cycle.number + (when == "after")
    led = triage.triage(board, number, request.gate)
    write_rows(cycle.scores(when), rows)
    write_text(cycle.leaderboard(when, "md"), report.leaderboard_markdown(board, led))
    html_report.write_leaderboard_html(cycle.leaderboard(when, "html"), board, rows, led, strata=strata)
    write_json(cycle.leaderboard(when, "json"), board)


def gate_stage(cycle: Cycle, request: Request, engines: Engines, before: Evaluation) -> Decision:
    """Is fine-tuning worth it? The same board always gives the same answer, so it is asked again on resuming."""
    decision = gate.gate(before.board, request.gate)
    if not cycle.gate.exists():
        with engines.journal.step("gate") as did:
            write_json(cycle.gate, decision)
            did(f"{decision.verdict}: {decision.reason}")
    return decision


def split_stage(
    cycle: Cycle, request: Request, engines: Engines, benchmark: Sequence[ClinicalUtterance]
) -> dict[str, Stratum]:
    """Rows to learn from and rows to be judged on; returns what training has seen of each."""
    if not (cycle.train.exists() and cycle.validation.exists()):
        parts = split.split(benchmark, request.splitting)
        with engines.journal.step("split") as did:
            write_rows(cycle.train, parts.train)
            write_rows(cycle.validation, parts.validation)
            held = [parts.strata[row.id].value for row in parts.validation]
            shares = ", ".join(f"{held.count(name)} {name}" for name in Stratum if name.held_out)
            warned = "".join(f"; warning: {warning}" for warning in parts.warnings)
            did(f"{len(parts.train)} to train on, {len(held)} held out ({shares}){warned}")
    return read_strata(cycle.train, cycle.validation)


def finetune_stage(cycle: Cycle, request: Request, engines: Engines, before: Evaluation) -> None:
    """Full-model SFT with replay; the training info, written last, says that it is complete."""
    if cycle.training_run_info.exists():
        return
    train, validation = read_rows(cycle.train, ClinicalUtterance), read_rows(cycle.validation, ClinicalUtterance)
    replay = general_stage(cycle, request, engines, "replay", replay_rows(request.recipe, len(train)))
    chooses = request.recipe.selection_fraction > 0 or len(request.recipe.factors) > 1
    rows = request.general_rows_that_choose if chooses else 0
    selection = general_stage(cycle, request, engines, "selection", rows)
    outputs = finetune.Outputs(cycle.adapted_model, cycle.training_run_info, cycle.ledger("finetune"))
    base = finetune.Base(request.base_name, request.base, base_digest(request.base))
    margins = request.margins(before.guard_wer)
    with engines.journal.step("finetune") as did:
        done = finetune.finetune(
            base, request.recipe,
            Recordings(train, cycle.folder), Recordings(validation, cycle.folder), Recordings(replay, cycle.general),
            outputs, engines.train, engines.listen, selection_guard=Recordings(selection, cycle.general),
            margins=margins, on_step=engines.on_step() if engines.on_step else None,
        )  # fmt: skip
        kept = f"best epoch {done.best_epoch}" + (f", factor {done.chosen.factor:g}" if done.chosen else "")
        did(f"{len(train)} clinical rows, replay from {len(replay)} general ones, {done.steps} steps, {kept}")


MOST_REPLAY = 4000
"""Rows of general speech that are spoken for replay at most; epochs then take them a second time."""


def replay_rows(recipe: TrainingConfig, clinical: int) -> int:
    """Rows of general speech to speak: for every epoch others, as long as they are not too many."""
    each = round(recipe.replay_ratio * clinical)
    return max(each, min(each * recipe.epochs, MOST_REPLAY))


def comparison_stage(
    cycle: Cycle, request: Request, engines: Engines, before: Evaluation, after: Evaluation, strata: dict[str, Stratum]
) -> Decision:
    """Cycle against cycle, on held-out rows, with general speech beside it."""
    previous, selected = earlier_decisions(cycle), read_selection(cycle.training_run_info)
    finetune.require_trained_on(cycle.training_run_info, strata)
    with engines.journal.step("comparison") as did:
        found = comparison.compare(
            before.rows, after.rows, strata, before.guard, after.guard,
            (before.signature, after.signature), request.comparison, previous, selected,
            known=known_to_base(cycle, request),
        )  # fmt: skip
        decision = verdict.decide(found, previous)
        write_text(cycle.comparison("md"), report.comparison_markdown(found, decision))
        html_report.write_comparison_html(
            cycle.comparison("html"), found, decision, before.rows, after.rows, strata=strata
        )
        write_json(cycle.comparison("json"), found)
        known = f", without {found.known_to_base} rows that the base was trained on" if found.known_to_base else ""
        did(f"{decision.verdict}{known}")
    return decision


def known_to_base(cycle: Cycle, request: Request) -> set[str]:
    """Rows that the base was trained on, where it is the model of an earlier cycle here, and those of its own base."""
    digest, known = base_digest(request.base), set[str]()
    for number in range(cycle.number - 1, 0, -1):
        earlier = Cycle(cycle.root, number)
        if earlier.training_run_info.exists() and finetune.model_of(earlier.training_run_info) == digest:
            known |= {row.id for row in read_rows(earlier.train, ClinicalUtterance)}
            digest = str(read_json(earlier.training_run_info)["base"]["sha256"])
    return known


def earlier_decisions(cycle: Cycle) -> list[Decision]:
    """Decisions of the cycles before this one, oldest first: feedback is data."""
    paths = [Cycle(cycle.root, number).decision for number in range(1, cycle.number)]
    return [read_json(path, Decision) for path in paths if path.exists()]


def conclude(cycle: Cycle, decision: Decision) -> None:
    """Every turn decides in one file."""
    write_json(cycle.decision, decision)


def pages(cycle: Cycle) -> list[Path]:
    """What a person would want to open first."""
    boards = [cycle.leaderboard(when, "html") for when in ("after", "before")]
    wanted = [cycle.comparison("html"), cycle.ladder("html"), *boards]
    return [path for path in wanted if path.exists()]
