"""--workers N: the same command in N processes, each with a part of the rows, and what Ctrl-C does to them.

A worker gets its part and its parent's address from the environment, and everything else from the parent's command
line; its stderr is the parent's. It runs in a session of its own, so that Ctrl-C on the terminal reaches the parent
alone. The parent then sends all workers "stop" (calls in flight finish), and at a second Ctrl-C "cancel" (they are
dropped). A worker whose parent is gone ends within `_GRACE` seconds: calls in flight may finish until then, and all
others, such as those that wait for a lease that nobody would grant, are dropped.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import click
import msgspec

from aimlasync.bulk.input.shard import Shard
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.tasks.tasks import Task
from aimlasync.bulk.workers.child import Worker, orders_of
from aimlasync.bulk.workers.parent import WorkerProcesses
from aimlasync.cli.ctrl_c import on_interrupt
from aimlasync.cli.job_options import JobOptions, priced
from aimlasync.cli.options import Server, WrongUseError, open_client
from aimlasync.quota.protocol import QuotaDownError
from aimlasync.quota.server import ServedQuota

_PART = "AIMLASYNC_PART"
# The key of click's context under which the arguments of the command are kept, for the workers.
ARGUMENTS = "aimlasync.arguments"
# Seconds that calls in flight have when the parent is gone.
_GRACE = 5.0


def own_part() -> tuple[Shard, str] | None:
    """Return the part of this process and where its parent listens, None in a process that is no worker."""
    part, _, address = os.environ.get(_PART, "").partition(" ")
    return (Shard.parse(part), address) if part else None


def worker_processes(flags: JobOptions, file: str) -> WorkerProcesses | None:
    """Return the workers that are asked for, None for this process alone. Raises WrongUseError."""
    if flags.workers is None:
        return None
    if file == "-" or not os.path.isfile(file):
        raise WrongUseError("--workers: every worker reads FILE for itself, and this is none; write it to a file first")
    if flags.dedupe:
        raise WrongUseError("--workers and --dedupe: identical rows may be in different workers; use one of them")
    if flags.workers == 1 or flags.dry_run:
        return None
    arguments: Sequence[str] = click.get_current_context().meta[ARGUMENTS]

    async def start(index: int, count: int, address: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aimlasync",
            *arguments,
            env={**os.environ, _PART: f"{index}/{count} {address}"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            # In a session of its own a worker gets no Ctrl-C from the terminal.
            start_new_session=True,
        )

    return WorkerProcesses(flags.workers, start)


async def run_part(
    part: Shard,
    address: str,
    source: Source,
    task: Task,
    options: Options,
    flags: JobOptions,
    server: Server,
    *,
    models: set[str],
    shared: Callable[[], Any] | None = None,
) -> int:
    """Run this process as a worker, whose limits are those of `shared` or its parent's, and return the exit code."""
    worker: Worker | None = None
    messages: list[str] = []

    def on_message(kind: str, body: bytes = b"") -> None:
        # The link also reports the parent's end, as a message without a kind, which stops the worker.
        messages.append(kind)
        if worker is not None and (kind == "cancel" or not worker.job.ending.is_interrupted):
            worker.job.interrupt()
            if kind == "cancel":
                worker.job.interrupt()
        if kind == "":
            asyncio.get_running_loop().call_later(_GRACE, on_message, "cancel")

    def on_signal(number: int) -> None:
        # A second signal, or one after the parent's end, drops the calls in flight.
        on_message("cancel" if "signal" in messages or "" in messages else "stop")
        messages.append("signal")

    quota = ServedQuota(address, hear=on_message)
    leases = quota if shared is None else shared()
    limits = flags.limits
    limits = msgspec.structs.replace(limits, concurrency=limits.share(part.index, part.count).concurrency)
    try:
        link = await quota.connect()
        orders = await orders_of(link, part)
        async with open_client(server, limits=limits, quota=leases if limits.is_rated else None) as client:
            options = replace(priced(options, await flags.prices(client, models)), concurrency=limits.concurrency)
            worker = Worker(
                client, source, task, options, part=part, orders=orders, quota=quota, durability=flags.durability
            )
            try:
                if messages:
                    on_message(messages[-1])
                with on_interrupt(on_signal):
                    await worker.run(link)
            finally:
                worker.close()
    except QuotaDownError:
        # The parent ended before this worker had begun.
        return 1
    finally:
        await quota.close()
        await leases.close()
    return 0
