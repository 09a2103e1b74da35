"""Prices per token, read from a vendor's catalogue, and what a reply costs at them.

It is arithmetic in US dollars, without I/O. An unknown price or count is None, never 0. It may import `chat.types`,
`responses.types`, `cost.tokens` and `wire.models`. Source: AI/ML API, "Complete model list": `pricing` of GET
/v1/models?include=pricing, in US dollars as they are charged. A price is for `per` units, and `per` differs by a factor
of a million between models. The page shows one measure, "output"; the names of the other measures are those in common
use. ByteSpike's catalogue has no prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from aimlasync.cost.tokens import plainly_taken, taken_by
from aimlasync.spelling import Spelled
from aimlasync.wire.models import Model

if TYPE_CHECKING:
    from aimlasync.chat.types import Usage
    from aimlasync.responses.types import ResponseUsage

_MILLION = 1_000_000
# US dollars for one token. A higher value is the price of a million tokens: the dearest models cost less than a
# thousandth of a dollar per token.
_MAX_PRICE = 0.01
# What a token that is written to a cache costs, in prices of input (Anthropic; OpenAI has the first).
_CACHE_WRITE = 1.25
_CACHE_WRITE_1H = 2.0

_MEASURES = {
    "input": "input",
    "prompt": "input",
    "output": "output",
    "completion": "output",
    "cached_input": "cached_input",
    "input_cached": "cached_input",
    "cache_read": "cached_input",
    "input_cache_read": "cached_input",
    "cached": "cached_input",
    "cache_write": "cache_write",
    "input_cache_write": "cache_write",
    "cache_creation": "cache_write",
}


class Price(msgspec.Struct, frozen=True, kw_only=True, metaclass=Spelled):
    """US dollars for one token; None where the vendor does not say."""

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None
    cache_write: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= _MAX_PRICE:
                raise ValueError(
                    f"{name} must be US dollars for one token, not {value}; for a million tokens use Price.per_million"
                )

    @classmethod
    def per_million(
        cls,
        *,
        input: float | None = None,
        output: float | None = None,
        cached_input: float | None = None,
        cache_write: float | None = None,
    ) -> Price:
        """Return the price for amounts in US dollars per million tokens."""
        return cls(
            input=None if input is None else input / _MILLION,
            output=None if output is None else output / _MILLION,
            cached_input=None if cached_input is None else cached_input / _MILLION,
            cache_write=None if cache_write is None else cache_write / _MILLION,
        )


def price_of(model: Model) -> Price | None:
    """Return what `model` costs, None when its catalogue entry states no price that holds for every request.

    Prices by variant or by request ("variants", "variable"), and prices in other currencies, do not hold. Of several
    prices for the same measure, such as those of a longer context, the highest is taken.
    """
    pricing = model.pricing
    if not isinstance(pricing, Mapping) or pricing.get("kind") != "fixed":
        return None
    # The page states that all prices are in US dollars; an entry may leave it out.
    if pricing.get("currency") not in (None, "USD", "usd"):
        return None
    units = pricing.get("units")
    found: dict[str, float] = {}
    for unit in units if isinstance(units, list) else ():
        if isinstance(unit, Mapping) and unit.get("name") in ("token", "tokens"):
            measure = _measure(unit.get("measure"))
            price, per = _number(unit.get("price")), _number(unit.get("per"))
            if measure is not None and price is not None and per:
                found[measure] = max(found.get(measure, 0.0), price / per)
    try:
        return Price(**found) if found else None
    except ValueError:
        # The entry's `per` cannot be right, so its prices cannot be trusted.
        return None


def prices_of(models: Iterable[Model]) -> dict[str, Price]:
    """Return the known prices of a catalogue by id and by alias: a request may name a model by either."""
    prices: dict[str, Price] = {}
    for model in models:
        price = price_of(model)
        if price is not None:
            prices[model.id] = price
            for alias in model.aliases:
                # An id takes precedence over another model's alias.
                prices.setdefault(alias, price)
    return prices


def cost(price: Price | None, usage: Usage | ResponseUsage | None) -> float | None:
    """Return the US dollars that `usage` costs at `price`, None when a price or a count that is needed is unknown.

    A cost that the vendor stated takes precedence over this. Where more than one price may apply, the dearer one is
    taken. Tokens that stand in the total alone cost as much as input or as output: ByteSpike charges such reasoning at
    the rate of the input, the AI/ML API at that of the output. Tokens written to a cache cost a quarter more than other
    input where the price does not say (twice as much for an hour), and cached input as much as other input. Counts
    whose parts are larger than the whole give None, since they are no tokens; so does audio, which has a price of its
    own.
    """
    if price is None:
        return None
    plain = plainly_taken(usage)
    if plain is not None and price.input is not None and price.output is not None:
        (read, given), cached = plain
        total = (read - cached) * price.input + given * price.output
        return total + cached * (price.input if price.cached_input is None else price.cached_input) if cached else total
    taken = taken_by(usage)
    if taken is None or not taken.is_consistent or taken.has_audio:
        return None
    outside = None if price.input is None or price.output is None else max(price.input, price.output)
    cached, written, write = taken.cached or 0, taken.cache_writes or 0, price.cache_write
    hour = min(taken.cache_writes_1h or 0, written) if write is None else 0
    parts = (
        (taken.input - cached - written, price.input),
        (cached, price.input if price.cached_input is None else price.cached_input),
        (written - hour, _times(price.input, _CACHE_WRITE) if write is None else write),
        (hour, _times(price.input, _CACHE_WRITE_1H)),
        (taken.output - taken.outside, price.output),
        (taken.outside, outside),
    )
    total = 0.0
    for tokens, each in parts:
        if tokens:
            if each is None:
                return None
            total += tokens * each
    return total


def _times(price: float | None, factor: float) -> float | None:
    return None if price is None else price * factor


def _measure(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    word = value.strip().lower().replace("-", "_").replace(" ", "_")
    return _MEASURES.get(word.removesuffix("_tokens").removesuffix("_token"))


def _number(value: Any) -> float | None:
    """Return a price or a number of units; None for booleans, negative numbers and texts."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e300:
        return float(value)
    return None
