"""advise: what is known -> what to do, why, the next command, and what must be said before it.

Deterministic; nothing is read but the request and the manifest of a cycle that is asked about. No rule stands here a
second time: numbers are judged by :mod:`gate`, cycles have their own decision, bases and requests are judged by
:mod:`bases`, deployment by :mod:`routes`. What no number decides is data.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import gate
from clinical_asr.again import KEEP, OWN, Asked, asked, options
from clinical_asr.bases import REFUSED_REQUESTS, check_trainable, refuse_name
from clinical_asr.cycle import Cycle
from clinical_asr.errors import ConfigError, ModelError, printable
from clinical_asr.firmness import priority_ker
from clinical_asr.jsonl import iter_glances
from clinical_asr.records import Decision
from clinical_asr.rental import Rental
from clinical_asr.round_trip import cycle_of
from clinical_asr.routes import route_of
from clinical_asr.situation import Situation, board_of
from clinical_asr.triage import triage
from clinical_asr.verdict import INCONCLUSIVE, NOT_PROMOTED

FAILED, REFUSED = gate.GO_BACK, 2
PARITY = "After deployment score the same manifest at the endpoint: a difference lies in the serving, not the model."
NO_PATIENTS = "Use synthetic speech only: no recording of a patient goes into a benchmark."


@dataclass(frozen=True)
class Advice:
    """One answer. ``next_command`` is ready to type; words in capitals are the person's to fill in."""

    verdict: str
    reasons: list[str]
    next_command: str
    say_first: list[str] = field(default_factory=list)
    exit_code: int = 0
    evidence: dict[str, Any] = field(default_factory=dict)


def advise(known: Situation) -> list[Advice]:
    """The gravest first: what is refused, what went wrong, what belongs elsewhere, then what the numbers say.

    Raises ConfigError for a symptom, wish or topic there is no advice for, naming those there are.
    """
    found = [advice for source in SOURCES for advice in source(known)]
    return found or [_beginning(known)]


@cache
def knowledge() -> dict[str, dict[str, Any]]:
    """What is said where no number decides: ``symptoms``, ``wishes``, ``elsewhere``."""
    import yaml

    text = (resources.files("clinical_asr") / "data" / "advice.yaml").read_text(encoding="utf-8")
    told: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return told


def _looked_up(section: str, names: Iterable[str], flag: str) -> Iterator[tuple[str, dict[str, Any]]]:
    known = knowledge()[section]
    for name in names:
        if name not in known:
            raise ConfigError(f"no advice about {name!r}", flag, f"one of {', '.join(known)}")
        yield name, known[name]


# --- refusals ---------------------------------------------------------------------------------------------------------


def _refused_base(known: Situation) -> Iterator[Advice]:
    if not known.base:
        return
    try:
        refuse_name(known.base)
        if known.architecture is not None:
            check_trainable(known.architecture, known.base)
    except ModelError as error:
        instead = "clinical-asr cycle --manifest my/manifest.jsonl --base nvidia/parakeet-tdt-0.6b-v2 --out cycles/"
        yield Advice("refused", [f"{known.base} {error.what}"], instead, [error.mend], REFUSED)


def _refused_wishes(known: Situation) -> Iterator[Advice]:
    for name, told in _looked_up("wishes", known.wishes, "--wish"):
        reason, mend = REFUSED_REQUESTS[told["refused"]]
        yield Advice("refused", [f"{name}: {reason}"], _filled(told["next"], known), [mend], REFUSED)


# --- what went wrong, what belongs elsewhere --------------------------------------------------------------------------


def _symptoms(known: Situation) -> Iterator[Advice]:
    for _, told in _looked_up("symptoms", known.symptoms, "--symptom"):
        say = [line for text in told["say"] for line in (_cost() if text == "COST" else [text])]
        command = told["next"] if "next" in told else AFTER[told["stage"]]
        yield Advice(told["verdict"], [told["because"]], _filled(command, known), say, _code(told))


def _elsewhere(known: Situation) -> Iterator[Advice]:
    for _, told in _looked_up("elsewhere", known.topics, "--about"):
        yield Advice("ask elsewhere", [told["because"]], f"see {told['door']}")


def _code(told: dict[str, Any]) -> int:
    """What a comparison says of a tuned model ends as a comparison ends."""
    return NOT_PROMOTED if "stage" in told else FAILED


def _cost() -> list[str]:
    return ["Renting costs money and is asked for each time:", *Rental().cost_lines()]


