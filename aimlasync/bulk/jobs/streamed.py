"""A job that writes results as they come, and remembers nothing.

Law: bounded memory, also where the input is a pipe that never ends: where results are written in the order of the
input, a row waits until those long before it are done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.jobs.async_iter import in_thread
from aimlasync.bulk.jobs.input_order import InOrder
from aimlasync.bulk.jobs.job import Job, Options, Seen, ignore
from aimlasync.bulk.journal.record import Record
from aimlasync.bulk.tasks.prompt import as_text
from aimlasync.bulk.tasks.result import Result
from aimlasync.bulk.tasks.tasks import Task

if TYPE_CHECKING:
    from aimlasync.client import AsyncClient


class StreamJob(Job):
    """A job whose results go to `write`, one by one; with `in_order` in the order of the input."""

    def __init__(
        self,
        source: Source,
        task: Task,
        options: Options,
        *,
        write: Callable[[Result, Record], None],
        flush: Callable[[], object],
        in_order: bool = True,
        added: Collection[str] = (),
    ) -> None:
        super().__init__(source, task, options, added=added)
        self._write = write
        self._flush = flush
        self._in_order = in_order
        if source.again:
            self.total = source.survey(self.check, limit=options.limit).rows

    async def run(self, client: AsyncClient, seen: Seen = ignore) -> None:
        """Ask about every row. An error of the input, which a stream shows late, is raised once all else is written."""
        order = InOrder[tuple[Result, Record]](max(1024, 8 * self.workers)) if self._in_order else None

        def write(result: Result, record: Record) -> None:
            self._write(result, record)
            row, label = result.row, record.info.label if record.info is not None else None
            if self.options.gold is not None and row is not None and label is not None:
                self.tally.judge(as_text(row.fields.get(self.options.gold)), label)

        def take(result: Result) -> None:
            record = self._count(result)
            if order is None or result.row is None:
                write(result, record)
            else:
                for ready in order.add(result.row.number, (result, record)):
                    write(*ready)
            self._flush()
            seen(result, record)

        try:
            await self._drive(client, self._admitted(order), take)
        finally:
            if order is not None:
                for ready in order.rest():
                    write(*ready)
            self._flush()

    async def _admitted(self, order: InOrder[tuple[Result, Record]] | None) -> AsyncGenerator[Row]:
        async with aclosing(self._rows()) as rows:
            async for row in rows:
                if not self.source.again:
                    self.check(row)
                if order is not None:
                    await order.room(row.number)
                yield row

    async def _rows(self) -> AsyncGenerator[Row]:
        rows = islice(self.source, self.options.limit)
        if self.source.again:
            for row in rows:
                yield row
            return
        # A pipe may be slow, and calls in flight must go on meanwhile.
        async with aclosing(in_thread(rows)) as read:
            async for row in read:
                yield row
