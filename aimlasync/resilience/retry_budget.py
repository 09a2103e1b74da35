"""The retry budget of one endpoint: how many retries all calls together may send. Retries take from it, successes give.

It is arithmetic without I/O. It may import `errors` and `transport.base`. Source: AWS's standard retry mode (botocore,
retries/standard.py).
"""

from __future__ import annotations

import msgspec

from aimlasync.errors import AimlasyncError, APIConnectionError
from aimlasync.transport.base import StaleConnectionError


class RetryBudget:
    """How many retries all calls together may still send to one endpoint and key.

    Retries cost and successes earn, so that an outage is met with a fixed number of retries, not with a multiple of the
    calls. The default capacity is 100 retries, or 50 after timeouts: a tenth of 1,000 calls, a fiftieth of 5,000. It
    earns more than it pays up to a failure rate of 30 % (24 % of timeouts).

    When it is empty, an interactive call fails with its error. A bulk call waits: `probe` admits one retry of all the
    calls that wait, and each probe that succeeds earns one ordinary retry.
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
        self.available = capacity
        """What is left of the capacity."""
        self.failed_probes = 0
        """Failed probes since the last one that succeeded; the next waits `Retry.backoff(failed_probes + 1, error)`."""
        # Whether the one probe is under way.
        self._probing = False

    def take(self, error: AimlasyncError) -> int | None:
        """Pay for a retry after `error` and return its cost, or pay nothing and return None when too little is left.

        If the retry succeeds, or is never sent, `give_back` the cost; if it fails, the cost stays paid.
        """
        cost = self._cost(error)
        if cost > self.available:
            return None
        self.available -= cost
        return cost

    def give_back(self, cost: int) -> None:
        """Give back what a retry cost that succeeded or was never sent."""
        self.available = min(self.capacity, self.available + cost)

    def succeeded(self) -> None:
        """Note a call that succeeded without a retry."""
        if self.available < self.capacity:
            self.give_back(self.no_retry_increment)

    def probe(self, error: AimlasyncError) -> bool:
        """Take the one retry that may be under way while the budget is too low for `error`; return whether it was free.

        It is not free while another call has it, and not while `take` would succeed. A caller that takes the probe must
        call `probed` however the retry ends.
        """
        if self._probing or self._cost(error) <= self.available:
            return False
        self._probing = True
        return True

    def probed(self, succeeded: bool | None) -> None:
        """End the probe; `succeeded` is None for a retry that ended without an outcome."""
        self._probing = False
        if succeeded:
            self.failed_probes = 0
            self.give_back(self.retry_cost)
        elif succeeded is not None:
            self.failed_probes += 1

    def _cost(self, error: AimlasyncError) -> int:
        # An attempt that timed out may have kept the server busy all that time; a stale connection did not.
        took_long = isinstance(error, APIConnectionError) and not isinstance(error, StaleConnectionError)
        return self.timeout_cost if took_long else self.retry_cost

    def __repr__(self) -> str:
        return f"<RetryBudget {self.available} of {self.capacity}{', probing' if self._probing else ''}>"


class PaidRetry(msgspec.Struct, eq=False):
    """A retry that a budget has let through; one of its methods is called, once."""

    budget: RetryBudget
    cost: int | None = None
    """None for the probe, which goes on credit."""

    def ended(self, succeeded: bool | None) -> None:
        """Note how it ended; None is for one without an outcome."""
        if self.cost is None:
            self.budget.probed(succeeded)
        elif succeeded:
            self.budget.give_back(self.cost)

    def unsent(self) -> None:
        """Note that it will never be sent."""
        if self.cost is None:
            self.budget.probed(None)
        else:
            self.budget.give_back(self.cost)
