"""Tool calls of gateways that leave out the object around the name and the arguments (home-llm, PilotDeck)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aimlasync.chat.assembler import Assembler
from aimlasync.chat.chunks import decode_chunk
from aimlasync.chat.types import ToolCall, decode_completion


def whole_of(*pieces: dict[str, Any]) -> list[ToolCall]:
    assembler = Assembler()
    for piece in pieces:
        choice = {"index": 0, "delta": {"tool_calls": [piece]}, "finish_reason": None}
        assembler.add(decode_chunk(json.dumps({"choices": [choice]}).encode()))
    return assembler.whole().choices[0].message.tool_calls or []


@pytest.mark.parametrize("arguments", ['{"to": "sales"}', {"to": "sales"}])
def test_a_call_without_its_object_is_one(arguments: Any) -> None:
    bare = {"id": "a", "type": "function", "name": "send", "arguments": arguments}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [bare]}, "finish_reason": "tool_calls"}
    reply = decode_completion(json.dumps({"choices": [choice]}).encode())
    streamed = whole_of({"index": 0, **bare})
    for call in (*(reply.choices[0].message.tool_calls or ()), *streamed):
        assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("a", "send", {"to": "sales"})
    assert len(streamed) == 1
    # As the server sent it.
    assert reply.to_dict()["choices"] == [choice]


def test_a_call_without_its_object_may_come_in_pieces() -> None:
    calls = whole_of(
        {"index": 0, "id": "a", "name": "send", "arguments": ""},
        {"index": 0, "arguments": '{"to": '},
        {"index": 0, "arguments": '"sales"}'},
        {"index": 1, "id": "b", "name": "stop"},
    )
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("a", "send", '{"to": "sales"}'),
        ("b", "stop", ""),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"type": "function", "function": {"name": "send", "arguments": "{}"}, "name": "label"},
        {"type": "custom", "custom": {"name": "sql", "input": "x"}, "name": "label"},
        {"type": "function", "name": 5},
        {"type": "function"},
    ],
)
def test_what_is_beside_the_object_of_a_call_does_not_replace_it(other: dict[str, Any]) -> None:
    choice = {"index": 0, "message": {"tool_calls": [{"id": "a", **other}]}, "finish_reason": "tool_calls"}
    (call,) = decode_completion(json.dumps({"choices": [choice]}).encode()).choices[0].message.tool_calls or []
    assert call.function.name == other.get("function", {}).get("name", "")
    assert (call.custom is None) == ("custom" not in other)
