"""How a command runs a job, shared by `classify` and `bulk`: Ctrl-C, progress, the summary, the exit code.

`JobView.interrupt` says what the first and the second Ctrl-C do. The screen is in `display`, signal handlers are in
`ctrl_c`, and worker processes in `workers_option`.
"""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import click

from aimlasync import AsyncClient
from aimlasync.bulk.api import run
from aimlasync.bulk.input.remote import UnreachableError
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.jobs.dry_run import forecast
from aimlasync.bulk.jobs.job import Job
from aimlasync.bulk.jobs.journaled import JournaledRows
from aimlasync.bulk.jobs.runner import LocalRunner
from aimlasync.bulk.jobs.stop_rules import is_to_come_back
from aimlasync.bulk.jobs.streamed import StreamedRows
from aimlasync.bulk.output.failed import write_failed
from aimlasync.bulk.output.target import Target
from aimlasync.bulk.progress.summary import Summary
from aimlasync.bulk.progress.totals import BY_THE_DAY, CapName
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.bulk.tasks.tasks import EmptyTextError
from aimlasync.bulk.workers.parent import WorkerProcesses
from aimlasync.cli.ctrl_c import HANG_UP, interrupt, on_interrupt
from aimlasync.cli.display import ProgressDisplay
from aimlasync.cli.errors import advised
from aimlasync.cli.job import AskedJob
from aimlasync.cli.job_options import JobOptions, priced
from aimlasync.cli.job_summary import duration
from aimlasync.cli.quota_option import reach, redis_quota
from aimlasync.cli.ray_option import RayCluster
from aimlasync.cli.server import open_client
from aimlasync.cli.terminal import counted, one_line
from aimlasync.cli.workers_option import own_part, run_part
from aimlasync.store import Store

SOME_FAILED = 3
GO_ON = "run the same command to go on"
COME_BACK = 75
"""A limit by the day: the sysexits.h code for a failure that is over by itself, EX_TEMPFAIL."""


class JobView:
    """Shows a job while it runs, and interrupts it."""

    def __init__(self, title: str, mode: str, *, stdout_is_rows: bool) -> None:
        self.progress = ProgressDisplay(title, mode, stdout_is_rows=stdout_is_rows)
        self.signals: list[int] = []
        self.job: Job | None = None
        self.is_throwaway = False
        self._stack = ExitStack()

    def begin(self, job: Job) -> None:
        """Show the job, which is about to run."""
        self.job = job
        job.is_throwaway = self.is_throwaway
        if job.rows.changes is not None:
            self.progress.changes(job.rows.source.name, job.rows.changes)
        if (other := job.rows.same_job) is not None and not self.is_throwaway:
            made = f"aimlasync export {shlex.quote(other)} -o ..."
            said = f"{other} has answers to the same requests: '{made}' makes a table of them without a call"
            self.progress.note(said)
        if isinstance(job.task, ClassifyTask) and job.pending != 0:
            self.progress.labels(job.task)
        self._stack.enter_context(self.progress.showing(job))

    def interrupt(self, number: int) -> None:
        """Ctrl-C, SIGTERM or SIGHUP: calls in flight finish, and after a second Ctrl-C or SIGTERM they are dropped.

        After a hang-up no second one drops them: it comes from the terminal and from the shell, or with a SIGTERM.
        """
        if self.job is None:
            # There is no job yet, and nothing was asked.
            interrupt(number)
        is_first, was_asked = not self.signals, any(each != HANG_UP for each in self.signals)
        self.signals.append(number)
        if not is_first and (number == HANG_UP or not was_asked):
            return
        again = self.job.interrupt()
        self.progress.note("stopping at once" if again else "finishing the calls in flight; Ctrl-C again stops at once")

    def end(self) -> None:
        """Take the progress off the screen."""
        self._stack.close()


async def run_to_file(
    asked: AskedJob,
    output: str,
    *,
    columns: Sequence[str] | None = None,
    add: Mapping[str, str] | None = None,
    excel: bool = False,
    errors: Target | None = None,
    workers: WorkerProcesses | None = None,
) -> int:
    """Run a job that can be gone on with, show it, and return the exit code."""
    source, flags, server = asked.source, asked.flags, asked.server
    shared = redis_quota(flags, server)
    if (mine := own_part()) is not None:
        return await run_part(*mine, asked, shared=shared)
    await reach(shared)
    view = JobView(asked.title, flags.progress, stdout_is_rows=False)
    # Before signal handlers are set, because Ray sets its own.
    cluster = None if flags.ray is None else RayCluster(flags, server, output, shared=shared)
    with on_interrupt(view.interrupt), tempfile.TemporaryDirectory() as scratch:
        if output == "-":
            # A dry run without an output, whose answers are thrown away.
            output, excel = os.path.join(scratch, "answers.jsonl"), False
            view.is_throwaway = True
        try:
            async with AsyncExitStack() as stack:
                # A cluster's processes keep answers themselves.
                store = None if cluster is not None else flags.kept_answers()
                leases = None if cluster is not None else shared
                client = await stack.enter_async_context(_client(asked, leases, store))
                options = priced(asked.options, await flags.prices(client, asked.models))
                far = len(source.paths) if source.may_wait else 0
                view.progress.reading(source.size + size_of(output, f"{output}.journal"), far)
                if workers is not None:
                    workers.note = view.progress.note
                answerer = None
                if cluster is not None:
                    answerer = await stack.enter_async_context(cluster.open(asked.task))
                    view.progress.note(f"asking through {cluster.description}")
                summary = await run(
                    client,
                    source,
                    output,
                    task=asked.task,
                    options=options,
                    columns=columns,
                    add=add,
                    excel=excel,
                    restart=flags.restart,
                    overwrite=flags.overwrite,
                    durability=flags.durability,
                    begin=view.begin,
                    workers=workers,
                    answerer=answerer,
                )
                if cluster is not None and summary.is_complete and not summary.totals.failed:
                    cluster.forget()
                if errors is not None:
                    write_failed(summary.journal, errors)
                statistics = client.statistics()
        except UnreachableError as error:
            if view.job is None:
                raise
            # In the middle of a job: what was answered is in the journal.
            done = f"{counted(view.job.totals.ok, 'row')} done; {GO_ON}"
            raise InputError(error.name, f"{error.what}; {done}") from None
        finally:
            view.end()
    assert view.job is not None
    if options.canary is not None and summary.stopped_by is None and not view.signals:
        job = view.job
        assert isinstance(job.rows, JournaledRows)
        view.progress.forecast(forecast(job.totals, job.rows.sample, job.options.workers, flags.limits, statistics))
        return 0
    view.progress.summary(summary)
    return _exit_code(summary, view, flags)


