"""How long the simulated model takes.

Law: seconds out of a seeded random source; sleeping is the server's business.
"""

from __future__ import annotations

from random import Random

import msgspec


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Time to the first token and per token after it, in seconds.

    `spread` is the sigma of a lognormal factor (median 1) drawn once per request: 0 is exact, 0.5 has a p99 near 3x.
    """

    first_token: float = 0.0
    per_token: float = 0.0
    spread: float = 0.0

    @classmethod
    def of(cls, *, ttft: float = 0.0, tokens_per_second: float | None = None, spread: float = 0.0) -> Latency:
        """Build from the two numbers that vendors publish: time to first token, and speed (None: all at once)."""
        return cls(first_token=ttft, per_token=1 / tokens_per_second if tokens_per_second else 0.0, spread=spread)

    def draw(self, random: Random) -> tuple[float, float]:
        """Return (first token, per token) for one request."""
        if not (self.first_token or self.per_token):
            return 0.0, 0.0
        factor = random.lognormvariate(0.0, self.spread) if self.spread else 1.0
        return self.first_token * factor, self.per_token * factor
