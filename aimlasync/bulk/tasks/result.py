"""What became of a request: the reply, the answer that was read out of it, or the error.

Plain data; nothing here is awaited. `reply_of` decodes the body in a record of a journal, by the endpoint that it is
of. Imports the replies of both endpoints and the rows of an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.tasks.request import Request
from aimlasync.chat.endings import ending_of
from aimlasync.chat.types import ChatCompletion, decode_completion
from aimlasync.cost.tokens import tokens_of
from aimlasync.errors import AimlasyncError, APIResponseValidationError
from aimlasync.responses.types import Response, decode_response
from aimlasync.structured.answer_text import answer_text

if TYPE_CHECKING:
    from aimlasync.chat.types import Usage
    from aimlasync.info import Info
    from aimlasync.responses.types import ResponseUsage

Reply = ChatCompletion | Response
"""The reply of either endpoint."""

IN_STORE = "(store)"
"""`shared_with` of an answer that was kept by the client's cache: nothing was asked and nothing was paid."""

# Characters of an answer or an error in the repr of a result.
_SHOWN = 80


class Answer(msgspec.Struct):
    """What was read out of a good reply."""

    label: str | list[str] | None = None
    confidence: float | None = None


Flaw = Literal["refused", "cut", "failed", "empty"]
"""Why an answer is no good: the model refused or a filter cut it, an output cap cut it, the server broke off, or it
says nothing."""

# What a message may have for an answer: a text, calls, sound, images, and calls as they were called once.
_ANSWERS = ("content", "tool_calls", "audio", "images", "function_call")

Read = Callable[[Reply], Answer]
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
    """The custom_id of an identical request whose call answered this one too, or IN_STORE."""
    earlier: tuple[Usage | ResponseUsage | None, ...] = ()
    """What the paid calls of this process took whose reply is not `reply`."""

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
    def parsed(self) -> Any:
        """The value, where the answer fills in a type; None without a good answer."""
        return None if self.error is not None or self.reply is None else self.reply.parsed

    @property
    def fields(self) -> dict[str, Any]:
        """The columns of the row; none where the request itself was given."""
        return {} if self.row is None else self.row.fields

    @property
    def text(self) -> str | None:
        """The text of the answer, None without one."""
        reply = self.reply
        if reply is None:
            return None
        return answer_text(reply)

    @property
    def usages(self) -> Sequence[Usage | ResponseUsage | None]:
        """What each of the paid calls took that this process made."""
        return self.earlier if self.reply is None else (*self.earlier, self.reply.usage)

    @property
    def info(self) -> Info | None:
        """The info of the last call."""
        error, reply = self.error, self.reply
        if error is not None and error.info is not None:
            return error.info
        return None if reply is None else reply.info

    def __repr__(self) -> str:
        # A list of results is looked at in a notebook, and the request alone has a screen of text.
        if self.error is not None:
            said = f"{type(self.error).__name__}: {_cut(str(self.error))}"
        else:
            said = f"ok {self.label if self.label is not None else _cut(self.text or '')!r}"
        return f"<Result {self.custom_id} {said}>"

    def fail(self, error: AimlasyncError) -> None:
        """Set the error of another call, and add its attempts, and what it took where a body without an answer says it.

        A reply of an earlier call stays, because it was paid for.
        """
        self.calls += 1
        self.error = error
        cost = None
        if (info := error.info) is not None:
            self.attempts += info.attempts
            cost = info.cost_usd
        spent = reply_of(error.raw) if isinstance(error, APIResponseValidationError) else None
        if spent is not None and (tokens := tokens_of(spent.usage)) is not None:
            is_first = self.reply is None and self.tokens_in is None
            self.tokens_in = (self.tokens_in or 0) + tokens[0]
            self.tokens_out = (self.tokens_out or 0) + tokens[1]
            self.earlier += (spent.usage,)
            self._add_cost(cost, is_first=is_first)

    def count(self, reply: Reply) -> None:
        """Set the reply of another call, and add its attempts, tokens and cost."""
        before, self.reply, self.error = self.reply, reply, None
        info = reply.info
        if before is not None and not before.info.cached:
            self.earlier += (before.usage,)
        if info.cached:
            self.shared_with = IN_STORE
            return
        is_first = self.calls == 1 or self.shared_with is not None
        self.shared_with = None
        self.attempts += info.attempts
        cost = info.cost_usd
        if (tokens := info.tokens) is not None:
            self.tokens_in = (self.tokens_in or 0) + tokens[0]
            self.tokens_out = (self.tokens_out or 0) + tokens[1]
        self._add_cost(cost, is_first=is_first)

    def _add_cost(self, cost: float | None, *, is_first: bool) -> None:
        if is_first:
            self.cost_usd = cost
        else:
            self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


def first_result(request: Request, reply: Reply) -> Result:
    """Return the result of a request after its first reply, with what that took."""
    info = reply.info
    if info.cached:
        return Result(request, reply, shared_with=IN_STORE)
    tokens_in, tokens_out = info.tokens or (None, None)
    # By position, which is faster than by name.
    return Result(request, reply, None, None, None, 1, info.attempts, tokens_in, tokens_out, info.cost_usd)


def ended_well(reply: Reply) -> bool:
    """Whether an answer plainly has no flaw: False where it has to be looked at."""
    if type(reply) is not ChatCompletion or len(choices := reply.choices) != 1:
        return False
    choice = choices[0]
    message = choice.message
    return choice.finish_reason == "stop" and not message.refusal and bool(message.content)


def flaw_of(reply: Reply) -> Flaw | None:
    """Return what is wrong with an answer, whatever it should say; None for a good one."""
    if is_refused(reply):
        return "refused"
    if isinstance(reply, ChatCompletion):
        is_cut = reply.truncated
        has_failed = any(ending_of(choice.finish_reason) == "failure" for choice in reply.choices)
        has_answer = any(getattr(choice.message, name, None) for choice in reply.choices for name in _ANSWERS)
    else:
        is_cut = reply.truncated or reply.status == "incomplete"
        has_failed = reply.status in ("failed", "cancelled")
        has_answer = bool(reply.output_text) or any(item.type != "reasoning" for item in reply.output)
    return "cut" if is_cut else "failed" if has_failed else None if has_answer else "empty"


def is_refused(reply: Reply) -> bool:
    """Whether the model refused, or a filter cut its answer."""
    if isinstance(reply, ChatCompletion):
        if not reply.choices:
            return False
        choice = reply.choices[0]
        return ending_of(choice.finish_reason) == "filter" or bool(choice.message.refusal)
    cut = reply.incomplete_details
    return bool(reply.refusal) or (cut is not None and ending_of(cut.reason) == "filter")


class _Shape(msgspec.Struct, gc=False):
    object: Any = None
    choices: msgspec.Raw | msgspec.UnsetType = UNSET
    output: msgspec.Raw | msgspec.UnsetType = UNSET


_shape = msgspec.json.Decoder(_Shape).decode


def reply_of(body: bytes) -> Reply | None:
    """Decode the body of a 2xx by the API that it is of; None for what is no answer of either."""
    try:
        shape = _shape(body)
        if shape.object == "response" or (shape.choices is UNSET and shape.output is not UNSET):
            return decode_response(body)
        return decode_completion(body)
    except (ValueError, RecursionError):
        return None
