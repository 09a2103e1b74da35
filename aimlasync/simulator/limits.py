"""The limits of the simulated account and of its models: concurrency, requests and tokens per minute, and money.

The first limit that would be exceeded refuses a request, in the order concurrency, requests, tokens. A refused request
counts against no limit. Its tokens are those of the prompt and of the answer, both known on arrival. An admitted
request is in flight until its response has ended or its client has left. An answer is charged when it was delivered: in
full, or the delivered part when the client left a stream; a failure is free. Counters and arithmetic without I/O; it
may import what a vendor is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from aimlasync.config import Limits
from aimlasync.simulator.vendor.vendors import Problem


class SlidingWindow:
    """A strict limit on what is admitted in any window of `seconds`.

    An amount is admitted at time t when it and everything admitted in (t - seconds, t] sum to no more than the limit;
    so an amount larger than the limit never is. Every admitted amount is kept until it has left the window: unlike a
    token bucket, the window lets no burst through at its edge. Times come from the caller.
    """

    __slots__ = ("_admitted", "_sum", "limit", "seconds")

    def __init__(self, limit: float, *, seconds: float = 60.0) -> None:
        self.limit = limit
        self.seconds = seconds
        # (time, amount), oldest first, and the sum of the amounts.
        self._admitted: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def remaining(self, now: float) -> float:
        """Return how much may be admitted at `now`."""
        admitted = self._admitted
        oldest = now - self.seconds
        while admitted and admitted[0][0] <= oldest:
            self._sum -= admitted.popleft()[1]
        return self.limit - self._sum

    def admit(self, amount: float, now: float) -> None:
        """Count `amount` without a check; the caller compares it with `remaining` first."""
        self._admitted.append((now, amount))
        self._sum += amount

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds from `now` until `amount` may be admitted if nothing else is admitted before."""
        missing = amount - self.remaining(now)
        if missing <= 0:
            return 0.0
        for time, held in self._admitted:
            missing -= held
            if missing <= 0:
                # 0 would say that the amount fits now, and the difference of two close times may round to 0.
                return max(time + self.seconds - now, 1e-6)
        return self.seconds


class LimitExceeded(Problem):
    """A request is refused with 429; `wait` is the seconds until it may be admitted, None when that is not known."""

    def __init__(self, message: str | None, wait: float | None, *, code: str | None = None) -> None:
        super().__init__(429, message, code=code)
        self.wait = wait


class _Part:
    """The limits of the account, or of one of its models, and what counts against them now."""

    __slots__ = ("concurrency", "in_flight", "name", "requests", "tokens")

    def __init__(self, rpm: float | None, tpm: float | None, concurrency: int | None, name: str = "") -> None:
        self.requests = None if rpm is None else SlidingWindow(rpm)
        self.tokens = None if tpm is None else SlidingWindow(tpm)
        self.concurrency = concurrency
        self.in_flight = 0
        # What a refusal names: nothing where the limits are the account's.
        self.name = f" for {name}" if name else ""

    def check(self, tokens: int, now: float, *, verbose: bool) -> None:
        """Raise LimitExceeded when one more request would exceed a limit."""
        if self.concurrency is not None and self.in_flight >= self.concurrency:
            text = f"Too many concurrent requests{self.name}: {self.in_flight} of {self.concurrency} in flight"
            raise LimitExceeded(text if verbose else None, None, code="concurrency_limit")
        for window, amount, unit in ((self.requests, 1, "requests"), (self.tokens, tokens, "tokens")):
            if window is not None and window.remaining(now) < amount:
                text = f"Rate limit reached{self.name}: {window.limit} {unit} per minute, {amount} more asked for"
                raise LimitExceeded(text if verbose else None, window.wait(amount, now))

    def admit(self, tokens: int, now: float) -> None:
        """Count one more request."""
        if self.requests is not None:
            self.requests.admit(1, now)
        if self.tokens is not None:
            self.tokens.admit(tokens, now)
        self.in_flight += 1


class Admission:
    """The limits of one simulator, and what counts against them now; those of `models` hold besides the account's."""

    def __init__(
        self,
        *,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        concurrency: int | None,
        models: Mapping[str, Limits],
        balance_usd: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._account = _Part(requests_per_minute, tokens_per_minute, concurrency)
        self._models = {
            name: _Part(each.requests_per_minute, each.tokens_per_minute, each.concurrency, name)
            for name, each in models.items()
        }
        self.balance_usd = balance_usd
        self.spent_usd = 0.0
        self._clock = clock

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        return self._account.in_flight

    def in_flight_of(self, model: str) -> int:
        """How many requests are in flight to a model that has limits of its own."""
        return self._models[model].in_flight

    def _parts(self, model: str) -> list[_Part]:
        own = self._models.get(model)
        return [self._account] if own is None else [own, self._account]

    def enter(self, tokens: int, model: str, *, verbose: bool) -> float:
        """Admit one request and return the time; the caller must call `leave` afterwards.

        Raises LimitExceeded when a limit would be exceeded; its message says which when `verbose`.
        """
        now = self._clock()
        for part in self._parts(model):
            part.check(tokens, now, verbose=verbose)
        for part in self._parts(model):
            part.admit(tokens, now)
        return now

    def leave(self, model: str) -> None:
        """Count one request as no longer in flight."""
        for part in self._parts(model):
            part.in_flight -= 1

    @property
    def is_out_of_credit(self) -> bool:
        """Whether the balance is used up."""
        return self.balance_usd is not None and self.balance_usd <= 0

    def charge(self, usd: float) -> None:
        """Take the price of an answer from the balance."""
        self.spent_usd += usd
        if self.balance_usd is not None:
            self.balance_usd -= usd

    def headers(self) -> list[tuple[str, str]]:
        """Return OpenAI's x-ratelimit-* headers for the limits that are set."""
        found = []
        now = self._clock()
        for window, unit in ((self._account.requests, "requests"), (self._account.tokens, "tokens")):
            if window is not None:
                left = max(0, int(window.remaining(now)))
                wait = window.wait(window.limit, now)
                found += [
                    (f"x-ratelimit-limit-{unit}", str(int(window.limit))),
                    (f"x-ratelimit-remaining-{unit}", str(left)),
                    (f"x-ratelimit-reset-{unit}", f"{wait:.3f}s"),
                ]
        return found
