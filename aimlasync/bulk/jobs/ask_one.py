"""One row from its request to its result: the call, and the calls again when the answer is no good.

Law: a caller of the client, by its public names; keeps nothing. Every answered call is counted, also those whose
answer is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.tasks.request import Request
from aimlasync.chat.types import ChatCompletion, Usage
from aimlasync.errors import AimlasyncError, AnswerError

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient
    from aimlasync.info import Info
    from aimlasync.responses.types import Response, ResponseUsage

    Reply = ChatCompletion | Response


class Answer(msgspec.Struct):
    """What was read out of a good reply."""

    label: str | list[str] | None = None
    confidence: float | None = None


Read = Callable[["Reply"], Answer]
"""Reads an answer out of a reply. Raises AnswerError for one that is refused, truncated or invalid."""


class Result(msgspec.Struct, eq=False):
    """What became of one request: a reply, or an error; an answer that is no good is both."""

    request: Request
    reply: Reply | None = None
    error: AimlasyncError | None = None
    answer: Answer | None = None
    row: Row | None = None
    calls: int = 1
    """Calls made: more than one when invalid answers were asked for again."""
    attempts: int = 0
    """HTTP tries of all those calls; 0 when nothing was sent."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    """Summed over all answered calls; None when none of them counted any."""
    cost_usd: float | None = None
    """As the vendor states, summed over all answered calls; None when one of them has no price."""
    shared_with: str | None = None
    """The custom_id of an identical request whose call answered this one too."""

    @property
    def custom_id(self) -> str:
        """The request's name."""
        return self.request.custom_id

    @property
    def ok(self) -> bool:
        """Whether there is a good answer."""
        return self.error is None

    @property
    def label(self) -> str | list[str] | None:
        """The label of a classification, or its labels; None without a good answer."""
        return None if self.answer is None else self.answer.label

    @property
    def text(self) -> str | None:
        """The text of the answer, None without one."""
        reply = self.reply
        if reply is None:
            return None
        return reply.text if isinstance(reply, ChatCompletion) else reply.output_text

    @property
    def info(self) -> Info | None:
        """Facts of the last call."""
        if self.error is not None and self.error.info is not None:
            return self.error.info
        return None if self.reply is None else self.reply.info

    def count(self, reply: Reply) -> None:
        """Take in a reply, and what it took."""
        self.reply, self.error = reply, None
        info, usage = reply.info, reply.usage
        self.attempts += info.attempts
        cost = info.cost_usd
        if usage is not None:
            taken, given = usage_of(usage)
            self.tokens_in = (self.tokens_in or 0) + taken
            self.tokens_out = (self.tokens_out or 0) + given
        if self.calls == 1:
            self.cost_usd = cost
        else:
            self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost


def usage_of(usage: Usage | ResponseUsage) -> tuple[int, int]:
    """Return the tokens in and out, by whichever endpoint's names."""
    if isinstance(usage, Usage):
        return usage.prompt_tokens or 0, usage.completion_tokens or 0
    return usage.input_tokens or 0, usage.output_tokens or 0


async def ask(client: AsyncClient, request: Request, *, read: Read | None = None, retry_invalid: int = 0) -> Result:
    """Ask for one request, and again up to `retry_invalid` times while `read` says that the answer is no good."""
    result = Result(request, calls=0)
    while True:
        result.calls += 1
        try:
            reply = await _create(client, request)
        except AimlasyncError as error:
            # A reply of an earlier call stays: it was paid for.
            result.error = error
            if error.info is not None:
                result.attempts += error.info.attempts
            return result
        result.count(reply)
        if read is None:
            return result
        try:
            result.answer = read(reply)
        except AnswerError as error:
            result.error = error
            if result.calls <= retry_invalid:
                continue
        return result


def _create(client: AsyncClient, request: Request) -> Coroutine[Any, Any, Reply]:
    body = request.body
    if request.api == "responses":
        return client.responses.create(
            model=body["model"], input=body.get("input", ""), extra_body=body, priority="bulk"
        )
    return client.chat.completions.create(
        model=body["model"], messages=body["messages"], extra_body=body, priority="bulk"
    )
