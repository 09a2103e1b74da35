"""Waits that servers state, as seconds from now: durations and times of day; `wait_sentences` reads sentences.

Pure functions; `now` is called only where a time of day is named. Times of day in headers are read by the clock of the
server, which its Date tells: where ours is wrong, a wait would be an hour too long, or none. What cannot be read is
None and never raises, since an answer or error must not be lost to it. It may import `headers`.
Notations: seconds; Go's durations (6m0s, 1.5h), which OpenAI, Groq and protobuf's RetryInfo use; Unix times in seconds
or milliseconds (OpenRouter); RFC 3339; HTTP dates.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from aimlasync.headers import amount

Clock = Callable[[], float]

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|us|µs|ns|[dhms]))+")
_PART = re.compile(r"([0-9.]+)([a-zµ]+)")
UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
"""Seconds of each unit of a duration."""
# No notation is longer than this; a longer text is not parsed.
_LONGEST_TEXT = 64
# A number above the first is a Unix time in seconds, above the second in milliseconds.
_UNIX, _UNIX_MS = 1e9, 1e12
FURTHEST = 366 * 86_400.0
"""Seconds: a time further away is taken for a misread number and ignored."""

# Seconds by which a server's clock must differ from ours to be the one that its times of day are read by: a Date tells
# whole seconds alone.
_ASKEW = 2.0

# Names of fields that hold a wait, without case and underscores, and their unit in seconds.
_FIELDS = {
    "retryafterms": 1e-3,
    "retrydelayms": 1e-3,
    "retryafter": 1.0,
    "retryafterseconds": 1.0,
    "retryaftersecs": 1.0,
    "retrydelay": 1.0,
    "retrydelayseconds": 1.0,
    "retryin": 1.0,
    "retryinseconds": 1.0,
    "waitseconds": 1.0,
    "secondstowait": 1.0,
    "estimatedtime": 1.0,
    "resetsinseconds": 1.0,
    "resetinseconds": 1.0,
    "resetafterseconds": 1.0,
    "resetsat": 1.0,
    "resetat": 1.0,
}


def until(text: str | None, now: Clock) -> float | None:
    """Read seconds from now, stated as seconds, a Unix time, a duration (1h2m3.5s), a time of RFC 3339 or a date."""
    if text is None or len(text) > _LONGEST_TEXT:
        return None
    text = text.strip()
    # Most servers send durations, and `float` of a duration costs an exception.
    number = None if text.endswith("s") else finite(text)
    if number is not None:
        if number > _UNIX_MS:
            number = max(0.0, number / 1000 - now())
        elif number > _UNIX:
            number = max(0.0, number - now())
    elif _DURATION.fullmatch(text):
        number = sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text))
    else:
        try:
            when = datetime.fromisoformat(text)
            if when.tzinfo is None:
                when = when.replace(tzinfo=UTC)
            number = max(0.0, when.timestamp() - now())
        except (ValueError, OverflowError):
            number = until_date(text, now)
    return number if number is not None and 0 <= number <= FURTHEST else None


def until_date(text: str, now: Clock) -> float | None:
    """Read the seconds until an HTTP date, which are UTC, also in the form without a zone."""
    when = _date(text)
    return None if when is None else max(0.0, when - now())


def _date(text: str) -> float | None:
    """Return the Unix time of an HTTP date."""
    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return when.timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def clock_of(headers: Mapping[str, str], now: Clock = time.time) -> Clock:
    """Return the clock by which times of day in `headers` are meant: the server's, where its Date differs from ours."""

    def theirs() -> float:
        ours, date = now(), _date(headers.get("date", ""))
        return ours if date is None or abs(date - ours) <= _ASKEW else date

    return theirs


def in_headers(headers: Mapping[str, str], now: Clock = time.time) -> float | None:
    """Return the wait in seconds of `retry-after-ms` or `retry-after` (seconds, a date, a duration), None without one.

    Azure has `x-ms-retry-after-ms` too. Names of `headers` are looked up in lower case. A date is read by the server's
    clock, see `clock_of`.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (milliseconds := amount(headers.get(name))) is not None:
            return milliseconds / 1000
    stated = headers.get("retry-after")
    if stated is None:
        return None
    seconds = amount(stated)
    if seconds is not None and seconds < _UNIX:
        return seconds
    now = clock_of(headers, now)
    if seconds is not None:
        return until(stated, now)
    wait = until_date(stated, now)
    return until(stated, now) if wait is None else wait


def in_field(name: str, value: Any, now: Clock = time.time) -> float | None:
    """Return the wait that a field of an error body states by its name, None for a field of another name.

    `name` has no capitals and no underscores. The value is a number, a text that `until` reads, or protobuf's
    `{"seconds": 3, "nanos": 5}`.
    """
    unit = _FIELDS.get(name)
    if unit is None or isinstance(value, bool):
        return None
    if isinstance(value, Mapping):
        seconds, nanos = value.get("seconds", 0), value.get("nanos", 0)
        if not isinstance(seconds, (int, float, str)) or not isinstance(nanos, (int, float)):
            return None
        whole = amount(str(seconds))
        return None if whole is None or not 0 <= nanos < 1e9 else whole + nanos / 1e9 or None
    wait = until(str(value), now) if isinstance(value, (int, float, str)) else None
    # Zero is what a server says that has nothing to say.
    return wait * unit if wait else None


def finite(text: str | None) -> float | None:
    """Return a finite number of either sign, None for anything else."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
