"""The forecast of a dry run: the cost, tokens and time of a whole job, from a sample of its rows.

The sample is drawn from all rows, and the length of each row is known. Where what a row takes goes with its length, the
lengths of the rows that are left say what they will take, so that a file sorted by length misleads nobody; else it is
the mean. The range is the one in which the sum lies 19 times of 20. Imports rows, results, totals, limits and the
statistics of an endpoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from aimlasync.bulk.input.columns import value_of
from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.journal.record import Record
from aimlasync.bulk.progress.totals import Totals
from aimlasync.bulk.tasks.prompt import as_text
from aimlasync.bulk.tasks.result import Result
from aimlasync.config import Limits
from aimlasync.endpoints.statistics import EndpointStatistics

# Share of the variation that lengths must explain before anything is told from them.
_EXPLAINED = 0.5


class Estimate(msgspec.Struct, frozen=True):
    """A sum that is estimated, and its range; None where the sample is too small for one."""

    sum: float
    low: float | None = None
    high: float | None = None


class Forecast(msgspec.Struct, kw_only=True):
    """What is still to come; None is unknown."""

    asked: int
    """Rows that it is made from."""
    failed: int
    """Of them, rows that failed."""
    rows: int
    """Rows left."""
    calls: int
    tokens_in: Estimate | None
    tokens_out: Estimate | None
    cost_usd: Estimate | None
    seconds: float | None
    limited_by: str | None
    """What takes that long: requests, tokens or concurrency."""


@dataclass(slots=True)
class Sample:
    """What the rows of a dry run took, and how long all rows are."""

    rows: int = 0
    """Of all that may be asked about."""
    length: int = 0
    """Their length together, in characters of the columns that are asked about."""
    lengths: list[int] = field(default_factory=list)
    """Of the rows that brought a reply; the following are theirs too, None where the server did not say."""
    tokens_in: list[float | None] = field(default_factory=list)
    tokens_out: list[float | None] = field(default_factory=list)
    costs: list[float | None] = field(default_factory=list)
    asked: int = 0
    asked_length: int = 0

    def see(self, row: Row, columns: Sequence[str]) -> None:
        """Take in a row that may be asked about."""
        self.rows += 1
        self.length += length_of(row, columns)

    def add(self, result: Result, record: Record, columns: Sequence[str]) -> None:
        """Take in the result of a row of the sample."""
        if result.row is None or record.info is None:
            return
        length, facts = length_of(result.row, columns), record.info
        self.asked += 1
        self.asked_length += length
        if result.reply is not None:
            self.lengths.append(length)
            self.tokens_in.append(facts.tokens_in)
            self.tokens_out.append(facts.tokens_out)
            self.costs.append(facts.cost_usd)

    def estimate(self, values: Sequence[float | None], rows: int) -> Estimate | None:
        """Return what `rows` rows, those that are left, will take of something; None where the sample does not say."""
        known = [(length, value) for length, value in zip(self.lengths, values, strict=True) if value is not None]
        if not known:
            return None
        scale = rows / max(1, self.rows - self.asked)
        return estimate(known, rows, (self.length - self.asked_length) * scale)


def length_of(row: Row, columns: Sequence[str]) -> int:
    """Return the characters of a row in the columns that are asked about."""
    return sum(len(as_text(value_of(row.fields, column))) for column in columns)


def estimate(sample: Sequence[tuple[float, float]], rows: int, length: float) -> Estimate:
    """Return the sum over `rows` rows of together this `length`, from the (length, value) of some."""
    count = len(sample)
    mean_x, mean_y = (sum(pair[at] for pair in sample) / count for at in (0, 1))
    xx = sum((x - mean_x) ** 2 for x, _ in sample)
    xy = sum((x - mean_x) * (y - mean_y) for x, y in sample)
    yy = sum((y - mean_y) ** 2 for _, y in sample)
    slope = xy / xx if xx and yy and xy > 0 and xy * xy / (xx * yy) >= _EXPLAINED else 0.0
    apart = length / rows - mean_x if rows else 0.0
    total = max(0.0, rows * (mean_y + slope * apart))
    free = count - (2 if slope else 1)
    if free < 1 or not rows:
        return Estimate(total)
    variance = max(0.0, yy - slope * xy) / free
    spread = 1 / count + 1 / rows + (apart**2 / xx if slope else 0.0)
    half = _student(free) * rows * math.sqrt(variance * spread)
    return Estimate(total, max(0.0, total - half), total + half)


def _student(free: int) -> float:
    """Return the 97.5 % point of Student's t; within 4 % for any degrees of freedom."""
    known = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78}
    return known.get(free) or 1.96 + 2.4 / (free - 0.6)


def forecast(
    totals: Totals,
    sample: Sample,
    workers: int,
    limits: Limits,
    endpoints: Sequence[EndpointStatistics],
) -> Forecast:
    """Extrapolate from the rows that a dry run asked about to those that are left, with `workers` at work."""
    left, asked = totals.pending or 0, totals.finished
    tokens_in, tokens_out = sample.estimate(sample.tokens_in, left), sample.estimate(sample.tokens_out, left)
    calls = left * (totals.answered / asked if asked and totals.answered else 1.0)
    tokens = None if tokens_in is None or tokens_out is None else tokens_in.sum + tokens_out.sum
    bounds: dict[str, float] = {}
    if limits.requests_per_minute is not None:
        bounds["requests"] = calls * 60 / limits.requests_per_minute
    if limits.tokens_per_minute is not None and tokens is not None:
        bounds["tokens"] = tokens * 60 / limits.tokens_per_minute
    slots = sum(endpoint.limit for endpoint in endpoints)
    if totals.seconds_answering and asked and slots:
        bounds["concurrency"] = calls * totals.seconds_answering / asked / min(slots, workers)
    longest = max(bounds, key=lambda name: bounds[name], default=None)
    return Forecast(
        asked=asked,
        failed=asked - (totals.ok - totals.ok_before),
        rows=left,
        calls=round(calls),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=sample.estimate(sample.costs, left),
        seconds=None if longest is None else bounds[longest],
        limited_by=longest,
    )
