"""What a server's response headers say about its rate limits.

Functions from headers to values, without I/O; `now` is called only where a header names a time of day, which is read by
the server's clock (`wire.waits.clock_of`). An invalid header is ignored and never raises, since an answer must not be
lost to it. A window with limit 0 counts as unlimited. It may import `headers` and `wire.waits`.

Notations: `retry-after` (RFC 9110 section 10.2.3) and OpenAI's `retry-after-ms`; OpenAI's `x-ratelimit-*-requests` and
`-tokens`, with durations such as 6m0s, and with a window behind them (`-tokens-minute` of Cerebras and Mistral,
`-tokens-per-day` of DigitalOcean); Anthropic's `anthropic-ratelimit-*`, with times of RFC 3339; the plain
`x-ratelimit-*` (seconds, or a Unix time); the three fields of draft-ietf-httpapi-ratelimit-headers-06; and ByteSpike's
plain `x-ratelimit-*`, which are US dollars (docs.bytespike.ai, "Rate limits").
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal

import msgspec

from aimlasync.headers import Fields, amount
from aimlasync.wire import waits

Unit = Literal["requests", "usd"]
"""What a provider's plain `x-ratelimit-*` headers count."""

_Names = tuple[str, str, str]
_Window = tuple[int | None, int | None, float | None]


def _anthropic(kind: str) -> _Names:
    prefix = f"anthropic-ratelimit-{kind}"
    return f"{prefix}-remaining", f"{prefix}-limit", f"{prefix}-reset"


def _plain(kind: str) -> _Names:
    return f"x-ratelimit-remaining{kind}", f"x-ratelimit-limit{kind}", f"x-ratelimit-reset{kind}"


# Each window as the names of (remaining, limit, reset); a response has a window if it has the first of them.
_WINDOWS = ("", "-second", "-minute", "-hour", "-day", "-per-minute", "-per-hour", "-per-day", "-1h")
_PLAIN = _plain("")
_REQUESTS: tuple[_Names, ...] = (
    *(_plain(f"-{kind}{window}") for kind in ("requests", "req") for window in _WINDOWS),
    _anthropic("requests"),
    ("ratelimit-remaining", "ratelimit-limit", "ratelimit-reset"),
)
_TOKENS: tuple[_Names, ...] = (
    *(_plain(f"-tokens{window}") for window in (*_WINDOWS, "-prompt", "-generated")),
    _anthropic("tokens"),
    _anthropic("input-tokens"),
    _anthropic("output-tokens"),
)
_PLAIN_OR_REQUESTS = (_PLAIN, *_REQUESTS)
_STRUCTURED = "ratelimit"
_LEFT, _UNTIL = re.compile(r"\b(?:r|remaining)\s*=\s*(\d+)"), re.compile(r"\b(?:t|reset)\s*=\s*(\d+)")

TELLING = frozenset((_STRUCTURED, *(names[0] for names in (*_PLAIN_OR_REQUESTS, *_TOKENS))))
"""One of them is in every response that says something about rate limits."""


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What one response says about rate limits; times are seconds from now, None is what it does not say."""

    pause: float | None = None
    """Seconds for which the endpoint should send nothing: until the reset of an exhausted window."""
    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens: float | None = None
    usd_limit: float | None = None
    usd_remaining: float | None = None
    usd_reset: float | None = None


def read(headers: Mapping[str, str], *, unit: Unit, now: Callable[[], float] = time.time) -> Signal | None:
    """Return what `headers` say about rate limits, None when they say nothing; `unit` is that of the plain headers.

    Where several windows count the same thing (Anthropic's input and output tokens), the fields are those of the window
    with the least remaining, and `.pause` covers all exhausted windows.
    """
    told: Collection[str]
    if isinstance(headers, Fields):
        told = TELLING.intersection(headers.by_name)
    else:
        told = {name for name in TELLING if name in headers}
    if not told:
        # As most responses.
        return None
    now, dollars = waits.clock_of(headers, now), unit == "usd"
    requests = _windows(headers, told, _REQUESTS if dollars else _PLAIN_OR_REQUESTS, now)
    tokens = _windows(headers, told, _TOKENS, now)
    if _STRUCTURED in told:
        requests = [*(requests or ()), *_structured(headers[_STRUCTURED])] or None
    usd = _dollars(headers, now) if dollars else None
    if requests is None and tokens is None and usd is None:
        return None
    limit_requests, remaining_requests, reset_requests = _tightest(requests)
    limit_tokens, remaining_tokens, reset_tokens = _tightest(tokens)
    usd_limit, usd_remaining, usd_reset = usd or (None, None, None)
    pauses = [reset for window in (requests, tokens) for limit, left, reset in window or () if left == 0 and limit != 0]
    if usd_remaining is not None and usd_remaining <= 0 and usd_limit != 0:
        pauses.append(usd_reset)
    return Signal(
        # A reset that is due now, or not stated, needs no pause.
        pause=max((pause for pause in pauses if pause), default=None),
        limit_requests=limit_requests,
        remaining_requests=remaining_requests,
        reset_requests=reset_requests,
        limit_tokens=limit_tokens,
        remaining_tokens=remaining_tokens,
        reset_tokens=reset_tokens,
        usd_limit=usd_limit,
        usd_remaining=usd_remaining,
        usd_reset=usd_reset,
    )


retry_after = waits.in_headers
"""Return the wait in seconds that `retry-after-ms` or `retry-after` state, None without one."""


def _windows(
    headers: Mapping[str, str], told: Collection[str], table: tuple[_Names, ...], now: Callable[[], float]
) -> list[_Window] | None:
    """Return the windows of `table` that headers `told` state, as (limit, remaining, reset)."""
    found: list[_Window] | None = None
    for names in table:
        if names[0] in told:
            remaining, limit, reset = names
            window = _count(headers.get(limit)), _count(headers[remaining]), waits.until(headers.get(reset), now)
            if window != (None, None, None):
                found = [*(found or ()), window]
    return found


def _structured(text: str) -> Iterator[_Window]:
    """Yield the windows of a `ratelimit` header; one whose limit is in another header, `ratelimit-policy`."""
    # Version 7 of the draft has the fields of one window in a list.
    for policy in (text,) if "remaining" in text else text.split(","):
        left, reset = _LEFT.search(policy), _UNTIL.search(policy)
        if left is not None:
            yield None, _count(left[1]), None if reset is None else waits.until(reset[1], time.time)


def _tightest(windows: list[_Window] | None) -> _Window:
    if windows is None:
        return None, None, None
    if len(windows) == 1:
        return windows[0]
    return min(windows, key=lambda window: float("inf") if window[1] is None or window[0] == 0 else window[1])


def _dollars(
    headers: Mapping[str, str], now: Callable[[], float]
) -> tuple[float | None, float | None, float | None] | None:
    """Return ByteSpike's spending window as (limit, remaining, reset); remaining may be below zero."""
    if _PLAIN[0] not in headers:
        return None
    remaining, limit, reset = map(headers.get, _PLAIN)
    window = amount(limit), waits.finite(remaining), waits.until(reset, now)
    return None if window == (None, None, None) else window


def _count(text: str | None) -> int | None:
    """Read a whole number; the draft's limit may be followed by policies: `100, 100;w=60`.

    A number with decimals is no count of requests or tokens: some servers send dollars in these headers.
    """
    if text is None:
        return None
    if not text.isdecimal():
        text = text.partition(",")[0].partition(";")[0].strip()
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 18 else None
