"""What becomes of a shared quota when something becomes of its place: for `shared_quota.py`.

Five processes send as much as they may to a simulator that refuses nothing, through a real Redis or a lease server in a
process of its own. The judge is the simulator's ledger, at the server's side: each arrival has an id of its own, and is
counted in every sliding 60 seconds. `use` is what arrived, of what the limit allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.errors import AimlasyncError
from aimlasync.quota.protocol import Ask, Lease
from aimlasync.quota.server import LeaseServer, ServedQuota
from aimlasync.redis import RedisQuota
from aimlasync.redis.scripts import LEASE
from aimlasync.simulator import Latency, Simulator

PROCESSES = 5
# When it begins, in seconds.
AT = 20.0
KEY = "aimlasync:{disasters}:minute"
CALLERS = 24


class Place:
    """A Redis that can be ended, begun again and talked to."""

    def __init__(self, folder: str, seconds: float) -> None:
        self.folder = folder
        self.until = time.monotonic() + seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.client: Any = Redis.from_url(f"unix://{folder}/s")

    def start(self) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server") or "redis-server"
        words = [program, "--port", "0", "--unixsocket", f"{self.folder}/s", "--save", "", "--dir", self.folder]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)

    def serve(self) -> str:
        """Begin a lease server instead, and return its address."""
        self.process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def warnings(self) -> int:
        """Lines that the processes wrote."""
        logs = Path(self.folder).glob("[0-9]")
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in logs)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None

    async def run(self, *words: Any) -> Any:
        with contextlib.suppress(RedisError, OSError):
            return await self.client.execute_command(*words)

    async def every(self, seconds: float) -> AsyncIterator[None]:
        """Again and again until the end."""
        while time.monotonic() < self.until:
            yield
            await asyncio.sleep(seconds)


async def nothing(place: Place) -> None:
    """Nothing becomes of it."""
    await asyncio.sleep(0)


async def never(place: Place) -> None:
    """Never there."""
    place.stop()


async def flushall(place: Place) -> None:
    """FLUSHALL every five seconds."""
    async for _ in place.every(5.0):
        await place.run("FLUSHALL")


async def evicted(place: Place) -> None:
    """Full, with allkeys-random: its key is evicted again and again."""
    await place.run("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    info = await place.run("INFO", "memory")
    await place.run("CONFIG", "SET", "maxmemory", info["used_memory"] + 200_000)
    async for _ in place.every(0.05):
        for number in range(4):
            await place.run("SET", f"other {time.monotonic()} {number}", "x" * 10_000)


async def wrong_type(place: Place) -> None:
    """Somebody writes a list under its key, every three seconds."""
    async for _ in place.every(3.0):
        await place.run("DEL", KEY)
        await place.run("LPUSH", KEY, "sentinel")


async def readonly(place: Place) -> None:
    """A replica that is read-only, for half a minute."""
    await place.run("REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(30)
    await place.run("REPLICAOF", "NO", "ONE")


async def slow(place: Place) -> None:
    """Answers nobody for 0.7 of 1.5 seconds."""
    async for _ in place.every(1.5):
        await place.run("CLIENT", "PAUSE", "700", "ALL")


async def hangs(place: Place) -> None:
    """Hangs for half a minute."""
    assert place.process is not None
    place.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(30)
    place.process.send_signal(signal.SIGCONT)


async def restarted(place: Place) -> None:
    """Gone for ten seconds, and empty then; twice."""
    for _ in range(2):
        place.stop()
        await asyncio.sleep(10)
        place.start()
        await asyncio.sleep(10)


async def comes_and_goes(place: Place) -> None:
    """Restarted empty every four seconds, and there for one of them."""
    async for _ in place.every(1.0):
        place.stop()
        await asyncio.sleep(3)
        place.start()


async def failover(place: Place) -> None:
    """Another one takes over with the state of two seconds ago, three times."""
    for _ in range(3):
        saved = await place.run("DUMP", KEY)
        await asyncio.sleep(2)
        place.stop()
        await asyncio.sleep(1)
        place.start()
        await asyncio.sleep(0.3)
        await place.run("RESTORE", KEY, 0, saved, "REPLACE")
        await asyncio.sleep(10)


async def script_flush(place: Place) -> None:
    """SCRIPT FLUSH every second."""
    async for _ in place.every(1.0):
        await place.run("SCRIPT", "FLUSH")


async def noauth(place: Place) -> None:
    """Wants a password that nobody has, for half a minute."""
    await place.run("CONFIG", "SET", "requirepass", "sentinel")
    await place.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(30)
    await place.run("CONFIG", "SET", "requirepass", "")


async def oom(place: Place) -> None:
    """Out of memory for half a minute."""
    await place.run("CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(30)
    await place.run("CONFIG", "SET", "maxmemory", "0")


async def killed(place: Place) -> None:
    """The lease server is killed."""
    place.stop()


async def far(place: Place) -> None:
    """In another region for two of the processes: what they send and get takes 150 ms each way."""
    loop = asyncio.get_running_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                loop.call_later(0.15, writer.write, data)
        loop.call_later(0.15, writer.close)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(f"{place.folder}/s")
        await asyncio.gather(carry(reader, back), carry(there, writer))

    async with await asyncio.start_unix_server(accept, f"{place.folder}/far") as server:
        await server.serve_forever()


async def server_slow(place: Place) -> None:
    """The lease server is stopped for two of four seconds."""
    assert place.process is not None
    async for _ in place.every(2.0):
        place.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2)
        place.process.send_signal(signal.SIGCONT)


Disaster = Callable[[Place], Awaitable[None]]
REDIS: dict[str, Disaster] = {
    each.__name__: each
    for each in (
        *(nothing, never, flushall, evicted, wrong_type, readonly, slow, hangs, restarted, comes_and_goes, failover),
        *(script_flush, noauth, oom, far),
    )
}
# Those that are there from the start, and what the constructor is given beside.
ROWS: list[tuple[str, str, Disaster, dict[str, Any]]] = [
    *(("Redis", name, disaster, {}) for name, disaster in REDIS.items()),
    ("Redis", "never, share=5", never, {"share": 5}),
    ("Redis", "restarted, share=5", restarted, {"share": 5}),
    ("Redis", "restarted, strict", restarted, {"strict": True}),
    ("server", "server never", never, {}),
    ("server", "server never, share=5", never, {"share": 5}),
    ("server", "server killed", killed, {}),
    ("server", "server killed, share=5", killed, {"share": 5}),
    ("server", "server slow", server_slow, {}),
    ("server", "server slow, share=5", server_slow, {"share": 5}),
]


async def table(names: list[str], rpm: int, seconds: float) -> None:
    """Print a line for each disaster that is named, or for all."""
    print(f"{PROCESSES} processes, {rpm} requests a minute, {seconds:.0f} seconds each; it begins after {AT:.0f}")
    print(f"{'':24}{'worst minute':>13}{'use':>7}{'arrived':>9}{'warnings':>10}", flush=True)
    for kind, name, disaster, options in ROWS:
        if names and name.replace(",", "").replace(" ", "-") not in names and name not in names:
            continue
        worst, used, arrived, warnings = await judge(kind, disaster, options, rpm, seconds)
        print(f"{name:24}{worst:>13.3f}{used:>7.2f}{arrived:>9}{warnings:>10}", flush=True)


async def judge(
    kind: str, disaster: Disaster, options: dict[str, Any], rpm: int, seconds: float
) -> tuple[float, float, int, int]:
    """Let it happen; return the worst minute and the use as shares of the limit, arrivals, and lines of warning."""
    folder = tempfile.mkdtemp(prefix="disaster-")
    place = Place(folder, seconds)
    spawn = multiprocessing.get_context("spawn")
    try:
        async with Simulator(latency=Latency.of(ttft=0.2, tokens_per_second=400, spread=0.5)) as simulator:
            where = f"unix://{folder}/s"
            if kind == "server":
                where = place.serve()
            elif disaster is not never:
                place.start()
            if disaster is never:
                place.stop()
            addresses = [where] * PROCESSES
            if disaster is far:
                addresses[-2:] = [f"unix://{folder}/far"] * 2
            processes = [
                spawn.Process(
                    target=work, args=(address, simulator.base_url, rpm, options, f"{folder}/{number}"), daemon=True
                )
                for number, address in enumerate(addresses)
            ]
            for process in processes:
                process.start()
            place.until = time.monotonic() + seconds
            happening = asyncio.create_task(_at(0.0 if disaster is far else AT, disaster, place))
            await asyncio.sleep(seconds)
            happening.cancel()
            await asyncio.gather(happening, return_exceptions=True)
            for process in processes:
                process.kill()
                process.join()
            ledger = simulator.ledger
            arrivals = len(ledger)
            worst = ledger.worst_window(of="requests") if arrivals else 0.0
        return worst / rpm, arrivals / (rpm * seconds / 60), arrivals, place.warnings()
    finally:
        if place.process is not None:
            place.process.send_signal(signal.SIGCONT)
        place.stop()
        shutil.rmtree(folder)


async def _at(seconds: float, disaster: Disaster, place: Place) -> None:
    await asyncio.sleep(seconds)
    await disaster(place)


def work(where: str, base_url: str, rpm: int, options: dict[str, Any], log: str) -> None:
    """Send as much as there may be; warnings go to a file."""
    logging.basicConfig(filename=log, level=logging.WARNING)
    asyncio.run(_work(where, base_url, rpm, options))


async def _work(where: str, base_url: str, rpm: int, options: dict[str, Any]) -> None:
    quota: Any = (
        RedisQuota(where, name="disasters", **options) if where.startswith("unix:") else ServedQuota(where, **options)
    )
    limits = Limits(requests_per_minute=rpm)
    endpoint = Endpoint(base_url=base_url, api_key="k", limits=limits, quota=quota)
    async with AsyncClient(endpoints=[endpoint]) as client, asyncio.TaskGroup() as tasks:

        async def ask() -> None:
            while True:
                with contextlib.suppress(AimlasyncError):
                    await client.chat.completions.create(
                        model="openai/gpt-5-nano-2025-08-07", messages=[{"role": "user", "content": "Hi"}]
                    )

        for _ in range(CALLERS):
            tasks.create_task(ask())


def cost(counts: list[int]) -> None:
    """Print what a lease takes of Redis' time, when a minute and more of leases went before, by workers."""
    for count in counts:
        folder = tempfile.mkdtemp(prefix="cost-")
        place = Place(folder, 0.0)
        place.start()
        try:
            client = BlockingRedis.from_url(f"unix://{folder}/s")
            while not _answers(client):
                time.sleep(0.01)
            script = client.register_script("local now = tonumber(ARGV[2])\n" + LEASE)
            now, last = 1.7e9, dict[int, Lease]()
            for turn in range(90):
                for worker in range(count):
                    now += 0.9 / count
                    ask = Ask(worker=f"{worker:012x}", requests_per_minute=60_000, tokens_per_minute=1e8, calls=50)
                    ask.tokens = 500.0
                    if (lease := last.get(worker)) is not None:
                        ask.epoch, ask.lease = lease.epoch, lease.number
                        ask.spent_requests, ask.spent_tokens = lease.requests, 0.9 * lease.tokens
                    answer = script(keys=[KEY], args=[msgspec.msgpack.encode(ask), repr(now)])
                    last[worker] = msgspec.msgpack.decode(answer, type=Lease)
                if turn == 70:
                    client.config_resetstat()
            each = client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
            print(f"{count} workers: {each:.0f} us of Redis a lease, {client.memory_usage(KEY)} bytes", flush=True)
        finally:
            place.stop()
            shutil.rmtree(folder)


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False


async def _serve() -> None:
    async with LeaseServer() as server:
        print(server.address, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
