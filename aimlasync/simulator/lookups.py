"""The requests that ask no model: catalogue, balance, health.

Law: chooses the body; `exchange` sends it.
Implements GET /v1/models and /model/{id} (AI/ML API "Complete model list", ByteSpike "v1-models", OpenAI "Models"),
GET /v2/billing (AI/ML API "Account balance"), GET /api/v1/me/account (ByteSpike "Account: me").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from aimlasync.simulator.vendor import catalogue
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.vendor.vendors import Problem, Vendor

if TYPE_CHECKING:
    from aimlasync.simulator.exchange import Exchange
    from aimlasync.simulator.ledger import Attempt
    from aimlasync.simulator.server import Simulator

_encode = msgspec.json.Encoder().encode
# Before the id of one model; ByteSpike has no such look-up.
_PREFIXES = {"aimlapi": "/model/", "openai": "/v1/models/"}


def api_of(vendor: Vendor, path: str) -> str:
    """Return "model" for the look-up of one model, else ""."""
    prefix = _PREFIXES.get(vendor.name)
    return "model" if prefix is not None and path.startswith(prefix) and path != prefix else ""


async def answer(sim: Simulator, exchange: Exchange, attempt: Attempt, request: web.BaseRequest) -> web.StreamResponse:
    """Send what was looked up.

    Raises Problem(404) for a model that is not there.
    """
    vendor = sim.vendor
    asked = SimRequest(api=attempt.api, path=attempt.path, headers=request.headers)
    match attempt.api:
        case "health":
            return await exchange.plain(asked, {"status": "ok", "simulator": vendor.name})
        case "balance":
            return await exchange.plain(asked, _balance(sim))
        case "model":
            found = catalogue.one(vendor, attempt.path.removeprefix(_PREFIXES[vendor.name]))
            if found is None:
                raise Problem(404, "Model not found", code="model_not_found")
            return await exchange.plain(asked, found)
    query: dict[str, str] = {}
    for name, value in parse_qsl(request.query_string):
        query[name] = f"{query[name]},{value}" if name in query else value
    body = _encode(catalogue.listing(vendor, query))
    if vendor.name != "aimlapi":
        return await exchange.plain(asked, body)
    tag = catalogue.etag(body)
    if tag in request.headers.get("If-None-Match", ""):
        return exchange.nothing(304, ("ETag", tag))
    return await exchange.plain(asked, body, ("ETag", tag))


def _balance(sim: Simulator) -> dict[str, Any]:
    spent = sim.admission.spent_usd
    left = 100.0 - spent if sim.admission.balance_usd is None else sim.admission.balance_usd
    if sim.vendor.name == "aimlapi":
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
        "allowed_models": [{"id": id, "quota_used_usd": 0.0} for id in sim.vendor.provider.models],
    }
