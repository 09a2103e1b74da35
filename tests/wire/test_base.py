"""Claims about what every wire struct shares: a decode that keeps the answer, a lossless way back, one encoder."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.chat import types as chat
from aimlasync.chat.assembler import Assembler
from aimlasync.chat.chunks import decode_chunk
from aimlasync.chat.types import ChatCompletion, Message, decode_completion
from aimlasync.info import Info
from aimlasync.responses import types as responses
from aimlasync.responses.events import decode_event
from aimlasync.responses.items import OutputMessage, OutputText
from aimlasync.responses.types import Response, decode_response
from aimlasync.wire.base import Unknown, encode

JSON = dict[str, Any]
Path = tuple[str | int, ...]

GONE: Any = object()

COMPLETION: JSON = {
    "id": "chatcmpl-D9a",
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "billing", "refusal": None, "annotations": []},
            "logprobs": {
                "content": [{"token": "b", "bytes": [98], "logprob": -0.1, "top_logprobs": []}],
                "refusal": None,
            },
        }
    ],
    "created": 1764672127,
    "model": "gpt-5-nano-2025-08-07",
    "usage": {
        "prompt_tokens": 28,
        "completion_tokens": 3,
        "total_tokens": 31,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 320, "accepted_prediction_tokens": 0},
    },
    "system_fingerprint": None,
    "meta": {"usage": {"credits_used": 2480, "usd_spent": 0.00124}},
}

RESPONSE: JSON = {
    "id": "resp_6a",
    "object": "response",
    "created_at": 1764672331,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5-mini-2025-08-07",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": []},
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "sales"}],
        },
    ],
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": None},
    "temperature": 1,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 424,
        "output_tokens_details": {"reasoning_tokens": 448},
        "total_tokens": 425,
    },
    "metadata": {},
    "output_text": "sales",
}

TOOL_CALL: JSON = {"id": "call_1", "type": "function", "function": {"name": "route", "arguments": '{"to":"sales"}'}}


def put(body: JSON, path: Path, value: Any) -> JSON:
    """A copy of `body` with `value` at `path`, or without what is there."""
    changed = copy.deepcopy(body)
    at: Any = changed
    for step in path[:-1]:
        at = at[step]
    if isinstance(at, list) is not isinstance(path[-1], int):
        raise KeyError(path)
    if value is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return changed


def raw(body: Any) -> bytes:
    return json.dumps(body).encode()


def completion(*path: str | int, value: Any) -> ChatCompletion:
    return decode_completion(raw(put(COMPLETION, path, value)))


def response(*path: str | int, value: Any) -> Response:
    return decode_response(raw(put(RESPONSE, path, value)))


# --- a side field of a wrong type costs itself, never the answer -------------------------------------------------


@pytest.mark.parametrize("usage", [None, "free", [], 0, False, {"prompt_tokens": None}])
def test_usage_that_is_none_keeps_the_answer(usage: Any) -> None:
    reply = completion("usage", value=usage)
    assert reply.text == "billing"
    assert reply.usage is None or reply.usage.prompt_tokens == 0


@pytest.mark.parametrize("count", [28, "28", 28.0])
def test_count_is_read_from_a_number_a_text_and_a_float(count: Any) -> None:
    reply = completion("usage", "prompt_tokens", value=count)
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, type(reply.usage.prompt_tokens)) == (28, int)
    assert reply.usage.completion_tokens == 3


def test_one_unreadable_count_costs_only_itself() -> None:
    reply = completion("usage", "completion_tokens", value="many")
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (28, 0, 31)


def test_fraction_of_a_second_in_created_is_cut() -> None:
    assert completion("created", value=1764672127.9).created == 1764672127


@pytest.mark.parametrize("field", ["id", "model", "system_fingerprint", "service_tier"])
def test_number_where_text_belongs_becomes_text(field: str) -> None:
    reply = completion(field, value=77)
    assert getattr(reply, field) == "77"
    assert reply.text == "billing"


@pytest.mark.parametrize("index", [GONE, None, "zero", []])
def test_missing_or_unreadable_index_is_zero(index: Any) -> None:
    reply = completion("choices", 0, "index", value=index)
    assert (reply.choices[0].index, reply.text) == (0, "billing")


def test_index_as_text_is_a_number() -> None:
    assert completion("choices", 0, "index", value="2").choices[0].index == 2


@pytest.mark.parametrize("choices", [None, {}, "none", 0])
def test_choices_that_are_no_list_are_an_empty_list(choices: Any) -> None:
    reply = completion("choices", value=choices)
    assert (reply.choices, reply.text, reply.truncated, reply.parsed) == ([], "", False, None)
    assert reply.usage is not None


def test_null_among_the_choices_is_left_out() -> None:
    reply = completion("choices", value=[None, COMPLETION["choices"][0]])
    assert [choice.message.content for choice in reply.choices] == ["billing"]


@pytest.mark.parametrize("message", [None, GONE, "billing", []])
def test_choice_without_a_message_has_an_empty_one(message: Any) -> None:
    reply = completion("choices", 0, "message", value=message)
    assert reply.choices[0].message == Message()
    assert (reply.text, reply.choices[0].finish_reason) == ("", "stop")


def test_content_as_a_list_of_parts_is_their_text() -> None:
    parts = [{"type": "text", "text": "bil"}, {"type": "thinking"}, {"type": "text", "text": "ling"}]
    assert completion("choices", 0, "message", "content", value=parts).text == "billing"


@pytest.mark.parametrize("content", ["null", "true", "12", "1e5", "[]", ""])
def test_content_that_looks_like_another_value_stays_text_when_a_side_field_is_wrong(content: str) -> None:
    body = put(put(COMPLETION, ("usage",), "wrong"), ("choices", 0, "message", "content"), content)
    assert decode_completion(raw(body)).choices[0].message.content == content


def test_empty_finish_reason_is_none() -> None:
    assert completion("choices", 0, "finish_reason", value="").choices[0].finish_reason is None


@pytest.mark.parametrize("field", ["tool_calls", "annotations", "reasoning_content", "function_call", "audio"])
def test_null_in_any_optional_part_of_a_message_is_none(field: str) -> None:
    message = completion("choices", 0, "message", field, value=None).choices[0].message
    assert getattr(message, field) is None
    assert message.content == "billing"


def test_tool_calls_survive_a_wrong_side_field() -> None:
    body = put(COMPLETION, ("choices", 0, "message"), {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]})
    calls = decode_completion(raw(put(body, ("usage",), "wrong"))).choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].id, calls[0].type, calls[0].function.name) == ("call_1", "function", "route")
    assert calls[0].function.arguments == '{"to":"sales"}'


@pytest.mark.parametrize("meta", [None, {"usage": None}, {}, "free"])
def test_meta_may_be_null_at_both_levels(meta: Any) -> None:
    reply = completion("meta", value=meta)
    assert reply.meta is None or reply.meta.usage is None
    assert reply.text == "billing"


def test_cost_as_text_is_a_number() -> None:
    reply = completion("meta", "usage", value={"credits_used": "2480", "usd_spent": "0.001240000"})
    assert reply.meta is not None
    assert reply.meta.usage is not None
    assert (reply.meta.usage.credits_used, reply.meta.usage.usd_spent) == (2480.0, 0.00124)


@pytest.mark.parametrize("delta", [None, GONE])
def test_delta_of_a_chunk_is_never_none(delta: Any) -> None:
    chunk: JSON = {"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}
    choice = decode_chunk(raw(put(chunk, ("choices", 0, "delta"), delta))).choices[0]
    assert (choice.delta.content, choice.finish_reason) == (None, "stop")


@pytest.mark.parametrize("output", [None, GONE, {}, "none"])
def test_output_that_is_no_list_is_empty_and_keeps_the_text(output: Any) -> None:
    reply = response("output", value=output)
    assert (reply.output, reply.output_text) == ([], "sales")


@pytest.mark.parametrize("text", [None, GONE, True])
def test_output_text_that_is_no_text_is_computed(text: Any) -> None:
    assert response("output_text", value=text).output_text == "sales"


def test_error_code_as_a_number_becomes_text() -> None:
    reply = response("error", value={"code": 500, "message": "upstream"})
    assert reply.error is not None
    assert (reply.error.code, reply.error.message, reply.status) == ("500", "upstream", "completed")


def test_null_among_the_output_items_is_left_out() -> None:
    assert [item.type for item in response("output", 0, value=None).output] == ["message"]


def test_wrong_field_inside_an_item_costs_only_itself() -> None:
    item = response("output", 1, "content", 0, "annotations", value=None).output[1]
    assert isinstance(item, OutputMessage)
    assert isinstance(item.content[0], OutputText)
    assert (item.content[0].text, item.content[0].annotations) == ("sales", [])


@pytest.mark.parametrize("decode", [decode_completion, decode_chunk, decode_response, decode_event])
@pytest.mark.parametrize("value", [b"[]", b'"text"', b"3", b"null", b"true"])
def test_root_that_is_no_object_is_a_validation_error(decode: Any, value: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(value)


@pytest.mark.parametrize("decode", [decode_completion, decode_chunk, decode_response, decode_event])
@pytest.mark.parametrize("value", [b"", b"{", b"<html>", b'{"choices":[{"message":{"content":"ha', b"[DONE]"])
def test_bytes_that_are_no_json_are_a_decode_error(decode: Any, value: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(value)


# --- the same, for every field at once ---------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """The path of everything inside `value`."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*at, key)
        yield from paths(inner, (*at, key))


