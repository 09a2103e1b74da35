"""What a whole job would take, from a few of its rows: `forecast` is arithmetic on the totals of a dry run.

The rows asked about are the first ones; where the others are longer, they take more. Imports totals, limits, prices and
the statistics of an endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from aimlasync.bulk.progress.totals import Totals
from aimlasync.config import Limits
from aimlasync.cost.prices import Price
from aimlasync.endpoints.statistics import EndpointStatistics


class Forecast(msgspec.Struct, kw_only=True):
    """What is still to come; None is unknown."""

    asked: int
    """Rows that it is made from."""
    failed: int
    """Of them, rows that failed."""
    rows: int
    """Rows left."""
    calls: int
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    seconds: float | None
    limited_by: str | None
    """What takes that long: requests, tokens or concurrency."""


def forecast(
    totals: Totals,
    workers: int,
    limits: Limits,
    prices: Mapping[str, Price],
    endpoints: Sequence[EndpointStatistics],
) -> Forecast:
    """Extrapolate from the rows that a dry run asked about to those that are left, with `workers` at work."""
    left, asked = totals.pending or 0, totals.finished
    counted = totals.replies - totals.uncounted
    each_in = totals.tokens_in / counted if counted else None
    each_out = totals.tokens_out / counted if counted else None
    calls = left * (totals.answered / asked if asked and totals.answered else 1.0)
    tokens = None if each_in is None or each_out is None else left * (each_in + each_out)
    cost = left * totals.cost_usd / totals.priced if totals.priced else None
    price = next(iter(prices.values()), None) if len(set(prices.values())) == 1 else None
    if cost is None and price is not None and price.input is not None and price.output is not None:
        cost = left * ((each_in or 0) * price.input + (each_out or 0) * price.output) if each_in is not None else None
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
        tokens_in=None if each_in is None else round(left * each_in),
        tokens_out=None if each_out is None else round(left * each_out),
        cost_usd=cost,
        seconds=None if longest is None else bounds[longest],
        limited_by=longest,
    )
