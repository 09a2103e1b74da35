"""A job as its callers see it: its progress, why it ended, and `interrupt`, which ends it.

A job consists of its rows, its options and a runner: `runner.LocalRunner` in this process, or
`workers.parent.WorkerProcesses` in others. The first `interrupt` (Ctrl-C) stops the runner, so that calls in flight
finish; the second one drops them. Totals, progress and the reason for the end are values that rows and runner share. It
prints nothing, and imports the values and neither of the runners.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from aimlasync.bulk.jobs.job_rows import JobRows
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.jobs.stop_rules import Ending
from aimlasync.bulk.journal.record import Record
from aimlasync.bulk.progress.progress import Activity, Progress, Snapshot
from aimlasync.bulk.progress.summary import Summary
from aimlasync.bulk.tasks.result import Result

Seen = Callable[[Result, Record], None]


class Runner(Protocol):
    """What gets the rows of a job asked about."""

    async def run(self, job: Job, seen: Seen | None) -> None:
        """Ask about the pending rows; `seen` is called with each result that this process has written."""

    def activity(self) -> Activity:
        """Return what is being done now, and what is not in the totals yet."""

    def stop(self) -> None:
        """Take no further rows; calls in flight finish."""

    def cancel(self) -> None:
        """Drop the calls in flight too."""


class Job:
    """Rows that are asked about until they are done, the job is stopped, or it is interrupted."""

    def __init__(self, rows: JobRows, options: Options, runner: Runner) -> None:
        self.rows = rows
        self.options = options
        self.task = rows.task
        self.totals = rows.totals
        self.ending = Ending()
        self.progress = Progress(time.monotonic())
        self.is_throwaway = False
        """Whether nobody will see its answers again: a dry run without an output."""
        self._runner = runner

    @property
    def is_resumable(self) -> bool:
        """Whether another run goes on where this one stops."""
        return self.rows.is_resumable

    @property
    def pending(self) -> int | None:
        """Rows still to be asked about, None while that is not known."""
        return self.totals.pending

    async def run(self, seen: Seen | None = None) -> None:
        """Ask about the pending rows; `seen` is called with each result once it is written.

        Raises InputError for what a stream shows late, once all else is written; OSError.
        """
        self.progress = Progress(time.monotonic())
        try:
            await self._runner.run(self, seen)
        finally:
            self.rows.end_run()
        if self.pending == 0:
            # All rows were finished, so no cap left one out.
            self.ending.capped_by = None

    def interrupt(self) -> bool:
        """Take no further rows and let calls in flight finish; asked again, drop them. Returns whether it was again."""
        again, self.ending.is_interrupted = self.ending.is_interrupted, True
        if again:
            self._runner.cancel()
        else:
            self._runner.stop()
        return again

    def snapshot(self) -> Snapshot:
        """Return where the job is, and what holds it back."""
        return self.progress.snapshot(time.monotonic(), self.totals, self._runner.activity())

    def summary(self, *, journal: str = "", output: str | None = None) -> Summary:
        """Return how the job ended; a stream, which has no journal, is as long as what was read of it."""
        return Summary(
            totals=self.totals,
            total=self.totals.total or self.totals.finished,
            left=self.pending or 0,
            journal=journal,
            output=output,
            seconds=self.progress.seconds(time.monotonic()),
            stopped_by=self.ending.stopped_by,
            capped_by=self.ending.capped_by,
            resume_at=self.ending.resume_at,
            is_interrupted=self.ending.is_interrupted,
            learned=self._runner.activity().learned,
            changes=self.rows.changes,
        )
