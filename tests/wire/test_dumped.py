"""Dumps of replies as pydantic's methods make them for AsyncOpenAI's models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aimlasync.chat.chunks import decode_chunk
from aimlasync.chat.types import decode_completion
from aimlasync.responses.types import decode_response
from aimlasync.wire.dumped import _KEYS

CHAT: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "vendor": {"a": None},
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {}},
}
CHUNK: dict[str, Any] = {"id": "c", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}
CHUNK["object"] = "chat.completion.chunk"
RESPONSE: dict[str, Any] = {
    "id": "r",
    "object": "response",
    "created_at": 1.0,
    "model": "m",
    "status": "completed",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hi", "annotations": []}],
        },
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "reasoning", "id": "rs", "summary": []},
    ],
    "usage": {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    },
}


def of_sdk(value: dict[str, Any]) -> Any:
    types = pytest.importorskip("openai.types")
    models = {
        "chat.completion": types.chat.ChatCompletion,
        "chat.completion.chunk": types.chat.ChatCompletionChunk,
        "response": types.responses.Response,
    }
    return models[value["object"]].model_validate(value)


def ours(value: dict[str, Any]) -> Any:
    decode = {"chat.completion": decode_completion, "chat.completion.chunk": decode_chunk, "response": decode_response}
    return decode[value["object"]](json.dumps(value).encode())


def lacks(theirs: Any, mine: Any, at: str = "") -> list[str]:
    """Return the keys in the SDK's dump that are not in ours, or have another value."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        found = [f"{at}.{name}" for name in theirs.keys() - mine.keys()]
        return found + [each for name in theirs.keys() & mine.keys() for each in lacks(theirs[name], mine[name], name)]
    if isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        return [each for a, b in zip(theirs, mine, strict=True) for each in lacks(a, b, at)]
    return [] if theirs == mine else [f"{at}: {theirs!r} is not {mine!r}"]


# Members that the SDK got in its last versions.
YOUNG = {"moderation", "completed_at", "metadata", "phase", "caller", "namespace", "prompt_cache_options"}
YOUNG |= {"cache_write_tokens", "image_tokens", "text_tokens", "shutdown_date"}
YOUNG |= {"obfuscation", "delta.audio", "access_programs", "input_transformations", "tool_usage", "image"}
YOUNG |= {"prompt_cache_diagnostics", "cache_write_tokens_details", "async_"}


@pytest.mark.parametrize("value", [CHAT, CHUNK, RESPONSE], ids=["chat", "chunk", "response"])
@pytest.mark.parametrize("options", [{}, {"exclude_none": True}, {"exclude_unset": True}], ids=str)
def test_a_dump_has_the_keys_that_the_sdk_has(value: dict[str, Any], options: dict[str, Any]) -> None:
    theirs, mine = of_sdk(value).model_dump(**options), ours(value).model_dump(**options)
    assert [each for each in lacks(theirs, mine) if not YOUNG & {each, each.rpartition(".")[2]}] == []
    assert json.loads(ours(value).model_dump_json(**options)) == mine


def test_nulls_of_objects_without_a_struct_are_left_out_too_but_not_those_of_a_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"default": None}}}
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    value = {**RESPONSE, "reasoning": {"effort": "low", "summary": None}, "text": {"format": form, "verbosity": None}}
    mine, theirs = (made.model_dump(exclude_none=True) for made in (ours(value), of_sdk(value)))
    assert mine["reasoning"] == theirs["reasoning"] == {"effort": "low"}
    assert mine["text"] == {"format": form}
    assert ours(value).model_dump()["reasoning"] == {"effort": "low", "summary": None}


@pytest.mark.parametrize(
    "options",
    [
        {"include": {"id"}},
        {"include": {"usage": {"total_tokens"}, "choices": {"__all__": {"index", "finish_reason"}}}},
        {"include": {"choices": {0: {"message": {"role"}}}}},
        {"include": {"choices": {-1: {"index": True}}}},
        {"exclude": {"choices", "usage", "moderation", "metadata"}},
        {
            "exclude": {
                "choices": {0: {"message": {"content", "tool_calls"}}},
                "usage": ...,
                "moderation": True,
                "metadata": True,
            }
        },
        {"include": {"id", "model"}, "exclude": {"model"}},
    ],
    ids=range(7),
)
def test_a_dump_leaves_out_what_pydantic_leaves_out(options: dict[str, Any]) -> None:
    assert ours(CHAT).model_dump(**options) == of_sdk(CHAT).model_dump(**options)


def test_options_of_pydantic_that_mean_nothing_here_are_taken() -> None:
    reply = decode_completion(b"{}")
    options: Any = {"warnings": False, "round_trip": True, "serialize_as_any": True, "context": {}, "fallback": str}
    assert reply.model_dump(mode="python", by_alias=True, **options) == reply.model_dump()
    assert reply.model_dump_json(**options) == reply.model_dump_json()


def test_only_keys_of_the_sdk_are_added() -> None:
    types = pytest.importorskip("openai.types")
    for name, kind in (
        ("chat.ChatCompletion", types.chat.ChatCompletion),
        ("chat.Message", types.chat.ChatCompletionMessage),
        ("chat.ChatCompletionChunk", types.chat.ChatCompletionChunk),
        ("chat.Delta", types.chat.chat_completion_chunk.ChoiceDelta),
        ("chat.Usage", types.CompletionUsage),
        ("responses.Response", types.responses.Response),
        ("responses.FunctionCall", types.responses.ResponseFunctionToolCall),
        ("responses.ReasoningItem", types.responses.ResponseReasoningItem),
    ):
        assert set(_KEYS[name]) <= set(kind.model_fields), name


def test_what_the_sdk_does_not_know_is_extra() -> None:
    reply = ours(CHAT)
    assert reply.model_extra == {"vendor": {"a": None}}
    assert ours({**CHAT, "meta": {"usage": {"usd_spent": 0.5}}}).model_extra["meta"]["usage"]["usd_spent"] == 0.5
    assert reply.choices[0].message.model_extra == {"reasoning_content": "hm"}
    assert reply.model_fields_set == set(CHAT)


def test_copies_and_old_names_are_there() -> None:
    reply = ours(CHAT)
    deep = reply.model_copy(update={"model": "other"}, deep=True)
    deep.choices[0].message.content = "changed"
    assert (reply.model, deep.model, reply.choices[0].message.content) == ("m", "other", None)
    assert reply.copy() == reply
    assert (reply.dict(), json.loads(reply.json(indent=2))) == (reply.model_dump(), reply.model_dump())
    assert reply.to_json(indent=2) == json.dumps(reply.to_dict(), indent=2)
