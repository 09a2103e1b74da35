"""A hard cap on what may be spent: every attempt reserves the most that it may cost before it is sent.

It is arithmetic without I/O or a clock. A budget belongs to one event loop and needs no lock. An attempt is sent only
if its reservation fits beside all that is spent and all that is reserved, so that concurrent calls cannot pass the cap
together. What the cap cannot see is in the docstring of `Budget`. It may import `chat.types`, `responses.types`,
`cost.prices` and `errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import TYPE_CHECKING, Any

import msgspec

from aimlasync.cost.prices import Price, cost
from aimlasync.cost.tokens import MAX_TOKENS, plainly_taken, tokens_of
from aimlasync.errors import BudgetExceededError

if TYPE_CHECKING:
    from aimlasync.chat.types import Usage
    from aimlasync.responses.types import ResponseUsage

# Money is counted in whole trillionths of a dollar. Sums of floats drift, and a cap that ten calls fill to the cent
# would refuse the tenth. The cheapest token known costs five thousand trillionths.
_PICO = 10**12
# A larger cost of one call is not believed, so that sums stay finite.
_MAX_USD = 1e9

# The output tokens that are reserved for a request without a cap; most answers are shorter, reasoning included.
DEFAULT_OUTPUT_TOKENS = 4_096

# The output cap's names on both endpoints; the first that a request sets holds.
OUTPUT_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_CAPS = frozenset(OUTPUT_CAPS)


def output_cap(body: Mapping[str, Any]) -> int | None:
    """Return the tokens that all choices of a request may take together, None where it sets no cap."""
    if _CAPS.isdisjoint(body):
        # As in most requests.
        return None
    for name in OUTPUT_CAPS:
        if body.get(name):
            cap: int = body[name]
            if isinstance(thinking := body.get("thinking_budget"), int):
                # Qwen's models count it beside the cap.
                cap += thinking
            choices = body.get("n")
            return cap * choices if isinstance(choices, int) and choices > 1 else cap
    return None


class Reservation(msgspec.Struct, eq=False, gc=False):
    """What one attempt may cost, held until it is settled or released."""

    model: str
    _held: int
    priced: bool
    """Whether the prices of input and output were known."""
    # The tokens that it was asked for: those of the input, and the output cap, if there was one.
    _input: float
    _output: float | None
    _open: bool = True

    @property
    def usd(self) -> float:
        """US dollars reserved; 0.0 where no price is known."""
        return self._held / _PICO

    def __repr__(self) -> str:
        return f"<Reservation {self.model} {dollars(self._held)}{'' if self._open else ', closed'}>"


class _Beyond:
    """The most tokens that replies of one model took beyond what was asked for."""

    __slots__ = ("default", "input", "output")

    def __init__(self) -> None:
        self.input = 0.0
        self.output = 0.0
        # Of requests without an output cap.
        self.default = 0.0


_NOTHING = _Beyond()


class Budget:
    """A cap in US dollars, and what was spent and reserved of it.

    `prices` maps a model, as requests name it, to its price. It is read and never copied, so that it may be filled
    later. Raises ValueError for a cap that is no amount, or a `default_output_tokens` below 1; TypeError for what is no
    number, or no Price.

    What the cap cannot see:
     - Estimates that are too low. An input that is estimated too small (the server's own prompt, results of its own
       tools, what a `previous_response_id` stands for), or an answer longer than `default_output_tokens` of a request
       without an output cap, costs more than was reserved. So may the first answer of a model whose reasoning no cap
       covers. What an answer took beyond its estimate is reserved from then on. For a cap that is never passed, set an
       output cap on every request.
     - Prices that are unknown. A call of a model whose price is neither given nor learned is sent as long as anything
       is left, and counted in `calls_unpriced`. A call that ends without a cost and without a usage counts its
       reservation as spent, and is counted in `unknown`.
    """

    __slots__ = (
        "_beyond",
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
        if not isinstance(usd, Number):
            raise TypeError(f"a budget must be a number of US dollars, not {usd!r}")
        for model, price in (prices or {}).items():
            if not isinstance(price, Price):
                raise TypeError(f"the price of {model} must be a Price, such as Price.per_million(...), not {price!r}")
        if not 0 <= usd <= _MAX_USD:
            raise ValueError(f"a budget must be an amount of US dollars, 0 or more, not {usd}")
        if default_output_tokens < 1:
            raise ValueError(f"default_output_tokens must be at least 1, not {default_output_tokens}")
        self.prices: Mapping[str, Price] = {} if prices is None else prices
        self.default_output_tokens = default_output_tokens
        self._cap = round(usd * _PICO)
        self._spent = 0
        self._reserved = 0
        # What the last reservation would take; `SharedBudget.refill` reads it.
        self._short = 0
        # Model -> the highest price per token that a vendor charged, input and output alike. It holds models that were
        # charged for, so it is no larger than a catalogue.
        self._learned: dict[str, float] = {}
        self._beyond: dict[str, _Beyond] = {}
        self.unknown = 0
        """Calls whose cost is unknown; their reservations count as spent."""
        self.calls_unpriced = 0
        """Calls that were sent although a price was unknown."""

    @property
    def usd(self) -> float:
        """The cap in US dollars."""
        return self._cap / _PICO

    @property
    def spent(self) -> float:
        """US dollars of settled calls."""
        return self._spent / _PICO

    @property
    def reserved(self) -> float:
        """US dollars that are reserved by calls in flight."""
        return self._reserved / _PICO

    @property
    def remaining(self) -> float:
        """US dollars that may still be reserved, never negative."""
        return self._left() / _PICO

    def reserve(
        self,
        model: str,
        input_tokens: float,
        max_output_tokens: float | None = None,
        *,
        reasons_outside: bool = False,
    ) -> Reservation:
        """Reserve the most that one attempt may cost.

        `max_output_tokens` covers all choices of the request; None, or a cap below 1, means `default_output_tokens`.
        As many are added to a cap that `reasons_outside` says not to cover the reasoning.
        Raises BudgetExceededError, and reserves nothing, when it does not fit; ValueError for tokens that are negative
        or no number.
        """
        if not input_tokens >= 0:
            raise ValueError(f"input_tokens must be a number of tokens, not {input_tokens}")
        asked_in, asked_out = input_tokens if input_tokens <= MAX_TOKENS else MAX_TOKENS, None
        beyond = self._beyond.get(model, _NOTHING)
        input_tokens = asked_in + beyond.input
        output_tokens = self.default_output_tokens + beyond.default
        if max_output_tokens is not None and max_output_tokens > 0:
            asked_out = min(max_output_tokens, MAX_TOKENS)
            outside = self.default_output_tokens if reasons_outside else 0
            output_tokens = asked_out + max(outside, beyond.output)
        price = self.prices.get(model)
        each_in, each_out = (None, None) if price is None else (price.input, price.output)
        priced = True
        if each_in is None or each_out is None:
            learned = self._learned.get(model)
            priced = learned is not None
            each_in = (learned or 0.0) if each_in is None else each_in
            each_out = (learned or 0.0) if each_out is None else each_out
        self._short = worst = round((input_tokens * each_in + output_tokens * each_out) * _PICO)
        left = self._cap - self._spent - self._reserved
        # What is free of charge is never refused, even where an answer took more than was left.
        if (worst and worst > left) or (not priced and left <= 0):
            known = f"up to {dollars(worst)}" if priced else f"{dollars(worst)} or more, its price is not known"
            raise BudgetExceededError(
                f"the call would pass the budget: {model} may cost {known} "
                f"({input_tokens:.0f} tokens in, {output_tokens:.0f} out), {self._said()}",
                billed=False,
            )
        self._reserved += worst
        if not priced:
            self.calls_unpriced += 1
        return Reservation(model, worst, priced, asked_in, asked_out)

    def settle(
        self,
        reservation: Reservation,
        cost_usd: float | None = None,
        usage: Usage | ResponseUsage | None = None,
        plain: tuple[int, int, int] | None = None,
    ) -> None:
        """Count what an attempt cost: the vendor's statement, else its tokens at the price, else all that was reserved.

        `plain` is what `plainly_taken` said of the usage, where the caller has asked it. A failure that the vendor does
        not call free is settled without a usage, and mostly without a cost. Does nothing after `settle` or `release`.
        """
        if not reservation._open:
            return
        reservation._open = False
        self._reserved -= reservation._held
        if plain is None:
            plain = plainly_taken(usage)
        tokens = tokens_of(usage) if plain is None else plain[:2]
        if tokens is not None:
            cap = reservation._output
            over_in = tokens[0] - reservation._input
            over_out = tokens[1] - (self.default_output_tokens if cap is None else cap)
            if over_in > 0 or over_out > 0:
                self._look_beyond(reservation.model, over_in, over_out, capped=cap is not None)
        if cost_usd is not None and 0 <= cost_usd <= _MAX_USD:
            self._learn(reservation.model, cost_usd, tokens)
            self._spent += round(cost_usd * _PICO)
            return
        computed = cost(self.prices.get(reservation.model), usage, plain)
        if computed is None:
            self.unknown += 1
            self._spent += reservation._held
        else:
            self._spent += round(computed * _PICO)

    def release(self, reservation: Reservation) -> None:
        """Free what was reserved for an attempt that is free of charge or was never sent; nothing after `settle`."""
        if reservation._open:
            reservation._open = False
            self._reserved -= reservation._held

    async def refill(self) -> bool:
        """Get more for the call that was refused last; return whether there is more. Here there never is."""
        return False

    async def give_back(self) -> None:
        """Return what is neither spent nor reserved to a shared budget. Here there is none."""

    def _left(self) -> int:
        left = self._cap - self._spent - self._reserved
        return left if left > 0 else 0

    def _said(self) -> str:
        """Say what is left."""
        return (
            f"{dollars(self._left())} of {dollars(self._cap)} is left ({dollars(self._spent)} spent, "
            f"{dollars(self._reserved)} reserved by calls in flight)"
        )

    def _look_beyond(self, model: str, over_in: float, over_out: float, *, capped: bool) -> None:
        """Learn from a reply that took more tokens than it was asked for."""
        beyond = self._beyond.setdefault(model, _Beyond())
        beyond.input = max(beyond.input, over_in)
        if capped:
            beyond.output = max(beyond.output, over_out)
        else:
            beyond.default = max(beyond.default, over_out)

    def _learn(self, model: str, cost_usd: float, tokens: tuple[int, int] | None) -> None:
        # A call that was free of charge says nothing about the next one.
        if tokens is not None and cost_usd > 0:
            self._learned[model] = max(self._learned.get(model, 0.0), cost_usd / sum(tokens))

    def __repr__(self) -> str:
        return (
            f"<Budget {dollars(self._spent)} spent, {dollars(self._reserved)} reserved of {dollars(self._cap)}, "
            f"{self.unknown} unknown, {self.calls_unpriced} unpriced>"
        )


def dollars(pico: int) -> str:
    """Return trillionths of a dollar to the billionth, without trailing zeros; a positive amount is never $0."""
    text = f"{pico / _PICO:.9f}".rstrip("0").rstrip(".")
    return f"${text}" if text != "0" or pico == 0 else "$0.000000001"
