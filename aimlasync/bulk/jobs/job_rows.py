"""Where the rows of a job come from and where their results go: what the runner needs to know of it.

`JobRows` is implemented by `journaled` (a file with a journal), `streamed` (a stream) and `workers.child` (a worker
process's part of a file). The filter of rows that are done and the check of a row stand here for all of them. Imports
input, tasks, journal records and totals; knows no client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator
from itertools import chain, islice
from typing import Protocol

from aimlasync.bulk.input.rows import InputError, Row, numbered_id
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.jobs.dedupe import SharedCalls
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.journal.id_set import IdSet
from aimlasync.bulk.journal.record import Record
from aimlasync.bulk.journal.table_changes import Changes
from aimlasync.bulk.progress.totals import Totals
from aimlasync.bulk.tasks.result import Result
from aimlasync.bulk.tasks.tasks import EmptyTextError, Task

# Rows that are skipped between two turns of the event loop, so that signals and messages are handled meanwhile.
_SKIPPED = 5_000
# Rows that are read at once. Read one by one between calls, each would find the processor's caches cold.
_AHEAD = 64


class JobRows(Protocol):
    """The rows of a job, and where their results go."""

    source: Source
    task: Task
    totals: Totals
    is_resumable: bool
    """Whether another run goes on where this one stopped."""
    changes: Changes | None
    """How the table differs from that of the last run, None where it does not."""
    same_job: str | None
    """Another journal, that has answers to the same requests, where this job has none."""
    shared: SharedCalls | None
    """The calls that serve more than one row, None where identical requests are each asked."""

    def pending(self) -> Iterator[Row | None] | AsyncIterator[Row]:
        """Give the rows to ask about; None is a pause, in which the event loop gets a turn."""

    def write(self, result: Result, record: Record) -> None:
        """Take the result of a row; it is in the totals already."""

    def end_run(self) -> None:
        """Write out what is held back, since no more results come."""


def pending_rows(
    source: Source,
    task: Task,
    options: Options,
    *,
    done: IdSet,
    part: Callable[[int], bool] | None = None,
) -> Iterator[Row | None]:
    """Give the rows of a file that are not `done`, in `options.shard` and in the `part` of this process, by its number.

    None is given now and then while rows are skipped, and while a file is copied.
    """
    shard, limit = options.shard, options.limit
    if not len(done) and part is None and shard is None and not source.may_wait:
        # The chain takes no time of its own, as a generator around the rows would.
        return chain.from_iterable(_all_rows(source, limit))

    def is_left(name: str) -> bool:
        return name not in done and (shard is None or shard.owns(name))

    def is_wanted(number: int) -> bool:
        # What a number tells is told before the row is read.
        return (part is None or part(number)) and (task.own_ids or is_left(numbered_id(number)))

    def left() -> Iterator[Row | None]:
        paused = number = 0
        chosen = source.chosen(is_wanted)
        while some := list(islice(chosen, 1 if source.may_wait else _AHEAD)):
            for row in some:
                last, number = number, row if isinstance(row, int) else row.number
                if limit is not None and number > limit:
                    return
                if not isinstance(row, int) and (not task.own_ids or is_left(task.custom_id(row))):
                    yield row
                    continue
                if number - paused >= _SKIPPED or number == last:
                    paused = number
                    yield None

    return left()


def _all_rows(source: Source, limit: int | None) -> Iterator[list[Row]]:
    rows = islice(source, limit)
    while ahead := list(islice(rows, _AHEAD)):
        yield ahead


def is_final(failure_code: str, options: Options) -> bool:
    """Whether a row that failed in an earlier run is not asked about again: by option, or since its text is empty."""
    return options.keep_failed or failure_code == EmptyTextError.__name__


def check_row(row: Row, rows: JobRows, added: Collection[str]) -> str | None:
    """Return the name of a row, where it came to light, and None where the task has still to be asked for it.

    Raises InputError for one that cannot be asked about, judged or written with the columns `added` to it.
    """
    name = rows.task.check(row)
    # A CSV row has the columns of its header, which the command has checked.
    if added and row.cells is None and (taken := row.fields.keys() & added):
        what = f"there is a {min(taken)!r} already; the output gets a column of that name, so choose another"
        raise InputError(rows.source.name, what, line=row.line)
    return name


def repeated_id(name: str, source: Source, line: int) -> InputError:
    """Return the error of an id that an earlier row has too."""
    return InputError(source.name, f"{name!r} is the id of an earlier row too; every row needs its own", line=line)
