"""What programs call: `map` and `classify` over an iterable, `run` over a file with a journal.

`map` and `classify` keep nothing beyond what is in flight and not yet read. `run` opens, runs and closes a job:
whatever ends it, what was answered is in the journal, and the same call goes on from there. A caller of the client, by
its public names; imports every other room of bulk but the report.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from aimlasync.addresses import is_address
from aimlasync.bulk.input.many import open_files
from aimlasync.bulk.input.rows import Format, InputError, Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.input.spool import temporary_file
from aimlasync.bulk.input.values import json_row, json_value
from aimlasync.bulk.jobs.ask_one import Answerer, asking, request_or_result
from aimlasync.bulk.jobs.async_iter import check_many, later
from aimlasync.bulk.jobs.input_order import InOrder
from aimlasync.bulk.jobs.job import Job, Seen
from aimlasync.bulk.jobs.journaled import JournaledRows
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.jobs.runner import LocalRunner
from aimlasync.bulk.jobs.worker_pool import MAX_WAITING, WORKERS, WorkerPool
from aimlasync.bulk.journal.journal import Durability
from aimlasync.bulk.journal.part_files import journal_of
from aimlasync.bulk.output.elsewhere import written_to
from aimlasync.bulk.output.export import check_columns, export
from aimlasync.bulk.output.result_rows import results_as_rows
from aimlasync.bulk.output.tables import check_format, is_journal_path
from aimlasync.bulk.output.target import Target, check_place, refuse_input
from aimlasync.bulk.progress.summary import Summary
from aimlasync.bulk.tasks.answer_schema import form_of
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.bulk.tasks.labels import is_labels
from aimlasync.bulk.tasks.request import Request, request_of
from aimlasync.bulk.tasks.result import Read, Result
from aimlasync.bulk.tasks.tasks import BatchTask, Task
from aimlasync.bulk.workers.parent import WorkerProcesses, orphans_ended
from aimlasync.config import of_kind
from aimlasync.endpoints import learned_file
from aimlasync.endpoints.learned_limits import Learner
from aimlasync.errors import UnencodableRequestError
from aimlasync.spelling import spelled
from aimlasync.wire.request_body import encode_request

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

T = TypeVar("T")
Q = TypeVar("Q")
R = TypeVar("R")
Order = Literal["completion", "input"]
Given = Request | Mapping[str, Any]
InputRows = Iterable[Given] | AsyncIterable[Given]


@spelled
def map(
    client: AsyncClient,
    requests: Iterable[Given] | AsyncIterable[Given],
    *,
    concurrency: int | None = None,
    order: Order = "completion",
    return_exceptions: bool = True,
    read: Read | None = None,
    retry_invalid: int = 0,
) -> AsyncGenerator[Result]:
    """Ask for each of `requests` and iterate the results: `async for result in bulk.map(client, requests)`.

    A request is a `Request`, a line of OpenAI's Batch API as a dict, or the parameters of a call as a dict, with
    `messages` (chat/completions) or `input` (responses). They are read as they are needed, never all at once. At most
    `concurrency` are at work; None leaves it to the client's limits. `order="input"` holds results back until those
    before them are there, at most a few times the concurrency of them.
    A request that fails is a result with its `error`; with `return_exceptions=False` the first error is raised and the
    calls in flight are cancelled. Left early, they are cancelled too (`contextlib.aclosing` makes it at once).
    `read` judges each reply, and is given `retry_invalid` more replies for one that it refuses with an AnswerError.
    Raises RequestError for what is no request.
    """
    ask = asking(client, read=read, retry_invalid=retry_invalid)
    return _results(client, requests, request_of, ask, concurrency, order, return_exceptions)


def classify(
    client: AsyncClient,
    texts: Iterable[str | Mapping[str, Any]] | AsyncIterable[str | Mapping[str, Any]],
    *,
    labels: Sequence[str] | Mapping[str, str] | type[Any],
    model: str,
    text: str = "text",
    multi: bool = False,
    concurrency: int | None = None,
    order: Order = "input",
    retry_invalid: int = 0,
    **options: Any,
) -> AsyncGenerator[Result]:
    """Ask for the label of each text and iterate the results: `result.label`, or `result.error`.

    A text is a string, or a row as a dict whose column `text` holds it, which is `result.fields`. `labels` are names,
    names with their meanings, an Enum or a Literal, or a type (Struct, dataclass, TypedDict) to fill in, whose value is
    `result.parsed`. `options` are those of `ClassifyTask`.
    """
    if isinstance(labels, type) and not is_labels(labels):
        task = ClassifyTask(form=form_of(labels), model=model, text=text, **options)
    else:
        task = ClassifyTask(labels=labels, model=model, text=text, multi=multi, **options)

    def row_of(given: Any, number: int) -> Row:
        if isinstance(given, Mapping):
            return Row(number, number, dict(given), raw=b"")
        # A column of pandas has NaN where it has no text.
        if not isinstance(given, str) and json_value(given) is not None:
            raise TypeError(f"text {number} is a {type(given).__name__}; give a string, or a row as a dict")
        return Row(number, number, {text: given}, raw=b"")

    ask = asking(client, read=task.read, retry_invalid=retry_invalid)

    async def do(row: Row) -> Result:
        asked = Row(row.number, row.line, json_row(row.fields), raw=b"")
        result = request_or_result(asked, task)
        if not isinstance(result, Result):
            result = await ask(result)
        result.row = row
        return result

    return _results(client, texts, row_of, do, concurrency, order, True)


def _results(
    client: AsyncClient,
    items: Iterable[T] | AsyncIterable[T],
    prepare: Callable[[T, int], Q],
    ask_for: Callable[[Q], Awaitable[Result]],
    concurrency: int | None,
    order: Order,
    return_exceptions: bool,
) -> AsyncGenerator[Result]:
    return each(
        items,
        prepare,
        ask_for,
        workers=concurrency or WORKERS,
        order=order,
        check=None if return_exceptions else _raise,
        may_take=lambda: client.takes_more(MAX_WAITING),
    )


def _raise(result: Result) -> None:
    if result.error is not None:
        raise result.error


async def each(
    items: Iterable[T] | AsyncIterable[T],
    prepare: Callable[[T, int], Q],
    do: Callable[[Q], Awaitable[R]],
    *,
    workers: int,
    order: Order,
    check: Callable[[R], None] | None = None,
    may_take: Callable[[], bool] | None = None,
) -> AsyncGenerator[R]:
    """Do `do` to what `prepare` makes of each item and its number, from 1, and iterate the results.

    `order="input"` holds results back until those before them are there, at most a few times `workers` of them. What
    `check` raises of a result ends the iteration; `may_take` is that of `WorkerPool`.
    """
    check_many(items)
    if order not in get_args(Order):
        raise ValueError(f'order must be "input" or "completion", not {order!r}')
    if workers < 1:
        raise ValueError(f"concurrency must be at least 1, not {workers}")
    in_order = InOrder[R](8 * workers) if order == "input" else None
    numbered: Iterator[tuple[int, Q]] | AsyncIterator[tuple[int, Q]]
    if in_order is not None or isinstance(items, AsyncIterable):
        numbered = _numbered_later(items, prepare, in_order)
    else:
        numbered = _numbered(items, prepare)

    async def work(item: tuple[int, Q]) -> tuple[int, R]:
        return item[0], await do(item[1])

    async with WorkerPool(numbered, work, workers=workers, may_take=may_take) as results:
        async for number, result in results:
            if check is not None:
                check(result)
            if in_order is None:
                yield result
            else:
                for ready in in_order.add(number, result):
                    yield ready


def _numbered(items: Iterable[T], prepare: Callable[[T, int], Q]) -> Iterator[tuple[int, Q]]:
    for number, given in enumerate(items, 1):
        yield number, prepare(given, number)


async def _numbered_later(
    items: Iterable[T] | AsyncIterable[T], prepare: Callable[[T, int], Q], in_order: InOrder[R] | None
) -> AsyncGenerator[tuple[int, Q]]:
    number = 0
    async for given in later(items):
        number += 1
        if in_order is not None:
            await in_order.room(number)
        yield number, prepare(given, number)


@spelled
async def run(
    client: AsyncClient,
    input: str | os.PathLike[str] | Source | InputRows,
    output: str | os.PathLike[str],
    *,
    task: Task | None = None,
    options: Options | None = None,
    format: Format | None = None,
    columns: Sequence[str] | None = None,
    add: Mapping[str, str] | None = None,
    journal: str | None = None,
    restart: bool = False,
    overwrite: bool = False,
    durability: Durability = "process",
    excel: bool = False,
    begin: Callable[[Job], object] | None = None,
    seen: Seen | None = None,
    workers: WorkerProcesses | None = None,
    answerer: Answerer | None = None,
) -> Summary:
    """Ask about every row of `input` and keep the answers in a journal; the same call again goes on where it stopped.

    `input` is a file of rows in any format, a directory of them, a pattern that several match, an address of either
    (s3://...), or rows as dicts or requests; `task` says what is asked about each, and without one they must be lines
    of OpenAI's Batch API. `output` is the journal itself where it ends in .jsonl and neither `columns` nor `add` name
    any; otherwise a table made of it at the end, with the journal beside it, and with `excel` safe for spreadsheets. At
    an address both are written into the current directory, and copied there at the end.
    `begin` is given the job before its first call, `seen` every result.
    With `workers` other processes ask, and the client is not used; an `answerer` makes the calls instead of the client,
    and cannot keep a cap of money.
    A file at `output` that this job did not write, or that was changed since, is refused with OverwriteError, a kind of
    InputError, or JournalError; `overwrite` replaces it.
    Where rows were added, changed, moved or removed since the last run, the others keep their answers: a row is known
    by its id, else by what is asked about it. `Summary.changes` counts them. Another task is refused with JournalError.
    Errors of rows are in the journal; what stops the job is in the summary. Raises InputError and JournalError before
    any call, OSError when the journal cannot be written.
    """
    options = of_kind("options", options, Options, "Options(concurrency=8)") or Options()
    if task is not None and not hasattr(task, "request"):
        what = "task= takes a task, such as PromptTask(prompt=..., model=...)"
        raise TypeError(f"{what}, not a {type(task).__name__}")
    if answerer is not None and options.caps.max_usd is not None:
        raise ValueError("max_usd is kept by a client, and an answerer asks through many; use max_tokens")
    async with written_to(os.fspath(output)) as path:
        source = input if isinstance(input, Source) else await open_rows(input, format)
        try:
            is_table = columns is not None or add is not None or not is_journal_path(path)
            written_as = check_format(path, None, excel=excel)
            journal_path = journal or journal_of(path, is_table=is_table)
            check_place(path, option="-o")
            for name in (os.fspath(output), path):
                refuse_input(name, (source,), option="-o")
            if is_table:
                Target(path, journal=journal_path, overwrite=overwrite, option="-o").check()
            if columns is not None:
                check_columns(source, columns, written_as, add=add, limit=options.limit, gold=options.gold)
            if answerer is not None and options.concurrency is None:
                options = replace(options, concurrency=answerer.workers)
            await orphans_ended(journal_path)
            rows = JournaledRows(
                source,
                task or BatchTask(),
                options,
                journal=journal_path,
                restart=restart,
                overwrite=overwrite,
                durability=durability,
                added=frozenset(add or ()),
            )
            job = Job(rows, options, LocalRunner(client, answerer=answerer) if workers is None else workers)
            learned = f"{rows.path}.limits"
            asker = workers or answerer or client
            learner = asker if isinstance(asker, Learner) else None
            if learner is not None:
                learner.start_from(learned_file.read(learned))
            try:
                if begin is not None:
                    begin(job)
                if job.pending and not job.ending.is_interrupted:
                    await job.run(seen)
                written = rows.finish()
            finally:
                if learner is not None:
                    learned_file.write(learned, learner.learned().starts)
                rows.close()
            whole = not job.pending and job.ending.stopped_by is None
            # A job that was stopped before its first good answer makes no table.
            makes_table = is_table and written and options.canary is None and (whole or job.totals.ok > 0)
            if makes_table:
                _write(rows, path, columns, add, only_done=not whole, overwrite=overwrite, excel=excel)
            return job.summary(journal=rows.path, output=path if makes_table else None)
        finally:
            source.close()


async def open_rows(rows: str | os.PathLike[str] | InputRows, format: Format | None = None) -> Source:
    """Open a file, or write rows into a temporary one, because a job reads its input more than once."""
    if isinstance(rows, (str, os.PathLike)):
        name = os.fspath(rows)
        if not is_address(name):
            return results_as_rows(open_files([name], format))
        # A file elsewhere is copied meanwhile.
        return results_as_rows(await asyncio.to_thread(open_files, [name], format))
    check_many(rows)
    number = 0
    with temporary_file() as spooled:
        async for row in later(rows):
            number += 1
            spooled.write(_line(row, number))
    return Source(spooled, format="jsonl", name="rows", can_reread=True)


def _line(row: Mapping[str, Any] | Request, number: int) -> bytes:
    if isinstance(row, Request):
        url = "/v1/responses" if row.api == "responses" else "/v1/chat/completions"
        row = {"custom_id": row.custom_id, "method": "POST", "url": url, "body": row.body}
    try:
        return encode_request(json_row(row)) + b"\n"
    except UnencodableRequestError as error:
        raise InputError("rows", error.message, line=number) from None


def _write(
    rows: JournaledRows,
    path: str,
    columns: Sequence[str] | None,
    add: Mapping[str, str] | None,
    *,
    only_done: bool,
    overwrite: bool,
    excel: bool,
) -> None:
    try:
        export(
            rows.path,
            path,
            columns=columns,
            add=add,
            source=rows.source,
            only_done=only_done,
            limit=rows.options.limit,
            id_of=rows.task.custom_id,
            overwrite=overwrite,
            excel=excel,
            gold=rows.options.gold,
        )
    except InputError as error:
        # What can be known before the first call was checked there.
        what = f"{error.what}; the answers are in {rows.path}, from which `aimlasync export` makes any table"
        raise type(error)(error.name, what, line=error.line) from None
