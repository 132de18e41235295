"""One turn of the wheel: the stages in the order of the flow, each leaving a file that the next one reads.

Read :func:`turn` first. A file that is present is complete, so the same call again, after a crash or a kill at any
point, goes on where the last one stopped. No engine is known here by name: all three are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clinical_asr import comparison, finetune, gate, hypotheses, leaderboard, manifest, report, scores, split
from clinical_asr.benchmark import build_benchmark, build_general
from clinical_asr.cycle import Cycle
from clinical_asr.hypotheses import Transcriber
from clinical_asr.jsonl import read_json, read_rows, write_json, write_rows, write_text
from clinical_asr.records import ClinicalUtterance, Decision, Hypothesis, Stratum, Utterance
from clinical_asr.request import Engines, Request, remember
from clinical_asr.tally import Leaderboard, Score, Signature


@dataclass(frozen=True)
class Evaluation:
    """What one model was found to be worth on the benchmark and on general speech."""

    rows: list[Score]
    guard: list[Score]
    board: Leaderboard
    signature: Signature


def turn(cycle: Cycle, request: Request, engines: Engines) -> Decision:
    """Turn the wheel once; the decision is also in ``decision.json``.

    Raises FlywheelError for anything a person can mend: bad rows, a refused base, a request that differs from the one
    this cycle was started with.
    """
    remember(cycle, request)
    benchmark = manifest_stage(cycle, request, engines)
    guard = general_stage(cycle, request, engines, "guard", request.guard_rows)
    before = evaluate(cycle, engines, "before", request.base, benchmark, guard)
    passed = gate_stage(cycle, request, before)
    if passed.exit_code:
        return conclude(cycle, passed)
    strata = split_stage(cycle, request, engines, benchmark)
    finetune_stage(cycle, request, engines)
    after = evaluate(cycle, engines, "after", cycle.adapted_model, benchmark, guard)
    return conclude(cycle, comparison_stage(cycle, request, engines, before, after, strata))
