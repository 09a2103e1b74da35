"""What a bad status, a header about rate limits, or a body that is no answer means for its call and its upstream.

A wait that a server states, such as Retry-After, is read here into `retry_after` of the error. `Attempt.fail` in `call`
then pauses the upstream for it, and `resilience.retry` waits for at least as long before the next attempt.
`wire.error_bodies` makes an error of a body, and `endpoints.ratelimit_headers` reads the headers. It may import `call`
and what lies below `client`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin

import msgspec

from aimlasync.client.call import Attempt, Call
from aimlasync.client.failure_signs import lacks_ability
from aimlasync.endpoints import ratelimit_headers
from aimlasync.endpoints.providers import sibling_of
from aimlasync.errors import (
    AimlasyncError,
    APIResponseValidationError,
    APIStatusError,
    AuthenticationError,
    InsufficientCreditError,
    NotFoundError,
    PermissionDeniedError,
)
from aimlasync.headers import Fields
from aimlasync.info import TELLING
from aimlasync.transport.base import MAX_ERROR_BODY, RawReply, beginning
from aimlasync.wire.base import plain

# What one endpoint refuses for reasons of its own, and another may grant.
_ANOTHERS_TURN = (AuthenticationError, InsufficientCreditError, PermissionDeniedError, NotFoundError)
# Bytes of a body that is no answer, of which the first words are told.
_LOOKED_AT = 8_000
# What a queue says with HTTP 202, such as NVIDIA's: the request will be answered, and another one too.
_ELSEWHERE = "the server took the request, and answers it elsewhere"
_TELLING = TELLING | ratelimit_headers.TELLING
# How JSON is mostly said.
_JSON = frozenset(
    f"{name}: application/json{charset}"
    for name in ("Content-Type", "content-type")
    for charset in ("", "; charset=utf-8")
)
# Codes that say the same of a model, with whatever status (ByteSpike, "Errors reference" and the model pages).
_NO_SUCH_MODEL = frozenset({"model_not_found", "model_not_allowed", "model_not_in_group", "unsupported_model"})


def may_be_anothers(call: Call, error: AimlasyncError, now: float) -> bool:
    """Whether another endpoint, which has not failed this call yet, may serve it."""
    if not (error.retryable or isinstance(error, _ANOTHERS_TURN) or _lacks_model(error) or lacks_ability(error)):
        return False
    return any(t.upstream not in call.tried and t.upstream.lane(call.info.model).allows(now) for t in call.targets)


def _lacks_model(error: AimlasyncError) -> bool:
    return isinstance(error, APIStatusError) and error.code in _NO_SUCH_MODEL


def begins_well(attempt: Attempt, now: float) -> bool:
    """Note when the response began and what its headers say; return whether its status is that of a success."""
    reply, info = attempt.reply, attempt.info
    assert reply is not None
    status, headers = reply.status, reply.headers
    info.timing.first_byte = now - attempt.sent_at
    if isinstance(headers, Fields) and _TELLING.isdisjoint(headers.by_name):
        # As where a server says no more than HTTP wants.
        info.status, info.headers = status, headers
    else:
        info.saw_headers(status, headers)
        _heed(attempt, headers, now)
    return 200 <= status < 300 or status == 304


def _heed(attempt: Attempt, headers: Mapping[str, str], now: float) -> None:
    """Pause the model when a response's headers say that a minute is used up; another one is told by its own."""
    lane, upstream = attempt.lane, attempt.lane.upstream
    if upstream.limiter.is_rated:
        # Our own count is finer than the server's word.
        return
    signal = ratelimit_headers.read(headers, unit=upstream.endpoint.provider.ratelimit_unit)
    if signal is None or signal.pause is None or signal.usd_remaining is not None:
        return
    pause = signal.pause
    requests_alone = signal.remaining_requests == 0 and signal.remaining_tokens != 0
    if requests_alone and signal.limit_requests and signal.reset_requests is not None:
        # The reset is when all of the limit is back (OpenAI); what is waited for is one request of it.
        pause = signal.reset_requests / signal.limit_requests
    if lane.used_up is None:
        # Loaded with the first such header.
        from aimlasync.admission.used_up import UsedUp

        lane.used_up = UsedUp()
    if lane.used_up.believes(now, pause, lane.counters.answered):
        lane.pause(pause, now, "its headers say that its minute is used up")


