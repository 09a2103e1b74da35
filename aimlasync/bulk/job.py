"""What a classification job is, and how it runs.

Law: ties together what the other files do one by one; prints nothing, asks the client only through `classify`.
Where rows go and what is remembered of them differs: `file_job` and `stream_job`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aimlasync.bulk.classify import Api, Result, classify
from aimlasync.bulk.labels import Prompt, row_text
from aimlasync.bulk.patience import Patience
from aimlasync.bulk.rows import Format, InputError, Row
from aimlasync.bulk.source import Source
from aimlasync.bulk.tally import Tally
from aimlasync.bulk.work import Work
from aimlasync.errors import AimlasyncError

if TYPE_CHECKING:
    from aimlasync.client import AsyncClient

# How long calls in flight may go on after an error that stops the job: they may be paid for already.
_GRACE = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is asked of every row."""

    labels: list[str]
    model: str
    endpoint: Api
    prompt: Prompt
    text: str
    """The column that holds the text."""
    label_column: str = "label"
    gold: str | None = None
    limit: int | None = None
    concurrency: int = 32
    format: Format = "csv"
    """Of the output."""
    simulated: bool = False

    def check(self, source: Source, row: Row) -> None:
        """Raises InputError for a row that cannot be asked about or written."""
        row_text(row, self.text, source.name)
        if row.cells is not None:
            # A CSV row has the columns of its header, which were looked at once.
            return
        for name in (*self.prompt.columns(), *([self.gold] if self.gold else [])):
            if name != "text" and name not in row.fields:
                raise InputError(source.name, f"no {name!r} in this row; every row needs it", line=row.line)
        if self.label_column in row.fields:
            what = f"there is a {self.label_column!r} already; choose another name with --label-column"
            raise InputError(source.name, what, line=row.line)
        if self.format == "csv":
            for name in row.fields.keys() - set(source.columns):
                what = f"{name!r} is not in the first row; CSV needs the same columns everywhere: write .jsonl"
                raise InputError(source.name, what, line=row.line)


class Job:
    """What both ways share: the totals, and how a run ends."""

    def __init__(self, source: Source, plan: Plan) -> None:
        self.source = source
        self.plan = plan
        self.tally = Tally()
        self.total: int | None = None
        """Rows in all, None while nobody can know."""
        self.stopped_by: AimlasyncError | None = None
        """The error that stopped the job."""
        self.is_interrupted = False
        self._work: Work[Row, Result] | None = None

    @property
    def pending(self) -> int | None:
        """Rows still to be asked about, None while nobody can know."""
        return self.total

    def finish(self) -> bool:
        """End the output. Returns False when there was nothing to write."""
        return True

    def close(self) -> None:
        """Let go of everything; harmless after `finish`."""

    def interrupt(self) -> bool:
        """Take no further rows and let calls in flight finish; asked again, drop them. Returns whether it was again."""
        again, self.is_interrupted = self.is_interrupted, True
        if self._work is not None:
            if again:
                self._work.cancel()
            else:
                self._work.stop()
        return again

    async def _drive(
        self, client: AsyncClient, rows: Iterator[Row] | AsyncIterator[Row], take: Callable[[Result], None]
    ) -> None:
        plan, loop = self.plan, asyncio.get_running_loop()
        patience = Patience(succeeded=self.tally.labelled > 0)
        grace: asyncio.TimerHandle | None = None
        work = classify(
            client,
            rows,
            labels=plan.labels,
            model=plan.model,
            text=plan.text,
            prompt=plan.prompt,
            endpoint=plan.endpoint,
            concurrency=plan.concurrency,
            name=self.source.name,
        )
        self._work = work
        if self.is_interrupted:
            # Before there was anything to stop.
            work.stop()
        try:
            async with work:
                async for result in work:
                    fatal = patience.saw(result)
                    if fatal is None:
                        self.tally.saw(result)
                        take(result)
                    elif self.stopped_by is None:
                        self.stopped_by = fatal
                        work.stop()
                        grace = loop.call_later(_GRACE, work.cancel)
        finally:
            if grace is not None:
                grace.cancel()
