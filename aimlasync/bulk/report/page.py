"""The page: a report as one HTML file that loads nothing.

The same report makes the same bytes, so there is no clock and no random name. A plain str is text, and is escaped where
it meets markup (`markup.join`); only `Html` passes. The page's Content-Security-Policy runs no script but its own,
whatever a label says. `first_page` is for the reader who pays, what follows for the engineer. Imports the parts of a
report.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from string import Template

from aimlasync._version import __version__
from aimlasync.bulk.report import charts
from aimlasync.bulk.report import markup as m
from aimlasync.bulk.report.charts import Bar, Html, TimeAxis, duration
from aimlasync.bulk.report.facts import MOST_ATTEMPTS, Report
from aimlasync.bulk.report.first_page import first_page
from aimlasync.bulk.report.times import Column

_TAG = re.compile("<[^>]*>")


def render(report: Report) -> str:
    """Return the page."""
    body = [_header(report)]
    if report.rows:
        parts = (first_page, _headline, _time, _latency, _attempts, _use, _slowest)
        body.append(m.tag("main", *(part(report) for part in parts)))
    words = f"Made by aimlasync {__version__} from a journal of {m.many(report.lines, 'line')}. All times are UTC."
    body.append(m.tag("footer", words))
    script = files(__package__).joinpath("page.js").read_text("utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(files(__package__).joinpath("page.html").read_text("utf-8")).substitute(
        title=escape(f"aimlasync report: {m.line(report.name, 120)}"),
        hash=f"sha256-{digest}",
        body="\n".join(body),
        script=script,
    )


def _header(report: Report) -> Html:
    words = [m.said(report.job[key]) for key in ("model", "endpoint") if key in report.job]
    if "input" in report.job:
        words.append(m.join("input ", m.said(report.job["input"])))
    parts = [m.tag("h1", "aimlasync report: ", m.said(report.name)), m.muted(Html(" · ".join(words)))]
    if spans := report.spans.spans:
        parts.append(m.muted(f"{m.when(spans[0][0] // 1)} to {m.when(spans[-1][1] // 1)} UTC"))
    if not report.rows:
        parts.append(m.tag("p", "The journal is empty: no row is finished yet.", of="notice"))
    if report.is_torn:
        torn = "The last line of the journal is torn, as after a crash or while the job runs; it is not counted."
        parts.append(m.tag("p", torn, of="notice"))
    return m.tag("header", *parts)


def _headline(report: Report) -> Html:
    sessions = report.sessions
    ran = sum(end - start for start, end in sessions)
    gaps, retries = len(sessions) - 1, report.retries
    whole = f"without {m.many(gaps, 'gap')}; {duration(sessions[-1][1] - sessions[0][0])} in all" if gaps > 0 else ""
    often = f"{retries.amount / report.calls:.3g} per call" if retries.known and report.calls else ""
    items = (
        ("Duration", duration(ran) if ran else "unknown", whole),
        ("Calls per second", m.rate(report.calls / ran) if ran else "unknown", m.many(report.calls, "call")),
        ("Tokens in", m.known(report.tokens_in, m.big(report.tokens_in.amount)), ""),
        ("Tokens out", m.known(report.tokens_out, m.big(report.tokens_out.amount)), ""),
        ("Retries", m.known(retries, f"{retries.amount:,.0f}"), often),
    )
    return m.section("For the engineer", m.facts(items), of="second")


def _time(report: Report) -> Html:
    columns = sorted(report.timeline.columns.items())
    if not columns:
        return m.section("Over time", m.muted("The journal does not say when its rows were finished."))
    line, sessions = report.timeline, report.sessions
    axis = TimeAxis(sessions, line.width, line.number)
    words = f"One column is {duration(line.width)}."
    if axis.gaps:
        words += " Numbered stripes are gaps in which nothing was in flight, drawn narrow."
    parts, cells = [m.muted(words)], [(number, axis.column(number)[2], column) for number, column in columns]
    for kind, height in (("ok", 130), ("failed", 70)):
        counts = [(number, seconds, getattr(column, kind)) for number, seconds, column in cells]
        rates = [(number, [count / ran], [f"{count:,}", m.rate(count / ran)]) for number, ran, count in counts]
        most = m.rate(max(rate[0] for _, rate, _ in rates))
        summary = f"{sum(count for *_, count in counts):,} in all, at most {most} per second."
        parts.append(_series(axis, f"Rows {kind} per second", [kind], ["Rows", "Per second"], rates, summary, height))
    if report.waits_known:
        parts.append(_waits(axis, [(number, column) for number, column in columns if column.seconds]))
    if axis.gaps:
        rows = [
            (f"{number}", m.when(before[1] // 1), m.when(after[0] // 1), duration(after[0] - before[1]))
            for number, (before, after) in enumerate(pairwise(sessions), 1)
        ]
        parts += [m.tag("h3", "Gaps"), m.table("tttn", ["Gap", "From (UTC)", "To (UTC)", "Length"], rows)]
    return m.section("Over time", *parts)


def _series(
    axis: TimeAxis,
    title: str,
    kinds: Sequence[str],
    head: Sequence[str],
    columns: Iterable[tuple[int, Sequence[float], Sequence[str]]],
    summary: str,
    height: int,
    unit: str = "",
) -> Html:
    # A column is its number, the heights of its layers, and what the tooltip and the table say under `head`.
    bars, rows = [], []
    for number, layers, said in columns:
        clock = m.when(number * axis.width)
        tip = [f"{clock} UTC", *(f"{name}: {value}" for name, value in zip(head, said, strict=True))]
        bars.append(Bar(*axis.column(number)[:2], layers, tip))
        if any(layers):
            rows.append([clock, *said])
    if not rows:
        return m.join(m.tag("h3", title), m.muted("None."))
    label = f"{title}, over time: {_TAG.sub('', summary)}"
    chart = charts.over_time(axis, bars, kinds, label=label, height=height, unit=unit)
    table = m.table("tnn", [f"UTC, for {duration(axis.width)}", *head], rows)
    return m.figure(title, chart, table, summary)


def _swatch(kind: str) -> Html:
    return Html(f'<svg class="swatch" aria-hidden="true"><rect class="{kind}" width="14" height="12"/></svg>')


def _waits(axis: TimeAxis, columns: Sequence[tuple[int, Column]]) -> Html:
    shares = []
    for number, column in columns:
        limited = min(100.0, 100 * column.limited / column.seconds)
        queued = min(100 - limited, 100 * column.queued / column.seconds)
        shares.append((number, [limited, queued], [f"{limited:.1f}%", f"{queued:.1f}%"]))
    seconds, limited, queued = (
        sum(getattr(column, of) for _, column in columns) for of in ("seconds", "limited", "queued")
    )
    words = m.join(
        _swatch("limited"),
        f"{m.share(limited, seconds)} of the time of all rows was spent waiting for a rate or a pause (hatched), ",
        _swatch("queued"),
        f"{m.share(queued, seconds)} for concurrency (plain): as many attempts were in flight as may be. The rest was "
        "the server's. Counted when the row was finished.",
    )
    title, head = "What limited when: waiting, of the time of all rows", ["Rate or pause", "Concurrency"]
    return _series(axis, title, ["limited", "queued"], head, shares, words, 100, "%")


def _latency(report: Report) -> Html:
    parts = []
    for title, of, what in (
        ("Time per row", report.seconds, "From the start of the call to its end; waits, retries, failed rows included"),
        ("Time to first byte", report.first_byte, "From the start of the last attempt until its response began"),
    ):
        if of.total:
            bins = charts.bins_of(of)
            marks = [(f"p{percent}", of.quantile(percent / 100)) for percent in (50, 95, 99)]
            said = ", ".join(f"{name} {duration(seconds)}" for name, seconds in marks)
            words = f"{what}. {m.many(of.total, 'row')}, the slowest {duration(of.most)}."
            rows = [(f"{duration(low)} to {duration(high)}", f"{count:,}") for low, high, count in bins if count]
            chart = charts.histogram(bins, marks=marks, label=f"{title}: {said}. {words}")
            parts.append(m.tag("div", m.figure(title, chart, m.table("tn", ["Time", "Rows"], rows), words)))
    return m.section("Latency", m.tag("div", *parts, of="two")) if parts else Html("")


def _attempts(report: Report) -> Html:
    parts = []
    if report.attempts:
        over = f"more than {MOST_ATTEMPTS}"
        counts = [(f"{n}" if n <= MOST_ATTEMPTS else over, count) for n, count in sorted(report.attempts.items())]
        parts += [m.tag("h3", "Attempts per row"), m.bars("Attempts", counts, report.attempts.total())]
    parts.append(m.tag("h3", "Errors by kind"))
    rows = []
    for kind in sorted(report.kinds.values(), key=lambda kind: (kind.superseded - kind.lines, -kind.lines, kind.code)):
        first = m.tag("div", m.said(kind.message, 200), " (", m.said(kind.custom_id, 60), ")", of="note")
        still, again = f"{kind.lines - kind.superseded:,}", f"{kind.superseded:,}"
        rows.append([m.join(m.said(kind.code), first), f"{kind.status or '-'}", still, again])
    head = ["Error, its first message and row", "Status", "Rows failed", "Asked again"]
    parts.append(m.table("wnnn", head, rows) if rows else m.muted("None."))
    return m.section("Attempts and errors", *parts)


def _use(report: Report) -> Html:
    rows = []
    for name, total in (("Tokens in", report.tokens_in), ("Tokens out", report.tokens_out), ("Cost", report.cost)):
        each = 1000 * total.amount / max(1, total.known)
        amount, mean = (m.money(value) if total is report.cost else f"{value:,.0f}" for value in (total.amount, each))
        rows.append((name, m.known(total, amount), mean if total.known else "unknown", f"{total.unknown:,}"))
    words = "Of all answered rows, those that failed in the end included."
    if report.shared:
        words += f" {m.many(report.shared, 'row')} shared the call of an identical row and added nothing."
    head = ["", "Total", "Per 1,000 rows", "Rows without it"]
    return m.section("Tokens and cost", m.muted(words), m.table("tnnn", head, rows))


def _slowest(report: Report) -> Html:
    rows = [
        (
            m.said(row),
            f"{seconds:,.1f} s",
            "-" if attempts is None else f"{attempts:,}",
            m.said(status or "-", 60),
        )
        for seconds, _, row, attempts, status in sorted(report.slowest, reverse=True)
    ]
    return m.section("Slowest rows", m.table("wnnw", ["Row", "Time", "Attempts", "Status"], rows)) if rows else Html("")
