"""The caps of a job: money, tokens, requests and time.

`Caps` is what the user asked for. A cap of money is kept by the client's `Budget`, which reserves before it spends;
caps of tokens and requests by `RowCap`, which lets rows in; a deadline by the runner. Imports `Budget`, prices and the
totals.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.jobs.async_iter import later
from aimlasync.bulk.jobs.stop_rules import Ending
from aimlasync.bulk.progress.totals import CapName, Spending, Totals
from aimlasync.config import check_at_least
from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price
from aimlasync.errors import BudgetExceededError
from aimlasync.spelling import spelled_fields


class UnpricedError(BudgetExceededError):
    """A cap of money cannot hold for a model whose price is not known; nothing was sent."""


class EveryModel(Mapping[str, Price]):
    """One price, whatever the model."""

    def __init__(self, price: Price) -> None:
        self._price = price

    def __getitem__(self, model: str) -> Price:
        return self._price

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 1


@spelled_fields
@dataclass(frozen=True, kw_only=True, slots=True)
class Caps:
    """Bounds of one job; None is no bound.

    Money and tokens are those of all runs since the table last changed.
    """

    max_usd: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    """Model -> price: what is reserved before a call, and what it costs where the vendor does not say.

    With `max_usd` a model that is not among them is refused with UnpricedError. Without any prices a call is made as
    long as anything is left.
    """
    max_tokens: int | None = None
    """Tokens in and out."""
    requests_per_day: int | None = None
    """Requests in the 24 hours that began with the first of them; so are the tokens of the next."""
    tokens_per_day: int | None = None
    deadline: float | None = None
    """Seconds from the start of the run; calls in flight then have a little longer."""

    def __post_init__(self) -> None:
        check_at_least(0, max_usd=self.max_usd, max_tokens=self.max_tokens, deadline=self.deadline)
        check_at_least(0, requests_per_day=self.requests_per_day, tokens_per_day=self.tokens_per_day)

    @property
    def are_by_day(self) -> bool:
        """Whether any of them is by the day."""
        return self.requests_per_day is not None or self.tokens_per_day is not None

    def budget(self, spent: Spending) -> Budget | None:
        """Return what is left to spend, None where there is no bound."""
        if self.max_usd is None:
            return None
        usd = spent.usd
        for model, (tokens_in, tokens_out) in spent.unpriced.items():
            if (price := self.prices.get(model)) is not None:
                usd += tokens_in * (price.input or 0.0) + tokens_out * (price.output or 0.0)
        return Budget(max(0.0, self.max_usd - usd), prices=self.prices)


class RowCap:
    """A cap while a job runs: how many rows may begin before `limit` is used. None is no cap.

    `used` says what is used of it, and `a_row` what a row takes, None while that is not known. Rows in flight are taken
    to use as much as those before; while there are none before, one may be in flight. `draw` is for a cap that other
    processes share: it is given what is held so far and how much more the next row needs, and returns how much it got.
    """

    def __init__(
        self,
        name: CapName,
        limit: int | None,
        *,
        used: Callable[[], int],
        a_row: Callable[[], float | None],
        draw: Callable[[int, int], Awaitable[int]] | None = None,
    ) -> None:
        self.name: CapName = name
        self.limit = limit
        self._used = used
        self._a_row = a_row
        self._draw = draw
        # Rows that were let in and have no result yet; `admit` waits for the event when the cap leaves no room.
        self._in_flight = 0
        self._finished = asyncio.Event()

    @property
    def is_used_up(self) -> bool:
        """Whether another row might pass the cap."""
        if self.limit is None:
            return False
        each = self._a_row()
        if each is None:
            return self._in_flight > 0 or self._used() >= self.limit
        return self._expected(each) > self.limit

    async def draw(self) -> bool:
        """Get more for the next row from the share of all processes. Returns False where there is none to get."""
        each = self._a_row()
        if self.limit is None or self._draw is None or (self._in_flight and each is None):
            return False
        needed = self._expected(1.0 if each is None else each)
        drawn = await self._draw(self.limit, max(1, math.ceil(needed) - self.limit))
        self.limit += drawn
        return drawn > 0

    async def admit(
        self, rows: Iterator[Row | None] | AsyncIterator[Row | None], ending: Ending
    ) -> AsyncGenerator[Row | None]:
        """Give rows while the cap leaves room for them, and note in `ending` that it ended them."""
        async with AsyncExitStack() as closing:
            if isinstance(rows, AsyncGenerator):
                await closing.enter_async_context(aclosing(rows))
            async for row in later(rows):
                while row is not None and self.is_used_up:
                    if await self.draw():
                        continue
                    if not self._in_flight:
                        ending.capped_by = self.name
                        return
                    self._finished.clear()
                    await self._finished.wait()
                self._in_flight += row is not None
                yield row

    def row_finished(self) -> None:
        """A row that was let in has its result, which is in the totals."""
        self._in_flight -= 1
        self._finished.set()

    def _expected(self, a_row: float) -> float:
        return self._used() + (self._in_flight + 1) * a_row


def token_cap(
    name: CapName,
    limit: int | None,
    totals: Totals,
    *,
    used: Callable[[], int] | None = None,
    a_row_before: float | None = None,
    draw: Callable[[int, int], Awaitable[int]] | None = None,
) -> RowCap:
    """Return a cap of tokens, by default of all that are `used` since the table last changed.

    A row takes as many as those in `totals` did, and `a_row_before` while there are none.
    """

    def a_row() -> float | None:
        return totals.a_row_takes if totals.replies else a_row_before

    return RowCap(name, limit, used=used or (lambda: totals.taken - totals.before.tokens), a_row=a_row, draw=draw)


def request_cap(
    limit: int | None,
    totals: Totals,
    *,
    used: Callable[[], int],
    draw: Callable[[int, int], Awaitable[int]] | None = None,
) -> RowCap:
    """Return a cap of requests by the day; a row takes as many as those of this run did, retries included."""

    def a_row() -> float:
        return max(1.0, totals.attempts / totals.finished) if totals.finished else 1.0

    return RowCap("requests per day", limit, used=used, a_row=a_row, draw=draw)


def row_caps(caps: Caps, totals: Totals) -> list[RowCap]:
    """Return the caps that say how many rows may begin."""
    day = totals.day
    return [
        token_cap("tokens", caps.max_tokens, totals),
        token_cap("tokens per day", caps.tokens_per_day, totals, used=lambda: day.used(time.time())[1]),
        request_cap(caps.requests_per_day, totals, used=lambda: day.used(time.time())[0]),
    ]


def read_seconds(text: str) -> float:
    """Return the seconds in "90", "45s", "30m", "2h", "1h30m". Raises ValueError."""
    said = text.strip().lower()
    parts = _PART.findall(said)
    total: float = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != said or not 0 < total < float("inf"):
        raise ValueError(f"{text!r} is no duration; write 90, 45s, 30m, 2h or 1h30m")
    return total


_PART = re.compile(r"([0-9]*\.?[0-9]+)([smhd]|$)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
