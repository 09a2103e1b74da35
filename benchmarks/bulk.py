"""What bulk takes above the bare client: CPU of a row, memory of a million rows, and the time to go on.

    python benchmarks/bulk.py cpu [--rows 4000] [--rounds 25] [--in-flight 32] [--uvloop]
    python benchmarks/bulk.py memory [--rows 1000000] [--done 0] [--in-flight 64]
    python benchmarks/bulk.py resume [--rows 1000000] [--left 100]
    python benchmarks/bulk.py scan [--rows 1000000]
    python benchmarks/bulk.py done [--rows 10000000]

`cpu`: user + system time of this process (getrusage), the server (benchmarks/server.py) in another. `bare` is the
client asked by as many tasks as bulk has workers, `bulk` is `bulk.run` from a Batch file of JSONL to a new journal, all
it does included, its start and end too. They take turns, so that noise hits both alike; the first round warms up;
medians, and the lowest, which tell more on a machine whose speed changes while it measures.
`memory`: one job in a process of its own against the same server, so many of its rows done before it begins. The peak
(VmHWM) is compared with what the process has once all is imported and with what a bare interpreter has.
`resume`: `python -m aimlasync bulk` on a job with few rows left at its end, from the start of the process to the first
call, by the simulator's clock.
`scan`: how fast a resumed job reads its journal, totals and the set of what is done included; lines of 1 KB.
`done`: memory and time of `IdSet` for so many ids.
The files of `memory`, `resume` and `scan` are made anew in a temporary directory and take 1.5 GB at a million rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODEL = "gpt-5-nano"
TEXT = "Route to: support / billing / sales. Input: My card was charged twice."


def status(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    raise LookupError(name)


BARE = status("VmRSS")

import msgspec  # noqa: E402  # after the bare interpreter was measured
from answers import TEXT as ANSWER  # noqa: E402
from answers import completion_body  # noqa: E402
from measure import cpu, prime  # noqa: E402
from serving import canned_server  # noqa: E402

from aimlasync import AsyncClient, Limits, bulk  # noqa: E402
from aimlasync.bulk.input.source import open_source  # noqa: E402
from aimlasync.bulk.jobs.journaled import JournaledRows  # noqa: E402
from aimlasync.bulk.journal.id_set import IdSet  # noqa: E402
from aimlasync.bulk.journal.record import Facts, Record, Response, encode_record  # noqa: E402


def name_of(number: int) -> str:
    return f"request-{number:08}"


def write_input(path: Path, rows: int, model: str = MODEL) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": TEXT}]})
    with path.open("w") as file:
        for number in range(rows):
            head = f'{{"custom_id": "{name_of(number)}", "method": "POST", "url": "/v1/chat/completions", "body": '
            file.write(f"{head}{body}}}\n")


def write_journal(path: Path, input_path: Path, rows: int, model: str | None = None) -> None:
    """The journal of a job whose first `rows` are done."""
    source = open_source(str(input_path))
    JournaledRows(source, bulk.BatchTask(model=model), bulk.Options(), journal=str(path)).close()
    source.close()
    with path.open("ab") as file:
        file.writelines(lines(rows))


def lines(rows: int) -> Iterator[bytes]:
    body = msgspec.Raw(completion_body())
    for number in range(rows):
        facts = Facts(
            at=1754672127.123, seconds=0.8123, first_byte=0.4123, queued=0.0012, limited=0.0, attempts=1,
            endpoint="127.0.0.1", model=MODEL, tokens_in=12, tokens_out=96,
        )  # fmt: skip
        response = Response(status_code=200, request_id=f"req_{number:024}", body=body)
        name = name_of(number)
        yield encode_record(Record(id=f"id-{number:025}", custom_id=name, response=response, info=facts)) + b"\n"


def show(title: str, facts: dict[str, str]) -> None:
    print(f"\n{title}, Python {sys.version.split()[0]}")
    for name, value in facts.items():
        print(f"  {name:<34}{value:>14}")


async def bare(client: AsyncClient, rows: int, in_flight: int) -> float:
    messages: Any = [{"role": "user", "content": TEXT}]
    left = iter(range(rows))

    async def worker() -> None:
        for _ in left:
            reply = await client.chat.completions.create(model=MODEL, messages=messages, priority="bulk")
            assert reply.text == ANSWER

    before = cpu()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (cpu() - before) / rows


async def whole(client: AsyncClient, input_path: Path, folder: Path, rows: int, in_flight: int) -> float:
    output = folder / "out.jsonl"
    before = cpu()
    summary = await bulk.run(client, input_path, output, options=bulk.Options(concurrency=in_flight))
    spent = cpu() - before
    assert summary.totals.ok == rows
    os.unlink(output)
    os.unlink(f"{output}.manifest")
    return spent / rows


async def measure_cpu(options: argparse.Namespace, base: str, folder: Path) -> None:
    input_path = folder / "requests.jsonl"
    write_input(input_path, options.rows)
    spent: dict[str, list[float]] = {"bare": [], "bulk": []}
    async with AsyncClient(api_key="bench", base_url=base, limits=Limits(concurrency=1024)) as client:
        for number in range(options.rounds + 1):
            one = await bare(client, options.rows, options.in_flight)
            other = await whole(client, input_path, folder, options.rows, options.in_flight)
            if number:
                spent["bare"].append(one)
                spent["bulk"].append(other)
    medians = {name: statistics.median(values) * 1e6 for name, values in spent.items()}
    above = [(other - one) * 1e6 for one, other in zip(spent["bare"], spent["bulk"], strict=True)]
    loop = type(asyncio.get_running_loop()).__module__
    show(
        f"CPU of a row, {options.in_flight} in flight, {options.rounds} rounds of {options.rows:,}, {loop}",
        {
            "bare call": f"{medians['bare']:.1f} us",
            "row of bulk": f"{medians['bulk']:.1f} us",
            "lowest bare call": f"{min(spent['bare']) * 1e6:.1f} us",
            "lowest row of bulk": f"{min(spent['bulk']) * 1e6:.1f} us",
            "ratio of medians": f"{medians['bulk'] / medians['bare']:.3f}",
            "bulk adds, median of rounds": f"{statistics.median(above):.1f} us",
            "the difference of the lowest": f"{(min(spent['bulk']) - min(spent['bare'])) * 1e6:.1f} us",
        },
    )


def run_loop(main: Any, uvloop: bool) -> Any:
    if uvloop:
        import uvloop as other

        return other.run(main)
    return asyncio.run(main)


def of_cpu(options: argparse.Namespace) -> None:
    prime()
    with canned_server() as server, tempfile.TemporaryDirectory() as folder:
        run_loop(measure_cpu(options, server.base("whole"), Path(folder)), options.uvloop)


def of_memory(options: argparse.Namespace) -> None:
    if options.base is not None:
        asyncio.run(one_job(options))
        return
    with canned_server() as server, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_input(folder / "requests.jsonl", options.rows)
        if options.done:
            write_journal(folder / "out.jsonl", folder / "requests.jsonl", options.done)
        command = [sys.executable, __file__, "memory", "--base", server.base("whole"), "--folder", place]
        subprocess.run([*command, "--rows", str(options.rows), "--in-flight", str(options.in_flight)], check=True)


async def one_job(options: argparse.Namespace) -> None:
    imported, began, spent = status("VmRSS"), time.monotonic(), cpu()
    folder = Path(options.folder)
    async with AsyncClient(api_key="bench", base_url=options.base, limits=Limits(concurrency=1024)) as client:
        summary = await bulk.run(
            client,
            folder / "requests.jsonl",
            folder / "out.jsonl",
            options=bulk.Options(concurrency=options.in_flight),
        )
    seconds = time.monotonic() - began
    assert summary.totals.ok == options.rows
    asked = summary.totals.answered
    peak = status("VmHWM")
    show(
        f"Memory of a job, {options.in_flight} in flight",
        {
            "rows": f"{options.rows:,}",
            "asked in this run": f"{asked:,}",
            "bare interpreter": f"{BARE:.1f} MB",
            "all imported": f"{imported:.1f} MB",
            "peak": f"{peak:.1f} MB",
            "above all imported": f"{peak - imported:.1f} MB",
            "above the bare interpreter": f"{peak - BARE:.1f} MB",
            "time": f"{seconds:.1f} s",
            "CPU per row asked": f"{(cpu() - spent) / max(1, asked) * 1e6:.1f} us",
        },
    )


def of_resume(options: argparse.Namespace) -> None:
    from aimlasync.simulator import serve_in_thread

    model = "openai/gpt-5-nano-2025-08-07"
    with tempfile.TemporaryDirectory() as place, serve_in_thread() as sim:
        folder = Path(place)
        write_input(folder / "requests.jsonl", options.rows, model)
        write_journal(folder / "out.jsonl", folder / "requests.jsonl", options.rows - options.left, model)
        command = [sys.executable, "-m", "aimlasync", "bulk", str(folder / "requests.jsonl")]
        command += ["-o", str(folder / "out.jsonl"), "--base-url", sim.base_url, "--model", model]
        environment = {**os.environ, "AIML_API_KEY": "bench"}
        began = time.monotonic()
        subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
        ended = time.monotonic() - began
        assert len(sim.ledger) == options.left
        first = sim.ledger[0].time - began
        began = time.monotonic()
        subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
        nothing = time.monotonic() - began
        assert len(sim.ledger) == options.left
    show(
        f"Going on with a job of {options.rows:,} rows, {options.left:,} left",
        {
            "start to first call": f"{first:.1f} s",
            "start to end": f"{ended:.1f} s",
            "again, nothing left": f"{nothing:.1f} s",
        },
    )


def of_scan(options: argparse.Namespace) -> None:
    wall, spent = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # An input of one row: what is measured is the journal.
        write_input(folder / "requests.jsonl", 1)
        write_journal(folder / "out.jsonl", folder / "requests.jsonl", options.rows)
        size = (folder / "out.jsonl").stat().st_size / options.rows
        for _ in range(3):
            source = open_source(str(folder / "requests.jsonl"))
            began, before = time.monotonic(), cpu()
            rows = JournaledRows(source, bulk.BatchTask(), bulk.Options(), journal=str(folder / "out.jsonl"))
            wall.append(options.rows / (time.monotonic() - began))
            spent.append(options.rows / (cpu() - before))
            assert rows.totals.ok == options.rows
            rows.close()
            source.close()
    show(
        f"Scan of {options.rows:,} lines of {size:,.0f} bytes",
        {
            "with all that a job counts": f"{statistics.median(wall):,.0f} rows/s",
            "by CPU time": f"{statistics.median(spent):,.0f} rows/s",
        },
    )


def of_done(options: argparse.Namespace) -> None:
    if not options.child:
        subprocess.run([sys.executable, __file__, "done", "--rows", str(options.rows), "--child"], check=True)
        return
    before, began = status("VmRSS"), time.monotonic()
    done = IdSet()
    for number in range(options.rows):
        done.add(name_of(number))
    seconds = time.monotonic() - began
    peak = status("VmHWM")
    assert name_of(0) in done
    assert name_of(options.rows) not in done
    show(
        f"IdSet of {options.rows:,} ids",
        {
            "peak above before": f"{peak - before:.1f} MB",
            "per id": f"{(peak - before) * 2**20 / options.rows:.2f} bytes",
            "to add one": f"{seconds / options.rows * 1e6:.2f} us",
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU, memory and speed of bulk jobs")
    figures = parser.add_subparsers(dest="figure", required=True)
    figure = figures.add_parser("cpu")
    figure.add_argument("--rows", type=int, default=4000)
    figure.add_argument("--rounds", type=int, default=25)
    figure.add_argument("--in-flight", type=int, default=32)
    figure.add_argument("--uvloop", action="store_true")
    figure.set_defaults(run=of_cpu)
    figure = figures.add_parser("memory")
    figure.add_argument("--rows", type=int, default=1_000_000)
    figure.add_argument("--done", type=int, default=0)
    figure.add_argument("--in-flight", type=int, default=64)
    figure.add_argument("--base", help=argparse.SUPPRESS)
    figure.add_argument("--folder", help=argparse.SUPPRESS)
    figure.set_defaults(run=of_memory)
    figure = figures.add_parser("resume")
    figure.add_argument("--rows", type=int, default=1_000_000)
    figure.add_argument("--left", type=int, default=100)
    figure.set_defaults(run=of_resume)
    figure = figures.add_parser("scan")
    figure.add_argument("--rows", type=int, default=1_000_000)
    figure.set_defaults(run=of_scan)
    figure = figures.add_parser("done")
    figure.add_argument("--rows", type=int, default=10_000_000)
    figure.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    figure.set_defaults(run=of_done)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
