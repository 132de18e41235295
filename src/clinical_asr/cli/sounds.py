"""The commands of the build stage that says how a term sounds: pronunciations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import told


def pronunciations(
    terms: o.Terms,
    output: o.Output,
    overrides: Annotated[
        Path | None, typer.Option(help="pronunciation_overrides.csv: term,ipa,verified_by,verified_at,notes.")
    ] = None,
) -> None:
    """Say for every term how it is pronounced and who says so: an override, or the speech engine's own rules (g2p).

    Example: clinical-asr pronunciations --terms examples/terms.csv --output pronunciations.jsonl
    """
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import write_rows
    from clinical_asr.pronunciations import read_overrides, resolve
    from clinical_asr.terms import read_terms

    o.not_over(output, terms, overrides)
    if overrides and not overrides.is_file():
        raise ConfigError("no such file", str(overrides), "check the path, or leave --overrides out")
    resolved = resolve(read_terms(terms), read_overrides(overrides) if overrides else ())
    write_rows(output, resolved)
    typer.echo(f"{output}: {told(Counter(said.ipa_source.value for said in resolved), 'terms')}")
