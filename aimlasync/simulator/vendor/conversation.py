"""What was said before this request: the model's turns, the calls it made, and what the tools answered.

Law: pure functions of messages (chat) or items (responses), which end in the same struct; no I/O.
A call without its result and a result without its call are refused in OpenAI's words, because an agent loop that loses
one has to see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import msgspec

from aimlasync.simulator.vendor.vendors import Problem

_encode = msgspec.json.Encoder().encode


class Call(msgspec.Struct, frozen=True):
    """A function call that the model asks for; `arguments` is JSON text, or whatever a script wants sent instead."""

    name: str
    arguments: str = "{}"
    id: str | None = None
    """None is made by the simulator."""

    @classmethod
    def of(cls, name: str, /, **arguments: Any) -> Self:
        """Return a call with these arguments as JSON."""
        return cls(name, _encode(arguments).decode())


class Result(msgspec.Struct, frozen=True):
    """What a tool said, and the call that it answers."""

    call: Call
    output: str


class Conversation(msgspec.Struct):
    """What a request brings along."""

    turn: int = 0
    """The model's turns so far. Items of a response that follow each other are one turn."""
    results: list[Result] = msgspec.field(default_factory=list)
    """What tools said since the last user message."""


def of_messages(messages: Sequence[dict[str, Any]], *, validate: bool) -> Conversation:
    """Read the messages of a chat.

    Raises Problem(400) with `validate` when calls and results do not belong together.
    """
    past = Conversation()
    made: dict[str, Call] = {}
    waiting: dict[str, Call] = {}
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            id = str(message.get("tool_call_id"))
            if validate and id not in made:
                raise _wrong(
                    f"messages[{index}]",
                    "messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
                )
            waiting.pop(id, None)
            past.results.append(Result(made.get(id, Call("tool")), text_of(message.get("content"))))
            continue
        if validate and waiting:
            break
        if role == "assistant":
            past.turn += 1
            made = {call.id or "": call for call in _calls(message.get("tool_calls"))}
            waiting = dict(made)
        elif role == "user":
            past.results.clear()
    if validate and waiting:
        raise _wrong(
            "messages",
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(waiting)}",
        )
    return past


def of_items(items: Sequence[dict[str, Any]], *, validate: bool) -> Conversation:
    """Read the input items of a response, what came before `previous_response_id` included.

    Raises Problem(400) with `validate` when calls and results do not belong together, or a reasoning item stands alone.
    """
    past = Conversation()
    made: dict[str, Call] = {}
    waiting: dict[str, Call] = {}
    # The reasoning item that has not been followed by what came of it.
    thought = ""
    speaking = False
    for item in items:
        kind = str(item.get("type") or "message")
        speaks = item.get("role") == "assistant" if kind == "message" else not kind.endswith(("_output", "_response"))
        if validate and thought and not speaks:
            break
        past.turn += speaks and not speaking
        speaking = speaks
        thought = str(item.get("id")) if kind == "reasoning" else ""
        if kind == "function_call":
            call = Call(str(item.get("name")), str(item.get("arguments")), str(item.get("call_id")))
            made[call.id or ""] = waiting[call.id or ""] = call
        elif kind == "function_call_output":
            id = str(item.get("call_id"))
            if validate and id not in made:
                raise _wrong("input", f"No tool call found for function call output with call_id {id}.")
            waiting.pop(id, None)
            past.results.append(Result(made.get(id, Call("tool")), text_of(item.get("output"))))
        elif kind == "message" and item.get("role") == "user":
            past.results.clear()
    if validate and thought:
        raise _wrong("input", f"Item {thought!r} of type 'reasoning' was provided without its required following item.")
    if validate and waiting:
        raise _wrong("input", f"No tool output found for function call {next(iter(waiting))}.")
    return past


def text_of(content: Any) -> str:
    """Return the text of a message's content: plain, or its text parts one after the other."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _calls(given: Any) -> list[Call]:
    found = []
    for call in given if isinstance(given, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            found.append(Call(str(function.get("name")), str(function.get("arguments")), str(call.get("id"))))
    return found


def _wrong(parameter: str, reason: str) -> Problem:
    return Problem(400, reason, code="invalid_param", param=parameter)
