"""Parses the answer of a decoded reply into a value of the type that was asked for, or raises an AnswerError.

It has no I/O. The reply is complete and paid for, so every error carries it. It may import `chat`, `responses`,
`errors` and this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aimlasync.chat.endings import ending_of
from aimlasync.chat.types import ChatCompletion
from aimlasync.errors import AnswerError, AnswerInvalidError, AnswerRefusedError, AnswerTruncatedError
from aimlasync.responses.items import FunctionCall, OutputMessage, OutputText
from aimlasync.responses.types import Response
from aimlasync.structured.answer_text import answer_text, decode_answer, is_answer, message_text
from aimlasync.structured.schema import Format
from aimlasync.structured.tool_arguments import Read

_CALLS = ("function_call", "custom_tool_call")


_NO_TOOLS: Mapping[str, Read] = {}


def parse_completion(
    reply: ChatCompletion, form: Format[Any] | None, tools: Mapping[str, Read] = _NO_TOOLS
) -> ChatCompletion:
    """Set `.parsed` on every choice's message, and `.parsed_arguments` on calls of `tools`.

    Raises AnswerError for the first choice that is no value of the type, or whose arguments of a tool do not fit.
    """
    for choice in reply.choices:
        message = choice.message
        if message.refusal and form is not None:
            raise _error(AnswerRefusedError, f"the model refused: {message.refusal}", reply)
        ending = ending_of(choice.finish_reason)
        if ending == "filter":
            raise _error(AnswerRefusedError, f"a content filter cut the answer ({choice.finish_reason})", reply)
        if ending == "cap":
            raise _error(AnswerTruncatedError, _cut(form), reply)
        if ending == "failure":
            raise _error(AnswerInvalidError, f"the answer failed ({choice.finish_reason})", reply)
        for call in message.tool_calls or ():
            _read_arguments(call.function, tools, reply)
        if form is None:
            continue
        text = message_text(message)
        if not text and (message.function_call or not all(map(is_answer, message.tool_calls or ()))):
            # The model called a tool; its answer comes in a later turn.
            continue
        message.__dict__["parsed"] = _value(text, form, reply)
    return reply


def parse_response(reply: Response, form: Format[Any] | None, tools: Mapping[str, Read] = _NO_TOOLS) -> Response:
    """Set `.parsed`, also of texts in the output, and `.parsed_arguments` on calls of `tools`.

    Nothing is set while the response still runs in the background. Raises AnswerError for an answer that is no value of
    the type, and for a call with arguments that do not fit.
    """
    if not reply.is_done:
        return reply
    refusal = reply.refusal
    if refusal and form is not None:
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
    for item in reply.output:
        if isinstance(item, FunctionCall):
            _read_arguments(item, tools, reply)
    if form is None:
        return reply
    text = answer_text(reply)
    if not text and any(item.type in _CALLS and not is_answer(item) for item in reply.output):
        return reply
    reply.__dict__["parsed"] = value = _value(text, form, reply)
    for part in (part for item in reply.output if isinstance(item, OutputMessage) for part in item.content):
        if isinstance(part, OutputText):
            part.__dict__["parsed"] = value if part.text == text else value_or_none(part.text, form)
    return reply


def value_or_none(text: str, form: Format[Any]) -> Any:
    """Return the value in a text, None where it is no value of the type."""
    try:
        return decode_answer(text, form)
    except msgspec.DecodeError:
        return None


def _read_arguments(call: Any, tools: Mapping[str, Read], reply: ChatCompletion | Response) -> None:
    if (read := tools.get(call.name)) is None:
        return
    try:
        call.__dict__["parsed_arguments"] = read(call.arguments)
        return
    except ValueError as error:
        problem = str(error)
    raise _error(AnswerInvalidError, f"the arguments of {call.name} do not fit: {problem}", reply)


def _cut(form: Format[Any] | None) -> str:
    what = "it" if form is None else f"the {form.name}"
    return f"the answer was cut by an output cap before {what} was complete; raise the cap"


def _value(text: str, form: Format[Any], reply: ChatCompletion | Response) -> Any:
    try:
        return decode_answer(text, form)
    except msgspec.DecodeError as error:
        problem = str(error)
    raise _error(AnswerInvalidError, f"the answer is not a {form.name}: {problem}", reply)


def _error(kind: type[AnswerError], message: str, reply: ChatCompletion | Response) -> AnswerError:
    return kind(message, reply=reply, raw=reply.raw, info=reply.info)
