"""A bulk job that is killed over and over, and gone on with to its end: what is lost, and what is paid twice.

    python benchmarks/crash.py [--rows 24000] [--kills 200] [--concurrency 64] [--seed 1]

Method: a simulator in this process, `python -m aimlasync bulk` in another, which is killed (SIGKILL) at random moments:
most while it asks, some while it starts and reads what is there, some while it drains after Ctrl-C. In between it is
interrupted once or twice (SIGINT, SIGTERM), and now and then the journal's last line is torn at a random byte. Some
rows are refused twice (400), some meet a busy server once or too often (503), and five are refused for ever. Every run
is the same command; the last ones are let be until no row fails but those five.

The ledger of the simulator is the judge: an `extra call` is one that was not answered with an error and whose answer is
not in the journal. Exit code 1 when a claim is broken:

    every row has exactly one line, and its own whole answer in it (the five: their error)
    extra calls of a kill <= in flight + 256, the largest batch that is not yet written
    extra calls of a Ctrl-C = 0, of a second one <= in flight; of a torn line = 1
    no row that is done is undone, and no run ends but as it was told to
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

import msgspec

from aimlasync.bulk.journal.record import Record
from aimlasync.simulator import Fault, Latency, Simulator, serve_in_thread
from aimlasync.simulator.vendor.request import SimRequest

MODEL = "openai/gpt-5-nano-2025-08-07"
BATCH = 256
"""Lines that a journal holds back at most."""
REFUSED_FOR_EVER = 5

End = Literal["start", "kill", "drain-kill", "interrupt", "twice", "term", "none"]

ENDS: dict[End, int] = {"kill": 70, "start": 15, "drain-kill": 15, "interrupt": 6, "twice": 6, "term": 3}

_decode = msgspec.json.Decoder(Record).decode


def text_of(name: str) -> str:
    return f"{name}: my card was charged twice for the same invoice, and nobody answers."


def answer_to(text: str) -> str:
    return f"Noted, {text} " * 6


class Trouble:
    """How often each row is still to fail."""

    def __init__(self, rows: int) -> None:
        self.refused = {f"r{n}": 2 for n in range(17, rows, 97)}
        self.busy = {f"r{n}": 1 if n % 2 else 5 for n in range(40, rows, 211)}
        step = max(1, rows // REFUSED_FOR_EVER)
        self.for_ever = {f"r{n}" for n in range(step // 2, rows, step)} - self.refused.keys() - self.busy.keys()

    def faults(self) -> list[Fault]:
        return [
            Fault("status", status=400, message="not this one", match=lambda asked: name_of(asked) in self.for_ever),
            Fault("status", status=400, message="not yet", match=self._takes(self.refused)),
            Fault("status", status=503, match=self._takes(self.busy)),
        ]

    @staticmethod
    def _takes(left: dict[str, int]) -> Callable[[SimRequest], bool]:
        def takes(asked: SimRequest) -> bool:
            name = name_of(asked)
            if not left.get(name):
                return False
            left[name] -= 1
            return True

        return takes


def name_of(asked: SimRequest) -> str:
    return asked.text.partition(":")[0]


@dataclass
class Campaign:
    """The job, its runs and what was found."""

    rows: int
    kills: int
    concurrency: int
    random: Random
    folder: Path
    sim: Simulator
    trouble: Trouble
    ends: Counter[str] = field(default_factory=Counter)
    tears: int = 0
    extra: dict[str, list[int]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.input = self.folder / "requests.jsonl"
        self.output = self.folder / "out.jsonl"
        with self.input.open("w") as file:
            for number in range(self.rows):
                name = f"r{number}"
                body = {"messages": [{"role": "user", "content": text_of(name)}], "metadata": {"custom_id": name}}
                line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
                file.write(json.dumps(line) + "\n")

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "aimlasync", "bulk", str(self.input), "-o", str(self.output), "--model", MODEL]
        command += ["--base-url", self.sim.base_url, "--concurrency", str(self.concurrency)]
        environment = {**os.environ, "AIML_API_KEY": "bench"}
        with (self.folder / "stderr").open("w") as said:
            return subprocess.Popen(command, stdout=said, stderr=said, text=True, env=environment)

    def run(self, end: End) -> int:
        """One run, its end, and what it cost."""
        before, asked = self.done, len(self.sim.ledger)
        process = self.start()
        try:
            if end == "start":
                self._sleep(process, self.random.uniform(0.0, 1.0))
            elif end != "none":
                self._ask_a_while(process, asked)
            if end in ("interrupt", "twice", "drain-kill"):
                process.send_signal(signal.SIGINT)
            if end in ("twice", "drain-kill"):
                self._sleep(process, self.random.uniform(0.0, 0.03))
            if end == "twice":
                process.send_signal(signal.SIGINT)
            elif end == "term":
                process.terminate()
            elif end in ("start", "kill", "drain-kill"):
                process.kill()
            code = process.wait(300)
        finally:
            process.kill()
            process.wait()
        self._settle()
        self.done = self._done()
        self._judge_run(end, code, before, asked)
        return code

    def tear(self) -> None:
        """Cut the journal within its last line."""
        data = self.output.read_bytes() if self.output.exists() else b""
        if not data:
            return
        begins = data.rfind(b"\n", 0, len(data) - 1) + 1
        os.truncate(self.output, self.random.randrange(begins, len(data)))
        self.tears += 1
        # Only the line end may be gone: then the line still counts.
        self.done = self._done()

    def judge(self, code: int) -> dict[str, int]:
        """Look at the whole journal and the whole ledger."""
        lines = self.output.read_bytes().splitlines()
        names: Counter[str] = Counter()
        wrong = broken = 0
        for line in lines:
            try:
                record = _decode(line)
            except msgspec.DecodeError:
                broken += 1
                continue
            names[record.custom_id] += 1
            if record.custom_id in self.trouble.for_ever:
                wrong += record.error is None or record.error.status != 400
            elif record.error is not None or record.response is None:
                wrong += 1
            else:
                content = msgspec.json.decode(record.response.body)["choices"][0]["message"]["content"]
                wrong += content != answer_to(text_of(record.custom_id))
        good = sum(attempt.status in (0, 200) for attempt in self.sim.ledger)
        found = {
            "lines": len(lines),
            "unique": len(names),
            "missing": len({f"r{n}" for n in range(self.rows)} - names.keys()),
            "duplicates": names.total() - len(names),
            "broken lines": broken,
            "wrong answers": wrong,
            "calls": len(self.sim.ledger),
            "calls answered with an error": len(self.sim.ledger) - good,
            "extra calls": good - (self.rows - len(self.trouble.for_ever)),
        }
        killed = self.ends["start"] + self.ends["kill"] + self.ends["drain-kill"]
        most = killed * (self.concurrency + BATCH) + self.ends["twice"] * self.concurrency + self.tears
        for what in ("missing", "duplicates", "broken lines", "wrong answers"):
            self.claim(not found[what], f"{found[what]} {what}")
        self.claim(found["extra calls"] <= most, f"{found['extra calls']} extra calls, more than {most}")
        self.claim(code == (3 if self.trouble.for_ever else 0), f"the last run ended with {code}")
        return found

    def claim(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)

    def _ask_a_while(self, process: subprocess.Popen[str], asked: int) -> None:
        """Until its share of the rows was asked about, give or take, so that the rows last for all the kills."""
        left = self.rows - len(self.done)
        # Interrupts take rows too.
        share = left / (1 + 1.3 * (self.kills - self.ends["start"] - self.ends["kill"] - self.ends["drain-kill"]))
        goal = asked + 1 + self.random.uniform(0, 2 * share)
        self._wait(process, lambda: len(self.sim.ledger) >= goal)
        # Anywhere between two batches, which are 50 ms apart.
        self._sleep(process, self.random.uniform(0.0, 0.06))

    def _wait(self, process: subprocess.Popen[str], what: Callable[[], bool]) -> None:
        end = time.monotonic() + 120
        while not what() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)

    def _sleep(self, process: subprocess.Popen[str], seconds: float) -> None:
        if process.poll() is None:
            time.sleep(seconds)

    def _settle(self) -> None:
        """What was sent before the end arrives."""
        seen = -1
        while seen != (seen := len(self.sim.ledger)) or self.sim.admission.in_flight:
            time.sleep(0.01)

    def _done(self) -> set[str]:
        if not self.output.exists():
            return set()
        done = set()
        for line in self.output.read_bytes().split(b"\n"):
            try:
                record = _decode(line)
            except msgspec.DecodeError:
                continue
            if record.error is None:
                done.add(record.custom_id)
        return done

    def _judge_run(self, end: End, code: int, before: set[str], asked: int) -> None:
        good = sum(self.sim.ledger[n].status in (0, 200) for n in range(asked, len(self.sim.ledger)))
        extra = good - len(self.done - before)
        ended = code in (0, 3)
        self.claim(before <= self.done, f"{len(before - self.done)} done rows were undone by {end!r}")
        if end == "none" or ended:
            self.claim(ended, f"a run that was let be ended with {code}: {self._said()}")
            self.claim(extra == 0, f"{extra} extra calls of a run that was let be")
            self.ends["none"] += 1
            return
        if end == "drain-kill" and code != -9:
            # It was gone before the kill.
            end = "interrupt"
        most = {"interrupt": 0, "term": 0, "twice": self.concurrency}.get(end, self.concurrency + BATCH)
        # -2 and -15: the signal came when all was done and the interpreter was on its way out.
        expected = {"interrupt": (130, -2), "twice": (130, -2), "term": (143, -15)}.get(end, (-9,))
        self.claim(code in expected, f"{end!r} ended with {code}: {self._said()}")
        self.claim(extra <= most, f"{extra} extra calls of {end!r}, more than {most}")
        self.ends[end] += 1
        self.extra.setdefault(end, []).append(extra)

    def _said(self) -> str:
        return (self.folder / "stderr").read_text().strip()[-600:]


def campaign(options: argparse.Namespace, folder: Path) -> int:
    random, trouble = Random(options.seed), Trouble(options.rows)
    latency = Latency.of(ttft=0.02, spread=0.5)
    started = time.monotonic()
    with serve_in_thread(
        faults=trouble.faults(), latency=latency, answer=lambda asked: answer_to(asked.text), seed=options.seed
    ) as sim:
        job = Campaign(options.rows, options.kills, options.concurrency, random, folder, sim, trouble)
        runs = 0
        while job.ends["start"] + job.ends["kill"] + job.ends["drain-kill"] < options.kills:
            job.run(random.choices(list(ENDS), list(ENDS.values()))[0])
            runs += 1
            if random.random() < 0.15:
                job.tear()
            if options.progress and runs % 20 == 0:
                print(f"{runs} runs, {len(job.done):,} rows done, {time.monotonic() - started:.0f} s", file=sys.stderr)
            if job.ends["none"] > options.kills:
                job.claim(False, "the rows were done before the kills; give it more --rows")
                break
        code = -1
        for _ in range(12):
            code = job.run("none")
            runs += 1
            if len(job.done) == job.rows - len(trouble.for_ever):
                break
        found = job.judge(code)
    show(job, runs, found, time.monotonic() - started)
    return 1 if job.broken else 0


def show(job: Campaign, runs: int, found: dict[str, int], seconds: float) -> None:
    killed = [extra for end in ("start", "kill", "drain-kill") for extra in job.extra.get(end, [])]
    lines: list[tuple[str, str]] = [
        ("kills", f"{len(killed)}: {job.ends['kill']} asking, {job.ends['start']} starting, "
         f"{job.ends['drain-kill']} draining"),
        ("interrupts", f"{job.ends['interrupt']} SIGINT, {job.ends['twice']} twice, {job.ends['term']} SIGTERM"),
        ("torn lines", f"{job.tears}"),
        ("resumes", f"{runs - 1}"),
        ("rows", f"{job.rows:,}"),
        *((name, f"{count:,}") for name, count in found.items()),
        ("extra calls per kill", f"{statistics.fmean(killed or [0]):.1f} mean, {max(killed or [0])} max, "
         f"{job.concurrency + BATCH} allowed"),
        ("time", f"{seconds:.0f} s"),
    ]  # fmt: skip
    print(f"Python {sys.version.split()[0]}, {job.concurrency} in flight")
    for name, value in lines:
        print(f"{name:<30}{value}")
    for broken in job.broken:
        print(f"BROKEN: {broken}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill a bulk job over and over, and judge what is left")
    parser.add_argument("--rows", type=int, default=24_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--progress", action="store_true", help="Say how far it is, on stderr.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aimlasync-crash-") as folder:
        return campaign(options, Path(folder))


if __name__ == "__main__":
    raise SystemExit(main())
