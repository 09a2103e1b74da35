"""A whole answer as the events of a stream, for a client that asked for one and reads nothing else.

Each event is what a server that streams would send, with texts and arguments in one piece. No I/O. It may import
`wire.base`. Sources: OpenAI's API reference, "Streaming events" of both endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aimlasync.endpoints.providers import Api
from aimlasync.wire.base import encode

_Event = tuple[str, dict[str, Any]]


def as_events(api: Api, reply: dict[str, Any]) -> bytes:
    """Return the bytes of an answer's events; they carry no less than the answer."""
    if api == "chat":
        return b"data: %b\n\ndata: [DONE]\n\n" % encode(_chunk(reply))
    written = []
    for number, (kind, fields) in enumerate(_events(reply)):
        body = encode({"type": f"response.{kind}", "sequence_number": number, **fields})
        written.append(b"event: response.%b\ndata: %b\n\n" % (kind.encode(), body))
    return b"".join(written)


def _chunk(reply: dict[str, Any]) -> dict[str, Any]:
    choices = []
    for choice in reply["choices"]:
        delta = dict(choice.get("message") or {})
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]
        choices.append({"index": 0, **choice, "delta": delta})
        choices[-1].pop("message", None)
    return {**reply, "object": "chat.completion.chunk", "choices": choices}


def _events(reply: dict[str, Any]) -> Iterator[_Event]:
    output = reply.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    begun = {name: value for name, value in reply.items() if name not in ("output_text", "usage")}
    yield "created", {"response": {**begun, "status": "in_progress", "output": []}}
    for index, item in enumerate(items):
        yield from _item(item, {"output_index": index, "item_id": str(item.get("id") or "")})
    status = reply.get("status")
    yield status if status in ("failed", "incomplete") else "completed", {"response": reply}


def _item(item: dict[str, Any], at: dict[str, Any]) -> Iterator[_Event]:
    place = {"output_index": at["output_index"]}
    kind, content = item.get("type"), item.get("content")
    if kind == "message" and isinstance(content, list):
        yield "output_item.added", {**place, "item": {**item, "status": "in_progress", "content": []}}
        for index, part in enumerate(content):
            yield from _part(part, {**at, "content_index": index})
    elif kind == "function_call":
        yield "output_item.added", {**place, "item": {**item, "status": "in_progress", "arguments": ""}}
        yield "function_call_arguments.delta", {**at, "delta": item.get("arguments")}
        yield "function_call_arguments.done", {**at, "name": item.get("name"), "arguments": item.get("arguments")}
    else:
        yield "output_item.added", {**place, "item": item}
    yield "output_item.done", {**place, "item": item}


def _part(part: Any, at: dict[str, Any]) -> Iterator[_Event]:
    for kind, name in (("output_text", "text"), ("refusal", "refusal")):
        if isinstance(part, dict) and part.get("type") == kind:
            more = {"logprobs": part.get("logprobs") or []} if kind == "output_text" else {}
            yield "content_part.added", {**at, "part": {**part, name: ""}}
            yield f"{kind}.delta", {**at, "delta": part.get(name), **more}
            yield f"{kind}.done", {**at, name: part.get(name), **more}
            yield "content_part.done", {**at, "part": part}
            return
    yield "content_part.added", {**at, "part": part}
    yield "content_part.done", {**at, "part": part}
