"""A hundred machines and a hundred million rows, by arithmetic: how fast, how dear, and what breaks first.

    python benchmarks/scale_model.py [--workers 100] [--rows 1e8] [--rpm 300000] [--tpm 150000000] [--store redis] ...
    python benchmarks/scale_model.py --table     # 10^6, 10^8, 10^9 rows on 1 to 1,000 machines: what breaks first
    python benchmarks/scale_model.py --check     # the model beside real runs; exit code 1 beyond 15 %

Method: every part of a job on many machines has a rate that it can carry and a rate that is asked of it. The rates
that can be carried are costs measured on one processor of a busy 2-core virtual machine (`Costs`: what
`distributed.py --part costs` prints; `--measure` takes those again that need no server), and for a lease a curve by
the number of workers (`shared_quota.py --cost`). The job runs as fast as its scarcest part, and what breaks next is
the part with the least to spare. How well a dataset's batches use their places, and the slow calls at the end of a
job, are event simulations, seeded; what a kill costs is an estimate.

Three ways of running are told apart, because they break at different places:

    shards    `--shard i/n`, a journal on each machine, `merge` at the end
    cluster   `--ray`, one process that reads the input and keeps the journal
    dataset   `map_dataset`, each machine reads and writes its own blocks

`--check` compares the model with the rows a second of real runs (`RUNS`, of `distributed.py --part nodes`).
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Literal

import msgspec

from aimlasync.bulk import DirectoryStore, Request
from aimlasync.bulk.answer_store import key_of
from aimlasync.bulk.input.source import open_source
from aimlasync.bulk.journal.convert import result_of
from aimlasync.bulk.journal.record import Record, decode_glance, decode_record, encode_record
from aimlasync.quota.account import LEASES

Way = Literal["shards", "cluster", "dataset"]
WAYS: tuple[Way, ...] = ("shards", "cluster", "dataset")


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of one processor, but where it says otherwise."""

    call: float = 320e-6
    """A worker: one call from the row to the record, the HTTP exchange included."""
    to_directory: float = 700e-6
    """A worker: ask a directory store for a row and put its answer there, besides."""
    to_redis: float = 480e-6
    """The same of a Redis."""
    carry: float = 245e-6
    """The process in the middle of a cluster: read a row, send it, and take its record in."""
    journal: float = 4e-6
    """Append a record to a journal."""
    merge: float = 12e-6
    """A line through `merge`."""
    redis: float = 40e-6
    """The server: one command, the work for its connection included."""
    read: float = 6e-6
    """Read a row of JSONL and name it, which each shard does for every row, also those of the others."""
    leases: tuple[tuple[int, float], ...] = ((4, 161e-6), (100, 160e-6), (300, 170e-6), (1000, 211e-6))
    """The server: one lease of a quota of requests and tokens, by the workers that share it."""

    def lease(self, workers: int) -> float:
        """Return the cost of a lease between the measured numbers of workers, and on along the last stretch."""
        points = self.leases
        if workers <= points[0][0]:
            return points[0][1]
        at = next((n for n in range(1, len(points)) if workers <= points[n][0]), len(points) - 1)
        (one, low), (other, high) = points[at - 1], points[at]
        return low + (high - low) * (workers - one) / (other - one)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked for."""

    workers: int = 100
    rows: float = 1e8
    rpm: float | None = 300_000.0
    """Of the whole account; None for none."""
    tpm: float | None = 150e6
    tokens: float = 250.0
    """Of a row, in and out."""
    usd: float = 4e-5
    """Of a row."""
    latency: float = 1.2
    """Median seconds of a call."""
    spread: float = 0.6
    """Sigma of its lognormal."""
    in_flight: int = 256
    """Rows at work in one worker."""
    batch: int = 32
    at_once: int = 16
    """Batches of a dataset's worker; its blocks end when their slowest row does."""
    kills: float = 2.0
    """Workers that die in an hour, of all."""
    lease: float = 0.2
    """Seconds of work in one lease of a shared quota: `quota.account.SLICE`."""
    hold: float = 20.0
    """Seconds for which a lost worker's part of the limits is kept: `quota.minute.HOLD`."""
    record: float = 1070.0
    """Bytes of a row's record."""
    store: Literal["none", "directory", "redis"] = "redis"
    file_rate: float = 4000.0
    """Files that a shared file system makes in a second."""
    inodes: float = 2e7
    """That it has for a store."""
    redis_memory: float = 64e9
    expires: float = 7 * 86_400.0
    """Seconds for which a Redis keeps an answer: `RedisStore(expires=)`."""
    disk: float = 1e12


