"""The public names: what the README promises is there, sorted, documented, and nothing else."""

from __future__ import annotations

import importlib
import inspect

import pytest

import aimlasync

MODULES = [
    "aimlasync",
    "aimlasync.quota.account",
    "aimlasync.agents",
    "aimlasync.agents.usage",
    "aimlasync.agents.agent",
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
    "aimlasync.wire.models",
    "aimlasync.chat.types",
    "aimlasync.chat.chunks",
    "aimlasync.client.client",
    "aimlasync.wire.error_bodies",
    "aimlasync.errors",
    "aimlasync.endpoints.endpoint",
    "aimlasync.client.answer_cache",
    "aimlasync.client.passthrough",
    "aimlasync.admission.limiter",
    "aimlasync.resilience.hedging",
    "aimlasync.httpx",
    "aimlasync.info",
    "aimlasync.endpoints.upstream",
    "aimlasync.quota.server",
    "aimlasync.quota.lease",
    "aimlasync.config",
    "aimlasync.admission.fair_queue",
    "aimlasync.event_loop",
    "aimlasync.opentelemetry",
    "aimlasync.opentelemetry.attributes",
    "aimlasync.opentelemetry.content",
    "aimlasync.opentelemetry.instrumentation",
    "aimlasync.opentelemetry.statistics",
    "aimlasync.structured.parse",
    "aimlasync.client.balancer",
    "aimlasync.endpoints.providers",
    "aimlasync.quota.protocol",
    "aimlasync.relay",
    "aimlasync.client.resources",
    "aimlasync.responses.events",
    "aimlasync.responses.items",
    "aimlasync.responses.types",
    "aimlasync.resilience.retry",
    "aimlasync.structured.schema",
    "aimlasync.quota.shared_budget",
    "aimlasync.simulator",
    "aimlasync.sse",
    "aimlasync.starlette",
    "aimlasync.client.stream",
    "aimlasync.client.chat_stream",
    "aimlasync.client.response_stream",
    "aimlasync.testing",
    "aimlasync.transport.base",
    "aimlasync.client.observer",
    "aimlasync.wire.base",
    "aimlasync.store",
    "aimlasync.store.fsspec_files",
    "aimlasync.store.opening",
    "aimlasync.store.protocol",
    "aimlasync.store.sqlite",
]


def test_all_is_sorted_and_importable() -> None:
    assert aimlasync.__all__ == sorted(aimlasync.__all__, key=lambda name: (not name.isupper(), name))
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


def test_the_licence_is_shipped_in_the_package_and_named_in_the_project() -> None:
    import tomllib
    from importlib.resources import files
    from pathlib import Path

    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == ("MIT", ["aimlasync/LICENSE"])
    assert files("aimlasync").joinpath("LICENSE").read_text().startswith("MIT License")
