"""One process that leases to others of its machine."""

from __future__ import annotations

import asyncio

import pytest

from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.errors import BudgetExceededError
from aimlasync.lease_server import LeaseServer, Link, ServedQuota
from aimlasync.quota import Ask, QuotaDownError
from aimlasync.simulator import Simulator

ASK = Ask(worker="a", requests_per_minute=600, tokens_per_minute=None, calls=1)
MODEL = "openai/gpt-5-nano-2025-08-07"


async def ask(client: AsyncClient) -> None:
    await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])


async def test_clients_lease_their_calls_and_dollars_from_it() -> None:
    async with Simulator() as simulator, LeaseServer() as server:
        quotas = [ServedQuota(server.address) for _ in range(2)]
        clients = [
            AsyncClient(
                endpoints=[
                    Endpoint(
                        base_url=simulator.base_url,
                        api_key="k",
                        limits=Limits(requests_per_minute=60_000, tokens_per_minute=10_000_000),
                        quota=quota,
                    )
                ],
                budget=quota.budget(1.0, prices={}),
            )
            for quota in quotas
        ]
        await asyncio.gather(*(ask(clients[number % 2]) for number in range(40)))
        assert simulator.ledger.by_status() == {200: 40}
        for client in clients:
            await client.close()
        for quota in quotas:
            await quota.close()


async def test_a_budget_ends_for_all_at_once() -> None:
    async with Simulator() as simulator, LeaseServer() as server:
        quotas = [ServedQuota(server.address) for _ in range(2)]
        for quota in quotas:
            budget = quota.budget(0.0)
            async with AsyncClient(api_key="k", base_url=simulator.base_url, budget=budget) as client:
                with pytest.raises(BudgetExceededError):
                    await ask(client)
            await quota.close()
        assert len(simulator.ledger) == 0


async def test_who_does_not_know_the_secret_gets_nothing() -> None:
    async with LeaseServer() as server:
        port, _, secret = server.address.partition(":")
        assert secret not in repr(server)
        quota = ServedQuota(f"{port}:{'0' * len(secret)}")
        with pytest.raises(QuotaDownError):
            await quota.lease(ASK)
        assert secret not in repr(quota)
        await quota.close()
    with pytest.raises(ValueError, match="not the address"):
        ServedQuota("sentinel")


async def test_a_process_that_is_gone_is_an_error_and_asked_again_when_it_is_back() -> None:
    async with LeaseServer() as server:
        quota = ServedQuota(server.address)
        assert (await quota.lease(ASK)).requests == 1
    with pytest.raises(QuotaDownError):
        await quota.lease(ASK)
    await quota.close()


async def test_both_sides_may_say_things_of_their_own() -> None:
    heard: list[tuple[str, bytes]] = []
    gone = asyncio.Event()

    def hear(link: Link, kind: str, body: bytes) -> str:
        link.send("back", 1)
        return f"{kind} heard"

    async with LeaseServer(hear=hear, gone=lambda link: gone.set()) as server:
        quota = ServedQuota(server.address, hear=lambda kind, body: heard.append((kind, body)))
        link = await quota.connect()
        assert (await link.ask("mine", {"a": 1})).endswith(b"mine heard")
        assert heard == [("back", b"\x01")]
        await quota.close()
        await gone.wait()
