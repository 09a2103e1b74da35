"""Errors as HTTP responses to a browser, and as lines of the log.

An error response says what a browser can act on: when to try again, or what is wrong with the request, in the vendor's
words. Hosts, accounts and other words of the vendor go to the log `aimlasync.relay` only: one WARNING an error, with
the ids of its `info`. It may import the errors, and `client.explanation`.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from aimlasync.client.explanation import explain, ids_of
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BudgetExceededError,
    InsufficientCreditError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    in_one_line,
)
from aimlasync.logs import log_of
from aimlasync.wire.base import encode

# Seconds; the shortest Retry-After of a response, whose unit is whole seconds.
_MIN_RETRY_AFTER = 1.0

_log = log_of("aimlasync.relay")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error as an HTTP response: JSON in the shape of OpenAI's errors."""

    status: int
    headers: dict[str, str]
    body: bytes


def failure(error: AimlasyncError) -> Failure:
    """Return the response to a browser for an error, and log the error.

    OverloadedError is a 503 and RateLimitError a 429, both with Retry-After. BudgetExceededError is a 503 and
    APITimeoutError a 504. The vendor's 400, 413 and 422 stay, and an unknown model is a 400, all with the vendor's
    words. A vendor that said 503 or that could not be reached is a 503, everything else a 502, errors of key and credit
    included.
    """
    status, code, text = _status_code_text(error)
    ids = "" if error.info is None else ids_of(error.info)
    _log.warning(
        "a call failed: %s; answered with %d %s; %s; %s", in_one_line(error), status, code, ids, explain(error)
    )
    wait = getattr(error, "retry_after", None)
    if isinstance(error, OverloadedError):
        wait = max(wait or 0.0, _MIN_RETRY_AFTER)
    more = {} if error.run is None else {"run": error.run.id}
    return failed(
        status,
        code,
        text,
        **more,
        param=getattr(error, "param", None) if status < 500 else None,
        request_id=error.info.request_id or None if error.info is not None else None,
        retry_after=math.ceil(wait) if wait is not None and status in (429, 503) else None,
    )


# Errors of the service's own account with the vendor. A browser would take a 401 or 403 for its own.
_ACCESS = (AuthenticationError, PermissionDeniedError, InsufficientCreditError)


def _status_code_text(error: AimlasyncError) -> tuple[int, str, str]:
    match error:
        case OverloadedError():
            return 503, "overloaded", "too many requests at once; try again later"
        case BudgetExceededError():
            return 503, "budget_exceeded", "the service has spent what it may"
        case RateLimitError():
            return 429, "rate_limited", "the model's rate limit is reached; try again later"
        case APITimeoutError():
            return 504, "timeout", "the model did not answer in time"
        case NotFoundError():
            return 400, error.code or "not_found", error.message
        case APIStatusError(status=400 | 413 | 422):
            return error.status, error.code or "bad_request", error.message
        case APIStatusError(status=503) | APIConnectionError(billed=False, retryable=True):
            return 503, "unavailable", "the model is not available; try again later"
    if isinstance(error, _ACCESS):
        return 502, "no_access", "the service has no access to the model"
    return 502, "no_answer", "the model gave no usable answer"


def failed(status: int, code: str, text: str, *, retry_after: int | None = None, **more: str | None) -> Failure:
    """Return a failure with words of your own; `more` joins the error's object.

    `retry_after` is in seconds. It is in the body as well, because an error within a stream has no headers.
    """
    kind = "server_error" if status >= 500 else "invalid_request_error" if status != 429 else "rate_limit_error"
    error: dict[str, Any] = {"message": text, "type": kind, "code": code, **more}
    if retry_after is not None:
        error["retry_after"] = retry_after
    return Failure(
        status=status,
        headers={} if retry_after is None else {"Retry-After": str(retry_after)},
        body=encode({"error": error}),
    )


NOT_RESUMABLE = failed(409, "not_resumable", "a stream that was cut cannot be resumed; ask again")
"""The answer to a request with `Last-Event-ID`."""

SHUTTING_DOWN = failed(503, "shutting_down", "the server shuts down; try again", retry_after=1)
INTERNAL = failed(500, "internal", "the service made a mistake")
