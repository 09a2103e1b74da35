"""Prices per token, read from a vendor's catalogue, and what a reply costs at them.

It is arithmetic in US dollars, without I/O. An unknown price or count is None, never 0. It may import `chat.types`,
`responses.types` and `wire.models`. Source: AI/ML API, "Complete model list": `pricing` of GET
/v1/models?include=pricing, in US dollars as they are charged. A price is for `per` units, and `per` differs by a factor
of a million between models. The page shows one measure, "output"; the names of the other measures are those in common
use. ByteSpike's catalogue has no prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from aimlasync.chat.types import Usage
from aimlasync.responses.types import ResponseUsage
from aimlasync.wire.models import Model

_MILLION = 1_000_000
# US dollars for one token. A higher value is the price of a million tokens: the dearest models cost less than a
# thousandth of a dollar per token.
_MAX_PRICE = 0.01
# A larger number is no count of tokens; the bound also keeps the arithmetic finite.
MAX_TOKENS = 10**12

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
}


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars for one token; None where the vendor does not say."""

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= _MAX_PRICE:
                raise ValueError(
                    f"{name} must be US dollars for one token, not {value}; for a million tokens use Price.per_million"
                )

    @classmethod
    def per_million(
        cls, *, input: float | None = None, output: float | None = None, cached_input: float | None = None
    ) -> Price:
        """Return the price for amounts in US dollars per million tokens."""
        return cls(
            input=None if input is None else input / _MILLION,
            output=None if output is None else output / _MILLION,
            cached_input=None if cached_input is None else cached_input / _MILLION,
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


def tokens_of(usage: Usage | ResponseUsage | None) -> tuple[int, int] | None:
    """Return the (input, output) tokens that `usage` counts, None when it counts none.

    No prompt is empty, so an input of 0 means that the server did not count.
    """
    if usage is None:
        return None
    if isinstance(usage, ResponseUsage):
        taken, given = usage.input_tokens, usage.output_tokens
    else:
        taken, given = usage.prompt_tokens, usage.completion_tokens
    return (taken, given) if 0 < taken <= MAX_TOKENS and 0 <= given <= MAX_TOKENS else None


def cost(price: Price | None, usage: Usage | ResponseUsage | None) -> float | None:
    """Return the US dollars that `usage` costs at `price`, None when a price or a count that is needed is unknown.

    A cost that the vendor stated takes precedence over this. Counts whose parts are larger than the whole give None: in
    bodies of 2025 the totals count credits, and only the parts count tokens. Cached input without a price of its own
    costs as much as other input.
    """
    counts = tokens_of(usage)
    if price is None or usage is None or counts is None:
        return None
    taken, given = counts
    cached, reasoning = _parts(usage)
    if not 0 <= cached <= taken or reasoning > given:
        return None
    cached_price = price.input if price.cached_input is None else price.cached_input
    total = 0.0
    for tokens, each in ((taken - cached, price.input), (cached, cached_price), (given, price.output)):
        if tokens:
            if each is None:
                return None
            total += tokens * each
    return total


def _parts(usage: Usage | ResponseUsage) -> tuple[int, int]:
    """Return the (cached input, reasoning) tokens; a part that is not stated counts as 0."""
    if isinstance(usage, ResponseUsage):
        taken, given = usage.input_tokens_details, usage.output_tokens_details
        return (taken and taken.cached_tokens) or 0, (given and given.reasoning_tokens) or 0
    prompt, answer = usage.prompt_tokens_details, usage.completion_tokens_details
    return (prompt and prompt.cached_tokens) or 0, (answer and answer.reasoning_tokens) or 0


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
