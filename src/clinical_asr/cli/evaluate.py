"""The commands of the evaluation stages: hypotheses, scores, leaderboard, gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import progress, show_decision, table
from clinical_asr.cli.scored import read_scored, signature_of, with_strata

if TYPE_CHECKING:
    from clinical_asr.leaderboard import Standing
    from clinical_asr.records import Hypothesis, LedgerEntry
    from clinical_asr.summary import ScoreSummary, TermTotals
    from clinical_asr.tally import Leaderboard, Score, Signature

PANEL = "Evaluate"
Hypotheses = Annotated[Path, typer.Argument(help="Hypotheses, or scores written before.", metavar="H.jsonl")]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (hypotheses, scores, leaderboard, gate):
        app.command(rich_help_panel=PANEL)(command)


def hypotheses(
    manifest: o.Manifest,
    model: Annotated[str, typer.Option(help="A .nemo file, mini, or a Hugging Face id.")],
    output: o.Output,
    batch_size: Annotated[int, typer.Option(help="Utterances at a time, of similar duration.")] = 32,
    precision: Annotated[str, typer.Option(help="auto (bf16 where the GPU has it), fp32 or bf16.")] = "auto",
    data_root: o.DataRoot = None,
    kind: o.Kind = "auto",
) -> None:
    """Transcribe a manifest, keyed by row id; every row's fate stands in a ledger beside the output.

    Rows whose recording cannot be used are failed with the reason; a fault of a row itself stops the command (exit 2).
    The same command again continues; an output that is there is complete.

    Example: clinical-asr hypotheses --manifest benchmark/manifest.jsonl --model mini --output baseline_hyps.jsonl
    """
    from clinical_asr.bases import base_digest
    from clinical_asr.cli.engines import resolve, transcriber
    from clinical_asr.cli.manifests import usable_rows
    from clinical_asr.config import TranscriptionConfig
    from clinical_asr.hypotheses import transcribe_rows

    TranscriptionConfig(batch_size=batch_size, precision=precision)  # refused before anything is loaded
    ledger = o.not_over(output, manifest).with_name(f"{output.stem}.ledger.jsonl")
    path = resolve(model, "--model")
    if output.is_file():
        _require_same(output, ledger, manifest, base_digest(path))
        typer.echo(f"{output}: complete already")
        return
    rows, unheard = usable_rows(manifest, kind, data_root)
    engine = transcriber(path, _model_name(model), batch_size, precision)
    entries = transcribe_rows(rows, manifest.parent, engine, output, ledger, progress=progress)
    _tell_fates(output, ledger, entries, unheard)


def _model_name(model: str) -> str:
    """What stands in signatures: a hub id or ``mini`` as given, a file by its name."""
    return Path(model).stem if Path(model).is_file() else model


def _require_same(output: Path, ledger: Path, manifest: Path, digest: str) -> None:
    """Raises ConfigError if a finished output is another model's or of another manifest."""
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import iter_objects, iter_rows
    from clinical_asr.records import Hypothesis

    mend = "name another output, or delete it"
    for row in iter_rows(output, Hypothesis):
        if row.model_digest != digest[:16]:
            raise ConfigError(f"is the work of another model ({row.model} {row.model_digest})", str(output), mend)
    if ledger.is_file():
        here, there = sum(1 for _ in iter_objects(ledger)), sum(1 for _ in iter_objects(manifest))
        if here != there:
            raise ConfigError(f"accounts for {here} rows, the manifest has {there}", str(output), mend)


def _tell_fates(output: Path, ledger: Path, entries: list[LedgerEntry], unheard: list[LedgerEntry]) -> None:
    """Complete the ledger with the rows that were never transcribed, and say how every row ended."""
    from clinical_asr.cycle import account
    from clinical_asr.jsonl import write_rows

    everything = [*entries, *unheard]
    write_rows(ledger, everything)
    counts = account("hypotheses", [entry.id for entry in everything], everything)
    told = " + ".join(f"{n} {outcome.value}" for outcome, n in sorted(counts.items(), reverse=True))
    typer.echo(f"{output}: {len(everything)} rows = {told}")
    failed = [entry for entry in everything if entry.reason]
    for entry in failed[:10]:
        typer.echo(f"failed: {entry.audio_filepath or entry.id}: {entry.reason}", err=True)
    if len(failed) > 10:
        typer.echo(f"and {len(failed) - 10} more: see {ledger}", err=True)


