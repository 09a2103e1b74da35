"""The worker's side of a shared budget: it draws dollars in parts, and reserves calls from what it has drawn.

The sums are those of `cost.budget.Budget`. What is drawn and not spent is returned when the client is closed. A worker
that dies keeps what it had drawn, so the cap is never passed and may not be reached. While another worker holds the
last dollars, a call may be refused although not all is spent. It may import `cost`, `errors` and `quota.protocol`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from aimlasync.cost.budget import DEFAULT_OUTPUT_TOKENS, Budget, dollars
from aimlasync.cost.prices import Price
from aimlasync.errors import BudgetExceededError
from aimlasync.logs import log_of
from aimlasync.quota.protocol import Draw, Quota, QuotaDownError

# A draw is in whole billionths of a dollar, as the AI/ML API states costs; `Budget` counts whole trillionths.
_NANO = 10**9
_PICO_OF_NANO = 10**3
# Seconds that returning the rest may take when a client closes.
_GIVE_BACK_TIMEOUT = 1.0

_log = log_of("aimlasync.quota")


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
        # The cap of this worker is what it has drawn.
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
        """Draw what the call that was refused last needs; return False when less is left.

        Raises BudgetExceededError when the shared place does not answer.
        """
        needs = max(1, self._short)
        async with self._drawing:
            self._cap = max(self._cap, self._taken())
            if self._left() >= needs:
                # Another call drew it meanwhile, or a call in flight cost less than was reserved.
                return True
            try:
                drawn = await self._draw(self._cap, needs - self._left())
            except QuotaDownError as error:
                why = str(error)
            else:
                self._cap += drawn * _PICO_OF_NANO
                return drawn > 0
        raise BudgetExceededError(f"nothing more can be drawn from the shared budget: {why}", billed=False)

    async def give_back(self) -> None:
        """Return what is neither spent nor reserved to the shared place."""
        async with self._drawing:
            kept = self._taken()
            if kept != self._cap:
                try:
                    async with asyncio.timeout(_GIVE_BACK_TIMEOUT):
                        await self._draw(kept, 0)
                except Exception as error:  # noqa: BLE001  # the cap holds without it
                    _log.debug("dollars could not be returned to the shared budget: %s", type(error).__name__)
                    return
                self._cap = kept

    def _said(self) -> str:
        # What this worker has drawn says nothing of what the others hold.
        return f"less is left of {dollars(self._total * _PICO_OF_NANO)} for all processes together"

    def _taken(self) -> int:
        """Return what is spent or reserved, rounded up to whole billionths.

        It is more than was drawn where a call cost more than was reserved.
        """
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
