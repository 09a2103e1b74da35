"""Finds the answer in a reply, whichever way it was asked for: a text, a text around JSON, or the answer tool's call.

Pure functions of replies. It may import the structs of `chat` and `responses`, the package's `modes` and `schema`, and
`wire.json_text`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from aimlasync.chat.types import ChatCompletion, Message, ToolCall
from aimlasync.responses.items import FunctionCall
from aimlasync.responses.types import Response
from aimlasync.structured.modes import ANSWER_TOOL
from aimlasync.structured.schema import Format
from aimlasync.wire.json_text import without_halves

T = TypeVar("T")

_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
# What msgspec refuses within a string and models write: line ends, and half of a surrogate pair.
_ODD = re.compile(r"[\x00-\x1f]|\\u[dD][89a-fA-F]")
_THOUGHT = "</think>"
# Places of a text where JSON is looked for.
_MAX_PLACES = 64
# Models write line ends into strings as they are.
_scan = json.JSONDecoder(strict=False).raw_decode


def is_answer_tool(name: str) -> bool:
    """Whether a tool call gives the answer; some models put a namespace before the name."""
    return name.endswith(ANSWER_TOOL)


def is_answer(item: Any) -> bool:
    """Whether a call of a message, or an item of a response, is one of the answer tool."""
    if isinstance(item, ToolCall):
        return item.custom is None and is_answer_tool(item.function.name)
    return isinstance(item, FunctionCall) and is_answer_tool(item.name)


def message_text(message: Message) -> str:
    """Return the answer in a message: the arguments of the answer tool, else the content."""
    for call in message.tool_calls or ():
        if is_answer(call) and call.function.arguments:
            return call.function.arguments
    return message.content or ""


def answer_text(reply: ChatCompletion | Response) -> str:
    """Return the answer in a reply: the arguments of the answer tool, else the text."""
    if isinstance(reply, ChatCompletion):
        return message_text(reply.choices[0].message) if reply.choices else ""
    for item in reply.output:
        if isinstance(item, FunctionCall) and is_answer(item) and item.arguments:
            return item.arguments
    return reply.output_text


def decode_answer(text: str, form: Format[T]) -> T:
    """Return the value in a text, without a code fence or words around it.

    Raises msgspec.DecodeError, saying what is wrong with it.
    """
    try:
        return form.decode(text)
    except msgspec.DecodeError as error:
        problem = error if text.strip() else msgspec.DecodeError("it is empty")
    for candidate in json_in(text):
        try:
            return form.decode(candidate)
        except msgspec.DecodeError as error:
            # A problem within the JSON tells more than "there are words around it".
            problem = error
    raise problem


def json_in(text: str) -> Iterator[str]:
    """Iterate what may be JSON in a text, the likeliest first: what is fenced, then objects among words.

    What a model thought before it answered comes after what it answered. JSON in a JSON string is what some servers
    make of an answer that was JSON already.
    """
    if text.lstrip()[:1] == '"' and isinstance(inner := _value_of(text), str):
        yield inner
    _, thought, answer = text.rpartition(_THOUGHT)
    for part in (answer, text) if thought else (text,):
        for fenced in _FENCE.finditer(part):
            yield fenced[1]
        yield from _objects(part)


def _value_of(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _objects(text: str) -> Iterator[str]:
    at = 0
    for _ in range(_MAX_PLACES):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            value, end = _scan(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        found = text[at:end]
        yield found if _ODD.search(found) is None else without_halves(json.dumps(value, ensure_ascii=False))
        at = end


def answer_object(text: str) -> Any:
    """Return the JSON in a text, None where there is none."""
    for candidate in (text, *json_in(text)):
        try:
            return msgspec.json.decode(candidate)
        except (ValueError, RecursionError):
            pass
    return None