def scores(
    path: Annotated[
        Path | None, typer.Argument(help="Ours or NeMo's text / pred_text JSONL.", metavar="H.jsonl")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="References: a folder, a text file, or JSONL with ids.")
    ] = None,
    hypothesis: Annotated[Path | None, typer.Option(help="Hypotheses, in the same form as --reference.")] = None,
    terms: Annotated[
        Path | None, typer.Option(help="term,entity_category[,variants]: count every listed term everywhere.")
    ] = None,
    normaliser: o.Normaliser = "clinical-v1",
    json: Annotated[Path | None, typer.Option(help="Write all numbers here, JSON.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the counts of each row here, JSONL.")] = None,
) -> None:
    """Score transcripts: WER, CER, SER, KER, false insertions, confusions, numbers. Nothing is paired by position.

    Folders pair by file stem, JSONL by id; only two text files of equal length pair line by line.

    Example: clinical-asr scores baseline_hyps.jsonl --terms examples/terms.csv --json scores.json
    """
    from clinical_asr.jsonl import write_json
    from clinical_asr.relocation import seen_from
    from clinical_asr.summary import summarise
    from clinical_asr.terms import read_terms

    for target in filter(None, (json, output)):
        o.not_over(target, path, reference, hypothesis, terms)
    rows = _transcripts(path, reference, hypothesis)
    summary = summarise(rows, read_terms(terms) if terms else None, normaliser)
    if output:
        _write_scores(output, seen_from(output.parent, rows, (path or output).parent), normaliser)
    if json:
        write_json(json, summary)
    _show_summary(summary)
    for target in filter(None, (json, output)):
        typer.echo(f"written: {target}")


def _transcripts(path: Path | None, reference: Path | None, hypothesis: Path | None) -> list[Hypothesis]:
    from clinical_asr.errors import ConfigError
    from clinical_asr.transcripts import read_pairs, read_transcripts

    if path and not (reference or hypothesis):
        return read_transcripts(path)
    if reference and hypothesis and not path:
        return read_pairs(reference, hypothesis)
    mend = "give one H.jsonl, or both --reference and --hypothesis"
    raise ConfigError("cannot tell which transcripts are meant", "scores", mend)


def _write_scores(output: Path, rows: list[Hypothesis], normaliser: str) -> None:
    """Counts of each row, and beside them what they rest on."""
    from clinical_asr.jsonl import write_json, write_rows
    from clinical_asr.scores import score, signature

    write_json(signature_of(output), signature(rows, normaliser))
    write_rows(output, score(rows, normaliser))


def _show_summary(found: ScoreSummary) -> None:
    from rich.markup import escape

    from clinical_asr.report import interval, percent

    terms = found.terms
    lines = [
        ("WER", percent(found.wer), f"{found.words} words"),
        ("CER", percent(found.cer), f"{found.characters} characters"),
        ("SER", percent(found.ser), f"{found.rows} rows"),
        ("KER", percent(found.ker), f"{terms.misses} of {terms.occurrences} missed"),
        ("KER with variants", percent(terms.variant_ker), f"{terms.variant_hits} heard, other spellings counted"),
        ("KER 95 %", interval(terms.ker_low, terms.ker_high) or "–", ""),
        ("term precision", percent(terms.precision), f"{terms.false_insertions} heard that nobody said"),
    ]
    table(f"{found.rows} rows, {found.normaliser}", ("rate", "value", "of"), lines)
    for title, groups in (("by category", found.by_category), ("by term, worst first", _worst(found.by_term))):
        if groups:
            header = (title, "said", "missed", "KER", "false insertions", "precision")
            table("", header, [(escape(name), *_cells(one)) for name, one in groups.items()])
    for line in found.confusions[:5]:
        heard = line.heard or "nothing"
        typer.echo(f"{line.kind}: {line.term} heard as {heard}, {line.count} times")
    for number in found.numbers:
        if number.errors:
            typer.echo(f"numbers, {number.kind}: {number.errors} errors in {number.length}")


def _worst(by_term: dict[str, TermTotals]) -> dict[str, TermTotals]:
    """The ten worst of the terms that were said or heard."""
    seen = [(name, one) for name, one in by_term.items() if one.occurrences or one.false_insertions]
    seen.sort(key=lambda pair: (-(pair[1].ker or 0), -pair[1].false_insertions, pair[0]))
    return dict(seen[:10])


def _cells(one: TermTotals) -> tuple[object, ...]:
    from clinical_asr.report import percent

    return one.occurrences, one.misses, percent(one.ker), one.false_insertions, percent(one.precision)


def leaderboard(
    paths: Annotated[
        list[Path], typer.Argument(help="Hypotheses or scores; several are ranked.", metavar="H.jsonl...")
    ],
    output_folder: Annotated[
        Path | None, typer.Option(help="Where to write; by default beside the first file.")
    ] = None,
    cycle: Annotated[int, typer.Option(help="Number of the evaluation; it is in the file names and in the route.")] = 1,
    split_folder: Annotated[
        Path | None, typer.Option(help="Folder of train.jsonl and validation.jsonl: KER by what training has seen.")
    ] = None,
    priority: o.Priority = "drug",
    normaliser: Annotated[str, typer.Option(help="clinical-v1 or flywheel-v1; by default that of the scores.")] = "",
) -> None:
    """One file: the five sections, the route from here, Markdown, JSON and HTML. Several: a ranking on identical rows.

    Example: clinical-asr leaderboard baseline_hyps.jsonl --priority drug,procedure
    """
    folder = output_folder or paths[0].parent
    systems = [(path, *read_scored(path, normaliser)) for path in paths]
    if split_folder:
        systems = [(path, with_strata(rows, split_folder), signature) for path, rows, signature in systems]
    if len(systems) > 1:
        _rank(systems, folder)
        return
    _one_board(*systems[0], folder / f"leaderboard_cycle{cycle}", cycle, priority)


