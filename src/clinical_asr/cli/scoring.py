"""The command ``scores``: any transcripts against their references, and against a list of terms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import table, tell
from clinical_asr.cli.scored import signature_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clinical_asr.records import Hypothesis, Term
    from clinical_asr.scores import Signing
    from clinical_asr.summary import ScoreSummary, TermTotals
    from clinical_asr.tally import Score

    ScoredTexts = tuple[Score, str, str]


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
    from clinical_asr.scores import RowError
    from clinical_asr.terms import read_terms

    for flag, target in (("--json", json), ("--output", output)):
        if target:
            o.not_over(target, path, reference, hypothesis, terms, flag=flag)
    rows = _transcripts(path, reference, hypothesis)
    listed = read_terms(terms) if terms else None
    try:
        summary = summarised(rows, listed, normaliser, output, (path or output or Path()).parent)
    except RowError as error:
        raise error.within(path or reference) from None
    if json:
        write_json(json, summary)
    _show_summary(summary)
    for target in filter(None, (json, output)):
        typer.echo(f"written: {target}")


def _transcripts(path: Path | None, reference: Path | None, hypothesis: Path | None) -> Iterable[Hypothesis]:
    """The rows; those of one file are read as they are asked for."""
    from clinical_asr.errors import ConfigError
    from clinical_asr.transcripts import iter_transcripts, read_pairs

    if path and not (reference or hypothesis):
        return iter_transcripts(path)
    if reference and hypothesis and not path:
        return read_pairs(reference, hypothesis)
    mend = "give one H.jsonl, or both --reference and --hypothesis"
    raise ConfigError("cannot tell which transcripts are meant", "scores", mend)


def summarised(
    rows: Iterable[Hypothesis], terms: list[Term] | None, normaliser: str, output: Path | None, home: Path
) -> ScoreSummary:
    """Score each row once: counted and, with ``output``, written as it passes, with the signature beside it.

    ``home`` is where relative audio paths start; in the output they start at its own folder.
    """
    from clinical_asr.relocation import iter_seen_from
    from clinical_asr.scores import Signing, iter_scored_texts
    from clinical_asr.summary import summary_of

    if output is None:
        return summary_of(iter_scored_texts(rows, normaliser), terms, normaliser)
    signing = Signing(normaliser)
    scored = iter_scored_texts(signing.watch(iter_seen_from(output.parent, rows, home)), normaliser)
    return summary_of(_written(output, scored, signing), terms, normaliser)


def _written(output: Path, scored: Iterable[ScoredTexts], signing: Signing) -> Iterator[ScoredTexts]:
    """The same, each row written on its way; their signature stands before the rows do."""
    from clinical_asr.jsonl import write_json, writing

    def sign() -> None:
        signature = signing.signature()
        output.unlink(missing_ok=True)  # rows of an earlier run must never stand beside the new signature
        write_json(signature_of(output), signature)

    return writing(output, scored, lambda one: one[0], sign)


def _show_summary(found: ScoreSummary) -> None:
    from clinical_asr.markdown import interval, percent

    terms, rows = found.terms, "1 row" if found.rows == 1 else f"{found.rows} rows"
    lines = [
        ("WER", percent(found.wer), f"{found.words} words"),
        ("CER", percent(found.cer), f"{found.characters} characters"),
        ("SER", percent(found.ser), rows),
        ("KER", percent(found.ker), f"{terms.misses} of {terms.occurrences} missed"),
        ("KER with variants", percent(terms.variant_ker), f"{terms.variant_hits} heard, other spellings counted"),
        ("KER 95 %", interval(terms.ker_low, terms.ker_high) or "–", ""),
        ("term precision", percent(terms.precision), f"{terms.false_insertions} heard unsaid, {found.counting}"),
    ]
    table(f"{rows}, {found.normaliser}", ("rate", "value", "of"), lines)
    worst = _worst(found.by_term)
    by_term = "by term" if len(worst) == len(found.by_term) else f"worst {len(worst)} of {len(found.by_term)} terms"
    for title, groups in (("by category", found.by_category), (by_term, worst)):
        if groups:
            header = (title, "said", "missed", "KER", "false insertions", "precision")
            table("", header, [(name, *_cells(one)) for name, one in groups.items()])
    for line in found.confusions[:5]:
        heard = line.heard or "nothing"
        tell(f"{line.kind}: {line.term} heard as {heard}, {line.count} times")
    for number in found.numbers:
        if number.errors:
            typer.echo(f"numbers, {number.kind}: {number.errors} errors in {number.length}")


def _worst(by_term: dict[str, TermTotals]) -> dict[str, TermTotals]:
    """The ten worst of the terms that were said or heard."""
    seen = [(name, one) for name, one in by_term.items() if one.occurrences or one.false_insertions]
    seen.sort(key=lambda pair: (-(pair[1].ker or 0), -pair[1].false_insertions, pair[0]))
    return dict(seen[:10])


def _cells(one: TermTotals) -> tuple[object, ...]:
    from clinical_asr.markdown import percent

    return one.occurrences, one.misses, percent(one.ker), one.false_insertions, percent(one.precision)
