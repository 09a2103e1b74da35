"""What a sample of the rows says of all."""

from __future__ import annotations

import math
import random
from typing import Any

from aimlasync import Limits
from aimlasync.bulk.jobs.dry_run import Estimate, Sample, estimate, forecast
from aimlasync.bulk.journal.record import Facts, Failure, Record
from aimlasync.bulk.progress.totals import Totals
from aimlasync.endpoints.statistics import EndpointStatistics


def endpoint(limit: int) -> EndpointStatistics:
    known: dict[str, Any] = dict.fromkeys(EndpointStatistics.__struct_fields__, 0)
    return EndpointStatistics(**{**known, "limited_by": None, "limit": limit})


def record(error: str | None = None, **facts: Any) -> Record:
    failure = None if error is None else Failure(code=error, message=f"it was {error}")
    return Record(id="x", custom_id="row-1", error=failure, info=Facts(**facts))


def sample_of(rows: list[tuple[int, float]], *, left: int, length: int) -> Sample:
    """Rows that took so many tokens for their length, and the rows beside them."""
    return Sample(
        rows=len(rows) + left,
        length=sum(each for each, _ in rows) + length,
        lengths=[each for each, _ in rows],
        tokens_in=[tokens for _, tokens in rows],
        tokens_out=[50.0] * len(rows),
        costs=[None] * len(rows),
        asked=len(rows),
        asked_length=sum(each for each, _ in rows),
    )


def test_a_forecast_extrapolates_and_leaves_unknown_what_nobody_said() -> None:
    totals = Totals()
    found = forecast(totals, Sample(), 4, Limits(), [])
    assert (found.rows, found.tokens_in, found.cost_usd, found.seconds, found.limited_by) == (0, None, None, None, None)
    totals.left, totals.finished, totals.answered, totals.seconds_answering = 110, 10, 20, 40.0
    for _ in range(9):
        totals.add_record(record(tokens_in=100, tokens_out=50))
    totals.add_record(record("RateLimitError"))
    limits = Limits(requests_per_minute=60, tokens_per_minute=3000)
    sample = sample_of([(400, 100.0)] * 9, left=100, length=40_000)
    found = forecast(totals, sample, 4, limits, [endpoint(2)])
    assert (found.asked, found.failed, found.rows, found.calls) == (10, 1, 100, 200)
    assert (found.tokens_in, found.tokens_out) == (Estimate(10_000, 10_000, 10_000), Estimate(5_000, 5_000, 5_000))
    assert found.cost_usd is None
    # 200 requests take 200 s, 200 calls of 4 s two at a time 400 s, 15,000 tokens 300 s.
    assert (found.seconds, found.limited_by) == (400.0, "concurrency")
    found = forecast(totals, sample, 4, limits, [endpoint(100)])
    assert (found.seconds, found.limited_by) == (300.0, "tokens")
    sample.costs = [0.5] * 9
    assert forecast(totals, sample, 4, limits, []).cost_usd == Estimate(50.0, 50.0, 50.0)


def test_what_rows_take_is_told_from_their_length_where_it_goes_with_it() -> None:
    # Ten tokens and a quarter of the characters; the rows that are left are a hundred times as long.
    sample = sample_of([(length, 10 + length / 4) for length in range(10, 110, 10)], left=1000, length=5_500_000)
    found = sample.estimate(sample.tokens_in, 1000)
    assert found is not None
    assert math.isclose(found.sum, 1000 * 10 + 5_500_000 / 4)
    # What does not go with the length has the mean, and a range.
    random.seed(3)
    missed = 0
    for _ in range(300):
        values = [random.gauss(100, 20) for _ in range(1000)]
        found = estimate([(random.random(), value) for value in values[:20]], 980, 490.0)
        assert found.low is not None
        assert found.high is not None
        missed += not found.low <= sum(values[20:]) <= found.high
    assert 3 <= missed <= 32
    assert estimate([(5, 100.0)], 10, 50) == Estimate(1000.0)