def _one_board(path: Path, rows: list[Score], signature: Signature, stem: Path, cycle: int, priority: str) -> None:
    from clinical_asr.config import GateConfig
    from clinical_asr.gate import route
    from clinical_asr.html_report import write_leaderboard_html
    from clinical_asr.jsonl import write_json, write_text
    from clinical_asr.leaderboard import leaderboard as build
    from clinical_asr.report import leaderboard_markdown

    config = GateConfig(priority_categories=o.categories(priority))
    board = build(rows, signature)
    decision = route(board, cycle, config)
    write_text(stem.with_suffix(".md"), leaderboard_markdown(board, decision))
    write_json(stem.with_suffix(".json"), board)
    write_leaderboard_html(stem.with_suffix(".html"), board, rows, decision, audio_root=path.parent)
    _show_board(board)
    show_decision(decision)
    typer.echo(f"written: {stem}{{.md,.json,.html}}")


def _show_board(board: Leaderboard) -> None:
    from clinical_asr.report import interval, percent

    rows = [
        (line.key, line.rows, line.terms, percent(line.ker), interval(line.ker_low, line.ker_high), percent(line.wer))
        for line in (board.headline, *board.by_entity_category)
    ]
    title = f"{board.signature.model or 'unnamed model'}, {board.signature.normaliser}"
    table(title, ("category", "rows", "terms", "KER", "95 % interval", "WER"), rows)


def _rank(systems: list[tuple[Path, list[Score], Signature]], folder: Path) -> None:
    from clinical_asr.jsonl import write_json, write_text
    from clinical_asr.leaderboard import rank
    from clinical_asr.report import percent, ranking_markdown

    names = _names(systems)
    ranking = rank([(name, rows, signature) for name, (_, rows, signature) in zip(names, systems, strict=True)])
    write_text(folder / "ranking.md", ranking_markdown(ranking))
    write_json(folder / "ranking.json", ranking)
    header = ("", "system", "KER", "WER", "KER against the best", "p (Holm)")
    shown = [(s.place, s.name, percent(s.ker), percent(s.wer), _against(s), _p(s.p_holm)) for s in ranking.standings]
    table(f"{len(names)} systems on {ranking.standings[0].rows} identical rows", header, shown)
    typer.echo(f"written: {folder / 'ranking'}{{.md,.json}}")


def _against(standing: Standing) -> str:
    from clinical_asr.report import interval, signed

    if standing.difference is None:
        return ""
    return f"{signed(standing.difference)} [{interval(standing.low, standing.high)}]"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _names(systems: list[tuple[Path, list[Score], Signature]]) -> list[str]:
    """Model names where they differ, else file stems, else paths."""
    candidates: list[list[str]] = [
        [signature.model for _, _, signature in systems],
        [path.stem for path, _, _ in systems],
    ]
    for names in candidates:
        if all(names) and len(set(names)) == len(names):
            return names
    return [str(path) for path, _, _ in systems]


def gate(
    path: Hypotheses,
    priority: o.Priority = "drug",
    tune_above: Annotated[float, typer.Option(help="Priority KER (0 to 1) above which fine-tuning is worth it.")] = 0.3,
    min_rows: Annotated[int, typer.Option(help="Rows the whole manifest needs.")] = 100,
    min_rows_per_category: Annotated[int, typer.Option(help="Rows each priority category needs.")] = 5,
    output: Annotated[Path | None, typer.Option(help="Decision, JSON; by default gate.json beside the input.")] = None,
    normaliser: Annotated[str, typer.Option(help="clinical-v1 or flywheel-v1; by default that of the scores.")] = "",
) -> None:
    """May fine-tuning start? Exit 0 if so, 3 if the cycle goes back to the stage it names.

    Example: clinical-asr gate baseline_hyps.jsonl --priority drug,procedure --output gate.json
    """
    from clinical_asr.config import GateConfig
    from clinical_asr.gate import gate as decide
    from clinical_asr.jsonl import write_json
    from clinical_asr.leaderboard import leaderboard as build

    config = GateConfig(
        priority_categories=o.categories(priority), tune_above=tune_above, saturated_below=min(0.1, tune_above),
        min_rows=min_rows, min_rows_per_category=min_rows_per_category,
    )  # fmt: skip
    target = o.not_over(output or path.with_name("gate.json"), path)
    decision = decide(build(*read_scored(path, normaliser)), config)
    write_json(target, decision)
    _show_conditions(decision.evidence["conditions"])
    show_decision(decision)
    typer.echo(f"written: {target}")
    raise typer.Exit(decision.exit_code)


def _show_conditions(conditions: list[dict[str, Any]]) -> None:
    rows = [
        ("[green]yes[/]" if c["ok"] else "[red]no[/]", c["condition"], _number(c["number"]), c["needed"])
        for c in conditions
    ]
    table("", ("met", "condition", "is", "needed"), rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}" if float(value).is_integer() else f"{value:.3f}"
