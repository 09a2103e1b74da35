"""A job in several processes: the worker's side.

`Worker` runs the rows of one part with the runner of any job, and reports to the parent. What the parent has checked is
not checked again; the job's own journal is read and never written, and what is done there is not asked again. A parent
that is gone is like a Ctrl-C: calls in flight finish, and their answers stay in the part's journal. It may import the
rooms of bulk that `jobs` may import, `jobs`, and `quota`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.input.shard import Shard
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.jobs.caps import Caps, request_cap, token_cap
from aimlasync.bulk.jobs.dedupe import SharedCalls
from aimlasync.bulk.jobs.job import Job
from aimlasync.bulk.jobs.job_rows import is_final, pending_rows
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.jobs.runner import LocalRunner
from aimlasync.bulk.journal.id_set import IdSet
from aimlasync.bulk.journal.journal import Durability, Journal
from aimlasync.bulk.journal.part_files import identity_of_part, part_path
from aimlasync.bulk.journal.record import Record, decode_glance
from aimlasync.bulk.journal.table_changes import Changes
from aimlasync.bulk.progress.totals import Totals
from aimlasync.bulk.tasks.content import contents_of
from aimlasync.bulk.tasks.result import Result
from aimlasync.bulk.tasks.tasks import Task
from aimlasync.bulk.workers.messages import Orders, Report
from aimlasync.bulk.workers.money import Claim
from aimlasync.errors import APIStatusError
from aimlasync.quota.protocol import Draw, QuotaDownError
from aimlasync.quota.server import Link, ServedQuota

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

# Seconds between two reports.
_REPORT = 0.25
RUN = 8
"""Rows that follow each other and are in the same part."""


class PartRows:
    """The rows of `part` of the parent's job, whose results go to the part's own journal."""

    is_resumable = True
    changes: Changes | None = None
    same_job: str | None = None
    shared: SharedCalls | None = None

    def __init__(
        self, source: Source, task: Task, options: Options, part: Shard, orders: Orders, durability: Durability
    ) -> None:
        self.source = source
        self.task = task
        task.name = source.name
        columns: Sequence[str] = getattr(task, "columns", ())
        self._content_of = contents_of(columns) if columns else None
        self.totals = Totals()
        self._options = options
        self._part = part
        self._done = _done_ids(orders.journal, options)
        path = part_path(orders.journal, part.index, part.count)
        self._journal = Journal.open(path, job=identity_of_part(path, orders.job), durability=durability)
        # What a worker answered that died, in whose place this one is; rows that failed are for the next run.
        for _, glance in self._journal.scan():
            self._done.add(glance.custom_id)

    def pending(self) -> Iterator[Row | None]:
        """Give the rows of the part that are not done; None now and then while rows are skipped."""
        index, count = self._part.index - 1, self._part.count
        return pending_rows(
            self.source,
            self.task,
            self._options,
            done=self._done,
            part=lambda number: number // RUN % count == index,
        )

    def write(self, result: Result, record: Record) -> None:
        """Append the record of a result."""
        if (content_of := self._content_of) is not None and result.row is not None and record.info is not None:
            record.info.content = content_of(result.row)
        self._journal.append(record)

    def end_run(self) -> None:
        """Hand over to the operating system what is waiting."""
        self._journal.flush()

    def close(self) -> None:
        """Close the journal; the parent takes it in."""
        self._journal.close()


class Worker:
    """This process's part of a job: the `job`, and the reports to the parent."""

    def __init__(
        self,
        client: AsyncClient,
        source: Source,
        task: Task,
        options: Options,
        *,
        part: Shard,
        orders: Orders,
        quota: ServedQuota,
        durability: Durability = "process",
    ) -> None:
        self._client = client
        self._part = part
        self._orders = orders
        self._quota = quota
        client.start_from(orders.learned, share=1 / part.count)
        self._rows = rows = PartRows(source, task, options, part, orders, durability)
        self.was_told = False
        """Whether a signal has ended it."""
        totals, name = rows.totals, orders.tokens_cap
        # The caps grow by what is drawn from the share of all workers.
        row_caps = [
            token_cap(
                name,
                None if orders.tokens is None else 0,
                totals,
                a_row_before=orders.tokens_a_row,
                draw=self._draw_tokens,
            ),
            request_cap(
                None if orders.requests is None else 0,
                totals,
                used=lambda: totals.attempts,
                draw=self._draw_requests,
            ),
        ]
        self._budget = None if orders.usd is None else quota.budget(orders.usd, prices=options.caps.prices)
        self.claim = None if self._budget is None else Claim(self._budget)
        self.job = Job(
            rows,
            replace(options, caps=Caps(deadline=orders.deadline, prices=options.caps.prices)),
            LocalRunner(client, budget=self._budget, claim=self.claim, row_caps=row_caps),
        )

    async def run(self, link: Link) -> None:
        """Ask about the part's rows, and report to the parent."""
        if self.claim is not None:
            self.claim.link = link
        reporting = asyncio.create_task(self._keep_reporting(link))
        try:
            await self.job.run()
        finally:
            reporting.cancel()
            with suppress(asyncio.CancelledError):
                await reporting
            self._rows.close()
        with suppress(QuotaDownError):
            await self._give_back()
            # The parent's answer confirms that it has the last report.
            await link.ask("report", self._report(ended=True))

    def close(self) -> None:
        """Close the journal; harmless more than once."""
        self._rows.close()

    async def _give_back(self) -> None:
        """Return to the other workers what this one drew and did not use."""
        if self._budget is not None:
            await self._budget.give_back()
        if self._orders.tokens is not None:
            await self._draw_tokens(self.job.totals.tokens, 0)
        if self._orders.requests is not None:
            await self._draw_requests(self.job.totals.attempts, 0)

    async def _draw_tokens(self, keeps: int, needs: int) -> int:
        return await self._draw("tokens", self._orders.tokens or 0, keeps, needs)

    async def _draw_requests(self, keeps: int, needs: int) -> int:
        return await self._draw("requests", self._orders.requests or 0, keeps, needs)

    async def _draw(self, purse: str, total: int, keeps: int, needs: int) -> int:
        # A name of its own: what a worker held that died was perhaps spent, and stays drawn.
        worker = f"{self._part} {os.getpid()}"
        return await self._quota.draw(Draw(worker=worker, purse=purse, total=total, keeps=keeps, needs=needs))

    async def _keep_reporting(self, link: Link) -> None:
        while True:
            link.send("report", self._report(ended=False))
            await asyncio.sleep(_REPORT)

    def _report(self, *, ended: bool) -> Report:
        totals, now, error = self.job.totals, self.job.snapshot(), self.job.ending.stopped_by
        return Report(
            ok=totals.ok,
            failed=totals.failed,
            tokens=totals.tokens,
            cost_usd=totals.cost,
            in_flight=now.in_flight,
            limited_by=now.limited_by,
            attempts=totals.attempts,
            answered=totals.answered,
            flaws=totals.flaws,
            seconds_answering=totals.seconds_answering,
            ended=ended,
            was_told=self.was_told,
            stopped_by=None
            if error is None
            else (type(error).__name__, error.message, error.status if isinstance(error, APIStatusError) else None),
            resume_at=self.job.ending.resume_at,
            capped_by=self.job.ending.capped_by,
            learned=self._client.learned() if ended else None,
        )


async def orders_of(link: Link, part: Shard) -> Orders:
    """Register with the parent, and return its orders."""
    return msgspec.msgpack.decode(await link.ask("hello", part.index), type=Orders)


def _done_ids(journal: str, options: Options) -> IdSet:
    """Return which rows need not be asked about, by the rules of `JournaledRows`."""
    done = IdSet()
    failed: dict[str, str] = {}
    with open(journal, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            glance = decode_glance(line)
            if glance is None:
                continue
            if glance.error is None:
                done.add(glance.custom_id)
            else:
                failed[glance.custom_id] = glance.error.code
    for name, code in failed.items():
        if is_final(code, options):
            done.add(name)
    return done
