"""The shared place in Redis: the same arithmetic, several processes, and what is done while it is away."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis_server import RedisServer
from servers import until

from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.account import Account, Till
from aimlasync.errors import BudgetExceededError
from aimlasync.quota import Ask, Draw, Lease
from aimlasync.simulator import Simulator, serve_in_thread

pytest.importorskip("redis", reason="pip install 'aimlasync[redis]' runs these tests")

from aimlasync.redis import RedisQuota
from aimlasync.redis.scripts import DRAW, LEASE

LIMITS = Limits(requests_per_minute=600)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server that a test may end."""
    server = RedisServer()
    server.start()
    yield server
    server.close()


def question(**fields: Any) -> Ask:
    return Ask(**{"worker": "a", "requests_per_minute": 600, "tokens_per_minute": None, "calls": 1, **fields})


def plain(lease: Lease) -> list[Any]:
    return [round(value, 5) if isinstance(value, float) else value for value in msgspec.structs.astuple(lease)]


# The script


@pytest.mark.parametrize("seed", range(6))
def test_the_script_does_what_the_account_does(running: RedisServer, seed: int) -> None:
    import redis

    client = redis.Redis(unix_socket_path=str(running.socket))
    # The same but for the clock, which is the test's.
    script: Any = client.register_script("local now = tonumber(ARGV[2])" + LEASE)
    rnd, now, key = random.Random(seed), 1.7e9, f"same-{seed}"
    rpm, tpm = rnd.choice([(600, None), (None, 20_000), (6_000, 200_000)])
    account: Account | None = None
    last: dict[str, Lease] = {}
    steps: list[int] = []
    for _ in range(250):
        now += rnd.choice((0.0, 0.01, 0.1, 0.5, 3.0)) * rnd.random() if rnd.random() > 0.01 else 70.0
        worker = rnd.choice("abcd")
        lease = last.get(worker)
        ask = Ask(
            worker=worker,
            requests_per_minute=rpm,
            tokens_per_minute=tpm,
            calls=rnd.choice((0, 1, 5, 100)),
            tokens=rnd.choice((10.0, 100.5, 5_000.0, 50_000.0)) if tpm else 0.0,
            epoch=account.epoch if account is not None else "",
            corrections={rnd.choice(steps): rnd.uniform(-500, 500)} if steps and rnd.random() < 0.5 else {},
            pause=rnd.choice((0.0,) * 20 + (5.0,)),
            workers=rnd.choice((1, 4)),
            returns=rnd.random() < 0.1,
        )
        if lease is not None and rnd.random() < 0.9:
            ask.lease = lease.number
            ask.spent_requests, ask.spent_tokens = rnd.random() * lease.requests, 1.2 * rnd.random() * lease.tokens
        packed = script(keys=[key], args=[msgspec.msgpack.encode(ask), repr(now)])
        found = msgspec.msgpack.decode(packed, type=Lease)
        account = account or Account(found.epoch, now)
        wanted = account.lease(ask, now)
        assert plain(found) == pytest.approx(plain(wanted), abs=2e-5)
        if wanted.number:
            last[worker] = wanted
        steps += [step for step in (wanted.step, wanted.ended) if step]
    assert 0 < client.ttl(key) <= 180
    client.close()


def test_the_script_of_the_budget_does_what_the_till_does(running: RedisServer) -> None:
    import redis

    client = redis.Redis(unix_socket_path=str(running.socket))
    script: Any = client.register_script(DRAW)
    rnd, till, held = random.Random(1), Till(), dict.fromkeys("abc", 0)
    for _ in range(200):
        worker = rnd.choice("abc")
        keeps = int(held[worker] * rnd.random())
        draw = Draw(worker=worker, purse="usd", total=10**15, keeps=keeps, needs=rnd.choice((0, 10**10, 3 * 10**14)))
        granted = int(script(keys=["till"], args=[msgspec.msgpack.encode(draw)]))
        assert granted == till.draw(draw)
        held[worker] = keeps + granted
    client.close()


# Processes

_WORKER = """
import asyncio, json, sys
from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.redis import RedisQuota

MODEL = "openai/gpt-5-nano-2025-08-07"

async def main(url, base_url, name, rpm):
    async with RedisQuota(url, name=name, timeout=5.0) as quota:
        limits = Limits(requests_per_minute=float(rpm))
        endpoint = Endpoint(base_url=base_url, api_key="k", limits=limits, quota=quota)
        async with AsyncClient(endpoints=[endpoint]) as client:
            async def ask():
                while True:
                    await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
            async with asyncio.TaskGroup() as tasks:
                for _ in range(16):
                    tasks.create_task(ask())

asyncio.run(main(*sys.argv[1:]))
"""


