"""The pytest plugin: fixtures that give a test a vendor, in plain and in async tests, at no import cost."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from aimlasync.simulator import Fault, Simulator

MODEL = "openai/gpt-5-nano-2025-08-07"
TICKET = "Route to: support / billing / sales. Input: My card was charged twice."


def post(sim: Simulator, **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{sim.base_url}/chat/completions",
        data=json.dumps({"model": MODEL, "messages": [{"role": "user", "content": TICKET}], **body}).encode(),
        headers={"Authorization": "Bearer test", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        reply: dict[str, Any] = json.load(response)
    return reply


def test_a_plain_test_gets_answers(aimlasync_simulator: Simulator) -> None:
    reply = post(aimlasync_simulator)
    assert reply["choices"][0]["message"]["content"] == "billing"


def test_a_request_is_complete_in_the_ledger_when_its_reply_is_there(aimlasync_simulator: Simulator) -> None:
    for number in range(1, 51):
        post(aimlasync_simulator)
        attempt = aimlasync_simulator.ledger[-1]
        assert (attempt.number, attempt.status, attempt.finished) == (number, 200, True)


async def test_an_async_test_gets_answers(aimlasync_simulator: Simulator) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer test"}) as session:
        body = {"model": MODEL, "input": TICKET}
        async with session.post(f"{aimlasync_simulator.base_url}/responses", json=body) as response:
            assert (await response.json())["output_text"] == "billing"


def test_every_test_has_its_own_simulator(aimlasync_simulator: Simulator) -> None:
    assert len(aimlasync_simulator.ledger) == 0


def test_the_factory_takes_the_simulators_options(aimlasync_simulator_factory: Callable[..., Simulator]) -> None:
    first = aimlasync_simulator_factory(vendor="bytespike", validate=False)
    second = aimlasync_simulator_factory(faults=[Fault("status", status=503)])
    assert first.url != second.url
    assert post(first)["usage"]["total_tokens"] > 0
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(second)
    assert refused.value.code == 503
    refused.value.close()


def test_options_that_are_wrong_are_reported_where_they_were_given(
    aimlasync_simulator_factory: Callable[..., Simulator],
) -> None:
    with pytest.raises(ValueError, match="unknown vendor"):
        aimlasync_simulator_factory(vendor="nobody")
    taken = aimlasync_simulator_factory()
    with pytest.raises(OSError, match="in use"):
        aimlasync_simulator_factory(port=int(taken.url.rpartition(":")[2]))


def test_the_plugin_imports_no_server_until_a_fixture_is_used() -> None:
    code = "import aimlasync.testing, sys; print([m for m in sys.modules if m.startswith('aimlasync.simulator')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.strip() == "[]"
