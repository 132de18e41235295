"""``clinical-asr manifest check`` and ``manifest rewrite``, and the check that every other command begins with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import progress

if TYPE_CHECKING:
    from clinical_asr.manifest import ManifestReport
    from clinical_asr.records import LedgerEntry, Utterance

manifest_app = typer.Typer(help="Check a manifest, or move it to another host.", no_args_is_help=True)
ManifestFile = Annotated[Path, typer.Argument(help="NeMo manifest, JSONL.", metavar="MANIFEST.jsonl")]
SHOWN = 50  # problems or warnings; more are counted
SHOWN_IN_PASSING = 10  # by a command that was asked for something else


@manifest_app.command("check")
def check(
    manifest: ManifestFile,
    kind: o.Kind = "auto",
    data_root: o.DataRoot = None,
    output: Annotated[Path | None, typer.Option(help="Write the rows here, each with its id, if none failed.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Write every line's fate here, JSONL.")] = None,
) -> None:
    """Check every field of every line and decode every recording. Exit 2 if anything is wrong; all of it is listed.

    Example: clinical-asr manifest check benchmark/manifest.jsonl --output checked.jsonl
    """
    from clinical_asr.jsonl import write_rows
    from clinical_asr.relocation import seen_from

    for flag, path in (("--output", output), ("--ledger", ledger)):
        if path:
            o.not_over(path, manifest, flag=flag)
    report = examined(manifest, kind, data_root)
    if ledger:
        write_rows(ledger, report.entries)
    show_findings(report)
    typer.echo(f"{manifest}: {_counts(report)}")
    if not report.ok:
        raise typer.Exit(2)
    if output:
        write_rows(output, seen_from(output.parent, report.rows, manifest.parent))
        typer.echo(f"written: {output}")


@manifest_app.command("rewrite")
def rewrite(
    manifest: ManifestFile,
    from_prefix: Annotated[str, typer.Option("--from", help="Leading folders of the audio paths now.")],
    to_prefix: Annotated[str, typer.Option("--to", help="Leading folders that replace them.")],
    output: o.Output,
    force: Annotated[bool, typer.Option(help="Overwrite the output if it is there.")] = False,
) -> None:
    """Write a copy whose audio paths begin elsewhere; the original is untouched. Check the copy where its audio lies.

    Example: clinical-asr manifest rewrite m.jsonl --from /data --to /workspace/data --output container.jsonl
    """
    from clinical_asr.cycle import account
    from clinical_asr.relocation import rewrite as relocate

    done = relocate(manifest, o.apart_from_cycles(output), from_prefix, to_prefix, force=force)
    account("manifest rewrite", done.declared, done.entries)
    lines = ", ".join(map(str, done.unmatched[:10])) + (", ..." if len(done.unmatched) > 10 else "")
    kept = f"; {len(done.unmatched)} copied unchanged (line {lines})" if done.unmatched else ""
    typer.echo(f"{output}: {len(done.entries)} rows = {done.count} rewritten + {len(done.unmatched)} unchanged{kept}")


def examined(manifest: Path, kind: str = "auto", data_root: Path | None = None) -> ManifestReport:
    """Check a manifest with a progress bar; the entries add up. Raises ConfigError for an unknown kind."""
    from clinical_asr.cycle import account
    from clinical_asr.errors import ConfigError
    from clinical_asr.manifest import check as check_manifest
    from clinical_asr.records import ClinicalUtterance, Utterance

    if kind not in ("auto", "clinical", "general"):
        raise ConfigError(f"{kind!r} is no kind of manifest", "--kind", "use auto, clinical or general")
    clinical = kind == "clinical" or (kind == "auto" and _looks_clinical(manifest))
    report = check_manifest(manifest, ClinicalUtterance if clinical else Utterance, data_root, progress=progress)
    account("manifest check", report.declared, report.entries)
    return report


def _looks_clinical(manifest: Path) -> bool:
    """True if the first row has a field of the clinical extension; a file that cannot be read is judged later."""
    from clinical_asr.errors import ManifestError
    from clinical_asr.jsonl import iter_objects

    try:
        _, first = next(iter_objects(manifest), (0, {}))
    except ManifestError:
        return True
    return bool({"term", "entity_category", "ipa_source"} & first.keys())


def checked_rows(manifest: Path, kind: str = "auto", data_root: Path | None = None) -> list[Utterance]:
    """Rows of a manifest without any fault; else all that is wrong is listed and the command ends (exit 2)."""
    report = examined(manifest, kind, data_root)
    if not report.ok:
        _stop(report)
    return report.rows


def usable_rows(
    manifest: Path, kind: str = "auto", data_root: Path | None = None
) -> tuple[list[Utterance], list[LedgerEntry]]:
    """Rows that can be heard, and the fate of the others. A fault of a row itself ends the command (exit 2)."""
    from clinical_asr.preflight import RecordingError
    from clinical_asr.records import Outcome

    report = examined(manifest, kind, data_root)
    if not report.rows or any(not isinstance(problem, RecordingError) for problem in report.problems):
        _stop(report)
    return report.rows, [entry for entry in report.entries if entry.outcome is Outcome.FAILED]


def _stop(report: ManifestReport) -> None:
    if len(report.problems) == 1:
        raise report.problems[0]
    show_findings(report, SHOWN_IN_PASSING)
    every = "mend the lines above" if len(report.problems) <= SHOWN_IN_PASSING else "see: clinical-asr manifest check"
    typer.echo(f"error: {report.path}: {_counts(report)}; {every}", err=True)
    raise typer.Exit(2)


def show_findings(report: ManifestReport, most: int = SHOWN) -> None:
    """One line each on stderr, up to a limit; then how many more there are."""
    for label, found in (("problem", report.problems), ("warning", report.warnings)):
        for finding in found[:most]:
            typer.echo(f"{label}: {finding}", err=True)
        if len(found) > most:
            typer.echo(f"and {len(found) - most} more {label}s", err=True)


def _counts(report: ManifestReport) -> str:
    outcomes = Counter(entry.outcome.value for entry in report.entries)
    told = f"{len(report.entries)} rows = {outcomes['passed']} passed + {outcomes['failed']} failed"
    problems = f", {len(report.problems)} problems" if report.problems else ""
    return told + problems + (f", {len(report.warnings)} warnings" if report.warnings else "")