@dataclass(frozen=True)
class Part:
    """A part of the machinery: how many rows a second it can carry, and why."""

    name: str
    rate: float
    why: str


def batches(plan: Plan, seed: int = 1, calls: int = 20_000) -> float:
    """Return the share of its time that a worker's places are at work, when batches end with their slowest row.

    One worker's life, event by event: `at_once` batches of `batch` rows, a new one begun when one ends.
    """
    random = Random(seed)
    busy = now = 0.0
    ends: list[float] = []
    done = 0
    while done < calls:
        while len(ends) < plan.at_once:
            times = [plan.latency * random.lognormvariate(0.0, plan.spread) for _ in range(plan.batch)]
            busy += sum(times)
            heapq.heappush(ends, now + max(times))
            done += plan.batch
        now = heapq.heappop(ends)
    return busy / (max([now, *ends]) * plan.batch * plan.at_once)


def seconds_of(rows: int, places: int, latency: float, spread: float, seed: int = 1) -> tuple[float, float]:
    """Return when the last of `rows` calls begins and when all have ended, with so many at work at a time."""
    random = Random(seed)
    ends: list[float] = []
    begins = 0.0
    for _ in range(rows):
        begins = heapq.heappop(ends) if len(ends) >= places else 0.0
        heapq.heappush(ends, begins + latency * random.lognormvariate(0.0, spread))
    return begins, max(ends)


def leases_a_second(plan: Plan) -> float:
    """Return how often the shared place is asked: five times a second by each worker, at most 1,000 times by all."""
    asked = min(plan.workers / plan.lease, LEASES)
    return asked if plan.rpm is None else min(asked, plan.rpm / 60)


def parts(plan: Plan, costs: Costs, way: Way) -> list[Part]:
    """Return what the job goes through, the scarcest first."""
    mean = plan.latency * 2.718281828 ** (plan.spread**2 / 2)
    share = batches(plan) if way == "dataset" else 1.0
    places = plan.batch * plan.at_once if way == "dataset" else plan.in_flight
    kept = {"none": 0.0, "directory": costs.to_directory, "redis": costs.to_redis}[plan.store]
    # A shard reads the rows of all shards.
    own = costs.call + kept + (costs.journal + costs.read * plan.workers if way == "shards" else 0.0)
    found = [
        Part(
            "latency", plan.workers * places * share / mean, f"{places} rows at work in a worker, {share:.0%} of them"
        ),
        Part("processors", plan.workers / own, f"{1e6 * own:.0f} us a row on each"),
    ]
    if plan.rpm is not None:
        # The parts of lost workers wait before others get them.
        lost = min(1.0, plan.kills / 3600 * plan.hold / plan.workers)
        found.append(Part("requests per minute", plan.rpm / 60 * (1 - lost), f"{plan.rpm:,.0f} of the account"))
    if plan.tpm is not None:
        found.append(Part("tokens per minute", plan.tpm / 60 / plan.tokens, f"{plan.tokens:.0f} tokens a row"))
    if way == "cluster":
        found.append(Part("the one in the middle", 1 / (costs.carry + costs.journal), "reads, sends and journals all"))
    if plan.store == "directory":
        found.append(Part("files made", plan.file_rate, "one for each answer, on a shared file system"))
    if plan.store == "redis":
        # One SET and a share of one MGET a row, beside the leases.
        leases = leases_a_second(plan)
        left = max(1e-9, 1 - leases * costs.lease(plan.workers)) / costs.redis
        found.append(Part("redis", left / (1 + 1 / plan.batch), f"{leases:,.0f} leases a second taken off"))
    return sorted(found, key=lambda part: part.rate)


