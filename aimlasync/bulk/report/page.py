"""The page: a report as one HTML file that loads nothing.

The same report makes the same bytes, so there is no clock and no random name. A plain str is text, and is escaped where
it meets markup (`_join`); only `Html` passes. The page's Content-Security-Policy runs no script but its own, whatever a
label says. Imports `facts` and `charts`.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from itertools import pairwise
from string import Template

from aimlasync._version import __version__
from aimlasync.bulk.report import charts
from aimlasync.bulk.report.charts import Bar, Html, TimeAxis, duration
from aimlasync.bulk.report.facts import BINS, MOST_ATTEMPTS, Column, Report, Total

_TOP_LABELS = 30
_CLASS = {"n": ' class="n"', "w": ' class="w"', "p": ' class="p"', "t": ""}
_TAG = re.compile("<[^>]*>")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def render(report: Report) -> str:
    """Return the page."""
    body = [_header(report)]
    if report.rows:
        parts = (_headline, _time, _latency, _attempts, _use, _labels, _slowest)
        body.append(_tag("main", *(part(report) for part in parts)))
    words = f"Made by aimlasync {__version__} from a journal of {_many(report.lines, 'line')}. All times are UTC."
    body.append(_tag("footer", words))
    script = files(__package__).joinpath("page.js").read_text("utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(files(__package__).joinpath("page.html").read_text("utf-8")).substitute(
        title=escape(f"aimlasync report: {_line(report.name, 120)}"),
        hash=f"sha256-{digest}",
        body="\n".join(body),
        script=script,
    )


def _line(text: str, most: int) -> str:
    text = _UNSEEN.sub(" ", text.encode("utf-8", "replace").decode())
    return text if len(text) <= most else text[: most - 1] + "…"


def _said(text: str, most: int = 100) -> Html:
    # Text of others: on one short line, and isolated, so that its writing direction does not change that of the page.
    return Html(f"<bdi>{escape(_line(text, most))}</bdi>")


def _join(*parts: str) -> Html:
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def _tag(tag: str, *parts: str, of: str = "") -> Html:
    named = f' class="{of}"' if of else ""
    return Html(f"<{tag}{named}>{_join(*parts)}</{tag}>\n")


def _section(title: str, *parts: str) -> Html:
    return _tag("section", _tag("h2", title), *parts)


def _muted(text: str) -> Html:
    return _tag("p", text, of="muted")


def _table(kinds: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    # `kinds` has a letter per column: n is a number, t words, w words that may be long, p a bar.
    classes = [_CLASS[kind] for kind in kinds]
    lines = [[f'<th scope="col"{of}>{_join(cell)}</th>' for of, cell in zip(classes, head, strict=True)]]
    for row in rows:
        cells = [f"<td{of}>{_join(cell)}</td>" for of, cell in zip(classes, row, strict=True)]
        lines.append([f'<th scope="row"{classes[0]}>{_join(row[0])}</th>', *cells[1:]])
    top, *body = [f"<tr>{''.join(line)}</tr>" for line in lines]
    under = "\n".join(body)
    inner = f"<thead>{top}</thead>\n<tbody>{under}</tbody>"
    return Html(f'<div class="scroll"><table>{inner}</table></div>\n')


def _figure(title: str, chart: Html, table: Html, caption: str) -> Html:
    details = Html(f"<details><summary>Table</summary>{table}</details>")
    return _join(_tag("h3", title), _tag("figure", chart, _tag("figcaption", caption), details))


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _share(part: float, whole: float) -> str:
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "<0.1%"
    return ">99.9%" if percent > 99.9 and part != whole else f"{percent:.3g}%"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}" if rate >= 0.001 else "<0.001"


def _big(amount: float) -> str:
    size, unit = next((scale for scale in ((1e12, "T"), (1e9, "B"), (1e6, "M")) if amount >= scale[0]), (1, ""))
    return f"{amount / size:,.4g} {unit}" if unit else f"{amount:,.0f}"


def _money(dollars: float) -> str:
    if dollars >= 1e6:
        return f"${_big(dollars)}"
    return f"${dollars:,.2f}" if dollars >= 1 or not dollars else f"${dollars:.3g}" if dollars >= 1e-4 else "<$0.0001"


def _known(total: Total, said: str) -> str:
    return "unknown" if not total.known else f"at least {said}" if total.unknown else said


def _when(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M:%S}" + (f".{moment.microsecond // 100_000}" if at % 1 else "")


def _header(report: Report) -> Html:
    words = [_said(report.job[key]) for key in ("model", "endpoint") if key in report.job]
    if "input" in report.job:
        words.append(_join("input ", _said(report.job["input"])))
    parts = [_tag("h1", "aimlasync report: ", _said(report.name)), _muted(Html(" · ".join(words)))]
    if spans := report.spans.spans:
        parts.append(_muted(f"{_when(spans[0][0] // 1)} to {_when(spans[-1][1] // 1)} UTC"))
    if not report.rows:
        parts.append(_tag("p", "The journal is empty: no row is finished yet.", of="notice"))
    if report.is_torn:
        torn = "The last line of the journal is torn, as after a crash or while the job runs; it is not counted."
        parts.append(_tag("p", torn, of="notice"))
    return _tag("header", *parts)


def _headline(report: Report) -> Html:
    sessions = report.sessions
    ran = sum(end - start for start, end in sessions)
    gaps, cost, retries = len(sessions) - 1, report.cost, report.retries
    whole = f"without {_many(gaps, 'gap')}; {duration(sessions[-1][1] - sessions[0][0])} in all" if gaps > 0 else ""
    later = f"; {report.rescued:,} more were ok later" if report.rescued else ""
    priced = f"{_many(cost.unknown, 'answered row')} without a price" if cost.unknown else ""
    often = f"{retries.amount / report.calls:.3g} per call" if retries.known and report.calls else ""
    items = (
        ("Rows ok", f"{report.ok:,}", f"{_share(report.ok, report.rows)} of {report.rows:,}"),
        ("Rows failed", f"{report.failed:,}", f"{_share(report.failed, report.rows)}{later}"),
        ("Duration", duration(ran) if ran else "unknown", whole),
        ("Calls per second", _rate(report.calls / ran) if ran else "unknown", _many(report.calls, "call")),
        ("Tokens in", _known(report.tokens_in, _big(report.tokens_in.amount)), ""),
        ("Tokens out", _known(report.tokens_out, _big(report.tokens_out.amount)), ""),
        ("Cost", _known(cost, _money(cost.amount)), priced),
        ("Retries", _known(retries, f"{retries.amount:,.0f}"), often),
    )
    cells = [
        _tag("div", _tag("dt", name), _tag("dd", value, of="value"), _tag("dd", note, of="note") if note else "")
        for name, value, note in items
    ]
    return _tag("dl", *cells)


def _time(report: Report) -> Html:
    columns = sorted(report.timeline.columns.items())
    if not columns:
        return _section("Over time", _muted("The journal does not say when its rows were finished."))
    line, sessions = report.timeline, report.sessions
    axis = TimeAxis(sessions, line.width, line.number)
    words = f"One column is {duration(line.width)}."
    if axis.gaps:
        words += " Numbered stripes are gaps in which nothing was in flight, drawn narrow."
    parts, cells = [_muted(words)], [(number, axis.column(number)[2], column) for number, column in columns]
    for kind, height in (("ok", 130), ("failed", 70)):
        counts = [(number, seconds, getattr(column, kind)) for number, seconds, column in cells]
        rates = [(number, [count / ran], [f"{count:,}", _rate(count / ran)]) for number, ran, count in counts]
        most = _rate(max(rate[0] for _, rate, _ in rates))
        summary = f"{sum(count for *_, count in counts):,} in all, at most {most} per second."
        parts.append(_series(axis, f"Rows {kind} per second", [kind], ["Rows", "Per second"], rates, summary, height))
    if report.waits_known:
        parts.append(_waits(axis, [(number, column) for number, column in columns if column.seconds]))
    if axis.gaps:
        rows = [
            (f"{number}", _when(before[1] // 1), _when(after[0] // 1), duration(after[0] - before[1]))
            for number, (before, after) in enumerate(pairwise(sessions), 1)
        ]
        parts += [_tag("h3", "Gaps"), _table("tttn", ["Gap", "From (UTC)", "To (UTC)", "Length"], rows)]
    return _section("Over time", *parts)


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
        clock = _when(number * axis.width)
        tip = [f"{clock} UTC", *(f"{name}: {value}" for name, value in zip(head, said, strict=True))]
        bars.append(Bar(*axis.column(number)[:2], layers, tip))
        if any(layers):
            rows.append([clock, *said])
    if not rows:
        return _join(_tag("h3", title), _muted("None."))
    label = f"{title}, over time: {_TAG.sub('', summary)}"
    chart = charts.over_time(axis, bars, kinds, label=label, height=height, unit=unit)
    table = _table("tnn", [f"UTC, for {duration(axis.width)}", *head], rows)
    return _figure(title, chart, table, summary)


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
    words = _join(
        _swatch("limited"),
        f"{_share(limited, seconds)} of the time of all rows was spent waiting for a rate or a pause (hatched), ",
        _swatch("queued"),
        f"{_share(queued, seconds)} for concurrency (plain): as many attempts were in flight as may be. The rest was "
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
            words = f"{what}. {_many(of.total, 'row')}, the slowest {duration(of.most)}."
            rows = [(f"{duration(low)} to {duration(high)}", f"{count:,}") for low, high, count in bins if count]
            chart = charts.histogram(bins, marks=marks, label=f"{title}: {said}. {words}")
            parts.append(_tag("div", _figure(title, chart, _table("tn", ["Time", "Rows"], rows), words)))
    return _section("Latency", _tag("div", *parts, of="two")) if parts else Html("")


def _bars(head: str, counts: Sequence[tuple[str, int]], whole: int) -> Html:
    most = max(count for _, count in counts)
    bar = '<div class="bar" style="width:{:.1f}%"></div>'
    rows = [
        (name, f"{count:,}", _share(count, whole), Html(bar.format(100 * count / most) if count else ""))
        for name, count in counts
    ]
    return _table("wnnp", [head, "Rows", "Share", ""], rows)


def _attempts(report: Report) -> Html:
    parts = []
    if report.attempts:
        over = f"more than {MOST_ATTEMPTS}"
        counts = [(f"{n}" if n <= MOST_ATTEMPTS else over, count) for n, count in sorted(report.attempts.items())]
        parts += [_tag("h3", "Attempts per row"), _bars("Attempts", counts, report.attempts.total())]
    parts.append(_tag("h3", "Errors by kind"))
    rows = []
    for kind in sorted(report.kinds.values(), key=lambda kind: (kind.superseded - kind.lines, -kind.lines, kind.code)):
        first = _tag("div", _said(kind.message, 200), " (", _said(kind.custom_id, 60), ")", of="note")
        still, again = f"{kind.lines - kind.superseded:,}", f"{kind.superseded:,}"
        rows.append([_join(_said(kind.code), first), f"{kind.status or '-'}", still, again])
    head = ["Error, its first message and row", "Status", "Rows failed", "Asked again"]
    parts.append(_table("wnnn", head, rows) if rows else _muted("None."))
    return _section("Attempts and errors", *parts)


def _use(report: Report) -> Html:
    rows = []
    for name, total in (("Tokens in", report.tokens_in), ("Tokens out", report.tokens_out), ("Cost", report.cost)):
        each = 1000 * total.amount / max(1, total.known)
        amount, mean = (_money(value) if total is report.cost else f"{value:,.0f}" for value in (total.amount, each))
        rows.append((name, _known(total, amount), mean if total.known else "unknown", f"{total.unknown:,}"))
    words = "Of all answered rows, those that failed in the end included."
    if report.shared:
        words += f" {_many(report.shared, 'row')} shared the call of an identical row and added nothing."
    head = ["", "Total", "Per 1,000 rows", "Rows without it"]
    return _section("Tokens and cost", _muted(words), _table("tnnn", head, rows))


def _labels(report: Report) -> Html:
    parts = []
    if report.labelled:
        found = [(label, count) for label, count in report.labels.items() if label is not None]
        found.sort(key=lambda label: (-label[1], label[0]))
        shown: list[tuple[str, int]] = [
            (_said(label, 80) if label.strip() else Html("<i>empty</i>"), count) for label, count in found[:_TOP_LABELS]
        ]
        if rest := report.labels.total() - sum(count for _, count in shown):
            more = "more than " if None in report.labels else ""
            shown.append((Html(f"<i>{more}{len(found) - _TOP_LABELS:,} other labels</i>"), rest))
        several = "; a row may have several" if report.is_multi else ""
        parts.append(_muted(f"Of {_many(report.labelled, 'labelled row')}{several}."))
        parts.append(_bars("Label", shown, report.labelled) if shown else _muted("All have an empty list of labels."))
    if known := report.confidences.known:
        counts = [(f"{at / BINS:.1f} to {(at + 1) / BINS:.1f}", report.confidence[at]) for at in range(BINS)]
        words = f"Probability of the label by the model's own token probabilities, {_many(known, 'row')}: mean "
        parts += [_tag("h3", "Confidence"), _muted(f"{words}{report.confidences.amount / known:.3f}.")]
        parts.append(_bars("Confidence", counts, known))
    return _section("Labels", *parts) if parts else Html("")


def _slowest(report: Report) -> Html:
    rows = [
        (_said(row), f"{seconds:,.1f} s", "-" if attempts is None else f"{attempts:,}", _said(status or "-", 60))
        for seconds, _, row, attempts, status in sorted(report.slowest, reverse=True)
    ]
    return _section("Slowest rows", _table("wnnw", ["Row", "Time", "Attempts", "Status"], rows)) if rows else Html("")
