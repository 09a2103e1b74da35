"""When a failed attempt is tried again, and after how long.

Law: pure arithmetic on (attempt, error, elapsed); the clock and the sleep belong to the client, the randomness is
injected. Full jitter after AWS, "Exponential backoff and jitter": a uniform draw from zero to the exponential bound,
so that callers that failed together do not return together. What the server asks for is a floor, with jitter above
it, never below.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

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
    """Seconds: a server that asks for a longer wait fails the call at once, with `.retry_after`."""

    def delay(
        self, attempt: int, error: AimlasyncError, *, remaining: float, draw: Callable[[], float] = random.random
    ) -> float | None:
        """Return the seconds to wait before attempt number `attempt + 1`, or None to give up.

        `remaining` is the time left until the deadline, in seconds: a wait that would pass it is not begun.
        """
        if attempt >= self.attempts or not error.retryable:
            return None
        asked = retry_after_of(error)
        if asked is not None:
            if asked > self.max_retry_after:
                return None
            delay = asked * (1 + _SPREAD * draw())
        else:
            throttled = isinstance(error, APIStatusError) and error.status == 429
            bound = (self.throttle_base if throttled else self.base) * 2.0 ** min(attempt - 1, 64)
            delay = min(bound, self.max_backoff) * draw()
        return delay if delay < remaining else None


def retry_after_of(error: AimlasyncError) -> float | None:
    """Return the wait that `error` states, in seconds, None where it states none."""
    return error.retry_after if isinstance(error, (APIStatusError, OverloadedError)) else None


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Read `retry-after-ms` (milliseconds) or `retry-after` (seconds, or an HTTP date; RFC 9110 section 10.2.3)."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    stated = headers.get("retry-after")
    if stated is None:
        return None
    seconds = _seconds(stated)
    if seconds is not None:
        return seconds
    try:
        when = parsedate_to_datetime(stated)
        if when.tzinfo is None:
            # HTTP dates are UTC, also in the form that does not say so.
            when = when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp() - now())
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    # float() also reads "nan", "inf" and "-1"; none of them is a wait.
    return value if 0 <= value < float("inf") else None
