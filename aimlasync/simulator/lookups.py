"""Answers the requests that call no model: the catalogue, the balance, the health check.

It chooses the body, and `exchange` sends it. It may import the state, the exchange, and what a vendor is.
Implements GET /v1/models and /model/{id} (AI/ML API "Complete model list", ByteSpike "v1-models", OpenAI "Models"),
GET /v2/billing (AI/ML API "Account balance"), GET /api/v1/me/account (ByteSpike "Account: me").
"""

from __future__ import annotations

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


def api_of(vendor: Vendor, path: str) -> str:
    """Return "model" for the path of the look-up of one model, else ""."""
    prefix = _MODEL_PREFIXES.get(vendor.name)
    return "model" if prefix is not None and path.startswith(prefix) and path != prefix else ""


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
