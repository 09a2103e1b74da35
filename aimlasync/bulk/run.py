"""A whole job in one call: what the commands call, and programs may.

Law: opens, runs, closes. Whatever ends it, what was answered is in the journal, and the same call goes on from there.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aimlasync.bulk.input.parquet import pyarrow
from aimlasync.bulk.input.rows import Format, InputError
from aimlasync.bulk.input.source import Source, format_of_path, open_source
from aimlasync.bulk.jobs.job import Answerer, Job, Options, Seen, ignore
from aimlasync.bulk.jobs.journaled import FileJob
from aimlasync.bulk.journal.journal import Durability
from aimlasync.bulk.output.export import check_columns, export
from aimlasync.bulk.output.target import OverwriteError, Target, check_place
from aimlasync.bulk.progress.totals import Tally
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.tasks import BatchTask, Task
from aimlasync.bulk.workers.parent import Crew, CrewJob
from aimlasync.errors import AimlasyncError

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

Rows = Iterable[Mapping[str, Any] | Request] | AsyncIterable[Mapping[str, Any] | Request]

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """How a job ended."""

    tally: Tally
    total: int
    """Rows in all."""
    left: int
    """Rows not done: another run asks about them."""
    journal: str
    output: str | None
    """What was written, None when that is the journal alone."""
    seconds: float = 0.0
    """That this run took."""
    stopped_by: AimlasyncError | None = None
    """The error that stopped the job: no credit, a bad key, a server that is gone, the spending cap."""
    capped_by: Literal["tokens", "deadline"] | None = None
    is_interrupted: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every row was asked about."""
        return self.left == 0


def summary_of(job: Job, *, journal: str = "", output: str | None = None) -> Summary:
    """Return how `job` ended; a stream, which has no journal, is as long as what was read of it."""
    return Summary(
        tally=job.tally,
        total=job.total or job.finished,
        left=job.pending or 0,
        journal=journal,
        output=output,
        seconds=job.pace.seconds(time.monotonic()),
        stopped_by=job.stopped_by,
        capped_by=job.capped_by,
        is_interrupted=job.is_interrupted,
    )


async def run(
    client: AsyncClient,
    input: str | os.PathLike[str] | Source | Rows,
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
    begin: Callable[[Job], object] | None = None,
    seen: Seen = ignore,
    crew: Crew | None = None,
    answerer: Answerer | None = None,
) -> Summary:
    """Ask about every row of `input` and keep the answers in a journal; the same call again goes on where it stopped.

    `input` is a file of rows (CSV, JSONL, Parquet), or rows as dicts or requests; `task` says what is asked about
    each, and without one they must be lines of OpenAI's Batch API. `output` is the journal itself where it ends in
    .jsonl and neither `columns` nor `add` name any; otherwise a table made of it at the end, with the journal beside
    it. `begin` is given the job before its first call, `seen` every result. With `crew` other processes ask, and the
    client is not used; an `answerer` makes the calls instead of the client, and a cap of money is not its to keep.
    A file at `output` that this job did not write, or that was changed since, is refused with OverwriteError, a kind of
    InputError, or JournalError; `overwrite` replaces it.
    Errors of rows are in the journal; what stops the job is in the summary. Raises InputError and JournalError before
    any call, OSError when the journal cannot be written.
    """
    options = options or Options()
    if answerer is not None and options.caps.max_usd is not None:
        raise ValueError("max_usd is kept by a client, and an answerer asks through many; use max_tokens")
    path = os.fspath(output)
    source = input if isinstance(input, Source) else await open_rows(input, format)
    try:
        written_as = format_of_path(path)
        is_table = columns is not None or add is not None or written_as != "jsonl"
        if written_as is None:
            raise InputError(path, "neither .csv nor .jsonl nor .parquet; end its name in one of them")
        if written_as == "parquet":
            pyarrow(path)
        kept = journal or journal_of(path, is_table=is_table)
        check_place(path, reads=(source,), option="-o")
        if is_table:
            Target(path, journal=kept, overwrite=overwrite, option="-o").check()
        if columns is not None:
            check_columns(source, columns, written_as, limit=options.limit)
        make = FileJob if crew is None else partial(CrewJob, crew)
        job = make(
            source,
            task or BatchTask(),
            options,
            journal=kept,
            restart=restart,
            overwrite=overwrite,
            durability=durability,
            added=add or (),
        )
        if answerer is not None:
            job.answerer, job.workers = answerer, options.concurrency or answerer.workers
        try:
            if begin is not None:
                begin(job)
            if job.pending and not job.is_interrupted:
                await job.run(client, seen)
            written = job.finish()
        finally:
            job.close()
        whole = not job.pending and job.stopped_by is None
        # A job that was stopped before its first good answer makes no table.
        makes_table = is_table and written and options.canary is None and (whole or job.tally.ok > 0)
        if makes_table:
            _write(job, path, columns, add, only_done=not whole, overwrite=overwrite)
        return summary_of(job, journal=job.path, output=path if makes_table else None)
    finally:
        source.close()


def journal_of(output: str, *, is_table: bool) -> str:
    """Return the journal of the job that writes `output`."""
    return f"{output}.journal" if is_table else output


async def open_rows(rows: str | os.PathLike[str] | Rows, format: Format | None = None) -> Source:
    """Open a file, or write rows down in a temporary one: a job reads its input more than once."""
    if isinstance(rows, (str, os.PathLike)):
        return open_source(os.fspath(rows), format)
    kept = tempfile.TemporaryFile()  # noqa: SIM115  # closed by Source.close
    try:
        if isinstance(rows, AsyncIterable):
            async for row in rows:
                kept.write(_line(row))
        else:
            for row in rows:
                kept.write(_line(row))
        kept.flush()
    except BaseException:
        kept.close()
        raise
    return Source(kept, format="jsonl", name="rows", again=True)


def _line(row: Mapping[str, Any] | Request) -> bytes:
    if isinstance(row, Request):
        url = "/v1/responses" if row.api == "responses" else "/v1/chat/completions"
        row = {"custom_id": row.custom_id, "method": "POST", "url": url, "body": row.body}
    return _encode(row) + b"\n"


def _write(
    job: FileJob,
    path: str,
    columns: Sequence[str] | None,
    add: Mapping[str, str] | None,
    *,
    only_done: bool,
    overwrite: bool,
) -> None:
    try:
        export(
            job.path,
            path,
            columns=columns,
            add=add,
            source=job.source,
            only_done=only_done,
            limit=job.options.limit,
            id_of=job.task.custom_id,
            overwrite=overwrite,
        )
    except OverwriteError as error:
        # Checked before the first call: somebody wrote it meanwhile.
        raise error.and_kept_in(job.path) from None
