"""Requests that JSON or UTF-8 has no form for: mended where that loses nothing, refused in plain words where not."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import pytest

from aimlasync import UnencodableRequestError, bulk
from aimlasync.chat.types import SystemMessage, UserMessage
from aimlasync.wire.base import encode
from aimlasync.wire.request_body import encode_request
from tests.client.test_stream import connect
from tests.support.servers import Script, raw_server

HALF = "a\ud800b"


@dataclass
class Note:
    text: str


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (HALF, "a\ufffdb"),
        ("\udc00", "\ufffd"),
        # Both halves, as some JSON parsers leave them.
        ("\ud83e\udd80", "\U0001f980"),
        ("\U0001f980 é", "\U0001f980 é"),
        ({HALF: [HALF, 1, None, 1.5, True]}, {"a\ufffdb": ["a\ufffdb", 1, None, 1.5, True]}),
        (UserMessage(content=HALF), {"role": "user", "content": "a\ufffdb"}),
        (Note(HALF), {"text": "a\ufffdb"}),
        (MappingProxyType({"x": HALF}), {"x": "a\ufffdb"}),
        ((HALF, {"x"}), ["a\ufffdb", ["x"]]),
        (SystemMessage(content="fine"), {"role": "system", "content": "fine"}),
    ],
)
def test_half_a_surrogate_pair_is_replaced_at_any_depth(value: Any, sent: Any) -> None:
    body = {"model": "m", "messages": [value]}
    assert json.loads(encode_request(body)) == {"model": "m", "messages": [sent]}
    # The caller's object is as it was.
    assert body["messages"] == [value]


def test_what_needs_no_mending_is_encoded_as_ever() -> None:
    body = {"model": "m", "messages": [UserMessage(content="hé")], "metadata": {1: 2}}
    assert encode_request(body) == encode(body)


def nested() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = value
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({(1, 2): 3}, r"the key \(1, 2\), a tuple"),
        ({"a": {"b": {(1, 2): 3}}}, r"'a', 'b' has the key \(1, 2\)"),
        (nested(), "contains itself"),
        (object(), "cannot send a builtins.object"),
        ([HALF, iter("x")], "can be read only once"),
    ],
)
def test_what_json_cannot_carry_is_refused_in_plain_words(value: Any, words: str) -> None:
    with pytest.raises(UnencodableRequestError, match=words) as raised:
        encode_request({"metadata": value})
    assert isinstance(raised.value, TypeError)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_not_sent_as_none(number: float) -> None:
    with pytest.raises(UnencodableRequestError, match=f"temperature is {number}"):
        encode_request({"model": "m", "messages": [], "temperature": number})
    with pytest.raises(UnencodableRequestError, match=f"'50256' of logit_bias is {number}"):
        encode_request({"model": "m", "messages": [], "logit_bias": {"50256": number}})


async def test_what_json_cannot_carry_is_the_failure_of_its_row_alone() -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    script = Script([json.dumps(answer).encode()], content_type="application/json", end="keep")
    async with raw_server(script) as server, connect(server) as client:
        good: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        reply = await client.chat.completions.create(**good)
        bad = [
            {**good, "metadata": object()},
            {**good, "temperature": float("nan")},
            {**good, "messages": [{"role": "user", "content": lambda: 0}]},
            # A reply among the messages is made plain first.
            {**good, "messages": [reply.choices[0].message, {"role": "user", "content": object()}]},
            {**good, "messages": [reply.choices[0].message, nested()]},
        ]
        rows = [row for one in bad for row in (one, good)]
        results = [result async for result in bulk.map(client, rows, order="input")]
        assert [type(result.error) for result in results] == [UnencodableRequestError, type(None)] * len(bad)
        for result in results[::2]:
            assert result.error is not None
            assert (result.error.billed, result.attempts) == (False, 0)
        assert len(server.bodies) == 1 + len(bad)
        assert client.statistics()[0].in_flight == 0


async def test_a_cut_text_ends_neither_a_call_nor_a_job() -> None:
    answer = {"choices": [{"message": {"content": '{"label": "a"}'}, "finish_reason": "stop"}]}
    script = Script([json.dumps(answer).encode()], content_type="application/json", end="keep")
    async with raw_server(script) as server, connect(server) as client:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": HALF}])
        assert json.loads(server.bodies[0])["messages"][0]["content"] == "a\ufffdb"
        rows = [{"model": "m", "messages": [{"role": "user", "content": text}]} for text in ("one", HALF, "two")]
        results = [result async for result in bulk.map(client, rows)]
        assert [result.error for result in results] == [None] * 3
        labels = [result async for result in bulk.classify(client, ["one", HALF], labels=["a", "b"], model="m")]
        assert [result.error for result in labels] == [None] * 2


def test_numbers_of_numpy_are_sent_as_numbers() -> None:
    numpy: Any = pytest.importorskip("numpy")
    given = {"a": numpy.float64(0.5), "b": numpy.int64(3), "c": numpy.bool_(True), "d": numpy.float32(0.25)}
    given["e"] = numpy.array([1, 2])
    assert json.loads(encode_request(given)) == {"a": 0.5, "b": 3, "c": True, "d": 0.25, "e": [1, 2]}


class Form(msgspec.Struct):
    name: str


def look_up(number: int) -> str:
    return str(number)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"tools": [{"type": "x"}, look_up]}, "tools[1]: cannot send the function look_up as JSON; agents.run()"),
        ({"text": {"format": Form}}, "text.format: cannot send the type Form as JSON; parse()"),
        ({"response_format": list[Form]}, "response_format: cannot send the type list["),
        ({"response_format": Literal["a"]}, "response_format: cannot send the type typing.Literal['a']"),
        ({"a": "\ud800", "messages": [{"content": 1j}]}, "messages[0].content: cannot send a builtins.complex"),
    ],
)
def test_what_json_cannot_carry_is_told_with_its_place_and_what_takes_it(body: dict[str, Any], said: str) -> None:
    with pytest.raises(UnencodableRequestError, match=f"^{re.escape(said)}"):
        encode_request(body)


class Markup(str):
    """A text of a class of its own, as template engines and parsers make them."""

    def __str__(self) -> str:
        return "other"


class Count(int):
    """An int of a class of its own."""


class Share(float):
    """A float of a class of its own."""


class NotGiven:
    """What other SDKs have for a parameter that is left out."""


def test_texts_and_numbers_of_classes_of_their_own_are_what_they_stand_for() -> None:
    body = {"model": Markup("m"), "messages": [{"content": Markup("hi <b>")}], "n": Count(2), "p": Share(0.5)}
    sent = {"model": "m", "messages": [{"content": "hi <b>"}], "n": 2, "p": 0.5}
    assert json.loads(encode_request(body)) == sent
    # On the way that mends half a surrogate pair, too.
    assert json.loads(encode_request({**body, "user": "\ud800"})) == {**sent, "user": "\ufffd"}


def test_what_other_sdks_leave_out_is_left_out_at_any_depth() -> None:
    absent = NotGiven()
    body = {"messages": [{"role": "user", "content": "hi", "name": absent}], "a": {"b": [absent, 1]}, "c": absent}
    assert json.loads(encode_request(body)) == {"messages": [{"role": "user", "content": "hi"}], "a": {"b": [1]}}
    # The first attempt has read the iterator: without it, less than what was given would be sent.
    with pytest.raises(UnencodableRequestError, match="can be read only once"):
        encode_request({"stop": iter(["a"]), "messages": [{"name": absent}]})


def test_a_number_of_numpy_that_json_does_not_have_is_not_sent_as_none() -> None:
    numpy: Any = pytest.importorskip("numpy")
    for number in (numpy.float32("nan"), numpy.float16("inf")):
        with pytest.raises(UnencodableRequestError, match=r"^temperature is (nan|inf), and JSON"):
            encode_request({"temperature": number})
    assert json.loads(encode_request({"user": numpy.str_("u"), "stop": None})) == {"user": "u", "stop": None}


def test_an_integer_of_thousands_of_digits_is_told_with_its_place() -> None:
    with pytest.raises(UnencodableRequestError, match=r"^seed: .*4300 digits"):
        encode_request({"seed": 10**5000})
