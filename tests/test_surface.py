"""The public names: what the README promises is there, sorted, documented, and nothing else."""

from __future__ import annotations

import importlib
import inspect

import pytest

import aimlasync

MODULES = [
    "aimlasync",
    "aimlasync.account",
    "aimlasync.agents",
    "aimlasync.agents.usage",
    "aimlasync.agents.agent",
    "aimlasync.agents.output",
    "aimlasync.agents.adapters",
    "aimlasync.agents.errors",
    "aimlasync.agents.events",
    "aimlasync.agents.loop",
    "aimlasync.agents.context",
    "aimlasync.agents.many_runs",
    "aimlasync.agents.tool_calls",
    "aimlasync.agents.run_state",
    "aimlasync.agents.api",
    "aimlasync.agents.tools",
    "aimlasync.aiohttp_web",
    "aimlasync.bulk.batch_chat",
    "aimlasync.bulk.answer_store",
    "aimlasync.catalogue",
    "aimlasync.chat",
    "aimlasync.chat_chunks",
    "aimlasync.client",
    "aimlasync.error_bodies",
    "aimlasync.errors",
    "aimlasync.endpoint",
    "aimlasync.forward",
    "aimlasync.gate",
    "aimlasync.hedge",
    "aimlasync.httpx",
    "aimlasync.info",
    "aimlasync.lane",
    "aimlasync.lease_server",
    "aimlasync.leases",
    "aimlasync.limits",
    "aimlasync.line",
    "aimlasync.event_loop",
    "aimlasync.opentelemetry",
    "aimlasync.opentelemetry.attributes",
    "aimlasync.opentelemetry.content",
    "aimlasync.opentelemetry.instrumentation",
    "aimlasync.opentelemetry.statistics",
    "aimlasync.parse",
    "aimlasync.pool",
    "aimlasync.providers",
    "aimlasync.quota",
    "aimlasync.relay",
    "aimlasync.race",
    "aimlasync.resources",
    "aimlasync.response_events",
    "aimlasync.responses",
    "aimlasync.retry",
    "aimlasync.schema",
    "aimlasync.shared_budget",
    "aimlasync.simulator",
    "aimlasync.sse",
    "aimlasync.starlette",
    "aimlasync.stream",
    "aimlasync.chat_stream",
    "aimlasync.response_stream",
    "aimlasync.testing",
    "aimlasync.timeout",
    "aimlasync.transport",
    "aimlasync.watch",
    "aimlasync.wire",
]


def test_all_is_sorted_and_importable() -> None:
    assert aimlasync.__all__ == sorted(aimlasync.__all__)
    for name in aimlasync.__all__:
        assert hasattr(aimlasync, name)


def test_what_can_be_reached_is_what_is_named() -> None:
    public = {
        name for name, value in vars(aimlasync).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == {name for name in aimlasync.__all__ if not name.startswith("_")}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_and_every_public_thing_in_it_is_documented(name: str) -> None:
    if name == "aimlasync.starlette":
        pytest.importorskip("sse_starlette", reason="pip install 'aimlasync[starlette]'")
    module = importlib.import_module(name)
    assert module.__doc__
    undocumented = [
        f"{name}.{key}"
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
        and not value.__doc__
    ]
    assert undocumented == []


async def test_the_names_of_asyncopenai_are_there() -> None:
    async with aimlasync.AsyncClient(api_key="k") as client:
        assert inspect.iscoroutinefunction(client.chat.completions.create)
        assert inspect.iscoroutinefunction(client.chat.completions.parse)
        assert inspect.iscoroutinefunction(client.responses.create)
        assert inspect.iscoroutinefunction(client.responses.parse)
        assert inspect.iscoroutinefunction(client.models.retrieve)
        assert inspect.iscoroutinefunction(client.balance)
        assert callable(client.models.list)


def test_the_typed_marker_is_shipped() -> None:
    from importlib.resources import files

    assert files("aimlasync").joinpath("py.typed").is_file()
