"""Answers the requests that call no model: the catalogue, the balance, the health check, stored responses.

It chooses the body, and `exchange` sends it. It may import the state, the exchange, and what a vendor is.
Implements GET /v1/models and /model/{id} (AI/ML API "Complete model list", ByteSpike "v1-models", OpenAI "Models"),
GET /v1/responses/{id} and what is below it (OpenAI "Responses"), GET /v2/billing (AI/ML API "Account balance"),
GET /api/v1/me/account (ByteSpike "Account: me").
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from aimlasync.simulator.exchange import Exchange
from aimlasync.simulator.ledger import Attempt
from aimlasync.simulator.state import State
from aimlasync.simulator.vendor import catalogue
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.vendor.vendors import Problem, Vendor

_encode = msgspec.json.Encoder().encode
# The path before the id of one model; ByteSpike has no look-up of one model.
_MODEL_PREFIXES = {"aimlapi": "/model/", "openai": "/v1/models/"}


# The paths below that of one stored response.
_STORED = {"": "stored", "/cancel": "cancel", "/input_items": "input_items"}
_STORED_PREFIX = "/v1/responses/"
METHODS = {"stored": ("GET", "DELETE"), "cancel": ("POST",)}
"""The methods of look-ups that are not GET alone."""


def api_of(vendor: Vendor, path: str) -> str:
    """Return what a path with an id in it asks for: "model", "stored", "cancel" or "input_items", else ""."""
    prefix = _MODEL_PREFIXES.get(vendor.name)
    if prefix is not None and path.startswith(prefix) and path != prefix:
        return "model"
    if vendor.keeps_responses and path.startswith(_STORED_PREFIX):
        id, slash, below = path.removeprefix(_STORED_PREFIX).partition("/")
        return _STORED.get(slash + below, "") if id else ""
    return ""


async def answer(
    state: State, exchange: Exchange, attempt: Attempt, http_request: web.BaseRequest
) -> web.StreamResponse:
    """Look up what was asked for and send it.

    Raises Problem(404) for an unknown model.
    """
    vendor = state.vendor
    request = SimRequest(api=attempt.api, path=attempt.path, headers=http_request.headers)
    match attempt.api:
        case "health":
            return await exchange.send_json(request, {"status": "ok", "simulator": vendor.name})
        case "balance":
            return await exchange.send_json(request, _balance(state))
        case "model":
            found = catalogue.one(vendor, attempt.path.removeprefix(_MODEL_PREFIXES[vendor.name]))
            if found is None:
                raise Problem(404, "Model not found", code="model_not_found")
            return await exchange.send_json(request, found)
        case "stored" | "cancel" | "input_items":
            return await _stored(state, exchange, request, http_request)
    query: dict[str, str] = {}
    for name, value in parse_qsl(http_request.query_string):
        query[name] = f"{query[name]},{value}" if name in query else value
    body = _encode(catalogue.listing(vendor, query))
    if vendor.name != "aimlapi":
        return await exchange.send_json(request, body)
    tag = catalogue.etag(body)
    if tag in http_request.headers.get("If-None-Match", ""):
        return exchange.send_empty(304, ("ETag", tag))
    return await exchange.send_json(request, body, ("ETag", tag))


async def _stored(
    state: State, exchange: Exchange, request: SimRequest, http_request: web.BaseRequest
) -> web.StreamResponse:
    id = request.path.removeprefix(_STORED_PREFIX).partition("/")[0]
    stored = state.stored.find(id)
    query = dict(parse_qsl(http_request.query_string))
    now = asyncio.get_running_loop().time()
    if http_request.method == "DELETE":
        state.stored.forget(id)
        return await exchange.send_json(request, {"id": id, "object": "response", "deleted": True})
    if request.api == "input_items":
        return await exchange.send_json(request, _page(stored.items[: stored.input_count], query))
    if request.api == "cancel":
        if not stored.events:
            raise Problem(400, "Cannot cancel a synchronous response.", code="invalid_param")
        stored.is_cancelled = stored.is_cancelled or now < stored.ends
    elif query.get("stream") == "true":
        request.stream = True
        if not stored.events:
            raise Problem(400, "Only responses that were created with background=true can be streamed again.")
        after = query.get("starting_after", "-1")
        if not after.removeprefix("-").isdecimal():
            raise Problem(400, "starting_after: Expected a number", code="invalid_param", param="starting_after")
        return await exchange.send_stored_stream(request, stored, int(after))
    return await exchange.send_json(request, stored.at(now))


def _page(items: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of input items, the newest first unless `order` says otherwise."""
    named = [{"id": f"msg_input_{number}", **_resource(item)} for number, item in enumerate(items)]
    if query.get("order") != "asc":
        named.reverse()
    ids = [item["id"] for item in named]
    start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    limit = query.get("limit", "20")
    end = start + (int(limit) if limit.isdecimal() and int(limit) else 20)
    data = named[start:end]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": end < len(named),
    }


def _balance(state: State) -> dict[str, Any]:
    admission = state.admission
    spent = admission.spent_usd
    left = 100.0 - spent if admission.balance_usd is None else admission.balance_usd
    if state.vendor.name == "aimlapi":
        return {"current_balance": round(left, 9), "currency": "USD"}
    return {
        "user": {"id": "simulator"},
        "balance": {
            "available_usd": round(left, 9),
            "lifetime_topup_usd": round(left + spent, 9),
            "lifetime_spent_usd": round(spent, 9),
            "low_balance_threshold_usd": 1.0,
            "low_balance_flagged": left < 1.0,
        },
        "allowed_models": [{"id": id, "quota_used_usd": 0.0} for id in state.vendor.provider.models],
    }


def _resource(item: dict[str, Any]) -> dict[str, Any]:
    """Return an input item as the API lists it: a message has its type, and its text as a part."""
    if "role" not in item:
        return item
    content = item.get("content")
    if isinstance(content, str):
        part = "output_text" if item["role"] == "assistant" else "input_text"
        content = [{"type": part, "text": content}]
    return {"type": "message", "status": "completed", **item, "content": content}
