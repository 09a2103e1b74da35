"""--workers N: the same command in N processes, each with a part of the rows, and what Ctrl-C does to them.

A worker gets its part and its parent's address from `worker_process`, and everything else from the parent's command
line; its stderr is the parent's. It runs in a session of its own, so that Ctrl-C on the terminal reaches the parent
alone. The parent then sends all workers "stop" (calls in flight finish), and at a second Ctrl-C "cancel" (they are
dropped). A worker whose parent is gone ends within `GRACE` seconds: calls in flight may finish until then, and all
others, such as those that wait for a lease that nobody would grant, are dropped. The same command, run at once, waits
for that end.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import click
import msgspec

from aimlasync import event_loop
from aimlasync.bulk.input.compression import packing_of_path
from aimlasync.bulk.input.formats import format_of_path
from aimlasync.bulk.input.rows import Format
from aimlasync.bulk.input.shard import Shard
from aimlasync.bulk.output.streams import is_stream
from aimlasync.bulk.workers.child import RUN, Worker, orders_of
from aimlasync.bulk.workers.money import MORE, NONE
from aimlasync.bulk.workers.parent import GRACE, WorkerProcesses
from aimlasync.cli.ctrl_c import on_interrupt
from aimlasync.cli.errors import WrongUseError
from aimlasync.cli.job import AskedJob
from aimlasync.cli.job_options import JobOptions, priced
from aimlasync.cli.server import open_client
from aimlasync.cli.worker_process import PART, WorkerProcess
from aimlasync.client.pipeline import import_for_failures
from aimlasync.quota.protocol import QuotaDownError
from aimlasync.quota.server import ServedQuota

# Bytes of a line that are read at once.
_LINE = 2**20
# The key of click's context under which the arguments of the command are kept, for the workers.
ARGUMENTS = "aimlasync.arguments"


def own_part() -> tuple[Shard, str] | None:
    """Return the part of this process and where its parent listens, None in a process that is no worker."""
    part, _, address = os.environ.get(PART, "").partition(" ")
    return (Shard.parse(part), address) if part else None


def worker_processes(flags: JobOptions, files: Sequence[str], format_: Format | None) -> WorkerProcesses | None:
    """Start the workers that are asked for, no more than have rows where a glance at FILE says how many there are.

    None for this process alone. Raises WrongUseError.

    Called before anything is opened, so that the workers can be forks.
    """
    if flags.workers is None or own_part() is not None:
        return None
    if any(file == "-" or is_stream(file) for file in files):
        raise WrongUseError("--workers: every worker reads FILE for itself, and this is none; write it to a file first")
    if flags.dedupe:
        raise WrongUseError("--workers and --dedupe: identical rows may be in different workers; use one of them")
    enough = min(flags.limit or sys.maxsize, flags.workers * RUN)
    count = min(flags.workers, _most_rows(files, format_, enough=enough) // RUN + 1)
    if count <= 1 or flags.dry_run:
        return None
    arguments: Sequence[str] = click.get_current_context().meta[ARGUMENTS]
    # Forks share what was imported before, and this takes a tenth of a second.
    import aimlasync.transport.connection_pool  # noqa: F401

    import_for_failures()
    event_loop.fastest()
    # For the names of hosts.
    codecs.lookup("idna")
    first: list[WorkerProcess] = []
    for index in range(1, count + 1):
        first.append(WorkerProcess(index, count, arguments, siblings=first))

    def start(index: int, count: int) -> WorkerProcess:
        return WorkerProcess(index, count, arguments)

    return WorkerProcesses(first, start)


def _most_rows(files: Sequence[str], format_: Format | None, *, enough: int) -> int:
    """Return how many rows the files can have at most, or `enough` where that is not known from a few lines."""
    rows = 0
    for path in files:
        if (format_ or format_of_path(path)) not in ("csv", "tsv", "jsonl") or packing_of_path(path) is not None:
            return enough
        try:
            with open(path, "rb") as file:
                rows += sum(1 for _ in islice(iter(partial(file.readline, _LINE), b""), enough - rows))
        except OSError:
            # Whoever opens it says why not.
            return enough
        if rows >= enough:
            return enough
    return rows


async def run_part(part: Shard, address: str, asked: AskedJob, *, shared: Callable[[], Any] | None = None) -> int:
    """Run this process as a worker, whose limits are those of `shared` or its parent's, and return the exit code."""
    worker: Worker | None = None
    messages: list[str] = []

    def on_message(kind: str, body: bytes = b"") -> None:
        # The link also reports the parent's end, as a message without a kind, which stops the worker.
        if kind in (MORE, NONE):
            if worker is not None and worker.claim is not None:
                worker.claim.settle(kind == MORE)
            return
        messages.append(kind)
        if worker is not None and (kind == "cancel" or not worker.job.ending.is_interrupted):
            worker.job.interrupt()
            if kind == "cancel":
                worker.job.interrupt()
        if kind == "":
            asyncio.get_running_loop().call_later(GRACE, on_message, "cancel")

    def on_signal(number: int) -> None:
        # A second signal, or one after the parent's end, drops the calls in flight.
        on_message("cancel" if "signal" in messages or "" in messages else "stop")
        messages.append("signal")
        if worker is not None:
            worker.was_told = True

    flags = asked.flags
    quota = ServedQuota(address, hear=on_message)
    leases = quota if shared is None else shared()
    limits = flags.limits
    limits = msgspec.structs.replace(limits, concurrency=limits.share(part.index, part.count).concurrency)
    try:
        link = await quota.connect()
        orders = await orders_of(link, part)
        held, store = leases if limits.is_rated else None, flags.kept_answers()
        async with open_client(asked.server, limits=limits, quota=held, store=store) as client:
            options = priced(asked.options, await flags.prices(client, asked.models))
            worker = Worker(
                client,
                asked.source,
                asked.task,
                replace(options, concurrency=limits.concurrency),
                part=part,
                orders=orders,
                quota=quota,
                durability=flags.durability,
            )
            try:
                worker.was_told = "signal" in messages
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
