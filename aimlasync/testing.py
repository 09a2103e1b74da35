"""pytest fixtures that start the simulator, for tests of code that calls a model: no key, no network, no cost.

This is a pytest plugin, registered as `aimlasync` through the `pytest11` entry point. pytest loads it in every run of
every project that has aimlasync installed; so it imports only pytest until a fixture is used.

The simulator runs in a background thread with an event loop of its own, so the fixtures work in plain and in async
tests, and with any plugin for the latter::

    from aimlasync import AsyncClient

    async def test_tickets_are_routed(aimlasync_simulator):
        sim = aimlasync_simulator
        async with AsyncClient(api_key="test", base_url=sim.base_url) as client:
            reply = await client.chat.completions.create(
                model="openai/gpt-5-nano-2025-08-07",
                messages=[{"role": "user", "content": "Route to: support / billing. Input: I was charged twice."}],
            )
        assert reply.choices[0].message.content == "billing"
        assert sim.ledger.by_status() == {200: 1}

Code that makes a client of its own finds the simulator through the environment::

    def test_the_worker_reads_its_settings(aimlasync_simulator, monkeypatch):
        monkeypatch.setenv("AIML_API_KEY", "test")
        monkeypatch.setenv("AIML_API_URL", aimlasync_simulator.base_url)
        worker.main()

Faults, limits, latency and scripted answers are arguments of `aimlasync.simulator.Simulator`::

    def test_a_rate_limit_is_waited_out(aimlasync_simulator_factory):
        sim = aimlasync_simulator_factory(faults=[Fault("status", status=429, times=1)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aimlasync.simulator import Simulator

__all__ = ["aimlasync_simulator", "aimlasync_simulator_factory"]


@pytest.fixture
def aimlasync_simulator_factory() -> Iterator[Callable[..., Simulator]]:
    """Return a function that starts a simulator with options of `Simulator`; all of them are closed after the test."""
    from contextlib import ExitStack

    from aimlasync.simulator import serve_in_thread

    with ExitStack() as running:

        def start(**options: Any) -> Simulator:
            return running.enter_context(serve_in_thread(**options))

        yield start


@pytest.fixture
def aimlasync_simulator(aimlasync_simulator_factory: Callable[..., Simulator]) -> Simulator:
    """Return a running simulator of the AI/ML API, see `aimlasync.simulator.Simulator`."""
    return aimlasync_simulator_factory()
