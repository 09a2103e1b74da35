"""High-throughput asyncio client for chat/completions and responses.

Serves the AI/ML API (api.aimlapi.com), ByteSpike (llm.bytespike.ai) and any OpenAI-compatible server.
"""

import aimlasync._command_line  # noqa: F401  # first of all: Ctrl-C may come now
from aimlasync._version import __version__
from aimlasync.client.client import AsyncClient
from aimlasync.config import NOT_GIVEN, Limits, NotGiven, Omit, Timeout, omit
from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price, prices_of
from aimlasync.endpoints.endpoint import Endpoint
from aimlasync.errors import (
    AimlasyncError,
    AnswerError,
    AnswerInvalidError,
    AnswerRefusedError,
    AnswerTruncatedError,
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ClientClosedError,
    ConflictError,
    ContentFilterFinishReasonError,
    InsufficientCreditError,
    InternalServerError,
    LengthFinishReasonError,
    NotFoundError,
    OpenAIError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ResponseFailedError,
    StreamError,
    TruncatedStreamError,
    UnencodableRequestError,
    UnprocessableEntityError,
    UnsupportedRequestError,
)
from aimlasync.event_loop import run
from aimlasync.info import Info, Timing
from aimlasync.resilience.hedging import Hedge
from aimlasync.resilience.retry import Retry

__all__ = [
    "NOT_GIVEN",
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AimlasyncError",
    "AnswerError",
    "AnswerInvalidError",
    "AnswerRefusedError",
    "AnswerTruncatedError",
    "AsyncClient",
    "AuthenticationError",
    "BadRequestError",
    "Budget",
    "BudgetExceededError",
    "ClientClosedError",
    "ConflictError",
    "ContentFilterFinishReasonError",
    "Endpoint",
    "Hedge",
    "Info",
    "InsufficientCreditError",
    "InternalServerError",
    "LengthFinishReasonError",
    "Limits",
    "NotFoundError",
    "NotGiven",
    "Omit",
    "OpenAIError",
    "OverloadedError",
    "PermissionDeniedError",
    "Price",
    "RateLimitError",
    "ResponseFailedError",
    "Retry",
    "StreamError",
    "Timeout",
    "Timing",
    "TruncatedStreamError",
    "UnencodableRequestError",
    "UnprocessableEntityError",
    "UnsupportedRequestError",
    "__version__",
    "omit",
    "prices_of",
    "run",
]
