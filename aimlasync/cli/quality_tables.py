"""What a terminal is shown of how labels agree with gold ones: facts, each label, confusion; for 80 columns.

Imports the arithmetic of `Quality`, and rich.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import islice

from rich.table import Table
from rich.text import Text

from aimlasync.bulk.progress.quality import Quality
from aimlasync.cli.terminal import counted, printable

# Greatest width of names at the side and at the head of a table, and most lines of a table.
NAME = 24
MAX_LINES = 12
_HEAD = 14
_QUOTED = 3


def quality_facts(quality: Quality, column: str | None) -> Iterator[tuple[str, str, bool]]:
    """Give names and words about a whole quality, and whether they are a warning."""
    of = "" if column is None else f" in {column!r}"
    if not quality.judged:
        yield "accuracy", f"unknown: no row with a label has a gold one{of}", True
        return
    assert quality.accuracy is not None
    assert quality.interval is not None
    low, high = (100 * each for each in quality.interval)
    share = f"{quality.right:,} of {quality.judged:,}"
    yield "accuracy", f"{100 * quality.accuracy:.1f} % ({share}); 95 % interval {low:.1f} to {high:.1f} %", False
    if quality.macro_f1 is not None:
        yield "macro F1", percent(quality.macro_f1), False
    if quality.mean_distance is not None and quality.within_one is not None:
        off = f"{quality.mean_distance:.2f} steps on average; {percent(quality.within_one)} within one step"
        yield "off by", off, False
    if quality.blank:
        yield "not judged", f"{counted(quality.blank, 'labelled row')}, whose gold label{of} is blank", False
    if quality.respelled:
        pairs = [f"{value!r} is {label}" for value, label in islice(quality.respelled.items(), _QUOTED)]
        yield "gold", f"spelled differently: {_and_more(pairs, len(quality.respelled))}", False
    if strange := quality.strange:
        values = [f"{value!r} ({rows:,})" for value, rows in strange.most_common(_QUOTED)]
        found = f"of {counted(strange.total(), 'row')} is none of the labels, so none is right"
        yield "gold", f"{found}: {_and_more(values, len(strange))}", True


def quality_tables(quality: Quality, width: int) -> list[Table]:
    """Return a table of the labels, and one of the confusion."""
    tables = [_per_label(quality)] if quality.judged else []
    if quality.pairs:
        tables.append(_confusion(quality, width) or _mistakes(quality))
    return tables


def percent(share: float | None) -> str:
    """Return a share as a percentage, nothing for None."""
    return "" if share is None else f"{100 * share:.1f} %"


def glyph(drawn: str, plain: str) -> str:
    """Return a character to draw with, where stderr can carry it."""
    return drawn if (sys.stderr.encoding or "").lower().startswith("utf") else plain


def _and_more(shown: list[str], count: int) -> str:
    return ", ".join(shown) + (f" and {count - len(shown):,} more" if count > len(shown) else "")


def _table(names: int, heads: list[str]) -> tuple[Table, Callable[..., None]]:
    """A table with so many columns of names, then numbers; and what adds a line."""
    table = Table.grid(padding=(0, 2))
    for at in range(len(heads)):
        if at < names:
            table.add_column(no_wrap=True, max_width=NAME, overflow="ellipsis")
        else:
            table.add_column(justify="right", no_wrap=True, max_width=_HEAD, overflow="ellipsis")
    table.add_row(*(Text(head, style="bold") for head in heads))

    def add(*cells: str | Text) -> None:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells))

    return table, add


def _per_label(quality: Quality) -> Table:
    table, add = _table(1, ["  label", "precision", "recall", "F1", "gold", "given"])
    found = quality.per_label()
    # Those of most rows, in the order of the labels where all fit, or where the order means something.
    if len(found) > MAX_LINES and not quality.ordinal:
        found.sort(key=lambda each: -each.gold)
    for each in found[:MAX_LINES]:
        shares = (percent(share) for share in (each.precision, each.recall, each.f1))
        add(f"  {each.label}", *shares, f"{each.gold:,}", f"{each.given:,}")
    if len(found) > MAX_LINES:
        add(f"  {len(found) - MAX_LINES} more labels", *[""] * 5)
    return table


def _confusion(quality: Quality, width: int) -> Table | None:
    """The right labels down and the given ones across, by number where names are too wide; None where neither fits."""
    rows, labels = quality.confusion(), quality.columns
    corner, longest = "  right \\ given", max((len(value) for value, _ in rows), default=0)
    cell = max(4, *(len(f"{count:,}") for _, counts in rows for count in counts))
    side = max(len(corner), min(NAME, 2 + longest))
    heads, numbers = labels, [""] * len(labels)
    if side + sum(2 + max(cell, min(len(label), _HEAD)) for label in labels) > width:
        heads = [f"{at}" for at in range(1, len(labels) + 1)]
        numbers = [f"{head} " for head in heads]
        side = max(len(corner), min(NAME, 2 + len(numbers[-1]) + longest))
        if side + (2 + cell) * len(labels) > width:
            return None
    table, add = _table(1, [corner, *heads])
    numbers += [""] * (len(rows) - len(numbers))
    for number, (value, counts) in zip(numbers, rows[: len(labels) + MAX_LINES], strict=False):
        cells = [
            Text(f"{count:,}" if count else glyph("·", "."), style="bold" if label == value else "")
            for label, count in zip(labels, counts, strict=True)
        ]
        add(f"  {number}{value or '(none)'}", *cells)
    return table


def _mistakes(quality: Quality) -> Table:
    """The most frequent mistakes."""
    table, add = _table(2, ["  gold", "given instead", "rows"])
    found = quality.mistakes()
    for gold, label, rows in found[:MAX_LINES]:
        add(f"  {gold or '(none)'}", label, f"{rows:,}")
    if len(found) > MAX_LINES:
        add(f"  {len(found) - MAX_LINES:,} more kinds", "", f"{sum(rows for *_, rows in found[MAX_LINES:]):,}")
    return table