# --- cycles and numbers -----------------------------------------------------------------------------------------------

TURN = "clinical-asr cycle --manifest {manifest} --base {base} --out {out} {turn}"
AFTER = {
    "deploy": "clinical-asr deploy --cycle {folder} --out handoff",
    "build": "clinical-asr terms add TERMS.csv --term TERM --category drug",
    "pronunciations": "clinical-asr audition --terms TERMS.csv --folder {folder}",
    "leaderboard": "clinical-asr leaderboard {folder}/offline_hyps.jsonl --output-folder boards",
    "hypotheses": "clinical-asr hypotheses --manifest MANIFEST.jsonl --model MODEL.nemo --output HYPOTHESES.jsonl",
    "guard": f"{TURN} --guard-rows 1000",
    "split": f"{TURN} --hold-out-sentences 0.2",
    "finetune": f"{TURN} --recipe {{recipe}}",
    "gate": TURN,
    "stop": "clinical-asr leaderboard {folder}/baseline_hyps.jsonl --output-folder boards",
    "serve": "clinical-asr serve --model {base}",
}
"""The command that leads into the stage a decision names next."""


def _decision(known: Situation) -> Iterator[Advice]:
    """A finished cycle has decided already: its own words, and the way on from there."""
    if known.decision is not None:
        yield _from_decision(known.decision, known)


def _from_decision(decision: Decision, known: Situation) -> Advice:
    if decision.next_stage not in AFTER:
        where = f"{known.folder}/decision.json"
        raise ConfigError(f"names a next stage {decision.next_stage!r}", where, f"one of {', '.join(AFTER)}")
    say = {
        "deploy": [PARITY],
        "build": [NO_PATIENTS],
        "finetune": _about_recipe(known),
        "stop": ["More tuning on this benchmark buys nothing: change the benchmark, or deploy what is best so far."],
    }.get(decision.next_stage, [])
    return Advice(decision.verdict, [decision.reason], _filled(AFTER[decision.next_stage], known), say,
                  decision.exit_code, decision.evidence)  # fmt: skip


def _about_recipe(known: Situation) -> list[str]:
    """Which recipe it was that spoilt general English, and what another one can do."""
    used = _asked(Path(known.folder)).recipe_name if known.folder else ""
    ways: list[str] = knowledge()["symptoms"]["guard-worse"]["say"]
    return [f"The recipe that was used is {used}; the same again ends the same.", *ways] if used else ways


def _two_boards(known: Situation) -> Iterator[Advice]:
    """Two boards without their rows: what they can say, and what they cannot."""
    if known.board is None or known.board_after is None:
        return
    before, after = (priority_ker(board, known.gate) for board in (known.board, known.board_after))
    differences = known.board.signature.differences(known.board_after.signature)
    command = "clinical-asr comparison --before HYPS.jsonl --after HYPS_AFTER.jsonl --split-folder FOLDER"
    if differences:
        yield Advice("not comparable", [f"the boards differ in {'; '.join(differences)}"],
                     "clinical-asr leaderboard HYPS.jsonl --output-folder boards", [], REFUSED)  # fmt: skip
        return
    shown = f"priority KER {_rate(before)} -> {_rate(after)}"
    missing = "boards do not say which rows were trained on, nor what general English lost"
    yield Advice("inconclusive", [f"{shown}; {missing}"], command,
                 ["A fall of KER on rows that training heard proves nothing."], INCONCLUSIVE)  # fmt: skip


def _numbers(known: Situation) -> Iterator[Advice]:
    if known.decision is not None or known.board_after is not None or not known.knows_numbers:
        return
    board = board_of(known)
    led = triage(board, known.evaluation, known.gate)
    passed = gate.gate(board, known.gate)
    say = [NO_PATIENTS] if led.next_stage == "build" else _before_tuning() if led.exit_code == 0 else []
    reasons = [led.reason] if led.exit_code else [led.reason, f"gate: {passed.reason}"]
    yield Advice(led.verdict, reasons, _filled(AFTER[led.next_stage], known), say, led.exit_code,
                 {**led.evidence, "conditions": passed.evidence["conditions"]})  # fmt: skip


def _before_tuning() -> list[str]:
    return [
        "The verdict will rest on rows that training never heard and on general English; either can refuse it.",
        "Training on about 100 rows takes minutes on a GPU of 16 GB; without one, "
        "--runner brev --recipe smoke rents it and asks.",
    ]


