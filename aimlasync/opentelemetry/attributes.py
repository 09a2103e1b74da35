"""Endpoint, request and reply as attributes of spans and metrics.

Pure functions. The names are those of OpenTelemetry's semantic conventions for generative AI; `openai.` is their prefix
for what is particular to OpenAI's API. It imports no OpenTelemetry.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from aimlasync import Endpoint
from aimlasync.chat.types import ChatCompletion
from aimlasync.cost.budget import OUTPUT_CAPS
from aimlasync.cost.tokens import taken_by
from aimlasync.endpoints.providers import COMPATIBLE, Api
from aimlasync.responses.types import Response

# Attribute -> request parameters; the first parameter that is set gives the value.
_PARAMETERS: Mapping[str, Sequence[str]] = {
    "gen_ai.request.max_tokens": OUTPUT_CAPS,
    "gen_ai.request.temperature": ("temperature",),
    "gen_ai.request.top_p": ("top_p",),
    "gen_ai.request.frequency_penalty": ("frequency_penalty",),
    "gen_ai.request.presence_penalty": ("presence_penalty",),
    "gen_ai.request.seed": ("seed",),
}


def endpoint_attributes(endpoint: Endpoint) -> Mapping[str, Any]:
    """Return the attributes of an endpoint: vendor, host and port."""
    return _address(endpoint.base_url, "openai" if endpoint.provider is COMPATIBLE else endpoint.provider.name)


@functools.lru_cache(64)
def _address(base_url: str, provider: str) -> Mapping[str, Any]:
    url = urlsplit(base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    return {"gen_ai.provider.name": provider, "server.address": url.hostname or "", "server.port": port}


def request_attributes(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a request, without its content."""
    found: dict[str, Any] = {"openai.api.type": "responses" if api == "responses" else "chat_completions"}
    for attribute, names in _PARAMETERS.items():
        value = next((body[name] for name in names if body.get(name) is not None), None)
        if isinstance(value, (int, float)):
            found[attribute] = value
    if body.get("stream"):
        found["gen_ai.request.stream"] = True
    if isinstance(body.get("n"), int) and body["n"] != 1:
        found["gen_ai.request.choice.count"] = body["n"]
    stop = body.get("stop")
    if stop:
        found["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else [str(text) for text in stop]
    return found


def reply_attributes(reply: ChatCompletion | Response) -> dict[str, Any]:
    """Return the attributes of a reply, without its content."""
    if isinstance(reply, ChatCompletion):
        reasons = [choice.finish_reason for choice in reply.choices if choice.finish_reason]
    else:
        reasons = [reply.status] if reply.status else []
    taken = taken_by(reply.usage)
    found = {
        "gen_ai.response.id": reply.id or None,
        "gen_ai.response.finish_reasons": reasons or None,
        "gen_ai.usage.input_tokens": taken.input if taken else None,
        "gen_ai.usage.output_tokens": taken.output if taken else None,
        "gen_ai.usage.cache_read.input_tokens": taken.cached if taken else None,
        "gen_ai.usage.cache_creation.input_tokens": taken.cache_writes if taken else None,
        "gen_ai.usage.reasoning.output_tokens": taken.reasoning if taken else None,
    }
    return {name: value for name, value in found.items() if value is not None}
