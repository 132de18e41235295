"""The round trip within a cycle: the baseline's own hypotheses are the second hearing, so nothing is decoded twice.

Which rows of a cycle count is settled once, before its first leaderboard, and both evaluations rest on it: two scores
over different rows would not be comparable. A clearance, kept beside all cycles, holds from the next cycle on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from clinical_asr.cycle import Cycle, account
from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.records import Hypothesis, LedgerEntry, Outcome, Utterance
from clinical_asr.suspects import Clearance, excluded, find, standing

R = TypeVar("R", bound=Utterance)
CLEARED = "cleared_clips.jsonl"
_CYCLE = re.compile("cycle([1-9][0-9]*)")


def suspects_path(cycle: Cycle) -> Path:
    """All clips of the cycle that the round trip suspects, cleared or not."""
    return cycle.folder / "suspects.jsonl"


def clearances_path(cycle: Cycle) -> Path:
    """What people have listened to and cleared, for every cycle: a clip keeps its id."""
    return cycle.root / CLEARED


def cycle_of(folder: Path) -> Cycle | None:
    """The cycle that a folder holds, told by its name; None for any other folder.

    >>> cycle_of(Path("cycles/cycle2")), cycle_of(Path("cycles/boards"))
    (Cycle(root=PosixPath('cycles'), number=2), None)
    """
    place = folder if _CYCLE.fullmatch(folder.name) else Path(os.path.realpath(folder))  # one may stand in it
    found = _CYCLE.fullmatch(place.name)
    return Cycle(place.parent, int(found[1])) if found else None


def clearances_of(suspects: Path) -> Path:
    """Where clearances of these suspects are kept: for every cycle if they are one's, else beside them."""
    cycle = cycle_of(suspects.parent)
    return clearances_path(cycle) if cycle else suspects.with_name(CLEARED)


def cleared(kept: Path) -> list[Clearance]:
    """All that is cleared: what is ``kept`` there, and what was once written into the folders of single cycles."""
    own = [path for path in kept.parent.glob(f"*/{CLEARED}") if kept.name == CLEARED and cycle_of(path.parent)]
    return [clearance for path in (kept, *own) if path.is_file() for clearance in read_rows(path, Clearance)]


def without_suspects(cycle: Cycle, rows: Iterable[R], normaliser: str) -> list[R]:
    """The rows that count in this cycle. The baseline's hypotheses must be there.

    Writes ``suspects.jsonl`` and ``ledger_scores.jsonl`` the first time.
    """
    ledger = cycle.ledger("scores")
    if not ledger.exists():
        _settle(cycle, normaliser)
    out = left_out(ledger)
    return [row for row in rows if row.id not in out]


def left_out(ledger: Path) -> set[str]:
    """Rows that a ledger of scores says are excluded."""
    return {entry.id for entry in read_rows(ledger, LedgerEntry) if entry.outcome is Outcome.EXCLUDED}


def _settle(cycle: Cycle, normaliser: str) -> None:
    """The ledger last: its presence means that the suspects are settled."""
    heard = read_rows(cycle.hypotheses("before"), Hypothesis)
    found = find(heard, normaliser)
    write_rows(suspects_path(cycle), found)
    entries = excluded(standing(found, cleared(clearances_path(cycle))))
    entries += _scored(heard, {entry.id for entry in entries})
    account("scores", [row.id for row in heard], entries)
    write_rows(cycle.ledger("scores"), entries)


def _scored(rows: Sequence[Hypothesis], out: set[str]) -> list[LedgerEntry]:
    return [
        LedgerEntry(id=row.id, outcome=Outcome.SCORED, audio_filepath=row.audio_filepath)
        for row in rows
        if row.id not in out
    ]
