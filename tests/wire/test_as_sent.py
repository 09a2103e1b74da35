"""An object of a reply is what the server sent: reachable by attribute, dumped, handed back and copied without a loss.

`replies.jsonl` has replies and streams of several vendors, as they were documented or recorded.
"""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi.encoders import jsonable_encoder

from aimlasync import sse
from aimlasync.chat.assembler import Assembler
from aimlasync.chat.chunks import decode_chunk
from aimlasync.chat.types import ChatCompletion, Message, ToolCall, Usage, decode_completion
from aimlasync.info import Info
from aimlasync.responses.assembler import Assembler as ResponsesAssembler
from aimlasync.responses.events import decode_event
from aimlasync.responses.types import Response, decode_response
from aimlasync.wire.as_sent import sendable
from aimlasync.wire.base import Object, Open, Unknown, encode
from aimlasync.wire.models import decode_models

_REPLIES = [json.loads(line) for line in Path(__file__).with_name("replies.jsonl").read_text("utf-8").splitlines()]
_WHOLE = {
    f"{number} {reply['name']}": (decode_completion if reply["api"] == "chat" else decode_response, reply["body"])
    for number, reply in enumerate(_REPLIES)
    if "stream" not in reply["api"]
}
_STREAMS = {reply["name"]: (reply["api"], reply["body"]) for reply in _REPLIES if "stream" in reply["api"]}


def _pieces(name: str) -> list[tuple[Any, Any]]:
    """Return the decoded pieces of a stream, each with its JSON."""
    api, body = _STREAMS[name]
    decode: Any = decode_chunk if api == "chat stream" else decode_event
    datas = [bytes(event.data) for event in sse.Parser().feed(body.encode()) if event.data]
    return [(decode(data), json.loads(data)) for data in datas if data != b"[DONE]"]


def _check(made: Any, said: Any, path: str = "") -> None:
    """Check that every field of `said` is an attribute, and that `to_dict` is exact at every depth."""
    if isinstance(said, dict):
        if not isinstance(made, dict) or isinstance(made, Object):
            assert made.to_dict() == said, path
        for name, value in said.items():
            assert hasattr(made, name), f"{path}.{name}"
            _check(getattr(made, name), value, f"{path}.{name}")
    elif isinstance(said, list):
        assert len(made) == len(said), path
        for number, (one, value) in enumerate(zip(made, said, strict=True)):
            _check(one, value, f"{path}[{number}]")
    elif path.rpartition(".")[2] not in ("output_text", "status"):
        assert made == said, path


@pytest.mark.parametrize("name", _WHOLE)
def test_every_field_is_an_attribute_and_to_dict_is_exact_at_every_depth(name: str) -> None:
    decode, body = _WHOLE[name]
    reply, said = decode(body.encode()), json.loads(body)
    _check(reply, said)
    assert json.loads(reply.to_json()) == dict(reply) == said


@pytest.mark.parametrize("name", _STREAMS)
def test_pieces_of_a_stream_are_exact_at_every_depth(name: str) -> None:
    for piece, said in _pieces(name):
        _check(piece, said)


@pytest.mark.parametrize("name", _WHOLE)
def test_what_is_handed_back_is_sent_as_it_came(name: str) -> None:
    decode, body = _WHOLE[name]
    reply, said = decode(body.encode()), json.loads(body)
    if isinstance(reply, Response):
        assert json.loads(encode(sendable([*reply.output]))) == said["output"]
        return
    message, sent = reply.choices[0].message, said["choices"][0]["message"]
    assert json.loads(encode(sendable([{"role": "user", "content": "?"}, message])))[1] == sent
    by_hand = {"role": "assistant", "content": message.content, "tool_calls": message.tool_calls}
    expected = {"role": "assistant", "content": sent.get("content"), "tool_calls": sent.get("tool_calls")}
    assert json.loads(encode(sendable([by_hand]))) == [expected]


@pytest.mark.parametrize("name", _WHOLE)
def test_copies_and_saved_replies_are_equal_and_whole(name: str) -> None:
    decode, body = _WHOLE[name]
    reply, said = decode(body.encode()), json.loads(body)
    reply.__dict__["info"] = Info(endpoint="here", attempts=2)
    for made in (pickle.loads(pickle.dumps(reply)), copy.copy(reply), copy.deepcopy(reply)):
        assert made == reply
        assert (made.to_dict(), made.raw, made.info) == (said, reply.raw, reply.info)
        _check(made, said)
    assert jsonable_encoder(reply) == said
    loaded = type(reply).from_json(reply.to_json())
    assert loaded.to_dict() == said
    _check(loaded, said)


