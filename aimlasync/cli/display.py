"""What people see of a job: a progress bar while it runs, a summary when it ends; both on stderr.

Law: numbers, labels, and messages of errors; never a prompt or a text. The bar lives on a terminal alone, and not where
the rows themselves go to that terminal. Colours are of the eight that every theme has, on text that reads without them.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from aimlasync.bulk.classify import Result
from aimlasync.bulk.file_job import FileJob
from aimlasync.bulk.job import Job
from aimlasync.cli.options import one_line

_WIDTH = 80
# Widest names at the side and at the head of a table, and most lines of one that could have a thousand.
_NAME = 24
_HEAD = 14
_MAX_LINES = 12


class Progress:
    """A progress bar, or nothing where nobody would see it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._console = _console()
        # The terminal shows ^C at the end of the line: a full one would wrap, and leave a bar behind.
        self._console.width -= 4
        is_seen = sys.stderr.isatty() and (isinstance(job, FileJob) or not sys.stdout.isatty())
        self._bar = _bar(self._console) if is_seen else None
        before = (job.total or 0) - (job.pending or 0)
        self._task = (
            None
            if self._bar is None
            else self._bar.add_task("classify", total=job.total, completed=before, before=before, failed="")
        )

    def __enter__(self) -> Self:
        if self._bar is not None and self._job.pending != 0:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def saw(self, result: Result) -> None:
        """Count one more row."""
        if self._bar is not None and self._task is not None:
            failed = self._job.tally.failed
            self._bar.update(self._task, advance=1, failed=f"{failed:,} failed" if failed else "")

    def note(self, text: str) -> None:
        """Say something without disturbing the bar."""
        self._console.print(f"aimlasync: {text}", markup=False, highlight=False)


class _Rate(ProgressColumn):
    """Rows per second of this run, and how long the rest will take at that pace."""

    def render(self, task: Task) -> Text:
        done = task.completed - task.fields["before"]
        if not done or not task.elapsed:
            return Text("")
        rate = done / task.elapsed
        left = "" if task.total is None else f"  {_duration((task.total - task.completed) / rate)} left"
        return Text(f"{rate:,.0f} rows/s{left}")


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"/{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total}", style="bold")


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan", pulse_style="cyan"),
        _Count(),
        TextColumn("{task.fields[failed]}", style="red"),
        _Rate(),
        console=console,
        transient=True,
        expand=True,
    )


def show_summary(job: Job, seconds: float, *, written: bool, is_new: bool) -> None:
    """Print what a job came to."""
    console = _console()
    tally, plan = job.tally, job.plan
    name = os.path.basename(job.source.name)
    console.print(Text(f"\nclassify {name}{' (simulated)' if plan.simulated else ''}", style="bold"))
    if not is_new:
        console.print("Everything is done already; nothing was asked.")
    if tally.labelled:
        console.print()
        console.print(_labels(job))
    console.print()
    console.print(_facts(job, seconds, written=written, is_new=is_new))
    if tally.gold:
        console.print()
        console.print(_confusion(job))


def _labels(job: Job) -> Table:
    """Rows per label, as bars."""
    counts = job.tally.labels
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=_NAME, no_wrap=True, overflow="ellipsis")
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    most, total = max(counts.values()), job.tally.labelled
    ranked = sorted(job.plan.labels, key=lambda label: -counts[label])
    for label in ranked[:_MAX_LINES]:
        count = counts[label]
        bar = _glyph("━", "=") * round(36 * count / most) or (_glyph("╸", "-") if count else "")
        table.add_row(Text(f"  {label}"), Text(bar, style="cyan"), f"{count:,}", f"{100 * count / total:.1f} %")
    if rest := ranked[_MAX_LINES:]:
        count = sum(counts[label] for label in rest)
        table.add_row(f"  {len(rest)} more labels", "", f"{count:,}", f"{100 * count / total:.1f} %")
    return table


def _facts(job: Job, seconds: float, *, written: bool, is_new: bool) -> Table:
    tally = job.tally
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, text: str | Text) -> None:
        table.add_row(Text(f"  {name}", style="bold"), text if isinstance(text, Text) else Text(text))

    left = (job.pending or 0) if job.total is not None and isinstance(job, FileJob) else 0
    parts = [f"{tally.labelled:,} labelled"]
    if tally.answered_before and is_new:
        parts[0] += f" ({tally.answered_before:,} by earlier runs)"
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    if left:
        parts.append(f"{left:,} not done")
    row("rows", ", ".join(parts))
    for kind, failures in sorted(tally.failures.items()):
        said = f"{failures.count:,} {kind}, such as {failures.example}: {one_line(failures.message, 160)}"
        row("failed", Text(said, style="red"))
    if tally.gold:
        judged = tally.gold.total()
        row("accuracy", f"{100 * tally.right / judged:.1f} % ({tally.right:,} of {judged:,})")
    row("model", f"{job.plan.model}, {job.plan.endpoint}")
    row("tokens", f"{tally.tokens_in:,} in, {tally.tokens_out:,} out")
    row("cost", _cost(job))
    if is_new:
        pace = f", {tally.answered / seconds:,.0f} calls/s" if tally.answered and seconds > 0 else ""
        row("time", f"{seconds:.1f} s{pace}")
    if isinstance(job, FileJob):
        row("output", job.path if written else "nothing was written")
    return table


def _cost(job: Job) -> str:
    tally = job.tally
    if not tally.priced:
        return "unknown"
    known = "" if tally.priced == tally.replies else f" for {tally.priced:,} of {tally.replies:,} calls"
    money = f"${tally.cost_usd:,.2f}" if tally.cost_usd >= 10 else f"${tally.cost_usd:.4f}"
    return f"{money}{known}" + (" simulated, nothing was charged" if job.plan.simulated else "")


def _confusion(job: Job) -> Table:
    """The right labels down and the given ones across; where they do not fit, how many of each were right."""
    labels = job.plan.labels
    rows = job.tally.confusion(labels)
    fits = _NAME + sum(2 + max(4, min(len(label), _HEAD)) for label in labels) <= _WIDTH
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, max_width=_NAME, overflow="ellipsis")
    heads = labels if fits else ["right", "of"]
    for _ in heads:
        table.add_column(justify="right", no_wrap=True, max_width=_HEAD, overflow="ellipsis")
    corner = Text("  right \\ given" if fits else "  right label", style="bold")
    table.add_row(corner, *(Text(head, style="bold") for head in heads))
    if not fits:
        rows = sorted(rows, key=lambda row: -sum(row[1]))
    for value, counts in rows[: len(labels) + _MAX_LINES if fits else _MAX_LINES]:
        name = Text(f"  {value or '(empty)'}")
        if fits:
            cells = [
                Text(f"{count:,}" if count else _glyph("·", "."), style="bold" if label == value else "")
                for label, count in zip(labels, counts, strict=True)
            ]
            table.add_row(name, *cells)
        else:
            table.add_row(name, f"{job.tally.gold[value, value]:,}", f"{sum(counts):,}")
    return table


def _glyph(drawn: str, plain: str) -> str:
    """A character to draw with, where stderr can carry it."""
    return drawn if (sys.stderr.encoding or "").lower().startswith("utf") else plain


def _console() -> Console:
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if console.width > _WIDTH:
        console.width = max(_WIDTH, min(console.width, 100))
    return console


def _duration(seconds: float) -> str:
    minutes, left = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
