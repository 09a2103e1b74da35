"""Runs the rows of a job in this process: each row through its task and a call, its result into the totals and out.

`LocalRunner` ties together the worker pool, `ask_row`, the stop rules and the caps; where rows come from and results go
is the `JobRows` of the job. A caller of the client, by its public names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.jobs.ask_one import Answerer, ClientAnswerer, ask_row
from aimlasync.bulk.jobs.caps import TokenCap
from aimlasync.bulk.jobs.job import Job, Seen
from aimlasync.bulk.jobs.stop_rules import STOP_GRACE, StopRules
from aimlasync.bulk.jobs.worker_pool import MAX_WAITING, WorkerPool
from aimlasync.bulk.journal.convert import record_of
from aimlasync.bulk.progress.progress import Activity, limited_by
from aimlasync.bulk.tasks.result import Result
from aimlasync.bulk.tasks.tasks import BatchTask
from aimlasync.cost.budget import Budget

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

# Seconds that calls in flight may go on after the deadline: they may be paid for already.
_DEADLINE_GRACE = 30.0


class LocalRunner:
    """Asks through `client`, or through an `answerer` in its place.

    `budget` and `token_cap` are those of a job that other processes share; without them they follow from its caps.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        answerer: Answerer | None = None,
        budget: Budget | None = None,
        token_cap: TokenCap | None = None,
    ) -> None:
        self._client = client
        self._answerer = answerer
        self._budget = budget
        self._token_cap = token_cap
        self._calls: ClientAnswerer | None = None
        self._pool: WorkerPool[Row, Result] | None = None

    async def run(self, job: Job, seen: Seen) -> None:
        """Ask about the pending rows of `job`."""
        rows, options, totals, ending = job.rows, job.options, job.totals, job.ending
        task, caps, client, loop = rows.task, options.caps, self._client, asyncio.get_running_loop()
        budget = caps.budget(totals.capped) if self._budget is None else self._budget
        calls = self._calls = ClientAnswerer(client, task.read, retry_invalid=options.retry_invalid, budget=budget)
        ask = calls.ask if self._answerer is None else self._answerer.ask
        if rows.shared is not None:
            ask = partial(rows.shared.ask, ask)
        token_cap = TokenCap(caps.max_tokens, totals) if self._token_cap is None else self._token_cap
        is_capped = token_cap.max_tokens is not None
        rules = StopRules(succeeded=totals.ok > 0, alike=not isinstance(task, BatchTask))
        is_read = task.read is not None
        timers: list[asyncio.TimerHandle] = []

        def take(result: Result) -> None:
            fatal = rules.check(result.error)
            # A result with the reply of an earlier call counts, because that was paid for.
            if fatal is None or result.reply is not None:
                record = record_of(result)
                totals.add_result(result, record, is_read=is_read)
                rows.write(result, record)
                seen(result, record)
            if fatal is not None and ending.stopped_by is None:
                ending.stopped_by = fatal
                stop(STOP_GRACE)
            if is_capped:
                token_cap.row_finished()

        def stop(grace: float) -> None:
            pool.stop()
            timers.append(loop.call_later(grace, pool.cancel))

        def stop_at_deadline() -> None:
            ending.capped_by = "deadline"
            stop(_DEADLINE_GRACE)

        pending: Iterator[Row | None] | AsyncIterator[Row | None] = rows.pending()
        pool = self._pool = WorkerPool(
            token_cap.admit(pending, ending) if is_capped else pending,
            lambda row: ask_row(row, task, ask),
            workers=options.workers,
            may_take=lambda: client.queued < MAX_WAITING,
            # No iteration, which could be cancelled between a result and its line in the journal.
            on_result=take,
        )
        if caps.deadline is not None:
            timers.append(loop.call_later(caps.deadline, stop_at_deadline))
        if ending.is_interrupted:
            # The interrupt came before there was a pool to stop.
            pool.stop()
        elif token_cap.is_used_up and not await token_cap.draw():
            ending.capped_by = "tokens"
            pool.stop()
        try:
            async with pool:
                await pool.wait()
        finally:
            for timer in timers:
                timer.cancel()

    def activity(self) -> Activity:
        """Return what is in flight, and what holds the job back."""
        pool, client = self._pool, self._client
        endpoints = [] if client.is_closed else client.statistics()
        held = None
        if pool is not None:
            is_short = self._calls is not None and self._calls.is_short_of_money
            held = "budget" if is_short else limited_by(endpoints, pool.in_flight, pool.workers)
        if self._answerer is not None:
            in_flight = 0 if pool is None else pool.in_flight
        else:
            in_flight = sum(endpoint.in_flight for endpoint in endpoints)
        return Activity(in_flight=in_flight, limits=() if held is None else (held,))

    def stop(self) -> None:
        """Take no further rows; calls in flight finish."""
        if self._pool is not None:
            self._pool.stop()

    def cancel(self) -> None:
        """Drop the calls in flight too."""
        if self._pool is not None:
            self._pool.cancel()
