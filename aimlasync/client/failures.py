"""What a response with a bad status, or with words about limits, means for its call and its upstream.

It may import `call` and what lies below `client`. How a body becomes an error is `wire.error_bodies`; what headers say
is `endpoints.ratelimit_headers`.
"""

from __future__ import annotations

from aimlasync.client.call import Attempt, Call
from aimlasync.endpoints import ratelimit_headers
from aimlasync.endpoints.providers import sibling_of
from aimlasync.endpoints.upstream import Upstream
from aimlasync.errors import (
    AimlasyncError,
    APIStatusError,
    AuthenticationError,
    InsufficientCreditError,
    NotFoundError,
    PermissionDeniedError,
)
from aimlasync.transport.base import MAX_ERROR_BODY, RawReply, beginning
from aimlasync.wire.error_bodies import status_error

# What one endpoint refuses for reasons of its own, and another may grant.
_ANOTHERS_TURN = (AuthenticationError, InsufficientCreditError, PermissionDeniedError, NotFoundError)
# Codes that say the same of a model, with whatever status (ByteSpike, "Errors reference" and the model pages).
_NO_SUCH_MODEL = frozenset({"model_not_found", "model_not_allowed", "model_not_in_group", "unsupported_model"})


def may_be_anothers(call: Call, error: AimlasyncError, now: float) -> bool:
    """Whether another endpoint, which has not failed this call yet, may serve it."""
    if not (error.retryable or isinstance(error, _ANOTHERS_TURN) or _lacks_model(error)):
        return False
    return any(t.upstream not in call.tried and t.upstream.circuit.allows(now) for t in call.targets)


def _lacks_model(error: AimlasyncError) -> bool:
    return isinstance(error, APIStatusError) and error.code in _NO_SUCH_MODEL


def heed(upstream: Upstream, reply: RawReply, now: float) -> None:
    """Pause the endpoint when its headers say that a minute is used up."""
    if upstream.limiter.is_rated:
        # Our own count is finer than the server's word.
        return
    signal = ratelimit_headers.read(reply.headers, unit=upstream.endpoint.provider.ratelimit_unit)
    if signal is None or signal.pause is None or signal.usd_remaining is not None:
        return
    pause = signal.pause
    requests_alone = signal.remaining_requests == 0 and signal.remaining_tokens != 0
    if requests_alone and signal.limit_requests and signal.reset_requests is not None:
        # The reset is when all of the limit is back (OpenAI); what is waited for is one request of it.
        pause = signal.reset_requests / signal.limit_requests
    upstream.pause(pause, now)


async def status_failure(attempt: Attempt, reply: RawReply) -> APIStatusError:
    """Read an error response, within bounds, into the error that it means."""
    upstream, info = attempt.target.upstream, attempt.info
    body = await beginning(reply, MAX_ERROR_BODY)
    provider = upstream.endpoint.provider
    wait = ratelimit_headers.retry_after(reply.headers)
    if wait is None and reply.status == 429:
        signal = ratelimit_headers.read(reply.headers, unit=provider.ratelimit_unit)
        wait = signal.pause if signal is not None else None
    should_retry = reply.headers.get("x-should-retry")
    error = status_error(
        reply.status,
        body,
        retry_after=wait,
        out_of_credit=provider.out_of_credit,
        should_retry=None if should_retry is None else should_retry.lower() == "true",
        failures_are_free=provider.failures_are_free,
        info=info,
    )
    if isinstance(error, AuthenticationError) and not attempt.secrets:
        error.explain(upstream.endpoint.without_key)
    if _lacks_model(error):
        known = sibling_of(info.model, provider)
        if known is not None and known.successor is not None:
            error.explain(f"{provider.name} names {known.successor} in its place")
    return error
