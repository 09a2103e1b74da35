"""The retry policy: whether a failed attempt is retried, and after how long.

It is arithmetic on the attempt's number, its error and the remaining time. The pipeline has the clock and sleeps, and
the caller passes the source of randomness. It may import `errors`. Backoff has full jitter: a uniform draw from zero to
an exponential bound, so that calls that failed together do not return together (AWS, "Exponential backoff and jitter").
A wait that the server states is a minimum, and jitter is added to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from aimlasync.config import check_at_least
from aimlasync.errors import AimlasyncError, APIStatusError, OverloadedError, StreamError
from aimlasync.spelling import Spelled

# A wait that the server states is stretched by up to this share, so that clients that were told the same wait do not
# return at once.
_SPREAD = 0.2


class Retry(msgspec.Struct, frozen=True, kw_only=True, metaclass=Spelled):
    """The retry policy of a client; `Retry(attempts=1)` never retries."""

    attempts: int = 4
    """The most attempts of a call, the first one included."""
    base: float = 0.5
    """The bound of the first backoff in seconds; it doubles with every attempt."""
    throttle_base: float = 1.5
    """The bound of the first backoff after a 429, in seconds."""
    max_backoff: float = 30.0
    """The largest bound of a backoff, in seconds."""
    max_retry_after: float = 60.0
    """The longest wait, in seconds, that a server may state; a longer one fails the call at once, with `.retry_after`.

    The endpoint is then paused for these seconds, or for a minute if that is longer.
    """

    def __post_init__(self) -> None:
        check_at_least(1, attempts=self.attempts)
        seconds = {"base": self.base, "throttle_base": self.throttle_base, "max_backoff": self.max_backoff}
        check_at_least(0, **seconds, max_retry_after=self.max_retry_after)

    def delay(
        self, attempt: int, error: AimlasyncError, *, remaining: float, draw: Callable[[], float] = random.random
    ) -> float | None:
        """Return the seconds to wait before attempt number `attempt + 1`, or None to give up.

        `remaining` is the time until the deadline, in seconds; a wait that would pass it is not begun.
        """
        if attempt >= self.attempts or not error.retryable:
            return None
        delay = self.backoff(attempt, error, draw=draw)
        return delay if delay is not None and delay < remaining else None

    def backoff(
        self, attempt: int, error: AimlasyncError, *, draw: Callable[[], float] = random.random
    ) -> float | None:
        """Return the seconds to wait after `attempt` failures in a row.

        None where the server states a wait above `max_retry_after`.
        """
        asked = retry_after_of(error)
        if asked is not None:
            return asked * (1 + _SPREAD * draw()) if asked <= self.max_retry_after else None
        throttled = isinstance(error, APIStatusError) and error.status == 429
        bound = (self.throttle_base if throttled else self.base) * 2.0 ** min(attempt - 1, 64)
        return min(bound, self.max_backoff) * draw()


def retry_after_of(error: AimlasyncError) -> float | None:
    """Return the wait that `error` states, in seconds, None where it states none."""
    return error.retry_after if isinstance(error, (APIStatusError, OverloadedError, StreamError)) else None
