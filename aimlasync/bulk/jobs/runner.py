"""Runs the rows of a job in this process: it makes the call of each row, adds the result to the totals and writes it.

`LocalRunner` ties together the worker pool, the calls, the stop rules and the caps; where rows come from and results go
is the `JobRows` of the job. `stop` lets calls in flight finish, and `cancel` drops them. It uses the client by its
public names, and may import input, tasks, journal, progress and this room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.jobs.ask_one import Answerer, ClientAnswerer, MoreMoney, at_once
from aimlasync.bulk.jobs.caps import RowCap, row_caps
from aimlasync.bulk.jobs.job import Job, Seen
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.jobs.probes import probing
from aimlasync.bulk.jobs.stop_rules import PATIENCE, STOP_GRACE, StopRules, is_to_come_back
from aimlasync.bulk.jobs.valued import complete
from aimlasync.bulk.jobs.worker_pool import MAX_WAITING, WorkerPool
from aimlasync.bulk.journal.convert import record_of
from aimlasync.bulk.progress.progress import Activity, limited_by
from aimlasync.bulk.progress.totals import BY_THE_DAY
from aimlasync.bulk.tasks.result import Result
from aimlasync.bulk.tasks.tasks import BatchTask, EmptyTextError, empty_result
from aimlasync.cost.budget import Budget
from aimlasync.errors import AimlasyncError, ClientClosedError
from aimlasync.resilience.retry import retry_after_of

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

# After the deadline calls in flight may go on, since they may be paid for already: a share of its time, within bounds
# in seconds.
_GRACE_SHARE, _LEAST_GRACE, _MOST_GRACE = 0.1, 2.0, 30.0


class LocalRunner:
    """Asks through `client`, or through an `answerer` in its place.

    `budget`, `claim` and `row_caps` are those of a job that other processes share; without them they follow from its
    caps.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        answerer: Answerer | None = None,
        budget: Budget | None = None,
        claim: MoreMoney | None = None,
        row_caps: list[RowCap] | None = None,
    ) -> None:
        self._client = client
        # What is drained when the job stops: a copy of the client, made for each run.
        self._sending: AsyncClient | None = None
        self._answerer = answerer
        self._budget = budget
        self._claim = claim
        self._row_caps = row_caps
        self._calls: ClientAnswerer | None = None
        self._pool: WorkerPool[Row, Result] | None = None

    async def run(self, job: Job, seen: Seen | None) -> None:
        """Ask about the pending rows of `job`."""
        rows, options, totals, ending = job.rows, job.options, job.totals, job.ending
        task, caps, prices, loop = rows.task, options.caps, options.caps.prices, asyncio.get_running_loop()
        client = self._sending = _copy(self._client, options)
        budget = caps.budget(totals.capped) if self._budget is None else self._budget
        calls = self._calls = ClientAnswerer(
            client, task.read, retry_invalid=options.retry_invalid, budget=budget, claim=self._claim
        )
        ask = calls.ask if self._answerer is None else self._answerer.ask
        if rows.shared is not None:
            ask = partial(rows.shared.ask, ask)
        all_caps = row_caps(caps, totals) if self._row_caps is None else self._row_caps
        caps_of_rows = [cap for cap in all_caps if cap.limit is not None]
        pending: Iterator[Row | None] | AsyncIterator[Row | None] = rows.pending()
        can_probe = not isinstance(pending, AsyncIterator)
        rules = StopRules(succeeded=totals.ok > 0, alike=not isinstance(task, BatchTask), probes=can_probe)
        if not isinstance(pending, AsyncIterator):
            pending = probing(pending, rows.pending, rules)
        is_read = task.read is not None
        timers: list[asyncio.TimerHandle] = []

        def take(row: Row, result: Result) -> None:
            result.row, error = row, result.error
            if error is not None and error.retryable and result.reply is None and client.is_drained:
                # The job has stopped, and the row was not sent again: it is left to the next run.
                return
            fatal = None
            if error is not None or not rules.is_calm:
                fatal = rules.check(error, row.number, is_shared=result.shared_with is not None)
            # A result with the reply of an earlier call counts, because that was paid for.
            if fatal is None or result.reply is not None:
                record = record_of(result)
                if (facts := record.info) is not None and (facts.tokens_in is None or prices):
                    complete(facts, result, prices)
                totals.add_result(result, record, is_read=is_read)
                rows.write(result, record)
                if seen is not None:
                    seen(result, record)
            if fatal is not None and ending.stopped_by is None:
                end(fatal)
                stop(STOP_GRACE)
            for cap in caps_of_rows:
                cap.row_finished()

        def end(error: AimlasyncError) -> None:
            ending.stopped_by = error
            wait = retry_after_of(error)
            if is_to_come_back(error) and wait is not None:
                ending.resume_at = time.time() + wait

        def do(row: Row) -> Awaitable[Result]:
            try:
                return ask(task.request(row))
            except EmptyTextError as error:
                return at_once(empty_result(task, row, error))

        def stop(grace: float) -> None:
            self.stop()
            timers.append(loop.call_later(grace, pool.cancel))

        def stop_at_deadline() -> None:
            ending.capped_by = "deadline"
            assert caps.deadline is not None
            stop(min(_MOST_GRACE, max(_LEAST_GRACE, caps.deadline * _GRACE_SHARE)))

        for cap in caps_of_rows:
            pending = cap.admit(pending, ending)
        pool = self._pool = WorkerPool(
            pending,
            do,
            workers=options.workers,
            may_take=lambda: client.takes_more(MAX_WAITING) and not rules.is_waiting,
            # No iteration, which could be cancelled between a result and its line in the journal.
            on_result=take,
            # What a drained client has not sent is left to the next run.
            unsent=(ClientClosedError,),
        )
        if caps.deadline is not None:
            timers.append(loop.call_later(caps.deadline, stop_at_deadline))
        if ending.is_interrupted:
            # The interrupt came before there was a pool to stop.
            pool.stop()
        for cap in caps_of_rows:
            if cap.is_used_up and not await cap.draw():
                ending.capped_by = cap.name
                pool.stop()
        try:
            async with pool:
                await pool.wait()
        finally:
            for timer in timers:
                timer.cancel()
        if rules.doubt is not None and not rules.succeeded and ending.stopped_by is None and not ending.is_interrupted:
            # There was no row elsewhere that could have shown that it was the fault of these. Where others were
            # answered before, the job is done and these have failed: rows that hang are always the last to end.
            end(rules.doubt)
        if ending.capped_by in BY_THE_DAY:
            ending.resume_at = totals.day.ends

    def activity(self) -> Activity:
        """Return what is in flight, and what holds the job back."""
        pool, client = self._pool, self._client
        if self._answerer is not None:
            activity = self._answerer.activity()
            if pool is not None and pool.in_flight >= pool.workers:
                # Its processes would send more if the job took more rows at a time.
                activity.limits = ["concurrency" if each == "input" else each for each in activity.limits]
            return activity
        known = client.statistics()
        endpoints = [] if client.is_closed else known
        held = None
        if pool is not None:
            is_short = self._calls is not None and self._calls.is_short_of_money
            at_store = 0 if client.cache is None else client.cache.waiting
            held = "budget" if is_short else limited_by(endpoints, pool.in_flight, pool.workers, at_store)
        in_flight = sum(endpoint.in_flight for endpoint in endpoints)
        # Where one limit is learned for all models, each of them says the same.
        learned = tuple(dict.fromkeys(one.learned for each in known for one in each.models if one.learned))
        return Activity(in_flight=in_flight, limits=() if held is None else (held,), learned=learned)

    def stop(self) -> None:
        """Take no further rows and send nothing more; calls in flight finish."""
        if self._pool is not None:
            self._pool.stop()
        if self._sending is not None:
            self._sending.drain()
        if self._claim is not None:
            # Who waits finds the client drained.
            self._claim.settle(True)
        if self._answerer is not None:
            self._answerer.drain()

    def cancel(self) -> None:
        """Drop the calls in flight too."""
        if self._pool is not None:
            self._pool.cancel()


def _copy(client: AsyncClient, options: Options) -> AsyncClient:
    """Return the client as a job uses it: with a bound of its own for each call, and longer waits than a person has."""
    retry = msgspec.structs.replace(client.retry, max_retry_after=max(PATIENCE, client.retry.max_retry_after))
    timeout = client.timeout
    if options.timeout is not None:
        timeout = msgspec.structs.replace(timeout, attempt=options.timeout)
    return client.with_options(retry=retry, timeout=timeout)
