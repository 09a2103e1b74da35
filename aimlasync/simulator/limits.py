"""Who gets in: concurrency, requests and tokens per minute, money.

Law: counters and arithmetic; no I/O, and only the clock it is handed.
Rules: the first limit that is passed refuses, in the order concurrency, requests, tokens. What is refused counts for
nothing. Tokens are those of the prompt and of the answer, both known on arrival. A request that was admitted holds its
place in flight until its response ended or its client went away. Money is taken when an answer was delivered: whole,
or the delivered part when the client left a stream; failures are free.
"""

from __future__ import annotations

from collections.abc import Callable

from aimlasync.simulator.vendor.vendors import Problem
from aimlasync.simulator.windows import SlidingWindow


class TooMany(Problem):
    """A limit was passed; `wait` is when there will be room, None when that is not known."""

    def __init__(self, message: str | None, wait: float | None, *, code: str | None = None) -> None:
        super().__init__(429, message, code=code)
        self.wait = wait


class Admission:
    """The limits of one simulator and what they hold now."""

    def __init__(
        self,
        *,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        concurrency: int | None,
        balance_usd: float | None,
        clock: Callable[[], float],
    ) -> None:
        self.requests = None if requests_per_minute is None else SlidingWindow(requests_per_minute)
        self.tokens = None if tokens_per_minute is None else SlidingWindow(tokens_per_minute)
        self.concurrency = concurrency
        self.balance_usd = balance_usd
        self.spent_usd = 0.0
        self.in_flight = 0
        self._clock = clock

    def enter(self, tokens: int, *, verbose: bool) -> float:
        """Let one request in and return the time; `leave` must follow.

        Raises TooMany when a limit would be passed; the message says which when `verbose`.
        """
        now = self._clock()
        if self.concurrency is not None and self.in_flight >= self.concurrency:
            text = f"Too many concurrent requests: {self.in_flight} of {self.concurrency} in flight"
            raise TooMany(text if verbose else None, None, code="concurrency_limit")
        for window, amount, unit in ((self.requests, 1, "requests"), (self.tokens, tokens, "tokens")):
            if window is not None and window.remaining(now) < amount:
                text = f"Rate limit reached: {window.limit} {unit} per minute, {amount} more asked for"
                raise TooMany(text if verbose else None, window.wait(amount, now))
        if self.requests is not None:
            self.requests.admit(1, now)
        if self.tokens is not None:
            self.tokens.admit(tokens, now)
        self.in_flight += 1
        return now

    def leave(self) -> None:
        """Give the place of one request back."""
        self.in_flight -= 1

    @property
    def is_broke(self) -> bool:
        """True when the balance is used up."""
        return self.balance_usd is not None and self.balance_usd <= 0

    def charge(self, usd: float) -> None:
        """Take the price of an answer."""
        self.spent_usd += usd
        if self.balance_usd is not None:
            self.balance_usd -= usd

    def headers(self) -> list[tuple[str, str]]:
        """Return OpenAI's x-ratelimit-* headers for the limits that are set."""
        found = []
        now = self._clock()
        for window, unit in ((self.requests, "requests"), (self.tokens, "tokens")):
            if window is not None:
                left = max(0, int(window.remaining(now)))
                wait = window.wait(window.limit, now)
                found += [
                    (f"x-ratelimit-limit-{unit}", str(int(window.limit))),
                    (f"x-ratelimit-remaining-{unit}", str(left)),
                    (f"x-ratelimit-reset-{unit}", f"{wait:.3f}s"),
                ]
        return found
