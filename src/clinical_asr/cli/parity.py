"""``clinical-asr parity``: offline transcripts against served ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import progress, show_decision, table, tell

if TYPE_CHECKING:
    from clinical_asr.parity import Parity

SHOWN = 10


def parity(
    offline: Annotated[Path, typer.Argument(help="Hypotheses of the model in memory.", metavar="OFFLINE.jsonl")],
    served: Annotated[Path, typer.Argument(help="Hypotheses of the service.", metavar="SERVED.jsonl")],
    model: Annotated[str, typer.Option(help="Model to hear differing rows again with, to find the cause.")] = "",
    tolerance: Annotated[float, typer.Option(help="Share of rows (0 to 1) that may differ after normalisation.")] = 0.0,
    normaliser: o.Normaliser = "clinical-v1",
    output: Annotated[Path | None, typer.Option(help="Decision, JSON; by default parity.json beside SERVED.")] = None,
) -> None:
    """Does a service hear what the model hears offline? Exit 0 if so within the tolerance, 5 if not.

    Rows are paired by id. With --model each differing row is heard again under one change at a time (batching,
    precision, audio conversion), and the change that gives the served text is named.

    Example: clinical-asr parity offline_hyps.jsonl served.jsonl --model mini
    """
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import read_rows, write_json
    from clinical_asr.parity import compare, verdict
    from clinical_asr.records import Hypothesis

    if not 0 <= tolerance <= 1:
        raise ConfigError("is a share from 0 to 1", "--tolerance")
    target = o.not_over(output or served.with_name("parity.json"), offline, served)
    found = compare(read_rows(offline, Hypothesis), read_rows(served, Hypothesis), normaliser)
    if model:
        found = _sought(found, model, offline.parent, served.parent)
    decision = verdict(found, tolerance)
    write_json(target, decision)
    _show(found)
    show_decision(decision)
    typer.echo(f"written: {target}")
    raise typer.Exit(decision.exit_code)


def _sought(found: Parity, model: str, *folders: Path) -> Parity:
    """The same with causes, after hearing the differing rows again."""
    from clinical_asr.cli.engines import resolve, transcriber
    from clinical_asr.engines.nemo_asr import NemoTranscriber
    from clinical_asr.engines.nemo_variants import variants
    from clinical_asr.parity import BASELINE, explained, sought
    from clinical_asr.speech import read_speech

    rows = sought(found)
    if not rows:
        return found
    path = resolve(model, "--model")
    speech = {row.id: read_speech(_audio(row.audio_filepath, folders)) for row in rows}
    decoder = transcriber(path)
    assert isinstance(decoder, NemoTranscriber)
    under = variants(decoder, BASELINE)
    heard = {name: under[name](speech) for name in progress(list(under), "hearing again")}
    return explained(found, heard)


def _audio(path: str, folders: tuple[Path, ...]) -> Path:
    """The recording, seen from the folder of either file."""
    return next((folder / path for folder in folders if (folder / path).is_file()), folders[0] / path)


def _show(found: Parity) -> None:
    from clinical_asr.parity import MEANINGS

    if found.causes:
        lines = [(cause, count, MEANINGS.get(cause, "")) for cause, count in found.causes.items()]
        table("where they differ", ("cause", "rows", "meaning"), lines)
    for row in found.differences[:SHOWN]:
        for line in (f"{row.id} ({row.cause})", f"  offline: {row.offline}", f"  served:  {row.served}"):
            tell(line)
    if len(found.differences) > SHOWN:
        typer.echo(f"and {len(found.differences) - SHOWN} more")
