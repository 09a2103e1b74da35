"""The retry policy: when a failed attempt is tried again, and after how long.

Pure arithmetic on the attempt's number, its error and the time that is left; the pipeline has the clock and the sleep,
randomness is handed in. It may import `errors`. Full jitter after AWS, "Exponential backoff and jitter": a uniform draw
from zero to the exponential bound, so that callers that failed together do not return together. A wait that the server
asks for is a floor, with jitter above it and never below.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from aimlasync.errors import AimlasyncError, APIStatusError, OverloadedError

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


def retry_after_of(error: AimlasyncError) -> float | None:
    """Return the wait that `error` states, in seconds, None where it states none."""
    return error.retry_after if isinstance(error, (APIStatusError, OverloadedError)) else None
