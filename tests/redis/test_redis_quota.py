"""The shared place in Redis: the same arithmetic, several processes, and what workers do while it is down."""

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

from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.cli import quota_option
from aimlasync.errors import BudgetExceededError
from aimlasync.quota.account import TTL, Account
from aimlasync.quota.protocol import Ask, Draw, Drawn, Lease, Memory
from aimlasync.quota.purse import Purse
from aimlasync.simulator import Simulator, serve_in_thread
from tests.support.commands import last_line, run
from tests.support.redis_server import RedisServer
from tests.support.servers import until

pytest.importorskip("redis", reason="pip install 'aimlasync[redis]' runs these tests")

from aimlasync.redis import RedisQuota
from aimlasync.redis.draw import DRAW
from aimlasync.redis.scripts import LEASE

LIMITS = Limits(requests_per_minute=600)
PATIENT: dict[str, Any] = {"timeout": 60.0}
"""A Redis that is there is never taken for one that is away, on a busy machine either; what is away refuses at once."""


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


# The commands


@pytest.mark.parametrize("way", [("--shard", "1/2"), ("--workers", "2")], ids=["shard", "workers"])
def test_a_command_takes_its_limits_from_redis(
    running: RedisServer, way: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("".join(json.dumps({"id": n, "text": f"row {n}"}) + "\n" for n in range(8)))
    account = "-".join(("account", *way)).replace("/", "")
    with serve_in_thread(requests_per_minute=6000) as simulator:
        monkeypatch.setenv("AIML_API_URL", simulator.base_url)
        monkeypatch.setenv("AIML_API_KEY", "k")
        monkeypatch.setenv("REDIS_URL", running.url)
        words = ["bulk", "in.jsonl", "--prompt", "{text}", "--id", "id", "--rpm", "6000", "--quota", f"redis#{account}"]
        done = run(*words, "-o", "out.jsonl", *way)
        assert done.exit_code == 0, done.stderr
        asked = len(simulator.ledger)
        assert simulator.ledger.by_status() == {200: asked}
    assert asked == 8 if "--shard" not in way else 0 < asked < 8
    import redis

    client = redis.Redis(unix_socket_path=str(running.socket))
    kept: Any = client.hget(f"aimlasync:{{{account}}}:minute", "")
    client.close()
    state = msgspec.msgpack.decode(kept)[1]
    assert (state["limits"], state["version"]) == ([6000, False], 1)
    assert state["number"] > 0


def test_a_command_does_not_begin_while_its_redis_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Nothing is measured.
    monkeypatch.setattr(quota_option, "_WAITS", (0.0, 0.0))
    Path("in.jsonl").write_text('{"text": "Hi"}\n')
    words = ("bulk", "in.jsonl", "--prompt", "{text}", "--rpm", "60", "--quota", f"unix://{tmp_path}/none#mine")
    for output in ("out.jsonl", "-"):
        done = run(*words, "--simulate", "-o", output)
        assert done.exit_code == 1
        said = last_line(done)
        assert said.startswith("aimlasync: --quota: the Redis of the shared quota 'mine' does not answer (Conn")
        assert said.endswith("; nothing was asked: start that Redis, or name another one in --quota")
        assert not Path("out.jsonl").exists()


# The script


@pytest.mark.parametrize("seed", range(12))
def test_the_script_does_what_the_account_does(running: RedisServer, seed: int) -> None:
    import redis

    client = redis.Redis(unix_socket_path=str(running.socket))
    # The same but for the clock, which is the test's.
    script: Any = client.register_script("local now = tonumber(ARGV[2])" + LEASE)
    rnd, now, key = random.Random(seed), 1.7e9, f"same-{seed}"
    rpm, tpm = rnd.choice([(600, None), (None, 20_000), (6_000, 200_000)])
    account: Account | None = None
    last: dict[str, Lease] = {}
    heard: dict[str, float] = {}
    steps: list[int] = [0]
    for _ in range(300):
        now += rnd.choice((0.0, 0.01, 0.1, 0.5, 3.0)) * rnd.random() if rnd.random() > 0.01 else 70.0
        if rnd.random() < 0.02:
            # Both forget, or are older than what was granted last.
            client.delete(key)
            account = None
        worker = rnd.choice("abcdefgh"[: rnd.choice((2, 8))])
        lease = last.get(worker)
        ask = Ask(
            worker=worker if rnd.random() > 0.03 else "",
            requests_per_minute=rpm if rpm is None or rnd.random() < 0.9 else rpm * rnd.choice((0.5, 2)),
            tokens_per_minute=tpm,
            calls=rnd.choice((0, 1, 5, 100)),
            tokens=rnd.choice((10.0, 100.5, 5_000.0, 50_000.0)) if tpm else 0.0,
            epoch=lease.epoch if lease is not None and rnd.random() < 0.95 else "",
            corrections={rnd.choice(steps): rnd.uniform(-500, 500)} if rnd.random() < 0.5 else {},
            pause=rnd.choice((0.0,) * 20 + (5.0,)),
            part=rnd.choice((0.0, 0.2, 0.5)) if lease is None else lease.part,
            alone=rnd.choice(("waits", "part", "share")),
            away=rnd.choice((0.0,) * 8 + (0.5, 30.0)),
            heard=0 if lease is None else lease.number + (rnd.random() < 0.01) * 1000,
            leaves=rnd.random() < 0.02,
            version=0 if lease is None else lease.version + rnd.choice((0,) * 9 + (1,)),
        )
        if lease is not None:
            if rnd.random() < 0.9:
                ask.lease = lease.number
                ask.spent_requests, ask.spent_tokens = rnd.random() * lease.requests, 1.2 * rnd.random() * lease.tokens
            if rnd.random() < 0.7:
                ask.memory, ask.age = lease.memory, now - heard[worker] + rnd.choice((0.0, 0.0, 5.0))
        packed = script(keys=[key], args=[msgspec.msgpack.encode(ask), repr(now)])
        found = msgspec.msgpack.decode(packed, type=Lease)
        account = account or Account(found.epoch, now)
        wanted = account.lease(ask, now)
        assert flat(found) == pytest.approx(flat(wanted), abs=2e-5)
        if not wanted.is_lost and ask.worker:
            last[worker], heard[worker] = wanted, now
        steps += [step for step in (wanted.step, wanted.ended) if step]
    assert 0 < client.ttl(key) <= 86_400
    assert len(client.hkeys(key)) <= 9
    client.close()


def flat(lease: Lease) -> list[Any]:
    """Its values, sums by stretches in their order."""
    memory = lease.memory or Memory(step=0)
    values = [value for value in msgspec.structs.astuple(lease) if not isinstance(value, Memory)]
    for sums in (memory.requests, memory.tokens):
        values += [*sums[:2], *(value for pair in sorted(zip(sums[2::2], sums[3::2], strict=True)) for value in pair)]
    return [memory.step if value is None else value for value in values]


@pytest.mark.parametrize("seed", range(6))
def test_the_script_of_the_budget_does_what_the_till_does(running: RedisServer, seed: int) -> None:
    import redis

    client = redis.Redis(unix_socket_path=str(running.socket))
    script: Any = client.register_script("local now = tonumber(ARGV[2])" + DRAW)
    rnd, now, key = random.Random(seed), 1.7e9, f"purse-{seed}"
    purse: Purse | None = None
    held = dict.fromkeys("abc", 0)
    last: dict[str, Drawn] = {}
    for _ in range(300):
        now += rnd.random()
        if rnd.random() < 0.02:
            client.delete(key)
            purse = None
        worker = rnd.choice("abc")
        keeps = int(held[worker] * rnd.random())
        draw = Draw(worker=worker, purse="usd", total=10**15, keeps=keeps, needs=rnd.choice((0, 10**10, 3 * 10**14)))
        if worker in last and rnd.random() < 0.95:
            before = last[worker]
            draw.epoch, draw.taken = before.epoch, before.taken
            draw.version = before.version + (1000 if rnd.random() < 0.02 else 0)
        found = msgspec.msgpack.decode(script(keys=[key], args=[msgspec.msgpack.encode(draw), repr(now)]), type=Drawn)
        purse = purse or Purse(found.epoch, now)
        last[worker] = purse.draw(draw, now)
        assert found == last[worker]
        held[worker] = keeps + found.granted
    client.close()


# Processes

_WORKER = """
import asyncio, json, sys
from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.cli import quota_option
from aimlasync.redis import RedisQuota

MODEL = "openai/gpt-5-nano-2025-08-07"

async def main(url, base_url, name, rpm):
    async with RedisQuota(url, name=name, timeout=60.0) as quota:
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
                worker.communicate(timeout=600)
    # However slow this machine is: in all no more than the rate of one limit, and what a worker may be ahead of it.
    assert len(simulator.ledger) <= rpm / 60 * (time.monotonic() - began + 0.5)
    assert set(simulator.ledger.by_status()) <= {0, 200}


def served(simulator: Simulator, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(simulator.ledger) < count:
        assert time.monotonic() < deadline, f"{len(simulator.ledger)} of {count}"
        time.sleep(0.01)


# Redis that is down


async def test_without_redis_a_worker_keeps_to_the_part_that_it_was_told_with_one_warning(
    own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisQuota(own.url, name="a", **PATIENT) as quota, RedisQuota(own.url, name="a", **PATIENT) as other:
        # A Redis that begins knows no parts for a moment: somebody may hold one of an earlier life.
        parts = [0.0, 0.0]
        while parts != [0.5, 0.5]:
            began = asyncio.get_running_loop().time()
            answers = [await other.lease(question(worker="b", calls=0)), await quota.lease(question(calls=0))]
            parts = [answer.part for answer in answers]
            await asyncio.sleep(0.02)
        own.stop()
        # A part is 5 a second, when what was leased before has ended.
        leases = [await quota.lease(question(calls=100)) for _ in range(12)]
        assert quota.is_down
        assert [lease.requests for lease in leases] == [1] * 12
        assert asyncio.get_running_loop().time() - began + leases[-1].starts >= TTL + 11 / (300 / 60) - 0.2
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "1/2" in caplog.text
        own.start()
        await until(lambda: not quota.is_down)
        assert (await quota.lease(question())).epoch != leases[-1].epoch


async def test_who_never_heard_redis_waits_for_it_and_says_so(
    own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own.stop()
    async with RedisQuota(own.url, name="a", **PATIENT) as quota:
        waiting = asyncio.create_task(quota.lease(question()))
        await until(lambda: quota.is_down)
        assert not waiting.done()
        assert "share=N" in caplog.text
        own.start()
        assert (await waiting).requests == 1


async def test_who_never_heard_redis_and_was_told_the_share_goes_on_at_it(
    own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own.stop()
    async with RedisQuota(own.url, name="a", share=4, **PATIENT) as quota:
        lease = await quota.lease(question(calls=100))
        assert (lease.requests, lease.part) == (1, 0.25)
        assert "1/4 (by share=)" in caplog.text
        own.start()
        await until(lambda: not quota.is_down)
        # Others may be at theirs: a place that begins grants no more than that at first.
        assert (await quota.lease(question(calls=100))).starts < 1.0
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="share"):
            RedisQuota(own.url, name="a", share=wrong)
    with pytest.raises(ValueError, match="one of them"):
        RedisQuota(own.url, name="a", share=4, strict=True)


async def test_strict_waits_until_redis_is_back(own: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    own.stop()
    async with RedisQuota(own.url, name="a", strict=True, **PATIENT) as quota:
        waiting = asyncio.create_task(quota.lease(question()))
        await until(lambda: quota.is_down)
        assert not waiting.done()
        assert "strict=True" in caplog.text
        own.start()
        assert (await waiting).requests == 1


async def test_a_redis_that_hangs_is_down(own: RedisServer) -> None:
    async with RedisQuota(own.url, name="a", share=1, timeout=1.0) as quota:
        await quota.lease(question())
        assert own.process is not None
        own.process.send_signal(signal.SIGSTOP)
        lease = await quota.lease(question())
        assert quota.is_down
        assert lease.epoch.startswith("alone")
        own.process.send_signal(signal.SIGCONT)
        await until(lambda: not quota.is_down)
        assert not (await quota.lease(question())).epoch.startswith("alone")


async def test_a_redis_in_another_region_is_not_down(own: RedisServer) -> None:
    far = Path(own.folder) / "far"
    asked = 0
    relays: list[asyncio.Task[None]] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        nonlocal asked
        while data := await reader.read(2**16):
            asked += not delay
            await asyncio.sleep(delay)
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(own.socket)
        await asyncio.gather(carry(reader, back, 0.0), carry(there, writer, 0.3))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.append(asyncio.create_task(relay(reader, writer)))

    async with await asyncio.start_unix_server(accept, far):
        async with RedisQuota(f"unix://{far}", name="a", share=1, timeout=1.0) as quota:
            lease = await quota.lease(question())
        await asyncio.gather(*relays)
    assert not lease.epoch.startswith("alone")
    # Together they take longer than one may.
    assert asked > 3


async def test_a_redis_that_allows_no_scripts_is_down_and_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimlasync.quota.fallback._FIRST_TEST", 0.01)
    server = RedisServer("--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "")
    server.start()
    try:
        async with RedisQuota(server.url, name="a", share=1, **PATIENT) as quota:
            for _ in range(30):
                assert (await quota.lease(question(calls=0))).epoch.startswith("alone")
                await asyncio.sleep(0.005)
    finally:
        server.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_calls_go_on_while_redis_is_restarted(own: RedisServer) -> None:
    async with Simulator() as simulator, RedisQuota(own.url, name="a", **PATIENT) as quota:
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


@pytest.mark.parametrize(
    "words",
    [
        ("FLUSHALL",),
        ("DEL", "aimlasync:{a}:minute"),
        ("SET", "aimlasync:{a}:minute", "sentinel"),
        ("EVAL", "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')", "1", "aimlasync:{a}:minute"),
        ("HSET", "aimlasync:{a}:minute", "", "sentinel"),
        ("HSET", "aimlasync:{a}:minute", "", b"\x92\x02\xc0"),
    ],
    ids=lambda words: " ".join(str(word) for word in words)[:20],
)
async def test_a_redis_that_forgot_is_told_what_was_sent(
    own: RedisServer, words: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    import redis

    async with RedisQuota(own.url, name="a", **PATIENT) as quota:
        lease = await quota.lease(question())
        for _ in range(5):
            lease = await quota.lease(question(epoch=lease.epoch, lease=lease.number, spent_requests=1.0))
        client: Any = redis.Redis(unix_socket_path=str(own.socket))
        client.execute_command(*words)
        client.close()
        after = await quota.lease(question(epoch=lease.epoch, lease=lease.number, spent_requests=1.0))
        assert not quota.is_down
        assert after.epoch != lease.epoch
        assert after.memory is not None
        # Six that were sent, and the one that is granted; a tenth of a second is a request.
        assert 7 <= sum(after.memory.requests[3::2]) <= 7 + 10
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "lost its state" in caplog.text


@pytest.mark.parametrize(
    ("harm", "cure"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "requirepass", "sentinel"), ("CONFIG", "SET", "requirepass", "")),
        (("CLIENT", "PAUSE", "2000", "ALL"), ("PING",)),
    ],
    ids=["full", "read-only", "password", "hangs"],
)
async def test_a_redis_that_refuses_is_down_until_it_does_not(
    own: RedisServer, harm: tuple[str, ...], cure: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    import redis

    client: Any = redis.Redis(unix_socket_path=str(own.socket))
    client.ping()
    # What hangs, hangs for two seconds.
    timeout = 1.0 if "PAUSE" in harm else 60.0
    async with RedisQuota(own.url, name="a", share=5, timeout=timeout) as quota:
        if "requirepass" not in harm:
            await quota.lease(question())
        client.execute_command(*harm)
        assert (await quota.lease(question())).part == 0.2
        assert quota.is_down
        # Nothing more of the budget either.
        with pytest.raises(BudgetExceededError, match="does not answer"):
            await quota.budget(1.0).refill()
        await asyncio.to_thread(client.execute_command, *cure)
        await until(lambda: not quota.is_down)
        assert not (await quota.lease(question())).epoch.startswith("alone")
    client.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_scripts_that_redis_lost_are_given_to_it_again(own: RedisServer) -> None:
    import redis

    async with RedisQuota(own.url, name="a", **PATIENT) as quota:
        first = await quota.lease(question())
        client = redis.Redis(unix_socket_path=str(own.socket))
        client.script_flush()
        client.close()
        assert (await quota.lease(question(epoch=first.epoch))).epoch == first.epoch
        assert not quota.is_down


async def test_what_is_waiting_for_a_redis_that_is_away_ends_at_once(own: RedisServer) -> None:
    own.stop()
    async with Simulator() as simulator:
        quota = RedisQuota(own.url, name="a", **PATIENT)
        endpoint = Endpoint(base_url=simulator.base_url, api_key="k", limits=LIMITS, quota=quota)
        client = AsyncClient(endpoints=[endpoint])
        calls = [
            asyncio.create_task(
                client.chat.completions.create(
                    model="openai/gpt-5-nano-2025-08-07", messages=[{"role": "user", "content": "Hi"}]
                )
            )
            for _ in range(3)
        ]
        await until(lambda: quota.is_down)
        for call in calls:
            call.cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(*calls, return_exceptions=True)
            await client.close()
            await quota.close()
        assert len(simulator.ledger) == 0


# Money


async def test_a_budget_is_not_passed_though_redis_forgets_what_was_drawn(
    own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    import redis

    client = redis.Redis(unix_socket_path=str(own.socket))
    total, drawn = 1_000_000, 0
    async with RedisQuota(own.url, name="m", **PATIENT) as one, RedisQuota(own.url, name="m", **PATIENT) as two:
        held = [0, 0]
        for turn in range(6):
            if turn == 3:
                client.flushall()
            for number, quota in enumerate((one, two)):
                draw = Draw(worker=f"{number}", purse="usd", total=total, keeps=held[number], needs=total // 8)
                held[number] += await quota.draw(draw)
                assert sum(held) <= total
        drawn = sum(held)
        assert drawn > total / 2
        # A stranger learns it as well.
        async with RedisQuota(own.url, name="m", **PATIENT) as other:
            draw = Draw(worker="z", purse="usd", total=total, keeps=0, needs=total - drawn + 1)
            assert await other.draw(draw) == 0
            client.flushall()
            assert await other.draw(draw) == 0
    client.close()
    assert "lost what was drawn" in caplog.text


async def test_processes_spend_one_budget_together(running: RedisServer) -> None:
    async with (
        Simulator() as simulator,
        RedisQuota(running.url, name="m", **PATIENT) as one,
        RedisQuota(running.url, name="m", **PATIENT) as two,
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
    async with RedisQuota(own.url, name="a", **PATIENT) as quota:
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
            async with RedisQuota(url, name="a", share=1, **PATIENT) as quota:
                lease = await quota.lease(question())
                assert lease.epoch.startswith("alone")
                assert "sentinel" not in repr(quota) + str(vars(quota)["_key"]) + caplog.text
    finally:
        server.close()
    with pytest.raises(ValueError, match="url must be") as caught:
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
