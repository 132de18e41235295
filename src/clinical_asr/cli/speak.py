"""The commands of the build stages that speak: audio, general."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import progress, told

if TYPE_CHECKING:
    from clinical_asr.clips import ClipPlan
    from clinical_asr.records import Sentence, Term


def audio(
    sentences: Annotated[Path, typer.Option(help="Sentences, as the command of that name writes them.")],
    pronunciations: Annotated[Path, typer.Option(help="Pronunciations, as the command of that name writes them.")],
    output_folder: o.Folder,
    voices: o.Voices = o.VOICES,
    voices_per_sentence: Annotated[int, typer.Option(help="Voices that say each sentence, taken in turn.")] = 2,
    noise_levels: Annotated[str, typer.Option(help="Noise levels in turn, with commas: clean, snr_<dB>db.")] = (
        "clean,snr_15db,snr_5db"
    ),
    auditions: Annotated[
        Path | None, typer.Option(help='Verdicts of a listener, one line a term: {"term": ..., "verdict": "good"}.')
    ] = None,
    waive_audition: Annotated[
        str, typer.Option(help="Why nobody has listened: a sentence of 20 characters or more; kept in the notes.")
    ] = "",
    audition_only: Annotated[bool, typer.Option(help="Speak one clip for each term to listen to, and stop.")] = False,
    seed: o.Seed = 42,
) -> None:
    """Speak the sentences in several voices and noise levels; write the clips and their manifest.

    Nothing is spoken in full before a person has listened to every term (--audition-only makes the clips, --auditions
    gives the verdicts) or has typed a waiver. Clips that exist are kept; the same command again continues.

    Example: clinical-asr audio --sentences sentences.jsonl --pronunciations pronunciations.jsonl
    --output-folder benchmark --auditions auditions.jsonl
    """
    from clinical_asr.audio import audition_plans, plan
    from clinical_asr.cli.engines import check_voices
    from clinical_asr.config import SynthesisConfig
    from clinical_asr.errors import ManifestError
    from clinical_asr.jsonl import read_rows
    from clinical_asr.records import Pronunciation, Sentence

    chosen = check_voices(o.listed(voices, "--voices"))
    config = SynthesisConfig(
        voices=chosen, voices_per_sentence=voices_per_sentence, seed=seed,
        noise_levels=o.listed(noise_levels, "--noise-levels"),
    )  # fmt: skip
    rows = read_rows(sentences, Sentence)
    if not rows:
        raise ManifestError(sentences, None, "", "holds no sentences", "run: clinical-asr sentences")
    said = read_rows(pronunciations, Pronunciation)
    if audition_only:
        _speak(audition_plans(plan(rows, said, config)), output_folder, "audition.jsonl")
        return
    heard = _heard(rows, auditions, waive_audition, output_folder)
    _speak(plan(heard, said, config), output_folder, "manifest.jsonl")


def _heard(rows: list[Sentence], auditions: Path | None, waiver: str, folder: Path) -> list[Sentence]:
    """Sentences of the terms that may be spoken; the waiver is written down. Raises FlywheelError: nobody listened."""
    from clinical_asr.audition import Audition, record_waiver, require_heard
    from clinical_asr.jsonl import read_rows

    terms = _terms_of(rows)
    verdicts = read_rows(auditions, Audition) if auditions else []
    kept = require_heard(terms, verdicts, waiver)
    judged = {audition.term.casefold() for audition in verdicts}
    unheard = [term for term in kept if term.term.casefold() not in judged]
    if unheard:
        record_waiver(folder / "cycle_notes.md", waiver, unheard)
        typer.echo(f"audition waived for {len(unheard)} terms: written to {folder / 'cycle_notes.md'}")
    if len(kept) < len(terms):
        typer.echo(f"{len(terms) - len(kept)} terms were dropped by the listener")
    names = {term.term for term in kept}
    return [row for row in rows if row.term in names]


def _terms_of(rows: list[Sentence]) -> list[Term]:
    from clinical_asr.records import Term

    categories = {row.term: row.entity_category for row in rows}
    return [Term(term=term, entity_category=category) for term, category in categories.items()]


def _speak(plans: Sequence[ClipPlan], folder: Path, name: str) -> None:
    from clinical_asr.audio import synthesise
    from clinical_asr.cli.engines import synthesiser
    from clinical_asr.jsonl import write_rows
    from clinical_asr.manifest import build

    receipts = synthesise(plans, folder / "audio", synthesiser(), progress=progress)
    rows = build(plans, receipts, folder / "audio", folder, progress=progress)
    write_rows(folder / name, rows)
    counts = Counter(row.noise_level for row in rows)
    suspects = [row for row in rows if row.extra.get("suspect")]
    typer.echo(f"{folder / name}: {told(counts, 'rows')}; {sum(row.duration for row in rows):.0f} s of audio")
    for row in suspects[:10]:
        typer.echo(f"listen to {folder / row.audio_filepath}: {row.extra['suspect']}")
    if len(suspects) > 10:
        typer.echo(f"and {len(suspects) - 10} more suspect clips: see the field suspect")


def general(
    sentences: Annotated[Path, typer.Option(help="Everyday sentences, one a line, UTF-8.")],
    output_folder: o.Folder,
    rows: Annotated[int, typer.Option(help="Rows to speak: different pairs of sentence and voice.")] = 240,
    voices: o.Voices = o.VOICES,
    noise_levels: Annotated[str, typer.Option(help="Noise levels in turn, with commas: clean, snr_<dB>db.")] = "clean",
    seed: o.Seed = 42,
) -> None:
    """Speak general English: a guard set that fine-tuning must not harm, or speech to replay in training.

    Example: clinical-asr general --sentences sentences.txt --rows 240 --output-folder guard
    """
    from clinical_asr.cli.engines import check_voices, synthesiser
    from clinical_asr.general import build, read_sentences
    from clinical_asr.jsonl import write_rows

    chosen, levels = check_voices(o.listed(voices, "--voices")), o.listed(noise_levels, "--noise-levels")
    texts = read_sentences(sentences)
    built = build(texts, chosen, output_folder, synthesiser(), rows, seed, levels, progress=progress)
    write_rows(output_folder / "manifest.jsonl", built)
    seconds = sum(row.duration for row in built)
    counts = Counter(row.voice_id for row in built)
    typer.echo(f"{output_folder / 'manifest.jsonl'}: {told(counts, 'rows')}; {seconds:.0f} s of audio")
