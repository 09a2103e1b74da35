"""The differences between vendors on the wire: paths, error bodies, headers.

Data and pure functions; of the package it imports only `config` and `endpoints.providers`.
Sources: docs.aimlapi.com ("Errors and messages", "Request tracing and cost"), docs.bytespike.ai ("Errors reference",
"Rate limits"), platform.openai.com ("Error codes", "Rate limits").
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal

import msgspec

from aimlasync.config import Mode
from aimlasync.endpoints.providers import AIMLAPI, BYTESPIKE, COMPATIBLE, Provider

VendorName = Literal["aimlapi", "bytespike", "openai"]


class Problem(Exception):
    """A request that gets an error instead of an answer."""

    def __init__(
        self, status: int, message: str | None = None, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


def invalid(parameter: str, reason: str) -> Problem:
    """Return the problem of a parameter that the vendor would refuse."""
    return Problem(400, f"Body validation error!\n{parameter}: {reason}", code="invalid_param", param=parameter)


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """What is particular to one vendor's HTTP API."""

    name: VendorName
    provider: Provider
    paths: Mapping[str, str]
    """Path -> api. The look-up of one model has a path prefix instead, see `lookups`."""
    messages: Mapping[int, str]
    """Status -> error message."""
    open_catalogue: bool = False
    """Whether `/v1/models` needs no key."""
    sends_retry_after: bool = False
    always_streams_usage: bool = False
    """Whether a chat stream states its usage without `stream_options`."""
    stores: bool = False
    """Whether responses are stored unless the request says otherwise."""
    keeps_responses: bool = False
    """Whether responses can be fetched, cancelled and deleted, and run in the background."""
    structured: Mode = "json_schema"
    """The surest way to ask for an answer that fits a JSON schema; weaker ones work as well."""
    out_of_credit: int = 402
    """The status of a request when the balance is used up."""
    refused_parameter: int = 400
    """The status of a request with a parameter that the model does not take."""
    unknown_model: int = 404
    """The status of a request for an unknown model."""

    def error(self, problem: Problem, path: str, random: Random) -> dict[str, Any]:
        """Return the error body for `problem`."""
        message = problem.message or self.messages.get(problem.status) or f"status {problem.status}"
        if self.name == "aimlapi":
            return {
                "requestId": str(uuid.UUID(int=random.getrandbits(128), version=4)),
                "statusCode": problem.status,
                "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "path": path,
                "message": message,
            }
        code = problem.code or _CODES.get(problem.status)
        return {
            "error": {
                "message": message,
                "type": _TYPES.get(
                    problem.status, "server_error" if problem.status >= 500 else "invalid_request_error"
                ),
                "param": problem.param,
                "code": code,
            }
        }


_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES = {401: "invalid_api_key", 402: "insufficient_balance", 404: "not_found", 429: "rate_limit_exceeded"}

_COMMON = {
    400: "Bad request",
    404: "Not found",
    405: "Method not allowed",
    413: "Request body is too large",
    500: "Internal server error",
    502: "Bad Gateway",
}

VENDORS: Mapping[str, Vendor] = {
    "aimlapi": Vendor(
        name="aimlapi",
        provider=AIMLAPI,
        paths={
            "/v1/chat/completions": "chat",
            "/chat/completions": "chat",
            "/v2/chat/completions": "chat",
            "/v1/responses": "responses",
            "/v1/models": "models",
            "/models": "models",
            "/v2/billing": "balance",
            "/health": "health",
        },
        messages={
            **_COMMON,
            400: "Body validation error!",
            401: "This request requires a valid API key. "
            "You can create a new API key on the Billing page: https://aimlapi.com/app/keys",
            403: "You've run out of credits. Please top up your balance or update your payment method to continue: "
            "https://aimlapi.com/app/billing/",
            429: "Too Many Requests",
            503: "Service unavailable",
            504: "Generation timeout",
        },
        open_catalogue=True,
        always_streams_usage=True,
        keeps_responses=True,
        out_of_credit=403,
    ),
    "bytespike": Vendor(
        name="bytespike",
        provider=BYTESPIKE,
        paths={
            "/v1/chat/completions": "chat",
            "/v1/responses": "responses",
            "/v1/models": "models",
            "/api/v1/me/account": "balance",
            "/health": "health",
        },
        messages={
            **_COMMON,
            401: "Missing or revoked API key",
            402: "Insufficient balance: the wallet is exhausted",
            429: "rate limit exceeded",
            503: "No capacity",
            504: "Upstream timeout",
        },
        refused_parameter=422,
        unknown_model=400,
    ),
    "openai": Vendor(
        name="openai",
        provider=COMPATIBLE,
        paths={
            "/v1/chat/completions": "chat",
            "/v1/responses": "responses",
            "/v1/models": "models",
            "/health": "health",
        },
        messages={
            **_COMMON,
            401: "Incorrect API key provided.",
            402: "You exceeded your current quota, please check your plan and billing details.",
            429: "Rate limit reached",
            503: "The engine is currently overloaded, please try again later",
        },
        sends_retry_after=True,
        stores=True,
        keeps_responses=True,
    ),
}

# ByteSpike's headers state a spending cap in US dollars over a rolling window of five hours.
SPEND_CAP_USD = 50.0
SPEND_WINDOW = 5 * 3600


def spend_headers(spent_usd: float, balance_usd: float | None, now: float, wait: float | None) -> list[tuple[str, str]]:
    """Return the headers that ByteSpike sends with every response.

    Amounts are in US dollars. The reset is `wait` seconds after `now` (Unix time), or the whole window when it is None.
    """
    reset = math.ceil(now + (SPEND_WINDOW if wait is None else wait))
    balance = 200.0 - spent_usd if balance_usd is None else balance_usd
    return [
        ("X-RateLimit-Limit", f"{SPEND_CAP_USD:.2f}"),
        ("X-RateLimit-Remaining", f"{max(0.0, SPEND_CAP_USD - spent_usd):.2f}"),
        ("X-RateLimit-Reset", str(reset)),
        ("X-Quota-Remaining-Credits", f"{max(0.0, balance):.2f}"),
    ]
