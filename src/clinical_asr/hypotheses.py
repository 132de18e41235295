"""hypotheses: what a model hears in every recording of a manifest, keyed by row id, every row accounted for.

Rows -> rows. The recogniser is handed in; it answers with a mapping, so that a row it drops is a row that is
missing, never a row that shifts its neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from clinical_asr.cycle import account
from clinical_asr.errors import ConfigError, FlywheelError, ManifestError
from clinical_asr.jsonl import RowWriter, from_dict, iter_objects, iter_rows, read_rows, settle, to_dict, write_rows
from clinical_asr.records import Hypothesis, LedgerEntry, Outcome, Utterance
from clinical_asr.workers import Spread

Heard = str | FlywheelError
"""A transcript, or why there is none."""

Batch = Sequence[Utterance]
Progress = Callable[[Sequence[Batch], str], Iterable[Batch]]
"""Passes batches through and shows how far they are; the second argument says what is being done."""


class Transcriber(Protocol):
    """A speech recogniser. ``digest`` is the identity of what decides its answers: 16 hex digits.

    One that may be called from several threads brings a ``spread`` (``workers.Spread``) that does so.
    """

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    def transcribe(self, audio: Mapping[str, Path]) -> Mapping[str, Heard]:
        """What was heard in each recording, under the key it was given."""
        ...


def _silent(batches: Sequence[Batch], _: str) -> Iterable[Batch]:
    return batches


def transcribe_rows(
    rows: Sequence[Utterance],
    folder: Path,
    transcriber: Transcriber,
    output: Path,
    ledger: Path,
    *,
    progress: Progress = _silent,
    spread: Spread | None = None,
) -> list[LedgerEntry]:
    """Write ``output`` (records.Hypothesis, in the order of ``rows``) and ``ledger``; return the ledger.

    ``folder`` is where relative audio paths start. ``spread`` does batches elsewhere and several at a time; the
    transcriber must then be picklable. Without it batches are done as the transcriber does them best. The same call
    again continues an unfinished ``output``; rows that failed are tried again. Raises ManifestError for rows without
    ids, ConfigError if the unfinished output is another model's, FlywheelError if the ledger does not add up.
    """
    _check_ids(rows)
    failed: dict[str, str] = {}
    with RowWriter(output, Hypothesis) as writer:
        _check_same_model(writer, transcriber)
        seen_from = _seen_from(output.parent, folder)
        missing = [row for row in rows if row.id not in writer.known]
        batches = _batches(missing, transcriber.batch_size)
        asked = ({row.id: _audio(row, folder) for row in batch} for batch in batches)
        answers = (spread or _own_spread(transcriber))(transcriber.transcribe, asked)
        for batch, heard in zip(progress(batches, "transcribing"), answers, strict=True):
            failed |= _failures(batch, heard)
            scored = [row for row in batch if row.id not in failed]
            writer.write([_hypothesis(row, heard[row.id], transcriber, seen_from) for row in scored])
        written = {row.id: row for row in writer.rows if isinstance(row, Hypothesis)}
    entries = _ledger(rows, written, failed)
    account("hypotheses", [row.id for row in rows], entries)
    write_rows(ledger, entries)
    write_rows(writer.part, [written[row.id] for row in rows if row.id in written])  # in the order of the manifest
    settle(writer.part, output)
    return entries


def hear(
    rows: Sequence[Utterance], folder: Path, transcriber: Transcriber, output: Path, ledger: Path, *,
    progress: Progress = _silent,
) -> list[LedgerEntry]:  # fmt: skip
    """As :func:`transcribe_rows`, where what is heard goes on to be scored: an ``output`` that stays has rows.

    Raises FlywheelError if no row was heard; the same call tries them again.
    """
    fates = transcribe_rows(rows, folder, transcriber, output, ledger, progress=progress)
    if not is_heard(output):
        output.unlink()
    require_heard(fates, ledger)
    return fates


def lacked(rows: Iterable[Utterance | LedgerEntry], output: Path) -> int:
    """How many of ``rows`` a finished ``output`` lacks."""
    heard = {row.id for row in iter_rows(output, Hypothesis)}
    return sum(row.id not in heard for row in rows)


def reopen(output: Path) -> None:
    """Let a finished ``output`` be continued, as an unfinished one is; it stays until it is replaced."""
    with RowWriter(output, Hypothesis) as writer:
        writer.write([row for row in iter_rows(output, Hypothesis) if row.id not in writer.known])


def has_failed(ledger: Path) -> bool:
    """True if a row is said to have failed. Raises FlywheelError if there is no ledger."""
    return any(entry.outcome is Outcome.FAILED for entry in read_rows(ledger, LedgerEntry))


def is_heard(output: Path, ledger: Path | None = None) -> bool:
    """True for a file with rows; an empty one is what a run leaves that was killed before it could say why.

    With a ``ledger`` no row may have failed either.
    """
    if not (output.exists() and output.stat().st_size):
        return False
    return ledger is None or not has_failed(ledger)


def require_heard(fates: Sequence[LedgerEntry], ledger: Path) -> None:
    """Raises FlywheelError if not one row was heard: recordings that are away are no finding about a model."""
    if not fates or any(entry.outcome is Outcome.SCORED for entry in fates):
        return
    first = fates[0]
    what = f"none of {len(fates)} rows was heard; the first, {first.id}: {first.reason}"
    raise FlywheelError(what, str(ledger), "when the recordings can be heard, give the same command again")


def _own_spread(transcriber: Transcriber) -> Spread:
    own: Spread = getattr(transcriber, "spread", map)
    return own


def _check_ids(rows: Sequence[Utterance]) -> None:
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        if not row.id or row.id in seen:
            why = f"{row.id!r} stands twice" if row.id else "is empty"
            raise ManifestError("manifest", number, "id", why, "run: clinical-asr manifest check")
        seen.add(row.id)


def _check_same_model(writer: RowWriter, transcriber: Transcriber) -> None:
    other = {getattr(row, "model_digest", "") for row in writer.rows} - {transcriber.digest}
    if other:
        what = f"holds rows of another model ({', '.join(sorted(other))}, now {transcriber.digest})"
        raise ConfigError(what, where=str(writer.part), mend="delete it, or name another output")


def require_same(output: Path, ledger: Path, manifest: Path, digest: str) -> None:
    """Raises ConfigError if a finished ``output`` is another model's or of another manifest. No audio is read."""
    where, mend = str(output), "name another output, or delete it"
    declared = _declared(manifest, _seen_from(output.parent, manifest.parent))
    fates = read_rows(ledger, LedgerEntry) if ledger.is_file() else None
    if fates is not None and len(fates) != declared.count:
        raise ConfigError(f"accounts for {len(fates)} rows, the manifest has {declared.count}", where, mend)
    for row in iter_rows(output, Hypothesis):
        if row.model_digest != digest[:16]:
            raise ConfigError(f"is the work of another model ({row.model} {row.model_digest})", where, mend)
        if not declared.holds(row):
            raise _of_another(manifest, f"{row.audio_filepath} with its text and term", where, mend)
    for fate in fates or ():
        if not declared.explains(fate):
            raise _of_another(manifest, f"{fate.audio_filepath}, which failed", where, mend)


