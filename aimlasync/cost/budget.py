"""A hard cap on what may be spent: every attempt reserves the most it may cost before it is sent.

Law: arithmetic, no I/O and no clock; it belongs to one event loop and needs no lock.
Reserve, then settle: an attempt is let through only if it fits beside all that is spent and all that is in flight, so
that no number of concurrent calls passes the cap together.

What the cap cannot see:
 - a call is measured by the tokens it is said to have. An input that is estimated too small, or an answer longer than
   `default_output_tokens` where the request sets no cap of its own, costs more than was reserved. For a cap that is
   never passed, set an output cap on every request;
 - what the vendor hides. A model whose price is neither given nor learned is let through as long as anything is left,
   and counted in `calls_unpriced`; a call that ends without a cost or a usage keeps its reservation as spent, and is
   counted in `unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aimlasync.chat.types import Usage
from aimlasync.cost.prices import Price, cost, tokens_of
from aimlasync.errors import BudgetExceededError
from aimlasync.responses.types import ResponseUsage

# Money is counted in whole trillionths of a dollar: sums of floats drift, and a cap that ten calls fill to the cent
# would refuse the tenth. The cheapest token known costs five thousand of them.
_PICO = 10**12
# No call costs more, and no call has more tokens; what is said to is not believed, and sums stay finite.
_MAX_USD = 1e9
_MAX_TOKENS = 10**12

# What an answer may be when its request sets no cap: most answers are shorter, with their reasoning.
DEFAULT_OUTPUT_TOKENS = 4_096

# The output cap's names on both endpoints; the first that a request sets holds.
OUTPUT_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def output_cap(body: Mapping[str, Any]) -> int | None:
    """Return the tokens that all choices of a request may take together, None where it sets no cap."""
    cap: int | None = next((body[name] for name in OUTPUT_CAPS if body.get(name)), None)
    choices = body.get("n")
    return cap * choices if cap is not None and isinstance(choices, int) and choices > 1 else cap


class Reservation:
    """What one attempt may cost, held until it is settled or released."""

    __slots__ = ("_held", "_open", "model", "priced")

    def __init__(self, model: str, held: int, *, priced: bool) -> None:
        self.model = model
        self.priced = priced
        """Whether all of its cost could be foreseen."""
        self._held = held
        self._open = True

    @property
    def usd(self) -> float:
        """US dollars set aside; 0 where nothing is known."""
        return self._held / _PICO

    def __repr__(self) -> str:
        return f"<Reservation {self.model} {_dollars(self._held)}{'' if self._open else ', closed'}>"


class Budget:
    """US dollars that may be spent, and what became of them.

    `prices` is looked up by the model as it is asked for; it is read, never copied, so that it may be filled later.
    Raises ValueError for a cap that is no amount.
    """

    __slots__ = (
        "_cap",
        "_learned",
        "_reserved",
        "_short",
        "_spent",
        "calls_unpriced",
        "default_output_tokens",
        "prices",
        "unknown",
    )

    def __init__(
        self,
        usd: float,
        *,
        prices: Mapping[str, Price] | None = None,
        default_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
    ) -> None:
        if not 0 <= usd <= _MAX_USD:
            raise ValueError(f"a budget must be an amount of US dollars, 0 or more, not {usd}")
        if default_output_tokens < 1:
            raise ValueError(f"default_output_tokens must be at least 1, not {default_output_tokens}")
        self.prices: Mapping[str, Price] = {} if prices is None else prices
        self.default_output_tokens = default_output_tokens
        self._cap = round(usd * _PICO)
        self._spent = 0
        self._reserved = 0
        # What the last call to ask would take.
        self._short = 0
        # Model -> the highest price per token seen, input and output alike. Only models that a vendor charged for are
        # in it, so it is no larger than a catalogue.
        self._learned: dict[str, float] = {}
        self.unknown = 0
        """Calls whose cost nobody told; their reservations count as spent."""
        self.calls_unpriced = 0
        """Calls let through although not all of their cost could be foreseen."""

    @property
    def usd(self) -> float:
        """The cap."""
        return self._cap / _PICO

    @property
    def spent(self) -> float:
        """US dollars of settled calls."""
        return self._spent / _PICO

    @property
    def reserved(self) -> float:
        """US dollars that the calls in flight may cost."""
        return self._reserved / _PICO

    @property
    def remaining(self) -> float:
        """US dollars that may still be reserved, never negative."""
        return self._left() / _PICO

    def reserve(self, model: str, input_tokens: float, max_output_tokens: float | None = None) -> Reservation:
        """Set aside the most that a call may cost; one reservation for each attempt.

        `max_output_tokens` covers all choices of the request; None, or what is no cap, means `default_output_tokens`.
        Raises BudgetExceededError when it does not fit, and nothing is set aside; ValueError for tokens that are no
        number.
        """
        if not input_tokens >= 0:
            raise ValueError(f"input_tokens must be a number of tokens, not {input_tokens}")
        input_tokens = min(input_tokens, _MAX_TOKENS)
        output_tokens: float = self.default_output_tokens
        if max_output_tokens is not None and max_output_tokens > 0:
            output_tokens = min(max_output_tokens, _MAX_TOKENS)
        price, learned = self.prices.get(model), self._learned.get(model)
        each_in = learned if price is None or price.input is None else price.input
        each_out = learned if price is None or price.output is None else price.output
        priced = each_in is not None and each_out is not None
        self._short = worst = round((input_tokens * (each_in or 0.0) + output_tokens * (each_out or 0.0)) * _PICO)
        left = self._left()
        if worst > left or (not priced and left == 0):
            known = f"up to {_dollars(worst)}" if priced else f"{_dollars(worst)} or more, its price is not known"
            raise BudgetExceededError(
                f"the call would pass the budget: {model} may cost {known} "
                f"({input_tokens:.0f} tokens in, {output_tokens:.0f} out), {_dollars(left)} of "
                f"{_dollars(round(self.usd * _PICO))} is left ({_dollars(self._spent)} spent, "
                f"{_dollars(self._reserved)} reserved by calls in flight)",
                billed=False,
            )
        self._reserved += worst
        if not priced:
            self.calls_unpriced += 1
        return Reservation(model, worst, priced=priced)

    def settle(
        self, reservation: Reservation, cost_usd: float | None = None, usage: Usage | ResponseUsage | None = None
    ) -> None:
        """Count what a call cost: as the vendor says, else as its tokens say, else all that was reserved.

        A failure that the vendor does not call free is settled, with nothing known. Harmless after `settle` or
        `release`.
        """
        if not reservation._open:
            return
        reservation._open = False
        self._reserved -= reservation._held
        if cost_usd is not None and 0 <= cost_usd <= _MAX_USD:
            self._learn(reservation.model, cost_usd, usage)
            self._spent += round(cost_usd * _PICO)
            return
        computed = cost(self.prices.get(reservation.model), usage)
        if computed is None:
            self.unknown += 1
            self._spent += reservation._held
        else:
            self._spent += round(computed * _PICO)

    def release(self, reservation: Reservation) -> None:
        """Give back what was set aside for a call that is free, or was never sent; harmless after it is settled."""
        if reservation._open:
            reservation._open = False
            self._reserved -= reservation._held

    async def refill(self) -> bool:
        """Get more for the call that was refused last, where there may be more: never, in a budget of one's own."""
        return False

    async def give_back(self) -> None:
        """Give back what will not be needed, to those who share the budget."""

    def _left(self) -> int:
        return max(0, self._cap - self._spent - self._reserved)

    def _learn(self, model: str, cost_usd: float, usage: Usage | ResponseUsage | None) -> None:
        tokens = tokens_of(usage)
        # A call that was free says nothing of the next one.
        if tokens is not None and cost_usd > 0:
            self._learned[model] = max(self._learned.get(model, 0.0), cost_usd / sum(tokens))

    def __repr__(self) -> str:
        return (
            f"<Budget {_dollars(self._spent)} spent, {_dollars(self._reserved)} reserved of {_dollars(self._cap)}, "
            f"{self.unknown} unknown, {self.calls_unpriced} unpriced>"
        )


def _dollars(pico: int) -> str:
    """An amount to the billionth, as the AI/ML API writes them, without the zeros at its end; never rounded to 0."""
    text = f"{pico / _PICO:.9f}".rstrip("0").rstrip(".")
    return f"${text}" if text != "0" or pico == 0 else "$0.000000001"
