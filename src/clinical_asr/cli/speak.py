"""The commands of the build stages that speak: audio, general."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import progress, told
from clinical_asr.cli.spreading import Ray, RayAddress, Spreading
from clinical_asr.cli.voices import Speech, speaking, tell_plan

if TYPE_CHECKING:
    from clinical_asr.audio import Plan
    from clinical_asr.clips import Clip, ClipPlan
    from clinical_asr.records import Pronunciation, Row, Sentence, Term

R = TypeVar("R", bound="Row")


def audio(
    sentences: Annotated[Path, typer.Option(help="Sentences, as the command of that name writes them.")],
    pronunciations: Annotated[Path, typer.Option(help="Pronunciations, as the command of that name writes them.")],
    output_folder: o.Folder,
    voices: o.Voices = o.VOICES,
    voices_per_sentence: Annotated[int, typer.Option(help="Voices that say each sentence, taken in turn.")] = 2,
    noise_levels: o.NoiseLevels = o.NOISE_LEVELS,
    auditions: Annotated[
        Path | None,
        typer.Option(
            help="Verdicts of a listener, from clinical-asr audition; by default auditions.jsonl in the folder."
        ),
    ] = None,
    waive_audition: Annotated[
        str, typer.Option(help="Why nobody has listened: a sentence of 20 characters or more; kept in the notes.")
    ] = "",
    audition_only: Annotated[
        bool, typer.Option("--audition-only", help="Speak one clip for each term to listen to, and stop.")
    ] = False,
    earlier: Annotated[
        list[Path] | None, typer.Option(help="Benchmark of an earlier cycle: its clips are used, not spoken again.")
    ] = None,
    engine: o.Engine = "espeak",
    endpoint: o.SpeechEndpoint = "",
    allow: o.AllowSpeech = "",
    tls_ca: o.TlsCa = None,
    requests_per_minute: o.RequestsPerMinute = 0.0,
    workers: Annotated[int, typer.Option(help="Processes that speak; 0: one for each core. espeak only.", min=0)] = 0,
    ray: Ray = "",
    ray_address: RayAddress = "",
    yes: o.Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")] = False,
    seed: o.Seed = 42,
) -> None:
    """Speak the sentences in several voices and noise levels; write the clips and their manifest.

    Nothing is spoken in full before a person has listened to every term (--audition-only makes the clips, --auditions
    gives the verdicts) or has typed a waiver. Clips that exist are kept and rows of a manifest that is there stay as
    they are: new terms are added. The same command again continues; a second one in a folder is told so and leaves.

    Example: clinical-asr audio --sentences sentences.jsonl --pronunciations pronunciations.jsonl
    --output-folder benchmark --auditions auditions.jsonl
    """
    from clinical_asr.audio import Plan, audition_plans
    from clinical_asr.config import SynthesisConfig
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import read_rows
    from clinical_asr.records import Pronunciation

    o.apart_from_cycles(output_folder / "manifest.jsonl", "--output-folder")
    speech = Speech(engine, endpoint, allow, tls_ca, requests_per_minute, workers)
    spreading = _spreading(Spreading(ray, ray_address), speech)
    config = SynthesisConfig(
        voices=speech.chosen_voices(voices), voices_per_sentence=voices_per_sentence, seed=seed,
        noise_levels=o.noise_levels(noise_levels),
    )  # fmt: skip
    rows = _sentences(sentences)
    said = read_rows(pronunciations, Pronunciation)
    before = [_clips_of(folder) for folder in earlier or ()]
    order = _Order(output_folder, speech, spreading, before, yes, dry_run)
    if audition_only:
        _speak(audition_plans(Plan(rows, said, config)), order, "audition.jsonl")
        return
    if auditions and not auditions.exists():
        raise ConfigError("no such file", str(auditions), "check the path, or leave --auditions out")
    verdicts = auditions or output_folder / "auditions.jsonl"
    words = ["--terms", "TERMS.csv", "--folder", str(output_folder), "--pronunciations", str(pronunciations)]
    listen = shlex.join(["clinical-asr", "audition", *words]) + speech.flags()
    heard = rows if dry_run else _heard(rows, said, verdicts, waive_audition, order, listen)
    _speak(Plan(heard, said, config), order, "manifest.jsonl")


def _spreading(asked: Spreading, speech: Speech) -> Spreading:
    """The same, if this engine can be spread. Raises ConfigError."""
    if speech.remote:
        asked.refuse("--engine magpie", "a service is asked by this process alone")
    if speech.workers:
        asked.refuse("--workers", "both say who speaks")
    return asked


def _sentences(path: Path) -> RowFile[Sentence]:
    from clinical_asr.errors import ManifestError
    from clinical_asr.records import Sentence

    rows = RowFile(path, Sentence)
    if next(iter(rows), None) is None:
        raise ManifestError(path, None, "", "holds no sentences", "run: clinical-asr sentences")
    return rows


def _clips_of(folder: Path) -> Path:
    """The clips of an earlier benchmark, named by its folder or by that of its audio."""
    from clinical_asr.errors import ConfigError

    place = folder / "audio" if (folder / "audio").is_dir() else folder
    if not (place / "receipts.jsonl").exists():
        raise ConfigError("holds no clips with receipts", f"--earlier {folder}", "name the folder of a benchmark")
    return place


@dataclass(frozen=True)
class RowFile(Generic[R]):
    """Rows of a file, read anew each time they are gone through; ``keep`` says which."""

    path: Path
    kind: type[R]
    keep: Callable[[R], bool] = bool

    def __iter__(self) -> Iterator[R]:
        from clinical_asr.jsonl import iter_rows

        return filter(self.keep, iter_rows(self.path, self.kind))


@dataclass(frozen=True)
class _Order:
    """Where to speak into and with what, as the command line says."""

    folder: Path
    speech: Speech
    spreading: Spreading
    earlier: list[Path]
    yes: bool
    dry_run: bool


def _heard(
    rows: RowFile[Sentence], said: list[Pronunciation], auditions: Path, waiver: str, order: _Order, listen: str
) -> RowFile[Sentence]:
    """Sentences of the terms that may be spoken; the waiver is written down. Raises FlywheelError: nobody listened."""
    from clinical_asr.audition import record_waiver, require_heard, unheard
    from clinical_asr.audition_record import read_auditions
    from clinical_asr.lock import locked

    terms, verdicts = _terms_of(rows), read_auditions(auditions)
    engine, folder = order.speech.engine, order.folder
    kept = require_heard(terms, verdicts, waiver, said, listen, engine)
    waived = unheard(kept, verdicts, said, engine)
    if waived:
        with locked(folder):
            record_waiver(folder / "cycle_notes.md", waiver, waived)
        typer.echo(f"audition waived for {len(waived)} terms: written to {folder / 'cycle_notes.md'}")
    if len(kept) < len(terms):
        stay = "; rows of them from before stay in the manifest" if (folder / "manifest.jsonl").exists() else ""
        typer.echo(f"{len(terms) - len(kept)} terms were dropped by the listener{stay}")
    names = {term.term for term in kept}
    return RowFile(rows.path, rows.kind, lambda row: row.term in names)


def _terms_of(rows: Iterable[Sentence]) -> list[Term]:
    from clinical_asr.records import Term

    categories = {row.term: row.entity_category for row in rows}
    return [Term(term=term, entity_category=category) for term, category in categories.items()]


def _speak(plans: Plan | list[ClipPlan], order: _Order, name: str) -> None:
    from clinical_asr.lock import locked
    from clinical_asr.manifest import extend, iter_build
    from clinical_asr.outlook import outlook
    from clinical_asr.rendering import Counted, iter_render

    clips = order.folder / "audio"
    ahead = outlook(plans, [clips, *order.earlier])
    tell_plan(ahead, order.speech, yes=order.yes or order.dry_run)
    if order.dry_run:
        return
    ahead.require_room(clips)
    log, processes = order.folder / "egress.jsonl", order.speech.processes
    with (
        locked(order.folder),
        speaking(order.speech, tuple(ahead.voices), log) as (synthesise, markup),
        order.spreading.cores() as spread,
    ):
        made = iter_render(
            plans, clips, synthesise, markup=markup, workers=processes, spread=spread, earlier=order.earlier
        )
        rows = iter_build(zip(plans, made, strict=True), clips, order.folder)
        done = extend(order.folder / name, progress(cast("list[Any]", Counted(ahead.rows, rows)), "synthesise"))
    earlier = f", {done.kept - done.again} of them not of this plan" if done.kept > done.again else ""
    kept = f" ({done.kept} kept{earlier}; {done.added} added)" if done.kept else ""
    typer.echo(f"{order.folder / name}: {told(done.noise_levels, 'rows')}{kept}; {done.seconds:.0f} s of audio")
    for audio_filepath, suspect in done.suspects[:10]:
        typer.echo(f"listen to {order.folder / audio_filepath}: {suspect}")
    if len(done.suspects) > 10:
        typer.echo(f"and {len(done.suspects) - 10} more suspect clips: see the field suspect")


def general(
    sentences: Annotated[Path, typer.Option(help="Everyday sentences, one a line, UTF-8.")],
    output_folder: o.Folder,
    rows: Annotated[int, typer.Option(help="Rows to speak: different pairs of sentence and voice.")] = 240,
    voices: o.Voices = o.VOICES,
    noise_levels: o.NoiseLevels = "clean",
    seed: o.Seed = 42,
    force: Annotated[bool, typer.Option(help="Replace another manifest that is there.")] = False,
) -> None:
    """Speak general English: a guard set that fine-tuning must not harm, or speech to replay in training.

    The same command again continues.

    Example: clinical-asr general --sentences sentences.txt --rows 240 --output-folder guard
    """
    from clinical_asr.cli.engines import check_voices, synthesiser
    from clinical_asr.general import build, plan, read_sentences
    from clinical_asr.jsonl import write_rows
    from clinical_asr.lock import locked

    chosen, levels = check_voices(o.listed(voices, "--voices")), o.noise_levels(noise_levels)
    texts = read_sentences(sentences)
    manifest = o.not_over(output_folder / "manifest.jsonl", sentences, flag="--output-folder")
    clips, workers = plan(texts, chosen, rows, seed, levels), Speech().processes
    with locked(output_folder):
        if not force:
            _refuse_other(manifest, clips)
        built = build(
            texts, chosen, output_folder, synthesiser(), rows, seed, levels, progress=progress, workers=workers
        )
        write_rows(manifest, built)
    seconds = sum(row.duration for row in built)
    counts = Counter(row.voice_id for row in built)
    typer.echo(f"{manifest}: {told(counts, 'rows')}; {seconds:.0f} s of audio")


def _refuse_other(manifest: Path, clips: Sequence[Clip]) -> None:
    """Raises ConfigError if a manifest is there that these clips do not make: models and comparisons may rest on it."""
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import iter_objects

    held = [fields for _, fields in iter_objects(manifest)] if manifest.is_file() else None
    if held is not None and (len(held) != len(clips) or not all(map(_is_of, held, clips))):
        mend = "write to another folder, or replace it with --force"
        raise ConfigError("holds another manifest", str(manifest), mend)


def _is_of(fields: Mapping[str, Any], clip: Clip) -> bool:
    """Whether a row is all that comes of a clip, and nothing more; its audio is not looked at."""
    names = (f"audio/{clip.file_name}", f"audio/{clip.earlier_name}")
    told = {"text": clip.text, "voice_id": clip.voice_id, "noise_level": clip.noise_level}
    heard = {name: fields.get(name) for name in ("audio_filepath", "duration", "id")}
    return heard["audio_filepath"] in names and fields == told | heard