def _of_another(manifest: Path, what: str, where: str, mend: str) -> ConfigError:
    return ConfigError(f"is the work of another manifest ({manifest} has no row of {what})", where, mend)


@dataclass
class _Declared:
    """What a manifest says of its rows by itself: enough to know them again."""

    count: int = 0
    contents: set[tuple[str, ...]] = field(default_factory=set)
    recordings: set[str] = field(default_factory=lambda: {""})  # a ledger need not name the audio
    """Ids and audio paths: all that a ledger says of a row."""

    def holds(self, row: Hypothesis) -> bool:
        """By its id, which moved audio keeps; by its audio path where the manifest has no id of ours."""
        said, given = (row.text, row.term), str(row.extra.get("source_id", ""))
        names = [(row.id, *said), (given, row.audio_filepath, *said), ("", row.audio_filepath, *said)]
        return any(name in self.contents for name in names)

    def explains(self, fate: LedgerEntry) -> bool:
        """True for a row that failed if its recording is one of these; the others stand in the output itself."""
        return fate.outcome is not Outcome.FAILED or not {fate.id, fate.audio_filepath}.isdisjoint(self.recordings)


def _declared(manifest: Path, seen_from: Callable[[str], str]) -> _Declared:
    found = _Declared()
    for _, fields in iter_objects(manifest):
        given, audio, *said = (str(fields.get(name) or "") for name in ("id", "audio_filepath", "text", "term"))
        found.count += 1
        found.contents |= {(given, seen_from(audio), *said), *([(given, *said)] if given else [])}
        found.recordings |= {given, audio}
    return found


def _batches(rows: Sequence[Utterance], size: int) -> list[Batch]:
    """Rows of similar duration together, longest first, so that memory runs out at once or never."""
    by_length = sorted(rows, key=lambda row: (-row.duration, row.id))
    return [by_length[start : start + size] for start in range(0, len(by_length), size)]


def _audio(row: Utterance, folder: Path) -> Path:
    return folder / row.audio_filepath


def _failures(batch: Batch, heard: Mapping[str, Heard]) -> dict[str, str]:
    """Rows of a batch without a transcript, and why. Raises FlywheelError for rows nobody asked about."""
    unknown = set(heard) - {row.id for row in batch}
    if unknown:
        raise FlywheelError(f"the engine answered for rows it was not given: {sorted(unknown)[:3]}", "hypotheses")
    nothing = FlywheelError("the recogniser returned nothing for it")
    answers: Iterator[tuple[str, Heard]] = ((row.id, heard.get(row.id, nothing)) for row in batch)
    return {row_id: str(answer) for row_id, answer in answers if isinstance(answer, FlywheelError)}


def _hypothesis(row: Utterance, heard: Heard, transcriber: Transcriber, seen_from: Callable[[str], str]) -> Hypothesis:
    fields: dict[str, Any] = to_dict(row)
    fields["audio_filepath"] = seen_from(row.audio_filepath)
    fields |= {"pred_text": heard, "model": transcriber.name, "model_digest": transcriber.digest}
    return from_dict(Hypothesis, fields)


def _seen_from(home: Path, folder: Path) -> Callable[[str], str]:
    """NeMo's tools join relative audio to the folder of the file they read: keep that true in another folder."""
    if home.resolve() == folder.resolve():
        return str

    def seen(audio_filepath: str) -> str:
        if Path(audio_filepath).is_absolute():
            return audio_filepath
        return Path(os.path.relpath(folder / audio_filepath, home)).as_posix()

    return seen


def _ledger(rows: Sequence[Utterance], written: Mapping[str, Any], failed: Mapping[str, str]) -> list[LedgerEntry]:
    entries = []
    for row in rows:
        if row.id in written:
            entries.append(LedgerEntry(id=row.id, outcome=Outcome.SCORED, audio_filepath=row.audio_filepath))
        elif row.id in failed:
            fate = LedgerEntry(
                id=row.id, outcome=Outcome.FAILED, reason=failed[row.id], audio_filepath=row.audio_filepath
            )
            entries.append(fate)
    return entries
