"""How long the event loop stands still while an answer arrives that is larger than any model sends.

    python benchmarks/giants.py

A reply with 50 MB of text, one with the log probabilities of 4,000 tokens and their 20 alternatives, one of a million
choices, a stream of 100,000 tiny events, and one of events with nothing in them. Beside the call are four tasks that
make ordinary ones, and one that does nothing but ask the loop for its next turn: the longest time between two of them
is what every other call had to wait, by the clock and in CPU time of the loop's thread, which other processes bend
less. `floor` reads the same bytes from a bare asyncio protocol and hands a reply to `msgspec.json.decode`, and a stream
to nobody. Each is in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

from answers import GIANTS, TEXT
from arena import LOOPS, Arena, main
from measure import MESSAGES, MODEL, cpu, prime
from serving import canned_server

SIZES = {
    "text": "50 MB of text",
    "logprobs": "84,000 log probabilities",
    "choices": "a million choices",
    "events": "100,000 events in one write",
    "empty events": "100,000 events without choices",
}


def run(held: Arena) -> None:
    title = "Longest pause of the loop during one giant answer"
    print(f"\n{title}")
    print(f"{'':<52}{'longest ms':>11}{'its CPU ms':>11}{'seconds':>9}{'CPU s':>8}{'MiB':>7}{'other calls':>13}")
    with canned_server() as server:
        for number, name in enumerate(GIANTS):
            for loop in (loop for loop in LOOPS[: 1 if held.quick else 2] if loop in held.options.loops):
                for who in ("floor", "aimlasync"):
                    found = [
                        child(who, loop, server.base("whole"), server.base(f"giant-{number}"), "events" in name)
                        for _ in range(1 if held.quick else 3)
                    ]
                    # The machine adds pauses of its own, and takes none away.
                    best = min(found, key=lambda each: float(each["pause_cpu"]))
                    label = f"{SIZES[name]}, {loop}, {who}"
                    print(
                        f"{label:<52}{best['pause'] * 1000:>11.1f}{best['pause_cpu'] * 1000:>11.1f}"
                        f"{best['seconds']:>9.2f}{best['cpu']:>8.2f}{best['peak']:>7.0f}{best['others']:>13,}"
                        f"  {best['said']}",
                        flush=True,
                    )


def child(*told: Any) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--child", json.dumps(told)], stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def one(who: str, whole: str, giant: str, is_stream: bool) -> dict[str, Any]:
    from aimlasync import AimlasyncError, AsyncClient, Limits

    loop = asyncio.get_running_loop()
    pauses = Pauses()
    others = 0

    async with (
        AsyncClient(api_key="bench", base_url=whole, limits=Limits(concurrency=64)) as client,
        AsyncClient(api_key="bench", base_url=giant, limits=Limits(concurrency=64)) as asked,
    ):

        async def call() -> None:
            nonlocal others
            while True:
                reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
                assert reply.text == TEXT
                others += 1

        async for _ in await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
            # A whole answer will do, to load what streams take.
            pass
        tasks = [loop.create_task(call()) for _ in range(4)]
        await asyncio.sleep(0.2)
        tasks.append(loop.create_task(pauses.tick()))
        await asyncio.sleep(0.1)
        pauses.forget()
        others = 0
        began, spent = time.perf_counter(), cpu()
        said = ""
        try:
            if who == "floor":
                said = await bare(giant, is_stream)
            elif is_stream:
                events = 0
                async for _ in await asked.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
                    events += 1
                said = f"{events:,} events"
            else:
                reply = await asked.chat.completions.create(model=MODEL, messages=MESSAGES)
                said = f"{len(reply.raw):,} bytes"
                del reply
        except AimlasyncError as error:
            said = repr(error)[:100]
        # So that the pause before the answer is one between two turns.
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {
            "pause": pauses.clock,
            "pause_cpu": pauses.cpu,
            "seconds": time.perf_counter() - began,
            "cpu": cpu() - spent,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "others": others,
            "said": said,
        }


class Pauses:
    """The longest time between two turns of the loop, by the clock and by the CPU time of the loop's thread."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.clock = self.cpu = 0.0

    async def tick(self) -> None:
        clock, spent = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0)
            now, used = time.perf_counter(), time.thread_time()
            self.clock, self.cpu = max(self.clock, now - clock), max(self.cpu, used - spent)
            clock, spent = now, used


async def bare(base: str, is_stream: bool) -> str:
    """Read the same bytes with as little as can be."""
    import msgspec

    loop = asyncio.get_running_loop()
    pieces: list[bytes] = []
    ended = loop.create_future()

    class Bare(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            pieces.append(data)
            if is_stream:
                if data.endswith(b"0\r\n\r\n"):
                    ended.set_result(None)
                return
            if len(pieces) == 1:
                head, _, _ = data.partition(b"\r\n\r\n")
                self.left = len(head) + 4 + int(head.rpartition(b" ")[2])
            self.left -= len(data)
            if self.left == 0:
                ended.set_result(None)

    host, _, rest = base.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    transport, _ = await loop.create_connection(Bare, name, int(port))
    transport.write(f"POST /{rest}/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    await ended
    transport.close()
    body = b"".join(pieces).partition(b"\r\n\r\n")[2]
    if not is_stream:
        msgspec.json.decode(body)
    return f"{len(body):,} bytes"


def be_child(told: list[Any]) -> None:
    who, loop, whole, giant, is_stream = told
    prime()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    factory = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(one(who, whole, giant, is_stream))), file=out, flush=True)


if __name__ == "__main__":
    if "--child" in sys.argv:
        words = argparse.ArgumentParser()
        words.add_argument("--child", type=json.loads)
        be_child(words.parse_args().child)
    else:
        main(run, __doc__)
