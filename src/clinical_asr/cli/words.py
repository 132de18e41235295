"""The commands of the build stages that deal in words: terms, sentences."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import table, told

terms_app = typer.Typer(help="The clinician's list of terms.", no_args_is_help=True)
TermsFile = Annotated[Path, typer.Argument(help="CSV file with the header term,entity_category.", metavar="TERMS.csv")]


def check_terms(path: TermsFile) -> None:
    """Check a list of terms: columns, the six categories, nothing empty, nothing twice. Exit 2 at the first fault.

    Example: clinical-asr terms check examples/terms.csv
    """
    from clinical_asr.terms import read_terms

    typer.echo(f"{path}: {told(Counter(term.entity_category.value for term in read_terms(path)), 'terms')}")


def list_terms(path: TermsFile) -> None:
    """Show a list of terms, category by category.

    Example: clinical-asr terms list examples/terms.csv
    """
    from rich.markup import escape

    from clinical_asr.records import EntityCategory
    from clinical_asr.terms import read_terms

    terms = read_terms(path)
    groups = {c: [term.term for term in terms if term.entity_category is c] for c in EntityCategory}
    rows = [(c.value, len(names), escape(", ".join(names))) for c, names in groups.items() if names]
    table(f"{len(terms)} terms", ("category", "terms", "which"), rows)


def sentences(
    terms: o.Terms,
    output: o.Output,
    contexts_per_term: Annotated[int, typer.Option(help="Sentences for each term, each in another frame; >= 3.")] = 4,
    seed: o.Seed = 42,
    style: Annotated[
        str, typer.Option(help="lower (bare words) or written (capitals, commas): the base's own.")
    ] = "lower",
    frames: Annotated[Path | None, typer.Option(help="Your own frames, YAML, instead of the package's.")] = None,
) -> None:
    """Write sentences of 10 to 30 words around every term, in several contexts, from frames.

    Example: clinical-asr sentences --terms examples/terms.csv --output sentences.jsonl
    """
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import write_rows
    from clinical_asr.sentences import build_sentences, load_frames
    from clinical_asr.terms import read_terms

    o.not_over(output, terms, frames)
    if style not in ("lower", "written"):
        raise ConfigError(f"{style!r} is no style", "--style", "use lower or written")
    known = load_frames(frames)
    built = build_sentences(read_terms(terms), contexts_per_term, seed, frames=known, style=style)  # type: ignore[arg-type]
    write_rows(output, built)
    typer.echo(f"{output}: {told(Counter(sentence.context_type for sentence in built), 'sentences')}")


terms_app.command("check")(check_terms)
terms_app.command("list")(list_terms)
