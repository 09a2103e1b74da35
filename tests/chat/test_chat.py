"""Claims about chat answers and their streams: what a reply says at once, and what chunks add up to."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.chat.assembler import Assembler
from aimlasync.chat.chunks import ChatCompletionChunk, chunk_of, decode_chunk
from aimlasync.chat.types import ChatCompletion, ToolCall, decode_completion

JSON = dict[str, Any]


def chunk(*choices: JSON, **fields: Any) -> ChatCompletionChunk:
    head = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1764672127, "model": "gpt-5-nano"}
    return decode_chunk(json.dumps({**head, "choices": list(choices), **fields}).encode())


def bare(**fields: Any) -> ChatCompletionChunk:
    return decode_chunk(json.dumps(fields).encode())


def piece(index: int = 0, finish_reason: str | None = None, **delta: Any) -> JSON:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


def call(index: int | None, id: str | None = None, name: str | None = None, arguments: str | None = None) -> JSON:
    function = {"name": name, "arguments": arguments}
    whole = {"index": index, "id": id, "type": "function" if id else None, "function": function}
    return {key: value for key, value in whole.items() if value is not None}


def assembled(*chunks: ChatCompletionChunk) -> ChatCompletion:
    assembler = Assembler()
    for one in chunks:
        assembler.add(one)
    return assembler.whole()


def calls_of(*deltas: list[JSON]) -> list[tuple[str, str, str]]:
    message = assembled(*(chunk(piece(tool_calls=delta)) for delta in deltas)).choices[0].message
    return [(one.id, one.function.name, one.function.arguments) for one in message.tool_calls or ()]


def finished(*chunks: ChatCompletionChunk) -> bool:
    assembler = Assembler()
    for one in chunks:
        assembler.add(one)
    return assembler.finished


# --- a whole answer ----------------------------------------------------------------------------------------------


def reply(**choice: Any) -> ChatCompletion:
    body = {"id": "c", "choices": [{"index": 0, "finish_reason": "stop", **choice}], "model": "m"}
    return decode_completion(json.dumps(body).encode())


def test_text_is_the_first_choices_content() -> None:
    assert reply(message={"content": "sales"}).text == "sales"


def test_text_of_a_tool_call_or_a_refusal_is_empty() -> None:
    assert reply(message={"content": None, "tool_calls": [call(None, "c", "f", "{}")]}).text == ""
    assert reply(message={"content": None, "refusal": "no"}).text == ""


@pytest.mark.parametrize(("reason", "cut"), [("length", True), ("stop", False), (None, False), ("new_word", False)])
def test_answer_is_truncated_only_by_an_output_cap(reason: str | None, cut: bool) -> None:
    assert reply(message={"content": "a"}, finish_reason=reason).truncated is cut


def test_any_cut_choice_makes_the_answer_truncated() -> None:
    body = {"choices": [{"index": 0, "finish_reason": "stop"}, {"index": 1, "finish_reason": "length"}]}
    assert decode_completion(json.dumps(body).encode()).truncated


def test_parsed_is_none_after_create() -> None:
    assert reply(message={"content": "a"}).parsed is None
    assert reply(message={"content": "a"}).choices[0].message.parsed is None


def test_bytespike_answer_without_created_and_details_is_whole() -> None:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-5-nano",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "support"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 21, "completion_tokens": 2, "total_tokens": 23},
    }
    whole = decode_completion(json.dumps(body).encode())
    assert whole.created is None
    assert whole.usage is not None
    assert (whole.text, whole.usage.total_tokens, whole.usage.completion_tokens_details) == ("support", 23, None)


def test_more_reasoning_tokens_than_tokens_are_no_error() -> None:
    body = {"choices": [], "usage": {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 320}}}
    usage = decode_completion(json.dumps(body).encode()).usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 320


def test_custom_tool_call_has_its_input() -> None:
    custom = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    calls = reply(message={"tool_calls": [custom]}).choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].custom is not None
    assert (calls[0].type, calls[0].custom.name, calls[0].custom.input) == ("custom", "sql", "SELECT 1")


# --- chunks to one answer ----------------------------------------------------------------------------------------


def test_contents_are_joined_in_order() -> None:
    whole = assembled(
        chunk(piece(role="assistant", content="")),
        chunk(piece(content="bil")),
        chunk(piece(content="ling")),
        chunk(piece(finish_reason="stop")),
    )
    assert (whole.text, whole.choices[0].finish_reason, whole.choices[0].message.role) == (
        "billing",
        "stop",
        "assistant",
    )
    assert (whole.id, whole.model, whole.created) == ("chatcmpl-7", "gpt-5-nano", 1764672127)
    assert whole.object == "chat.completion"


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.data())
def test_content_is_the_same_however_it_is_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    bounds = [0, *cuts, len(text)]
    chunks = [chunk(piece(content=text[a:b])) for a, b in pairwise(bounds)]
    assert assembled(*chunks).choices[0].message.content == text


def test_no_content_and_empty_content_stay_different() -> None:
    assert assembled(chunk(piece(role="assistant"))).choices[0].message.content is None
    assert assembled(chunk(piece(content=""))).choices[0].message.content == ""


def test_nothing_becomes_an_answer_without_choices() -> None:
    assert Assembler().whole() == ChatCompletion()


def test_reasoning_and_refusal_are_joined_apart_from_the_content() -> None:
    message = (
        assembled(
            chunk(piece(reasoning_content="let ", content=None)),
            chunk(piece(reasoning_content="me")),
            chunk(piece(refusal="I ")),
            chunk(piece(refusal="won't")),
        )
        .choices[0]
        .message
    )
    assert (message.reasoning_content, message.refusal, message.content) == ("let me", "I won't", None)


def test_legacy_function_call_is_assembled() -> None:
    message = (
        assembled(
            chunk(piece(function_call={"name": "route", "arguments": ""})),
            chunk(piece(function_call={"arguments": '{"to":'})),
            chunk(piece(function_call={"arguments": '"x"}'}, finish_reason="function_call")),
        )
        .choices[0]
        .message
    )
    assert message.function_call is not None
    assert (message.function_call.name, message.function_call.arguments) == ("route", '{"to":"x"}')
    assert message.tool_calls is None


def test_tool_calls_are_assembled_by_index_when_interleaved() -> None:
    assert calls_of(
        [call(1, "b", "second", "")],
        [call(0, "a", "first", "")],
        [call(1, arguments="[1"), call(0, arguments="{")],
        [call(0, arguments="}")],
        [call(1, arguments="]")],
    ) == [("a", "first", "{}"), ("b", "second", "[1]")]


def test_tool_call_indexes_may_start_anywhere_and_have_gaps() -> None:
    assert calls_of([call(3, "a", "f", "1")], [call(7, "b", "g", "2")]) == [("a", "f", "1"), ("b", "g", "2")]


def test_repeated_id_and_name_are_taken_once() -> None:
    assert calls_of([call(0, "a", "f", "{")], [call(0, "a", "f", '"x"')], [call(0, "a", "f", ":1}")]) == [
        ("a", "f", '{"x":1}')
    ]


def test_empty_id_and_name_on_later_pieces_change_nothing() -> None:
    later = {"index": 0, "id": "", "type": "", "function": {"name": "", "arguments": "}"}}
    assert calls_of([call(0, "a", "f", "{")], [later]) == [("a", "f", "{}")]


def test_piece_without_an_index_continues_the_latest_call() -> None:
    assert calls_of([call(None, "a", "f", "{")], [call(None, arguments="}")]) == [("a", "f", "{}")]


def test_new_id_without_an_index_begins_a_new_call() -> None:
    assert calls_of([call(None, "a", "f", "{}")], [call(None, "b", "g", "[")], [call(None, arguments="]")]) == [
        ("a", "f", "{}"),
        ("b", "g", "[]"),
    ]


def test_whole_calls_without_an_index_in_one_chunk_are_kept_apart_by_id() -> None:
    assert calls_of([call(None, "a", "f", "{}"), call(None, "b", "f", "{}")]) == [("a", "f", "{}"), ("b", "f", "{}")]


def test_repeated_id_without_an_index_continues_its_call() -> None:
    assert calls_of([call(None, "a", "f", "{")], [call(None, "a", "f", "}")]) == [("a", "f", "{}")]


def test_tool_call_without_arguments_has_empty_ones() -> None:
    assert calls_of([{"index": 0, "id": "a", "type": "function", "function": {"name": "now"}}]) == [("a", "now", "")]


def test_missing_type_of_a_tool_call_is_function() -> None:
    message = (
        assembled(chunk(piece(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f"}}]))).choices[0].message
    )
    assert message.tool_calls is not None
    assert message.tool_calls[0].type == "function"


def test_custom_call_is_assembled_from_its_input() -> None:
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": ""}}
    more = [{"index": 0, "custom": {"input": text}} for text in ("SELECT", " 1")]
    calls = assembled(*(chunk(piece(tool_calls=[one])) for one in (first, *more))).choices[0].message.tool_calls
    assert calls is not None
    assert isinstance(calls[0], ToolCall)
    assert calls[0].custom is not None
    assert (calls[0].id, calls[0].type, calls[0].custom.name, calls[0].custom.input) == (
        "a",
        "custom",
        "sql",
        "SELECT 1",
    )


def test_custom_call_without_input_is_still_custom() -> None:
    one = {"index": 0, "id": "a", "custom": {"name": "ping"}}
    calls = assembled(chunk(piece(tool_calls=[one]))).choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].custom is not None
    assert (calls[0].type, calls[0].custom.name, calls[0].custom.input) == ("custom", "ping", "")


def test_choices_grow_apart_and_come_out_in_order() -> None:
    whole = assembled(
        chunk(piece(1, content="b")),
        chunk(piece(0, content="a"), piece(2, content="c")),
        chunk(piece(1, content="B", finish_reason="stop")),
        chunk(piece(0, finish_reason="length")),
    )
    found = [(one.index, one.message.content, one.finish_reason) for one in whole.choices]
    assert found == [(0, "a", "length"), (1, "bB", "stop"), (2, "c", None)]
    assert whole.truncated


def test_logprobs_of_all_chunks_are_kept_in_order() -> None:
    def logprobs(token: str, refusal: str | None = None) -> JSON:
        content = [{"token": token, "logprob": -0.5, "bytes": [1], "top_logprobs": [{"token": "x", "logprob": -2}]}]
        return {"content": content, "refusal": None if refusal is None else [{"token": refusal, "logprob": -1}]}

    whole = assembled(
        chunk({**piece(content="a"), "logprobs": logprobs("a")}),
        chunk({**piece(content="b"), "logprobs": None}),
        chunk({**piece(content="c"), "logprobs": logprobs("c", "no")}),
    )
    found = whole.choices[0].logprobs
    assert found is not None
    assert [one.token for one in found.content or ()] == ["a", "c"]
    assert [one.token for one in found.refusal or ()] == ["no"]
    assert found.content is not None
    assert found.content[0].top_logprobs[0].token == "x"


def test_last_usage_wins_and_a_null_one_does_not() -> None:
    whole = assembled(
        chunk(piece(content="a"), usage={"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}),
        chunk(piece(content="b"), usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}),
        chunk(piece(finish_reason="stop"), usage=None),
    )
    assert whole.usage is not None
    assert (whole.usage.completion_tokens, whole.usage.total_tokens) == (2, 7)


def test_cost_of_the_bare_last_chunk_is_kept_and_its_empty_head_is_not() -> None:
    whole = assembled(
        chunk(piece(content="a", finish_reason="stop")),
        bare(meta={"usage": {"credits_used": 2480, "usd_spent": 0.00124}}),
    )
    assert whole.meta is not None
    assert whole.meta.usage is not None
    assert (whole.meta.usage.credits_used, whole.meta.usage.usd_spent) == (2480, 0.00124)
    assert (whole.id, whole.model) == ("chatcmpl-7", "gpt-5-nano")


def test_empty_ids_before_the_first_real_one_are_passed_over() -> None:
    whole = assembled(
        chunk(id="", model="", created=0, prompt_filter_results=[]),
        chunk(piece(content="a"), id="real", system_fingerprint="fp_1", service_tier="default"),
        chunk(piece(content="b"), id="", model="other"),
    )
    assert (whole.id, whole.model, whole.system_fingerprint, whole.service_tier) == (
        "real",
        "gpt-5-nano",
        "fp_1",
        "default",
    )
    assert whole.text == "ab"


def test_model_of_a_stream_without_ids_is_the_first_chunks() -> None:
    assert assembled(chunk(piece(content="a"), id=""), chunk(id="", model="late")).model == "gpt-5-nano"


def test_chunks_are_left_as_they_were() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -1}], "refusal": None}
    chunks = [
        chunk({**piece(content="a", tool_calls=[call(0, "i", "f", "{")]), "logprobs": logprobs}),
        chunk({**piece(content="b", tool_calls=[call(0, arguments="}")]), "logprobs": logprobs}),
        chunk(usage={"prompt_tokens": 1}),
    ]
    before = [decode_chunk(one.raw) for one in chunks]
    whole = assembled(*chunks)
    whole.choices[0].message.content = "changed"
    whole.choices[0].logprobs = None
    assert chunks == before


def test_answer_can_be_taken_again_after_more_chunks() -> None:
    assembler = Assembler()
    assembler.add(chunk(piece(content="a", tool_calls=[call(0, "i", "f", "{")])))
    early = assembler.whole()
    assembler.add(chunk(piece(content="b", tool_calls=[call(0, arguments="}")])))
    assert early.text == "a"
    late = assembler.whole().choices[0].message
    assert late.content == "ab"
    assert late.tool_calls is not None
    assert late.tool_calls[0].function.arguments == "{}"


# --- when a clean end of the body is the end of the answer -------------------------------------------------------


def test_stream_of_nothing_is_not_finished() -> None:
    assert not finished()
    assert not finished(chunk())


def test_text_without_a_finish_reason_is_not_finished() -> None:
    assert not finished(chunk(piece(role="assistant")), chunk(piece(content="a")))


def test_finish_reason_of_the_only_choice_finishes() -> None:
    assert finished(chunk(piece(content="a")), chunk(piece(finish_reason="stop")))
    assert finished(chunk(piece(content="a", finish_reason="a_new_word")))


def test_empty_finish_reason_does_not_finish() -> None:
    assert not finished(chunk(piece(content="a", finish_reason="")))


def test_every_choice_needs_its_finish_reason() -> None:
    first = chunk(piece(0, content="a"), piece(1, content="b"))
    one = chunk(piece(1, finish_reason="stop"))
    assert not finished(first, one)
    assert finished(first, one, chunk(piece(0, finish_reason="length")))


@pytest.mark.parametrize("tail", [{"usage": {"total_tokens": 3}}, {"meta": {"usage": {"usd_spent": 0.1}}}])
def test_usage_or_cost_tail_finishes_without_a_finish_reason(tail: JSON) -> None:
    assert finished(chunk(piece(content="a")), chunk(**tail))
    assert finished(chunk(piece(content="a")), bare(**tail))


def test_usage_beside_a_choice_is_no_tail() -> None:
    assert not finished(chunk(piece(content="a"), usage={"total_tokens": 3}))


def test_text_after_a_usage_tail_opens_the_answer_again() -> None:
    assert not finished(chunk(usage={"total_tokens": 3}), chunk(piece(content="a")))


# --- a whole answer as the only chunk ----------------------------------------------------------------------------

WHOLE: JSON = {
    "id": "chatcmpl-8",
    "object": "chat.completion",
    "created": 1764672127,
    "model": "gpt-5-nano",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "see",
                "reasoning_content": "hm",
                "refusal": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}},
                ],
            },
            "logprobs": {"content": [{"token": "see", "logprob": -1.0}], "refusal": None},
        },
        {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": None, "refusal": "no"}},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "meta": {"usage": {"credits_used": 3, "usd_spent": 0.5}},
}


def test_whole_answer_as_a_chunk_says_the_same() -> None:
    reply = decode_completion(json.dumps(WHOLE).encode())
    one = chunk_of(reply)
    assert [choice.delta.content for choice in one.choices] == ["see", None]
    whole = assembled(one)
    assert (whole.id, whole.created, whole.model) == (reply.id, reply.created, reply.model)
    assert (whole.usage, whole.meta) == (reply.usage, reply.meta)
    for got, wanted in zip(whole.choices, reply.choices, strict=True):
        assert (got.index, got.finish_reason, got.logprobs) == (wanted.index, wanted.finish_reason, wanted.logprobs)
        for field in ("role", "content", "refusal", "reasoning_content"):
            assert getattr(got.message, field) == getattr(wanted.message, field)
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert [(one.id, one.type, one.function.name) for one in calls] == [("a", "function", "f"), ("b", "custom", "")]
    assert calls[1].custom is not None
    assert (calls[1].custom.name, calls[1].custom.input) == ("sql", "SELECT 1")


def test_whole_answer_as_a_chunk_finishes_a_stream() -> None:
    assert finished(chunk_of(decode_completion(json.dumps(WHOLE).encode())))


def test_answer_without_tool_calls_gives_a_chunk_without_them() -> None:
    body = {**WHOLE, "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
    assert chunk_of(decode_completion(json.dumps(body).encode())).choices[0].delta.tool_calls is None


def test_collected_choice_says_its_index() -> None:
    assembler = Assembler()
    assembler.add(decode_chunk(b'{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}'))
    assert assembler.whole().to_dict()["choices"][0]["index"] == 0
    # A whole reply that leaves it out is what it is.
    assert decode_completion(b'{"choices":[{"message":{"content":"x"}}]}').to_dict() == {
        "choices": [{"message": {"content": "x"}}]
    }
