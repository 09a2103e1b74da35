"""Responses on the wire: one body, or the events of a stream.

Law: values in, bytes out; no I/O.
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
from aimlasync.simulator.wire.chat import Event, logprobs

_encode = msgspec.json.Encoder().encode
_FRAGMENT = 12


def body(request: SimRequest, answer: Answer, id: str) -> bytes:
    """Return the JSON body of a response that is not streamed."""
    return _encode(_object(request, answer, id, output(request, answer, id)))


def events(request: SimRequest, answer: Answer, id: str, meta: dict[str, Any] | None) -> list[Event]:
    """Return the events of a streamed response; the last one is terminal and there is no `[DONE]`."""
    said = output(request, answer, id)
    script = _Script()
    opening = {**_object(request, answer, id, []), "status": "in_progress", "usage": None, "incomplete_details": None}
    del opening["output_text"]
    script.add("response.created", response=opening)
    script.add("response.in_progress", response=opening)
    for index, item in enumerate(said):
        match item["type"]:
            case "message":
                _message(script, index, item)
            case "function_call":
                _call(script, index, item)
            case _:
                script.add("response.output_item.added", output_index=index, item=item)
                script.add("response.output_item.done", output_index=index, item=item)
    whole = _object(request, answer, id, said)
    if meta is not None:
        whole["meta"] = meta
    script.add(f"response.{whole['status']}", response=whole)
    return script.events


def error_event(error: dict[str, Any], number: int) -> bytes:
    """Return the event that breaks off a stream with an error."""
    inner = error.get("error", error)
    told = {
        "type": "error",
        "code": inner.get("code") or "server_error",
        "message": inner["message"],
        "param": inner.get("param"),
        "sequence_number": number,
    }
    return b"event: error\ndata: " + _encode(told) + b"\n\n"


class _Script:
    """The events so far; each gets the next sequence number."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, kind: str, /, *, made: bool = False, **fields: Any) -> None:
        told = {"type": kind, "sequence_number": len(self.events), **fields}
        self.events.append((b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(told)), made))


def _message(script: _Script, index: int, item: dict[str, Any]) -> None:
    part = item["content"][0]
    script.add("response.output_item.added", output_index=index, item={**item, "status": "in_progress", "content": []})
    where = {"item_id": item["id"], "output_index": index, "content_index": 0}
    kind, key = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
    found = part.get("logprobs", [])

    def extra(logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {} if kind == "refusal" else {"logprobs": logprobs}

    script.add("response.content_part.added", **where, part={**part, key: "", **extra([])})
    for at, piece in enumerate(tokens.pieces(part[key])):
        script.add(f"response.{kind}.delta", made=True, **where, delta=piece, **extra(found[at : at + 1]))
    script.add(f"response.{kind}.done", **where, **{key: part[key]}, **extra(found))
    script.add("response.content_part.done", **where, part=part)
    script.add("response.output_item.done", output_index=index, item=item)


def _call(script: _Script, index: int, item: dict[str, Any]) -> None:
    arguments = item["arguments"]
    where = {"item_id": item["id"], "output_index": index}
    script.add(
        "response.output_item.added", output_index=index, item={**item, "status": "in_progress", "arguments": ""}
    )
    for at in range(0, len(arguments), _FRAGMENT):
        delta = arguments[at : at + _FRAGMENT]
        script.add("response.function_call_arguments.delta", made=True, **where, delta=delta)
    script.add("response.function_call_arguments.done", **where, arguments=arguments)
    script.add("response.output_item.done", output_index=index, item=item)


def output(request: SimRequest, answer: Answer, id: str) -> list[dict[str, Any]]:
    """Return the output items of an answer."""
    status = "incomplete" if answer.finish_reason == "length" else "completed"
    items: list[dict[str, Any]] = []
    if request.reasons:
        thought: dict[str, Any] = {"id": f"rs_{id}", "type": "reasoning", "summary": []}
        if _includes(request, "reasoning.encrypted_content"):
            # Opaque to whoever gets it, like the real thing.
            thought["encrypted_content"] = f"gAAAAA{b64encode(id.encode() * 4).decode()}"
        items.append(thought)
    if answer.text or answer.refusal is not None or not answer.calls:
        said: dict[str, Any] = (
            {"type": "output_text", "annotations": [], "logprobs": _logprobs(request, answer), "text": answer.text}
            if answer.refusal is None
            else {"type": "refusal", "refusal": answer.refusal}
        )
        items.append({"id": f"msg_{id}", "type": "message", "status": status, "content": [said], "role": "assistant"})
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
    asked = request.body
    cut = answer.finish_reason == "length"
    filtered = answer.finish_reason == "content_filter"
    reason = "max_output_tokens" if cut else "content_filter"
    reasoning = {"effort": "medium" if request.reasons else None, "summary": None}
    given = asked.get("reasoning")
    if isinstance(given, dict):
        reasoning.update(given)
    form = asked.get("text") if isinstance(asked.get("text"), dict) else {"format": {"type": "text"}}
    return {
        "id": f"resp_{id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if cut or filtered else "completed",
        "error": None,
        "incomplete_details": {"reason": reason} if cut or filtered else None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "model": served(request.model),
        "output": items,
        "parallel_tool_calls": request.parallel_tool_calls,
        "previous_response_id": asked.get("previous_response_id"),
        "reasoning": reasoning,
        "store": request.store,
        "temperature": asked.get("temperature", 1),
        "text": form,
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "top_p": asked.get("top_p", 1),
        "truncation": asked.get("truncation") or "disabled",
        "usage": {
            "input_tokens": request.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens or 0},
            "total_tokens": request.prompt_tokens + answer.completion_tokens,
        },
        "metadata": asked.get("metadata") or {},
        "output_text": answer.text,
    }