def test_a_collected_stream_is_copied_and_saved_too() -> None:
    assembler = Assembler()
    for number in range(2):
        delta = {"role": "assistant", "reasoning": f"t{number}", "content": f"c{number}", "extra": {"a": {"b": number}}}
        assembler.add(decode_chunk(encode({"id": "x", "provider": "P", "choices": [{"index": 0, "delta": delta}]})))
    whole = assembler.whole()
    message = whole.choices[0].message
    assert (message.reasoning, message.content, message.extra.a.b, whole.provider) == ("t0t1", "c0c1", 1, "P")  # type: ignore[attr-defined]
    made: Any
    for made in (
        pickle.loads(pickle.dumps(whole)),
        copy.copy(whole),
        copy.deepcopy(whole),
        ChatCompletion.from_json(whole.to_json()),
    ):
        assert made.to_dict() == whole.to_dict()
        assert made.choices[0].message.extra.a.b == 1
    assert jsonable_encoder(whole) == whole.to_dict()


def test_a_response_without_output_at_its_end_keeps_what_its_items_said() -> None:
    assembler = ResponsesAssembler()
    item = {"type": "function_call", "id": "f", "call_id": "c", "name": "n", "arguments": "", "signature": "s"}
    events: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": "{}"},
        {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [], "vendor": "v"}},
    ]
    for event in events:
        assembler.add(decode_event(encode(event)))
    whole: Any = assembler.whole()
    assert (whole.vendor, whole.output[0].signature) == ("v", "s")
    assert whole.to_dict()["output"] == [{**item, "arguments": "{}"}]


def test_a_response_keeps_the_id_that_its_beginning_alone_said() -> None:
    assembler = ResponsesAssembler()
    about = {"id": "r", "model": "m", "created_at": 1.5}
    assembler.add(decode_event(encode({"type": "response.in_progress"})))
    assembler.add(decode_event(encode({"type": "response.created", "response": {**about, "status": "in_progress"}})))
    assembler.add(decode_event(encode({"type": "response.in_progress"})))
    assert assembler.whole().to_dict() == {**about, "status": "in_progress"}
    done = {"status": "completed", "output": [{"type": "message", "content": []}], "usage": {"input_tokens": 1}}
    assembler.add(decode_event(encode({"type": "response.completed", "response": done})))
    assert assembler.whole().to_dict() == {**done, **about}


def test_a_dump_is_of_plain_dicts_at_every_depth() -> None:
    results = [{"a": [[{"b": 1}]]}]
    item = {"type": "file_search_call", "id": "f", "queries": [], "results": results, "status": None}
    response: Any = decode_response(encode({"output": [item], "status": "completed", "temperature": "0.5"}))
    assert response.output[0].results[0].a[0][0].b == 1
    dumped = response.to_dict()["output"][0]["results"]
    assert (type(dumped[0]), type(dumped[0]["a"][0][0]), dumped) == (dict, dict, results)


def _message(**fields: Any) -> Any:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": "stop"}]}
    return decode_completion(encode(body)).choices[0].message


def test_hasattr_tells_what_was_sent() -> None:
    message = _message(content="a", reasoning="b")
    assert (hasattr(message, "reasoning"), hasattr(message, "reasoning_details")) == (True, False)
    assert getattr(_message(content="a"), "reasoning", None) is None
    with pytest.raises(AttributeError, match="reasoning"):
        _ = _message(content="a").reasoning


def test_what_the_caller_changed_goes_out_changed_and_the_rest_as_it_came() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"s": "1"}}
    fields = {"content": None, "refusal": None, "tool_calls": [call], "reasoning": "why", "details": [{"a": {"b": 1}}]}
    message = _message(**fields)
    message.content = "new"
    message.tool_calls[0].function.arguments = '{"x":1}'
    message.details[0].a.b = 2
    message.mine = 3
    del message.reasoning
    assert message.to_dict() == {
        "role": "assistant",
        "content": "new",
        "refusal": None,
        "tool_calls": [{**call, "function": {"name": "f", "arguments": '{"x":1}'}}],
        "details": [{"a": {"b": 2}}],
        "mine": 3,
    }
    message.tool_calls.insert(0, ToolCall(id="d"))
    assert message.to_dict()["tool_calls"][1]["extra_content"] == {"s": "1"}
    message.tool_calls.reverse()
    assert message.to_dict()["tool_calls"][0]["extra_content"] == {"s": "1"}
    message.tool_calls = None
    assert message.to_dict()["tool_calls"] is None


def test_a_changed_reply_is_dumped_as_it_is_now() -> None:
    reply = decode_completion(b'{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":""}],"x":1}')
    assert reply.to_dict()["choices"][0]["finish_reason"] == ""
    reply.choices[0].message.content = "b"
    assert reply.to_dict() == {"choices": [{"index": 0, "message": {"content": "b"}, "finish_reason": ""}], "x": 1}


