"""Streamed tool calls come apart rightly, whatever servers do with index, id and name."""

from __future__ import annotations

from typing import Any

import pytest

from aimlasync.chat.assembler import Assembler
from aimlasync.chat.chunks import decode_chunk
from aimlasync.wire.base import encode

_LEFT_OUT: Any = object()


def p(index: Any = _LEFT_OUT, id: Any = _LEFT_OUT, name: Any = _LEFT_OUT, arguments: Any = _LEFT_OUT) -> dict[str, Any]:
    """A piece of a tool call."""
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not _LEFT_OUT}
    piece = {k: v for k, v in (("index", index), ("id", id)) if v is not _LEFT_OUT}
    return {**piece, "function": function} if function else piece


def collected(*deltas: list[dict[str, Any]]) -> list[Any]:
    assembler = Assembler()
    for delta in deltas:
        assembler.add(decode_chunk(encode({"choices": [{"index": 0, "delta": {"tool_calls": delta}}]})))
    return assembler.whole().choices[0].message.tool_calls or []


def called(*deltas: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(call.id, call.function.name, call.function.arguments) for call in collected(*deltas)]


A, Z = '{"c":"A"}', '{"z":1}'

MIXTURES = {
    "by the book": (
        [
            [p(0, "a", "f", "")],
            [p(0, arguments='{"c"')],
            [p(0, arguments=':"A"}')],
            [p(1, "b", "g", "")],
            [p(1, arguments=Z)],
        ],
        [("a", "f", A), ("b", "g", Z)],
    ),
    "taking turns": (
        [
            [p(0, "a", "f", "")],
            [p(1, "b", "g", "")],
            [p(0, arguments='{"c":')],
            [p(1, arguments='{"z":')],
            [p(0, arguments='"A"}'), p(1, arguments="1}")],
        ],
        [("a", "f", A), ("b", "g", Z)],
    ),
    "the place among the tools, then that among the calls, a type on each piece": (
        [
            [{**p(3, "a", "f", ""), "type": "function"}],
            [{**p(0, arguments='{"c":'), "type": "function"}],
            [{**p(0, arguments='"A"}'), "type": "function"}],
            [{**p(4, "b", "g", ""), "type": "function"}],
            [{**p(1, arguments=Z), "type": "function"}],
        ],
        [("a", "f", A), ("b", "g", Z)],
    ),
    "indices in another order": ([[p(1, "b", "g", Z)], [p(0, "a", "f", A)]], [("a", "f", A), ("b", "g", Z)]),
    "index 0 for all, no id": (
        [[p(0, name="f", arguments=A)], [p(0, name="g", arguments=Z)]],
        [("", "f", A), ("", "g", Z)],
    ),
    "index 0 for all, an empty id": ([[p(0, "", "f", A)], [p(0, "", "g", Z)]], [("", "f", A), ("", "g", Z)]),
    "index 0 for all, one id": ([[p(0, "x", "f", A)], [p(0, "x", "g", Z)]], [("x", "f", A), ("x", "g", Z)]),
    "index 0 for all, own ids": ([[p(0, "a", "f", A)], [p(0, "b", "g", Z)]], [("a", "f", A), ("b", "g", Z)]),
    "index 0 for all, the same tool": (
        [[p(0, name="f", arguments=A)], [p(0, name="f", arguments=Z)]],
        [("", "f", A), ("", "f", Z)],
    ),
    "index 0 for all, in pieces": (
        [
            [p(0, name="f", arguments='{"c"')],
            [p(0, arguments=':"A"}')],
            [p(0, name="g", arguments='{"z')],
            [p(0, arguments='":1}')],
        ],
        [("", "f", A), ("", "g", Z)],
    ),
    "index 0 for all, own ids on each piece, taking turns": (
        [
            [p(0, "a", "f", '{"c"')],
            [p(0, "b", "g", '{"z"')],
            [p(0, "a", arguments=':"A"}')],
            [p(0, "b", arguments=":1}")],
        ],
        [("a", "f", A), ("b", "g", Z)],
    ),
    "no index, an id once": (
        [[p(id="a", name="f", arguments='{"c"')], [p(arguments=':"A"}')], [p(id="b", name="g", arguments=Z)]],
        [("a", "f", A), ("b", "g", Z)],
    ),
    "null for an index": ([[p(None, "a", "f", A)], [p(None, "b", "g", Z)]], [("a", "f", A), ("b", "g", Z)]),
    "no index, ids on each piece, taking turns": (
        [
            [p(id="a", name="f", arguments='{"c"')],
            [p(id="b", name="g", arguments='{"z"')],
            [p(id="a", arguments=':"A"}')],
            [p(id="b", arguments=":1}")],
        ],
        [("a", "f", A), ("b", "g", Z)],
    ),
    "neither index nor id": ([[p(name="f", arguments=A)], [p(name="g", arguments=Z)]], [("", "f", A), ("", "g", Z)]),
    "neither index nor id, one tool, in pieces": (
        [[p(name="f", arguments="")], [p(arguments='{"c"')], [p(arguments=':"A"}')], [p(name="f", arguments=Z)]],
        [("", "f", A), ("", "f", Z)],
    ),
    "whole calls in one chunk": (
        [[p(id="a", name="f", arguments=A), p(id="b", name="g", arguments=Z)]],
        [("a", "f", A), ("b", "g", Z)],
    ),
    "whole calls in one chunk, index 0": (
        [[p(0, name="f", arguments=A), p(0, name="f", arguments=A)]],
        [("", "f", A), ("", "f", A)],
    ),
    "calls without arguments in one chunk": (
        [[p(name="f", arguments=""), p(name="f", arguments="")]],
        [("", "f", ""), ("", "f", "")],
    ),
    "name and id on each piece": (
        [
            [p(0, "a", "f", "")],
            [p(0, "a", "f", '{"c"')],
            [p(0, "a", "f", ':"A"}')],
            [p(0, "a", "f", "")],
            [p(1, "b", "g", Z)],
        ],
        [("a", "f", A), ("b", "g", Z)],
    ),
    "a name on each piece, no id": (
        [[p(0, name="f", arguments='{"c"')], [p(0, name="f", arguments=':"A"}')], [p(0, name="f", arguments="\n")]],
        [("", "f", A + "\n")],
    ),
    "a new id on each piece": (
        [[p(0, "a", "f", "")], [p(0, "b", arguments='{"c"')], [p(0, "d", arguments=':"A"}')]],
        [("d", "f", A)],
    ),
    "a new id and the name on each piece": (
        [[p(0, "a", "f", '{"c"')], [p(0, "b", "f", ':"A"')], [p(0, "d", "f", "}")]],
        [("d", "f", A)],
    ),
    "an id that comes late": ([[p(0, name="f", arguments="")], [p(0, "a", arguments=A)]], [("a", "f", A)]),
    "a name that comes late": ([[p(0, "a")], [p(0, name="f")], [p(0, arguments=A)]], [("a", "f", A)]),
    "a name that grows": ([[p(0, "a", "look")], [p(0, name="look_up")], [p(0, arguments=A)]], [("a", "look_up", A)]),
    "a name in pieces": (
        [[p(0, "a", "look", "")], [p(0, name="_u", arguments="")], [p(0, name="p", arguments=A)], [p(1, "b", "g", Z)]],
        [("a", "look_up", A), ("b", "g", Z)],
    ),
    "a name in pieces, an id on each": (
        [[p(0, "a", "look")], [p(0, "a", "_up")], [p(0, "a", arguments=A)]],
        [("a", "look_up", A)],
    ),
    "a name in pieces, no index": ([[p(id="a", name="look")], [p(name="_up", arguments=A)]], [("a", "look_up", A)]),
    "another name with an id of its own, before there are arguments": (
        [[p(0, "a", "f", "")], [p(0, "b", "g", Z)]],
        [("a", "f", ""), ("b", "g", Z)],
    ),
    "empty arguments before the real ones": (
        [[p(0, "a", "f", "{}")], [p(0, arguments='{"c"')], [p(0, arguments=':"A"}')], [p(1, "b", "g", "{}")]],
        [("a", "f", A), ("b", "g", "{}")],
    ),
    "empty arguments before the real ones, in pieces, an id on each": (
        [
            [p(0, "a", "f", "{")],
            [p(0, "a", arguments="}")],
            [p(0, "a", arguments='{"c":')],
            [p(0, "a", arguments='"A"}')],
        ],
        [("a", "f", A)],
    ),
    "a call without arguments before another of the same tool": (
        [[p(0, "a", "f", "{}")], [p(0, "b", "f", A)]],
        [("a", "f", "{}"), ("b", "f", A)],
    ),
    "the index counts the pieces": (
        [[p(0, "a", "f", "")], [p(1, arguments='{"c"')], [p(2, arguments=':"A"}')]],
        [("a", "f", A)],
    ),
    "the index counts the pieces, with an id": (
        [[p(0, "a", "f", "")], [p(1, "a", arguments='{"c"')], [p(2, "a", arguments=':"A"}')]],
        [("a", "f", A)],
    ),
    "the whole arguments once more at the end": (
        [[p(0, "a", "f", '{"c"')], [p(0, arguments=':"A"}')], [p(0, arguments=A)]],
        [("a", "f", A)],
    ),
    "the whole call once more at the end": (
        [[p(0, "a", "f", '{"c"')], [p(0, arguments=':"A"}')], [p(0, "a", "f", A)]],
        [("a", "f", A)],
    ),
    "another object without a name": ([[p(0, "a", "f", A)], [p(0, arguments=Z)]], [("a", "f", A), ("", "f", Z)]),
    "braces in texts": (
        [[p(0, "a", "f", '{"c":"}')], [p(0, arguments='{"')], [p(0, arguments=',"d":"\\')], [p(0, arguments='"{"}')]],
        [("a", "f", '{"c":"}{","d":"\\"{"}')],
    ),
    "nested objects in pieces": (
        [
            [p(0, "a", "f", '{"c":')],
            [p(0, arguments='{"d":1}')],
            [p(0, arguments=',"e":')],
            [p(0, arguments='{"d":1}')],
            [p(0, arguments="}")],
        ],
        [("a", "f", '{"c":{"d":1},"e":{"d":1}}')],
    ),
    "indices from 1": ([[p(1, "a", "f", A)], [p(2, "b", "g", Z)]], [("a", "f", A), ("b", "g", Z)]),
    "one id, own indices": (
        [[p(0, "x", "f", '{"c"'), p(1, "x", "g", '{"z"')], [p(0, arguments=':"A"}'), p(1, arguments=":1}")]],
        [("x", "f", A), ("x", "g", Z)],
    ),
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_calls_come_apart(mixture: str) -> None:
    deltas, expected = MIXTURES[mixture]
    assert called(*deltas) == expected


@pytest.mark.parametrize("mixture", MIXTURES)
def test_undeclared_fields_beside_the_pieces_change_nothing(mixture: str) -> None:
    deltas, expected = MIXTURES[mixture]
    assert called(*[[{**piece, "vendor": None} for piece in delta] for delta in deltas]) == expected


@pytest.mark.parametrize("mixture", MIXTURES)
def test_what_is_read_between_the_pieces_changes_nothing(mixture: str) -> None:
    deltas, expected = MIXTURES[mixture]
    assembler = Assembler()
    for count, delta in enumerate(deltas, 1):
        assembler.add(decode_chunk(encode({"choices": [{"index": 0, "delta": {"tool_calls": delta}}]})))
        calls = assembler.whole().choices[0].message.tool_calls or []
        assert [(call.id, call.function.name, call.function.arguments) for call in calls] == called(*deltas[:count])
    assert called(*deltas) == expected


def test_a_signature_stays_with_its_call() -> None:
    def signed(text: str) -> dict[str, Any]:
        return {"extra_content": {"google": {"thought_signature": text}}}

    calls = collected(
        [{**p(0, "a", "f", A), **signed("s1")}, {**p(1, "b", "g", ""), **signed("s2")}], [p(1, arguments=Z)]
    )
    assert [call.extra_content.google.thought_signature for call in calls] == ["s1", "s2"]
    # It may come behind the call, without an index.
    assert collected([p(0, "a", "f", A)], [signed("s1")])[0].extra_content.google.thought_signature == "s1"
    assert called([p(0, "a", "f", A)], [signed("s1")]) == [("a", "f", A)]


def test_arguments_of_many_pieces_take_linear_time() -> None:
    # A piece that begins like an object is compared with the end of what came before: 20,000 such pieces.
    pieces = [[p(0, arguments='{"a":')] for _ in range(20_000)]
    assert len(called([p(0, "a", "f", "")], *pieces)[0][2]) == 5 * 20_000
