"""The commands of the fine-tuning stages: split, finetune, comparison."""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager, nullcontext
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli import runners as r
from clinical_asr.cli.compare import comparison
from clinical_asr.cli.console import steps, table
from clinical_asr.cli.manifests import checked_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clinical_asr.config import TrainingConfig
    from clinical_asr.finetune import Base, Outputs, Recordings
    from clinical_asr.split import Split
    from clinical_asr.training import Margins, TrainingReport, TrainModel

PANEL = "Fine-tune"
OptionalManifest = Annotated[
    Path | None, typer.Option(help="Manifest of general speech, JSONL; where it has no texts, the base gives them.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (split, finetune, comparison):
        app.command(rich_help_panel=PANEL)(command)


def split(
    manifest: Annotated[Path, typer.Argument(help="Clinical manifest, JSONL.", metavar="MANIFEST.jsonl")],
    output_folder: Annotated[Path | None, typer.Option(help="Where to write; by default beside the manifest.")] = None,
    validation_fraction: Annotated[float, typer.Option(help="Share of each category's rows that is held out.")] = 0.2,
    seed: o.Seed = 42,
    hold_out_voices: Annotated[int, typer.Option(help="Whole voices kept out of training.")] = 0,
    hold_out_sentences: Annotated[float, typer.Option(help="Share of sentences kept out, in every voice.")] = 0.0,
    hold_out_terms: Annotated[int, typer.Option(help="Whole terms kept out of training.")] = 0,
    max_duration: Annotated[
        float, typer.Option(help="Seconds; longer rows are held out. As in the recipe that is to train.")
    ] = 40.0,
    priority: o.Priority = "drug",
    data_root: o.DataRoot = None,
    force: Annotated[bool, typer.Option(help="Replace another split that is there.")] = False,
) -> None:
    """Write train.jsonl and validation.jsonl: no row in both, every held-out row labelled with what training has seen.

    Exit 3 if a priority category has too few rows to be split.

    Example: clinical-asr split benchmark/manifest.jsonl --hold-out-voices 1 --hold-out-sentences 0.1
    """
    from clinical_asr.config import SplitConfig
    from clinical_asr.split import split as divide

    config = SplitConfig(
        validation_fraction=validation_fraction, seed=seed, hold_out_voices=hold_out_voices,
        hold_out_sentences=hold_out_sentences, hold_out_terms=hold_out_terms,
        priority_categories=o.categories(priority), max_duration=max_duration,
    )  # fmt: skip
    done = divide(checked_rows(manifest, "clinical", data_root), config)  # type: ignore[arg-type]
    folder = output_folder or manifest.parent
    _write_side(folder / "train.jsonl", done.train, manifest, force)
    _write_side(folder / "validation.jsonl", done.validation, manifest, force)
    for warning in done.warnings:
        typer.echo(f"warning: {warning}", err=True)
    _show_strata(done)
    typer.echo(f"written: {folder / 'train.jsonl'}, {folder / 'validation.jsonl'}")
    if folder.resolve() != manifest.parent.resolve():
        root = os.path.commonpath([folder.resolve(), (data_root or manifest.parent).resolve()])
        typer.echo(f"their audio stays where it is: give finetune --data-root {shlex.quote(root)}")


def _write_side(path: Path, rows: list[Any], manifest: Path, force: bool) -> None:
    """Raises ConfigError if another split is there: models and comparisons may rest on it."""
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import iter_objects, to_dict, write_rows
    from clinical_asr.relocation import seen_from

    placed = seen_from(o.not_over(path, manifest, flag="--output-folder").parent, rows, manifest.parent)
    if path.is_file() and not force and [row for _, row in iter_objects(path)] != [to_dict(row) for row in placed]:
        raise ConfigError("holds another split", str(path), "write to another folder, or replace it with --force")
    write_rows(path, placed)


def _show_strata(done: Split) -> None:
    from clinical_asr.records import Stratum

    counts = done.counts()
    names = [s.value for s in Stratum if any(s.value in of_category for of_category in counts.values())]
    rows: list[tuple[object, ...]] = [
        (category, *(of.get(name, 0) for name in names), sum(of.values())) for category, of in counts.items()
    ]
    rows.append(("all", *(sum(of.get(name, 0) for of in counts.values()) for name in names), len(done.strata)))
    title = f"{len(done.strata)} rows = {len(done.train)} to train on + {len(done.validation)} held out"
    table(title, ("category", *names, "rows"), rows)


def finetune(
    train: Annotated[Path, typer.Option(help="Rows to learn from, JSONL.")],
    validation: Annotated[
        Path | None, typer.Option(help="Held-out rows; they choose where the recipe takes no rows of --train for that.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The .nemo to write.")] = Path("adapted_model.nemo"),
    base: Annotated[str, typer.Option(help="mini, a .nemo file, or a Hugging Face id.")] = "mini",
    recipe: Annotated[str, typer.Option(help="keep, smoke, production, or a YAML file.")] = "keep",
    replay: OptionalManifest = None,
    selection_guard: Annotated[
        Path | None, typer.Option(help="General speech that helps to choose; neither replayed nor the guard set.")
    ] = None,
    guard_margin: o.GuardMargin = 0.003,
    guard_upper: o.GuardUpper = 0.01,
    guard_wer: Annotated[
        float | None, typer.Option(help="The base's WER on the guard set; on harder rows the margin grows with it.")
    ] = None,
    data_root: o.DataRoot = None,
    runner: r.Runner = "local",
    nodes: r.Nodes = 1,
    gpus_per_node: r.GpusPerNode = 1,
    fit: r.Fit = False,
    remote_python: r.RemotePython = "python3",
    max_cost: r.MaxCost = 5.0,
    yes: r.Yes = False,
    sha256: o.Sha256 = "",
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Train on parts only and say what would help; keeps no model.")
    ] = False,
) -> None:
    """Fine-tune a base on the training rows and on replayed general speech; keep the best epoch and candidate.

    The strongest candidate that costs no more than --guard-margin is kept: give comparison the same one.
    Beside the model: its .sha256, training_run_info.json and the ledger. The same command again continues.

    Example: clinical-asr finetune --train train.jsonl --validation validation.jsonl --replay replay/manifest.jsonl
    --base mini --output adapted_model.nemo
    """
    from clinical_asr.bases import inspect_base
    from clinical_asr.cli.engines import listener, processes, resolve
    from clinical_asr.config import load_recipe
    from clinical_asr.finetune import Outputs, parts_of
    from clinical_asr.finetune import finetune as tune

    if learning_curve:
        r.in_one_process("--learning-curve", runner)
    config, margins = load_recipe(recipe), _margins(guard_margin, guard_upper, guard_wer)
    trainer = r.runner(runner, remote_python, max_cost, yes, nodes, gpus_per_node, fit, config)
    path = resolve(base, sha256=sha256)
    inspect_base(path)
    ledger = output.with_name(f"{output.stem}.ledger.jsonl")
    outputs = Outputs(model=output, info=output.with_name("training_run_info.json"), ledger=ledger)
    if not learning_curve:
        _refuse_losing(outputs, path, train, validation, replay, selection_guard, Path(recipe))
    start = _base(base, path)
    learn, judge = _recordings("train", train, data_root), _recordings("validation", validation, data_root)
    general = _replay(replay, path, output, data_root)
    weigh = _recordings("selection-guard", selection_guard, data_root)
    if learning_curve:
        _learning_curve(path, config, (learn, judge, general), output, trainer)
        return
    if _is_done(outputs, start, config, parts_of(config, learn, judge, general, weigh), margins):
        _note_of(output).unlink(missing_ok=True)
        typer.echo(f"{output}: complete already")
        return
    engines, leads = (trainer, listener()), processes().leads
    with _noted(outputs) if leads else nullcontext():
        report = tune(
            start, config, learn, judge, general, outputs, *engines, selection_guard=weigh, margins=margins,
            on_step=steps("training") if leads else None,
        )  # fmt: skip
    _show_training(report, outputs)


def _refuse_losing(outputs: Outputs, *inputs: Path | None) -> None:
    """Raises ConfigError if what is read would be overwritten, or a model that this command has not made."""
    from clinical_asr.bases import base_digest, sidecar_of
    from clinical_asr.errors import ConfigError
    from clinical_asr.finetune import model_of

    for target in (outputs.model, outputs.info, outputs.ledger):
        o.not_over(target, *inputs)
    if not outputs.model.is_file():
        return
    digest, unfinished = base_digest(outputs.model), _note_of(outputs.model).is_file()
    told = outputs.info.is_file() and model_of(outputs.info) == digest
    if not told and not (unfinished and sidecar_of(outputs.model).is_file()):
        mend = "name another output, or move that model away"
        raise ConfigError(f"is a model that no {outputs.info.name} beside it tells of", str(outputs.model), mend)


def _note_of(model: Path) -> Path:
    return model.with_name(f"{model.name}.begun.part")


@contextmanager
def _noted(outputs: Outputs) -> Iterator[None]:
    """A note lies there from before the model stands until its story does: a killed run's model is ours by that."""
    from clinical_asr.jsonl import write_text

    note = _note_of(outputs.model)
    write_text(note, f"the model is being made: it is complete when {outputs.info.name} tells of it\n")
    try:
        yield
    except BaseException:
        if not outputs.model.is_file():  # nothing to be known again
            note.unlink(missing_ok=True)
        raise
    note.unlink(missing_ok=True)


def _learning_curve(
    base: Path, config: TrainingConfig, sides: tuple[Recordings, Recordings, Recordings], output: Path,
    train_model: TrainModel,
) -> None:  # fmt: skip
    import tempfile

    from clinical_asr.cli.engines import listener
    from clinical_asr.jsonl import write_json, write_text
    from clinical_asr.learning_curve import learning_curve, markdown

    with tempfile.TemporaryDirectory() as work:
        found = learning_curve(
            base, config, *sides, Path(work), train_model, listener(), on_step=steps("learning curve")
        )
    written = [output.with_name(f"{output.stem}.learning_curve.{kind}") for kind in ("md", "json")]
    write_text(written[0], markdown(found))
    write_json(written[1], found)
    typer.echo(markdown(found))
    typer.echo(f"written: {', '.join(map(str, written))}")


def _margins(rise: float, high: float, guard_wer: float | None) -> Margins:
    """What a candidate may cost, as the comparison reads the same options. Raises ConfigError for what is no margin."""
    from clinical_asr.config import ComparisonConfig
    from clinical_asr.training import Margins

    asked = ComparisonConfig(guard_margin=rise, guard_upper=max(high, rise))
    return Margins(asked.guard_margin, asked.guard_upper, guard_wer)


def _base(name: str, path: Path) -> Base:
    from clinical_asr.bases import base_digest
    from clinical_asr.errors import printable
    from clinical_asr.finetune import Base

    return Base(printable(path.name if Path(name).is_file() else name), path, base_digest(path))


def _recordings(option: str, manifest: Path | None, data_root: Path | None) -> Recordings:
    from clinical_asr.finetune import Recordings

    if manifest is None:
        return Recordings()
    return Recordings(checked_rows(manifest, "auto", data_root), manifest.parent, f"--{option} {manifest}")


def _replay(manifest: Path | None, base: Path, output: Path, data_root: Path | None) -> Recordings:
    """General speech; where the manifest lacks texts, the base gives them, kept beside the output for the next time."""
    from clinical_asr.bases import base_digest
    from clinical_asr.cli.console import progress
    from clinical_asr.cli.engines import transcriber
    from clinical_asr.finetune import Recordings
    from clinical_asr.hypotheses import hear, is_heard
    from clinical_asr.jsonl import read_rows
    from clinical_asr.records import Hypothesis, LedgerEntry
    from clinical_asr.self_texts import bare_rows, lacks_texts, require_own, spoken

    if manifest is None or not lacks_texts(manifest):
        return _recordings("replay", manifest, data_root)
    r.in_one_process("transcribing --replay, which has no texts,")
    rows, failed = bare_rows(manifest)
    hyps, ledger = (output.with_name(f"{output.stem}.{name}.jsonl") for name in ("replay", "replay_ledger"))
    if not is_heard(hyps):
        hear(rows, manifest.parent, transcriber(base), hyps, ledger, progress=progress)
    heard, fates = read_rows(hyps, Hypothesis), read_rows(ledger, LedgerEntry) if ledger.is_file() else []
    require_own(heard, fates, rows, base_digest(base), hyps)
    told, silent = spoken(heard, rows)
    left_out = f"{len(rows) + len(failed) - len(told)} left out ({len(silent)} silent)"
    typer.echo(f"replay: the base's own texts for {len(told)} rows, {left_out}: {ledger}")
    return Recordings(told, manifest.parent, f"--replay {manifest}")


def _is_done(
    outputs: Outputs, base: Base, config: TrainingConfig, parts: Mapping[str, Recordings], margins: Margins
) -> bool:
    """True if the outputs are those of this very request. Raises ConfigError if they are another's."""
    from dataclasses import asdict

    import msgspec

    from clinical_asr.bases import base_digest
    from clinical_asr.cycle import manifest_digest
    from clinical_asr.errors import ConfigError
    from clinical_asr.finetune import model_of
    from clinical_asr.jsonl import read_json

    if not outputs.info.is_file():
        return False
    digest = model_of(outputs.info)
    _refuse_anothers_story(outputs, digest)
    if not outputs.model.is_file() or base_digest(outputs.model) != digest:
        return False
    story, recipe = read_json(outputs.info), msgspec.json.decode(msgspec.json.encode(config))
    told, data = {"recipe": story.get("recipe")}, story.get("data") or {}
    told["base"] = (story.get("base") or {}).get("sha256")
    told |= {f"{name} rows": (data.get(name) or {}).get("manifest_digest") for name in parts}
    choice = story.get("selection") or {}
    told["guard margin"] = choice.get("margins")
    wanted = {"recipe": recipe, "base": base.digest, "guard margin": asdict(margins.on(choice.get("base") or {}))}
    wanted |= {f"{name} rows": manifest_digest(row.id for row in part.rows) for name, part in parts.items()}
    others = [name.replace("_", " ") for name, now in wanted.items() if told[name] != now]
    if others:
        mend = "name another folder for the output"
        made = " and ".join(f"{'other' if name.endswith(' rows') else 'another'} {name}" for name in others)
        raise ConfigError(f"was made with {made}", str(outputs.model), mend)
    return True


def _refuse_anothers_story(outputs: Outputs, digest: str) -> None:
    """Raises ConfigError if the story in the output's folder is that of another model there: it would be lost."""
    from clinical_asr.bases import base_digest
    from clinical_asr.errors import ConfigError

    others = [model for model in sorted(outputs.info.parent.glob("*.nemo")) if model != outputs.model]
    if outputs.model.is_file() and base_digest(outputs.model) == digest:
        return
    for model in others:
        if base_digest(model) == digest:
            mend = f"name another folder for {outputs.model.name}"
            raise ConfigError(f"tells how {model.name} was made", str(outputs.info), mend)


def _show_training(report: TrainingReport, outputs: Outputs) -> None:
    from clinical_asr.markdown import percent

    rows = [
        (e.epoch, e.rows, "–" if isnan(e.loss) else f"{e.loss:.3f}", percent(e.metrics.get("ker")),
         percent(e.metrics.get("wer", e.metrics.get("val_wer"))), f"{e.seconds:.0f} s" if e.seconds else "–",
         "best" if e.epoch == report.best_epoch else "")
        for e in report.epochs
    ]  # fmt: skip
    table(f"{report.steps} steps in {report.seconds:.0f} s on {report.hardware}",
          ("epoch", "rows", "loss", "KER", "WER", "time", ""), rows)  # fmt: skip
    if report.chosen is not None and len(report.candidates) > 1:
        factors = ", ".join(f"{candidate.factor:g}" for candidate in report.candidates)
        typer.echo(f"chosen: factor {report.chosen.factor:g} of {factors}")
    for note in report.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {outputs.model} (sha256 {report.digest[:16]}), {outputs.info.name}, {outputs.ledger.name}")
