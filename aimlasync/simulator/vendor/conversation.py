"""Reads the conversation that a request brings along: the model's turns, its tool calls, and the tools' results.

Messages (chat/completions) and items (responses) become the same struct. A tool call without its result, a result
without its call, and a call by a name that no tool can have are refused in OpenAI's words, so that a test shows when an
agent loop loses or sends one. Pure functions; of the simulator it imports `vendors`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Self

import msgspec

from aimlasync.simulator.vendor.vendors import Problem

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_encode = msgspec.json.Encoder().encode


class Call(msgspec.Struct, frozen=True):
    """A tool call of the model; `arguments` is JSON text, or any other text that a script wants to send.

    Raises TypeError for a member of a wrong type; `Call.of` writes arguments.
    """

    name: str
    arguments: str = "{}"
    id: str | None = None
    """None lets the simulator make one."""

    def __post_init__(self) -> None:
        given: object = self.arguments
        if not isinstance(given, str):
            what = f"arguments of a call are a text, and no {type(given).__name__}"
            raise TypeError(f"{what}; Call.of({self.name!r}, **arguments) writes them as JSON")
        check_kinds(self, {"name": str, "id": str | None})

    @classmethod
    def of(cls, name: str, /, **arguments: Any) -> Self:
        """Return a call with these arguments as JSON."""
        return cls(name, _encode(arguments).decode())


def check_kinds(written: msgspec.Struct, kinds: Mapping[str, type | UnionType]) -> None:
    """Raise TypeError where a member of what a test wrote is not of its kind."""
    for name, kind in kinds.items():
        if not isinstance(value := getattr(written, name), kind):
            expected = getattr(kind, "__name__", kind)
            raise TypeError(f"{type(written).__name__}({name}=...) takes {expected}, not {type(value).__name__}")


class Result(msgspec.Struct, frozen=True):
    """The result of a tool, and the call that it belongs to."""

    call: Call
    output: str


class Conversation(msgspec.Struct):
    """The part of a conversation that answers depend on."""

    turn: int = 0
    """The number of the model's turns so far. Consecutive items of a response are one turn."""
    results: list[Result] = msgspec.field(default_factory=list)
    """The tool results since the last user message."""


def read_messages(messages: Sequence[dict[str, Any]], *, validate: bool) -> Conversation:
    """Read the messages of a request to chat/completions.

    With `validate`, raises Problem(400) when calls and results do not match, or a call's name is none.
    """
    conversation = Conversation()
    calls: dict[str, Call] = {}
    unanswered: dict[str, Call] = {}
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            id = str(message.get("tool_call_id"))
            if validate and id not in calls:
                raise _invalid(
                    f"messages[{index}]",
                    "messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
                )
            unanswered.pop(id, None)
            conversation.results.append(Result(calls.get(id, Call("tool")), text_of(message.get("content"))))
            continue
        if validate and unanswered:
            break
        if role == "assistant":
            conversation.turn += 1
            made = _read_calls(message.get("tool_calls"))
            for number, call in enumerate(made if validate else ()):
                _check_name(call.name, f"messages[{index}].tool_calls[{number}].function.name")
            calls = {call.id or "": call for call in made}
            unanswered = dict(calls)
        elif role == "user":
            conversation.results.clear()
    if validate and unanswered:
        raise _invalid(
            "messages",
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(unanswered)}",
        )
    return conversation


def read_items(items: Sequence[dict[str, Any]], *, validate: bool) -> Conversation:
    """Read the input items of a request to responses, including those of the response that it continues.

    With `validate`, raises Problem(400) when calls and results do not match, or nothing follows a reasoning item.
    """
    conversation = Conversation()
    calls: dict[str, Call] = {}
    unanswered: dict[str, Call] = {}
    # The id of a reasoning item as long as nothing of the same turn has followed it.
    reasoning = ""
    in_turn = False
    for index, item in enumerate(items):
        kind = str(item.get("type") or "message")
        is_model = item.get("role") == "assistant" if kind == "message" else not kind.endswith(("_output", "_response"))
        if validate and reasoning and not is_model:
            break
        conversation.turn += is_model and not in_turn
        in_turn = is_model
        reasoning = str(item.get("id")) if kind == "reasoning" else ""
        if kind == "function_call":
            call = Call(str(item.get("name")), str(item.get("arguments")), str(item.get("call_id")))
            if validate:
                _check_name(call.name, f"input[{index}].name")
            calls[call.id or ""] = unanswered[call.id or ""] = call
        elif kind == "function_call_output":
            id = str(item.get("call_id"))
            if validate and id not in calls:
                raise _invalid("input", f"No tool call found for function call output with call_id {id}.")
            unanswered.pop(id, None)
            conversation.results.append(Result(calls.get(id, Call("tool")), text_of(item.get("output"))))
        elif kind == "message" and item.get("role") == "user":
            conversation.results.clear()
    if validate and reasoning:
        raise _invalid(
            "input", f"Item {reasoning!r} of type 'reasoning' was provided without its required following item."
        )
    if validate and unanswered:
        raise _invalid("input", f"No tool output found for function call {next(iter(unanswered))}.")
    return conversation


def text_of(content: Any) -> str:
    """Return the text of a message's content: a plain text, or its text parts joined by line breaks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _read_calls(given: Any) -> list[Call]:
    found = []
    for call in given if isinstance(given, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            found.append(Call(str(function.get("name")), str(function.get("arguments")), str(call.get("id"))))
    return found


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        expected = "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'"
        raise _invalid(
            where, f"Invalid '{where}': string does not match pattern. {expected}, of at most 64 characters."
        )


def _invalid(parameter: str, reason: str) -> Problem:
    return Problem(400, reason, code="invalid_param", param=parameter)
