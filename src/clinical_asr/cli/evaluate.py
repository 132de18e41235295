"""The commands of the evaluation stages: ``hypotheses`` and ``gate``; ``scores`` and ``leaderboard`` live next door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli import endpoints as e
from clinical_asr.cli import options as o
from clinical_asr.cli.boards import leaderboard
from clinical_asr.cli.console import progress, show_decision, table, tell
from clinical_asr.cli.scored import stream_scored
from clinical_asr.cli.scoring import scores
from clinical_asr.cli.spreading import Model, Ray, RayAddress, Spreading

if TYPE_CHECKING:
    from clinical_asr.boosting import Boosting
    from clinical_asr.hypotheses import Transcriber
    from clinical_asr.records import LedgerEntry, Utterance
    from clinical_asr.workers import Spread

PANEL = "Evaluate"
MILD = 0.5
"""Strength of boosting, if none is given."""
Hypotheses = Annotated[Path, typer.Argument(help="Hypotheses, or scores written before.", metavar="H.jsonl")]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (hypotheses, scores, leaderboard, gate):
        app.command(rich_help_panel=PANEL)(command)


def hypotheses(
    manifest: o.Manifest,
    output: o.Output,
    model: Annotated[str, typer.Option(help="A .nemo file, mini, or a Hugging Face id.")] = "",
    batch_size: Annotated[int, typer.Option(help="Utterances at a time, of similar duration.")] = 128,
    precision: Annotated[str, typer.Option(help="auto (bf16 where the GPU has it), fp32 or bf16.")] = "auto",
    data_root: o.DataRoot = None,
    kind: o.Kind = "auto",
    sha256: o.Sha256 = "",
    boost: Annotated[
        Path | None, typer.Option(help="Terms that the decoder is to lean towards: term,entity_category.")
    ] = None,
    boost_strength: Annotated[float, typer.Option(help="How strongly: 0.5 is mild, 2 invents terms.")] = MILD,
    endpoint: e.Address = "",
    allow: e.Allow = "",
    concurrency: e.Concurrency = 4,
    language: e.Language = "",
    tls: e.Tls = False,
    tls_ca: e.TlsCa = None,
    ray: Ray = "",
    ray_address: RayAddress = "",
) -> None:
    """Transcribe a manifest, keyed by row id; every row's fate stands in a ledger beside the output.

    Rows whose recording cannot be used are failed with the reason; a fault of a row itself stops the command (exit 2).
    The same command again continues, and tries again what failed. With --endpoint a service that speaks
    Riva's protocol is asked instead of a model: answers are journalled and never asked for twice, and what leaves this
    machine is only what --allow names, over TLS, with a receipt of its synthesis. With --boost nothing is trained: a
    transducer's decoder leans towards a list of terms, and the rows say so in the model's name and digest. With --ray
    each GPU or core loads the model and takes batches; a worker that dies loses nothing.

    Example: clinical-asr hypotheses --manifest benchmark/manifest.jsonl --model mini --output baseline_hyps.jsonl

    Example: clinical-asr hypotheses --manifest manifest.jsonl --model mini --boost terms.csv --output boosted.jsonl

    Example: clinical-asr hypotheses --manifest manifest.jsonl --endpoint 127.0.0.1:50051 --output served.jsonl
    """
    from clinical_asr.cli.engines import resolve
    from clinical_asr.cli.manifests import usable_rows
    from clinical_asr.config import TranscriptionConfig
    from clinical_asr.hypotheses import has_failed, require_same, transcribe_rows

    TranscriptionConfig(batch_size=batch_size, precision=precision)  # refused before anything is loaded
    ledger = o.not_over(output, manifest).with_name(f"{output.stem}.ledger.jsonl")
    boosting, spreading = _boosting(boost, boost_strength), Spreading(ray, ray_address)
    if e.is_remote(model, endpoint):
        _refuse_boosting(boosting)
        spreading.refuse("--endpoint", "a service is asked by this process alone")
        where = e.endpoint(endpoint, language, concurrency, tls, tls_ca)
        digest, service = e.remote(where, allow, output)
        recogniser = _asked(service)
    else:
        local = Model(resolve(model, "--model", sha256), _model_name(model), batch_size, precision, boosting)
        digest, recogniser = local.digest, local.recognising(spreading)
    if output.is_file():
        require_same(output, ledger, manifest, digest)
        if not (ledger.is_file() and has_failed(ledger)):
            typer.echo(f"{output}: complete already")
            return
    rows, unheard = usable_rows(manifest, kind, data_root)
    if output.is_file() and not _heard_again(output, rows, unheard):
        return
    folder = manifest.parent.absolute() if spreading.wanted else manifest.parent
    with recogniser as (engine, spread):
        entries = transcribe_rows(rows, folder, engine, output, ledger, progress=progress, spread=spread)
    _tell_fates(output, ledger, entries, unheard)


def _heard_again(output: Path, rows: list[Utterance], unheard: list[LedgerEntry]) -> bool:
    """Whether rows that failed can be tried again, and how many; said before the model is loaded for them."""
    from clinical_asr.hypotheses import lacked, reopen

    again, away = lacked(rows, output), lacked(unheard, output)
    if again:
        reopen(output)
    told = f"rows that failed are tried again: {again}" if again else "complete already"
    still = f"; still without a recording that can be used: {away}" if away else ""
    typer.echo(f"{output}: {told}{still}")
    return again > 0


def _boosting(terms: Path | None, strength: float) -> Boosting | None:
    """What --boost asks for. Raises FlywheelError for a list or a strength that boosts nothing."""
    from clinical_asr.boosting import Boosting
    from clinical_asr.errors import ConfigError
    from clinical_asr.terms import read_terms

    if terms is None and strength != MILD:
        raise ConfigError("boosts nothing without --boost", "--boost-strength", "name the terms: --boost terms.csv")
    return None if terms is None else Boosting(tuple(term.term for term in read_terms(terms)), strength)


def _refuse_boosting(boosting: Boosting | None) -> None:
    from clinical_asr.errors import ConfigError

    if boosting is not None:
        why, mend = "a service's decoder is not boosted from here", "boost the model's file: --model"
        raise ConfigError(why, "--boost and --endpoint", mend)


@contextmanager
def _asked(service: Callable[[], Transcriber]) -> Iterator[tuple[Transcriber, Spread | None]]:
    """A service, asked batch after batch."""
    yield service(), map


def _model_name(model: str) -> str:
    """What stands in signatures: a hub id or ``mini`` as given, a file by its name, whatever bytes that is made of."""
    from clinical_asr.errors import printable

    return printable(Path(model).stem if Path(model).is_file() else model)


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
        tell(f"failed: {entry.audio_filepath or entry.id}: {entry.reason}", err=True)
    if len(failed) > 10:
        typer.echo(f"and {len(failed) - 10} more: see {ledger}", err=True)


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
    scored = stream_scored(path, normaliser)
    decision = decide(build(scored.rows(), scored.signature, about=scored.about), config)
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
