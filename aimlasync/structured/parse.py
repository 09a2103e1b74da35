"""Parses the answer of a decoded reply into a value of the type that was asked for, or raises an AnswerError.

It has no I/O. The reply is complete and paid for, so every error carries it. It may import `chat`,
`responses.types`, `errors` and this package.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aimlasync.chat.endings import ending_of
from aimlasync.chat.types import ChatCompletion
from aimlasync.errors import AnswerError, AnswerInvalidError, AnswerRefusedError, AnswerTruncatedError
from aimlasync.responses.types import Response
from aimlasync.structured.answer_text import answer_text, decode_answer, is_answer, message_text
from aimlasync.structured.schema import Format

_CALLS = ("function_call", "custom_tool_call")


def parse_completion(reply: ChatCompletion, form: Format[Any]) -> ChatCompletion:
    """Set `.parsed` on every choice's message. Raises AnswerError for the first choice that is no value of the type."""
    for choice in reply.choices:
        message = choice.message
        if message.refusal:
            raise _error(AnswerRefusedError, f"the model refused: {message.refusal}", reply)
        ending = ending_of(choice.finish_reason)
        if ending == "filter":
            raise _error(AnswerRefusedError, f"a content filter cut the answer ({choice.finish_reason})", reply)
        if ending == "cap":
            raise _error(AnswerTruncatedError, _cut(form), reply)
        if ending == "failure":
            raise _error(AnswerInvalidError, f"the answer failed ({choice.finish_reason})", reply)
        text = message_text(message)
        if not text and (message.function_call or not all(map(is_answer, message.tool_calls or ()))):
            # The model called a tool; its answer comes in a later turn.
            continue
        message.__dict__["parsed"] = _value(text, form, reply)
    return reply


def parse_response(reply: Response, form: Format[Any]) -> Response:
    """Set `.parsed`, unless the response still runs in the background.

    Raises AnswerError for an answer that is no value of the type.
    """
    if not reply.is_done:
        return reply
    refusal = reply.refusal
    if refusal:
        raise _error(AnswerRefusedError, f"the model refused: {refusal}", reply)
    if reply.truncated:
        raise _error(AnswerTruncatedError, _cut(form), reply)
    if reply.status == "incomplete":
        reason = reply.incomplete_details.reason if reply.incomplete_details is not None else None
        kind = AnswerRefusedError if ending_of(reason) == "filter" else AnswerTruncatedError
        raise _error(kind, f"the answer is incomplete: {reason or 'no reason given'}", reply)
    if reply.status in ("failed", "cancelled"):
        said = reply.error.message if reply.error is not None else "no reason given"
        raise _error(AnswerInvalidError, f"the run {reply.status}: {said}", reply)
    text = answer_text(reply)
    if not text and any(item.type in _CALLS and not is_answer(item) for item in reply.output):
        return reply
    reply.__dict__["parsed"] = _value(text, form, reply)
    return reply


def _cut(form: Format[Any]) -> str:
    return f"the answer was cut by an output cap before the {form.name} was complete; raise the cap"


def _value(text: str, form: Format[Any], reply: ChatCompletion | Response) -> Any:
    try:
        return decode_answer(text, form)
    except msgspec.DecodeError as error:
        problem = str(error)
    raise _error(AnswerInvalidError, f"the answer is not a {form.name}: {problem}", reply)


def _error(kind: type[AnswerError], message: str, reply: ChatCompletion | Response) -> AnswerError:
    return kind(message, reply=reply, raw=reply.raw, info=reply.info)
