"""Sentences by a language model, as the command of that name wants them: what may leave, the key, what was refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import progress, tell

if TYPE_CHECKING:
    from clinical_asr.composition import Ask, Refused, Request
    from clinical_asr.egress import Egress
    from clinical_asr.engines.llm import Chat
    from clinical_asr.records import Sentence, Term
    from clinical_asr.wording import Style

KEY = "CLINICAL_ASR_LLM_KEY"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command's options ask for."""

    url: str
    model: str
    tries: int
    timeout: float
    allow: str
    fall_back: bool
    designer: bool
    contexts_per_term: int
    seed: int
    style: Style


def compose_sentences(
    terms: Sequence[Term], frames_say: Sequence[Sentence], wish: Wish, output: Path
) -> list[Sentence]:
    """The model's sentences; ``frames_say`` fills the gaps if that is wished.

    Raises ConfigError for options that cannot be, FlywheelError if sentences were refused or the endpoint fails.
    """
    from clinical_asr.composition import compose, orders
    from clinical_asr.errors import FlywheelError
    from clinical_asr.sentences import CONTEXTS

    journal = output.with_name(f"{output.stem}.llm.jsonl")
    ask = _writer(wish, output)
    wanted = orders(terms, CONTEXTS, wish.contexts_per_term)
    built, refused = compose(wanted, ask, journal, model=wish.model, style=wish.style, seed=wish.seed,
                             tries=wish.tries, progress=progress)  # fmt: skip
    for row in refused:
        tell(f"refused: {row.line()}", err=True)
    if refused and not wish.fall_back:
        why = f"{len(refused)} of {len(wanted)} sentences were refused; {len(built)} are kept in {journal}"
        mend = "the same command asks for the missing ones again; --fall-back takes frames for them"
        raise FlywheelError(why, wish.model, mend)
    place = {term.term: number for number, term in enumerate(terms)}
    return sorted(built + _frames_for(refused, frames_say), key=lambda sentence: place[sentence.term])


def _writer(wish: Wish, output: Path) -> Ask:
    """Who writes. What would leave this machine is said before anything does."""
    from clinical_asr.engines.llm import Chat
    from clinical_asr.errors import ConfigError

    if not (wish.url and wish.model):
        raise ConfigError("one of --llm and --llm-model is missing", "sentences", "give the endpoint and the model")
    if wish.tries < 1 or wish.timeout <= 0:
        raise ConfigError("must be at least 1 try and more than 0 seconds", "--llm-tries, --llm-timeout")
    egress = o.permitted(wish.allow, output.with_name("egress.jsonl"))
    chat = Chat(wish.url, wish.model, egress, key=os.environ.get(KEY, ""), timeout=wish.timeout)
    _disclose(egress, chat.host)
    return _designer(chat) if wish.designer else _one_by_one(chat)


def _one_by_one(chat: Chat) -> Ask:
    def replies(requests: Iterable[Request]) -> Iterator[str]:
        for request in requests:
            yield chat(request.conversation, seed=request.seed, subject=request.subject)

    return replies


def _designer(chat: Chat) -> Ask:
    """NeMo Data Designer at the same endpoint; its own telemetry is switched off before it is imported."""
    from clinical_asr.engines.data_designer import TELEMETRY, DataDesigner

    os.environ[TELEMETRY] = "false"
    root = chat.url.removesuffix("/chat/completions")
    return DataDesigner(root, chat.model, chat.egress, key=chat.key, timeout=chat.timeout)


def _disclose(egress: Egress, host: str) -> None:
    from clinical_asr.egress import Service, is_local

    if not is_local(host):
        typer.echo(f"leaves this machine, to {host}: {Service.LLM.receives}; each sending is written to {egress.log}")


def _frames_for(refused: Sequence[Refused], frames_say: Sequence[Sentence]) -> list[Sentence]:
    """For each refused sentence the frames' one of that term, in the same context if it has one."""
    chosen = []
    for row in refused:
        own = [sentence for sentence in frames_say if sentence.term == row.term and sentence not in chosen]
        same = [sentence for sentence in own if sentence.context_type == row.context_type]
        chosen += (same or own)[:1]
    return chosen
