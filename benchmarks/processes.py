"""One job in one, two and three processes, of this machine and of a Ray cluster on it: what a row costs.

    python benchmarks/processes.py [--rows 20000] [--rounds 3] [--way workers|ray]

Method: the command `aimlasync bulk`, with `--workers N` or `--ray` on N nodes of one process each, from its start to
its end. The server answers at once, on the same processors: nginx, which leaves most of them to the job, or where it is
missing `server.py`, which is then what the job waits for. Workers take turns, round by round; Ray's clusters come one
after another. Processor time is that of the command and of the processes it began; of `--ray` the command alone, whose
nodes were there before. Every row must be in the output once, and asked about once. Exit code 1 when one is not, or
when two or three workers took longer than one in the best round of each. Needs for Ray: pip install -e '.[ray]'
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

from distributed import machines, write_rows
from serving import Server, native_server

from aimlasync.bulk.journal.record import decode_record

NUMBERS = (1, 2, 3)


def job(folder: Path, server: Server, rows: int, *more: str) -> tuple[float, float]:
    """Run the command; return its seconds, and its processor's seconds for a row."""
    asked = server.count()
    out = folder / "out.jsonl"
    words = [
        *("-m", "aimlasync", "bulk", str(folder / "rows.jsonl"), "-o", str(out), "--prompt", "{id}: say something.")
    ]
    began = time.monotonic()
    with open(folder / "said", "wb") as said:
        process = subprocess.Popen(
            [sys.executable, *words, "--id", "id", "--concurrency", "256", "--progress", "none", "--restart", *more],
            stdout=said,
            stderr=said,
        )
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "said").read_text()[-2000:]
    found = Counter(decode_record(line).custom_id for line in out.read_bytes().splitlines())
    assert found == Counter(f"r{n}" for n in range(rows)), "a row is missing, or there twice"
    assert server.count() - asked == rows, "a row was asked about twice"
    return seconds, (used.ru_utime + used.ru_stime) / rows


Runs = list[tuple[float, float]]


def told(way: str, rows: int, found: dict[int, Runs]) -> list[float]:
    """Print a line for each number of processes; return the least time of each, of one's: others only add to it."""
    ratios = []
    one = min(taken for taken, _ in found[1])
    for count, runs in found.items():
        seconds = min(taken for taken, _ in runs)
        ratios.append(seconds / one)
        spent = 1e6 * median(cost for _, cost in runs)
        took = f"{seconds:>8.1f} {rows / seconds:>8,.0f} {ratios[-1]:>7.2f} {spent:>8.0f}"
        print(f"{way:<8} {count:>9} {took}", flush=True)
    return ratios


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=["workers", "ray"])
    words = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name, native_server() as server:
        titles = f"{'way':<8} {'processes':>9} {'seconds':>8} {'rows/s':>8} {'of one':>7} {'us a row':>8}"
        print(f"{titles}   {words.rows:,} rows, {server.kind}")
        # Before Ray's nodes begin, which inherit it.
        os.environ["AIML_API_KEY"], os.environ["AIML_API_URL"] = "simulated", server.base("whole")
        folder = Path(name)
        write_rows(folder, words.rows)
        found: dict[int, Runs] = {count: [] for count in NUMBERS}
        if words.way != "ray":
            for _ in range(words.rounds):
                for count in NUMBERS:
                    found[count].append(job(folder, server, words.rows, "--workers", str(count)))
            good = max(told("workers", words.rows, found)) <= 1
        if words.way != "workers":
            for count in NUMBERS:
                # One cluster at a time: an idle one takes of the processors too.
                with machines(count, "cluster") as cluster:
                    ray = ("--ray", cluster.address)
                    found[count] = [job(folder, server, words.rows, *ray) for _ in range(words.rounds)]
            told("ray", words.rows, found)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