def changes(body: JSON, keep: Path = ()) -> st.SearchStrategy[JSON]:
    """`body` with up to four places replaced, none of them on the way to `keep`."""
    places = [path for path in paths(body) if path != keep[: len(path)] and path[-1] != "type"]

    @st.composite
    def changed(draw: st.DrawFn) -> JSON:
        result = body
        for path in draw(st.lists(st.sampled_from(places), min_size=1, max_size=4)):
            try:
                result = put(result, path, draw(values))
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change took the way there
        return result

    return changed()


ANSWER: Path = ("choices", 0, "message", "content")


@settings(max_examples=200, deadline=None)
@given(changes(put(COMPLETION, ("choices", 0, "message", "tool_calls"), [TOOL_CALL]), keep=ANSWER))
def test_whatever_is_wrong_around_it_the_content_of_a_completion_is_kept(body: JSON) -> None:
    reply = decode_completion(raw(body))
    assert reply.choices[0].message.content == "billing"
    assert reply.text == "billing"
    assert reply.to_dict() == body
    encode(reply)


@settings(max_examples=200, deadline=None)
@given(changes({**COMPLETION, "choices": [{"index": 0, "delta": {"content": "bil", "tool_calls": [TOOL_CALL]}}]}))
def test_whatever_is_wrong_in_a_chunk_it_is_decoded_and_assembled(body: JSON) -> None:
    chunk = decode_chunk(raw(body))
    assembler = Assembler()
    assembler.add(chunk)
    encode(assembler.whole())
    assert isinstance(assembler.finished, bool)
    assert chunk.to_dict() == body


