"""A job's part in a worker process: its rows, its journal, and what it tells the parent.

Law: what the parent has checked is not checked again. The job's own journal is read and never written: what is done
there is not asked again. A parent that is gone is a Ctrl-C: calls in flight finish, and their answers stay in the part.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from aimlasync.budget import Budget
from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.input.shard import Shard
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.jobs.job import Job, Options
from aimlasync.bulk.journal.id_set import DoneSet
from aimlasync.bulk.journal.journal import Durability, Journal
from aimlasync.bulk.journal.part_files import identity_of_part, part_path
from aimlasync.bulk.journal.record import decode_glance
from aimlasync.bulk.tasks.result import Result
from aimlasync.bulk.tasks.tasks import EmptyTextError, Task
from aimlasync.bulk.workers.parent import Orders, Report
from aimlasync.errors import APIStatusError
from aimlasync.lease_server import Link, ServedQuota
from aimlasync.quota import Draw, QuotaDownError

if TYPE_CHECKING:
    from aimlasync.client import AsyncClient

# Seconds between two reports.
_REPORT = 0.25
# Rows of others that are skipped between two turns of the loop.
_SKIP = 5_000


class PartJob(Job):
    """The rows of `part` of the parent's job."""

    resumable = True

    def __init__(
        self,
        source: Source,
        task: Task,
        options: Options,
        *,
        part: Shard,
        orders: Orders,
        quota: ServedQuota,
        durability: Durability = "process",
    ) -> None:
        # Of tokens there are as many as were drawn so far.
        caps = replace(
            options.caps, max_tokens=None if orders.tokens is None else 0, deadline=orders.deadline, max_usd=None
        )
        super().__init__(source, task, replace(options, caps=caps))
        self._part = part
        self._orders = orders
        self._quota = quota
        self._spending: Budget | None = None
        self._done = DoneSet()
        self._read_done(orders.journal)
        path = part_path(orders.journal, part.index, part.count)
        self._journal = Journal.open(path, job=identity_of_part(path, orders.job), restart=True, durability=durability)
        for _ in self._journal.scan():
            pass

    async def run(self, client: AsyncClient, link: Link) -> None:
        """Ask about the part's rows, and tell the parent how it goes."""
        reporting = asyncio.create_task(self._tell(link))
        try:
            await self._drive(client, self._rows(), self._take)
        finally:
            reporting.cancel()
            with suppress(asyncio.CancelledError):
                await reporting
            self._journal.close()
        with suppress(QuotaDownError):
            await self._give_back()
            # An answer says that the parent has heard it.
            await link.ask("report", self._report(ended=True))

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def _take(self, result: Result) -> None:
        self._journal.append(self._count(result), is_line=True)

    async def _rows(self) -> AsyncGenerator[Row]:
        shard, part, done = self.options.shard, self._part, self._done
        skipped = 0
        for row in islice(self.source, self.options.limit):
            name = self.task.custom_id(row)
            # Salted: a machine's shard is cut by the same hash, and may not fall to one worker as a whole.
            if part.owns(f"{name}\0") and (shard is None or shard.owns(name)) and name not in done:
                yield row
                continue
            skipped += 1
            if skipped % _SKIP == 0:
                # The parent is heard, and nobody waits long.
                await asyncio.sleep(0)

    def _read_done(self, journal: str) -> None:
        """Learn what need not be asked, by the parent's rules."""
        failed: dict[str, str] = {}
        with open(journal, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                glance = decode_glance(line)
                if glance is None:
                    continue
                if glance.error is None:
                    self._done.add(glance.custom_id)
                else:
                    failed[glance.custom_id] = glance.error.code
        for name, code in failed.items():
            if self.options.keep_failed or code == EmptyTextError.__name__:
                self._done.add(name)

    def _budget(self) -> Budget | None:
        usd = self._orders.usd
        if usd is not None:
            self._spending = self._quota.budget(usd, prices=self.options.caps.prices)
        return self._spending

    async def _more_tokens(self) -> bool:
        caps = self.options.caps
        if caps.max_tokens is None:
            return False
        if not self.tally.replies and self._busy:
            # The first one goes alone.
            return False
        each = self.tokens / self.tally.replies if self.tally.replies else 1.0
        needs = max(1, math.ceil(self.tokens + (self._busy + 1) * each) - caps.max_tokens)
        drawn = await self._quota.draw(self._draw(caps.max_tokens, needs))
        self.options = replace(self.options, caps=replace(caps, max_tokens=caps.max_tokens + drawn))
        return drawn > 0

    async def _give_back(self) -> None:
        """Let the other workers have what this one did not need."""
        if self._spending is not None:
            await self._spending.give_back()
        if self._orders.tokens is not None:
            await self._quota.draw(self._draw(self.tokens, 0))

    def _draw(self, keeps: int, needs: int) -> Draw:
        assert self._orders.tokens is not None
        return Draw(worker=str(self._part), purse="tokens", total=self._orders.tokens, keeps=keeps, needs=needs)

    async def _tell(self, link: Link) -> None:
        while True:
            link.send("report", self._report(ended=False))
            await asyncio.sleep(_REPORT)

    def _report(self, *, ended: bool) -> Report:
        tally, now, error = self.tally, self.snapshot(), self.stopped_by
        return Report(
            ok=tally.ok,
            failed=tally.failed,
            tokens=self.tokens,
            cost_usd=tally.cost,
            in_flight=now.in_flight,
            limited_by=now.limited_by,
            attempts=tally.attempts,
            answered=tally.answered,
            truncated=tally.truncated,
            refused=tally.refused,
            seconds_answering=self.seconds_answering,
            ended=ended,
            stopped_by=None
            if error is None
            else (type(error).__name__, error.message, error.status if isinstance(error, APIStatusError) else None),
            capped_by=self.capped_by,
        )


async def orders_of(link: Link, part: Shard) -> Orders:
    """Say hello to the parent, and return what it says."""
    return msgspec.msgpack.decode(await link.ask("hello", part.index), type=Orders)
