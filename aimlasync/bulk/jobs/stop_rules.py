"""When a failure stops the whole job, and why a job ended.

`StopRules` counts over results and awaits nothing. An error that every row would meet stops the job, because going on
costs time, money or the vendor's goodwill; the rows that are done stay. Where the first rows alone may be at fault the
job is in doubt, and rows from elsewhere in the input decide: see `probes`. It may import `errors` and `wire`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aimlasync.bulk.progress.totals import CapName
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    InsufficientCreditError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
    UnsupportedRequestError,
)
from aimlasync.wire import error_bodies

_ALWAYS = (AuthenticationError, BudgetExceededError)
# Stop a job whose rows differ in the text alone, while none has succeeded, if rows from all over it are refused.
_REFUSED = (BadRequestError, UnprocessableEntityError)
# Refusals of what is in the row: too long for the model, or against a policy. Sources: OpenAI's codes; the texts of
# vLLM, Anthropic, Gemini, Azure and Ollama.
_OF_THE_ROW = re.compile(
    r"context.?(length|window|size)|too long|too many tokens|string_above_max|max\w* (\w+ )?(length|context)"
    r"|exceeds? the (limit|max\w*|available)|content.?(filter|policy|management)|moderation|safety|flagged"
    r"|invalid_prompt|usage polic|unsafe|invalid.?image|image.{0,20}(download|decod|process)",
    re.IGNORECASE,
)
# Limits by the day, in words. Sources: OpenAI and Groq "requests per day (RPD)", OpenRouter "free-models-per-day",
# Gemini "GenerateRequestsPerDayPerProjectPerModel".
_BY_THE_DAY = re.compile(r"per.?day|daily|\b[RT]PD\b", re.IGNORECASE)
# Seconds that calls in flight may go on after an error that stops the job: they may be paid for already.
STOP_GRACE = 5.0
# Seconds that a server may ask the whole job to wait; the job rather ends than waits longer.
PATIENCE = 300.0
MAX_REFUSED = 3
# So many rows may be too long, against a policy, or answered in vain, before rows from elsewhere are tried.
MAX_UNFIT = 50
MAX_UNREACHED = 10


@dataclass(slots=True)
class Ending:
    """Why a job ended before its rows did; a job that was not stopped has none of the first three."""

    stopped_by: AimlasyncError | None = None
    """The error that stopped it."""
    capped_by: CapName | None = None
    is_interrupted: bool = False
    resume_at: float | None = None
    """Unix time at which a limit by the day is over, where one ended the job and the time is known."""


class StopRules:
    """Looks at every result; `alike` says that all rows ask the same in the same way but for the text.

    With `probes` a job in doubt is given rows from elsewhere, and its caller says so with `probe`.
    """

    def __init__(self, *, succeeded: bool = False, alike: bool = True, probes: bool = False) -> None:
        self.succeeded = succeeded
        """Whether any row was ever answered, so that the request itself is right."""
        self._alike = alike
        self._probes = probes
        self.is_calm = succeeded
        """Whether the last row was answered, so that another answer tells nothing new."""
        self._refused = 0
        # Refusals of what is in the row.
        self._unfit = 0
        self._unreached = 0
        self.doubt: AimlasyncError | None = None
        """The error that stops the job unless a row from elsewhere is answered."""
        self.is_waiting = False
        """Whether all rows from elsewhere are being asked about, so that no others should be."""
        # Rows from elsewhere whose results decide, None before they are chosen.
        self._awaited: set[int] | None = None

    @property
    def is_decided_by_others(self) -> bool:
        """Whether rows from elsewhere have been chosen."""
        return self._awaited is not None

    def probe(self, numbers: set[int]) -> None:
        """The rows with these numbers are asked about next, and decide."""
        self._awaited = numbers

    def check(
        self, error: AimlasyncError | None, number: int | None = None, *, is_shared: bool = False
    ) -> AimlasyncError | None:
        """Return the error of the row of this number if it must stop the job, None if the job may go on.

        With `is_shared` an identical row has met the same error, by the same call, which counts once.
        """
        if error is None:
            self.succeeded = self.is_calm = True
            self._refused = self._unfit = self._unreached = 0
            self.doubt = self._awaited = None
            self.is_waiting = False
            return None
        self.is_calm = False
        if not is_shared:
            self._unreached = self._unreached + 1 if isinstance(error, APIConnectionError) else 0
        if isinstance(error, _ALWAYS) or is_unpaid(error) or is_to_come_back(error):
            return error
        # Some servers forbid what is in a row with the status of a key that may not do this.
        if isinstance(error, PermissionDeniedError) and not self.succeeded and not _OF_THE_ROW.search(_said(error)):
            return error
        if isinstance(error, NotFoundError) and self._alike:
            return error
        if is_shared and self.doubt is None:
            return None
        if self._unreached >= MAX_UNREACHED:
            # Rows that hang may be like each other; a server that is gone is gone for all.
            is_slow = isinstance(error, APITimeoutError) and error.phase in ("attempt", "total")
            return self._decide(error, number) if is_slow else error
        if isinstance(error, PermissionDeniedError) or (
            isinstance(error, _REFUSED) and self._alike and not self.succeeded
        ):
            if isinstance(error, UnsupportedRequestError):
                return error
            is_unfit = bool(_OF_THE_ROW.search(_said(error)))
            self._unfit += is_unfit
            self._refused += not is_unfit
        elif self._alike and not self.succeeded and _is_in_vain(error):
            self._unfit += 1
        if self._refused >= MAX_REFUSED or self._unfit >= MAX_UNFIT or self.doubt is not None:
            return self._decide(error, number)
        return None

    def _decide(self, error: AimlasyncError, number: int | None) -> AimlasyncError | None:
        """Return the error if no row from elsewhere is left that might be answered."""
        if not self._probes:
            return error
        self.doubt = self.doubt or error
        if self._awaited is None or number is None:
            return None
        self._awaited.discard(number)
        return None if self._awaited else self.doubt


def _is_in_vain(error: AimlasyncError) -> bool:
    """Whether the next row may well get the same, and no server is only overloaded.

    A cap that cuts every answer, or a model that never gives one in the form, is paid for each time. A base URL of
    something else has a page for every row, a redirect, or a method that is not allowed.
    """
    return isinstance(error, APIResponseValidationError) or (isinstance(error, APIStatusError) and not error.retryable)


def is_unpaid(error: AimlasyncError) -> bool:
    """Whether the account has no money, in whatever way the server says so."""
    if not isinstance(error, APIStatusError) or isinstance(error, InsufficientCreditError):
        return isinstance(error, InsufficientCreditError)
    # The message of another status may quote the request.
    said = _said(error) if error.status in (403, 429) else f"{error.code} {error.type}"
    return error_bodies.is_unpaid(said)


def is_to_come_back(error: AimlasyncError) -> bool:
    """Whether a limit was met that is over in hours."""
    if isinstance(error, (APIStatusError, OverloadedError)) and error.retry_after is not None:
        return error.retry_after > PATIENCE
    if is_unpaid(error):
        return False
    return isinstance(error, RateLimitError) and (not error.retryable or bool(_BY_THE_DAY.search(_said(error))))


def _said(error: APIStatusError) -> str:
    return f"{error.code} {error.type} {error.message}"
