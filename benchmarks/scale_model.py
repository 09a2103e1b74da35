"""A hundred machines and a hundred million rows, by arithmetic: how fast, how dear, and what breaks first.

    python benchmarks/scale_model.py [--workers 100] [--rows 1e8] [--rpm 300000] [--tpm 150000000] [--store redis] ...
    python benchmarks/scale_model.py --table     # 10^6, 10^8, 10^9 rows on 1 to 1,000 machines: what breaks first
    python benchmarks/scale_model.py --check     # the model beside real runs; exit code 1 beyond 15 %

Method: every part of a job on many machines has a rate that it can carry and a rate that is asked of it. The rates
that can be carried are costs measured on one processor of a busy 2-core virtual machine, most of them curves by a size
(`scale_costs.py`). The job runs as fast as its scarcest part, and what breaks next is the part with the least to spare.
How well a dataset's batches use their places, and the slow calls at the end of a job, are event simulations, seeded.

Three ways of running are told apart, because they break at different places:

    shards    `--shard i/n`, a journal on each machine, `merge` at the end
    cluster   `--ray`, one process that reads the input and keeps the journal
    dataset   `map_dataset`, each machine reads and writes its own blocks

`--check` runs jobs (`scale_runs.py`), measures the curves in turns with them, and compares: no run is a point of a
curve. What a machine is, and who else uses it, moves both.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Literal

from scale_costs import Asker, Costs

from aimlasync.quota.account import LEASES

Way = Literal["shards", "cluster", "dataset"]
WAYS: tuple[Way, ...] = ("shards", "cluster", "dataset")
ASKERS: dict[Way, Asker] = {"shards": "bulk", "cluster": "batch", "dataset": "batch"}


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
    store: Literal["none", "sqlite", "directory", "redis"] = "redis"
    """An SQLite file is for one machine."""
    file_rate: float = 4000.0
    """Files that a shared file system makes in a second."""
    inodes: float = 2e7
    """That it has for a store."""
    redis_memory: float = 64e9
    expires: float = 7 * 86_400.0
    """Seconds for which a Redis keeps an answer: `RedisStore(expires=)`."""
    disk: float = 1e12
    memory: float = 16e9
    """Of the machine that merges."""


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


def mean_latency(plan: Plan) -> float:
    return plan.latency * math.exp(plan.spread**2 / 2)


def recovery(plan: Plan, costs: Costs) -> float:
    """Return the seconds from the loss of a worker until the others send at the whole limit."""
    return plan.hold + costs.noticed


def kept(plan: Plan, costs: Costs, way: Way) -> float:
    """Return how many values the store has in the middle of the job."""
    return plan.rows / 2 * costs.values[ASKERS[way]]


def row_seconds(plan: Plan, costs: Costs, way: Way) -> float:
    """Return a worker's processor's seconds for a row that it asks about."""
    asker = ASKERS[way]
    own = costs.calls[asker, plan.store].at(kept(plan, costs, way))
    if plan.store == "directory":
        own += costs.values[asker] * costs.file
    if way == "shards":
        # A shard reads the rows of all shards.
        own += costs.read.at(plan.rows) * (plan.workers - 1)
    return own


def server_seconds(plan: Plan, costs: Costs, way: Way) -> float:
    """Return the processor's seconds of the Redis of a store for a row."""
    return costs.redis[ASKERS[way]].at(kept(plan, costs, way))