async def status_failure(attempt: Attempt, reply: RawReply) -> APIStatusError:
    """Read an error response, within bounds, into the error that it means."""
    # Loaded with the first failure: the shapes of all vendors' errors take as long to load as the pipeline.
    from aimlasync.wire.error_bodies import status_error

    upstream, info = attempt.target.upstream, attempt.info
    body = await beginning(reply, MAX_ERROR_BODY)
    provider = upstream.endpoint.provider
    wait, reset = ratelimit_headers.retry_after(reply.headers), None
    if wait is None and reply.status == 429:
        signal = ratelimit_headers.read(reply.headers, unit=provider.ratelimit_unit)
        reset = signal.pause if signal is not None else None
    should_retry = reply.headers.get("x-should-retry")
    error = status_error(
        reply.status,
        body,
        retry_after=wait,
        reset=reset,
        out_of_credit=provider.out_of_credit,
        should_retry=None if should_retry is None else should_retry.lower() == "true",
        failures_are_free=provider.failures_are_free,
        info=info,
    )
    if isinstance(error, AuthenticationError) and not attempt.secrets:
        error.explain(upstream.endpoint.without_key)
    if 300 <= reply.status < 400:
        error.explain(_elsewhere(attempt, reply.headers.get("location")))
    if _lacks_model(error):
        known = sibling_of(info.model, provider)
        if known is not None and known.successor is not None:
            error.explain(f"{provider.name} names {known.successor} in its place")
    return error


def _elsewhere(attempt: Attempt, location: str | None) -> str:
    """Say where a redirect leads, and what to do about it."""
    from aimlasync.wire.error_bodies import excerpt

    never = "redirects are not followed, since they would carry the key and the request to another address"
    if not location:
        return never
    base, url = str(attempt.target.upstream.endpoint.base_url).rstrip("/"), attempt.target.url
    # Of what is not the path of the API, nor a query or fragment, which may hold secrets.
    where = location.partition("#")[0].partition("?")[0]
    try:
        where = urljoin(url, where)
    except ValueError:
        return never
    path = url.partition("?")[0].removeprefix(base)
    advice = f": use base_url={where.removesuffix(path)!r}" if path and where.endswith(path) else ": change base_url"
    return f"it redirects to {excerpt(where)}; {never}{advice}"


def not_json(attempt: Attempt, raw: bytes) -> APIResponseValidationError:
    """Return the error of a 200 whose body is no JSON."""
    from aimlasync.wire.error_bodies import excerpt

    kind = content_type(attempt.response) or "no content type"
    text = excerpt(raw.decode("utf-8", "replace"))
    encoding = attempt.response.headers.get("content-encoding", "")
    if encoding and not text.isprintable():
        text = f"it is encoded as {excerpt(encoding)}, which was not asked for"
    error = APIResponseValidationError(
        f"HTTP {attempt.response.status} with a body that is not the JSON expected ({kind}): {text or 'empty'}",
        raw=raw,
        info=attempt.info,
    )
    # A page is a proxy's, which had no answer to give; blank lines keep a request alive that waits for its turn, and
    # nothing behind them means that it never came (DeepSeek). Broken JSON may be a paid answer, and asking again pays
    # again.
    error.retryable = kind == "text/html" or not raw.strip()
    upstream = attempt.target.upstream
    if kind == "text/html" and not any(lane.counters.answered for lane in upstream.lanes.values()):
        # Or it is that of a site, which has the same for every path.
        error.explain(f"a page, and no answer so far: is the base URL of {upstream.endpoint.name} that of an API?")
    if attempt.response.status == 202:
        error.retryable = False
        error.explain(_ELSEWHERE)
    return error


def no_answer(attempt: Attempt, raw: bytes, what: str) -> AimlasyncError:
    """Return the error of a 200 that is no answer but `what`, of which `raw` are the bytes.

    Where those state or mean a status of their own, it is the error of that status.
    """
    from aimlasync.wire.error_bodies import error_in_body, excerpt, status_in
    from aimlasync.wire.error_shapes import read_error

    try:
        body = plain(raw)
    except msgspec.DecodeError:
        body = None
    said = read_error(body)
    if status_in(said) is not None:
        return error_in_body(body, raw=raw, info=attempt.info, billed=attempt.billed)
    if words := excerpt(said.message or raw[:_LOOKED_AT].decode("utf-8", "replace")):
        what = f"{what}: {words}"
    if attempt.response.status == 202:
        what = f"{what}; {_ELSEWHERE}"
    return APIResponseValidationError(f"HTTP {attempt.response.status} with {what}", raw=raw, info=attempt.info)


def content_type(response: RawReply) -> str:
    """Return the media type that a response states, "" without one."""
    headers = response.headers
    if isinstance(headers, Fields) and headers.by_name.get("content-type") in _JSON:
        return "application/json"
    return headers.get("content-type", "").partition(";")[0].strip().lower()
