"""Speaking planned clips: one path from text to a checked WAV, for the benchmark and for general speech alike.

Each clip made leaves a receipt beside it: proof that the audio is synthetic. A worker writes the clip under a passing
name; then its receipt is put into the book, then the clip gets its own name. So a clip that exists has a receipt,
wherever the run was killed, and the same command again makes what is missing and nothing else.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from clinical_asr import quality, wav
from clinical_asr.clips import Clip, Markup, Progress, Receipt, Synthesise, silent_progress, talker_clips
from clinical_asr.errors import AudioError, ConfigError, FlywheelError
from clinical_asr.loudness import Samples, active_level
from clinical_asr.noise import Mixture, mix
from clinical_asr.receipts import OpenBook, ReceiptBook
from clinical_asr.workers import Spread, in_order

BATCH = 16  # clips a worker makes before it reports: one flush to the disk for all of them
TALKER_FILES = 48  # clips of other voices held in memory by each process, about 16 MB


def render(
    clips: Collection[Clip],
    folder: Path,
    synthesise: Synthesise,
    *,
    markup: Markup | None = None,
    progress: Progress[Any] = silent_progress,
    workers: int = 1,
    earlier: Sequence[Path] = (),
) -> list[Receipt]:
    """Speak every clip that ``folder`` does not hold yet; the receipts of all, in the order of ``clips``.

    Raises as :func:`iter_render` does.
    """
    _require_markup(clips, markup)
    made = iter_render(clips, folder, synthesise, markup=markup, workers=workers, earlier=earlier)
    return list(progress(cast("Sequence[Receipt]", Counted(len(clips), made)), "synthesise"))


def iter_render(
    clips: Iterable[Clip],
    folder: Path,
    synthesise: Synthesise,
    *,
    markup: Markup | None = None,
    workers: int = 1,
    spread: Spread | None = None,
    earlier: Sequence[Path] = (),
) -> Iterator[Receipt]:
    """The same, clip by clip as they are done: a plan of any length in flat memory.

    They are made by so many ``workers`` of this machine, or by ``spread``, whose workers must all see ``folder``.
    Clips that lie in one of the ``earlier`` folders are linked from there (copied, on another disk) and not spoken.

    Raises:
        FlywheelError: a clip imposes a pronunciation and ``markup`` is missing: it would be ignored without a word.
        AudioError: the engine returned something that is not speech, or the disk is full.
        ConfigError: several workers, but an engine that cannot be handed to another process.
    """
    alone = workers <= 1 and spread is None
    studio = Studio(folder if alone else folder.absolute(), synthesise, markup)
    if not alone:
        _require_picklable(studio)
    share = spread or partial(in_order, workers=workers)
    with OpenBook(folder) as book:
        shelf = _Shelf(folder, book, [ReceiptBook(other) for other in earlier if other.is_dir()])
        batches: deque[list[Clip]] = deque()
        jobs = _missing(clips, shelf, studio, batches, 1 if alone else BATCH)
        for receipts in share(studio.record, jobs):
            _shelve(receipts, shelf)
            yield from (shelf.receipt(clip) for clip in batches.popleft())
        book.finish()


@dataclass(frozen=True)
class Counted:
    """An iterator whose length is known, so that progress can be shown over it."""

    count: int
    items: Iterator[Any]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return self.items


def _missing(
    clips: Iterable[Clip], shelf: _Shelf, studio: Studio, batches: deque[list[Clip]], size: int
) -> Iterator[list[Clip]]:
    """Batch after batch, the clips that have to be spoken; whole batches are noted in ``batches``."""
    source = iter(clips)
    while batch := list(islice(source, size)):
        todo = [clip for clip in batch if not shelf.holds(clip)]
        _require_markup(todo, studio.markup)
        for clip in shelf.talkers_wanted(todo):
            _shelve(studio.record([clip]), shelf)
        batches.append(batch)
        yield todo


@dataclass
class _Shelf:
    """Which clips are there or on their way, here and in the folders of earlier cycles."""

    folder: Path
    book: OpenBook
    earlier: list[ReceiptBook]
    coming: set[str] = field(default_factory=set)
    voices: set[str] = field(default_factory=set)
    """Voices whose background speech is there."""

    def holds(self, clip: Clip) -> bool:
        """True if nothing need be spoken; if not, the caller is going to make it."""
        if clip.file_name in self.coming or self.name(clip) is not None or self._fetched(clip):
            return True
        self.coming.add(clip.file_name)
        return False

    def name(self, clip: Clip) -> str | None:
        """The name under which a clip is here, whole."""
        return next((name for name in (clip.file_name, clip.earlier_name) if self.book.holds(name)), None)

    def _fetched(self, clip: Clip) -> bool:
        """Take the clip, and its receipt, from an earlier folder that holds it whole."""
        for other in self.earlier:
            for name in (clip.file_name, clip.earlier_name):
                if other.holds(name):
                    receipt = other.get(name)
                    self.book.write([receipt] if receipt else [])
                    _link(other.folder / name, self.folder / name)
                    return True
        return False

    def talkers_wanted(self, clips: Iterable[Clip]) -> list[Clip]:
        """Clips of background voices that must be there before these clips can be mixed."""
        voices = {voice for clip in clips for voice in clip.talkers} - self.voices
        self.voices |= voices
        return [clip for clip in talker_clips(sorted(voices)) if not self.holds(clip)]

    def receipt(self, clip: Clip) -> Receipt:
        """The receipt of a clip that is here."""
        name = self.name(clip) or clip.file_name
        return self.book.get(name) or _without_receipt(clip, self.folder / name)


def _shelve(receipts: Sequence[Receipt], shelf: _Shelf) -> None:
    """Receipts first, then names. A run that was killed in between has left the receipt: it is not written twice."""
    known = {receipt.audio_filepath: shelf.book.get(receipt.audio_filepath) for receipt in receipts}
    compared = [_compared(receipt, known[receipt.audio_filepath]) for receipt in receipts]
    fresh = [receipt for receipt in compared if receipt != known[receipt.audio_filepath]]
    if fresh:
        shelf.book.write(fresh)
    for receipt in receipts:
        path = shelf.folder / receipt.audio_filepath
        _part(path).replace(path)
        shelf.coming.discard(path.name)


def _compared(receipt: Receipt, before: Receipt | None) -> Receipt:
    """A clip that was lost or damaged and is spoken again should be what it was."""
    if before is None or before.audio_digest == receipt.audio_digest:
        return receipt
    suspect = "; ".join(filter(None, (receipt.suspect, "was spoken again and differs from before")))
    return msgspec.structs.replace(receipt, suspect=suspect)


@dataclass(frozen=True)
class Studio:
    """Where clips are made: an engine and a folder. Handed to each worker process."""

    folder: Path
    synthesise: Synthesise
    markup: Markup | None = None

    def record(self, clips: Sequence[Clip]) -> list[Receipt]:
        """Make these clips under passing names; their receipts."""
        return [self._one(clip) for clip in clips]

    def _one(self, clip: Clip) -> Receipt:
        spoken = self.markup(clip.text, clip.ipa) if self.markup is not None else clip.text
        speech = _speech(self.synthesise(spoken, clip.voice_id), clip)
        mixture = mix(speech, clip.noise_level, f"{clip.seed}/{clip.file_name}", self._talkers(clip))
        content = wav.encoded(mixture.samples)
        path = _part(self.folder / clip.file_name)
        wav.write(path, content)
        return _receipt(clip, mixture, wav.decoded(content, path), speech)

    def _talkers(self, clip: Clip) -> list[Samples]:
        return [_samples(self.folder / other.file_name) for other in talker_clips(clip.talkers)]


@lru_cache(maxsize=TALKER_FILES)
def _samples(path: Path) -> Samples:
    return wav.read(path).scaled


def _part(path: Path) -> Path:
    """The passing name: always the same, so that what a killed worker left is written over by the next."""
    return path.with_name(f"{path.name}.new.part")


def _link(source: Path, target: Path) -> None:
    """The same file in two folders: no second copy where the disk can do without."""
    part = _part(target)
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        with ExitStack() as on_failure:
            on_failure.callback(part.unlink, missing_ok=True)
            shutil.copyfile(source, part)
            on_failure.pop_all()
    part.replace(target)


def _require_picklable(studio: Studio) -> None:
    try:
        pickle.dumps(studio)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        why = f"the speech engine cannot be handed to another process ({error})"
        raise ConfigError(why, "workers", "use one worker, or an engine at the top level of a module") from None


def _require_markup(clips: Iterable[Clip], markup: Markup | None) -> None:
    if markup is not None:
        return
    words = {term for clip in clips for term in clip.ipa}
    if words:
        some = ", ".join(sorted(words)[:5])
        raise FlywheelError(
            f"the speech engine cannot be told a pronunciation, {len(words)} are imposed ({some})",
            "synthesise",
            "use an engine that reads IPA, or remove these lines from pronunciation_overrides.csv",
        )


def _speech(samples: Samples, clip: Clip) -> Samples:
    """What the engine returned, if it is speech at all."""
    speech = np.asarray(samples, dtype=np.float32)
    if speech.ndim == 1 and speech.size and np.isfinite(speech).all() and np.abs(speech).max() > 0:
        return speech
    form = f"shape {speech.shape}" + ("" if speech.ndim != 1 or speech.size == 0 else ", silent or not finite")
    raise AudioError(
        f"the speech engine returned no speech ({form})",
        f"voice {clip.voice_id}, {clip.text[:60]!r}",
        "try another voice, or drop the sentence",
    )


def _receipt(clip: Clip, mixture: Mixture, recording: wav.Recording, speech: Samples | None) -> Receipt:
    found = quality.findings(recording, clip.text, clip.noise_level)
    if speech is not None and active_level(speech) < wav.SILENT_BELOW:
        found.insert(0, f"was silent as the engine spoke it ({active_level(speech):.0f} dBFS)")
    return Receipt(
        audio_filepath=clip.file_name,
        audio_digest=recording.digest,
        text=clip.text,
        voice_id=clip.voice_id,
        noise_level=clip.noise_level,
        duration=recording.duration,
        noise_kind=mixture.noise_kind,
        measured_snr=None if mixture.measured_snr is None else round(mixture.measured_snr, 3),
        suspect="; ".join(found),
    )


def _without_receipt(clip: Clip, path: Path) -> Receipt:
    """A clip that was there before and whose receipt is lost; nothing proves that it is synthetic."""
    recording = wav.read(path)
    receipt = _receipt(clip, Mixture(recording.samples), recording, None)
    suspect = "; ".join(filter(None, ("has no receipt", receipt.suspect)))
    return msgspec.structs.replace(receipt, audio_filepath=path.name, suspect=suspect)
