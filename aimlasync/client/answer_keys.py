"""The key of a request in a cache of answers, and which requests have one.

Two requests are equal when model, endpoint (chat or responses), server and all that decides the answer are equal. It
may import `call` and what lies below `client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from aimlasync.client.call import Call
from aimlasync.endpoints.providers import Api
from aimlasync.wire.canonical_json import canonical
from aimlasync.wire.json_text import plain
from aimlasync.wire.request_body import encode_request

# Raised where the keys, or the values, mean something else than before.
_FORMAT = b"1"

# Who asks, how it is counted and how fast it is served; not what is answered.
_NO_MATTER = frozenset(
    ("metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "user")
)
# The answer is, or follows from, something that the server keeps.
_STATE = ("background", "conversation", "previous_response_id", "prompt", "store")
# Tools that the caller runs; all others are run by the server, and look at a world that changes.
_CALLERS_TOOLS = ("custom", "function")
# Bytes of a body whose key is made in a thread: hashing more would hold the event loop for milliseconds.
_LARGE = 256 * 2**10


def is_free_of_state(body: Mapping[str, Any]) -> bool:
    """Whether a request neither keeps anything at the server nor goes on from what is kept there."""
    if any(body.get(name) for name in _STATE):
        return False
    given = body.get("input")
    return not isinstance(given, (list, tuple)) or not any(
        isinstance(item, Mapping) and item.get("type") == "item_reference" for item in given
    )


def is_settled(body: Mapping[str, Any]) -> bool:
    """Whether a request asks for the one most likely answer, or for a seeded one, of the model alone."""
    if body.get("temperature") != 0 and body.get("seed") is None:
        return False
    tools = body.get("tools") or ()
    hosted = any(isinstance(tool, Mapping) and tool.get("type") not in _CALLERS_TOOLS for tool in tools)
    return not hosted and not body.get("web_search_options")


async def keys_of(api: Api, call: Call, *, family: str | None, structured: str | None) -> list[str]:
    """Return the key of a call at each of its targets; the same for all with a `family`."""
    assert call.body is not None
    body = call.body
    if len(call.targets[0].body or b"") > _LARGE:
        asked = await asyncio.to_thread(_digest, body)
    else:
        asked = _digest(body)
    keys = []
    for target in call.targets:
        base_url = target.upstream.endpoint.base_url
        place = (family or base_url, target.url.removeprefix(base_url))
        digest = blake2b(_FORMAT, digest_size=16)
        digest.update(canonical((api, place, structured if structured in ("tool", "json_object", "text") else None)))
        digest.update(canonical(_versions({**target.upstream.headers, **call.headers})))
        digest.update(asked)
        keys.append(digest.hexdigest())
    return keys


def _versions(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that choose a version or a preview of the API, not those that name the SDK's own version."""
    named = {name.lower(): value for name, value in headers.items() if not name.lower().startswith("x-stainless-")}
    return {name: named[name] for name in sorted(named) if "beta" in name or "version" in name}


def _digest(body: Mapping[str, Any]) -> bytes:
    asked = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in plain(encode_request(body)).items()
        if name not in _NO_MATTER and not (name in ("stream", *_STATE) and not value)
    }
    return blake2b(canonical(asked), digest_size=32).digest()
