"""Stage manifest: build it from finished clips, check every line and every file of it, move it to another host."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import intake, preflight, wav
from clinical_asr.clips import ClipPlan, Progress, Receipt, silent_progress
from clinical_asr.errors import ManifestError
from clinical_asr.growth import Growth, extend
from clinical_asr.preflight import Line
from clinical_asr.records import (
    ClinicalUtterance,
    LedgerEntry,
    Outcome,
    Utterance,
    row_id,
)
from clinical_asr.relocation import Rewrite, replace_prefix, rewrite
from clinical_asr.text import DEFAULT_NORMALISER, normalise

__all__ = [
    "Growth", "ManifestReport", "Rewrite", "build", "check", "extend", "iter_build", "replace_prefix", "rewrite",
]  # fmt: skip

_ID_LENGTH = 16  # hex digits of records.row_id


def build(
    plans: Sequence[ClipPlan],
    receipts: Sequence[Receipt],
    audio_folder: Path,
    manifest_folder: Path,
    *,
    progress: Progress[Any] = silent_progress,
) -> list[ClinicalUtterance]:
    """One row per plan; duration and digest are measured from the file, not taken from the receipt.

    ``extra`` tells where the sentence comes from, the measured SNR, and what makes a clip suspect.
    Raises AudioError for a clip that is missing or broken.
    """
    pairs = list(zip(plans, receipts, strict=True))
    return list(iter_build(progress(pairs, "manifest"), audio_folder, manifest_folder))


def iter_build(
    pairs: Iterable[tuple[ClipPlan, Receipt]], audio_folder: Path, manifest_folder: Path
) -> Iterator[ClinicalUtterance]:
    """The same, row by row. Raises AudioError as :func:`build` does."""
    for plan, receipt in pairs:
        yield _built(plan, receipt, audio_folder, manifest_folder)


def _built(plan: ClipPlan, receipt: Receipt, audio_folder: Path, manifest_folder: Path) -> ClinicalUtterance:
    path = audio_folder / receipt.audio_filepath
    recording = wav.read(path)
    return ClinicalUtterance(
        audio_filepath=Path(os.path.relpath(path, manifest_folder)).as_posix(),
        text=plan.text,
        duration=recording.duration,
        id=row_id(recording.digest, plan.text, plan.term),
        term=plan.term,
        entity_category=plan.entity_category,
        ipa_source=plan.ipa_source,
        voice_id=plan.voice_id,
        noise_level=plan.noise_level,
        context_type=plan.context_type,
        extra=_provenance(plan, receipt, recording.digest),
    )


def _provenance(plan: ClipPlan, receipt: Receipt, digest: str) -> dict[str, Any]:
    changed = "" if receipt.audio_digest == digest else "file differs from its receipt"
    told: dict[str, Any] = {"sentence_source": plan.source, "frame": plan.frame}
    if receipt.measured_snr is not None:
        told |= {"measured_snr": receipt.measured_snr, "noise_kind": receipt.noise_kind}
    suspect = "; ".join(filter(None, (receipt.suspect, changed)))
    return told | ({"suspect": suspect} if suspect else {})


@dataclass
class ManifestReport:
    """What a check found. ``rows`` are the rows without any fault, with their ids; the manifest holds if ``ok``."""

    path: Path
    rows: list[Utterance] = field(default_factory=list)
    problems: list[ManifestError] = field(default_factory=list)
    warnings: list[ManifestError] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    """Line pairs (earlier, later) of the same audio, text and term."""
    entries: list[LedgerEntry] = field(default_factory=list)
    """One per line, in order."""

    @property
    def ok(self) -> bool:
        """True if nothing but warnings was found."""
        return not self.problems

    @property
    def declared(self) -> list[str]:
        """What :func:`clinical_asr.cycle.account` compares the entries with: every line's id."""
        return [entry.id for entry in self.entries]

    @property
    def counts(self) -> dict[str, int]:
        """Lines by outcome, and rows by category, voice and noise level."""
        counts = Counter({"lines": len(self.entries), "passed": len(self.rows)})
        counts["failed"] = len(self.entries) - len(self.rows)
        for row in self.rows:
            category = f"entity_category={row.entity_category}" if isinstance(row, ClinicalUtterance) else ""
            counts.update(filter(None, (category, f"noise_level={row.noise_level}")))
        return dict(counts)

    def require(self) -> list[Utterance]:
        """The rows, if there are no problems. Raises ManifestError: the first problem and how many more there are."""
        if self.ok:
            return self.rows
        first, more = self.problems[0], len(self.problems) - 1
        why = first.why + (f" (and {more} more problems)" if more else "")
        raise ManifestError(first.path, first.line, first.field, why, first.mend)


def check(
    path: Path,
    kind: type[Utterance] = ClinicalUtterance,
    data_root: Path | None = None,
    progress: Progress[Any] = silent_progress,
    normaliser: str = DEFAULT_NORMALISER,
) -> ManifestReport:
    """Pre-flight: every field of every line, every file decoded. All problems are collected, none is raised.

    ``data_root`` is the folder that all audio must lie in, by default the manifest's own. With another ``normaliser``
    than the default a row must hold under both: training judges with the default, whichever one scores. Raises
    FlywheelError for a normaliser that there is not.
    """
    report = ManifestReport(path)
    normalise("", normaliser)
    asked = _Asked(kind, data_root or path.parent, tuple(dict.fromkeys((DEFAULT_NORMALISER, normaliser))))
    try:
        if data_root and not data_root.is_dir():
            raise ManifestError(data_root, None, "", "no such folder", "check --data-root")
        lines = _lines(path)
    except ManifestError as error:
        report.problems.append(error)
        return report
    if not lines:
        report.problems.append(ManifestError(path, None, "", "is empty", "write one JSON object a line"))
    seen = _Seen()
    for number, content in progress(lines, "check"):
        _check_line(Line(path, number), content, asked, seen, report)
    report.warnings += _style_warnings(path, seen.styles)
    return report