def test_what_could_not_be_read_is_kept() -> None:
    said = {"choices": [{"index": "0", "message": {"content": 5}}, 7], "usage": {"prompt_tokens": None, "more": "x"}}
    reply: Any = decode_completion(encode(said))
    assert (reply.choices[0].message.content, reply.usage.prompt_tokens, reply.usage.more) == ("5", 0, "x")
    assert reply.to_dict() == said


def test_a_field_with_the_name_of_a_method_is_kept() -> None:
    said = {"choices": [], "to_dict": 1, "info": {"a": 2}, "raw": "r", "text": "t"}
    reply = decode_completion(encode(said))
    assert (reply.to_dict(), reply.info, reply.text) == (said, Info(), "")
    assert pickle.loads(pickle.dumps(reply)).to_dict() == said


def test_unknown_items_have_attributes_and_can_be_copied() -> None:
    item = {"type": "hologram", "id": "h", "light": {"nm": 500}}
    reply = decode_response(encode({"id": "r", "output": [item], "vendor": {"x": [{"y": 1}]}}))
    unknown: Any = reply.output[0]
    assert isinstance(unknown, Unknown)
    assert (unknown.id, unknown.light.nm, reply.vendor.x[0].y) == ("h", 500, 1)  # type: ignore[attr-defined]
    assert hasattr(unknown, "dark") is False
    for made in (pickle.loads(pickle.dumps(unknown)), copy.copy(unknown), copy.deepcopy(unknown)):
        assert (made, made.to_dict(), made.light.nm) == (unknown, item, 500)
    unknown.light.nm = 600
    assert json.loads(encode(sendable([unknown])))[0]["light"] == {"nm": 600}


def test_equality_and_repr_see_undeclared_fields() -> None:
    one, other = _message(content="a", reasoning="b"), _message(content="a", reasoning="c")
    assert one != other
    assert one == _message(content="a", reasoning="b")
    assert "reasoning='b'" in repr(one)
    assert Message(content="a") == _message(content="a")
    usage = Usage(prompt_tokens=3, completion_tokens=0, total_tokens=3)
    assert repr(usage) == "Usage(prompt_tokens=3, completion_tokens=0, total_tokens=3)"


def test_an_object_is_a_dict_with_attributes() -> None:
    value = Object({"a": {"b": [{"c": 1}]}})
    assert (value.a.b[0].c, value["a"]["b"][0]["c"], dict(value)) == (1, 1, {"a": {"b": [{"c": 1}]}})
    value.a.d = 2
    del value.a.b
    assert (value.to_dict(), msgspec.json.encode(value)) == ({"a": {"d": 2}}, b'{"a":{"d":2}}')
    for made in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert (made, made.a.d, type(made)) == (value, 2, Object)
    with pytest.raises(AttributeError, match="'b'"):
        del value.b


def test_a_catalogue_is_copied_and_dumped() -> None:
    raw = b'{"object":"list","data":[{"id":"m","new":{"x":1},"info":{"name":null,"z":2}}]}'
    models: Any = decode_models(raw)
    assert (models.data[0].new.x, models.data[0].info_.z) == (1, 2)
    for made in (pickle.loads(pickle.dumps(models)), copy.copy(models), copy.deepcopy(models)):
        assert made.to_dict() == json.loads(raw)
    assert jsonable_encoder(models) == json.loads(raw)


def test_plain_messages_are_sent_as_they_are() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}]
    assert sendable(messages) is messages
    assert issubclass(Message, Open)


def _with_more(said: Any) -> Any:
    """Return JSON with another field in each of its objects."""
    if isinstance(said, dict):
        return {name: _with_more(value) for name, value in said.items()} | {"undeclared": [{"at": {"depth": None}}]}
    return [_with_more(one) for one in said] if isinstance(said, list) else said


def _structs(made: Any) -> list[Any]:
    if isinstance(made, list):
        return [struct for one in made for struct in _structs(one)]
    if not isinstance(made, Open):
        return []
    return [made, *(struct for name in made.__struct_fields__ for struct in _structs(getattr(made, name)))]


@pytest.mark.parametrize("name", _WHOLE)
def test_undeclared_fields_change_nothing_of_the_structs_they_are_in(name: str) -> None:
    decode, body = _WHOLE[name]
    said = _with_more(json.loads(body))
    reply, plain = decode(encode(said)), decode(body.encode())
    assert reply.to_dict() == said
    assert [type(struct) for struct in _structs(reply)] == [type(struct) for struct in _structs(plain)]
    assert all(struct.undeclared[0].at.depth is None for struct in _structs(reply))
    assert all(struct.to_dict()["undeclared"] == [{"at": {"depth": None}}] for struct in _structs(reply))
    for made in (pickle.loads(pickle.dumps(reply)), copy.deepcopy(reply), type(reply).from_json(reply.to_json())):
        assert made == reply
        assert made.to_dict() == said
