"""The rows of a stream, whose results are written as they come; nothing is remembered for another run.

Memory is bounded, also where the input is a pipe that never ends: where results are written in the order of the input,
a row is not begun until those long before it are done. Imports input, tasks, records and totals; knows no client.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from itertools import islice

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.jobs.async_iter import in_thread, later
from aimlasync.bulk.jobs.dedupe import SharedCalls
from aimlasync.bulk.jobs.input_order import InOrder
from aimlasync.bulk.jobs.job_rows import check_row, repeated_id
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.journal.id_set import IdSet
from aimlasync.bulk.journal.record import Record
from aimlasync.bulk.journal.table_changes import Changes
from aimlasync.bulk.progress.quality import quality_of_job
from aimlasync.bulk.progress.totals import Totals
from aimlasync.bulk.tasks.result import Result
from aimlasync.bulk.tasks.tasks import Task


class StreamedRows:
    """Rows whose results go to `write`, one by one; with `in_order` in the order of the input.

    A file is read to its end first: raises InputError for what is wrong with it.
    """

    is_resumable = False
    changes: Changes | None = None
    same_job: str | None = None
    shared: SharedCalls | None = None

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
        self.source = source
        self.task = task
        task.name = source.name
        self.options = options
        self.totals = Totals(quality=quality_of_job(task.identity()))
        self._added = added
        self._write_one = write
        self._flush = flush
        ahead = max(1024, 8 * options.workers)
        self._order = InOrder[tuple[Result, Record]](ahead) if in_order else None
        # Where results come in any order their ids tell them apart. A pipe may never end, and is not remembered.
        self._names = IdSet() if task.own_ids and not in_order and source.can_reread else None
        if source.can_reread:
            self.totals.total = self.totals.left = source.survey(self._check, limit=options.limit).rows

    async def pending(self) -> AsyncGenerator[Row]:
        """Give all rows; those of a pipe are checked as they come."""
        again, order = self.source.can_reread, self._order
        rows = islice(self.source, self.options.limit)
        # A pipe may block, as a file that is copied, and calls in flight must go on meanwhile.
        async with aclosing(later(rows) if again and not self.source.may_wait else in_thread(rows)) as read:
            async for row in read:
                if not again:
                    self._check(row)
                if order is not None:
                    await order.room(row.number)
                yield row

    def write(self, result: Result, record: Record) -> None:
        """Write a result, and those that it held up."""
        if self._order is None or result.row is None:
            self._write(result, record)
        else:
            for ready in self._order.add(result.row.number, (result, record)):
                self._write(*ready)
        self._flush()

    def end_run(self) -> None:
        """Write the results that waited for rows that were not finished."""
        if self._order is not None:
            for ready in self._order.rest():
                self._write(*ready)
        self._flush()

    def _check(self, row: Row) -> None:
        name = check_row(row, self, self._added)
        if name is None:
            name = self.task.custom_id(row)
        if self._names is not None and not self._names.add(name):
            raise repeated_id(name, self.source, row.line)

    def _write(self, result: Result, record: Record) -> None:
        self._write_one(result, record)
        if result.row is not None and record.info is not None:
            self.totals.judge_row(result.row, self.options.gold, record.info.label)