@settings(max_examples=120, deadline=None)
@given(changes(RESPONSE, keep=("output_text",)))
def test_whatever_is_wrong_around_it_the_text_of_a_response_is_kept(body: JSON) -> None:
    reply = decode_response(raw(body))
    assert reply.output_text == "sales"
    assert reply.status is not None
    assert reply.to_dict() == body
    encode(reply)


@settings(max_examples=80, deadline=None)
@given(changes(RESPONSE), st.sampled_from(["response.created", "response.completed", "response.failed"]))
def test_whatever_is_wrong_in_an_event_it_is_decoded(body: JSON, kind: str) -> None:
    event = decode_event(raw({"type": kind, "sequence_number": "7", "response": body}))
    assert event.type == kind
    assert event.to_dict()["response"] == body


@settings(max_examples=100, deadline=None)
@given(values.filter(lambda value: not isinstance(value, dict)))
def test_only_a_root_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_completion(raw(value))


# --- what is not known is kept -----------------------------------------------------------------------------------


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def test_fields_nobody_knows_survive_at_every_level() -> None:
    body = put(COMPLETION, ("provider",), {"name": "x"})
    body = put(body, ("choices", 0, "native_finish_reason"), "STOP")
    body = put(body, ("choices", 0, "message", "reasoning_details"), [{"n": 1}])
    body = put(body, ("usage", "cache_write_tokens"), 3)
    reply = decode_completion(raw(body))
    assert reply.to_dict() == body
    assert json.loads(reply.to_json()) == body
    assert reply.model_dump(mode="json", exclude_none=True) == without_nulls(body)
    assert without_nulls(json.loads(reply.model_dump_json(indent=2))) == without_nulls(body)
    assert reply.raw == raw(body)


