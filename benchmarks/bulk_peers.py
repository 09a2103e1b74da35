"""A file of requests answered into a file: CPU and memory of a row, beside others who do it.

    python benchmarks/bulk_peers.py [--rows 20000] [--python flexllm=.venv/peers/bin/python]

Each client is in a process of its own, on asyncio, in turn, 32 calls in flight, against one server: user and system
time of the whole process by row, from the first read of the input to the last byte of the output, and the most memory
that it had above what it has with all imported. Medians of the rounds. `floor` reads a line, sends its body on a bare
asyncio protocol, decodes the reply and writes a line; `floor (calls alone)` makes the calls without files. So does
`aimlasync (calls alone)`: the row's cost above it is what a job adds. Who needs more than a millisecond a row has one
round. Each is used as its documentation says for files or many prompts; AsyncOpenAI has 32 tasks and a semaphore.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from answers import TEXT
from arena import FLOOR, OURS, Arena, arena, parser
from measure import MESSAGES, MODEL, cpu, memory, prime

IN_FLIGHT = 32
KEY = "bench"
ALONE = "calls alone"
FLOOR_ALONE, OURS_ALONE = f"{FLOOR} ({ALONE})", f"{OURS} ({ALONE})"
ONE_ROUND = 1e-3
"""CPU seconds of a row above which there is one round."""

Run = Callable[[str, Path, Path], Coroutine[Any, Any, None]]


async def calls_alone(call: Callable[[], Awaitable[Any]], source: Path, target: Path) -> None:
    with source.open("rb") as lines, target.open("wb") as out:
        asked = lines.readlines()
        numbers = iter(range(len(asked)))

        async def work() -> None:
            for _ in numbers:
                await call()

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        out.writelines(asked)


async def floor_alone(base: str, source: Path, target: Path) -> None:
    from peers import floor as bare

    async with bare(base, IN_FLIGHT, 1) as doing:
        await calls_alone(doing["call"], source, target)


async def aimlasync_alone(base: str, source: Path, target: Path) -> None:
    from aimlasync import AsyncClient, Limits

    async with AsyncClient(api_key=KEY, base_url=base, limits=Limits(concurrency=1024)) as client:

        async def call() -> None:
            await client.chat.completions.create(model=MODEL, messages=MESSAGES)

        await calls_alone(call, source, target)


async def floor(base: str, source: Path, target: Path) -> None:
    from peers import floor as bare

    async with bare(base, IN_FLIGHT, 1) as doing:
        with source.open("rb") as lines, target.open("wb") as out:

            async def work() -> None:
                for line in lines:
                    asked = json.loads(line)
                    await doing["call"]()
                    out.write(json.dumps({"custom_id": asked["custom_id"], "text": TEXT}).encode() + b"\n")

            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def aimlasync(base: str, source: Path, target: Path) -> None:
    from aimlasync import AsyncClient, Limits, bulk

    async with AsyncClient(api_key=KEY, base_url=base, limits=Limits(concurrency=1024)) as client:
        await bulk.run(client, source, target, options=bulk.Options(concurrency=IN_FLIGHT))


async def openai(base: str, source: Path, target: Path) -> None:
    from openai import AsyncOpenAI

    turn = asyncio.Semaphore(IN_FLIGHT)
    async with AsyncOpenAI(api_key=KEY, base_url=base) as client:
        with target.open("w") as out:

            async def one(asked: dict[str, Any]) -> None:
                async with turn:
                    reply = await client.chat.completions.create(**asked["body"])
                out.write(json.dumps({"custom_id": asked["custom_id"], "body": reply.to_dict()}) + "\n")

            await asyncio.gather(*(one(json.loads(line)) for line in source.open()))


async def flexllm(base: str, source: Path, target: Path) -> None:
    from flexllm import LLMClient

    client = LLMClient(base_url=base, api_key=KEY, model=MODEL, concurrency_limit=IN_FLIGHT)
    messages = [json.loads(line)["body"]["messages"] for line in source.open()]
    await client.chat_batch(messages, output_jsonl=str(target), show_progress=False)


async def async_batch_llm(base: str, source: Path, target: Path) -> None:
    from async_batch_llm import ProcessorConfig, llm, process_stream

    strategy = llm(f"openai-compatible:{MODEL}", base_url=base, api_key=KEY)
    config = ProcessorConfig(concurrency=IN_FLIGHT, max_queue_size=2 * IN_FLIGHT)
    prompts = (json.loads(line)["body"]["messages"][0]["content"] for line in source.open())
    with target.open("w") as out:
        async for result in process_stream(strategy, prompts, config=config):
            out.write(json.dumps({"custom_id": result.item_id, "text": result.output}) + "\n")


CLIENTS: dict[str, Run] = {
    FLOOR_ALONE: floor_alone,
    FLOOR: floor,
    OURS_ALONE: aimlasync_alone,
    OURS: aimlasync,
    "flexllm": flexllm,
    "AsyncOpenAI + semaphore": openai,
    "async-batch-llm": async_batch_llm,
}
WITHOUT = (FLOOR_ALONE, FLOOR, OURS_ALONE, OURS)
PACKAGES = dict.fromkeys(WITHOUT, "aimlasync") | {"AsyncOpenAI + semaphore": "openai"}


def run(held: Arena, rows: int = 20_000) -> None:
    if held.quick:
        rows = min(rows, 2_000)
    names = [name for name in CLIENTS if not held.options.peers or name in (*WITHOUT, *held.options.peers)]
    found: dict[str, list[dict[str, Any]]] = {}
    for number in range(held.options.rounds or (3 if held.quick else 5)):
        for name in names:
            if number and (name not in found or found[name][0]["cpu"] > ONE_ROUND):
                continue
            done = child(held, name, rows)
            if done is not None:
                found.setdefault(name, []).append(done)
    print(f"\n{rows:,} rows from a file to a file, {IN_FLIGHT} in flight, asyncio")
    print(f"{'':<26}{'us CPU a row':>14}{'of ours':>9}{'of floor':>9}{'MB above':>10}{'bytes a row':>13}")
    medians = {name: statistics.median(one["cpu"] for one in taken) for name, taken in found.items()}
    for name, taken in found.items():
        of = [f"{medians[name] / medians[one]:.2f}x" if one in medians else "" for one in (OURS, FLOOR_ALONE)]
        above = statistics.median(one["above"] for one in taken)
        print(
            f"{name:<26}{medians[name] * 1e6:>14.1f}{of[0]:>9}{of[1]:>9}{above:>10.1f}"
            f"{statistics.median(one['size'] for one in taken):>13.0f}"
        )


def child(held: Arena, name: str, rows: int) -> dict[str, Any] | None:
    """Run one client; None, and a note, where it is not installed or fails."""
    python = dict(held.options.python).get(name, sys.executable)
    words = [python, __file__, "--child", name, held.server.base("whole"), str(rows)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip().splitlines()
        held.note(f"left out: {name}: {why[-1] if why else f'exit {done.returncode}'}")
        return None
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def be_child(name: str, base: str, rows: int) -> None:
    prime()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    importlib.metadata.version(PACKAGES.get(name, name))
    with tempfile.TemporaryDirectory(prefix="aimlasync-bench-") as place:
        source, target = Path(place) / "in.jsonl", Path(place) / "out.jsonl"
        # A short job imports what the client needs, and warms its connections no more than the other's.
        for count in (IN_FLIGHT, rows):
            write(source, count)
            before, began = memory(), cpu()
            asyncio.run(CLIENTS[name](base, source, target))
            spent, peak = cpu() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            lines = sum(1 for _ in target.open("rb"))
            assert lines >= count, f"{lines} lines of {count}"
            size = target.stat().st_size / count
            for path in Path(place).iterdir():
                path.unlink()
    print(json.dumps({"cpu": spent / rows, "above": peak - before, "size": size}), file=out, flush=True)


def write(path: Path, rows: int) -> None:
    with path.open("w") as file:
        for number in range(rows):
            asked = {"custom_id": f"row-{number:07}", "method": "POST", "url": "/v1/chat/completions"}
            file.write(json.dumps({**asked, "body": {"model": MODEL, "messages": MESSAGES}}) + "\n")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        be_child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    words = parser(__doc__, also=list(CLIENTS))
    words.add_argument("--rows", type=int, default=20_000)
    options: argparse.Namespace = words.parse_args()
    with arena(options) as held:
        run(held, options.rows)


if __name__ == "__main__":
    main()
