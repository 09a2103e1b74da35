"""How much a job may take: money, tokens and time.

`Caps` is what the user asked for. A cap of money is kept by the client's `Budget`, which reserves before it spends; a
cap of tokens by `TokenCap`, which lets rows in; a deadline by the runner. Imports `Budget`, prices and the totals.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.jobs.async_iter import later
from aimlasync.bulk.jobs.stop_rules import Ending
from aimlasync.bulk.progress.totals import Spending, Totals
from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price


@dataclass(frozen=True, kw_only=True, slots=True)
class Caps:
    """Bounds of one job; None is no bound.

    Money and tokens are those of all runs since the table last changed.
    """

    max_usd: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    """Model -> price: what is reserved before a call. Without one only what is left is looked at."""
    max_tokens: int | None = None
    """Tokens in and out."""
    deadline: float | None = None
    """Seconds from the start of the run; calls in flight then have a little longer."""

    def budget(self, spent: Spending) -> Budget | None:
        """Return what is left to spend, None where there is no bound."""
        if self.max_usd is None:
            return None
        usd = spent.usd
        for model, (tokens_in, tokens_out) in spent.unpriced.items():
            if (price := self.prices.get(model)) is not None:
                usd += tokens_in * (price.input or 0.0) + tokens_out * (price.output or 0.0)
        return Budget(max(0.0, self.max_usd - usd), prices=self.prices)


class TokenCap:
    """The cap of tokens while a job runs: how many rows may begin. None is no cap.

    Rows in flight are taken to use as many tokens as those before; while there are none before, one may be in flight.
    `draw` is for a cap that other processes share: it is given the tokens held so far and how many more the next row
    needs, and returns how many it got.
    """

    def __init__(
        self, max_tokens: int | None, totals: Totals, draw: Callable[[int, int], Awaitable[int]] | None = None
    ) -> None:
        self.max_tokens = max_tokens
        self._totals = totals
        self._draw = draw
        # Rows that were let in and have no result yet; `admit` waits for the event when the cap leaves no room.
        self._in_flight = 0
        self._finished = asyncio.Event()

    @property
    def is_used_up(self) -> bool:
        """Whether another row might pass the cap."""
        if self.max_tokens is None:
            return False
        totals = self._totals
        if not totals.replies:
            return self._in_flight > 0 or self._spent >= self.max_tokens
        return self._expected(totals.tokens / totals.replies) > self.max_tokens

    async def draw(self) -> bool:
        """Get tokens for the next row from the share of all processes. Returns False where there are none to get."""
        totals = self._totals
        if self.max_tokens is None or self._draw is None or (self._in_flight and not totals.replies):
            return False
        needed = self._expected(totals.tokens / totals.replies if totals.replies else 1.0)
        drawn = await self._draw(self.max_tokens, max(1, math.ceil(needed) - self.max_tokens))
        self.max_tokens += drawn
        return drawn > 0

    async def admit(
        self, rows: Iterator[Row | None] | AsyncIterator[Row | None], ending: Ending
    ) -> AsyncGenerator[Row | None]:
        """Give rows while there are tokens for them, and note in `ending` that the cap ended them."""
        async with AsyncExitStack() as closing:
            if isinstance(rows, AsyncGenerator):
                await closing.enter_async_context(aclosing(rows))
            async for row in later(rows):
                while self.is_used_up:
                    if await self.draw():
                        continue
                    if not self._in_flight:
                        ending.capped_by = "tokens"
                        return
                    self._finished.clear()
                    await self._finished.wait()
                self._in_flight += row is not None
                yield row

    def row_finished(self) -> None:
        """A row that was let in has its result, which is in the totals."""
        self._in_flight -= 1
        self._finished.set()

    @property
    def _spent(self) -> int:
        return self._totals.tokens - self._totals.before.tokens

    def _expected(self, tokens_a_row: float) -> float:
        return self._spent + (self._in_flight + 1) * tokens_a_row


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
