"""Sentences by a language model: asked for, checked, asked for again with the reason, never paid for twice.

The model is handed in as a callable. Every sentence that passes goes to a journal at once, under a key made of model,
prompt, term, context and seed; the same command again asks only for what is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from clinical_asr.jsonl import append_row, read_rows
from clinical_asr.prompts import Message, Order, again, digest, in_style, messages, tidy, unusable
from clinical_asr.records import Row, Sentence, Term
from clinical_asr.wording import Style

Progress = Callable[[Sequence[Any], str], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """One reply that is wanted. ``subject`` names the term it is about, for the record of what was sent."""

    conversation: Sequence[Message]
    seed: int
    subject: str


Ask = Callable[[Iterable[Request]], Iterable[str]]
"""A language model behind a door: a reply for each request, in order; empty where none came. Requests may be taken one
by one, each then knows the replies before it. Raises FlywheelError if there are no replies to be had."""


class Composed(Row, frozen=True, kw_only=True):
    """A sentence that passed, as the journal keeps it."""

    key: str
    text: str
    """In the base's own style."""
    term: str
    context_type: str
    model: str
    prompt: str
    """Digest of the prompt."""
    seed: int
    asked: int
    """How often the model was asked for it."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence that did not come: what the last reply was and why each was refused."""

    term: str
    context_type: str
    reasons: tuple[str, ...]
    reply: str

    def line(self) -> str:
        """For a person."""
        return f"{self.term}, {self.context_type}: {self.reasons[-1]} (asked {len(self.reasons)} times): {self.reply!r}"


def orders(terms: Sequence[Term], contexts: Sequence[str], contexts_per_term: int) -> list[Order]:
    """What is to be written: for each term, the contexts in turn.

    >>> term = Term(term="cefazolin", entity_category="drug")
    >>> [(order.context, order.number) for order in orders([term], ["dictation", "handoff"], 3)]
    [('dictation', 0), ('handoff', 0), ('dictation', 1)]
    """
    count = len(contexts)
    return [Order(term, contexts[n % count], n // count) for term in terms for n in range(contexts_per_term)]


def compose(
    wanted: Sequence[Order],
    ask: Ask,
    journal: Path,
    *,
    model: str,
    style: Style = "lower",
    seed: int = 42,
    tries: int = 3,
    progress: Progress = lambda items, _: items,
) -> tuple[list[Sentence], list[Refused]]:
    """A sentence for each order, in order, and those that were refused ``tries`` times.

    Raises FlywheelError from ``ask``; what was written before it stays in ``journal``.
    """
    desk = _Desk(model, style, seed, {row.key: row for row in read_journal(journal)}, {})
    for order in wanted:
        if order_known := desk.known.get(desk.key(order)):
            desk.said.setdefault(order.term.term, []).append(order_known.text)
    waiting = [_Try(order) for order in wanted if desk.key(order) not in desk.known]
    for attempt in range(1, tries + 1):
        replies = iter(ask(desk.request(one, attempt) for one in waiting))
        for one in progress(waiting, "sentences" if attempt == 1 else f"asked again ({attempt})"):
            if row := desk.judge(one, next(replies, ""), attempt):
                append_row(journal, row)
        waiting = [one for one in waiting if desk.key(one.order) not in desk.known]
        if not waiting:
            break
    written = [(order, desk.known.get(desk.key(order))) for order in wanted]
    return [_sentence(order, row) for order, row in written if row], [one.refused() for one in waiting]


@dataclass(slots=True)
class _Try:
    """An order that no sentence has been found for yet: what came and why it was refused."""

    order: Order
    reasons: list[str] = field(default_factory=list)
    reply: str = ""

    def refused(self) -> Refused:
        return Refused(term=self.order.term.term, context_type=self.order.context, reasons=tuple(self.reasons),
                       reply=self.reply[:200])  # fmt: skip


@dataclass(slots=True)
class _Desk:
    """Where replies are judged: what is asked of whom, what has been accepted, what has been said of each term."""

    model: str
    style: Style
    seed: int
    known: dict[str, Composed]
    said: dict[str, list[str]]

    def key(self, order: Order) -> str:
        """Identity of a sentence: the same command asks for it once."""
        parts = (self.model, digest(self.style), order.term.term, order.term.entity_category.value, order.context,
                 order.number, self.seed)  # fmt: skip
        return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]

    def request(self, one: _Try, attempt: int) -> Request:
        """The conversation, with the last refusal and its reason; another seed at each attempt."""
        term = one.order.term.term
        talk = messages(one.order, self.style, self.said.get(term, ()))
        draw = int(hashlib.sha256(f"{self.key(one.order)}/{attempt}".encode()).hexdigest()[:7], 16)
        return Request([*talk, *(again(one.reply, one.reasons[-1]) if one.reasons else [])], draw, term)

    def judge(self, one: _Try, reply: str, attempt: int) -> Composed | None:
        """The sentence, if it can be used; else the reason is noted."""
        term, said = one.order.term.term, self.said.setdefault(one.order.term.term, [])
        one.reply = tidy(reply)
        if why := unusable(one.reply, term, self.style, said):
            one.reasons.append(why)
            return None
        row = Composed(key=self.key(one.order), text=in_style(one.reply, term, self.style), term=term,
                       context_type=one.order.context, model=self.model, prompt=digest(self.style), seed=self.seed,
                       asked=attempt)  # fmt: skip
        self.known[row.key] = row
        said.append(row.text)
        return row


def read_journal(path: Path) -> list[Composed]:
    """Sentences written so far; a last line that a killed process left unfinished is cut off the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    if len(complete) < len(content):
        path.write_bytes(complete)
    return read_rows(path, Composed)


def _sentence(order: Order, row: Composed) -> Sentence:
    return Sentence(
        text=row.text,
        term=order.term.term,
        entity_category=order.term.entity_category,
        context_type=order.context,
        source=f"{row.model}#{row.prompt}",
    )
