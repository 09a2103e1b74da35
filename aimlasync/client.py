"""The client: one pipeline from a request to its answer.

    encode once -> choose endpoint -> concurrency permit -> rate gate -> attempt -> decode, or events
                -> settle, release the permit with an outcome; release before backoff

The order is the meaning: the body is encoded before the retry loop and shared by every attempt; who sleeps before a
retry holds no permit; a permit lives until the last byte of the body; one deadline covers all of it.
Law: no HTTP here (`transport`), no JSON shapes (`chat`, `responses`), no arithmetic (`limits`, `retry`).
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from aimlasync.catalogue import Balance
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    redact,
    status_error,
)
from aimlasync.info import Info, check_request_id
from aimlasync.limits import Limits, Outcome
from aimlasync.pool import Endpoint, Headers, Lane, Permit, Pool, default_endpoints
from aimlasync.providers import Api
from aimlasync.resources import Chat, Models, Responses, balance
from aimlasync.retry import Retry, retry_after
from aimlasync.timeout import Timeout
from aimlasync.transport import AiohttpTransport, RawReply, StaleConnectionError, Transport
from aimlasync.wire import encode

T = TypeVar("T")

_MAX_ERROR_BODY = 64 * 2**10
_CLIENT_REQUEST_ID = "X-Client-Request-Id"


class Life:
    """A client's loop and transport, from its first call until it is closed."""

    __slots__ = ("_loop", "_owned", "_proxy", "_transport", "closed")

    def __init__(self, transport: Transport | None, proxy: str | None) -> None:
        # Made with the first call, in its loop; a transport that the user gave stays the user's to close.
        self._transport = transport
        self._owned = transport is None
        self._proxy = proxy
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    def enter(self) -> tuple[asyncio.AbstractEventLoop, Transport]:
        """Return the loop and the transport. Raises ClientClosedError when closed, RuntimeError in another loop."""
        loop = asyncio.get_running_loop()
        if self.closed:
            raise ClientClosedError("this client is closed; make a new one")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("this client belongs to another event loop; make one client per loop")
        if self._transport is None:
            self._transport = AiohttpTransport(proxy=self._proxy)
        return loop, self._transport

    async def close(self) -> None:
        """End; harmless more than once."""
        if not self.closed:
            self.closed = True
            if self._owned and self._transport is not None:
                await self._transport.close()


class Call:
    """One logical use of the API, whatever attempts it takes."""

    __slots__ = ("body", "deadline", "extra", "first_token", "info", "lanes", "method", "started", "timeout", "url")

    def __init__(
        self,
        *,
        method: str,
        url: Callable[[Lane], str],
        body: bytes | None,
        lanes: Sequence[Lane],
        info: Info,
        extra: Mapping[str, str] | None,
        timeout: Timeout,
        started: float,
        streams: bool = False,
    ) -> None:
        self.method = method
        self.url = url
        self.body = body
        self.lanes = lanes
        self.info = info
        self.extra = extra
        self.timeout = timeout
        self.started = started
        self.deadline = None if timeout.total is None else started + timeout.total
        self.first_token = timeout.first_token if streams else None


class Attempt:
    """One HTTP try that got a 2xx: the response, and the permit it holds until its last byte."""

    __slots__ = ("call", "permit", "reply", "started")

    def __init__(self, call: Call, permit: Permit, reply: RawReply, started: float) -> None:
        self.call = call
        self.permit = permit
        self.reply = reply
        self.started = started


