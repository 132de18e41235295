"""The build stages in a row: what the driver runs before the first evaluation. Knows no engine by name."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from clinical_asr import audio, audition, general, hypotheses, manifest, pronunciations, sentences
from clinical_asr.audition_record import read_auditions
from clinical_asr.cycle import Cycle, account
from clinical_asr.errors import ConfigError
from clinical_asr.jsonl import read_rows, write_csv, write_rows
from clinical_asr.records import ClinicalUtterance, Hypothesis, Pronunciation, Term, Utterance
from clinical_asr.relocation import seen_from
from clinical_asr.rendering import render
from clinical_asr.request import Engines, Request
from clinical_asr.self_texts import bare_rows, lacks_texts, spoken
from clinical_asr.terms import read_terms


def benchmark_stage(cycle: Cycle, request: Request, engines: Engines) -> list[ClinicalUtterance]:
    """The checked manifest of this cycle: spoken from terms, or brought along. Every row has its id."""
    if not cycle.manifest.exists():
        source = request.manifest or build_benchmark(cycle, request, engines)
        check_manifest(cycle, source, request.data_root, engines)
    return read_rows(cycle.manifest, ClinicalUtterance)


def build_benchmark(cycle: Cycle, request: Request, engines: Engines) -> Path:
    """Terms, sentences, pronunciations, audition gate, audio, manifest. Returns the unchecked manifest.

    Raises FlywheelError if nobody has listened to a term and nobody waived it.
    """
    if request.terms is None:
        raise ConfigError("neither terms nor a manifest", where="cycle", mend="give --terms or --manifest")
    if not cycle.built_manifest.exists():
        terms = read_terms(request.terms)
        overrides = pronunciations.read_overrides(request.overrides or cycle.overrides)
        known = pronunciations.resolve(terms, overrides)
        heard = heard_terms(cycle, request, engines, terms, known)
        with engines.journal.step("sentences") as did:
            said = sentences.build_sentences(heard, request.contexts_per_term, request.seed)
            write_rows(cycle.sentences, said)
            did(f"{len(said)} sentences for {len(heard)} terms")
        write_rows(cycle.pronunciations, [one for one in known if one.term in {term.term for term in heard}])
        with engines.journal.step("audio") as did:
            plans = audio.plan(said, known, request.synthesis)
            receipts = render(
                plans, cycle.audio, engines.synthesise, markup=engines.markup, progress=engines.progress,
                workers=engines.workers, earlier=earlier_audio(cycle),
            )  # fmt: skip
            rows = manifest.build(plans, receipts, cycle.audio, cycle.folder)
            write_rows(cycle.built_manifest, rows)
            suspect = sum("suspect" in row.extra for row in rows)
            did(f"{len(rows)} clips, {sum(row.duration for row in rows) / 60:.0f} min, {suspect} suspect")
    return cycle.built_manifest


def earlier_audio(cycle: Cycle) -> list[Path]:
    """Clips of the cycles before this one, the latest first: what is there is never spoken again."""
    return [Cycle(cycle.root, number).audio for number in range(cycle.number - 1, 0, -1)]


def heard_terms(
    cycle: Cycle, request: Request, engines: Engines, terms: list[Term], said: Sequence[Pronunciation]
) -> list[Term]:
    """Terms that a person has listened to as they are now ``said``, or whose audition somebody deliberately waived.

    Verdicts are those of the request, else those that lie in the cycle's folder.
    """
    with engines.journal.step("terms") as did:
        auditions = read_auditions(request.auditions or cycle.auditions)
        heard = audition.require_heard(terms, auditions, request.waiver, said, _listen_command(cycle, request))
        unheard = audition.unheard(heard, auditions, said)
        if unheard:
            audition.record_waiver(cycle.notes, request.waiver, unheard)
        write_csv(cycle.terms, heard, ("term", "entity_category"))
        did(f"{len(heard)} terms" + (f", audition waived for {len(unheard)}" if unheard else ""))
    return heard


def _listen_command(cycle: Cycle, request: Request) -> str:
    """What a person types to give the verdicts that this cycle waits for."""
    overrides = ["--overrides", str(request.overrides)] if request.overrides else []
    words = ["clinical-asr", "audition", "--terms", str(request.terms), "--folder", str(cycle.folder), *overrides]
    return shlex.join(words)


def check_manifest(cycle: Cycle, source: Path, data_root: Path | None, engines: Engines) -> None:
    """Pre-flight of every row; only a manifest without a problem goes on. Raises ManifestError."""
    with engines.journal.step("manifest") as did:
        found = manifest.check(source, ClinicalUtterance, data_root, engines.progress)
        rows = found.require()
        account("manifest", found.declared, found.entries)
        write_rows(cycle.ledger("manifest"), found.entries)
        write_rows(cycle.manifest, seen_from(cycle.folder, rows, source.parent))
        warned = f", {len(found.warnings)} warnings" if found.warnings else ""
        did(f"{len(rows)} rows pass{warned}")


def general_stage(cycle: Cycle, request: Request, engines: Engines, kind: str, count: int) -> list[Utterance]:
    """General English, brought along or spoken here: ``guard`` is only ever judged on, ``replay`` only trained on."""
    path = cycle.general_manifest(kind)
    given: Path | None = getattr(request, kind)
    if not path.exists() and count:
        with engines.journal.step(kind) as did:
            if given and kind == "replay" and lacks_texts(given):
                rows = heard_general(cycle, request, engines, given)
            else:
                rows = checked_general(given, engines) if given else speak_general(cycle, request, engines, kind, count)
            write_rows(path, seen_from(path.parent, rows, given.parent) if given else rows)
            did(f"{len(rows)} rows of general speech")
    return read_rows(path, Utterance) if count else []


def checked_general(path: Path, engines: Engines) -> list[Utterance]:
    """A manifest of general speech that somebody brought. Raises ManifestError."""
    return manifest.check(path, Utterance, None, engines.progress).require()


def heard_general(cycle: Cycle, request: Request, engines: Engines, given: Path) -> list[Utterance]:
    """General speech without transcripts: the base's own are taken. Resumes; every row is in ``ledger_replay``."""
    rows, failed = bare_rows(given)
    output, entries = cycle.general / "replay_hyps.jsonl", cycle.ledger("replay")
    transcriber = engines.transcriber(request.base, request.base_name)
    fates = hypotheses.transcribe_rows(rows, given.parent, transcriber, output, entries, progress=engines.progress)
    told, silent = spoken(read_rows(output, Hypothesis), rows)
    left_out = {entry.id: entry for entry in silent}
    write_rows(entries, [*failed, *(left_out.get(entry.id, entry) for entry in fates)])
    return told


def speak_general(cycle: Cycle, request: Request, engines: Engines, kind: str, count: int) -> list[Utterance]:
    """General speech from the package's own sentences, the guard set's apart from those that are replayed."""
    source = Path(str(resources.files("clinical_asr") / "data" / f"{kind}_sentences.txt"))
    voices: tuple[str, ...] = getattr(request, f"{kind}_voices")
    texts = general.read_sentences(source)
    return general.build(
        texts, voices, cycle.general, engines.synthesise, count, request.seed, progress=engines.progress,
        workers=engines.workers, earlier=[folder.parent / "general" / "audio" for folder in earlier_audio(cycle)],
    )  # fmt: skip
