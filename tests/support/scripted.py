"""A simulator that follows a script, and a client on it: what the tests of agents talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aimlasync import AsyncClient, Endpoint
from aimlasync.simulator import Answer, Call, Simulator

MODEL = "openai/gpt-5-nano-2025-08-07"
ENDPOINTS = ["chat", "responses"]


@asynccontextmanager
async def scripted(*turns: Any, client: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Any]:
    """Give (simulator, client); turns are those of `Simulator(script=...)`."""
    if turns:
        options["script"] = turns
    async with Simulator(keep_bodies=True, **options) as simulator:
        endpoint = Endpoint.aimlapi(api_key="test-key", base_url=simulator.base_url)
        async with AsyncClient(endpoints=[endpoint], **(client or {})) as made:
            yield simulator, made


def calls(*made: Call) -> Answer:
    """One turn with several calls."""
    return Answer(calls=list(made))


def told(run: Any) -> list[Any]:
    """What the tools told the model, in the order of the history."""
    if run.endpoint == "chat":
        return [item["content"] for item in run.items if item.get("role") == "tool"]
    return [item["output"] for item in run.items if item.get("type") == "function_call_output"]


def sent(simulator: Any) -> list[list[Any]]:
    """The conversation that each request brought, but for those that were refused."""
    return [one.body.get("messages") or one.body.get("input") for one in simulator.ledger if one.body is not None]
