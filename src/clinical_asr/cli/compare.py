"""The command that compares two cycles: its options, what it reads, what it writes and shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import counted, show_decision
from clinical_asr.cli.outcome import show_comparison
from clinical_asr.cli.scored import read_decision, read_scored

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clinical_asr.compared import Comparison
    from clinical_asr.records import Decision, Stratum
    from clinical_asr.tally import Score, Signature
    from clinical_asr.training import Selection


def comparison(
    before: Annotated[Path, typer.Option(help="Hypotheses or scores of the base on the benchmark.")],
    after: Annotated[Path, typer.Option(help="The same of the fine-tuned model.")],
    guard_before: Annotated[
        Path | None, typer.Option(help="Hypotheses or scores of the base on the guard set.")
    ] = None,
    guard_after: Annotated[Path | None, typer.Option(help="The same of the fine-tuned model.")] = None,
    split_folder: Annotated[Path | None, typer.Option(help="Folder of train.jsonl and validation.jsonl.")] = None,
    train: Annotated[Path | None, typer.Option(help="Training rows, instead of --split-folder.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Held-out rows, instead of --split-folder.")] = None,
    output_folder: Annotated[Path | None, typer.Option(help="Where to write; by default beside --after.")] = None,
    guard_margin: o.GuardMargin = 0.003,
    guard_upper: o.GuardUpper = 0.01,
    priority: o.Priority = "drug",
    previous: Annotated[
        list[Path] | None, typer.Option(help="decision.json of an earlier cycle; oldest first.")
    ] = None,
    normaliser: Annotated[str, typer.Option(help="clinical-v1 or flywheel-v1; by default that of the scores.")] = "",
    training_run_info: Annotated[
        Path | None, typer.Option(help="Of the fine-tuning; by default beside --after, if it is of that model.")
    ] = None,
) -> None:
    """Did fine-tuning help on what training never heard, and what did it cost in general speech?

    Exit 0 promote, 4 inconclusive, 5 not promoted. Writes comparison.md, .json, .html and decision.json.
    Rows that chose the model, by training_run_info.json, decide nothing.
    `comparison --parity OFFLINE SERVED` is another question: see clinical-asr parity.

    Example: clinical-asr comparison --before baseline_hyps.jsonl --after offline_hyps.jsonl --split-folder benchmark
    --guard-before guard_before.jsonl --guard-after guard_after.jsonl
    """
    from clinical_asr.comparison import compare
    from clinical_asr.config import ComparisonConfig
    from clinical_asr.html_report import write_comparison_html
    from clinical_asr.relocation import seen_from
    from clinical_asr.sides import read_strata
    from clinical_asr.verdict import decide

    folder = o.apart_from_cycles((output_folder or after.parent) / "decision.json", "--output-folder").parent
    config = ComparisonConfig(
        priority_categories=o.categories(priority),
        guard_margin=guard_margin,
        guard_upper=max(guard_upper, guard_margin),
    )
    strata = read_strata(*_sides(split_folder, train, validation))
    (rows_before, signed_before), (rows_after, signed_after) = (read_scored(p, normaliser) for p in (before, after))
    rows_before, rows_after = _without_suspects(split_folder, rows_before, rows_after)
    general, signed_guards = _guards(guard_before, guard_after, normaliser)
    earlier = [read_decision(path) for path in previous or ()]
    info = _story(training_run_info, after.with_name("training_run_info.json"), signed_after)
    selection = _selection(info, strata)
    signatures = (signed_before, signed_after)
    found = compare(
        rows_before, rows_after, strata, general[0], general[1], signatures, config, earlier, selection, signed_guards
    )
    decision = decide(found, earlier)
    sides = (seen_from(after.parent, rows_before, before.parent), rows_after)
    page = folder / "comparison.html"
    write_comparison_html(page, found, decision, *sides, strata=strata, audio_root=after.parent)
    written = [*_write_comparison(folder, found, decision), page]
    show_comparison(found)
    show_decision(decision)
    typer.echo(f"written: {', '.join(map(str, written))}")
    raise typer.Exit(decision.exit_code)


def _without_suspects(folder: Path | None, *sides: list[Score]) -> Iterator[list[Score]]:
    """Both sides without the clips that the cycle in this folder left out of its split; said if there are any."""
    from clinical_asr.cycle import Cycle
    from clinical_asr.round_trip import left_out

    ledger = folder / Cycle(folder).ledger("scores").name if folder else None
    out = left_out(ledger) if ledger and ledger.is_file() else set()
    if out & {row.id for side in sides for row in side}:
        clips = counted(len(out), "clips")
        typer.echo(f"note: left out as in {ledger}: {clips} that speech synthesis seems to have spoilt")
    return ([row for row in side if row.id not in out] for side in sides)


def _guards(before: Path | None, after: Path | None, normaliser: str) -> tuple[Any, Any]:
    """Rows of both guard evaluations, and what they rest on; neither where there is no guard set."""
    from clinical_asr.errors import ConfigError

    if before is None and after is None:
        return ([], []), None
    if before is None or after is None:
        given = "--guard-after" if before is None else "--guard-before"
        raise ConfigError(f"{given} stands alone", "comparison", "give --guard-before and --guard-after")
    rows, signatures = zip(*(read_scored(path, normaliser) for path in (before, after)), strict=True)
    return rows, signatures


def _story(told: Path | None, beside: Path, after: Signature) -> Path | None:
    """How the tuned model was made: what is told, or what lies beside its transcripts and is of that model.

    Raises ConfigError if what is told is of another model.
    """
    from clinical_asr.errors import ConfigError
    from clinical_asr.finetune import model_of

    info = told or beside
    if told is None and not beside.is_file():
        return None
    of = model_of(info)
    if after.model_digest and of.startswith(after.model_digest):  # transcripts name the first 16 digits
        return info
    if told is not None:
        model, heard = of[:12] or "unknown", after.model_digest[:12] or "unknown"
        what = f"is of model {model}, the transcripts after are of {heard}"
        raise ConfigError(what, str(info), "give the training_run_info.json that was written with the tuned model")
    return None


def _selection(info: Path | None, strata: Mapping[str, Stratum]) -> Selection | None:
    """How the tuned model was chosen. Raises ConfigError if it was trained on other rows than the split says."""
    from clinical_asr.finetune import read_selection, require_trained_on

    if info is None:
        typer.echo(
            "note: no training_run_info.json of the tuned model: that it was trained on this split is not proven"
        )
        return None
    require_trained_on(info, strata)
    return read_selection(info)


def _sides(folder: Path | None, train: Path | None, validation: Path | None) -> tuple[Path, Path]:
    from clinical_asr.errors import ConfigError

    if folder and not (train or validation):
        return folder / "train.jsonl", folder / "validation.jsonl"
    if train and validation and not folder:
        return train, validation
    raise ConfigError("cannot tell what was held out", "comparison", "give --split-folder, or --train and --validation")


def _write_comparison(folder: Path, found: Comparison, decision: Decision) -> list[Path]:
    from clinical_asr.jsonl import write_json, write_text
    from clinical_asr.report import comparison_markdown

    markdown, document, verdict = (folder / name for name in ("comparison.md", "comparison.json", "decision.json"))
    write_text(markdown, comparison_markdown(found, decision))
    write_json(document, found)
    write_json(verdict, decision)
    return [markdown, document, verdict]
