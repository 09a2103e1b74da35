"""How much a job may take: money, tokens and time.

Law: arithmetic on what is known; nothing is awaited. Money is kept by a `Budget`, which reserves before it spends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price


@dataclass(frozen=True, kw_only=True, slots=True)
class Caps:
    """Bounds of one job, earlier runs included for money and tokens; None is no bound."""

    max_usd: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    """Model -> price: what is reserved before a call. Without one only what is left is looked at."""
    max_tokens: int | None = None
    """Tokens in and out."""
    deadline: float | None = None
    """Seconds from the start of the run; calls in flight then have a little longer."""

    def budget(self, spent: float, unpriced: Mapping[str, Sequence[int]] = MappingProxyType({})) -> Budget | None:
        """Return what is left to spend, None where there is no bound.

        `unpriced` are tokens in and out, by model, that come on top of what is known to be `spent`.
        """
        if self.max_usd is None:
            return None
        for model, (tokens_in, tokens_out) in unpriced.items():
            if (price := self.prices.get(model)) is not None:
                spent += tokens_in * (price.input or 0.0) + tokens_out * (price.output or 0.0)
        return Budget(max(0.0, self.max_usd - spent), prices=self.prices)

    def tokens_used_up(self, tokens: int, replies: int, in_flight: int) -> bool:
        """Whether another row might pass the cap: those in flight are taken to be like those before.

        While there are none before, one may be in flight.
        """
        if self.max_tokens is None:
            return False
        if not replies:
            return in_flight > 0 or tokens >= self.max_tokens
        each = tokens / replies
        return tokens + (in_flight + 1) * each > self.max_tokens


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
