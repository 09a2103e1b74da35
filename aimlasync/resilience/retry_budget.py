"""How many retries one endpoint is sent in all, whoever sends them: retries pay, successes earn.

It may import `errors` and `transport.base`. The arithmetic is that of AWS's standard retry mode (botocore,
retries/standard.py).
"""

from __future__ import annotations

from aimlasync.errors import AimlasyncError, APIConnectionError
from aimlasync.transport.base import StaleConnectionError


class RetryBudget:
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
        return f"<RetryBudget {self.available} of {self.capacity}{', probing' if self._probing else ''}>"