def amounts(plan: Plan, way: Way, rate: float) -> list[tuple[str, float, float]]:
    """Return what fills up at `rate` rows a second: name, the most that it takes, what there is."""
    size = plan.rows * plan.record
    found = [("journal bytes", size, plan.disk)] if way != "dataset" else []
    if way == "shards":
        found.append(("bytes of memory to merge", plan.rows * 12, 16e9))
    if plan.store == "directory":
        found.append(("files of the store", plan.rows, plan.inodes))
    if plan.store == "redis":
        kept = min(plan.rows, rate * plan.expires)
        found.append(("bytes of Redis", kept * (plan.record + 110), plan.redis_memory))
    return found


def lost_by_kills(plan: Plan, seconds: float, way: Way, rate: float) -> tuple[float, float]:
    """Return the rows that are paid twice over the whole job, without a store and with one."""
    places = plan.batch * plan.at_once if way == "dataset" else plan.in_flight
    kills = plan.kills * seconds / 3600
    each = rate / plan.workers
    if way == "dataset":
        # A block's rows that were answered are lost with it; on average half of what is under way.
        held = places * 1.5
    elif way == "cluster":
        held = places * 1.2
    else:
        # A twentieth of a second of answers that were not yet written.
        held = places + each * 0.05
    return kills * held, kills * min(places, each * plan.latency * 2 or places)


def told(plan: Plan, costs: Costs, way: Way) -> None:
    """Print what one way comes to."""
    found = parts(plan, costs, way)
    first, second = found[0], found[1]
    # The slow calls at the end are those of as many rows as are at work.
    begins, ends = seconds_of(4 * plan.in_flight, plan.in_flight, plan.latency, plan.spread)
    seconds = plan.rows / first.rate + ends - begins
    without, with_one = lost_by_kills(plan, seconds, way, first.rate)
    print(f"\n{way}: {first.rate:,.0f} rows/s, {seconds / 3600:,.1f} hours, ${plan.rows * plan.usd:,.0f}")
    print(f"  held back by     {first.name} ({first.why})")
    print(f"  next             {second.name}, {second.rate / first.rate:.1f} times as much ({second.why})")
    if plan.store == "redis":
        leases = leases_a_second(plan)
        load = leases * costs.lease(plan.workers) + first.rate * (1 + 1 / plan.batch) * costs.redis
        print(f"  redis            {leases:,.0f} leases/s, {load:.0%} of one processor")
    twice = f"{without:,.0f} rows paid twice, {with_one:,.0f} with a store"
    print(f"  kills            {plan.kills * seconds / 3600:,.0f}: {twice}")
    if way == "shards":
        print(f"  merge            {plan.rows * costs.merge / 60:,.0f} minutes at the end, on one processor")
    for name, takes, there in amounts(plan, way, first.rate):
        note = "" if takes <= there else f"  FULL after {there / takes:.0%} of the rows"
        print(f"  {name:<16} {takes:.2g} of {there:.2g}{note}")


def table(plan: Plan, costs: Costs) -> None:
    """Print, for jobs and fleets of all sizes, what each takes, what holds it back, and what is full first."""
    print(f"{'rows':>6} {'machines':>8}  {'way':<8} {'rows/s':>8} {'hours':>8}  {'held back by':<22} breaks first")
    for rows in (1e6, 1e8, 1e9):
        for workers in (1, 10, 100, 1000):
            for way in WAYS:
                this = replace(plan, rows=rows, workers=workers)
                first, second = parts(this, costs, way)[:2]
                full = [(there / takes, name) for name, takes, there in amounts(this, way, first.rate) if takes > there]
                breaks = "{1} at {0:.0%} of it".format(*min(full)) if full else f"nothing; next {second.name}"
                hours = rows / first.rate / 3600
                said = f"{first.rate:>8,.0f} {hours:>8,.1f}  {first.name:<22} {breaks}"
                print(f"{rows:>6.0e} {workers:>8,}  {way:<8} {said}")


# Costs, measured


