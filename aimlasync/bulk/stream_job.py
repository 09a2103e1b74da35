"""A job that writes rows as they become complete, in the order of the input, and remembers nothing.

Law: bounded memory, also where the input is a pipe that never ends: a row waits until those long before it are done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from aimlasync.bulk.classify import Result
from aimlasync.bulk.feed import in_thread
from aimlasync.bulk.job import Job, Plan
from aimlasync.bulk.labels import as_text
from aimlasync.bulk.order import InOrder
from aimlasync.bulk.output import Writer
from aimlasync.bulk.rows import Row
from aimlasync.bulk.source import Source

if TYPE_CHECKING:
    from aimlasync.client import AsyncClient


class StreamJob(Job):
    """A job whose output is a stream."""

    def __init__(self, source: Source, plan: Plan, file: BinaryIO) -> None:
        super().__init__(source, plan)
        self._file = file
        if source.again:
            self.total = source.survey(lambda row: plan.check(source, row), limit=plan.limit).rows

    async def run(self, client: AsyncClient, seen: Callable[[Result], None]) -> None:
        """Ask about every row. An error of the input, which a stream shows late, is raised once all else is written."""
        order = InOrder(max(1024, 8 * self.plan.concurrency))
        writer = Writer(self._file, self.plan.format, self.source.columns, self.plan.label_column)

        def write(result: Result) -> None:
            writer.write(result.row, result.label)
            if result.label is not None and self.plan.gold is not None:
                self.tally.gold[as_text(result.row.fields.get(self.plan.gold)).strip(), result.label] += 1

        def take(result: Result) -> None:
            for ready in order.add(result):
                write(ready)
            self._file.flush()
            seen(result)

        try:
            await self._drive(client, self._admitted(order), take)
        finally:
            for result in order.rest():
                write(result)
            self._file.flush()

    async def _admitted(self, order: InOrder) -> AsyncGenerator[Row]:
        async with aclosing(self._rows()) as rows:
            async for row in rows:
                if not self.source.again:
                    self.plan.check(self.source, row)
                await order.room(row.number)
                yield row

    async def _rows(self) -> AsyncGenerator[Row]:
        rows = islice(self.source, self.plan.limit)
        if self.source.again:
            for row in rows:
                yield row
            return
        # A pipe may be slow, and calls in flight must go on meanwhile.
        async with aclosing(in_thread(rows)) as read:
            async for row in read:
                yield row
