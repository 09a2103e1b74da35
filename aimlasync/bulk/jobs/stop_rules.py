"""When a failure is the job's and not the row's.

Law: a pure count over results, no I/O. What fails for one row in such a way would fail for all, and cost time, money or
the vendor's goodwill: the job stops, and the rows it has stay.
"""

from __future__ import annotations

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
# Where every row asks the same but for the text. One row may be too long, or break a policy; the first few may not all.
_REFUSED = (BadRequestError, UnprocessableEntityError)
MAX_REFUSED = 3
MAX_UNREACHED = 10


class Patience:
    """Looks at every result and says when it is enough; `alike` says that all rows ask for the same in the same way."""

    def __init__(self, *, succeeded: bool = False, alike: bool = True) -> None:
        # Whether any row was ever answered: then the request as such is right.
        self._succeeded = succeeded
        self._alike = alike
        self._refused = 0
        self._unreached = 0

    def saw(self, error: AimlasyncError | None) -> AimlasyncError | None:
        """Return the error that must stop the job, None while there is hope."""
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