def timed(work: Callable[[], object], count: int) -> float:
    """Return the processor's seconds of one of `count`, the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / count


def measured(costs: Costs) -> Costs:
    """Return the costs that take no server, as this machine has them."""
    body = {"model": "m", "messages": [{"role": "user", "content": "my card was charged twice " * 8}]}
    request = Request(custom_id="row-1", api="chat", body=body)
    reply = (
        b'{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"yes"}}]}'
    )
    line = encode_record(
        decode_record(
            msgspec.json.encode(
                {"id": "i", "custom_id": "row-1", "response": {"status_code": 200, "body": msgspec.Raw(reply)}}
            )
        )
    )
    count = 5000
    key = timed(lambda: [key_of(b"scope", request) for _ in range(count)], count)
    merge = 2 * timed(lambda: [decode_glance(line) for _ in range(count)], count)
    pack, take = msgspec.msgpack.Encoder().encode, msgspec.json.Decoder(Record).decode
    carry = timed(lambda: [(pack(request), result_of(take(line), request)) for _ in range(count)], count)
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore(folder)

        async def put() -> None:
            for n in range(500):
                await store.put(f"{n:032x}"[::-1], line)

        files = timed(lambda: asyncio.run(put()), 500)
        path = os.path.join(folder, "rows.jsonl")
        with open(path, "w") as file:
            file.writelines(f'{{"id": "r{n}", "text": "my card was charged twice"}}\n' for n in range(count))
        with closing(open_source(path)) as source:
            read = timed(lambda: [str(row.fields["id"]) for row in source], count)
    print(
        f"measured here: merge {1e6 * merge:.1f} us a line, key {1e6 * key:.1f} us, a file {1e6 * files:.0f} us, "
        f"a row read {1e6 * read:.1f} us, and of"
    )
    print(f"the one in the middle {1e6 * carry:.0f} us a row without Ray's share")
    return replace(costs, merge=merge, read=read)


# Figures of real runs


@dataclass(frozen=True)
class Run:
    """A line of the table of `distributed.py --part nodes`."""

    way: Way
    workers: int
    rows: int
    rows_per_second: float


# Of one run of it, on a 2-core machine that others used too; median call 2.0 s, sigma 0.3, as that prints.
RUNS = [Run("cluster", 1, 1500, 133.0), Run("cluster", 2, 3000, 266.0), Run("cluster", 3, 4500, 397.0)]


def check(costs: Costs) -> bool:
    """Print the model beside the real runs; True when each is within 15 % of it."""
    good = True
    for run in RUNS:
        plan = Plan(workers=run.workers, rpm=None, tpm=None, latency=2.0, spread=0.3, store="none")
        # `distributed.py` counts from the first call to the last one.
        calls, _ = seconds_of(run.rows, run.workers * plan.in_flight, plan.latency, plan.spread)
        bounds = [part for part in parts(plan, costs, run.way) if part.name != "latency"]
        seconds = max(calls, run.rows / bounds[0].rate)
        model = run.rows / seconds
        ratio = run.rows_per_second / model
        good &= 0.85 <= ratio <= 1.15
        said = f"model {model:,.0f} rows/s, real {run.rows_per_second:,.0f} ({ratio:.2f})"
        print(f"{run.way:<8} {run.workers} workers, {run.rows:,} rows: {said}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Plan):
        default = field.default
        kind = str if field.name == "store" else type(default) if isinstance(default, int) else float
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=default)
    parser.add_argument("--measure", action="store_true", help="take the costs of this machine")
    parser.add_argument("--table", action="store_true", help="jobs and fleets of all sizes, in short")
    parser.add_argument("--check", action="store_true", help="compare with real runs and nothing else")
    words = vars(parser.parse_args())
    measure, only_check, as_table = words.pop("measure"), words.pop("check"), words.pop("table")
    costs = measured(Costs()) if measure else Costs()
    if only_check:
        return 0 if check(costs) else 1
    for name in ("rpm", "tpm"):  # 0 is none
        words[name] = words[name] or None
    plan = Plan(**words)
    if as_table:
        table(plan, costs)
        return 0
    print(f"{plan.rows:,.0f} rows, {plan.workers} workers, median call {plan.latency} s, store: {plan.store}")
    for way in WAYS:
        told(plan, costs, way)
    return 0


if __name__ == "__main__":
    sys.exit(main())
