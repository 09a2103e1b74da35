"""Rows from all over an input: a sample of them, and those that decide whether a job in doubt goes on.

A sample takes one pass over the rows that are left and no more memory than it has rows. Imports rows and `stop_rules`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Generator, Iterator

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.jobs.stop_rules import StopRules

Rows = Iterator[Row | None]
"""Rows; None now and then is a pause, in which the event loop gets a turn."""

# Rows from elsewhere that are asked about before a job is given up, beside the shortest.
PROBES = 8
# Rows between two pauses.
_TURN = 500


def sampled(rows: Rows, size: int, *, see: Callable[[Row], object]) -> Generator[None, None, list[Row]]:
    """Return `size` rows, each as likely as any other, in their order; all of them are given to `see` on the way.

    The same rows give the same sample.
    """
    draw, taken, seen = random.Random(0).randrange, list[Row](), 0
    for row in rows:
        if row is None:
            yield None
            continue
        see(row)
        seen += 1
        if len(taken) < size:
            taken.append(row)
        elif (at := draw(seen)) < size:
            taken[at] = row
        if not seen % _TURN:
            yield None
    return sorted(taken, key=lambda row: row.number)


def probing(rows: Rows, again: Callable[[], Rows | AsyncIterator[Row | None]], rules: StopRules) -> Rows:
    """Give `rows`, and when the job is in doubt first some that come later in the input, which `again` reads anew.

    They are a sample and the shortest row: where that is too long, all are. An input is read by one iterator at a time,
    so that after each sample it is read again from its start.
    """
    last, tried = 0, set[int]()
    while True:
        for row in _after(rows, last, tried) if last else rows:
            if row is not None:
                last = row.number
            yield row
            if rules.doubt is not None and not rules.is_decided_by_others:
                break
        else:
            return
        shortest: list[tuple[int, Row]] = []

        def see(row: Row, shortest: list[tuple[int, Row]] = shortest) -> None:
            size = sum(len(value) if isinstance(value, str) else len(repr(value)) for value in row.fields.values())
            if not shortest or size < shortest[0][0]:
                shortest[:] = [(size, row)]

        chosen = yield from sampled(_after(_read(again), last, tried), PROBES, see=see)
        chosen += [row for _, row in shortest if row not in chosen]
        # An answer that came meanwhile has settled it.
        if rules.doubt is not None:
            rules.probe({row.number for row in chosen})
            tried.update(row.number for row in chosen)
            yield from chosen[:-1]
            rules.is_waiting = True
            yield from chosen[-1:]
        rows = _read(again)


def _read(again: Callable[[], Rows | AsyncIterator[Row | None]]) -> Rows:
    rows = again()
    assert not isinstance(rows, AsyncIterator)
    return rows


def _after(rows: Rows, last: int, tried: set[int]) -> Rows:
    skipped = 0
    for row in rows:
        if row is None or (row.number > last and row.number not in tried):
            yield row
        else:
            skipped += 1
            if not skipped % _TURN:
                yield None
