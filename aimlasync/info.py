"""Facts about one call besides its answer: endpoint, attempts, ids, cost and timing.

The pipeline creates one `Info` per call and fills it in; the reply, stream or error of the call shows the same object.
An unknown value is None, never 0. It is plain data without I/O, and may import `headers`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from aimlasync.headers import Fields, amount
from aimlasync.plain_stores import plainly_stored

# The vendor silently drops an id outside this alphabet, so it is checked here.
# Source: AI/ML API, "Request tracing and cost": 1-128 characters of [A-Za-z0-9._:-].
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


# Shared, where a dict would be one more object of each call in flight.
_NONE = Fields({})


@plainly_stored
class Timing(msgspec.Struct, kw_only=True, gc=False):
    """The parts of a call's time, in seconds; a part is None until it happened."""

    queued: float | None = None
    """Waiting for the concurrency limit, summed over all attempts; None if there was no wait."""
    limited: float | None = None
    """Waiting for a rate limit or a pause, summed over all attempts; None if there was no wait."""
    first_byte: float | None = None
    """From the start of the last attempt until its response began."""
    total: float | None = None
    """From the call until its answer was decoded, or its stream ended."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something that took a call's time before its last attempt."""

    kind: Literal["concurrency", "requests", "tokens", "rate", "pause", "turn", "attempt", "backoff"]
    """What was waited for (a limit, a learned rate, the end of a pause, the turn in the queue); an attempt that
    failed; or the backoff behind it."""
    endpoint: str
    seconds: float
    why: str
    """The reason in words; for an attempt, and the backoff behind it, its error."""
    ahead: int = 0
    """About how many calls were before it in the queue when the wait began."""


@plainly_stored
class Info(msgspec.Struct, kw_only=True, gc=False):
    """Facts about one call, shared by its reply, stream and error."""

    endpoint: str = ""
    """The name of the endpoint of the last attempt."""
    vendor: str = ""
    """The vendor whose endpoint that is: aimlapi, bytespike, openai-compatible, ..."""
    model: str = ""
    """The model that was requested; the reply names the model that served, whose spelling may differ."""
    attempts: int = 0
    """The number of attempts; 0 means that nothing was sent."""
    status: int | None = None
    """The HTTP status of the last attempt, None when no response came."""
    request_id: str = ""
    """`X-Client-Request-Id`, sent on every attempt of this call."""
    inference_id: str | None = None
    """`x-inference-id`: the vendor's id in its usage log and ledger (AI/ML API)."""
    server_request_id: str | None = None
    """The `x-request-id` of the response, or the request id in an error body."""
    cost_usd: float | None = None
    """US dollars charged, from headers, `meta.usage` or `usage`, with those that were stated for attempts that failed;
    None when the server does not state them for the last one."""
    credits: float | None = None
    """The vendor's credits charged for the last attempt; None when the vendor does not state them."""
    tokens: tuple[int, int] | None = None
    """The (input, output) tokens of the reply; None while there is none, and where the server does not count them or
    was not asked."""
    structured: str | None = None
    """How the last attempt asked for a structured answer: "json_schema", "tool", "json_object" or "text"; None where
    the call asked for none."""
    cached: bool = False
    """Whether the answer came from the client's cache, or from an equal call in flight: nothing was sent for this call,
    so `attempts` and `cost_usd` are 0."""
    timing: Timing = msgspec.field(default_factory=Timing)
    headers: Mapping[str, str] = _NONE
    """The response headers of the last attempt, case-insensitive."""
    steps: tuple[Step, ...] = ()
    """Waits, failed attempts and backoffs, in order; `client.explain` says them in a sentence."""

    def saw_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Note the status and headers of a response, and the ids and cost in them."""
        self.status = status
        self.headers = headers
        self.inference_id = headers.get("x-inference-id")
        self.server_request_id = headers.get("x-request-id")
        usd, credits = headers.get("x-aimlapi-usd-spent"), headers.get("x-aimlapi-credits-used")
        if usd is not None or credits is not None:
            self.saw_cost(amount(usd), amount(credits))
        elif (usd := headers.get("x-litellm-response-cost")) is not None:
            # It is 0 where LiteLLM knows no price, and for every stream.
            self.saw_cost(amount(usd) or None, None)

    def saw_cost(self, usd: float | None, credits: float | None, *, credits_per_usd: float | None = None) -> None:
        """Note a cost that the vendor stated; a later statement replaces an earlier one, and None replaces nothing.

        With `credits_per_usd`, credits alone give the dollars: bodies before 2026-04 state only credits.
        """
        if usd is None and credits is not None and credits_per_usd:
            usd = credits / credits_per_usd
        if usd is not None:
            self.cost_usd = usd
        if credits is not None:
            self.credits = credits


TELLING = frozenset(
    ("x-inference-id", "x-request-id", "x-aimlapi-usd-spent", "x-aimlapi-credits-used", "x-litellm-response-cost")
)
"""The headers of a response that `Info.saw_headers` reads."""


def check_request_id(value: str) -> str:
    """Return `value` if it may be sent as `X-Client-Request-Id`.

    Raises ValueError otherwise, since the vendor would drop it silently and the call could not be traced.
    """
    if not _CLIENT_REQUEST_ID.match(value):
        raise ValueError("X-Client-Request-Id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    return value
