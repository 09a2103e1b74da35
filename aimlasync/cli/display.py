"""What is on the screen of a job: a live view while it runs, a summary when it ends; both on stderr.

Shows numbers, labels and messages of errors, and never a prompt or a text. The live view is on a terminal alone, and
not where the rows themselves go to that terminal. Colours are of the eight that every theme has, on text that reads
without them. Imports the values of a job, and rich.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aimlasync.bulk.jobs.dry_run import Estimate, Forecast
from aimlasync.bulk.jobs.job import Job
from aimlasync.bulk.journal.table_changes import Changes
from aimlasync.bulk.progress.progress import LIMITS, Snapshot
from aimlasync.bulk.progress.summary import Summary
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.bulk.tasks.labels import shown_label
from aimlasync.cli import terminal
from aimlasync.cli.options import counted, one_line
from aimlasync.cli.quality_tables import MAX_LINES, NAME, glyph, quality_facts, quality_tables

_WIDTH = 80
# Most labels that are printed before a job.
MAX_LABELS = 20
# Longest bar of a label.
_BAR = 36
# Where there is no terminal: seconds until the first line about a job, and between those that follow.
_FIRST_LINE = 10.0
_LINE = 60.0
# Seconds between two snapshots of a job.
_LIVE = 0.25
_JSON = 1.0
# Up to so many bytes of input and journal are read in a moment, without a message.
_SILENT = 2**28

_encode = msgspec.json.Encoder().encode


class ProgressDisplay:
    """A live view, JSON lines, or nothing where nobody would see it."""

    def __init__(self, title: str, mode: str, *, stdout_is_rows: bool) -> None:
        self._title = title
        self._mode = mode
        self._console = _console()
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

    def reading(self, size: int) -> None:
        """Say that `size` bytes are read before anything else can be shown."""
        if self._live is not None and size >= _SILENT:
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
            self._print_json(snapshot)
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

    def _print_json(self, snapshot: Snapshot) -> None:
        click.echo(_encode(snapshot), err=True)


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
        "" if now.cost_usd is None else _money(now.cost_usd),
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


def _money(usd: float) -> str:
    if 0 < usd < 0.0001:
        return "under $0.0001"
    return f"${usd:,.2f}" if usd >= 10 else f"${usd:.4f}"


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _estimate(estimate: Estimate, written: Callable[[float], str]) -> str:
    """Return a sum with its range, where that says anything."""
    if estimate.low is None or estimate.high is None or written(estimate.low) == written(estimate.high):
        return written(estimate.sum)
    return f"{written(estimate.sum)} ({written(estimate.low)} to {written(estimate.high)})"


def show_summary(title: str, job: Job, summary: Summary) -> None:
    """Print what a job came to."""
    console = _console()
    console.print(Text(f"\n{title}{' (simulated)' if job.options.simulated else ''}", style="bold"))
    if not job.totals.finished and summary.is_complete:
        console.print("Everything is done already; nothing was asked.")
    labels = job.task.labels if isinstance(job.task, ClassifyTask) else []
    if job.totals.labelled:
        console.print()
        console.print(_labels(job, labels, console.width))
    console.print()
    console.print(_facts(job, summary))
    for table in quality_tables(job.totals.quality, console.width):
        console.print()
        console.print(table)


def show_labels(labels: Mapping[str, str], *, ordinal: bool) -> None:
    """Print how the labels were understood."""
    between = " < " if ordinal else ", "
    names = [shown_label(label) for label in list(labels)[:MAX_LABELS]]
    more = f" and {len(labels) - MAX_LABELS:,} more" if len(labels) > MAX_LABELS else ""
    if not any(labels.values()):
        click.echo(f"aimlasync: {counted(len(labels), 'label')}: {between.join(names)}{more}", err=True)
        return
    order = ", lowest first" if ordinal else ""
    click.echo(f"aimlasync: {counted(len(labels), 'label')}{order}, and what they mean:", err=True)
    wide = min(NAME, max(map(len, names)))
    for name, said in zip(names, labels.values(), strict=False):
        click.echo(f"  {one_line(name, NAME):{wide}}  {one_line(said, _WIDTH - wide - 4)}".rstrip(), err=True)
    if more:
        click.echo(f" {more}", err=True)


def show_forecast(title: str, job: Job, forecast: Forecast) -> None:
    """Print what a dry run says about the whole."""
    console = _console()
    simulated = " (simulated)" if job.options.simulated else ""
    console.print(Text(f"\n{title}: dry run{simulated}", style="bold"))
    console.print()
    table, row = _grid()
    kept = ", whose answers are kept" if job.is_resumable and not job.is_throwaway else ""
    failed = f", {forecast.failed:,} failed" if forecast.failed else ""
    row("asked", f"{counted(forecast.asked, 'row')}{failed}{kept}")
    row("left", f"{counted(forecast.rows, 'row')}, about {counted(forecast.calls, 'call')}")
    if forecast.tokens_in is not None and forecast.tokens_out is not None:
        ranges = [f"about {_estimate(each, _whole)}" for each in (forecast.tokens_in, forecast.tokens_out)]
        row("tokens", f"{ranges[0]} in, {ranges[1]} out")
    row("cost", "unknown" if forecast.cost_usd is None else f"about {_estimate(forecast.cost_usd, _money)}")
    if forecast.seconds is not None:
        row("time", f"about {duration(forecast.seconds)}, by {LIMITS[forecast.limited_by or 'concurrency']}")
    console.print(table)


def _labels(job: Job, labels: list[str], width: int) -> Table:
    """Rows per label, as bars."""
    counts = job.totals.labels
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=NAME, no_wrap=True, overflow="ellipsis")
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    # With several labels a row, the shares are of the rows and need not add up.
    most, total = max(counts.values()), job.totals.ok
    ranked = list(dict.fromkeys([*labels, *counts]))
    if not job.totals.quality.ordinal:
        ranked.sort(key=lambda label: -counts[label])
    name = min(NAME, 2 + max(map(len, ranked)))
    longest = min(_BAR, max(4, width - name - len(f"{most:,}") - len("100.0 %") - 6))
    for label in ranked[:MAX_LINES]:
        count = counts[label]
        bar = glyph("━", "=") * round(longest * count / most) or (glyph("╸", "-") if count else "")
        table.add_row(Text(f"  {label}"), Text(bar, style="cyan"), f"{count:,}", f"{100 * count / total:.1f} %")
    if rest := ranked[MAX_LINES:]:
        count = sum(counts[label] for label in rest)
        table.add_row(f"  {len(rest)} more labels", "", f"{count:,}", f"{100 * count / total:.1f} %")
    return table


def _grid() -> tuple[Table, Callable[[str, str | Text], None]]:
    """A table of facts, and what adds one."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, text: str | Text) -> None:
        table.add_row(Text(f"  {name}", style="bold"), text if isinstance(text, Text) else Text(text))

    return table, row


