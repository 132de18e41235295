"""The build stages in a row: what the driver runs before the first evaluation. Knows no engine by name."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr import audio, audition, general, hypotheses, manifest, pronunciations, sentences
from clinical_asr.audition_record import read_auditions
from clinical_asr.cycle import Cycle, account, file_digest
from clinical_asr.errors import ConfigError
from clinical_asr.finetune import Recordings, require_apart
from clinical_asr.jsonl import iter_objects, read_json, read_rows, write_csv, write_json, write_rows
from clinical_asr.records import ClinicalUtterance, Hypothesis, Pronunciation, Term, Utterance
from clinical_asr.relocation import seen_from
from clinical_asr.rendering import render
from clinical_asr.request import Engines, Request
from clinical_asr.self_texts import bare_rows, lacks_texts, spoken
from clinical_asr.terms import read_terms

NOTHING: Mapping[str, Sequence[Utterance]] = {}


def benchmark_stage(cycle: Cycle, request: Request, engines: Engines) -> list[ClinicalUtterance]:
    """The checked manifest of this cycle: spoken from terms, or brought along. Every row has its id."""
    if not cycle.manifest.exists():
        source = request.manifest or build_benchmark(cycle, request, engines)
        check_manifest(cycle, source, request, engines)
    return read_rows(cycle.manifest, ClinicalUtterance)


def build_benchmark(cycle: Cycle, request: Request, engines: Engines) -> Path:
    """The unchecked manifest, built from terms; one that is there is kept if it was built for the same order.

    Raises FlywheelError if nobody has listened to a term and nobody waived it.
    """
    if request.terms is None:
        raise ConfigError("neither terms nor a manifest", where="cycle", mend="give --terms or --manifest")
    note, order = built_for(cycle), _build_order(cycle, request, request.terms)
    if not (cycle.built_manifest.exists() and note.exists() and read_json(note) == order):
        cycle.built_manifest.unlink(missing_ok=True)  # first, so that it never lies beside another order than its own
        write_json(note, order)
        _build(cycle, request, engines, request.terms)
    return cycle.built_manifest


def built_for(cycle: Cycle) -> Path:
    """What ``built_manifest.jsonl`` was built for; the request itself may still change while nothing is checked."""
    return cycle.folder / "built_for.json"


def _build_order(cycle: Cycle, request: Request, terms: Path) -> Any:
    """All that a build depends on, as it will be read back: of the request, and what a person left in the folder."""
    files = {
        "terms": terms,
        "overrides": request.overrides or cycle.overrides,
        "auditions": request.auditions or cycle.auditions,
    }
    order = {name: file_digest(path) if path.exists() else None for name, path in files.items()} | {
        "waiver": request.waiver,
        "contexts_per_term": request.contexts_per_term,
        "seed": request.seed,
        "synthesis": request.synthesis,
    }
    return msgspec.json.decode(msgspec.json.encode(order))


def _build(cycle: Cycle, request: Request, engines: Engines, listed: Path) -> None:
    """Terms, sentences, pronunciations, audition gate, audio, manifest."""
    terms = read_terms(listed)
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


def check_manifest(cycle: Cycle, source: Path, request: Request, engines: Engines) -> None:
    """Pre-flight of every row; only a manifest without a problem goes on, and to be scored. Raises ManifestError."""
    with engines.journal.step("manifest") as did:
        found = manifest.check(source, ClinicalUtterance, request.data_root, engines.progress, request.normaliser)
        rows = found.require()
        account("manifest", found.declared, found.entries)
        write_rows(cycle.ledger("manifest"), found.entries)
        write_rows(cycle.manifest, seen_from(cycle.folder, rows, source.parent))
        warned = f", {len(found.warnings)} warnings" if found.warnings else ""
        did(f"{len(rows)} rows pass{warned}")


def general_stage(cycle: Cycle, request: Request, engines: Engines, kind: str, count: int) -> list[Utterance]:
    """General English, brought along or spoken here: ``guard`` is only ever judged on, ``replay`` only trained on."""
    path = cycle.general_manifest(kind)
    if not path.exists() and count:
        with engines.journal.step(kind) as did:
            rows = _general_rows(cycle, request, engines, kind, count)
            require_general_apart(cycle, request, {kind: rows})
            write_rows(path, rows)
            did(f"{len(rows)} rows of general speech")
    return read_rows(path, Utterance) if count else []


def _general_rows(cycle: Cycle, request: Request, engines: Engines, kind: str, count: int) -> list[Utterance]:
    given: Path | None = getattr(request, kind)
    if given is None:
        return speak_general(cycle, request, engines, kind, count)
    untold = kind == "replay" and lacks_texts(given)
    rows = heard_general(cycle, request, engines, given) if untold else checked_general(given, request, engines)
    return seen_from(cycle.general, rows, given.parent)


GENERAL = ("guard", "replay", "selection")


def require_general_apart(cycle: Cycle, request: Request, made: Mapping[str, Sequence[Utterance]] = NOTHING) -> None:
    """No recording may stand in two of benchmark, guard set, replay and selection. Raises ConfigError.

    Looks at the rows just ``made``, else at those that this cycle has, else at the file that was given. The package's
    own sentences are apart.
    """
    if any(getattr(request, kind) for kind in GENERAL):
        sides = [_side(cycle.manifest, "manifest", request.manifest, None)]
        sides += [_side(cycle.general_manifest(kind), kind, getattr(request, kind), made.get(kind)) for kind in GENERAL]
        require_apart(*({side.source: side} for side in sides))


def _side(own: Path, kind: str, given: Path | None, made: Sequence[Utterance] | None) -> Recordings:
    """Rows of one side, and how a person knows it."""
    name = f"--{kind} {given}" if given else str(own)
    if made is None and not own.exists():
        return Recordings(_unchecked(given), given.parent, name) if given else Recordings(source=name)
    return Recordings(read_rows(own, Utterance) if made is None else made, own.parent, name)


def _unchecked(path: Path) -> list[Utterance]:
    """Rows of a file that nobody has checked: no more of them than it takes to know a recording again."""
    told = ((fields.get("audio_filepath"), str(fields.get("text") or "")) for _, fields in iter_objects(path))
    return [Utterance(audio_filepath=audio, text=text, duration=0.0) for audio, text in told if isinstance(audio, str)]


def checked_general(path: Path, request: Request, engines: Engines) -> list[Utterance]:
    """A manifest of general speech that somebody brought. Raises ManifestError."""
    return manifest.check(path, Utterance, None, engines.progress, request.normaliser).require()


def heard_general(cycle: Cycle, request: Request, engines: Engines, given: Path) -> list[Utterance]:
    """General speech without transcripts: the base's own are taken. Resumes; every row is in ``ledger_replay``."""
    rows, failed = bare_rows(given)
    output, entries = cycle.general / "replay_hyps.jsonl", cycle.ledger("replay")
    transcriber = engines.transcriber(request.base, request.base_name)
    fates = hypotheses.transcribe_rows(rows, given.parent, transcriber, output, entries, progress=engines.progress)
    told, silent = spoken(read_rows(output, Hypothesis), rows)
    left_out = {entry.id: entry for entry in silent}
    fates = [*failed, *(left_out.get(entry.id, entry) for entry in fates)]
    write_rows(entries, fates)
    hypotheses.require_heard(fates, entries)
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