def _deployment(known: Situation) -> Iterator[Advice]:
    """The route of a model that was read and is fit to serve."""
    if not known.wants_deploy:
        return
    if known.architecture is None:
        reason = (
            "the way to a server depends on the decoder, which is read from the model and not guessed from its name"
        )
        yield Advice("read the model first", [reason], _filled("clinical-asr model inspect {base}", known), [], FAILED)
        return
    try:
        route = route_of(known.architecture, known.base)
    except ModelError as error:
        yield Advice(
            "refused", [error.what], _filled("clinical-asr model inspect {base}", known), [error.mend], REFUSED
        )
        return
    reason = f"a {known.architecture.decoder} model: riva-build decoder={route.decoder}, NIM family {route.family}"
    yield Advice("deploy", [reason], _filled(AFTER["deploy"], known), [PARITY])


def _beginning(known: Situation) -> Advice:
    """Nothing is known yet, or only how many rows there are: first a benchmark, then a number."""
    if known.rows:
        reason = f"{known.rows} rows and no baseline: nothing says yet whether fine-tuning is worth it"
        command = "clinical-asr hypotheses --manifest my/manifest.jsonl --model {base} --output base_hyps.jsonl"
        return Advice("evaluate first", [reason], _filled(command, known), [], FAILED)
    reason = "no benchmark and no baseline: fine-tuning without a number is guessing"
    command = "clinical-asr cycle --terms TERMS.csv --base {base} --out cycles/"
    return Advice("build a benchmark first", [reason], _filled(command, known), [NO_PATIENTS], FAILED)


def _filled(command: str, known: Situation) -> str:
    """The command as a shell takes it, with what is known put in; capitals where it is not."""
    folder = Path(known.folder) if known.folder else None
    manifest = f"{known.folder}/manifest.jsonl" if folder else "my/manifest.jsonl"
    order = _asked(folder) if folder and "{base}" in command else Asked()
    base = known.base or order.base_name or "BASE"
    another = KEEP if order.recipe_name not in ("", KEEP) else OWN
    names = {"folder": known.folder or "CYCLE", "base": base, "manifest": manifest, "recipe": another}
    out, *turn = [*_turn(folder), *_again(order, command)] if "{turn}" in command and folder else ["cycles/"]
    quoted = {name: shlex.quote(value) for name, value in (names | {"out": out}).items()}
    return printable(shlex.join(shlex.split(command.format(**quoted, turn=shlex.join(turn)))))


def _turn(folder: Path) -> list[str]:
    """The root of the cycle in ``folder``, and what makes another turn there on the same rows, wherever they lie."""
    root, cycle = _data_root(folder), cycle_of(folder)
    apart = ["--data-root", root] if root else []
    if cycle is None:
        return ["cycles/", *apart]
    free = next(n for n in count(cycle.number + 1) if not Cycle(cycle.root, n).manifest.exists())
    return [str(cycle.root), "--cycle", str(free), *apart]


def _again(order: Asked, command: str) -> list[str]:
    """What the cycle was asked for and the command does not ask for otherwise."""
    told = {flag: word for flag, word in options(order).items() if flag not in command.split()}
    return [part for flag, word in told.items() for part in (flag, word) if part]


def _asked(folder: Path) -> Asked:
    """What the cycle's request asks for; nothing in particular if there is none to read."""
    path = folder / Cycle(folder).request.name
    return asked(path) if _is_own(path) else Asked()


def _data_root(folder: Path) -> str:
    """The folder that holds the recordings of a manifest that was brought along; empty if they lie in the cycle's."""
    path, here = folder / Cycle(folder).manifest.name, Path(os.path.realpath(folder))
    rows = iter_glances(path, _Recording) if _is_own(path) else ()
    places = {Path(row.audio_filepath).parent for row in rows if "\0" not in row.audio_filepath}
    common = Path(os.path.commonpath([os.path.realpath(here / place) for place in places] or [str(here)]))
    return "" if common.is_relative_to(here) else str(common)


def _is_own(path: Path) -> bool:
    """An agent may read its project's folder and nothing else: a file that is there, and no link out."""
    return path.is_file() and path.resolve().parent == path.parent.resolve()


class _Recording(msgspec.Struct):
    audio_filepath: str


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


SOURCES: tuple[Callable[[Situation], Iterator[Advice]], ...] = (
    _refused_base, _refused_wishes, _symptoms, _elsewhere, _decision, _two_boards, _numbers, _deployment,
)  # fmt: skip
