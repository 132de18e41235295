"""The command ``leaderboard``: one system's sections and where they lead, or several ranked on identical rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import show_decision, table, tell
from clinical_asr.cli.scored import stream_scored, with_strata

if TYPE_CHECKING:
    from clinical_asr.cli.scored import Scored
    from clinical_asr.ranking import Standing, System
    from clinical_asr.records import Term
    from clinical_asr.tally import Leaderboard


def leaderboard(
    paths: Annotated[
        list[Path], typer.Argument(help="Hypotheses or scores; several are ranked.", metavar="H.jsonl...")
    ],
    output_folder: Annotated[
        Path | None, typer.Option(help="Where to write; by default beside the first file.")
    ] = None,
    cycle: Annotated[int, typer.Option(help="Number of the evaluation; it stands in the file names.")] = 1,
    split_folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder of train.jsonl and validation.jsonl: KER by what training has seen; ranks held-out rows."
        ),
    ] = None,
    terms: Annotated[
        Path | None, typer.Option(help="term,entity_category,variants: other spellings, counted beside strict KER.")
    ] = None,
    priority: o.Priority = "drug",
    normaliser: Annotated[str, typer.Option(help="clinical-v1 or flywheel-v1; by default that of the scores.")] = "",
) -> None:
    """One file: the five sections, and where they lead. Several: a ranking on identical rows. Markdown, JSON and HTML.

    With --split-folder a ranking rests on the rows that the split holds out: a system tuned on the others knows them.

    Example: clinical-asr leaderboard baseline_hyps.jsonl --priority drug,procedure
    """
    from clinical_asr.terms import read_terms

    folder = output_folder or paths[0].parent
    if len(paths) == 1:
        o.apart_from_cycles(_stem(folder, cycle).with_suffix(".json"), "--output-folder")
    listed = read_terms(terms) if terms else None
    systems = [stream_scored(path, normaliser) for path in paths]
    if split_folder:
        systems = [with_strata(system, split_folder) for system in systems]
    if terms and listed:
        _refuse_another_list(terms, listed, systems)
    if len(systems) > 1:
        _rank(systems, folder, listed, held_out=split_folder is not None)
        return
    _one_board(systems[0], _stem(folder, cycle), cycle, priority, listed)


def _stem(folder: Path, cycle: int) -> Path:
    return folder / f"leaderboard_cycle{cycle}"


def _refuse_another_list(path: Path, listed: list[Term], systems: list[Scored]) -> None:
    """Here rather than where the list is used: here its file has a name."""
    from clinical_asr.variants import Variants

    for system in systems:
        scored = sorted({row.term for row in system.about})
        Variants(listed, system.signature.normaliser).refuse_strangers(scored, str(path))


def _one_board(system: Scored, stem: Path, cycle: int, priority: str, terms: list[Term] | None) -> None:
    from clinical_asr.config import GateConfig
    from clinical_asr.html_report import PageRows, write_page
    from clinical_asr.jsonl import write_json, write_text
    from clinical_asr.leaderboard import leaderboard as build
    from clinical_asr.mishearings import ListedTerms
    from clinical_asr.report import leaderboard_markdown
    from clinical_asr.triage import triage

    config, page = GateConfig(priority_categories=o.categories(priority)), PageRows()
    board = build(page.watch(system.rows()), system.signature, terms=terms, about=system.about)
    decision = triage(board, cycle, config)
    listed = ListedTerms(system.about, system.signature.normaliser)
    write_text(stem.with_suffix(".md"), leaderboard_markdown(board, decision))
    write_json(stem.with_suffix(".json"), board)
    write_page(stem.with_suffix(".html"), board, page, listed, decision, audio_root=system.path.parent)
    _show_board(board)
    show_decision(decision)
    typer.echo(f"written: {stem}{{.md,.json,.html}}")


def _show_board(board: Leaderboard) -> None:
    from clinical_asr.markdown import interval, percent

    rows = [
        (line.key, line.rows, line.terms, percent(line.ker), interval(line.ker_low, line.ker_high), percent(line.wer))
        for line in (board.headline, *board.by_entity_category)
    ]
    title = f"{board.signature.model or 'unnamed model'}, {board.signature.normaliser}"
    table(title, ("category", "rows", "terms", "KER", "95 % interval", "WER"), rows)


def _rank(systems: list[Scored], folder: Path, terms: list[Term] | None, held_out: bool) -> None:
    from clinical_asr.html_ranking import write_ranking_html
    from clinical_asr.jsonl import write_json, write_text
    from clinical_asr.markdown import percent
    from clinical_asr.ranking import on_held_out, rank
    from clinical_asr.ranking_report import ranking_markdown

    names = _names(systems)
    named: list[System] = [(name, list(one.rows()), one.signature) for name, one in zip(names, systems, strict=True)]
    named, left_out = on_held_out(named) if held_out else (named, 0)
    ranking = rank(named, terms, left_out)
    write_text(folder / "ranking.md", ranking_markdown(ranking))
    write_json(folder / "ranking.json", ranking)
    write_ranking_html(folder / "ranking.html", ranking, named, audio_root=systems[0].path.parent)
    header = ("", "system", "KER", "WER", f"{ranking.metric.upper()} against the best", "p (Holm)")
    shown = [(s.place, s.name, percent(s.ker), percent(s.wer), _against(s), _p(s)) for s in ranking.standings]
    table(f"{len(names)} systems on {ranking.standings[0].rows} identical rows", header, shown)
    tell(ranking.note)
    typer.echo(f"written: {folder / 'ranking'}{{.md,.json,.html}}")


def _against(standing: Standing) -> str:
    from clinical_asr.markdown import interval, signed

    if standing.difference is None:
        return ""
    return f"{signed(standing.difference)} [{interval(standing.low, standing.high)}]"


def _p(standing: Standing) -> str:
    from clinical_asr.markdown import p_value

    return p_value(standing.p_holm)


def _names(systems: list[Scored]) -> list[str]:
    """Model names where they differ, else file stems, else paths."""
    from clinical_asr.errors import printable

    candidates: list[list[str]] = [
        [system.signature.model for system in systems],
        [printable(system.path.stem) for system in systems],
    ]
    for names in candidates:
        if all(names) and len(set(names)) == len(names):
            return names
    return [printable(str(system.path)) for system in systems]
