"""Fills in the cost and tokens of a row where the server states none: cost by a price, tokens by the text's length.

Arithmetic on one result. It may import results, records, usages and prices.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from aimlasync.bulk.journal.record import Facts
from aimlasync.bulk.tasks.result import Result
from aimlasync.chat.types import Usage
from aimlasync.cost.prices import Price, cost
from aimlasync.cost.tokens import tokens_of

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
        facts.cost_usd = _cost_of(prices.get(result.request.model), result)
        facts.at_price = facts.cost_usd is not None


def _cost_of(price: Price | None, result: Result) -> float | None:
    """Return the US dollars of all calls of a row, as a budget counts them; None where those of one are not known."""
    usages = result.usages
    known = [tokens for usage in usages if (tokens := tokens_of(usage)) is not None]
    taken = result.tokens_in or 0, result.tokens_out or 0
    if taken != (sum(tokens[0] for tokens in known), sum(tokens[1] for tokens in known)):
        # Another process made the calls, and said of those before the last how many tokens they took in all.
        usages = [Usage(prompt_tokens=taken[0], completion_tokens=taken[1])]
    total = 0.0
    for usage in usages:
        if (usd := cost(price, usage)) is None:
            return None
        total += usd
    return total
