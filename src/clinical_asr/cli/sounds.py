"""The commands of the build stage that say how a term sounds: pronunciations, say."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import progress, table, told

if TYPE_CHECKING:
    from clinical_asr.egress import Egress
    from clinical_asr.pronunciations import Candidate, Resolver
    from clinical_asr.records import Pronunciation

KEY = "MERRIAM_WEBSTER_API_KEY"
TRACED = "en-us-r165-p50"  # the accent that suggestions are read in


def pronunciations(
    terms: o.Terms,
    output: o.Output,
    overrides: Annotated[
        Path | None, typer.Option(help="pronunciation_overrides.csv: term,ipa,verified_by,verified_at,notes.")
    ] = None,
    merriam_webster: Annotated[
        bool, typer.Option("--merriam-webster", help=f"Ask Merriam-Webster Medical; your key stands in {KEY}.")
    ] = False,
    allow: Annotated[str, typer.Option(help="Services that this run may send something to: merriam-webster.")] = "",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the dictionary's answers; by default beside the output.")
    ] = None,
) -> None:
    """Say for every term how it is pronounced and who says so: an override, the dictionary, or the engine's own rules.

    Terms left to the engine's rules (g2p) are shown with what their endings suggest; nothing of that is used before a
    person has heard it and written it into the overrides. Only --merriam-webster with --allow leaves this machine.

    Example: clinical-asr pronunciations --terms examples/terms.csv --output pronunciations.jsonl
    """
    from clinical_asr.cli.engines import require_sayable
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import write_rows
    from clinical_asr.pronunciations import read_overrides, resolve
    from clinical_asr.terms import read_terms

    o.not_over(output, terms, overrides)
    egress = o.permitted(allow, output.parent / "egress.jsonl")
    if overrides and not overrides.exists():
        raise ConfigError("no such file", str(overrides), "check the path, or leave --overrides out")
    verified = read_overrides(overrides) if overrides else []
    for override in verified:
        require_sayable(override.ipa)
    listed = read_terms(terms)
    dictionaries = [_dictionary(cache or output.parent, egress)] if merriam_webster else []
    resolved = [said for term in progress(listed, "pronunciations") for said in resolve([term], verified, dictionaries)]
    write_rows(output, resolved)
    _show(resolved)
    typer.echo(f"{output}: {told(Counter(said.ipa_source.value for said in resolved), 'terms')}")


def _dictionary(cache: Path, egress: Egress) -> Resolver:
    """Merriam-Webster, disclosed before anything is sent. Raises ConfigError without a key."""
    from clinical_asr.cli.engines import require_sayable
    from clinical_asr.engines.merriam_webster import MEDICAL, MerriamWebster
    from clinical_asr.errors import ConfigError
    from clinical_asr.pronunciations import from_dictionary

    key = os.environ.get(KEY, "")
    if not key:
        raise ConfigError("no key is set", KEY, "get one for Medical at dictionaryapi.com and export it")
    for line in egress.disclosure():
        typer.echo(f"this run may send {line}")
    address = os.environ.get("MERRIAM_WEBSTER_ADDRESS") or MEDICAL
    return from_dictionary(MerriamWebster(key, cache, egress, address=address), require_sayable)


def _show(resolved: Sequence[Pronunciation]) -> None:
    """A row a term: what is said, who says so; for the engine's own rules, what else there is to hear."""
    from clinical_asr.cli.engines import own_ipa

    rows = []
    for said in resolved:
        beside = [] if said.ipa else [f"{found.ipa} ({found.why})" for found in suggested(said.term)]
        beside += [str(said.extra["note"])] if "note" in said.extra else []
        heard = said.ipa or f"{own_ipa(said.term)} (by rule)"
        rows.append((said.term, said.ipa_source.value, heard, "; ".join(beside)))
    table("pronunciations", ("term", "source", "IPA", "to hear as well"), rows)


def suggested(term: str) -> list[Candidate]:
    """Candidates for a term, each one that the engine can say."""
    from clinical_asr.cli.engines import own_ipa, require_sayable
    from clinical_asr.pronunciations import candidates

    return candidates(term, own_ipa, require_sayable)


def say(
    term: Annotated[str, typer.Argument(help="The term to say.", metavar="TERM")],
    ipa: Annotated[str, typer.Option(help="How to say it; by default the engine's own rules.")] = "",
    voice: Annotated[str, typer.Option(help="Voice id of eSpeak NG.")] = TRACED,
    output: Annotated[Path | None, typer.Option(help="WAV file to write.")] = None,
) -> None:
    """Say one term: show its IPA as the engine traces it, what its ending suggests, and write a WAV to listen to.

    Example: clinical-asr say pantoprazole --ipa pænˈtoʊpɹəzoʊl --output pantoprazole.wav
    """
    import numpy as np

    from clinical_asr import wav
    from clinical_asr.cli.engines import markup, synthesiser, traced
    from clinical_asr.jsonl import atomic_path

    spoken = markup()(term, {term: ipa} if ipa else {})
    heard = traced(spoken, voice)
    typer.echo(f"{term}: asked for {ipa}, said {heard}" if ipa else f"{term}: said {heard} by the engine's own rules")
    for found in suggested(term):
        typer.echo(f"  try --ipa {found.ipa}   {found.why}")
    if output:
        samples = np.round(np.clip(synthesiser()(spoken, voice), -1, 1) * 32767).astype(np.int16)
        with atomic_path(output) as part:
            wav.write(part, wav.encoded(samples))
        typer.echo(f"{output}: listen to it")
