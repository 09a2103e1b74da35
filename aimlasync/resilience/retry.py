"""When a failed attempt is tried again, after how long, and how many retries an endpoint may be sent in all.

Law: pure arithmetic on (attempt, error, elapsed); the clock and the sleep belong to the client, the randomness is
injected. Full jitter after AWS, "Exponential backoff and jitter": a uniform draw from zero to the exponential bound,
so that callers that failed together do not return together. What the server asks for is a floor, with jitter above
it, never below. The quota is that of AWS's standard retry mode (botocore, retries/standard.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from aimlasync.endpoints.ratelimit_headers import retry_after as retry_after
from aimlasync.errors import AimlasyncError, APIConnectionError, APIStatusError, OverloadedError
from aimlasync.transport.base import StaleConnectionError

# A server's stated wait is stretched by up to this share, so that all who were told the same do not come back at once.
_SPREAD = 0.2


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """The retry policy of a client; `Retry(attempts=1)` never retries."""

    attempts: int = 4
    """HTTP tries at most, the first one included."""
    base: float = 0.5
    """Seconds: bound of the first backoff; it doubles with every attempt."""
    throttle_base: float = 1.5
    """Seconds: the same after a 429."""
    max_backoff: float = 30.0
    """Seconds: largest bound of a backoff."""
    max_retry_after: float = 60.0
    """Seconds: a server that asks for a longer wait fails the call at once, with `.retry_after`.

    Its endpoint is asked again after these seconds, or after a minute where they are fewer.
    """

    def delay(
        self, attempt: int, error: AimlasyncError, *, remaining: float, draw: Callable[[], float] = random.random
    ) -> float | None:
        """Return the seconds to wait before attempt number `attempt + 1`, or None to give up.

        `remaining` is the time left until the deadline, in seconds: a wait that would pass it is not begun.
        """
        if attempt >= self.attempts or not error.retryable:
            return None
        delay = self.backoff(attempt, error, draw=draw)
        return delay if delay is not None and delay < remaining else None

    def backoff(
        self, attempt: int, error: AimlasyncError, *, draw: Callable[[], float] = random.random
    ) -> float | None:
        """Return the seconds to wait after `attempt` failures in a row, None where the server asks for too many."""
        asked = retry_after_of(error)
        if asked is not None:
            return asked * (1 + _SPREAD * draw()) if asked <= self.max_retry_after else None
        throttled = isinstance(error, APIStatusError) and error.status == 429
        bound = (self.throttle_base if throttled else self.base) * 2.0 ** min(attempt - 1, 64)
        return min(bound, self.max_backoff) * draw()


class RetryQuota:
    """How many retries one endpoint and key may still be sent, whoever sends them.

    Retries pay, successes earn, so that an outage is met with a fixed number of retries and not with a multiple of the
    calls: with the default capacity 100, or 50 where every failure is a timeout, which is a tenth of 1,000 calls and a
    fiftieth of 5,000. While calls succeed it earns more than it pays up to a failure rate of 30 % (24 % of timeouts);
    what it can carry at one instant are again those 100 or 50 retries.

    When it is empty, an interactive call fails with the error it has. A bulk call waits instead: `probe` lets one of
    all that wait go on, and each probe that succeeds earns one ordinary retry.
    """

    __slots__ = (
        "_probing",
        "available",
        "capacity",
        "failed_probes",
        "no_retry_increment",
        "retry_cost",
        "timeout_cost",
    )

    def __init__(
        self, *, capacity: int = 500, retry_cost: int = 5, timeout_cost: int = 10, no_retry_increment: int = 1
    ) -> None:
        if capacity < max(retry_cost, timeout_cost) or min(retry_cost, timeout_cost, no_retry_increment) < 1:
            raise ValueError("capacity must hold at least one retry, and costs and increment must be at least 1")
        self.capacity = capacity
        self.retry_cost = retry_cost
        self.timeout_cost = timeout_cost
        self.no_retry_increment = no_retry_increment
        # What is left: taken by retries, earned by successes.
        self.available = capacity
        self.failed_probes = 0
        """Probes that failed since one succeeded: the next one's wait is `Retry.backoff(failed_probes + 1, error)`."""
        # Whether the one probe is under way.
        self._probing = False

    def take(self, error: AimlasyncError) -> int | None:
        """Pay for a retry after `error` and return its cost, None (and nothing paid) when the quota is empty.

        If the retry succeeds, or is never sent, `give_back` the cost; if it fails, the cost stays paid.
        """
        cost = self._cost(error)
        if cost > self.available:
            return None
        self.available -= cost
        return cost

    def give_back(self, cost: int) -> None:
        """Return what the last retry of a call cost, after its success."""
        self.available = min(self.capacity, self.available + cost)

    def succeeded(self) -> None:
        """Note a call that succeeded without a retry."""
        if self.available < self.capacity:
            self.give_back(self.no_retry_increment)

    def probe(self, error: AimlasyncError) -> bool:
        """Take the one retry that may be under way while there is no quota for `error`, False while another has it.

        Also False when `take` would have it: ask that first. Who got it must call `probed`, however it ends.
        """
        if self._probing or self._cost(error) <= self.available:
            return False
        self._probing = True
        return True

    def probed(self, succeeded: bool | None) -> None:
        """End the probe: it succeeded, or failed, or (None) was given up before it could tell."""
        self._probing = False
        if succeeded:
            self.failed_probes = 0
            self.give_back(self.retry_cost)
        elif succeeded is not None:
            self.failed_probes += 1

    def _cost(self, error: AimlasyncError) -> int:
        # A timeout may have kept the server busy all that time; a connection that died at once did not.
        took_long = isinstance(error, APIConnectionError) and not isinstance(error, StaleConnectionError)
        return self.timeout_cost if took_long else self.retry_cost

    def __repr__(self) -> str:
        return f"<RetryQuota {self.available} of {self.capacity}{', probing' if self._probing else ''}>"


def retry_after_of(error: AimlasyncError) -> float | None:
    """Return the wait that `error` states, in seconds, None where it states none."""
    return error.retry_after if isinstance(error, (APIStatusError, OverloadedError)) else None
