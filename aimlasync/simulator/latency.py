"""The latency of the simulated model, drawn from a seeded random source.

It returns seconds, and `exchange` sleeps. No imports from the package.
"""

from __future__ import annotations

from random import Random

import msgspec

from aimlasync.spelling import Spelled, spelled


class Latency(msgspec.Struct, frozen=True, kw_only=True, metaclass=Spelled):
    """Time to the first token and time per token after it, in seconds.

    `spread` is the sigma of a lognormal factor with median 1 that is drawn once per request: 0 is exact, and 0.5 has a
    99th percentile of about three times the median.
    """

    first_token: float = 0.0
    per_token: float = 0.0
    spread: float = 0.0

    @classmethod
    @spelled
    def of(cls, *, ttft: float = 0.0, tokens_per_second: float | None = None, spread: float = 0.0) -> Latency:
        """Return a latency of a time to first token in seconds and a speed; None is an infinite speed."""
        return cls(first_token=ttft, per_token=1 / tokens_per_second if tokens_per_second else 0.0, spread=spread)

    def draw(self, random: Random) -> tuple[float, float]:
        """Return the seconds to the first token and per token after it, for one request."""
        if not (self.first_token or self.per_token):
            return 0.0, 0.0
        factor = random.lognormvariate(0.0, self.spread) if self.spread else 1.0
        return self.first_token * factor, self.per_token * factor
