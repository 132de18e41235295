"""What a plan will come to, before it runs: rows, minutes, bytes, and on a hosted service the time and the limits."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from clinical_asr.clips import BABBLE_TEXTS, ClipPlan
from clinical_asr.errors import AudioError
from clinical_asr.records import SAMPLE_RATE, Seconds
from clinical_asr.wav import HEADER

SECONDS_PER_LETTER: Seconds = 0.062  # 160 words a minute of six letters and a space, measured over the default voices
CLIPS_PER_SECOND = 40  # of eSpeak NG on one core, three noise levels; benchmarks/synthesis.py measures yours
SECONDS_PER_REQUEST: Seconds = 1.5  # assumed of a hosted service: one sentence, one answer
DROP_SHARE = 0.03  # assumed: requests that a shared service refuses or breaks off; each is made again
REQUESTS_PER_MINUTE = 40.0  # assumed where the account's own limit is not given
ASK_ABOVE = 100  # rows on a hosted service that nobody starts by accident


@dataclass
class Outlook:
    """What is there and what is to come, counted over a plan."""

    rows: int = 0
    there: int = 0
    """Rows whose clip lies here, or in an earlier folder, already."""
    seconds: Seconds = 0.0
    """Of speech to be made, estimated from its letters."""
    letters: int = 0
    """To be spoken."""
    noise_levels: Counter[str] = field(default_factory=Counter)
    voices: Counter[str] = field(default_factory=Counter)
    talkers: set[str] = field(default_factory=set)

    @property
    def to_speak(self) -> int:
        """Requests to the engine: new clips, and the sentences that babble is made of (at most)."""
        return self.rows - self.there + len(self.talkers) * len(BABBLE_TEXTS)

    @property
    def bytes(self) -> int:
        """Of new files."""
        return round(self.seconds * SAMPLE_RATE * 2) + self.to_speak * (HEADER + 600)  # and a receipt each

    def lines(self) -> list[str]:
        """For a person to read before it begins."""
        levels = ", ".join(f"{count} {level}" for level, count in self.noise_levels.items())
        told = [f"{self.rows} rows: {len(self.voices)} voices; {levels}"]
        there = f", {self.there} clips are there already" if self.there else ""
        told.append(f"about {self.seconds / 60:.0f} min of new speech, {self.bytes / 1e6:.0f} MB{there}")
        return told

    def hosted_lines(self, requests_per_minute: float) -> list[str]:
        """The same of a hosted service. Figures that are assumed say so."""
        limit = requests_per_minute or REQUESTS_PER_MINUTE
        minutes = self.to_speak * max(SECONDS_PER_REQUEST / 60, 1 / limit)
        drops = round(DROP_SHARE * self.to_speak)
        whose = "" if requests_per_minute else ", assumed: see your account's, give --requests-per-minute"
        return [
            f"{self.to_speak} requests, {self.letters} letters go to the service; it counts them against your account",
            f"at {limit:g} requests a minute{whose}: about {minutes:.0f} min",
            f"about {drops} of them will be refused or break off (assumed: {DROP_SHARE:.0%}) and are made again, later",
        ]

    def require_room(self, folder: Path) -> None:
        """Raises AudioError if the disk cannot hold it."""
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if self.bytes > free:
            needs = f"needs about {self.bytes / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free"
            raise AudioError(needs, str(folder), "free some space, or write to another disk")


def outlook(plan: Iterable[ClipPlan], folders: Iterable[Path]) -> Outlook:
    """Go through a plan once. ``folders`` are those that may hold clips already, each with its ``receipts.jsonl``."""
    seen, places = Outlook(), [folder for folder in folders if folder.is_dir()]
    for clip in plan:
        seen.rows += 1
        seen.noise_levels[clip.noise_level] += 1
        seen.voices[clip.voice_id] += 1
        names = (clip.file_name, clip.earlier_name)
        if any((folder / name).exists() for folder in places for name in names):
            seen.there += 1
            continue
        seen.letters += len(clip.text)
        seen.seconds += SECONDS_PER_LETTER * len(clip.text)
        seen.talkers |= set(clip.talkers)
    return seen
