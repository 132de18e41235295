"""Sentences by a language model: asked for one at a time, checked, asked again with the reason, never paid for twice.

The model is handed in as a callable. Every sentence that passes goes to a journal at once, under a key made of model,
prompt, term, context and seed; the same command again asks only for what is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from clinical_asr.jsonl import append_row, read_rows
from clinical_asr.prompts import Message, Order, again, digest, in_style, messages, tidy, unusable
from clinical_asr.records import Row, Sentence, Term
from clinical_asr.wording import Style

Progress = Callable[[Sequence[Any], str], Iterable[Any]]


class Ask(Protocol):
    """A language model behind a door: conversation in, reply out. ``subject`` names whose row it is about."""

    def __call__(self, conversation: Sequence[Message], *, seed: int, subject: str) -> str:
        """Raises FlywheelError if there is no reply to be had."""


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
    known = {row.key: row for row in read_journal(journal)}
    said: dict[str, list[str]] = {}
    sentences: list[Sentence] = []
    refused: list[Refused] = []
    for order in progress(wanted, "sentences"):
        others = said.setdefault(order.term.term, [])
        row: Composed | Refused | None = known.get(_key(order, model, style, seed))
        if row is None:
            row = _compose_one(order, ask, model, style, seed, tries, tuple(others))
            if isinstance(row, Composed):
                append_row(journal, row)
        if isinstance(row, Refused):
            refused.append(row)
            continue
        others.append(row.text)
        sentences.append(_sentence(order, row))
    return sentences, refused


def read_journal(path: Path) -> list[Composed]:
    """Sentences written so far; a last line that a killed process left unfinished is cut off the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    if len(complete) < len(content):
        path.write_bytes(complete)
    return read_rows(path, Composed)


def _compose_one(
    order: Order, ask: Ask, model: str, style: Style, seed: int, tries: int, others: Sequence[str]
) -> Composed | Refused:
    term, talk, reasons = order.term.term, messages(order, style, others), list[str]()
    key, text = _key(order, model, style, seed), ""
    for attempt in range(1, tries + 1):
        reply = ask(talk, seed=_draw(key, attempt), subject=term)
        text = tidy(reply)
        why = unusable(text, term, style, others)
        if not why:
            return Composed(key=key, text=in_style(text, term, style), term=term, context_type=order.context,
                            model=model, prompt=digest(style), seed=seed, asked=attempt)  # fmt: skip
        reasons.append(why)
        talk = [*messages(order, style, others), *again(text, why)]
    return Refused(term=term, context_type=order.context, reasons=tuple(reasons), reply=text[:200])


def _sentence(order: Order, row: Composed) -> Sentence:
    return Sentence(
        text=row.text,
        term=order.term.term,
        entity_category=order.term.entity_category,
        context_type=order.context,
        source=f"{row.model}#{row.prompt}",
    )


def _key(order: Order, model: str, style: Style, seed: int) -> str:
    parts = (model, digest(style), order.term.term, order.term.entity_category.value, order.context, order.number, seed)
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]


def _draw(key: str, attempt: int) -> int:
    """A seed for one request: the same for the same request, another one when it is asked again."""
    return int(hashlib.sha256(f"{key}/{attempt}".encode()).hexdigest()[:7], 16)
