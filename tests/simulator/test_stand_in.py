"""The simulator stands in where no key is set, and only there."""

from __future__ import annotations

import os

import pytest

from aimlasync import AsyncClient
from aimlasync.simulator import stand_in


async def test_without_a_key_a_client_asks_the_simulator_and_the_environment_is_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIML_API_URL", "https://elsewhere.example/v1")
    with stand_in() as simulator:
        assert simulator is not None
        async with AsyncClient() as client:
            await client.responses.create(model="openai/gpt-5-nano-2025-08-07", input="Hello")
        assert len(simulator.ledger) == 1
    assert "AIML_API_KEY" not in os.environ
    assert os.environ["AIML_API_URL"] == "https://elsewhere.example/v1"


def test_with_a_key_nothing_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTESPIKE_API_KEY", "test")
    before = dict(os.environ)
    with stand_in() as none:
        assert none is None
        assert dict(os.environ) == before
