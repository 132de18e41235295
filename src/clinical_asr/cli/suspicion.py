"""``clinical-asr suspects``: clips whose sentence no recogniser could hear, found, listened to and cleared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import tell

suspects_app = typer.Typer(help="Clips that the speech engine seems to have spoilt.", no_args_is_help=True)
Hypotheses = Annotated[Path, typer.Argument(help="Hypotheses of one model, JSONL.", metavar="HYPS.jsonl")]
Cleared = Annotated[
    Path | None,
    typer.Option(
        help="Clearances; by default cleared_clips.jsonl beside the suspects; for a cycle's, beside all cycles."
    ),
]


@suspects_app.command("find")
def find(
    hypotheses: Hypotheses,
    output: Annotated[Path | None, typer.Option(help="File of the suspects; by default suspects.jsonl beside.")] = None,
    cleared: Cleared = None,
    kept: Annotated[Path | None, typer.Option(help="Write the hypotheses that count here.")] = None,
    normaliser: o.Normaliser = "clinical-v1",
) -> None:
    """Compare the words around each term with those of its neighbours; list clips to listen to, keep them out.

    Example: clinical-asr suspects find baseline_hyps.jsonl --kept counted_hyps.jsonl
    """
    from clinical_asr import suspects
    from clinical_asr.errors import ManifestError
    from clinical_asr.jsonl import read_rows, write_rows
    from clinical_asr.records import Hypothesis
    from clinical_asr.relocation import seen_from
    from clinical_asr.round_trip import clearances_of, cycle_of
    from clinical_asr.round_trip import cleared as known

    target = o.not_over(output or hypotheses.with_name("suspects.jsonl"), hypotheses)
    if kept:
        o.not_over(kept, hypotheses, target, flag="--kept")
    rows = read_rows(hypotheses, Hypothesis)
    if not rows:
        mend = "transcribe a manifest first: clinical-asr hypotheses"
        raise ManifestError(hypotheses, None, "", "holds no rows", mend)
    found = suspects.find(rows, normaliser)
    judged = cleared or clearances_of(hypotheses if cycle_of(hypotheses.parent) else target)
    left = suspects.standing(found, known(judged))
    write_rows(target, seen_from(target.parent, found, hypotheses.parent))
    for suspect in left:
        tell(f"listen to {hypotheses.parent / suspect.audio_filepath} ({suspect.id}): {suspect.reason}")
    if kept:
        out = {suspect.id for suspect in left}
        counted = [row for row in rows if row.id not in out]
        write_rows(kept, seen_from(kept.parent, counted, hypotheses.parent))
    told = f"{len(rows)} rows = {len(rows) - len(left)} count + {len(left)} excluded"
    typer.echo(f"{target}: {told}; {len(found) - len(left)} cleared")


@suspects_app.command("clear")
def clear(
    suspects_file: Annotated[Path, typer.Argument(help="What suspects find wrote.", metavar="SUSPECTS.jsonl")],
    ids: Annotated[list[str], typer.Argument(help="Ids of clips that you have listened to and found right.")],
    by: Annotated[str, typer.Option(help="Who has listened.")],
    notes: Annotated[str, typer.Option(help="What was heard.")] = "",
    cleared: Cleared = None,
) -> None:
    """Clear clips after listening: they count again. The file of clearances only ever grows.

    Example: clinical-asr suspects clear suspects.jsonl 0123456789abcdef --by "A. Nurse" --notes "all words there"
    """
    from clinical_asr import suspects
    from clinical_asr.jsonl import append_row, read_rows
    from clinical_asr.round_trip import clearances_of

    target = cleared or clearances_of(suspects_file)
    for clearance in suspects.clear(ids, read_rows(suspects_file, suspects.Suspect), by, notes):
        append_row(target, clearance)
    typer.echo(f"{target}: {len(ids)} cleared by {by}")
