"""The simulated models: their names, their prices, and the model listing in each vendor's shape.

The prices have a realistic order of magnitude and are no vendor's offer. Data and pure functions; of the package it
imports `aimlasync.endpoints.providers`, and of the simulator `vendors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from zlib import crc32

from aimlasync.endpoints.providers import Model
from aimlasync.simulator.vendor.vendors import VENDORS, Vendor

# Family -> US dollars for one million (prompt, answer) tokens.
_PRICES: Mapping[str, tuple[float, float]] = {
    "gpt-5-nano": (0.065, 0.52),
    "gpt-5-mini": (0.325, 2.6),
    "gpt-5-pro": (19.5, 156.0),
    "gpt-4.1-nano": (0.13, 0.52),
}
_OTHER = (1.0, 4.0)
_PER = 1_000_000
_CREATED = 1_754_524_800


def served(model: str) -> str:
    """Return the name of a model in replies: the id without its developer."""
    return model.removeprefix("openai/")


def aliases(model: Model) -> list[str]:
    """Return the other names of `model`."""
    names = {served(model.id), model.family, f"openai/{model.family}"} - {model.id}
    return sorted(names)


def find(vendor: Vendor, name: str) -> Model | None:
    """Return the model that `name` is the id or an alias of."""
    return _named(vendor.name).get(name.lower() if vendor.name == "aimlapi" else name)


@cache
def _named(vendor: str) -> dict[str, Model]:
    models = VENDORS[vendor].provider.models
    named = dict(models)
    if vendor == "aimlapi":
        for model in models.values():
            named |= dict.fromkeys(aliases(model), model)
    return named


def cost(vendor: Vendor, name: str, prompt_tokens: int, completion_tokens: int) -> float:
    """Return the cost of one call in US dollars."""
    model = find(vendor, name)
    prompt, answer = _PRICES.get(model.family if model else name, _OTHER)
    return (prompt_tokens * prompt + completion_tokens * answer) / _PER


def meta(vendor: Vendor, usd: float) -> dict[str, Any] | None:
    """Return the `meta` block of the AI/ML API's bodies and streams, which states the cost; None for other vendors."""
    if vendor.name != "aimlapi":
        return None
    return {"usage": {"credits_used": round(usd * (vendor.provider.credits_per_usd or 0)), "usd_spent": round(usd, 9)}}


def meta_headers(meta: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the headers that state what `meta` states."""
    if meta is None:
        return []
    usage = meta["usage"]
    return [
        ("x-aimlapi-credits-used", str(usage["credits_used"])),
        ("x-aimlapi-usd-spent", f"{usage['usd_spent']:.9f}"),
    ]


def listing(vendor: Vendor, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of GET /v1/models."""
    models = [model for model in vendor.provider.models.values() if model.alias_of is None]
    if vendor.name == "aimlapi":
        include = {part.strip().lower() for part in query.get("include", "").split(",")}
        if query.get("details") in ("1", "true"):
            include.add("all")
        rows = [_aimlapi(model, include) for model in models]
        wanted = {name.strip().lower() for name in query.get("id", "").split(",")} - {""}
        if wanted:
            rows = [row for row in rows if wanted & {row["id"].lower(), *row["aliases"]}]
        if query.get("type"):
            rows = [row for row in rows if row["type"] == query["type"]]
    elif vendor.name == "bytespike":
        rows = [_bytespike(model) for model in models]
    else:
        rows = [_openai(name) for name in _PRICES]
    return {"object": "list", "data": rows}


def one(vendor: Vendor, name: str) -> dict[str, Any] | None:
    """Return the body of the look-up of one model, None for an unknown model."""
    if vendor.name == "openai":
        return _openai(name) if name in _PRICES else None
    model = find(vendor, name)
    return None if model is None else {"object": "model", "data": _aimlapi(model, {"all"})}


def etag(body: bytes) -> str:
    """Return the weak ETag of a catalogue body."""
    return f'W/"{len(body):x}-{crc32(body):08x}"'


def _aimlapi(model: Model, include: set[str]) -> dict[str, Any]:
    info: dict[str, Any] = {"name": model.family, "developer": "Open AI"}
    if model.context:
        info["contextLength"] = model.context
    row: dict[str, Any] = {
        "id": model.id,
        "aliases": aliases(model),
        "type": "openai/chat-completions" if model.chat else "openai/responses",
        "info": info,
        "tags": ["simulated"],
    }
    if include & {"pricing", "all"}:
        prompt, answer = _PRICES.get(model.family, _OTHER)
        row["pricing"] = {
            "kind": "fixed",
            "currency": "USD",
            "units": [
                {"name": "token", "measure": "input", "price": prompt, "per": _PER},
                {"name": "token", "measure": "output", "price": answer, "per": _PER},
            ],
        }
    if include & {"modalities", "all"}:
        row["modalities"] = {"input": ["text", "image"], "output": ["text"]}
    if include & {"capabilities", "all"}:
        row["capabilities"] = ["streaming", "function-calling", "structured-output"]
    return row


def _bytespike(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "owned_by": "openai",
        "family": "gpt-5",
        "capabilities": ["chat", "tools", "vision", "streaming"],
        "context_window": model.context,
        "max_output_tokens": model.max_output,
        "input_modalities": ["text", "image"],
        "output_modalities": ["text"],
        "pricing_url": "https://bytespike.ai/pricing",
        "created": _CREATED,
    }


def _openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "simulator"}