def test_unknown_finish_reason_and_role_are_kept_as_they_came() -> None:
    body = put(COMPLETION, ("choices", 0, "finish_reason"), "model_context_window_exceeded")
    reply = decode_completion(raw(put(body, ("choices", 0, "message", "role"), "narrator")))
    assert reply.choices[0].finish_reason == "model_context_window_exceeded"
    assert reply.choices[0].message.role == "narrator"


def test_unknown_output_item_is_kept_between_known_ones() -> None:
    item = {"type": "custom_tool_call", "id": "ct_1", "input": "SELECT 1", "deep": {"x": [1, None]}}
    body = put(RESPONSE, ("output",), [RESPONSE["output"][0], item, RESPONSE["output"][1]])
    reply = decode_response(raw(body))
    assert [one.type for one in reply.output] == ["reasoning", "custom_tool_call", "message"]
    unknown = reply.output[1]
    assert isinstance(unknown, Unknown)
    assert unknown.to_dict() == item
    assert reply.to_dict() == body
    assert reply.output_text == "sales"


def test_unknown_part_of_a_message_is_kept_beside_its_text() -> None:
    part = {"type": "output_hologram", "url": "https://x.invalid"}
    body = put(RESPONSE, ("output", 1, "content"), [part, {"type": "output_text", "text": "sales"}])
    reply = decode_response(raw({**body, "output_text": None}))
    message = reply.output[1]
    assert isinstance(message, OutputMessage)
    assert isinstance(message.content[0], Unknown)
    assert message.content[0].to_dict() == part
    assert reply.output_text == "sales"


def test_item_without_a_type_is_unknown_and_kept() -> None:
    item = response("output", 0, value={"id": "x"}).output[0]
    assert isinstance(item, Unknown)
    assert (item.type, item.to_dict()) == ("", {"id": "x"})


def test_unknown_compares_by_value_and_shows_what_it_holds() -> None:
    one, same, other = Unknown("t", b"{}"), Unknown("t", b"{}"), Unknown("u", b"{}")
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "t"
    assert repr(one) == "Unknown(type='t', raw=b'{}')"


# --- what is sent ------------------------------------------------------------------------------------------------


