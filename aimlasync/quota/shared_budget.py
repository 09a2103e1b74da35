"""A budget that several processes share: dollars are drawn in parts, and reserved from them as from any other.

Law: the sums are `Budget`'s; what is drawn and not spent is given back when the client is closed. A worker that dies
takes with it what it had drawn: the cap is never passed, but it may not be reached. While another worker holds the
last dollars, a call may be refused though not all is spent.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping

from aimlasync.cost.budget import DEFAULT_OUTPUT_TOKENS, Budget
from aimlasync.cost.prices import Price
from aimlasync.errors import BudgetExceededError
from aimlasync.quota.protocol import Draw, Quota, QuotaDownError

# Drawn in whole billionths of a dollar, as the AI/ML API states costs; kept in whole trillionths.
_NANO = 10**9
_PICO_OF_NANO = 10**3
# Seconds that a client's end may take.
_PATIENCE = 1.0

_log = logging.getLogger("aimlasync.quota")


class SharedBudget(Budget):
    """US dollars that all workers of one quota may spend together. Raises like `Budget`."""

    __slots__ = ("_drawing", "_purse", "_quota", "_total", "_worker")

    def __init__(
        self,
        usd: float,
        *,
        quota: Quota,
        purse: str = "usd",
        prices: Mapping[str, Price] | None = None,
        default_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
    ) -> None:
        super().__init__(usd, prices=prices, default_output_tokens=default_output_tokens)
        self._total = round(usd * _NANO)
        # The cap is what this worker has drawn.
        self._cap = 0
        self._quota = quota
        self._purse = purse
        self._worker = secrets.token_hex(6)
        self._drawing = asyncio.Lock()

    @property
    def usd(self) -> float:
        """The cap of all workers together."""
        return self._total / _NANO

    async def refill(self) -> bool:
        """Draw what the call refused last would take; False when there is not enough left.

        Raises BudgetExceededError when that cannot be known.
        """
        needs = max(1, self._short)
        async with self._drawing:
            self._cap = max(self._cap, self._taken())
            if self._left() >= needs:
                # Drawn for another call meanwhile, or a call in flight cost less than it might have.
                return True
            try:
                drawn = await self._draw(self._cap, needs - self._left())
            except QuotaDownError as error:
                why = str(error)
            else:
                self._cap += drawn * _PICO_OF_NANO
                return drawn > 0
        raise BudgetExceededError(f"no more of the shared budget can be had: {why}", billed=False)

    async def give_back(self) -> None:
        """Give back what is neither spent nor reserved."""
        async with self._drawing:
            kept = self._taken()
            if kept != self._cap:
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await self._draw(kept, 0)
                except Exception as error:  # noqa: BLE001  # what is not given back is not spent either
                    _log.debug("dollars could not be given back: %s", type(error).__name__)
                    return
                self._cap = kept

    def _taken(self) -> int:
        """What is spent or reserved, in whole billionths: more than was drawn, where a call cost more than it might."""
        return -(-(self._spent + self._reserved) // _PICO_OF_NANO) * _PICO_OF_NANO

    async def _draw(self, keeps: int, needs: int) -> int:
        return await self._quota.draw(
            Draw(
                worker=self._worker,
                purse=self._purse,
                total=self._total,
                keeps=keeps // _PICO_OF_NANO,
                needs=-(-needs // _PICO_OF_NANO),
            )
        )
