"""Clients side by side: each in a process of its own, in turn, against one server.

A contest is a number of rounds in which every client makes its calls, so that what disturbs the machine meets all of
them alike. The first calls of every round are not counted: they warm connections, codecs and caches. How many calls a
round has follows from how fast the client was before, so that all rounds take about as long.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import MESSAGES, MODEL
from peers import PEERS
from serving import Server, native_server

OURS = "aimlasync"
FLOOR = "floor"
LOOPS = ("asyncio", "uvloop")
TO_CALL = [
    "wrk",
    FLOOR,
    OURS,
    "raw aiohttp + json",
    "pyreqwest",
    "baseten",
    "AsyncOpenAI",
    "AsyncOpenAI, aiohttp",
    "litellm",
]

Key = tuple[str, str]


class MissingError(Exception):
    """A client, or what it needs, is not installed."""


class Contestant:
    """A client on a loop, in its process."""

    def __init__(self, name: str, loop: str, server: Server, python: str, *, primed: bool = True) -> None:
        self.name, self.loop = name, loop
        command = [python, str(Path(__file__).with_name("worker.py")), name, loop]
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        if server.authority is not None:
            environment["SSL_CERT_FILE"] = str(server.authority)
        self.process = subprocess.Popen(
            command if primed else [*command, "--unprimed"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        hello = self._read()
        if "missing" in hello:
            self.close()
            raise MissingError(hello["missing"])
        self.version = hello["version"]

    def ask(self, do: str, **told: Any) -> dict[str, Any]:
        """Tell the process to do something. Raises RuntimeError when it cannot."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **told}) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("its process ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Wrk(Contestant):
    """wrk, which parses nothing: what a call costs at least."""

    SCRIPT = 'wrk.method = "POST"\nwrk.body = {body}\nwrk.headers["Content-Type"] = "application/json"\n'

    def __init__(self) -> None:
        self.name, self.loop, self.version = "wrk", "asyncio", "-"
        self.base = ""
        self.program = shutil.which("wrk")
        if self.program is None:
            raise MissingError("not on PATH")

    def ask(self, do: str, **told: Any) -> dict[str, Any]:
        if do == "open":
            self.base = told["base"]
        return self._spend(told["in_flight"]) if do == "spend" else {"can": ["call"]}

    def _spend(self, in_flight: int) -> dict[str, Any]:
        body = json.dumps(json.dumps({"model": MODEL, "messages": MESSAGES}))
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(self.SCRIPT.format(body=body))
            script.flush()
            command = [str(self.program), "-t1", f"-c{in_flight}", "-d1s", "-s", script.name]
            with subprocess.Popen(
                [*command, f"{self.base}/chat/completions"], stdout=subprocess.PIPE, text=True
            ) as wrk:
                assert wrk.stdout is not None
                said = wrk.stdout.read()
                _, _, used = os.wait4(wrk.pid, 0)
                wrk.returncode = 0
        times = next(int(line.split()[0]) for line in said.splitlines() if "requests in" in line)
        errors = sum(int(line.split()[-1]) for line in said.splitlines() if "Non-2xx" in line)
        return {"cpu": used.ru_utime + used.ru_stime, "wall": 1.0, "times": times, "errors": errors, "said": ""}

    def close(self) -> None:
        """It ends by itself."""


@dataclass
class Contest:
    """What is compared: who does what, how many at a time, and how many pieces one doing has."""

    what: str
    route: str
    names: Sequence[str]
    in_flight: int
    tls: bool = False
    pieces: int = 1
    seconds: float = 0.4
    least: int = 1
    times: int | None = None
    """Of a round; None is what takes `seconds`."""
    rounds: int | None = None


@dataclass
class Taken:
    """What one client took, round by round: CPU seconds of one piece, and pieces a second."""

    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    errors: int = 0
    said: str = ""


