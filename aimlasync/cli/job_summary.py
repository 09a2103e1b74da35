"""What is printed of a job once: how its labels were understood, what a dry run says, what it came to; on stderr.

Shows numbers, labels and messages of errors, and never a prompt or a text. Colours are of the eight that every theme
has, on text that reads without them. Imports the values of a job, and rich.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aimlasync.bulk.jobs.dry_run import Estimate, Forecast
from aimlasync.bulk.jobs.job import Job
from aimlasync.bulk.progress.progress import LIMITS
from aimlasync.bulk.progress.summary import Summary
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.bulk.tasks.labels import shown_label
from aimlasync.bulk.tasks.result import Flaw
from aimlasync.cli import terminal
from aimlasync.cli.quality_tables import MAX_LINES, NAME, glyph, quality_facts, quality_tables
from aimlasync.cli.terminal import counted, one_line
from aimlasync.errors import AimlasyncError

_WIDTH = 80
# Most labels that are printed before a job.
_MAX_LABELS = 20
# Longest bar of a label.
_BAR = 36
_FLAWS: Mapping[Flaw, str] = {
    "cut": "cut by an output cap",
    "refused": "refused",
    "failed": "broken off by the server",
    "empty": "empty",
}


def money(usd: float) -> str:
    """Return dollars, with as many digits as tell something."""
    if 0 < usd < 0.0001:
        return "under $0.0001"
    return f"${usd:,.2f}" if usd >= 10 else f"${usd:.4f}"


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _estimate(estimate: Estimate, written: Callable[[float], str]) -> str:
    """Return about a sum, with its range where that says anything."""
    about = said if (said := written(estimate.sum)).startswith("under") else f"about {said}"
    if estimate.low is None or estimate.high is None or written(estimate.low) == written(estimate.high):
        return about
    return f"{about} ({written(estimate.low)} to {written(estimate.high)})"


def show_summary(title: str, job: Job, summary: Summary) -> None:
    """Print what a job came to."""
    screen = console()
    screen.print(Text(f"\n{title}{' (simulated)' if job.options.simulated else ''}", style="bold"))
    if not job.totals.finished and summary.is_complete:
        done = "Everything is done already" if summary.total else "No row is this shard's"
        screen.print(f"{done}; nothing was asked.")
    labels = job.task.labels if isinstance(job.task, ClassifyTask) else []
    if job.totals.labelled:
        screen.print()
        screen.print(_labels(job, labels, screen.width))
    screen.print()
    screen.print(_facts(job, summary))
    for table in quality_tables(job.totals.quality, screen.width):
        screen.print()
        screen.print(table)


def show_labels(labels: Mapping[str, str], *, ordinal: bool) -> None:
    """Print how the labels were understood."""
    between = " < " if ordinal else ", "
    names = [shown_label(label) for label in list(labels)[:_MAX_LABELS]]
    more = f" and {len(labels) - _MAX_LABELS:,} more" if len(labels) > _MAX_LABELS else ""
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
    screen = console()
    simulated = " (simulated)" if job.options.simulated else ""
    screen.print(Text(f"\n{title}: dry run{simulated}", style="bold"))
    screen.print()
    table, row = _grid()
    kept = ", whose answers are kept" if job.is_resumable and not job.is_throwaway else ""
    failed = f", {forecast.failed:,} failed" if forecast.failed else ""
    row("asked", f"{counted(forecast.asked, 'row')}{failed}{kept}")
    if not forecast.rows:
        row("left", "no row")
        screen.print(table)
        return
    row("left", f"{counted(forecast.rows, 'row')}, about {counted(forecast.calls, 'call')}")
    if forecast.tokens_in is not None and forecast.tokens_out is not None:
        ranges = [_estimate(each, _whole) for each in (forecast.tokens_in, forecast.tokens_out)]
        row("tokens", f"{ranges[0]} in, {ranges[1]} out")
    row("cost", "unknown" if forecast.cost_usd is None else _estimate(forecast.cost_usd, money))
    if forecast.seconds is not None:
        row("time", f"about {duration(forecast.seconds)}, held back by {LIMITS[forecast.limited_by or 'concurrency']}")
    screen.print(table)


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
    if totals.flaws:
        said = ", ".join(f"{totals.flaws[flaw]:,} {words}" for flaw, words in _FLAWS.items() if totals.flaws[flaw])
        row("look at", Text(f"{said} (taken for good; --retry-invalid asks again)", style="red"))
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
        return "unknown" if totals.replies or totals.attempts else _unanswered(job.ending.stopped_by)
    known = "" if totals.priced == totals.replies else f" for {totals.priced:,} of {totals.replies:,} rows"
    if totals.at_price:
        known += " at the price given or listed" if totals.at_price == totals.priced else ", some at the price given"
    if totals.cost_before and totals.finished:
        known += f", {money(max(0.0, totals.cost_usd - totals.cost_before))} of it by this run"
    return f"{money(totals.cost_usd)}{known}" + ("; simulated, nothing was charged" if job.options.simulated else "")


def _unanswered(error: AimlasyncError | None) -> str:
    """The cost of a job without a reply: its rows are left, and only the error that stopped it says what was sent."""
    if error is None or not (error.info.attempts if error.info is not None else getattr(error, "status", None)):
        return f"{money(0.0)}: nothing was sent"
    return f"{money(0.0)}: nothing was billed" if error.billed is False else "unknown"


def console() -> Console:
    """Return stderr for rich, no wider than a table is read with ease."""
    found = terminal.console()
    if found.width > _WIDTH:
        found.width = max(_WIDTH, min(found.width, 100))
    return found


def duration(seconds: float) -> str:
    """Return minutes and seconds, and hours if there are any."""
    minutes, left = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