def begin(url: str, base_url: str, name: str, rpm: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _WORKER, url, base_url, name, str(rpm)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_share_one_limit_and_go_on_when_one_is_killed(running: RedisServer) -> None:
    rpm, counted = 9_000, 240
    began = time.monotonic()
    with serve_in_thread() as simulator:
        workers = [begin(running.url, simulator.base_url, "processes", rpm) for _ in range(3)]
        try:
            served(simulator, counted // 3)
            workers[0].kill()
            served(simulator, counted)
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate(timeout=20)
    # However slow this machine is: in all no more than the pace of one limit, and what may be ahead of it.
    assert len(simulator.ledger) <= rpm / 60 * (time.monotonic() - began + 0.5)
    assert set(simulator.ledger.by_status()) <= {0, 200}


def served(simulator: Simulator, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(simulator.ledger) < count:
        assert time.monotonic() < deadline, f"{len(simulator.ledger)} of {count}"
        time.sleep(0.01)


# Redis that is away


async def test_without_redis_a_worker_keeps_to_its_part_with_one_warning(
    own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisQuota(own.url, name="a") as quota, RedisQuota(own.url, name="a") as other:
        await other.lease(question(worker="b"))
        assert (await quota.lease(question())).workers == 2
        own.stop()
        # A part is 5 a second: the first fifth of a second of it at once, and the rest at its pace.
        began = asyncio.get_running_loop().time()
        leases = [await quota.lease(question(calls=100)) for _ in range(12)]
        assert quota.is_down
        assert [lease.requests for lease in leases] == [1] * 12
        assert asyncio.get_running_loop().time() - began + leases[-1].starts >= 11 / (300 / 60) - 0.2
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "1/2" in caplog.text
        own.start()
        await until(lambda: not quota.is_down)
        assert (await quota.lease(question())).epoch != leases[-1].epoch


async def test_strict_waits_until_redis_is_back(own: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    own.stop()
    async with RedisQuota(own.url, name="a", strict=True) as quota:
        waiting = asyncio.create_task(quota.lease(question()))
        await until(lambda: quota.is_down)
        assert not waiting.done()
        assert "strict=True" in caplog.text
        own.start()
        assert (await waiting).requests == 1


async def test_a_redis_that_hangs_is_down(own: RedisServer) -> None:
    async with RedisQuota(own.url, name="a", timeout=0.1) as quota:
        await quota.lease(question())
        assert own.process is not None
        own.process.send_signal(signal.SIGSTOP)
        lease = await quota.lease(question())
        assert quota.is_down
        assert lease.epoch.startswith("alone")
        own.process.send_signal(signal.SIGCONT)
        await until(lambda: not quota.is_down)
        assert not (await quota.lease(question())).epoch.startswith("alone")


async def test_a_redis_that_allows_no_scripts_is_down_and_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimlasync.redis.quota._LOOK", 0.01)
    server = RedisServer("--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "")
    server.start()
    try:
        async with RedisQuota(server.url, name="a") as quota:
            for _ in range(30):
                assert (await quota.lease(question(calls=0))).epoch.startswith("alone")
                await asyncio.sleep(0.005)
    finally:
        server.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_calls_go_on_while_redis_is_restarted(own: RedisServer) -> None:
    async with Simulator() as simulator, RedisQuota(own.url, name="a") as quota:
        endpoint = Endpoint(
            base_url=simulator.base_url, api_key="k", limits=Limits(requests_per_minute=6_000), quota=quota
        )
        async with AsyncClient(endpoints=[endpoint]) as client:

            async def ask() -> None:
                await client.chat.completions.create(
                    model="openai/gpt-5-nano-2025-08-07", messages=[{"role": "user", "content": "Hi"}]
                )

            await asyncio.gather(*(ask() for _ in range(20)))
            own.stop()
            await asyncio.gather(*(ask() for _ in range(20)))
            assert quota.is_down
            own.start()
            await until(lambda: not quota.is_down)
            await asyncio.gather(*(ask() for _ in range(20)))
        assert simulator.ledger.by_status() == {200: 60}


# Money


async def test_processes_spend_one_budget_together(running: RedisServer) -> None:
    async with (
        Simulator() as simulator,
        RedisQuota(running.url, name="m") as one,
        RedisQuota(running.url, name="m") as two,
    ):
        made = [
            AsyncClient(api_key="k", base_url=simulator.base_url, budget=quota.budget(0.001, default_output_tokens=50))
            for quota in (one, two)
        ]

        async def ask(client: AsyncClient) -> bool:
            try:
                await client.chat.completions.create(
                    model="openai/gpt-5-nano-2025-08-07", messages=[{"role": "user", "content": "Hi"}]
                )
            except BudgetExceededError:
                return False
            return True

        answers = []
        for number in range(400):
            answers.append(await ask(made[number % 2]))
            if not any(answers[-4:]):
                break
        for client in made:
            await client.close()
    assert not answers[-1]
    # The price is learned from the first answers, and those are let through.
    assert 0.0005 < simulator.ledger.cost_usd < 0.0012


async def test_no_money_is_given_out_while_redis_is_down(own: RedisServer) -> None:
    async with RedisQuota(own.url, name="a") as quota:
        budget = quota.budget(1.0)
        own.stop()
        with pytest.raises(BudgetExceededError, match="does not answer"):
            await budget.refill()


# Secrets, and mistakes


async def test_a_password_is_never_shown(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    server = RedisServer("--requirepass", "other")
    server.start()
    try:
        for url in (f"unix://:sentinel@{server.socket}", "redis://:sentinel@127.0.0.1:1/0"):
            async with RedisQuota(url, name="a") as quota:
                lease = await quota.lease(question())
                assert lease.epoch.startswith("alone")
                assert "sentinel" not in repr(quota) + str(vars(quota)["_key"]) + caplog.text
    finally:
        server.close()
    with pytest.raises(ValueError, match="not a URL") as caught:
        RedisQuota("sentinel", name="a")
    assert "sentinel" not in str(caught.value)
    assert caught.value.__context__ is None


def test_without_the_package_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['redis'] = None\ntry:\n import aimlasync.redis\nexcept ImportError as e: print(e)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'aimlasync[redis]'" in said


def test_the_structs_are_what_the_script_reads() -> None:
    # By place, not by name.
    ask = question(tokens=2.0)
    assert json.loads(msgspec.json.encode(ask))[:5] == ["a", 600, None, 1, 2.0]
    assert Lease.__struct_fields__[:3] == ("epoch", "number", "requests")
