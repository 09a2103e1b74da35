"""Markup of a report: text of others escaped, tables, bars, and numbers as a person reads them.

A plain str is text, and is escaped where it meets markup (`join`); only `Html` passes. Imports `charts`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from aimlasync.bulk.report.charts import Html
from aimlasync.bulk.report.facts import Total

_CLASS = {"n": ' class="n"', "w": ' class="w"', "p": ' class="p"', "t": ""}
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Within an isolated text they would still show its letters in another order.
_DIRECTIONS = re.compile(r"[\u202a-\u202e\u2066-\u2069]+")


def line(text: str, most: int) -> str:
    """Return a text on one line without what cannot be seen, cut at so many characters."""
    text = _DIRECTIONS.sub("", _UNSEEN.sub(" ", text.encode("utf-8", "replace").decode()))
    return text if len(text) <= most else text[: most - 1] + "…"


def said(text: str, most: int = 100) -> Html:
    """Return text of others, short and isolated, so that its direction of writing does not change that of the page."""
    return Html(f"<bdi>{escape(line(text, most))}</bdi>")


def join(*parts: str) -> Html:
    """Escape texts, and put them together with markup."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def tag(tag: str, *parts: str, of: str = "") -> Html:
    """Return parts within a tag of the class `of`."""
    named = f' class="{of}"' if of else ""
    return Html(f"<{tag}{named}>{join(*parts)}</{tag}>\n")


def section(title: str, *parts: str, of: str = "") -> Html:
    """Return a part of the page with its title."""
    return tag("section", tag("h2", title), *parts, of=of)


def facts(items: Iterable[tuple[str, str, str]]) -> Html:
    """Return names with large values and notes to them."""
    cells = [
        tag("div", tag("dt", name), tag("dd", value, of="value"), tag("dd", note, of="note") if note else "")
        for name, value, note in items
    ]
    return tag("dl", *cells)


def muted(text: str) -> Html:
    """Return words beside the matter."""
    return tag("p", text, of="muted")


def table(kinds: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Return a table; `kinds` has a letter a column: n a number, t words, w words that may be long, p a bar."""
    classes = [_CLASS[kind] for kind in kinds]
    lines = [[f'<th scope="col"{of}>{join(cell)}</th>' for of, cell in zip(classes, head, strict=True)]]
    for row in rows:
        cells = [f"<td{of}>{join(cell)}</td>" for of, cell in zip(classes, row, strict=True)]
        lines.append([f'<th scope="row"{classes[0]}>{join(row[0])}</th>', *cells[1:]])
    top, *body = [f"<tr>{''.join(line)}</tr>" for line in lines]
    under = "\n".join(body)
    inner = f"<thead>{top}</thead>\n<tbody>{under}</tbody>"
    return Html(f'<div class="scroll"><table>{inner}</table></div>\n')


def figure(title: str, chart: Html, table: Html, caption: str) -> Html:
    """Return a chart with its table."""
    details = Html(f"<details><summary>Table</summary>{table}</details>")
    return join(tag("h3", title), tag("figure", chart, tag("figcaption", caption), details))


def many(count: int, what: str) -> str:
    """Return a number with what it counts."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def share(part: float, whole: float) -> str:
    """Return a share in percent, with one decimal as everywhere in a report."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "<0.1%"
    return ">99.9%" if percent > 99.9 and part != whole else f"{percent:.1f}%"


def rate(rate: float) -> str:
    """Return a number per second."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}" if rate >= 0.001 else "<0.001"


def big(amount: float) -> str:
    """Return a large number in short."""
    size, unit = next((scale for scale in ((1e12, "T"), (1e9, "B"), (1e6, "M")) if amount >= scale[0]), (1, ""))
    return f"{amount / size:,.4g} {unit}" if unit else f"{amount:,.0f}"


def money(dollars: float) -> str:
    """Return US dollars."""
    if dollars >= 1e6:
        return f"${big(dollars)}"
    return f"${dollars:,.2f}" if dollars >= 1 or not dollars else f"${dollars:.3g}" if dollars >= 1e-4 else "<$0.0001"


def known(total: Total, said: str) -> str:
    """Return a sum, or that it is not known, or in part."""
    return "unknown" if not total.known else f"at least {said}" if total.unknown else said


def when(at: float) -> str:
    """Return a time in UTC."""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M:%S}" + (f".{moment.microsecond // 100_000}" if at % 1 else "")


def bars(head: str, counts: Sequence[tuple[str, int]], whole: int) -> Html:
    """Return counts as a table with bars."""
    most = max(1, *(count for _, count in counts))
    bar = '<div class="bar" style="width:{:.1f}%"></div>'
    rows = [
        (name, f"{count:,}", share(count, whole), Html(bar.format(100 * count / most) if count else ""))
        for name, count in counts
    ]
    return table("wnnp", [head, "Rows", "Share", ""], rows)