async def run_to_stream(asked: AskedJob, rows: StreamedRows) -> int:
    """Run a job whose rows go to a stream, show it, and return the exit code."""
    flags = asked.flags
    shared = redis_quota(flags, asked.server)
    await reach(shared)
    view = JobView(asked.title, flags.progress, stdout_is_rows=True)
    with on_interrupt(view.interrupt):
        try:
            async with _client(asked, shared, flags.kept_answers()) as client:
                options = priced(asked.options, await flags.prices(client, asked.models))
                job = Job(rows, options, LocalRunner(client))
                view.begin(job)
                await job.run()
        finally:
            view.end()
    summary = job.summary()
    view.progress.summary(summary)
    return _exit_code(summary, view, flags)


@asynccontextmanager
async def _client(asked: AskedJob, shared: Callable[[], Any] | None, store: Store | None) -> AsyncIterator[AsyncClient]:
    """Open the client of a job, with the limits of the quota that `shared` makes, where there is one."""
    async with AsyncExitStack() as stack:
        quota = None if shared is None else await stack.enter_async_context(shared())
        opened = open_client(asked.server, limits=asked.flags.limits, quota=quota, store=store)
        yield await stack.enter_async_context(opened)


def size_of(*paths: str) -> int:
    """Return the bytes of those files that are there."""
    return sum(os.path.getsize(path) for path in paths if os.path.isfile(path))


_CAPS: dict[CapName, tuple[str, str | None]] = {
    "tokens": ("--max-tokens is used up", "raise it"),
    "deadline": ("--deadline has passed", "give it more time"),
    "requests per day": ("--rpd is used up", None),
    "tokens per day": ("--tpd is used up", None),
}
"""What ended a job, and what to do; None is to come back later."""


def come_back(at: float | None, now: float) -> str:
    """Return when to come back, in the time of this place."""
    if at is None:
        return "come back when the limit is over, mostly within a day"
    if at <= now:
        return "come back now"
    days, then = int((at - now) // 86_400), time.localtime(at)
    day = "" if time.localtime(now)[:3] == then[:3] else time.strftime("on %A %d %B ", then)
    left = f"{days} days" if days > 1 else duration(at - now)
    return f"come back {day}at {time.strftime('%H:%M', then)} (in {left})"


def _exit_code(summary: Summary, view: JobView, flags: JobOptions) -> int:
    """Say what is left to do, and return the exit code."""
    job, totals = view.job, summary.totals
    assert job is not None
    go_on = GO_ON if job.is_resumable else "with -o PATH the same command would go on"
    done = f"{counted(totals.ok, 'row')} done"
    if summary.stopped_by is not None and (summary.resume_at is not None or is_to_come_back(summary.stopped_by)):
        when = come_back(summary.resume_at, time.time())
        click.echo(f"aimlasync: stopped: {one_line(summary.stopped_by.message)}; {done}; {when}, {go_on}", err=True)
        return COME_BACK
    if summary.stopped_by is not None:
        click.echo(f"aimlasync: stopped: {advised(summary.stopped_by)}; {done}; {go_on}", err=True)
        return 1
    if view.signals:
        click.echo(f"aimlasync: interrupted, {done}; {go_on}", err=True)
        return 128 + view.signals[0]
    if summary.capped_by is not None and (summary.left or totals.total is None):
        cap, more = _CAPS[summary.capped_by]
        left = f", {summary.left:,} left" if summary.left else ""
        more = more or come_back(summary.resume_at, time.time())
        click.echo(f"aimlasync: stopped: {cap}; {done}{left}; {more} and {go_on}", err=True)
        return COME_BACK if summary.capped_by in BY_THE_DAY else 1
    if totals.failed:
        empty = totals.failures.get(EmptyTextError.__name__)
        retried = totals.failed - (empty.count if empty is not None else 0)
        which = (
            "them" if retried == totals.failed > 1 else "it" if retried == totals.failed else counted(retried, "row")
        )
        again = (
            f"; the same command tries {which} again" if retried and job.is_resumable and not flags.keep_failed else ""
        )
        click.echo(f"aimlasync: {counted(totals.failed, 'row')} failed{again}", err=True)
        return SOME_FAILED
    return 0
