"""Failures in words: what happened, and what to do. Plain data; the names are those of `aimlasync.errors`."""

from __future__ import annotations

_AGAIN = "run the same command again"

_WORDS = {
    "EmptyTextError": ("the row has no text, so nothing was asked", f"fill it in, and {_AGAIN}"),
    "RateLimitError": ("the account asked more often than it may", f"{_AGAIN}; --rpm N asks less often"),
    "APITimeoutError": ("no answer came in time", f"{_AGAIN}; --timeout 10m waits longer"),
    "APIConnectionError": ("the server could not be reached", f"check the network, and {_AGAIN}"),
    "TruncatedStreamError": ("the answer broke off on its way", _AGAIN),
    "InternalServerError": ("the server failed", _AGAIN),
    "OverloadedError": ("too much was waiting", _AGAIN),
    "AuthenticationError": ("the key was refused", f"set the right key, and {_AGAIN}"),
    "InsufficientCreditError": ("the account is out of credit", f"top it up, and {_AGAIN}"),
    "PermissionDeniedError": ("the key may not do this", "use another key or --model"),
    "NotFoundError": ("the server has no such model", "choose one of: aimlasync models"),
    "BadRequestError": (
        "the server refused the request, as it is or for its length",
        "see its message below; shorten the row, or choose another --model",
    ),
    "UnprocessableEntityError": ("the server could not use the request", "see its message below"),
    "AnswerRefusedError": ("the model refused to answer", f"{_AGAIN} with --retry-invalid 2"),
    "AnswerTruncatedError": ("an output cap cut the answer", f"{_AGAIN} with --retry-invalid 2"),
    "AnswerInvalidError": ("the answer was not in its form", f"{_AGAIN} with --retry-invalid 2"),
    "APIResponseValidationError": ("the server sent what is no answer", _AGAIN),
    "BudgetExceededError": ("the cap of money left no room", f"{_AGAIN} with a higher --max-usd"),
    "UnpricedError": ("the price of the model is not known", f"{_AGAIN} with --price IN,OUT"),
}

_BY_STATUS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "InsufficientCreditError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "APITimeoutError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}


def in_words(code: str, status: int | None) -> tuple[str, str]:
    """Return what a failure is, and what to do; for one that is not known what its code says."""
    name = code
    if name not in _WORDS and status is not None:
        name = _BY_STATUS.get(status, "InternalServerError" if 500 <= status < 600 else name)
    return _WORDS.get(name, (f"it failed ({code})", f"see its message below, and {_AGAIN}"))
