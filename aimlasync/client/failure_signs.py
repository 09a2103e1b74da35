"""What the error of a failed attempt says: of the server's capacity and health, of the key, and of the cost.

Pure: each function reads one error; `call` and `failures` act on what it returns. It may import `errors`, `wire`,
`resilience.retry`, `admission.outcome` and `transport.base`.
"""

from __future__ import annotations

import re
from typing import Literal

from aimlasync.admission.outcome import GONE, LATE, NOTHING, Outcome, Signal
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    InsufficientCreditError,
    StreamError,
    TruncatedStreamError,
)
from aimlasync.resilience.retry import retry_after_of
from aimlasync.transport.base import NoRoomError

NO_ACCESS = (AuthenticationError, InsufficientCreditError)
"""The endpoint serves no more calls with this key."""

# A status that stands in the place of a code.
_STATUS = re.compile(r"[45]\d\d")


def is_free(error: AimlasyncError) -> bool:
    """Whether a failed attempt costs nothing: the vendor says so, nothing was sent, or the request was refused."""
    return error.billed is False or (isinstance(error, APIStatusError) and 400 <= error.status < 500)


def lacks_ability(error: AimlasyncError) -> bool:
    """Whether a 5xx says that the server works, and does not do what was asked."""
    # Loaded with the first failure.
    from aimlasync.wire.error_bodies import is_unsupported

    return isinstance(error, APIStatusError) and is_unsupported(error.status, error.message)


def is_unreachable(error: APIConnectionError) -> bool:
    """Whether the host could not be reached, or broke the connection: no matter of the model that was asked."""
    if isinstance(error, APITimeoutError):
        return error.phase == "connect"
    return not isinstance(error, TruncatedStreamError)


def health_of(
    error: AimlasyncError, seconds: float, patience: float
) -> Literal["answered", "failed", "unreachable", "unknown"]:
    """What an attempt that failed after so many seconds says about the server's health, which circuits are told.

    `patience` is for how long others were waited for: a bound that passes sooner says nothing.
    """
    if isinstance(error, APIStatusError):
        return "failed" if error.status >= 500 and not lacks_ability(error) else "answered"
    if not isinstance(error, APIConnectionError):
        return "answered"
    if isinstance(error, NoRoomError):
        return "unknown"
    if is_unreachable(error):
        return "unreachable"
    if isinstance(error, APITimeoutError) and error.phase in ("first_token", "total") and seconds < patience:
        return "unknown"
    return "failed"


def signal_of(error: AimlasyncError, model: str) -> Signal:
    """What a failed attempt says about the server's capacity; `admission.outcome` has the table."""
    if isinstance(error, (APIStatusError, StreamError)):
        # Loaded with the first failure.
        from aimlasync.admission.refusal_words import read_status
        from aimlasync.wire.error_bodies import is_spent, limit_status

        # A stream's error has a status only as its code.
        code = error.code or ""
        status = error.status if isinstance(error, APIStatusError) else int(code) if _STATUS.fullmatch(code) else 500
        if status < 500 and status not in (401, 402, 429):
            status = 402 if is_spent(f"{error.code} {error.type}") else limit_status(error.code, error.type) or status
        return read_status(status, f"{error.message} {error.code} {error.type}", model)
    if isinstance(error, APITimeoutError):
        return LATE if error.phase == "first_token" else NOTHING
    return GONE if isinstance(error, APIConnectionError) and not isinstance(error, NoRoomError) else NOTHING


def stated_wait(error: AimlasyncError, signal: Signal) -> tuple[float, str] | None:
    """Return the seconds that a refusal with this signal asks to wait, and how it asks; None where it does not."""
    wait, status = retry_after_of(error), error.status if isinstance(error, APIStatusError) else None
    is_refusal = signal.outcome is Outcome.DROPPED and (status or 0) < 500
    if wait is None or not (is_refusal or status in (429, 503, 529)):
        return None
    return wait, f"it asked for {wait:.1f} s {'in a stream' if status is None else f'with HTTP {status}'}"
