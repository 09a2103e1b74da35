"""One process that leases to others of its machine."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from typing import Any

import msgspec
import pytest

from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.errors import BudgetExceededError
from aimlasync.quota.account import MAX_PAUSE
from aimlasync.quota.minute import MAX_DEBT
from aimlasync.quota.protocol import Ask, Draw, Lease, Memory, QuotaDownError
from aimlasync.quota.server import LeaseServer, Link, ServedQuota
from aimlasync.simulator import Simulator
from tests.support.servers import listening

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
    with pytest.raises(ValueError, match="address must be"):
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


GARBAGE: list[Any] = [
    ["a", 600, None, 1, 0.0, "", 0, 0.0, 0.0, {}, 1e300],
    ["a", 600, None, 1, 0.0, "", 0, 0.0, 0.0, {}, float("nan")],
    ["a", 600, None, 1, 0.0, "", 0, 0.0, 0.0, {}, -5.0],
    ["a", float("inf"), None, 1],
    ["a", 600, -1.0, 1],
    ["a", 600, None, -1],
    ["a", 600, None, 2**63],
    ["a", 600, None, 1, float("nan")],
    ["a", 600, None, 1, 0.0, "", 0, -1e9, 0.0],
    ["a", 600, None, 1, 0.0, "", 0, 0.0, 0.0, {0: float("inf")}],
    ["a", 600, None, 1, 0.0, "", 0, 0.0, 0.0, {}, 0.0, 2.0],
    ["a", 600, None, "many"],
    ["a" * 10_000, 600, None, 1],
    [["a"], 600, None, 1],
    {"worker": "a"},
    [],
    "sentinel",
]


@pytest.mark.parametrize("said", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("kind", ["lease", "draw"])
async def test_what_is_out_of_bounds_changes_nothing_for_the_others(kind: str, said: Any) -> None:
    async with LeaseServer() as server:
        peer, other = ServedQuota(server.address), ServedQuota(server.address)
        if kind == "lease" and said == GARBAGE[0]:
            # As long as a pause may be, and no longer.
            lease = msgspec.msgpack.decode(await (await peer.connect()).ask(kind, said), type=Lease)
            assert lease.starts == pytest.approx(MAX_PAUSE, abs=1)
        else:
            with pytest.raises(QuotaDownError):
                await (await peer.connect()).ask(kind, said)
            assert (await other.lease(ASK)).starts == 0.0
        assert await other.draw(Draw(worker="b", purse="usd", total=80, keeps=0, needs=10)) >= 10
        await peer.close()
        await other.close()


async def test_a_peer_cannot_move_the_others_far(caplog: pytest.LogCaptureFixture) -> None:
    async with LeaseServer() as server:
        peer, other = ServedQuota(server.address), ServedQuota(server.address)
        first = await peer.lease(ASK)
        await peer.lease(
            msgspec.structs.replace(
                ASK,
                calls=0,
                epoch=first.epoch,
                lease=first.number,
                spent_requests=1e12,
                corrections={2**60: 1e12, -5: 1e12},
            )
        )
        far = Memory(step=0, requests=[1e12, 1e12, *(value for n in range(400) for value in (n * 1e9, 1e12))])
        await peer.lease(msgspec.structs.replace(ASK, epoch="another", memory=far, age=1e12))
        assert (await other.lease(msgspec.structs.replace(ASK, worker="b"))).starts <= MAX_DEBT + 60
        await peer.close()
        await other.close()


async def test_a_process_that_answers_garbage_is_taken_to_be_away() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(6)
        size = int.from_bytes(await reader.readexactly(4))
        number, _, _ = msgspec.msgpack.decode(await reader.readexactly(size))
        frame = msgspec.msgpack.encode([number, "", ["e", 1, 1e9, 0.0, -5.0, float("nan")]])
        writer.write(len(frame).to_bytes(4) + frame)
        await writer.drain()
        writer.close()

    async with listening(answer) as port:
        address = f"{port}:secret"
        quota = ServedQuota(address)
        with pytest.raises(QuotaDownError):
            await quota.lease(ASK)
        await quota.close()
        quota = ServedQuota(address, share=2)
        lease = await quota.lease(ASK)
        assert (lease.requests, lease.part) == (1, 0.5)
        await quota.close()


@pytest.mark.parametrize("turns", range(5))
async def test_who_comes_as_it_closes_is_let_go(turns: int) -> None:
    server = LeaseServer()
    await server.start()
    with socket.create_connection(("127.0.0.1", int(server.address.partition(":")[0])), timeout=60) as peer:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.close()
        # Its end, not when the collector comes by: that would warn of it.
        gc.collect()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.to_thread(peer.recv, 1) == b""


async def test_without_it_calls_go_on_at_the_share_that_was_given() -> None:
    async with LeaseServer() as server:
        address = server.address
    quota = ServedQuota(address, share=4)
    lease = await quota.lease(msgspec.structs.replace(ASK, calls=100))
    assert (lease.requests, lease.part) == (1, 0.25)
    await quota.close()


async def test_limits_that_differ_are_agreed_on_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with LeaseServer() as server:
        one, other = ServedQuota(server.address), ServedQuota(server.address)
        await one.lease(ASK)
        for _ in range(3):
            lease = await other.lease(
                msgspec.structs.replace(ASK, worker="b", requests_per_minute=1200, tokens_per_minute=9000)
            )
            assert (lease.requests_per_minute, lease.tokens_per_minute) == (1200, 9000)
        assert (await one.lease(ASK)).tokens_per_minute == 9000
        await one.close()
        await other.close()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2
    assert (
        "requests_per_minute=1200 holds for all processes, as the newest was given it; this one was given 600"
        in said[0]
    )
    assert (
        "tokens_per_minute=9000 holds for all processes, as the newest was given it; this one was given None" in said[1]
    )