class AsyncClient:
    """A client for chat/completions and responses; one per event loop, shared by all its tasks.

    Keys come from AIML_API_KEY or BYTESPIKE_API_KEY unless `api_key` or `endpoints` says otherwise.
    Close it with `async with` or `await close()`. Raises AimlasyncError when no key is found, ValueError for a base
    URL or key that cannot be sent safely.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        endpoints: Sequence[Endpoint] | None = None,
        limits: Limits | None = None,
        retry: Retry | None = None,
        timeout: Timeout | float | None = None,
        validate: bool = True,
        default_headers: Mapping[str, str] | None = None,
        allow_http: bool = False,
        proxy: str | None = None,
        transport: Transport | None = None,
        max_retries: int | None = None,
    ) -> None:
        if endpoints is not None and (api_key is not None or base_url is not None):
            raise ValueError("give endpoints=, or api_key= and base_url=, not both")
        if endpoints is None:
            endpoints = default_endpoints(api_key, base_url, allow_http=allow_http)
        self.limits = limits or Limits()
        self._life = Life(transport, proxy)
        self._pool = Pool(endpoints, self.limits)
        self._validate = validate
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(8)
        self._set(Retry(), Timeout(), Headers())
        self._set(*self._options(timeout, retry, max_retries, default_headers))

    def _set(self, retry: Retry, timeout: Timeout, default_headers: Headers) -> None:
        """What a copy made by `with_options` has of its own."""
        self.retry = retry
        self.timeout = timeout
        self._default_headers = default_headers
        self.chat = Chat(self)
        self.responses = Responses(self)
        self.models = Models(self)

    def _options(
        self,
        timeout: Timeout | float | None,
        retry: Retry | None,
        max_retries: int | None,
        default_headers: Mapping[str, str] | None,
    ) -> tuple[Retry, Timeout, Headers]:
        retry = retry or self.retry
        if max_retries is not None:
            retry = msgspec.structs.replace(retry, attempts=max_retries + 1)
        return (
            retry,
            self.timeout if timeout is None else self.timeout.but(timeout),
            Headers({**self._default_headers, **(default_headers or {})}),
        )

    def with_options(
        self,
        *,
        timeout: Timeout | float | None = None,
        retry: Retry | None = None,
        max_retries: int | None = None,
        default_headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return this client with other options.

        Both share connections, limits and life: closing one closes the other.
        """
        other = copy.copy(self)
        other._set(*self._options(timeout, retry, max_retries, default_headers))
        return other

    # Life

    async def __aenter__(self) -> Self:
        self._life.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; streams still open fail. Harmless more than once."""
        await self._life.close()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._life.closed

    def __repr__(self) -> str:
        lanes = ", ".join(repr(lane)[len("<Lane ") : -1] for lane in self._pool.lanes)
        return f"<AsyncClient {'closed' if self.is_closed else lanes}>"

    # The pipeline

    async def _post(
        self,
        api: Api,
        body: Mapping[str, Any],
        receive: Callable[[Attempt], Awaitable[T]],
        *,
        timeout: Timeout | float | None,
        extra_headers: Mapping[str, str] | None,
    ) -> T:
        """Send `body` to an endpoint that serves `api` and return what `receive` makes of the answer."""
        loop, _ = self._life.enter()
        info = Info(model=str(body.get("model", "")), request_id=self._request_id(extra_headers))
        lanes = self._pool.able(api, body, info) if self._validate else self._pool.lanes
        return await self._run(
            Call(
                method="POST",
                url=lambda lane: lane.urls[api],
                body=encode(body),
                lanes=lanes,
                info=info,
                extra=extra_headers,
                timeout=self.timeout if timeout is None else self.timeout.but(timeout),
                started=loop.time(),
                streams=bool(body.get("stream")),
            ),
            receive,
        )

    async def _get(
        self,
        lane: Lane,
        url: str,
        receive: Callable[[Attempt], Awaitable[T]],
        *,
        timeout: Timeout | float | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> T:
        """Ask an endpoint for what it knows about itself, through the same pipeline."""
        loop, _ = self._life.enter()
        return await self._run(
            Call(
                method="GET",
                url=lambda lane: url,
                body=None,
                lanes=[lane],
                info=Info(request_id=self._request_id(extra_headers)),
                extra=extra_headers,
                timeout=self.timeout if timeout is None else self.timeout.but(timeout),
                started=loop.time(),
            ),
            receive,
        )

    async def _run(self, call: Call, receive: Callable[[Attempt], Awaitable[T]]) -> T:
        """Try until there is an answer, the policy gives up, or the deadline passes."""
        loop, transport = self._life.enter()
        info = call.info
        error: AimlasyncError | None = None
        try:
            async with asyncio.timeout_at(call.deadline):
                while True:
                    queued_at = loop.time()
                    permit = await self._pool.acquire(call.lanes)
                    started = loop.time()
                    info.timing.queued = (info.timing.queued or 0.0) + started - queued_at
                    info.endpoint = permit.lane.endpoint.name
                    info.attempts += 1
                    reply: RawReply | None = None
                    try:
                        reply = await self._attempt(transport, call, permit.lane)
                        info.timing.first_byte = loop.time() - started
                        info.saw_headers(reply.status, reply.headers)
                        if not 200 <= reply.status < 300 and reply.status != 304:
                            raise await self._status_error(call, permit.lane, reply)
                        return await receive(Attempt(call, permit, reply, started))
                    except AimlasyncError as failed:
                        failed.info = info
                        redact(failed, permit.lane.secret)
                        error = failed
                        if reply is not None:
                            # Harmless where the body was read to its end.
                            reply.abort()
                        permit.release(_outcome(failed))
                    except BaseException:
                        # Cancelled, or a bug: it says nothing about the server, and the body may be half read.
                        if reply is not None:
                            reply.abort()
                        permit.release(Outcome.IGNORED)
                        raise
                    remaining = float("inf") if call.deadline is None else call.deadline - loop.time()
                    delay = self.retry.delay(info.attempts, error, remaining=remaining)
                    if delay is None:
                        info.timing.total = loop.time() - call.started
                        # Its inner frames hold the body, which may echo the key, and tell the caller nothing.
                        raise error.with_traceback(None)
                    await asyncio.sleep(delay)
        except TimeoutError:
            info.timing.total = loop.time() - call.started
        # Outside the `except`, so that nothing is chained to it.
        before = f"; before that: {error.message}" if error is not None else ""
        raise APITimeoutError(f"the call took longer than {call.timeout.total} s{before}", phase="total", info=info)

    async def _attempt(self, transport: Transport, call: Call, lane: Lane) -> RawReply:
        """Send once; a kept connection that the server had closed is not an attempt, so it is replaced at once."""
        headers = Headers(lane.headers)
        headers[_CLIENT_REQUEST_ID] = call.info.request_id
        headers.update(self._default_headers)
        if call.extra:
            headers.update(call.extra)
        url = call.url(lane)
        while True:
            try:
                if call.first_token is None:
                    return await transport.send(call.method, url, headers, call.body, connect=call.timeout.connect)
                async with asyncio.timeout(call.first_token):
                    return await transport.send(call.method, url, headers, call.body, connect=call.timeout.connect)
            except StaleConnectionError:
                # Every kept connection may be stale; each try uses one up, and a fresh one is never stale.
                continue
            except TimeoutError:
                break
        raise APITimeoutError(f"no event within {call.first_token} s", phase="first_token")

    async def _status_error(self, call: Call, lane: Lane, reply: RawReply) -> APIStatusError:
        """Read an error response, within bounds, into the error that it means."""
        try:
            body = await reply.read(_MAX_ERROR_BODY)
        except AimlasyncError:
            body = b""
        should_retry = reply.headers.get("x-should-retry")
        return status_error(
            reply.status,
            body,
            retry_after=retry_after(reply.headers),
            out_of_credit=lane.endpoint.provider.out_of_credit,
            should_retry=None if should_retry is None else should_retry.lower() == "true",
            failures_are_free=lane.endpoint.provider.failures_are_free,
            info=call.info,
        )

    def _request_id(self, extra_headers: Mapping[str, str] | None) -> str:
        if extra_headers:
            for name, value in extra_headers.items():
                if name.lower() == "x-client-request-id":
                    return check_request_id(value)
        return f"{self._id_prefix}-{next(self._ids):x}"

    # Whole-account questions

    async def balance(self) -> Balance:
        """Return what is left on the account of the first endpoint that can tell, in US dollars.

        Raises NotImplementedError where no endpoint has such a question.
        """
        return await balance(self)


def _outcome(error: AimlasyncError) -> Outcome:
    """What a failed attempt says about the server's capacity."""
    if isinstance(error, APIStatusError):
        return Outcome.DROPPED if error.status in (429, 503) else Outcome.IGNORED
    if isinstance(error, APIConnectionError) and not isinstance(error, APITimeoutError):
        return Outcome.DROPPED
    return Outcome.IGNORED
