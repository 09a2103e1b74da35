"""When a job is enough: its deadline, and what its rows may take of tokens and money."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aimlasync import Price
from aimlasync.bulk import Caps, Row
from aimlasync.bulk.jobs.caps import read_seconds, token_cap
from aimlasync.bulk.jobs.stop_rules import (
    Ending,
)
from aimlasync.bulk.journal.record import Facts, Failure, Record
from aimlasync.bulk.progress.totals import Spending, Totals


def record(error: str | None = None, **facts: Any) -> Record:
    failure = None if error is None else Failure(code=error, message=f"it was {error}")
    return Record(id="x", custom_id="row-1", error=failure, info=Facts(**facts))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("45s", 45), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), (" 1.5H ", 5400)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "h", "5x", "1e3", "nan", "inf", "5 m", "1..5h", ".", "\u00b2"])
def test_what_is_no_duration_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write 90, 45s, 30m, 2h or 1h30m"):
        read_seconds(text)


async def test_rows_in_flight_are_taken_to_use_as_many_tokens_as_those_before() -> None:
    async def is_used_up(max_tokens: int | None, tokens: int, replies: int, in_flight: int) -> bool:
        totals = Totals()
        cap = token_cap("tokens", max_tokens, totals)
        admitted = cap.admit(iter([Row(number, number, {}) for number in range(1, in_flight + 1)]), Ending())
        # As if rows before had taken nothing: else the first one would be let in alone.
        totals.replies = 1
        for _ in range(in_flight):
            await anext(admitted)
        totals.tokens_in, totals.replies = tokens, replies
        return cap.is_used_up

    assert not await is_used_up(100, 60, 6, 3)
    assert await is_used_up(100, 60, 6, 4)
    assert await is_used_up(100, 101, 0, 0)
    assert not await is_used_up(None, 10**12, 1, 0)


def test_a_budget_is_what_earlier_runs_left_also_where_the_vendor_states_no_cost() -> None:
    assert Caps().budget(Spending(usd=5)) is None
    prices = {"m": Price.per_million(input=1, output=10)}
    caps = Caps(max_usd=1, prices=prices)
    for spent, unpriced, left in [
        (0.25, {}, 0.75),
        (3.0, {}, 0.0),
        (0.25, {"m": (250_000, 10_000)}, 0.4),
        (0.0, {"nobody knows": (10**9, 10**9)}, 1.0),
    ]:
        budget = caps.budget(Spending(usd=spent, unpriced=unpriced))
        assert budget is not None
        assert math.isclose(budget.remaining, left)
    totals = Totals()
    for _ in range(2):
        totals.add_record(record(tokens_in=5, tokens_out=7, model="m"))
    totals.add_record(record(tokens_in=5, tokens_out=7, model="m", cost_usd=0.1))
    assert totals.unpriced == {"m": [10, 14]}
