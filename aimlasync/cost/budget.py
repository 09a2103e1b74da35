"""A hard cap on what may be spent: every attempt reserves the most that it may cost before it is sent.

It is arithmetic without I/O or a clock. A budget belongs to one event loop and needs no lock. An attempt is sent only
if its reservation fits beside all that is spent and all that is reserved, so that concurrent calls cannot pass the cap
together. What the cap cannot see is in the docstring of `Budget`. It may import `chat.types`, `responses.types`,
`cost.prices` and `errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from numbers import Number
from typing import TYPE_CHECKING, Any

import msgspec

from aimlasync.cost.prices import Price, cost
from aimlasync.cost.tokens import MAX_TOKENS, plainly_taken, tokens_of
from aimlasync.errors import BudgetExceededError
from aimlasync.plain_stores import plainly_stored
from aimlasync.spelling import spelled

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


@plainly_stored
class Reservation(msgspec.Struct, eq=False, gc=False):
    """What one attempt may cost, held until it is settled or released."""

    model: str
    _held: int
    priced: bool
    """Whether the prices of input and output were known."""
    _known: _Model
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


class _Model:
    """What is known of one model: its price, and what its replies took."""

    __slots__ = (
        "cached",
        "charged",
        "input",
        "is_listed",
        "is_priced",
        "more_in",
        "more_out",
        "more_uncapped",
        "output",
        "price",
    )

    def __init__(self) -> None:
        self.charged: float | None = None
        """The highest price per token that a vendor charged, input and output alike."""
        # The most tokens that replies took beyond what was asked for: input, output, and output without a cap.
        self.more_in = self.more_out = self.more_uncapped = 0
        self.see(None)

    def see(self, price: Price | None) -> None:
        """Take this price; a part that it does not say is what was charged."""
        self.price = price
        each_in, each_out, each_cached = (
            (None, None, None) if price is None else (price.input, price.output, price.cached_input)
        )
        self.is_listed = each_in is not None is not each_out
        """Whether the price says what input and output cost."""
        self.is_priced = self.is_listed or self.charged is not None
        charged = self.charged or 0.0
        # In whole trillionths, of which each product and sum is a whole number again.
        self.input = round((charged if each_in is None else each_in) * _PICO)
        self.output = round((charged if each_out is None else each_out) * _PICO)
        self.cached = self.input if each_cached is None else round(each_cached * _PICO)


# A model that has no price and was not charged for.
_UNKNOWN = _Model()


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
        "_cap",
        "_models",
        "_reserved",
        "_short",
        "_spent",
        "calls_unpriced",
        "default_output_tokens",
        "prices",
        "unknown",
    )

    @spelled
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
        # Models that have a price, were charged for or have answered, so it is no larger than a catalogue.
        self._models: dict[str, _Model] = {}
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
        if not 0 <= input_tokens <= MAX_TOKENS:
            if not input_tokens >= 0:
                raise ValueError(f"input_tokens must be a number of tokens, not {input_tokens}")
            input_tokens = MAX_TOKENS
        if (known := self._models.get(model)) is None or known.price is not self.prices.get(model):
            known = self._look_up(model)
        asked_out = None
        output_tokens: float = self.default_output_tokens + known.more_uncapped
        if max_output_tokens is not None and max_output_tokens > 0:
            asked_out = min(max_output_tokens, MAX_TOKENS)
            outside = self.default_output_tokens if reasons_outside else 0
            output_tokens = asked_out + max(outside, known.more_out)
        worst = (input_tokens + known.more_in) * known.input + output_tokens * known.output
        if type(worst) is not int:
            # Of an estimate with a fraction.
            worst = round(worst)
        is_priced, left = known.is_priced, self._cap - self._spent - self._reserved
        # What is free of charge is never refused, even where an answer took more than was left.
        if (worst > left and worst) or (not is_priced and left <= 0):
            self._short = worst
            cost = f"up to {dollars(worst)}" if is_priced else f"{dollars(worst)} or more, its price is not known"
            raise BudgetExceededError(
                f"the call would pass the budget: {model} may cost {cost} "
                f"({input_tokens + known.more_in:.0f} tokens in, {output_tokens:.0f} out), {self._said()}",
                billed=False,
            )
        self._reserved += worst
        if not is_priced:
            self.calls_unpriced += 1
        return Reservation(model, worst, is_priced, known, input_tokens, asked_out)

    def settle(
        self,
        reservation: Reservation,
        cost_usd: float | None = None,
        usage: Usage | ResponseUsage | None = None,
        plain: tuple[tuple[int, int], int] | None = None,
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
        # No prompt is empty, so that none is taken for not counted.
        (taken, given), cached = plain or (tokens_of(usage) or (0, 0), 0)
        model, cap = reservation.model, reservation._output
        if taken > reservation._input or given > (self.default_output_tokens if cap is None else cap):
            self._look_beyond(reservation, taken, given)
        if cost_usd is not None and 0 <= cost_usd <= _MAX_USD:
            self._learn(model, cost_usd, taken + given)
            self._spent += round(cost_usd * _PICO)
            return
        known = reservation._known
        if plain is not None and (known.is_listed or (known := self._look_up(model)).is_listed):
            self._spent += taken * known.input + given * known.output
            if cached:
                self._spent -= cached * (known.input - known.cached)
            return
        computed = cost(self.prices.get(model), usage)
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

    def _look_up(self, model: str) -> _Model:
        """Return what is known of a model, at its price of now."""
        known, price = self._models.get(model), self.prices.get(model)
        if known is None:
            if price is None:
                return _UNKNOWN
            known = self._models[model] = _Model()
        known.see(price)
        return known

    def _look_beyond(self, reservation: Reservation, taken: int, given: int) -> None:
        """Learn from a reply that took more tokens than it was asked for."""
        known, cap = self._models.setdefault(reservation.model, _Model()), reservation._output
        known.more_in = max(known.more_in, ceil(taken - reservation._input))
        if cap is None:
            known.more_uncapped = max(known.more_uncapped, given - self.default_output_tokens)
        else:
            known.more_out = max(known.more_out, ceil(given - cap))

    def _learn(self, model: str, cost_usd: float, tokens: int) -> None:
        # A call that was free of charge says nothing about the next one.
        if tokens and cost_usd > 0:
            known = self._models.setdefault(model, _Model())
            known.charged = max(known.charged or 0.0, cost_usd / tokens)
            known.see(known.price)

    def __repr__(self) -> str:
        return (
            f"<Budget {dollars(self._spent)} spent, {dollars(self._reserved)} reserved of {dollars(self._cap)}, "
            f"{self.unknown} unknown, {self.calls_unpriced} unpriced>"
        )


def dollars(pico: int) -> str:
    """Return trillionths of a dollar to the billionth, without trailing zeros; a positive amount is never $0."""
    text = f"{pico / _PICO:.9f}".rstrip("0").rstrip(".")
    return f"${text}" if text != "0" or pico == 0 else "$0.000000001"
