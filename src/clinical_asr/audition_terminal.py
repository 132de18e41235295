"""The audition without a browser: plays through the machine's own player, reads one answer a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clinical_asr.audition import Standing, Verdict
from clinical_asr.audition_desk import Card, Desk, Judgement
from clinical_asr.errors import FlywheelError
from clinical_asr.jsonl import atomic_path

Ask = Callable[[str], str | None]
"""Shows a question and returns the answer, ``None`` where there will be no more."""
Play = Callable[[Path], bool]
"""Plays a file to its end; False if it could not."""

HELP = """\
  Enter     play it (again)          1  good: said as we say it
  w         the term alone           2  fix: say it otherwise, then listen again
  s         other pronunciations     3  drop: leave the term out
  n TEXT    note for the verdict     k  back      j  later      q  stop
  good is taken only after the clip was played to its end; without a player, play the file yourself and type: heard"""
SAYS = {Standing.CHANGED: ", pronounced otherwise since it was heard", Standing.GOOD: ", found good before",
        Standing.DROP: ", dropped before", Standing.FIX: ", to be mended"}  # fmt: skip


def listen(desk: Desk, by: str, *, ask: Ask, tell: Callable[[str], None], play: Play | None) -> None:
    """Go through the list until it has been gone through, or the answers end."""
    _Session(desk, ask, tell, play).run(by)


class _Session:
    def __init__(self, desk: Desk, ask: Ask, tell: Callable[[str], None], play: Play | None) -> None:
        self.desk, self.ask, self.tell, self.play_file = desk, ask, tell, play
        self.by, self.at, self.note = "", 0, ""
        self.heard: dict[str, str] = {}

    def run(self, by: str) -> None:
        given = by or self.ask("Who is listening? ")
        while given is not None and not given.strip():
            given = self.ask("Your name stands beside every verdict. Who is listening? ")
        if given is None:
            return
        self.by = given
        self.tell(f"{len(self.desk.listed)} terms, listener {self.by}. Keys:\n{HELP}")
        while self.at < len(self.desk.listed) and self._one():
            pass

    def _card(self) -> Card:
        wanted = self.desk.listed[self.at]
        return next(card for card in self.desk.cards() if card.term == wanted)

    def _one(self) -> bool:
        """Show one term and take answers until the list moves on; False to stop."""
        here, self.note = self.at, ""
        self._show(self._card())
        self._play(self._card())
        while self.at == here:
            answer = self.ask(f"{self._card().term} [Enter 1 2 3 w s n j k q ?] ")
            if answer is None or answer.strip().lower() in ("q", "quit"):
                return False
            try:
                self._act(answer.strip())
            except FlywheelError as error:
                self.tell(f"  {error}")
        return True

    def _show(self, card: Card) -> None:
        suspect = f"\n  listen with care: the clip {card.suspect}" if card.suspect else ""
        place = f"{self.at + 1} of {len(self.desk.listed)}"
        self.tell(
            f"\n{place}  {card.term} ({card.category}{SAYS.get(card.standing, '')})  {_slashed(card)}, {card.source}"
            f"\n  {card.sentence}{suspect}"
        )

    def _act(self, answer: str) -> None:
        key, _, rest = answer.partition(" ")
        acts: dict[str, Callable[[], None]] = {
            "": lambda: self._play(self._card()), "w": lambda: self._say(""), "s": self._suggest,
            "n": lambda: self._take_note(rest), "heard": self._said_so,
            "1": lambda: self._judge(Verdict.GOOD), "2": lambda: self._fix(rest),
            "3": lambda: self._judge(Verdict.DROP), "j": lambda: self._move(1), "k": lambda: self._move(-1),
        }  # fmt: skip
        acts.get(key.lower(), lambda: self.tell(HELP))()

    def _move(self, step: int) -> None:
        self.at = max(0, self.at + step)

    def _play(self, card: Card) -> None:
        path = self.desk.clips / card.clip
        if self.play_file is not None and self.play_file(path):
            self.heard[card.clip] = "player"
        else:
            self.tell(f"  play this file, then type heard: {path}")

    def _said_so(self) -> None:
        """Nobody but the listener knows: the verdict says that it rests on their word."""
        self.heard.setdefault(self._card().clip, "said so")
        self.tell("  noted: you have heard it")

    def _say(self, ipa: str) -> None:
        """Speak the term alone, into a file that is always the same."""
        path = self.desk.clips / "tried.wav"
        content = self.desk.say(self._card().term, ipa)
        with atomic_path(path) as part:
            part.write_bytes(content)
        if self.play_file is None or not self.play_file(path):
            self.tell(f"  play this file: {path}")

    def _suggest(self) -> None:
        others = self.desk.suggestions(self._card().term)
        for number, (ipa, why) in enumerate(others, 1):
            self.tell(f"  {number}. /{ipa}/  {why}")
        chosen = (self.ask("  number to hear, or IPA of your own: ") or "").strip()
        number = int(chosen) if chosen.isascii() and chosen.isdigit() else 0
        ipa = others[number - 1][0] if 1 <= number <= len(others) else chosen
        if ipa:
            self._say(ipa)
            self.tell(f"  to use it: 2 {ipa}")

    def _fix(self, ipa: str) -> None:
        wanted = ipa or self.ask(f"  IPA, now {_slashed(self._card())}: ")
        if wanted and wanted.strip():
            self._judge(Verdict.FIX, wanted.strip())
            self.tell("  written down; listen again and judge the new clip")
            self._show(self._card())
            self._play(self._card())

    def _take_note(self, text: str) -> None:
        self.note = text or self.ask("  note: ") or ""

    def _judge(self, verdict: Verdict, ipa: str = "") -> None:
        card = self._card()
        played = self.heard.get(card.clip, "")
        given = Judgement(term=card.term, clip=card.clip, verdict=verdict, by=self.by, ipa=ipa, notes=self.note,
                          played=played)  # fmt: skip
        self.desk.judge(given)
        if verdict is not Verdict.FIX:
            self.at += 1


def _slashed(card: Card) -> str:
    return f"/{card.shown}/" if card.shown else "as the service reads it"
