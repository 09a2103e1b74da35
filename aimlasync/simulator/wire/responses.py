"""Encodes answers for responses: the body of a reply, or the events of a stream.

Pure functions from values to bytes. It may import `chat`, what a vendor is and what the model answers.
Implements the response object and the server-sent events of POST /v1/responses as in the AI/ML API's OpenAPI specs
(gpt-5-nano-RESPONSES) and OpenAI's "Streaming events".
"""

from __future__ import annotations

import time
from base64 import b64encode
from typing import Any

import msgspec

from aimlasync.simulator.model.answers import Answer
from aimlasync.simulator.vendor import tokens
from aimlasync.simulator.vendor.catalogue import served
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.wire.chat import FRAGMENT, Event, logprobs

_encode = msgspec.json.Encoder().encode


def whole(request: SimRequest, answer: Answer, id: str) -> dict[str, Any]:
    """Return a response that is not streamed."""
    return _object(request, answer, id, output(request, answer, id))


def events(request: SimRequest, answer: Answer, id: str, meta: dict[str, Any] | None) -> list[Event]:
    """Return the events of a streamed response; the last one is terminal, and there is no `[DONE]`."""
    items = output(request, answer, id)
    stream = _EventList()
    opening = {**_object(request, answer, id, []), "status": "in_progress", "usage": None, "incomplete_details": None}
    del opening["output_text"]
    stream.add("response.created", response=opening)
    stream.add("response.in_progress", response=opening)
    for index, item in enumerate(items):
        match item["type"]:
            case "message":
                _message(stream, index, item)
            case "function_call":
                _call(stream, index, item)
            case _:
                stream.add("response.output_item.added", output_index=index, item=item)
                stream.add("response.output_item.done", output_index=index, item=item)
    ended = _object(request, answer, id, items)
    if meta is not None:
        ended["meta"] = meta
    stream.add(f"response.{ended['status']}", response=ended)
    return stream.events


def error_event(error: dict[str, Any], number: int) -> bytes:
    """Return the event that ends a stream with an error."""
    inner = error.get("error", error)
    fields = {
        "type": "error",
        "code": inner.get("code") or "server_error",
        "message": inner["message"],
        "param": inner.get("param"),
        "sequence_number": number,
    }
    return b"event: error\ndata: " + _encode(fields) + b"\n\n"


class _EventList:
    """The events of a stream, numbered in sequence."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, kind: str, /, *, generated: bool = False, **fields: Any) -> None:
        event = {"type": kind, "sequence_number": len(self.events), **fields}
        self.events.append((b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(event)), generated))


def _message(stream: _EventList, index: int, item: dict[str, Any]) -> None:
    part = item["content"][0]
    stream.add("response.output_item.added", output_index=index, item={**item, "status": "in_progress", "content": []})
    where = {"item_id": item["id"], "output_index": index, "content_index": 0}
    kind, key = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
    probabilities = part.get("logprobs", [])

    def extra(logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {} if kind == "refusal" else {"logprobs": logprobs}

    stream.add("response.content_part.added", **where, part={**part, key: "", **extra([])})
    for position, piece in enumerate(tokens.pieces(part[key])):
        of_piece = extra(probabilities[position : position + 1])
        stream.add(f"response.{kind}.delta", generated=True, **where, delta=piece, **of_piece)
    stream.add(f"response.{kind}.done", **where, **{key: part[key]}, **extra(probabilities))
    stream.add("response.content_part.done", **where, part=part)
    stream.add("response.output_item.done", output_index=index, item=item)


def _call(stream: _EventList, index: int, item: dict[str, Any]) -> None:
    arguments = item["arguments"]
    where = {"item_id": item["id"], "output_index": index}
    stream.add(
        "response.output_item.added", output_index=index, item={**item, "status": "in_progress", "arguments": ""}
    )
    for at in range(0, len(arguments), FRAGMENT):
        delta = arguments[at : at + FRAGMENT]
        stream.add("response.function_call_arguments.delta", generated=True, **where, delta=delta)
    stream.add("response.function_call_arguments.done", **where, arguments=arguments)
    stream.add("response.output_item.done", output_index=index, item=item)


def output(request: SimRequest, answer: Answer, id: str) -> list[dict[str, Any]]:
    """Return the output items of an answer."""
    status = "incomplete" if answer.finish_reason == "length" else "completed"
    items: list[dict[str, Any]] = []
    if request.reasons:
        reasoning: dict[str, Any] = {"id": f"rs_{id}", "type": "reasoning", "summary": []}
        if _includes(request, "reasoning.encrypted_content"):
            # Any text serves: a client can only send it back.
            reasoning["encrypted_content"] = f"gAAAAA{b64encode(id.encode() * 4).decode()}"
        items.append(reasoning)
    if answer.text or answer.refusal is not None or not answer.calls:
        part: dict[str, Any] = (
            {"type": "output_text", "annotations": [], "logprobs": _logprobs(request, answer), "text": answer.text}
            if answer.refusal is None
            else {"type": "refusal", "refusal": answer.refusal}
        )
        items.append({"id": f"msg_{id}", "type": "message", "status": status, "content": [part], "role": "assistant"})
    items += [
        {
            "id": f"fc_{id}{position}",
            "type": "function_call",
            "status": status,
            "arguments": call.arguments,
            "call_id": f"call_{id[:16]}{position}" if call.id is None else call.id,
            "name": call.name,
        }
        for position, call in enumerate(answer.calls)
    ]
    return items


def _logprobs(request: SimRequest, answer: Answer) -> list[dict[str, Any]]:
    if request.reasons or not _includes(request, "message.output_text.logprobs"):
        return []
    return logprobs(request, tokens.pieces(answer.text))


def _includes(request: SimRequest, name: str) -> bool:
    wanted = request.body.get("include")
    return isinstance(wanted, list) and name in wanted


def _object(request: SimRequest, answer: Answer, id: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    sent = request.body
    truncated = answer.finish_reason == "length"
    filtered = answer.finish_reason == "content_filter"
    reason = "max_output_tokens" if truncated else "content_filter"
    reasoning = {"effort": "medium" if request.reasons else None, "summary": None}
    options = sent.get("reasoning")
    if isinstance(options, dict):
        reasoning.update(options)
    form = sent.get("text") if isinstance(sent.get("text"), dict) else {"format": {"type": "text"}}
    return {
        "id": f"resp_{id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if truncated or filtered else "completed",
        "error": None,
        "incomplete_details": {"reason": reason} if truncated or filtered else None,
        "background": request.background,
        "instructions": sent.get("instructions"),
        "max_output_tokens": sent.get("max_output_tokens"),
        "model": served(request.model),
        "output": items,
        "parallel_tool_calls": request.parallel_tool_calls,
        "previous_response_id": sent.get("previous_response_id"),
        "reasoning": reasoning,
        "store": request.store,
        "temperature": sent.get("temperature", 1),
        "text": form,
        "tool_choice": sent.get("tool_choice") or "auto",
        "tools": sent.get("tools") or [],
        "top_p": sent.get("top_p", 1),
        "truncation": sent.get("truncation") or "disabled",
        "usage": {
            "input_tokens": request.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens or 0},
            "total_tokens": request.prompt_tokens + answer.completion_tokens,
        },
        "metadata": sent.get("metadata") or {},
        "output_text": answer.text,
    }