def _lines(path: Path) -> list[tuple[int, bytes]]:
    """(number, content) of each line that is not blank. Raises ManifestError."""
    try:
        return [(number, line) for number, line in intake.lines(path) if line.strip()]
    except IsADirectoryError:
        raise ManifestError(path, None, "", "is not a file", "name the .jsonl file itself") from None
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise ManifestError(repr(str(path)), None, "", why, "check the path") from None


@dataclass(frozen=True)
class _Asked:
    """What every row must be: of this kind, its audio in this folder, its term in its text for these normalisers."""

    kind: type[Utterance]
    data_root: Path
    normalisers: tuple[str, ...]


@dataclass
class _Seen:
    """What earlier lines held: ids, texts by audio digest, writing styles by line."""

    ids: dict[str, int] = field(default_factory=dict)
    texts: dict[str, tuple[str, int]] = field(default_factory=dict)
    styles: dict[int, str] = field(default_factory=dict)


def _check_line(line: Line, content: bytes, asked: _Asked, seen: _Seen, report: ManifestReport) -> None:
    """Add the line to the report: as a row that passed, or with all that speaks against it."""
    fields = preflight.parse(line, content)
    row = fields if isinstance(fields, ManifestError) else preflight.typed(line, fields, asked.kind)
    if isinstance(row, Utterance):
        row, findings = _check_row(line, row, asked, seen, report)
    else:
        findings = [row] if isinstance(row, ManifestError) else row
    identity = row.id if isinstance(row, Utterance) and row.id else f"line {line.number}"
    audio = row.audio_filepath if isinstance(row, Utterance) else ""
    outcome, reason = (Outcome.FAILED, findings[0].why) if findings else (Outcome.PASSED, "")
    report.entries.append(LedgerEntry(id=identity, outcome=outcome, reason=reason, audio_filepath=audio))
    report.problems += findings
    if isinstance(row, Utterance) and not findings:
        report.rows.append(row)


def _check_row(
    line: Line, row: Utterance, asked: _Asked, seen: _Seen, report: ManifestReport
) -> tuple[Utterance, list[ManifestError]]:
    """The row with its id derived from content, and its findings."""
    findings = list(preflight.row_findings(line, row, asked.normalisers))
    seen.styles[line.number] = _style(row.text)
    path = preflight.located(line, row.audio_filepath, line.path.parent, asked.data_root)
    if isinstance(path, ManifestError):
        return row, [*findings, path]
    recording, audio = preflight.audio_findings(line, row, path)
    if recording is None:
        return row, findings + audio
    identified, identity = _identified(line, row, recording.digest, report)
    return identified, [*findings, *audio, *identity, *_repeated(line, identified, recording.digest, seen, report)]


def _identified(
    line: Line, row: Utterance, digest: str, report: ManifestReport
) -> tuple[Utterance, list[ManifestError]]:
    """Give the row its id. An id of ours that does not fit shows that audio or text was changed afterwards."""
    derived = row_id(digest, row.text, row.term if isinstance(row, ClinicalUtterance) else "")
    if row.id in ("", derived):
        return msgspec.structs.replace(row, id=derived), []
    if len(row.id) == _ID_LENGTH and set(row.id) <= set("0123456789abcdef"):
        why = f"is {row.id}, audio, text and term give {derived}: one of them was changed"
        return row, [line.finding("id", why, "put the old audio and text back, or delete the field id")]
    report.warnings.append(line.finding("id", f"{row.id[:40]!r} is kept as source_id; the row's id is {derived}"))
    return msgspec.structs.replace(row, id=derived, extra={**row.extra, "source_id": row.id}), []


def _repeated(line: Line, row: Utterance, digest: str, seen: _Seen, report: ManifestReport) -> Iterator[ManifestError]:
    """The same row twice counts twice in every score; one recording cannot say two different things."""
    earlier = seen.ids.setdefault(row.id, line.number)
    if earlier != line.number:
        report.duplicates.append((earlier, line.number))
        yield line.finding("id", f"the same audio, text and term stand in line {earlier}", "delete one of the lines")
    text, where = seen.texts.setdefault(digest, (row.text, line.number))
    if text != row.text:
        yield line.finding("text", f"the same audio has another text in line {where}", "keep the text that is said")


def _style(text: str) -> str:
    """How a transcript is written.

    >>> _style("Give it now."), _style("give it now")
    ('cased or punctuated', 'bare lower-case')
    """
    bare = text == text.lower() and not set(text) & set(".,;:?!")
    return "bare lower-case" if bare else "cased or punctuated"


def _style_warnings(path: Path, styles: dict[int, str]) -> list[ManifestError]:
    """Targets of two styles teach a base to waver between them."""
    counts = Counter(styles.values()).most_common()
    if len(counts) < 2:
        return []
    (most, many), (least, few) = counts
    line = next(number for number, style in styles.items() if style == least)
    why = f"{few} rows are {least}, {many} are {most}; this is the first of the few"
    return [ManifestError(path, line, "text", why, "write all in the style of the base model")]
