"""When a failure stops the whole job, and why a job ended.

`StopRules` counts over results and awaits nothing. An error that every row would meet stops the job, because going on
costs time, money or the vendor's goodwill; the rows that are done stay. Imports `errors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    InsufficientCreditError,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
    UnsupportedRequestError,
)

_ALWAYS = (AuthenticationError, InsufficientCreditError, PermissionDeniedError, BudgetExceededError)
# Stops a job whose rows differ in the text alone, while none has succeeded. One text may be too long or break a policy;
# if the first few rows are all refused, the request itself is wrong.
_REFUSED = (BadRequestError, UnprocessableEntityError)
# Seconds that calls in flight may go on after an error that stops the job: they may be paid for already.
STOP_GRACE = 5.0
MAX_REFUSED = 3
MAX_UNREACHED = 10


@dataclass(slots=True)
class Ending:
    """Why a job ended before its rows did; a job that was not stopped has none of the three."""

    stopped_by: AimlasyncError | None = None
    """The error that stopped it."""
    capped_by: Literal["tokens", "deadline"] | None = None
    is_interrupted: bool = False


class StopRules:
    """Looks at every result; `alike` says that all rows ask the same in the same way but for the text."""

    def __init__(self, *, succeeded: bool = False, alike: bool = True) -> None:
        # Whether any row was ever answered, so that the request itself is right.
        self._succeeded = succeeded
        self._alike = alike
        self._refused = 0
        self._unreached = 0

    def check(self, error: AimlasyncError | None) -> AimlasyncError | None:
        """Return the error if it must stop the job, None if the job may go on."""
        if error is None:
            self._succeeded = True
            self._unreached = 0
            return None
        self._unreached = self._unreached + 1 if isinstance(error, APIConnectionError) else 0
        if isinstance(error, _ALWAYS) or self._unreached >= MAX_UNREACHED:
            return error
        if isinstance(error, NotFoundError) and self._alike:
            return error
        if isinstance(error, _REFUSED) and self._alike and not self._succeeded:
            self._refused += 1
            if isinstance(error, UnsupportedRequestError) or self._refused >= MAX_REFUSED:
                return error
        return None
