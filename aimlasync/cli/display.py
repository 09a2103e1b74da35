"""What is on the screen while a job runs, on stderr: a live view, a line now and then, or lines of JSON.

The live view is on a terminal alone, and not where the rows themselves go to that terminal. What is printed once is in
`job_summary`. Imports the values of a job, and rich.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import click
import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aimlasync.bulk.jobs.dry_run import Forecast
from aimlasync.bulk.jobs.job import Job
from aimlasync.bulk.journal.table_changes import Changes
from aimlasync.bulk.progress.progress import LIMITS, Snapshot
from aimlasync.bulk.progress.summary import Summary
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.cli import terminal
from aimlasync.cli.job_summary import console, duration, money, show_forecast, show_labels, show_summary
from aimlasync.cli.quality_tables import NAME

# Where there is no terminal: seconds until the first line about a job, and between those that follow.
_FIRST_LINE = 10.0
_LINE = 60.0
# Seconds between two snapshots of a job.
_LIVE = 0.25
_JSON = 1.0
# Up to so many bytes of input and journal, and files elsewhere, are read in a moment, without a message.
_SILENT = 2**28
_FAR = 200

_encode = msgspec.json.Encoder().encode


class ProgressDisplay:
    """A live view, JSON lines, or nothing where nobody would see it."""

    def __init__(self, title: str, mode: str, *, stdout_is_rows: bool) -> None:
        self._title = title
        self._mode = mode
        self._console = console()
        # A terminal appends ^C to the line; a full line would wrap, and a part of it would stay on the screen.
        self._console.width -= 4
        is_seen = mode == "auto" and sys.stderr.isatty() and not (stdout_is_rows and sys.stdout.isatty())
        self._live = Live(console=self._console, transient=True, auto_refresh=False) if is_seen else None
        # Seconds of the job at which it is told in a line, where nothing else tells it.
        self._next_line = _FIRST_LINE if mode == "auto" and not sys.stderr.isatty() else None
        self._job: Job | None = None
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def showing(self, job: Job) -> Iterator[None]:
        """Show `job` while the block lasts."""
        self._job = job
        if job.pending == 0:
            if self._mode == "json":
                self._print_end(job)
            yield
            return
        if self._live is not None:
            self._live.start()
            # rich prints other output above the view, with its colours and links, so that of others is cleaned first.
            sys.stderr = cast("Any", terminal.Screen(sys.stderr, "standard error"))
        self._refresh()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._mode == "json":
                self._print_end(job)
            if self._live is not None:
                self._live.stop()

    def reading(self, size: int, far: int) -> None:
        """Say that `size` bytes and `far` files elsewhere are read before anything else can be shown."""
        if self._live is not None and far >= _FAR:
            self.note(f"reading {far:,} files first")
        elif self._live is not None and size >= _SILENT:
            self.note(f"reading {size / 2**30:.1f} GB of input and journal first")

    def changes(self, name: str, changes: Changes) -> None:
        """Say how the input differs from that of the last run."""
        if self._mode == "json":
            click.echo(_encode({"changes": changes}), err=True)
        else:
            self.note(f"{name} has changed: {changes}")

    def note(self, text: str) -> None:
        """Say something without disturbing the view."""
        # A line of a log stays one line; on a terminal it is wrapped at blanks.
        is_log = not self._console.is_terminal
        self._console.print(f"aimlasync: {text}", markup=False, highlight=False, soft_wrap=is_log)

    def summary(self, summary: Summary) -> None:
        """Print what the job came to; as JSON the last line has said it."""
        assert self._job is not None
        if self._mode != "json":
            show_summary(self._title, self._job, summary)

    def forecast(self, forecast: Forecast) -> None:
        """Print what a dry run says about the whole."""
        assert self._job is not None
        if self._mode == "json":
            click.echo(_encode(forecast), err=True)
        else:
            show_forecast(self._title, self._job, forecast)

    def labels(self, task: ClassifyTask) -> None:
        """Say how the labels were understood, before anything is asked."""
        if self._mode == "json" and task.meanings:
            click.echo(_encode({"labels": task.meanings}), err=True)
        elif self._mode == "auto" and task.meanings:
            show_labels(task.meanings, ordinal=task.ordinal)

    def _refresh(self) -> None:
        assert self._job is not None
        # Snapshots also measure what holds a job back, so they are taken without a view too.
        snapshot = self._job.snapshot()
        if self._mode == "json":
            click.echo(_encode(snapshot), err=True)
        if self._live is not None:
            self._live.update(_view(self._title, snapshot, self._console.width), refresh=True)
        if self._next_line is not None and snapshot.seconds >= self._next_line:
            self._next_line = snapshot.seconds + _LINE
            self.note(progress_line(self._title, snapshot))
        wait = _JSON if self._mode == "json" else _LIVE
        self._timer = asyncio.get_running_loop().call_later(wait, self._refresh)

    def _print_end(self, job: Job) -> None:
        """Print the last snapshot, with the rows of each label and how many of those judged are right."""
        totals, quality = job.totals, job.totals.quality
        labels = {"labels": dict(totals.labels)} if totals.labelled else {}
        judged = {"judged": quality.judged, "right": quality.right} if job.options.gold is not None else {}
        click.echo(_encode({**msgspec.to_builtins(job.snapshot()), **labels, **judged}), err=True)


def progress_line(title: str, now: Snapshot) -> str:
    """Return how far a job is, in one line."""
    finished = now.done + now.failed
    of = "" if now.total is None else f" of {now.total:,} ({100 * finished / max(1, now.total):.0f} %)"
    return ", ".join([f"{title}: {finished:,}{of} rows", *_parts(now)[1:], *filter(None, [_held_back(now)])])


def _parts(now: Snapshot) -> list[str]:
    speed = f"{now.calls_per_second:,.1f}" if now.calls_per_second < 10 else f"{now.calls_per_second:,.0f}"
    parts = [
        f"{now.done:,} done",
        f"{now.failed:,} failed" if now.failed else "",
        f"{now.in_flight:,} in flight",
        f"{speed} calls/s",
        f"{_short(now.tokens_per_second)} tokens/s",
        "" if now.cost_usd is None else money(now.cost_usd),
        "" if now.eta_seconds is None else f"{duration(now.eta_seconds)} left",
    ]
    return list(filter(None, parts))


def _held_back(now: Snapshot) -> str:
    return "" if now.limited_by is None else f"held back by {LIMITS[now.limited_by]}"


def _view(title: str, now: Snapshot, width: int) -> RenderableType:
    """How far, how fast, what holds it back; on a narrow terminal more lines, since no number may be cut."""
    finished = now.done + now.failed
    share = f"  {finished:,}" + (
        "" if now.total is None else f"/{now.total:,} {100 * finished / max(1, now.total):.0f} %"
    )
    title = title if len(title) <= NAME else title[: NAME - 3] + "..."
    head = Table.grid(expand=True)
    head.add_column(no_wrap=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True)
    bar = ProgressBar(
        total=now.total,
        completed=finished,
        complete_style="cyan",
        finished_style="cyan",
        pulse_style="cyan",
        pulse=now.total is None,
    )
    head.add_row(Text(f"{title}  "), bar, Text(share, style="bold"))
    lines = [Text()]
    for part in _parts(now):
        if lines[-1] and len(lines[-1]) + 2 + len(part) > width:
            lines.append(Text())
        lines[-1].append("  " if lines[-1] else "")
        lines[-1].append(part, style="red" if part.endswith("failed") else "")
    return Group(head, *lines, Text(_held_back(now), style="dim", no_wrap=True, overflow="ellipsis"))


def _short(number: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= 10 * size:
            return f"{number / size:,.0f}{letter}"
    return f"{number:,.0f}"