@dataclass
class Arena:
    """The server, and the clients that were asked for."""

    server: Server
    options: argparse.Namespace
    primed: bool = True
    _found: dict[Key, Contestant | None] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    @property
    def quick(self) -> bool:
        return bool(self.options.quick)

    @property
    def rounds(self) -> int:
        return int(self.options.rounds or (3 if self.quick else 7))

    def svg(self, name: str) -> Path:
        self.options.output.mkdir(parents=True, exist_ok=True)
        path: Path = self.options.output / f"{name}.svg"
        return path

    def note(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            print(f"({text})", flush=True)

    def fresh(self, name: str, loop: str) -> Contestant | None:
        """A client in a new process, which is the caller's to close; None, and a note, where it is not installed."""
        python = dict(self.options.python).get(name, sys.executable)
        try:
            return Wrk() if name == "wrk" else Contestant(name, loop, self.server, python, primed=self.primed)
        except (MissingError, OSError, RuntimeError) as missing:
            self.note(f"left out: {name}{'' if name == 'wrk' else f' on {loop}'}: {missing}")
            return None

    def contestants(self, names: Sequence[str], loops: Sequence[str] = LOOPS) -> list[Contestant]:
        """The clients of these names that are installed, each on both loops; they last as long as the arena."""
        wanted = [(name, loop) for name in names for loop in loops if name != "wrk" or loop == "asyncio"]
        if self.options.peers:
            wanted = [(name, loop) for name, loop in wanted if name in (FLOOR, OURS, *self.options.peers)]
        wanted = [(name, loop) for name, loop in wanted if loop in self.options.loops]
        if self.quick:
            wanted = [
                (name, loop)
                for name, loop in wanted
                if loop == "asyncio" or name in (FLOOR, OURS, "raw aiohttp + json")
            ]
        for key in wanted:
            if key not in self._found:
                self._found[key] = self.fresh(*key)
        return [found for key in wanted if (found := self._found[key]) is not None]

    def close(self) -> None:
        for contestant in self._found.values():
            if contestant is not None:
                contestant.close()
        self._found.clear()

    def hold(self, contest: Contest, loops: Sequence[str] = LOOPS) -> dict[Key, Taken]:
        """Run the rounds and return what each client took."""
        taken: dict[Key, Taken] = {}
        playing: list[tuple[Contestant, int]] = []
        base = self.server.base(contest.route, tls=contest.tls)
        for one in self.contestants(contest.names, loops):
            try:
                can = one.ask("open", base=base, most=max(1024, contest.in_flight), pieces=contest.pieces)["can"]
                if contest.what not in can and not (contest.what == "call" and "batch" in can):
                    one.ask("close")
                    continue
                playing.append((one, contest.times or self._calibrated(one, contest)))
                taken[one.name, one.loop] = Taken()
            except RuntimeError as failed:
                self.note(f"left out: {one.name} on {one.loop}: {failed}")
        for _ in range(contest.rounds or self.rounds):
            for one, times in playing:
                warm = 0 if contest.times is not None else min(times, contest.in_flight)
                spent = one.ask("spend", what=contest.what, times=times, in_flight=contest.in_flight, warm=warm)
                pieces = spent.get("times", times) * contest.pieces
                row = taken[one.name, one.loop]
                row.cpu.append(spent["cpu"] / pieces)
                row.rate.append((pieces - spent["errors"] * contest.pieces) / spent["wall"])
                row.errors += spent["errors"]
                row.said = row.said or spent["said"]
        for one, _ in playing:
            one.ask("close")
        return taken

    def _calibrated(self, one: Contestant, contest: Contest) -> int:
        seconds = contest.seconds / 2 if self.quick else contest.seconds
        times = max(contest.in_flight, contest.least)
        for _ in range(2):
            spent = one.ask("spend", what=contest.what, times=times, in_flight=contest.in_flight)
        return max(contest.least, contest.in_flight, int(times / spent["wall"] * seconds))


def table(
    title: str, unit: str, taken: dict[Key, Taken], *, loops: Sequence[str] = LOOPS
) -> dict[str, dict[str, float]]:
    """Print CPU of a piece in microseconds, and how many times ours and the floor it is; return the medians."""
    print(
        f"\n{title}\n{'':<24}",
        *(f"{loop + ', ' + unit:>18}{'lowest':>8}{'of ours':>9}{'of floor':>9}" for loop in loops),
    )
    medians: dict[str, dict[str, float]] = {}
    for (name, loop), row in taken.items():
        medians.setdefault(name, {})[loop] = statistics.median(row.cpu) * 1e6
    for name, row_of in medians.items():
        cells = [f"{name:<24}"]
        for loop in loops:
            if loop not in row_of:
                cells.append(f"{'':>18}{'':>8}{'':>9}{'':>9}")
                continue
            lowest = min(taken[name, loop].cpu) * 1e6
            of = [
                f"{row_of[loop] / medians[one][loop]:.2f}x" if loop in medians.get(one, {}) else ""
                for one in (OURS, FLOOR)
            ]
            cells.append(f"{row_of[loop]:>18.1f}{lowest:>8.1f}{of[0]:>9}{of[1]:>9}")
        print(*cells)
    for (name, loop), row in taken.items():
        if row.errors:
            print(f"  {name} on {loop}: {row.errors} calls FAILED, the first with {row.said}")
    sys.stdout.flush()
    return medians


@contextmanager
def arena(options: argparse.Namespace) -> Iterator[Arena]:
    """Start the server and say what is measured on what."""
    with native_server() as server:
        print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, server: {server.kind}", flush=True)
        held = Arena(server, options)
        if server.tls_port is None:
            held.note("no TLS: trustme is not installed")
        try:
            yield held
        finally:
            held.close()


def parser(description: str | None, also: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The options that all benchmarks of clients have; `also` are names of clients that one of them has alone."""
    options = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    options.add_argument("--quick", action="store_true", help="fewer rounds, smaller numbers, rougher figures")
    options.add_argument("--rounds", type=int, help="7, or 3 with --quick")
    options.add_argument("--loops", type=_listed(LOOPS), default=LOOPS, help="asyncio,uvloop")
    options.add_argument("--peers", type=_listed([*PEERS, "wrk", *also]), help="NAME,NAME...: only these and aimlasync")
    options.add_argument("-o", "--output", type=Path, default=Path("benchmark-results"), help="where pictures go")
    options.add_argument(
        "--python", type=_pair([*PEERS, *also]), action="append", default=[], metavar="NAME=PATH",
        help="the interpreter for one client, such as litellm=.venv/peers/bin/python",
    )  # fmt: skip
    return options


def _listed(names: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        # One name has a comma.
        found = [name for name in sorted(names, key=len, reverse=True) if name in text]
        if not found:
            raise argparse.ArgumentTypeError(f"none of {', '.join(names)}")
        return found

    return parse


def _pair(names: Sequence[str]) -> Callable[[str], tuple[str, str]]:
    def parse(text: str) -> tuple[str, str]:
        name, _, path = text.partition("=")
        if name not in names or not path:
            raise argparse.ArgumentTypeError(f"not NAME=PATH with one of {', '.join(names)}")
        return name, path

    return parse


def main(run: Callable[[Arena], object], description: str | None) -> None:
    """What each benchmark of clients is as a command of its own."""
    with arena(parser(description).parse_args()) as held:
        run(held)
