"""``clinical-asr cycle``: one whole turn of the wheel; ``clinical-asr demo``: the same on what the package brings."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli import runners as r
from clinical_asr.cli.console import progress, say, show_decision, steps, tell
from clinical_asr.cli.outcome import show_comparison, show_ladder

if TYPE_CHECKING:
    from clinical_asr.cycle import Cycle
    from clinical_asr.records import Decision
    from clinical_asr.request import Engines, Request
    from clinical_asr.training import TrainModel

PANEL = "The whole wheel"
DEMO_VOICES = (
    "en-us+f5-r160-p50,en-us+paul-r170-p45,en-gb+m7-r165-p50,en-us+grandma-r155-p55,"
    "en-us+Michael-r165-p50,en-us-nyc+anika-r160-p50,en-us+max-r160-p50,en-gb-x-rp+belinda-r165-p55"
)
GUARD_VOICES = (
    "en-us+caleb-r160-p50,en-us+linda-r165-p50,en-gb+edward-r170-p45,en-us+steph-r160-p50,"
    "en-gb-x-rp+f4-r165-p55,en-us-nyc+Andy-r160-p50"
)
REPLAY_VOICES = (
    "en-us+f1-r160-p50,en-us+f2-r170-p55,en-us+m1-r165-p45,en-us+m2-r175-p50,"
    "en-gb+f3-r160-p50,en-gb+m4-r165-p45,en-gb-x-rp+m5-r170-p50,en-us-nyc+m6-r160-p50"
)
SELECTION_VOICES = "en-us+steph2-r160-p50,en-us+steph3-r165-p50,en-gb+edward2-r170-p45,en-us+m3-r160-p50"
WithLadder = Annotated[
    bool,
    typer.Option("--ladder", help="Lay base, phrase boosting, fine-tuning and both on one board; can be added later."),
]
DEMO_WAIVER = "Demo of the driver: synthetic benchmark, no clinical use, so nobody has listened to its clips."


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (demo, cycle):
        app.command(rich_help_panel=PANEL)(command)


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo's cycle.")] = Path("demo"),
    recipe: Annotated[str, typer.Option(help="keep, smoke, production, or a YAML file.")] = "keep",
    ladder: WithLadder = False,
) -> None:
    """Turn the wheel once on the embedded mini base and 45 example terms, on CPU; ten to fifteen minutes on two cores.

    Ends with exit code 0 once there is a decision, whatever it is. The same command again continues or shows it.

    Example: clinical-asr demo --out demo
    """
    cycle_of, request = _demo_request(out, recipe, ladder)
    decision = _turn(cycle_of, request, r.runner("local", "", 0, False))
    _show(cycle_of, decision)
    raise typer.Exit(0)


def cycle(
    base: Annotated[str, typer.Option(help="mini, a .nemo file, or a Hugging Face id.")],
    out: Annotated[Path, typer.Option(help="Folder of all cycles; this one goes to OUT/cycle<N>.")] = Path("cycles"),
    number: Annotated[int, typer.Option("--cycle", help="Which turn of the wheel this is.", min=1)] = 1,
    manifest: Annotated[Path | None, typer.Option(help="Benchmark to use: clinical manifest, JSONL.")] = None,
    terms: Annotated[Path | None, typer.Option(help="Terms to build a benchmark from: term,entity_category.")] = None,
    guard: Annotated[Path | None, typer.Option(help="General speech to judge on; spoken here if not given.")] = None,
    replay: Annotated[
        Path | None,
        typer.Option(help="General speech to replay, with texts or without; spoken here if not given."),
    ] = None,
    selection: Annotated[
        Path | None, typer.Option(help="General speech that helps to choose; spoken here if not given.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="keep, smoke, production, or a YAML file.")] = "keep",
    priority: o.Priority = "drug",
    data_root: o.DataRoot = None,
    overrides: Annotated[Path | None, typer.Option(help="pronunciation_overrides.csv.")] = None,
    auditions: Annotated[Path | None, typer.Option(help="auditions.jsonl: a person's verdict per term.")] = None,
    waive_audition: Annotated[str, typer.Option(help="Why nobody listens to the terms first; kept in the notes.")] = "",
    voices: o.Voices = o.VOICES,
    voices_per_sentence: Annotated[int, typer.Option(help="Voices that say each sentence.")] = 2,
    noise_levels: o.NoiseLevels = o.NOISE_LEVELS,
    contexts_per_term: Annotated[int, typer.Option(help="Sentences per term, 3 or more.")] = 4,
    guard_rows: Annotated[int, typer.Option(help="Rows of general speech to speak for the guard set.")] = 480,
    hold_out_voices: Annotated[int, typer.Option(help="Whole voices kept out of training.")] = 0,
    hold_out_sentences: Annotated[float, typer.Option(help="Share of sentences kept out, in every voice.")] = 0.1,
    hold_out_terms: Annotated[int, typer.Option(help="Whole terms kept out of training.")] = 0,
    min_rows: Annotated[int, typer.Option(help="Rows the gate asks for.")] = 100,
    tune_above: Annotated[float, typer.Option(help="Priority KER above which fine-tuning is worth it.")] = 0.3,
    guard_margin: Annotated[
        float, typer.Option(help="Rise of guard WER that is allowed: 0.003 is 0.3 points.")
    ] = 0.003,
    normaliser: o.Normaliser = "clinical-v1",
    seed: o.Seed = 42,
    runner: r.Runner = "local",
    nodes: r.Nodes = 1,
    gpus_per_node: r.GpusPerNode = 1,
    fit: r.Fit = False,
    remote_python: r.RemotePython = "python3",
    max_cost: r.MaxCost = 5.0,
    yes: r.Yes = False,
    sha256: o.Sha256 = "",
    ladder: WithLadder = False,
) -> None:
    """One whole turn: benchmark, evaluation, gate, split, fine-tuning, re-evaluation, comparison, decision.

    Resumes where it stopped. Exit codes: 0 promoted, 2 bad input, 3 the gate says go back, 4 inconclusive,
    5 not promoted.

    With --ladder the cheapest rung that meets the gate's KER and the guard margin is named: base, base with a decoder
    that leans towards the benchmark's terms, tuned, or both; it decides nothing.

    Example: clinical-asr cycle --manifest my/manifest.jsonl --base my.nemo --out cycles/

    Example: clinical-asr cycle --manifest my/manifest.jsonl --base my.nemo --out cycles/ --ladder
    """
    from clinical_asr.config import ComparisonConfig, GateConfig, SplitConfig, SynthesisConfig, load_recipe
    from clinical_asr.cycle import Cycle

    r.in_one_process("cycle")
    trainer = r.runner(runner, remote_python, max_cost, yes, nodes, gpus_per_node, fit, load_recipe(recipe))
    decides = o.categories(priority)
    request = _request(
        base, recipe, sha256=sha256, manifest=manifest, terms=terms, guard=guard, replay=replay,
        selection=selection, data_root=data_root, overrides=overrides, auditions=auditions,
        waiver=waive_audition, contexts_per_term=contexts_per_term, guard_rows=guard_rows,
        normaliser=normaliser, seed=seed, ladder=ladder,
        synthesis=SynthesisConfig(voices=_voices(voices), voices_per_sentence=voices_per_sentence,
                                  noise_levels=o.noise_levels(noise_levels), seed=seed),
        gate=GateConfig(priority_categories=decides, min_rows=min_rows, tune_above=tune_above),
        split=SplitConfig(priority_categories=decides, seed=seed, hold_out_voices=hold_out_voices,
                          hold_out_sentences=hold_out_sentences, hold_out_terms=hold_out_terms),
        comparison=ComparisonConfig(priority_categories=decides, guard_margin=guard_margin),
    )  # fmt: skip
    at = Cycle(out, number)
    decision = _turn(at, request, trainer)
    _show(at, decision)
    raise typer.Exit(decision.exit_code)


def _demo_request(out: Path, recipe: str, ladder: bool = False) -> tuple[Cycle, Request]:
    """The demo: every stratum has rows, since a voice, some sentences and two terms are held out."""
    from clinical_asr.config import SplitConfig, SynthesisConfig
    from clinical_asr.cycle import Cycle

    request = _request(
        "mini", recipe, terms=_example_terms(), waiver=DEMO_WAIVER, ladder=ladder,
        synthesis=SynthesisConfig(voices=_voices(DEMO_VOICES)),
        split=SplitConfig(hold_out_voices=1, hold_out_sentences=0.08, hold_out_terms=2),
    )  # fmt: skip
    return Cycle(out, 1), request


def _example_terms() -> Path:
    """``examples/terms.csv`` of the checkout, or the copy in the installed package."""
    here = Path(__file__).parents[1]
    places = [here / "examples" / "terms.csv", here.parents[1] / "examples" / "terms.csv"]
    return next((path for path in places if path.is_file()), places[-1])


def _voices(text: str) -> tuple[str, ...]:
    """Voices that exist, before anybody asks whether they are enough. Raises ConfigError."""
    from clinical_asr.cli.engines import check_voices

    return check_voices(o.listed(text, "--voices"))


def _request(base: str, recipe: str, *, sha256: str = "", **order: Any) -> Request:
    """A request with everything checked that can be checked before work begins."""
    from clinical_asr.bases import check_trainable, inspect_base
    from clinical_asr.cli.engines import resolve
    from clinical_asr.config import load_recipe
    from clinical_asr.errors import ConfigError, printable
    from clinical_asr.nemo_file import check_archive
    from clinical_asr.request import Request

    if bool(order.get("manifest")) == bool(order.get("terms")):
        raise ConfigError("give exactly one of them", where="--manifest / --terms")
    for name in ("manifest", "terms", "guard", "replay", "selection", "overrides", "auditions"):
        path = order.get(name)
        if path is not None and not path.is_file():
            raise ConfigError(f"no file {path}", where=f"--{name}", mend="check the path")
    _refuse_impossible(order)
    path = resolve(base, sha256=sha256)
    check_archive(path)
    check_trainable(inspect_base(path), str(path))
    order |= {"guard_voices": o.listed(GUARD_VOICES, ""), "replay_voices": o.listed(REPLAY_VOICES, "")}
    order |= {"selection_voices": o.listed(SELECTION_VOICES, "")}
    return Request(base=path, base_name=printable(base), recipe=load_recipe(recipe), **order)


def _refuse_impossible(order: dict[str, Any]) -> None:
    """What no cycle can do, before the request binds its folder. Raises ConfigError naming the flag."""
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import iter_objects
    from clinical_asr.text import normaliser_names

    if order.get("guard_rows", 0) < 0:
        raise ConfigError("must be at least 0", "--guard-rows")
    if (name := order.get("normaliser")) and name not in normaliser_names():
        raise ConfigError(f"{name!r} is no normaliser", "--normaliser", f"use one of: {', '.join(normaliser_names())}")
    for name in ("manifest", "guard", "replay", "selection"):
        path = order.get(name)
        if path is not None and next(iter_objects(path), None) is None:
            raise ConfigError("holds no rows", f"--{name} {path}", "write one JSON object a line")
    if order.get("terms"):
        _refuse_hold_outs(order)


def _refuse_hold_outs(order: dict[str, Any]) -> None:
    """The same for whole voices and terms that are held out of what is spoken here."""
    from clinical_asr.errors import ConfigError
    from clinical_asr.terms import read_terms

    split, voices = order["split"], len(order["synthesis"].voices)
    if split.hold_out_voices >= voices:
        raise ConfigError(f"there are only {voices} voices", "--hold-out-voices", "keep one to train on")
    terms = read_terms(order["terms"])
    most = len(terms) - len({term.entity_category for term in terms})
    if split.hold_out_terms > most:
        what = f"only {most} terms can be held out and still leave each category one"
        raise ConfigError(what, "--hold-out-terms", "add terms or hold out fewer")


def _turn(at: Cycle, request: Request, trainer: TrainModel) -> Decision:
    from clinical_asr.bases import base_digest
    from clinical_asr.flywheel import turn

    digest = base_digest(request.base)
    say(f"cycle {at.number} in {at.folder}, base {request.base_name} (sha256 {digest}), recipe {request.recipe.name}")
    return turn(at, request, _engines(at, trainer))


def _engines(at: Cycle, trainer: TrainModel) -> Engines:
    """The engines of real life; a model is loaded only when it is needed."""
    from clinical_asr.cli.engines import boosted, kept_transcriber, listener, markup, synthesiser
    from clinical_asr.cli.voices import Speech
    from clinical_asr.request import Engines, Journal

    return Engines(
        synthesise=synthesiser(),
        workers=Speech().processes,
        markup=markup(),
        transcriber=kept_transcriber,
        train=trainer,
        listen=lambda model, audio, *, exact=False: listener()(model, audio, exact=exact),
        journal=Journal(at.timings, say),
        progress=progress,
        on_step=lambda: steps("fine-tuning"),
        boost=boosted,
    )


def _show(at: Cycle, decision: Decision) -> None:
    """What changed, the decision, and where to look."""
    from clinical_asr.compared import Comparison
    from clinical_asr.flywheel import pages
    from clinical_asr.jsonl import read_json
    from clinical_asr.ladder import Ladder

    if at.comparison("json").exists():
        show_comparison(read_json(at.comparison("json"), Comparison))
    if at.ladder("json").exists():
        show_ladder(read_json(at.ladder("json"), Ladder))
    show_decision(decision)
    if decision.next_stage == "deploy":
        tell(f"next:     {_deploy_command(at)}")
    tell(f"decision: {at.decision}")
    for page in pages(at):
        tell(f"open:     {page}")


def _deploy_command(at: Cycle) -> str:
    """What a promoted model is handed over with."""
    out = at.root / f"handoff_cycle{at.number}"
    return shlex.join(["clinical-asr", "deploy", "--cycle", str(at.folder), "--out", str(out)])
