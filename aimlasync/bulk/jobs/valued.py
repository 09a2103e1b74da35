"""Fills in the cost and tokens of a row where the server states none: cost by a price, tokens by the text's length.

Arithmetic on one result. It may import results, records and prices.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from aimlasync.bulk.journal.record import Facts
from aimlasync.bulk.tasks.result import Result
from aimlasync.cost.prices import Price

# Bytes of a token: mostly some four of English, fewer of other languages and of code.
_BYTES = 4

_encode = msgspec.json.Encoder().encode


def complete(facts: Facts, result: Result, prices: Mapping[str, Price]) -> None:
    """Add to what is known of a row that was paid for what follows from prices and lengths."""
    if result.shared_with is not None or (result.reply is None and facts.tokens_in is None):
        return
    if facts.tokens_in is None:
        facts.guess_in = result.calls * (len(_encode(result.request.body)) // _BYTES + 1)
        facts.guess_out = result.calls * (len((result.text or "").encode()) // _BYTES + 1)
    elif facts.cost_usd is None and prices:
        facts.cost_usd = cost_of(prices.get(result.request.model), facts.tokens_in, facts.tokens_out or 0)
        facts.at_price = facts.cost_usd is not None


def cost_of(price: Price | None, tokens_in: int, tokens_out: int) -> float | None:
    """Return US dollars, None for a price that is not known."""
    if price is None or price.input is None or price.output is None:
        return None
    return tokens_in * price.input + tokens_out * price.output