def _facts(job: Job, summary: Summary) -> Table:
    totals, is_labels = job.totals, isinstance(job.task, ClassifyTask)
    table, row = _grid()
    parts = [f"{totals.ok:,} {'labelled' if is_labels else 'answered'}"]
    if totals.ok_before and job.totals.finished:
        parts[0] += f" ({totals.ok_before:,} by earlier runs)"
    if totals.failed:
        parts.append(f"{totals.failed:,} failed")
    if summary.left:
        parts.append(f"{summary.left:,} not done")
    row("rows", ", ".join(parts))
    if totals.truncated or totals.refused:
        said = [f"{totals.truncated:,} cut by an output cap" if totals.truncated else ""]
        said.append(f"{totals.refused:,} refused" if totals.refused else "")
        row(
            "look at",
            Text(f"{', '.join(filter(None, said))} (taken for good; --retry-invalid asks again)", style="red"),
        )
    if totals.shared:
        row("shared", f"{counted(totals.shared, 'row')} had the answer of an equal request, and cost nothing")
    for kind, failures in sorted(totals.failures.items()):
        said_of = f"{failures.count:,} {kind}, such as {failures.example}: {one_line(failures.message, 160)}"
        row("failed", Text(said_of, style="red"))
    if job.options.gold is not None and totals.labelled:
        for name, words, is_warning in quality_facts(totals.quality, job.options.gold):
            row(name, Text(words, style="red" if is_warning else ""))
    identity = job.task.identity()
    if identity.get("model"):
        row("model", ", ".join(filter(None, [identity["model"], identity.get("endpoint")])))
    row("tokens", f"{totals.tokens_in:,} in, {totals.tokens_out:,} out")
    if totals.guessed:
        row(
            "estimated",
            f"{totals.guessed:,} tokens for the caps, by length: the server counted none for "
            f"{counted(totals.uncounted, 'row')}",
        )
    row("cost", _cost(job))
    if job.totals.finished:
        seconds = summary.seconds
        pace = f", {totals.answered / seconds:,.0f} calls/s" if totals.answered and seconds > 0 else ""
        row("time", f"{seconds:.1f} s{pace}")
        row("held back", _held(job))
        for words in summary.learned:
            row("learned", words)
    if summary.output is not None:
        row("output", summary.output)
    if summary.journal:
        is_beside = summary.output is not None or summary.journal.endswith(".journal")
        row("journal" if is_beside else "output", summary.journal)
    return table


def _held(job: Job) -> str:
    """What the job waited for, by share of the time."""
    limits = job.progress.limits
    total = limits.total()
    shares = [f"{LIMITS[name]} {100 * count / total:.0f} %" for name, count in limits.most_common(3)]
    return "by " + ", ".join(shares) if shares else "by nothing"


def _cost(job: Job) -> str:
    totals = job.totals
    if not totals.priced:
        return "unknown" if totals.replies or totals.attempts else f"{_money(0.0)}: nothing was sent"
    known = "" if totals.priced == totals.replies else f" for {totals.priced:,} of {totals.replies:,} rows"
    if totals.at_price:
        known += " at the price given or listed" if totals.at_price == totals.priced else ", some at the price given"
    if totals.cost_before and totals.finished:
        known += f", {_money(max(0.0, totals.cost_usd - totals.cost_before))} of it by this run"
    return f"{_money(totals.cost_usd)}{known}" + ("; simulated, nothing was charged" if job.options.simulated else "")


def _console() -> Console:
    console = terminal.console()
    if console.width > _WIDTH:
        console.width = max(_WIDTH, min(console.width, 100))
    return console


def duration(seconds: float) -> str:
    """Return minutes and seconds, and hours if there are any."""
    minutes, left = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
