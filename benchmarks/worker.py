"""One client in a process of its own, told on stdin what to do, in lines of JSON; it answers each with a line.

    python benchmarks/worker.py PEER asyncio|uvloop [--unprimed]

`open` makes the client, `spend` makes calls and says what they took, `hold` keeps calls in flight and says how much
memory they take, `close` ends the client. Nothing else is in the process, so that its CPU time is the client's.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import importlib.metadata
import json
import os
import resource
import sys
from contextlib import AsyncExitStack
from typing import Any, TextIO

from measure import Spent, memory, prime, spend
from peers import PACKAGES, PEERS, Doing


class Worker:
    """The client under way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack = AsyncExitStack()
        self.doing: Doing = {}

    async def open(self, base: str, most: int, pieces: int) -> dict[str, Any]:
        self.doing = await self.stack.enter_async_context(PEERS[self.name](base, most, pieces))
        return {"can": list(self.doing)}

    async def spend(self, what: str, times: int, in_flight: int, warm: int = 0) -> dict[str, Any]:
        if warm:
            await self._spend(what, warm, in_flight)
        return dataclasses.asdict(await self._spend(what, times, in_flight))

    async def _spend(self, what: str, times: int, in_flight: int) -> Spent:
        if what in self.doing:
            return await spend(self.doing[what], times, in_flight)
        batch = self.doing["batch"]
        spent = await spend(lambda: batch(times, in_flight), 1, 1)
        spent.errors *= times
        return spent

    async def hold(self, times: int) -> dict[str, Any]:
        """Keep calls in flight until the server answers them all; the most memory before it does, in MiB."""
        gc.collect()
        before = most = memory()
        answered = asyncio.Event()

        async def one() -> None:
            try:
                await self.doing["call"]()
            finally:
                answered.set()

        calls = [asyncio.create_task(one()) for _ in range(times)]
        while not answered.is_set():
            await asyncio.sleep(0.1)
            if not answered.is_set():
                most = max(most, memory())
        done = await asyncio.gather(*calls, return_exceptions=True)
        failed = [repr(error)[:200] for error in done if error is not None]
        return {"before": before, "most": most, "errors": len(failed), "said": failed[0] if failed else ""}

    async def freeze(self) -> dict[str, Any]:
        """Tell the collector what an application with thousands of calls in flight may: to look less often."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)
        return {}

    async def peak(self) -> dict[str, Any]:
        return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}

    async def close(self) -> dict[str, Any]:
        await self.stack.aclose()
        return {}


async def serve(name: str, out: TextIO) -> None:
    worker = Worker(name)
    # Nothing is under way between two lines, so that a plain read may stop the loop.
    for line in sys.stdin:
        told = json.loads(line)
        try:
            answer = await getattr(worker, told.pop("do"))(**told)
        except Exception as error:  # noqa: BLE001  # told to who compares
            answer = {"failed": repr(error)[:300]}
        print(json.dumps(answer), file=out, flush=True)
    await worker.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="one client, told on stdin what to do")
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("loop", choices=["asyncio", "uvloop"])
    parser.add_argument("--unprimed", action="store_true")
    options = parser.parse_args()
    # Libraries print what they like.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if not options.unprimed:
        prime()
    try:
        version = importlib.metadata.version(PACKAGES.get(options.peer, options.peer))
        factory = asyncio.new_event_loop
        if options.loop == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
    except ImportError as missing:
        print(json.dumps({"missing": str(missing)}), file=out, flush=True)
        return
    print(json.dumps({"version": version}), file=out, flush=True)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(options.peer, out))


if __name__ == "__main__":
    main()
