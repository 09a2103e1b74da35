"""What is known about one call besides its answer: where it went, how often, what it cost, where the time went.

Law: plain data, no I/O; of ours it knows the header fields of `http1` alone.
The pipeline makes one `Info` per call and fills it as the call goes on; replies, streams and errors show the same
object. A value that is not known is None, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from aimlasync.headers import Fields

# The vendor drops an id outside this alphabet without a word, so it is checked here.
# Source: AI/ML API, "Request tracing and cost": 1-128 characters of [A-Za-z0-9._:-].
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


class Timing(msgspec.Struct, kw_only=True):
    """Where the time of a call went, in seconds; each part is None until it happened."""

    queued: float | None = None
    """Waiting because as many attempts were in flight as may be, over all attempts; None if there was no wait."""
    limited: float | None = None
    """Waiting because of a rate or a pause, over all attempts; None if there was no wait."""
    first_byte: float | None = None
    """From the start of the last attempt until its response began."""
    total: float | None = None
    """From the call until its answer was decoded, or its stream ended."""


class Info(msgspec.Struct, kw_only=True):
    """Facts about one call: shared by its reply, its stream and its error."""

    endpoint: str = ""
    """Name of the endpoint that served the last attempt."""
    model: str = ""
    """The model asked for; the model that served is in the reply and may be spelled differently."""
    attempts: int = 0
    """HTTP tries made; 0 means that nothing was sent."""
    status: int | None = None
    """HTTP status of the last attempt, None when no response came."""
    request_id: str = ""
    """`X-Client-Request-Id`, sent on every attempt of this call."""
    inference_id: str | None = None
    """`x-inference-id`: the vendor's id in its usage log and ledger (AI/ML API)."""
    server_request_id: str | None = None
    """`x-request-id` of the response, or the request id that an error body names."""
    cost_usd: float | None = None
    """US dollars charged, from headers or `meta.usage`; None when the vendor does not say."""
    credits: float | None = None
    """The vendor's credits charged; None when the vendor does not say."""
    timing: Timing = msgspec.field(default_factory=Timing)
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Response headers of the last attempt, case-insensitive."""

    def saw_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Note what a response's status line and headers tell."""
        self.status = status
        self.headers = headers
        if isinstance(headers, Fields) and headers.has_none_of(_TELLING):
            return
        self.inference_id = headers.get("x-inference-id")
        self.server_request_id = headers.get("x-request-id")
        usd, credits = headers.get("x-aimlapi-usd-spent"), headers.get("x-aimlapi-credits-used")
        if usd is not None or credits is not None:
            self.saw_cost(_number(usd), _number(credits))

    def saw_cost(self, usd: float | None, credits: float | None, *, credits_per_usd: float | None = None) -> None:
        """Note a cost that the vendor stated; a later statement replaces an earlier one, a silent one does not.

        Credits alone are a price too where the vendor's rate is known: bodies before 2026-04 name only credits.
        """
        if usd is None and credits is not None and credits_per_usd:
            usd = credits / credits_per_usd
        if usd is not None:
            self.cost_usd = usd
        if credits is not None:
            self.credits = credits


_TELLING = frozenset(("x-inference-id", "x-request-id", "x-aimlapi-usd-spent", "x-aimlapi-credits-used"))


def check_request_id(value: str) -> str:
    """Return `value` if it may be sent as `X-Client-Request-Id`.

    Raises ValueError otherwise: the vendor would drop it silently and the call could not be traced.
    """
    if not _CLIENT_REQUEST_ID.match(value):
        raise ValueError("X-Client-Request-Id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    return value


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    # float() also reads "nan", "inf" and "-1"; none of them is a price.
    return value if 0 <= value < float("inf") else None
