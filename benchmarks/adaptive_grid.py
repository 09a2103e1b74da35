"""How well a client that is told no numbers uses servers of every kind: the grid of adaptive limits, in virtual time.

    python benchmarks/adaptive_grid.py [--seeds 31,32] [--groups queue "bucket, told"] [--cells] [--without] [--ramp]

Method: a closed loop of callers asks a server in virtual time (`tests/support/unknown_servers.py`), one after the other
of 274 (`tests/support/grid.py`). Goodput is a share of what the best fixed setting gets, refused a share of the
attempts, late those after five minutes. The knee is the number in flight at which a queue is just busy. `--cells`
prints each server; `--without` changes each constant of the law in turn and prints what breaks; `--ramp` prints how
long it takes to reach 95 % of limits from 1 to 1,000.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aimlasync.admission import adaptive, chance, knee, pace
from aimlasync.admission.adaptive import AdaptiveLimit
from tests.support.grid import grid, lognormal
from tests.support.unknown_servers import Cell, Run, Score, Server

CELLS = grid()

# Constant -> the value that stands for its absence.
WITHOUT = {
    "adaptive._SIGN": 1,
    "adaptive._VERDICT": 1,
    "knee.FEW": 2,
    "knee.MARGIN": 0.0,
    "knee._AHEAD": 8.0,
    "knee._AGAIN": 8.0,
    "knee._PAYS": 0.9,
    "knee._ROOM": 1.0,
    "knee._BRISK": 1e-6,
    "knee.LAST": 8,
    "knee._MANY": 16,
    "pace.MIN_RATE": 1.0,
    "pace._STEP": 1.0,
    "pace._CUT": 0.0,
    "pace.SECOND": 0.1,
    "pace._LONGEST": 1.0,
    "pace._CATCH_UP": 0.0,
    "chance._ALIKE": 1.0,
    "chance._ENOUGH": 1,
}
MODULES = {"adaptive": adaptive, "chance": chance, "knee": knee, "pace": pace}

Job = tuple[int, int, dict[str, float]]


def one(job: Job) -> Score:
    number, seed, changed = job
    before = {}
    for name, value in changed.items():
        constant = name.partition(".")[2]
        # A constant that another file imports is changed there too.
        for module in MODULES.values():
            if hasattr(module, constant):
                before[module, constant] = getattr(module, constant)
                setattr(module, constant, value)
    try:
        return Run(CELLS[number], AdaptiveLimit, seed).score()
    finally:
        for (module, constant), value in before.items():
            setattr(module, constant, value)


def mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def line(name: str, scores: list[Score]) -> str:
    return (
        f"{name:<36}{mean(score.goodput for score in scores):>8.3f}{mean(score.refused for score in scores):>9.2%}"
        f"{mean(score.knee for score in scores):>7.2f}{mean(score.p95 for score in scores):>7.2f}"
        f"{sum(score.timeouts for score in scores):>9}{mean(score.recovery for score in scores):>9.0f}"
        f"{mean(score.late for score in scores):>8.2%}"
    )


def table(pool: ProcessPoolExecutor, numbers: list[int], seeds: list[int], changed: dict[str, float]) -> list[str]:
    """Return one line for each group; of each group the cells' lines follow where they are asked for."""
    jobs: list[Job] = [(number, seed, changed) for number in numbers for seed in seeds]
    groups: dict[str, dict[int, list[Score]]] = {}
    for (number, _, _), score in zip(jobs, pool.map(one, jobs, chunksize=4), strict=True):
        groups.setdefault(CELLS[number].group, {}).setdefault(number, []).append(score)
    lines = []
    for group, cells in groups.items():
        lines.append(line(group, [score for scores in cells.values() for score in scores]))
        lines += ["  " + line(CELLS[number].name, scores) for number, scores in cells.items()]
    return lines


def ramp() -> None:
    print(f"{'limit':>6}{'0.2 s':>8}{'1 s':>8}{'5 s':>8}   seconds until 95 % is reached")
    for level in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        row = f"{level:>6}"
        for seconds in (0.2, 1.0, 5.0):
            best = [(0.0, level / (seconds + 0.02))]
            latency = lognormal(seconds, 0.3)

            def servers(level: float = level) -> list[Server]:
                return [Server(in_flight=level)]

            cell = Cell("", "", servers, latency, 40 + 30 * seconds, 0.0, best, callers=1200)
            row += f"{mean(Run(cell, AdaptiveLimit, seed).score().reached for seed in (31, 32)):>8.1f}"
        print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="the grid of adaptive limits")
    parser.add_argument("--seeds", default="31,32")
    parser.add_argument("--groups", nargs="*", default=[], metavar="GROUP")
    parser.add_argument("--cells", action="store_true")
    parser.add_argument("--without", action="store_true")
    parser.add_argument("--ramp", action="store_true")
    options = parser.parse_args()
    if options.ramp:
        ramp()
        return
    seeds = [int(seed) for seed in options.seeds.split(",")]
    groups = options.groups or {cell.group for cell in CELLS}
    numbers = [number for number, cell in enumerate(CELLS) if cell.group in groups]
    if not numbers:
        parser.error(f"no such group: one of {', '.join(dict.fromkeys(cell.group for cell in CELLS))}")
    changes: dict[str, dict[str, float]] = {"": {}}
    if options.without:
        changes |= {f"without {name}": {name: value} for name, value in WITHOUT.items()}
    with ProcessPoolExecutor(2) as pool:
        for title, changed in changes.items():
            print(
                f"{title:<36}{'goodput':>8}{'refused':>9}{'knee':>7}{'p95':>7}{'timeouts':>9}{'recovery':>9}{'late':>8}"
            )
            for text in table(pool, numbers, seeds, changed):
                if options.cells or not text.startswith("  "):
                    print(text, flush=True)


if __name__ == "__main__":
    main()
