"""Encodes answers for chat/completions: the body of a reply, or the events of a stream.

Pure functions from values to bytes. It may import what a vendor is and what the model answers.
Implements the bodies of POST /v1/chat/completions as the vendors show them: AI/ML API ("Text models: OpenAI"),
ByteSpike ("gpt-5-nano"), OpenAI ("Chat completions", "Streaming").
"""

from __future__ import annotations

import time
from typing import Any
from zlib import crc32

import msgspec

from aimlasync.simulator.model.answers import Answer
from aimlasync.simulator.vendor import tokens
from aimlasync.simulator.vendor.catalogue import served
from aimlasync.simulator.vendor.conversation import Call
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.vendor.vendors import Vendor

_encode = msgspec.json.Encoder().encode

Event = tuple[bytes, bool]
"""The bytes of one server-sent event, and whether the model generates it, which takes time."""

_DONE: Event = (b"data: [DONE]\n\n", False)
FRAGMENT = 12
"""Characters of a tool call's arguments in one event."""


def body(request: SimRequest, answers: list[Answer], vendor: Vendor, id: str, meta: dict[str, Any] | None) -> bytes:
    """Return the JSON body of a reply that is not streamed."""
    # ByteSpike's replies lack several fields.
    bare = vendor.name == "bytespike"
    choices: list[dict[str, Any]] = []
    for index, answer in enumerate(answers):
        message: dict[str, Any] = {"role": "assistant", "content": _content(answer)}
        if not bare:
            message["refusal"] = answer.refusal
            message["annotations"] = []
        elif answer.refusal is not None:
            message["refusal"] = answer.refusal
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": _call_id(call, id, index, position),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for position, call in enumerate(answer.calls)
            ]
        choice: dict[str, Any] = {"index": index, "message": message}
        if _wants_logprobs(request):
            choice["logprobs"] = {"content": logprobs(request, tokens.pieces(answer.text)), "refusal": None}
        choice["finish_reason"] = answer.finish_reason
        choices.append(choice)
    reply: dict[str, Any] = {"id": f"chatcmpl-{id}", "object": "chat.completion"}
    if not bare:
        reply["created"] = int(time.time())
    reply["model"] = served(request.model)
    reply["choices"] = choices
    reply["usage"] = usage(request, answers, vendor)
    if not bare:
        reply["system_fingerprint"] = None
    if meta is not None:
        reply["meta"] = meta
    return _encode(reply)


def events(
    request: SimRequest, answers: list[Answer], vendor: Vendor, id: str, meta: dict[str, Any] | None
) -> list[Event]:
    """Return the events of a streamed reply, `[DONE]` included."""
    with_usage = vendor.always_streams_usage or request.include_usage
    start = {
        "id": f"chatcmpl-{id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": served(request.model),
        "system_fingerprint": None,
    }
    before = b"data: " + _encode(start)[:-1] + b',"choices":['
    after = b'],"usage":null}\n\n' if with_usage else b"]}\n\n"

    def event(
        index: int, delta: Any, finish: str | None = None, logprobs: Any = None, *, generated: bool = True
    ) -> Event:
        choice: dict[str, Any] = {"index": index, "delta": delta}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        choice["finish_reason"] = finish
        return before + _encode(choice) + after, generated

    found: list[Event] = []
    deltas: list[list[Event]] = []
    for index, answer in enumerate(answers):
        found.append(event(index, {"role": "assistant", "content": None if answer.calls else ""}, generated=False))
        deltas.append(
            [event(index, delta, logprobs=logprobs) for delta, logprobs in _deltas(request, answer, id, index)]
        )
    # The choices are generated concurrently, so their deltas alternate.
    for position in range(max(map(len, deltas), default=0)):
        found += [of_choice[position] for of_choice in deltas if position < len(of_choice)]
    found += [event(index, {}, answer.finish_reason, generated=False) for index, answer in enumerate(answers)]
    if with_usage:
        tail = {**start, "choices": [], "usage": usage(request, answers, vendor)}
        found.append((b"data: " + _encode(tail) + b"\n\n", False))
    if meta is not None:
        found.append((b"data: " + _encode({"meta": meta}) + b"\n\n", False))
    found.append(_DONE)
    return found


def error_event(error: dict[str, Any]) -> bytes:
    """Return the event that ends a stream with an error."""
    return b"data: " + _encode(error) + b"\n\n"


def usage(request: SimRequest, answers: list[Answer], vendor: Vendor) -> dict[str, Any]:
    """Return the token counts of a reply; those of ByteSpike have no details."""
    completion = sum(answer.completion_tokens for answer in answers)
    counts: dict[str, Any] = {
        "prompt_tokens": request.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": request.prompt_tokens + completion,
    }
    if vendor.name != "bytespike":
        counts["prompt_tokens_details"] = {"cached_tokens": 0, "audio_tokens": 0}
        counts["completion_tokens_details"] = {
            "reasoning_tokens": sum(answer.reasoning_tokens or 0 for answer in answers),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        }
    return counts


def _deltas(request: SimRequest, answer: Answer, id: str, index: int) -> list[tuple[dict[str, Any], Any]]:
    if answer.refusal is not None:
        return [({"refusal": piece}, None) for piece in tokens.pieces(answer.refusal)]
    found: list[tuple[dict[str, Any], Any]] = []
    wanted = _wants_logprobs(request)
    found += [
        ({"content": piece}, {"content": logprobs(request, [piece]), "refusal": None} if wanted else None)
        for piece in tokens.pieces(answer.text)
    ]
    for position, call in enumerate(answer.calls):
        first = {"name": call.name, "arguments": ""}
        name = {"index": position, "id": _call_id(call, id, index, position), "type": "function", "function": first}
        found.append(({"tool_calls": [name]}, None))
        for at in range(0, len(call.arguments), FRAGMENT):
            part = {"index": position, "function": {"arguments": call.arguments[at : at + FRAGMENT]}}
            found.append(({"tool_calls": [part]}, None))
    return found


def _content(answer: Answer) -> str | None:
    return None if answer.refusal is not None or (answer.calls and not answer.text) else answer.text


def _call_id(call: Call, id: str, index: int, position: int) -> str:
    return f"call_{id[:16]}{index}{position}" if call.id is None else call.id


def _wants_logprobs(request: SimRequest) -> bool:
    return request.body.get("logprobs") is True and not request.reasons


def logprobs(request: SimRequest, pieces: list[str]) -> list[dict[str, Any]]:
    """Return a log probability for each of these tokens; the same token after the same text always has the same."""
    top = request.body.get("top_logprobs")
    alternatives = int(top) if isinstance(top, (int, float)) else 0
    seed = crc32(request.text.encode("utf-8", "surrogatepass"))
    return [_logprob(piece, alternatives, seed) for piece in pieces]


def _logprob(piece: str, alternatives: int, seed: int) -> dict[str, Any]:
    token = piece.encode("utf-8", "surrogatepass")
    own = {"token": piece, "logprob": -(1 + crc32(token, seed) % 400) / 1000, "bytes": list(token)}
    others = [
        {"token": f"~{rank}", "logprob": -4.0 - rank, "bytes": [126, 48 + rank % 10]} for rank in range(1, alternatives)
    ]
    return {**own, "top_logprobs": [own, *others] if alternatives else []}
