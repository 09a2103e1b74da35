"""Prompts and answers as span attributes, for `capture_content=True`.

Messages and items of both endpoints become messages as the conventions' JSON schemas have them. Pure functions; it
imports no OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aimlasync.chat.types import ChatCompletion
from aimlasync.endpoints.providers import Api
from aimlasync.responses.types import Response
from aimlasync.wire.base import encode


def input_attributes(api: Api, body: Mapping[str, Any]) -> dict[str, str]:
    """Return the messages and instructions of a request, as JSON."""
    prompt = body.get("messages") if api == "chat" else body.get("input")
    if isinstance(prompt, str):
        items = [{"role": "user", "content": prompt}]
    else:
        items = msgspec.json.decode(encode(prompt or []))
    found = {"gen_ai.input.messages": _json([_message(item) for item in items])}
    if isinstance(body.get("instructions"), str):
        found["gen_ai.system_instructions"] = _json([{"type": "text", "content": body["instructions"]}])
    return found


def output_attributes(reply: ChatCompletion | Response) -> dict[str, str]:
    """Return the answers of a reply, as JSON."""
    if isinstance(reply, Response):
        items = [_message(msgspec.json.decode(encode(item))) for item in reply.output]
        messages = [{**item, "finish_reason": reply.status} for item in items]
    else:
        messages = [
            {
                **_message({"role": "assistant", **msgspec.json.decode(encode(choice.message))}),
                "finish_reason": choice.finish_reason,
            }
            for choice in reply.choices
        ]
    return {"gen_ai.output.messages": _json(messages)}


def _json(value: Any) -> str:
    return encode(value).decode()


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of chat/completions, or an item of responses, as a message of the conventions."""
    kind = item.get("type")
    if kind == "function_call":
        return {"role": "assistant", "parts": [_tool_call(item.get("call_id"), item)]}
    if kind == "function_call_output" or item.get("role") == "tool":
        id = item.get("call_id") or item.get("tool_call_id")
        response = item.get("output") if kind else item.get("content")
        return {"role": "tool", "parts": [{"type": "tool_call_response", "id": id, "response": response}]}
    content = item.get("content")
    if isinstance(content, str):
        parts = [{"type": "text", "content": content}]
    else:
        parts = [_part(part) for part in content or ()]
    parts += [_tool_call(call.get("id"), call.get("function") or {}) for call in item.get("tool_calls") or ()]
    return {"role": item.get("role") or kind, "parts": parts}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("text"), str):
        return {"type": "text", "content": part["text"]}
    return dict(part)


def _tool_call(id: Any, function: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_call", "id": id, "name": function.get("name"), "arguments": function.get("arguments")}
