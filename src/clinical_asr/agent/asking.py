"""The person's leave, fetched from their client by elicitation: the one way by which a tool may do what needs it.

Two ways of asking exist. Until protocol 2025-11-25 the server sends the client a request in the middle of a call; from
2026-07-28 the call is answered with what is to be asked, and the client calls again with the answer. The SDK seals the
state between the two calls and binds it to the tool and its arguments; a question is answered once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from clinical_asr.errors import FlywheelError

KEY = "leave"
MOST_OPEN = 100  # questions; a person answers the latest
SHORTEST_SENTENCE = 20  # letters, as the audition's own waiver


@dataclass(frozen=True)
class Question:
    """What the person is shown, and the options for which they must say something themselves."""

    text: str
    sentences: tuple[str, ...]

    def schema(self) -> dict[str, Any]:
        """The form: a box to tick, and a line for each sentence."""
        box = {"type": "boolean", "title": "I allow this", "description": "Leave it unticked to refuse."}
        line = {"type": "string", "title": "Why, in your own words", "minLength": SHORTEST_SENTENCE, "maxLength": 500}
        lines = {name: {**line, "description": f"For --{name.replace('_', '-')}."} for name in self.sentences}
        return {"type": "object", "properties": {"allow": box, **lines}, "required": ["allow", *self.sentences]}


class Desk:
    """Questions that were asked and not answered yet; a new server knows of none."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}

    async def ask(
        self, ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, question: Question, typed: str
    ) -> dict[str, str] | types.InputRequiredResult:
        """The person's sentences, by option, if they allow it; or the question, to be answered by another call.

        Raises FlywheelError if they do not, or if their client cannot ask them: with the command they may type.
        """
        if not can_ask(ctx):
            raise FlywheelError("needs the person's own leave, and this client cannot ask them", "confirmation",
                                f"they can type it themselves: {typed}")  # fmt: skip
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            told = await ctx.session.elicit_form(question.text, question.schema(), related_request_id=ctx.request_id)
            return allowed(told, question, typed)
        if params.request_state is None:
            return self._asked(question)
        if self._open.pop(params.request_state, None) != question.text:
            raise FlywheelError("was answered already, or something has changed since", "confirmation", "call it again")
        return allowed((params.input_responses or {}).get(KEY), question, typed)

    def _asked(self, question: Question) -> types.InputRequiredResult:
        ticket = secrets.token_urlsafe(16)
        for oldest in list(self._open)[: len(self._open) - MOST_OPEN]:
            del self._open[oldest]
        self._open[ticket] = question.text
        form = types.ElicitRequestFormParams(message=question.text, requested_schema=question.schema())
        return types.InputRequiredResult(input_requests={KEY: types.ElicitRequest(params=form)}, request_state=ticket)


def can_ask(ctx: ServerRequestContext[Any, Any]) -> bool:
    """True if the client said that it shows forms to its person."""
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def allowed(told: Any, question: Question, typed: str) -> dict[str, str]:
    """The sentences. Raises FlywheelError unless the person accepted, ticked the box and said what was asked."""
    content = told.content or {} if isinstance(told, types.ElicitResult) and told.action == "accept" else {}
    if content.get("allow") is not True:
        raise FlywheelError("the person did not allow it", "confirmation",
                            f"do not ask again unasked; they can type it themselves: {typed}")  # fmt: skip
    sentences = {name: " ".join(str(content.get(name) or "").split()) for name in question.sentences}
    short = [name for name, text in sentences.items() if len(text) < SHORTEST_SENTENCE]
    if short:
        raise FlywheelError(f"no sentence of {SHORTEST_SENTENCE} letters or more for {', '.join(short)}",
                            "confirmation", "the person must say why in their own words")  # fmt: skip
    return sentences
