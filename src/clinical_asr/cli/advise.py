"""``clinical-asr advise``: what to do next, given what is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import console

if TYPE_CHECKING:
    from clinical_asr.advise import Advice
    from clinical_asr.situation import Situation
    from clinical_asr.tally import Leaderboard

PANEL = "The whole wheel"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(advise)


def advise(
    evidence: Annotated[
        list[Path] | None, typer.Argument(help="A cycle's folder, or one or two leaderboard JSON files.")
    ] = None,
    priority_ker: Annotated[float | None, typer.Option(help="KER of the priority category.", min=0, max=1)] = None,
    rows: Annotated[int | None, typer.Option(help="Rows of the benchmark.", min=0)] = None,
    rows_per_category: Annotated[str, typer.Option(help="As drug=60,lab=20.")] = "",
    ker_by_source: Annotated[str, typer.Option(help="As g2p=0.6:20,override=0.05:20 (KER:rows).")] = "",
    ker_by_noise: Annotated[str, typer.Option(help="As clean=0.05:30,snr_5db=0.6:30 (KER:rows).")] = "",
    evaluation: Annotated[int, typer.Option(help="Which evaluation the numbers are from; 1 is the first.", min=1)] = 1,
    base: Annotated[str, typer.Option(help="The base in question: mini, a .nemo file, or a name.")] = "",
    symptom: Annotated[str, typer.Option(help="What went wrong, with commas: out-of-memory, no-gpu, ...")] = "",
    wish: Annotated[str, typer.Option(help="What is asked for, with commas: adapters, tokenizer, fp16.")] = "",
    about: Annotated[str, typer.Option(help="What the question is about, with commas: api-keys, ...")] = "",
    deploy: Annotated[bool, typer.Option("--deploy", help="Deployment is wanted.")] = False,
    priority: o.Priority = "drug",
    json: Annotated[bool, typer.Option("--json", help="Print the advice as JSON.")] = False,
) -> None:
    """What to do next, why, the command to type, and what must be said before it.

    Give what is known, or nothing. Exit codes: 0 go on, 2 refused, 3 go back first, 4 inconclusive, 5 not promoted.

    Example: clinical-asr advise --priority-ker 0.42 --rows 130 --rows-per-category drug=60
    """
    from clinical_asr.advise import advise as ask
    from clinical_asr.config import GateConfig
    from clinical_asr.situation import Situation

    known = Situation(
        priority_ker=priority_ker, rows=rows, rows_per_category=_per_category(rows_per_category, rows),
        ker_by_source=_rates(ker_by_source, "--ker-by-source"), ker_by_noise=_rates(ker_by_noise, "--ker-by-noise"),
        evaluation=evaluation, base=base, architecture=_architecture(base), wants_deploy=deploy,
        symptoms=_words(symptom, "--symptom"), wishes=_words(wish, "--wish"), topics=_words(about, "--about"),
        gate=GateConfig(priority_categories=o.categories(priority)),
    )  # fmt: skip
    found = ask(_with_evidence(known, evidence or []))
    _print_json(found) if json else _show(found)
    raise typer.Exit(found[0].exit_code)


def _with_evidence(known: Situation, paths: list[Path]) -> Situation:
    """The situation with what the files say. Raises ConfigError for more than two, or for what is neither."""
    from dataclasses import replace

    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import read_json
    from clinical_asr.records import Decision

    if len(paths) == 1 and paths[0].is_dir():
        decided = paths[0] / "decision.json"
        if not decided.is_file():
            raise ConfigError("holds no decision.json", str(paths[0]), "finish the cycle: the same command continues")
        if decided.resolve().parent != paths[0].resolve():  # an agent may read its project's folder and nothing else
            raise ConfigError("is a link that leads out of its folder", str(decided), "put the file itself there")
        return replace(known, decision=read_json(decided, Decision), folder=str(paths[0]))
    if len(paths) > 2:
        raise ConfigError(f"{len(paths)} files", "advise", "give a cycle's folder, or one or two leaderboards")
    before, after = ([_board(path) for path in paths] + [None, None])[:2]
    return replace(known, board=before, board_after=after)


def _board(path: Path) -> Leaderboard:
    import msgspec

    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import read_json
    from clinical_asr.tally import Leaderboard

    if not path.is_file():
        raise ConfigError("no such file", str(path), "give a leaderboard_cycle<N>.json")
    try:
        return msgspec.convert(read_json(path), Leaderboard)
    except msgspec.ValidationError:
        raise ConfigError("is no leaderboard", str(path), "give a leaderboard_cycle<N>.json") from None


def _architecture(base: str) -> Any:
    """What the file says, if the base is one."""
    from clinical_asr.bases import MINI, mini_base
    from clinical_asr.nemo_file import read_architecture

    path = mini_base() if base == MINI else Path(base)
    return read_architecture(path) if base and path.is_file() else None


def _words(text: str, flag: str) -> tuple[str, ...]:
    return o.listed(text, flag) if text else ()


def _per_category(text: str, rows: int | None) -> dict[str, int]:
    """Rows of each category. Raises ConfigError for a category there is not, and for more than all ``rows``."""
    from clinical_asr.errors import ConfigError

    flag = "--rows-per-category"
    counts = _counts(text, flag)
    if counts:
        o.categories(",".join(counts), flag)
    if rows is not None and sum(counts.values()) > rows:
        raise ConfigError(f"are {sum(counts.values())} rows together, of {rows} in all", flag, "correct it or --rows")
    return counts


def _counts(text: str, flag: str) -> dict[str, int]:
    """
    >>> _counts("drug=60,lab=20", "--rows-per-category")
    {'drug': 60, 'lab': 20}
    """
    return {name: int(_number(value, flag)) for name, value in _pairs(text, flag)}


def _rates(text: str, flag: str) -> dict[str, tuple[float, int]]:
    """
    >>> _rates("g2p=0.6:20", "--ker-by-source")
    {'g2p': (0.6, 20)}
    """
    split = [(name, *value.partition(":")[::2]) for name, value in _pairs(text, flag)]
    return {name: (_number(ker, flag), int(_number(rows, flag))) for name, ker, rows in split}


def _pairs(text: str, flag: str) -> list[tuple[str, str]]:
    from clinical_asr.errors import ConfigError

    parts = [part.partition("=") for part in _words(text, flag)]
    if any(not sign for _, sign, _ in parts):
        raise ConfigError(f"{text!r} is not name=number", flag, "write name=number, with commas")
    return [(name.strip(), value.strip()) for name, _, value in parts]


def _number(text: str, flag: str) -> float:
    from clinical_asr.errors import ConfigError

    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{text!r} is no number of 0 or more", flag, "write name=number, with commas")
    return value


def _print_json(found: list[Advice]) -> None:
    import msgspec

    first, *others = (msgspec.to_builtins(advice) for advice in found)
    typer.echo(msgspec.json.format(msgspec.json.encode({**first, "also": others}), indent=2).decode())


def _show(found: list[Advice]) -> None:
    for advice in found:
        console().print(advice.verdict.upper(), style="bold", markup=False, highlight=False)
        for reason in advice.reasons:
            console().print(f"  because  {reason}", highlight=False, markup=False)
        for line in advice.say_first:
            console().print(f"  first    {line}", highlight=False, markup=False)
        console().print(f"  next     {advice.next_command}\n", highlight=False, markup=False, soft_wrap=True)
