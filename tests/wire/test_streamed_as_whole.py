"""A reply that is streamed says at its end what the whole reply says: the same fields, the same values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aimlasync.chat.assembler import Assembler as ChatAssembler
from aimlasync.chat.chunks import decode_chunk
from aimlasync.chat.types import decode_completion
from aimlasync.responses.assembler import Assembler
from aimlasync.responses.events import decode_event
from aimlasync.responses.types import decode_response
from aimlasync.wire.base import encode

_LINES = [json.loads(line) for line in Path(__file__).with_name("replies.jsonl").read_text("utf-8").splitlines()]


def _replies(api: str) -> dict[str, Any]:
    bodies = {one["name"]: json.loads(one["body"]) for one in _LINES if one["api"] == api}
    return {name: body for name, body in bodies.items() if body.get("choices") or body.get("output")}


_CHAT, _RESPONSES = _replies("chat"), _replies("responses")


def _thirds(text: str) -> Iterator[str]:
    size = max(1, len(text) // 3)
    return (text[at : at + size] for at in range(0, max(1, len(text)), size))


def _chunks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    about = {key: value for key, value in body.items() if key not in ("choices", "usage", "meta", "object")}
    for choice in body["choices"]:
        message = dict(choice["message"])
        texts = {key: message.pop(key) for key in ("reasoning", "reasoning_content", "content") if message.get(key)}
        calls = message.pop("tool_calls", None)
        if calls is not None:
            message["tool_calls"] = []
        pieces: list[dict[str, Any]] = [message]
        pieces += [{key: piece} for key, text in texts.items() for piece in _thirds(text)]
        for number, call in enumerate(calls or ()):
            said = call["function"]
            pieces += [{"tool_calls": [{**call, "index": number, "function": {**said, "arguments": ""}}]}]
            more = ({"index": number, "function": {"arguments": piece}} for piece in _thirds(said["arguments"]))
            pieces += [{"tool_calls": [one]} for one in more]
        beside = {key: value for key, value in choice.items() if key not in ("message", "finish_reason")}
        for piece in pieces:
            yield {**about, "choices": [{"index": beside["index"], "delta": piece, "finish_reason": None}]}
        yield {**about, "choices": [{**beside, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    yield {**about, "choices": [], **{key: body[key] for key in ("usage", "meta") if key in body}}


@pytest.mark.parametrize("name", _CHAT)
def test_a_collected_chat_completion_equals_the_whole_one(name: str) -> None:
    body = _CHAT[name]
    whole, assembler = decode_completion(encode(body)), ChatAssembler()
    for chunk in _chunks(body):
        assembler.add(decode_chunk(encode(chunk)))
    streamed = assembler.whole()
    for field in set(whole.__struct_fields__) - {"object"}:
        assert getattr(streamed, field) == getattr(whole, field), field
    assert _said(streamed.to_dict()) == _said({**body, "object": streamed.object})


def _said(value: Any) -> Any:
    """Return a value without nulls, which a stream need not say."""
    if isinstance(value, dict):
        return {key: _said(one) for key, one in value.items() if one is not None}
    return [_said(one) for one in value] if isinstance(value, list) else value


def _events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "response.created", "response": {**body, "status": "in_progress", "output": [], "usage": None}}
    for index, item in enumerate(body["output"]):
        begun = {**item, **{key: [] for key in ("content", "summary") if item.get(key)}}
        if "arguments" in item:
            begun["arguments"] = ""
        yield {"type": "response.output_item.added", "output_index": index, "item": begun}
        for number, part in enumerate(item.get("content") or () if item["type"] == "message" else ()):
            place = {"output_index": index, "content_index": number}
            yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
            for piece in _thirds(part["text"]):
                yield {"type": "response.output_text.delta", **place, "delta": piece}
            yield {"type": "response.content_part.done", **place, "part": part}
        for number, part in enumerate(item.get("summary") or ()):
            place = {"output_index": index, "summary_index": number}
            for piece in _thirds(part["text"]):
                yield {"type": "response.reasoning_summary_text.delta", **place, "delta": piece}
        for piece in _thirds(item.get("arguments", "")):
            yield {"type": "response.function_call_arguments.delta", "output_index": index, "delta": piece}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": body}


@pytest.mark.parametrize("left_out", ["nothing", "output", "output_item.done", "output_item.added"])
@pytest.mark.parametrize("name", _RESPONSES)
def test_a_collected_response_equals_the_whole_one(name: str, left_out: str) -> None:
    body = _RESPONSES[name]
    whole, assembler = decode_response(encode(body)), Assembler()
    for event in _events(body):
        if event["type"] == "response.completed" and left_out != "nothing":
            event = {**event, "response": {**body, "output": []}}
        if not event["type"].endswith(left_out):
            assembler.add(decode_event(encode(event)))
    streamed = assembler.whole()
    for field in whole.__struct_fields__:
        assert getattr(streamed, field) == getattr(whole, field), field
    assert _said(streamed.to_dict()) == _said(body)