class PydanticLike:
    """Has what pydantic models have."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unset = ""

    def model_dump(self, *, mode: str, exclude_unset: bool) -> JSON:
        assert (mode, exclude_unset) == ("json", True)
        return {"name": self.name}


class Opaque:
    """Nothing that JSON could show."""


def test_fields_that_were_not_set_are_not_sent() -> None:
    assert encode(chat.UserMessage(content="hi")) == b'{"role":"user","content":"hi"}'
    assert encode(chat.ToolMessage(content="", tool_call_id="c")) == b'{"role":"tool","content":"","tool_call_id":"c"}'
    assert encode(responses.InputFile(filename="a.pdf")) == b'{"type":"input_file","filename":"a.pdf"}'


def test_dict_is_sent_as_given_nulls_and_unknown_keys_too() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": None, "x_new": [1, {"y": None}]}], "n": None}
    assert json.loads(encode(body)) == body


def test_structs_are_sent_with_their_tags() -> None:
    message = chat.UserMessage(
        content=[
            chat.TextPart(text="see"),
            chat.ImagePart(image_url=chat.ImageURL(url="https://x.invalid/a.png", detail="low")),
            chat.FilePart(file=chat.FileData(file_data="data:application/pdf;base64,AA==", filename="a.pdf")),
        ]
    )
    assert json.loads(encode(message)) == {
        "role": "user",
        "content": [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": "https://x.invalid/a.png", "detail": "low"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
        ],
    }


def test_tool_definitions_carry_what_each_endpoint_requires() -> None:
    assert json.loads(encode(chat.FunctionTool(function=chat.Function(name="f", parameters={})))) == {
        "type": "function",
        "function": {"name": "f", "parameters": {}},
    }
    assert json.loads(encode(responses.FunctionTool(name="f", parameters={}, strict=False))) == {
        "type": "function",
        "name": "f",
        "parameters": {},
        "strict": False,
    }


def test_generator_is_sent_as_a_list() -> None:
    messages = (chat.UserMessage(content=text) for text in "ab")
    assert json.loads(encode({"messages": messages})) == {
        "messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    }


def test_pydantic_model_is_sent_by_what_was_set() -> None:
    assert encode({"tools": [PydanticLike("x")]}) == b'{"tools":[{"name":"x"}]}'


def test_unknown_item_is_sent_as_it_came() -> None:
    assert json.loads(encode({"input": [Unknown("new", b'{"type":"new","a":[1,null]}')]})) == {
        "input": [{"type": "new", "a": [1, None]}]
    }


@pytest.mark.parametrize("value", [Opaque(), 3j, len])
def test_what_json_cannot_show_is_a_type_error_that_names_its_type(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__qualname__):
        encode({"metadata": value})


# --- what came back can be sent again ----------------------------------------------------------------------------


def test_answer_can_be_sent_back_with_role_and_content() -> None:
    message = decode_completion(raw(COMPLETION)).choices[0].message
    assert json.loads(encode([message])) == [{"role": "assistant", "content": "billing", "annotations": []}]


def test_answer_without_a_role_is_sent_back_with_one() -> None:
    message = completion("choices", 0, "message", value={"content": "hi"}).choices[0].message
    assert json.loads(encode(message)) == {"role": "assistant", "content": "hi"}


def test_empty_answer_is_sent_back_empty() -> None:
    assert (
        json.loads(encode(completion("choices", 0, "message", "content", value="").choices[0].message))["content"] == ""
    )


@pytest.mark.parametrize("arguments", ["", "{}", '{"to":'])
def test_tool_call_turn_is_sent_back_with_all_required_keys_and_no_null_content(arguments: str) -> None:
    call = {"id": "call_1", "function": {"name": "route", "arguments": arguments}}
    message = completion("choices", 0, "message", value={"content": None, "tool_calls": [call]}).choices[0].message
    assert json.loads(encode(message)) == {"role": "assistant", "tool_calls": [{**call, "type": "function"}]}


def test_assembled_tool_call_turn_is_sent_back_like_a_whole_one() -> None:
    assembler = Assembler()
    assembler.add(decode_chunk(raw({"choices": [{"delta": {"tool_calls": [{"index": 0, **TOOL_CALL}]}}]})))
    message = assembler.whole().choices[0].message
    assert json.loads(encode(message)) == {"role": "assistant", "tool_calls": [TOOL_CALL]}


def test_output_items_can_be_sent_back_with_all_required_keys() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "route", "arguments": ""}
    output = [*RESPONSE["output"], call]
    reply = decode_response(raw(put(RESPONSE, ("output",), output)))
    assert json.loads(encode({"input": reply.output})) == {"input": output}


def test_items_whose_empty_lists_and_texts_were_left_out_are_sent_back_with_them() -> None:
    output = [
        {"type": "reasoning", "id": "rs_1"},
        {"type": "message", "id": "msg_1", "content": [{"type": "output_text"}, {"type": "refusal"}]},
        {"type": "function_call", "call_id": "call_1", "name": "now"},
    ]
    sent = json.loads(encode(decode_response(raw({**RESPONSE, "output": output})).output))
    assert sent[0] == {"type": "reasoning", "id": "rs_1", "summary": []}
    assert sent[1]["role"] == "assistant"
    assert sent[1]["content"] == [
        {"type": "output_text", "text": "", "annotations": []},
        {"type": "refusal", "refusal": ""},
    ]
    assert sent[2]["arguments"] == ""


def test_output_and_results_are_sent_back_in_one_list() -> None:
    reply = decode_response(raw(RESPONSE))
    items = [
        responses.InputMessage(role="user", content="hi"),
        *reply.output,
        responses.FunctionCallOutput(call_id="call_1", output=""),
    ]
    assert [item["type"] for item in json.loads(encode(items))] == [
        "message",
        "reasoning",
        "message",
        "function_call_output",
    ]
    assert json.loads(encode(items))[-1] == {"type": "function_call_output", "call_id": "call_1", "output": ""}


def test_a_reply_has_the_info_of_its_call_and_an_empty_one_without_a_call() -> None:
    reply = decode_completion(b'{"id":"a","choices":[]}')
    assert reply.info == Info()
    assert reply.info is not reply.info
    assert reply == decode_completion(b'{"id":"a","choices":[]}')
    info = Info(attempts=2)
    reply.__dict__["info"] = info
    assert reply.info is info
    assert "info" not in repr(reply)
    assert "info" not in reply.to_dict()
    assert pickle.loads(pickle.dumps(reply)).info == info


@pytest.mark.parametrize("levels", [1, 40, 190])
def test_lists_within_lists_are_read_however_deep(levels: int) -> None:
    deep = "[" * levels + '{"a":{"b":1}}' + "]" * levels
    reply: Any = decode_completion(f'{{"choices":[],"more":{deep}}}'.encode())
    assert json.loads(reply.to_json())["more"] == json.loads(deep)
    found = reply.more
    for _ in range(levels):
        (found,) = found
    assert found["a"]["b"] == 1
    if levels <= 40:
        assert found.a.b == 1


@pytest.mark.parametrize("levels", [210, 450, 900, 5000, 200_000])
@pytest.mark.parametrize(
    ("begin", "end"), [("[", "]"), ('{"a":[', "]}"), ('{"a":', "}")], ids=["lists", "both", "objects"]
)
@pytest.mark.parametrize("decode", [decode_completion, decode_response, decode_chunk, decode_event])
def test_what_is_nested_deeper_is_null_whatever_the_interpreter_reads(
    decode: Callable[[bytes], Any], begin: str, end: str, levels: int
) -> None:
    # `to_dict` and the assemblers of streams raised a RecursionError; Python 3.12 reads some thousand levels.
    run = '"type":"response.completed","response":{"output":[]},' if decode is decode_event else ""
    text = f'{{{run}"choices":[],"more":{begin * levels}1{end * levels},"output":[],"last":[1]}}'
    made = decode(text.encode())
    said = json.loads(made.to_json())
    assert (made.last, said["last"]) == ([1], [1])
    assert (
        set(msgspec.json.encode(made.more))
        == set(msgspec.json.encode(said["more"]))
        == set(f"{begin}null{end}".encode())
    )
    for cut in (text[: len(text) // 2], text[:-1]):
        with pytest.raises(msgspec.DecodeError):
            decode(cut.encode())


def test_brackets_in_texts_are_no_levels() -> None:
    text = "[" * 500 + '\\" ' + "{" * 500
    reply: Any = decode_completion(json.dumps({"choices": [], "more": {text: [text, "\\"]}}).encode())
    assert reply.more[text] == [text, "\\"]