def parts(plan: Plan, costs: Costs, way: Way) -> list[Part]:
    """Return what the job goes through, the scarcest first."""
    mean = mean_latency(plan)
    share = batches(plan) if way == "dataset" else 1.0
    places = plan.batch * plan.at_once if way == "dataset" else plan.in_flight
    own = row_seconds(plan, costs, way)
    found = [
        Part(
            "latency", plan.workers * places * share / mean, f"{places} rows at work in a worker, {share:.0%} of them"
        ),
        Part("processors", plan.workers / own, f"{1e6 * own:.0f} us a row on each"),
    ]
    if plan.rpm is not None:
        # The parts of lost workers wait before others get them.
        lost = min(1.0, plan.kills / 3600 * recovery(plan, costs) / plan.workers)
        found.append(Part("requests per minute", plan.rpm / 60 * (1 - lost), f"{plan.rpm:,.0f} of the account"))
    if plan.tpm is not None:
        found.append(Part("tokens per minute", plan.tpm / 60 / plan.tokens, f"{plan.tokens:.0f} tokens a row"))
    if way == "cluster":
        found.append(Part("the one in the middle", 1 / costs.carry.at(plan.workers), "reads, sends and journals all"))
    if plan.store == "directory":
        found.append(Part("files made", plan.file_rate / costs.values[ASKERS[way]], "of a shared file system"))
    if plan.store == "redis":
        leases = leases_a_second(plan)
        left = max(1e-9, 1 - leases * costs.leases.at(plan.workers))
        found.append(Part("redis", left / server_seconds(plan, costs, way), f"{leases:,.0f} leases a second taken off"))
    return sorted(found, key=lambda part: part.rate)


def amounts(plan: Plan, costs: Costs, way: Way, rate: float) -> list[tuple[str, float, float]]:
    """Return what fills up at `rate` rows a second: name, the most that it takes, what there is."""
    size, values = plan.rows * plan.record, costs.values[ASKERS[way]]
    found = [("journal bytes", size, plan.disk)] if way != "dataset" else []
    if way == "shards":
        found.append(("bytes of memory to merge", plan.rows * costs.merge_bytes, plan.memory))
    if plan.store == "directory":
        found.append(("files of the store", values * plan.rows, plan.inodes))
    if plan.store == "redis":
        held = values * min(plan.rows, rate * plan.expires)
        found.append(("bytes of Redis", held * costs.bytes_kept["redis"], plan.redis_memory))
    if plan.store == "sqlite":
        found.append(("bytes of SQLite", values * plan.rows * costs.bytes_kept["sqlite"], plan.disk))
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
    return kills * held, kills * min(places, each * mean_latency(plan))


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
        load = leases * costs.leases.at(plan.workers) + first.rate * server_seconds(plan, costs, way)
        print(f"  redis            {leases:,.0f} leases/s, {load:.0%} of one processor")
    twice = f"{without:,.0f} rows paid twice, {with_one:,.0f} with a store"
    print(f"  kills            {plan.kills * seconds / 3600:,.0f}: {twice}")
    if plan.rpm is not None:
        share = 1 / plan.workers
        print(f"  each of them     {recovery(plan, costs):.0f} s without its {share:.1%} of the limit")
    if way == "shards":
        print(
            f"  merge            {plan.rows * costs.merge.at(plan.rows) / 60:,.0f} minutes at the end, on one processor"
        )
    for name, takes, there in amounts(plan, costs, way, first.rate):
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
                full = [
                    (there / takes, name)
                    for name, takes, there in amounts(this, costs, way, first.rate)
                    if takes > there
                ]
                breaks = "{1} at {0:.0%} of it".format(*min(full)) if full else f"nothing; next {second.name}"
                hours = rows / first.rate / 3600
                said = f"{first.rate:>8,.0f} {hours:>8,.1f}  {first.name:<22} {breaks}"
                print(f"{rows:>6.0e} {workers:>8,}  {way:<8} {said}")
    if plan.store == "redis":
        hour = replace(plan, rows=1e9, workers=100, expires=3600.0)
        rate = parts(hour, costs, "dataset")[0].rate
        takes = next(takes for name, takes, _ in amounts(hour, costs, "dataset", rate) if name == "bytes of Redis")
        print(f"answers that expire after an hour, at {rate:,.0f} rows/s: {takes:.2g} bytes of Redis, for any rows")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Plan):
        default = field.default
        kind = str if field.name == "store" else type(default) if isinstance(default, int) else float
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=default)
    parser.add_argument("--table", action="store_true", help="jobs and fleets of all sizes, in short")
    parser.add_argument("--check", action="store_true", help="run jobs and compare: ten minutes, and nothing else")
    words = vars(parser.parse_args())
    only_check, as_table = words.pop("check"), words.pop("table")
    if only_check:
        from scale_runs import check

        return check()
    costs = Costs()
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
