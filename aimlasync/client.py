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
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import msgspec

from aimlasync.endpoints import ratelimit_headers as signals
from aimlasync.cost.budget import Budget, Reservation
from aimlasync.client.call import Attempt, Call, Target
from aimlasync.wire.models import Balance
from aimlasync.endpoints.endpoint import Endpoint, default_endpoints, proxy_secrets
from aimlasync.wire.error_bodies import status_error
from aimlasync.errors import (
    AimlasyncError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BudgetExceededError,
    InsufficientCreditError,
    NotFoundError,
    PermissionDeniedError,
)
from aimlasync.headers import Headers, keyless
from aimlasync.resilience.hedging import Hedge, Hedging
from aimlasync.info import Info, check_request_id
from aimlasync.endpoints.statistics import EndpointStatistics
from aimlasync.endpoints.upstream import Lane
from aimlasync.life import Life
from aimlasync.config import Limits
from aimlasync.config import CallOptions, check_headers
from aimlasync.client.balancer import Pool
from aimlasync.endpoints.providers import Api
from aimlasync.race import race
from aimlasync.wire.redaction import Secrets
from aimlasync.client.resources import Chat, Models, Responses, balance
from aimlasync.resilience.retry import Retry
from aimlasync.config import Timeout
from aimlasync.transport.base import MAX_ERROR_BODY, RawReply, StaleConnectionError, Transport, beginning
from aimlasync.client.observer import Observer
from aimlasync.wire.base import Reply

if TYPE_CHECKING:
    from aimlasync.client.passthrough import Forwarded

T = TypeVar("T")

_CLIENT_REQUEST_ID = "X-Client-Request-Id"

_log = logging.getLogger("aimlasync.retry")


class AsyncClient:
    """A client for chat/completions and responses; one per event loop, shared by all its tasks.

    Keys come from AIML_API_KEY or BYTESPIKE_API_KEY unless `api_key` or `endpoints` says otherwise.
    `max_queue` calls may wait for an endpoint at most (an interactive call counts those of its kind alone),
    `max_queue_per_tenant` of them for one `tenant=`, and each for `max_wait` seconds; beyond that OverloadedError comes
    at once. Values of headers that look like a key (Authorization, Cookie, X-Api-Key, ...-Token) are cut out of errors;
    `secret_headers` names others. Close it with `async with` or `await close()`. Raises AimlasyncError when no key is
    found, ValueError for a base URL, key or header that cannot be sent safely.
    """

    retry = Retry()
    timeout = Timeout()
    _default_headers = Headers()

    @keyless
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
        secret_headers: Collection[str] = (),
        allow_http: bool = False,
        proxy: str | None = None,
        transport: Transport | None = None,
        max_retries: int | None = None,
        max_queue: int | None = None,
        max_queue_per_tenant: int | None = None,
        max_wait: float | None = None,
        budget: Budget | None = None,
        hedge: Hedge | None = None,
    ) -> None:
        if endpoints is not None and (api_key is not None or base_url is not None):
            raise ValueError("give endpoints=, or api_key= and base_url=, not both")
        if endpoints is None:
            endpoints = default_endpoints(api_key, base_url, allow_http=allow_http)
        self.limits = limits or Limits()
        self._life = Life(transport, proxy)
        self._pool = Pool(
            endpoints,
            self.limits,
            max_queue=max_queue,
            max_queue_per_tenant=max_queue_per_tenant,
            max_wait=max_wait,
            secrets=Secrets(proxy_secrets(proxy), named=frozenset(name.lower() for name in secret_headers)),
        )
        self.budget = budget
        self._hedging = None if hedge is None else Hedging(hedge)
        self._validate = validate
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(8)
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
            Headers({**self._default_headers, **Headers.hiding(default_headers or {}).checked("default_headers")}),
        )

    @keyless
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
        await self._pool.close()
        if self.budget is not None:
            await self.budget.give_back()

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
        options: CallOptions,
        *,
        written: bytes | None = None,
    ) -> T:
        """Send `body` to an endpoint that serves `api` and return what `receive` makes of the answer.

        `written` is the body as bytes, where it is given as such: sent as it is wherever nothing has to be translated.
        """
        loop, transport = self._life.enter()
        extra_headers = options.get("extra_headers")
        info = Info(model=str(body.get("model", "")), request_id=self._request_id(extra_headers))
        targets = self._pool.targets(api, body, info, validate=self._validate, written=written)
        timeout = options.get("timeout")
        call = Call(
            method="POST",
            targets=targets,
            headers=self._headers(info, extra_headers),
            info=info,
            timeout=self.timeout if timeout is None else self.timeout.but(timeout),
            max_retry_after=self.retry.max_retry_after,
            started=loop.time(),
            body=body,
            streams=bool(body.get("stream")),
            priority=options.get("priority", "interactive"),
            tenant=options.get("tenant"),
            affinity=options.get("affinity"),
            budget=self.budget,
            hedging=self._hedging,
        )
        observer = self._life.observer
        if observer is not None:
            call.watch = observer.began(api, body, info, [target.lane.endpoint for target in targets])
            call.headers.update(call.watch.headers)
        try:
            answer = await self._run(call, receive, loop, transport)
        except BaseException as error:
            call.give_up(error)
            raise
        if call.watch is not None and isinstance(answer, Reply):
            call.watch.answered(answer)
        return answer

    async def _reserve(self, call: Call, budget: Budget) -> Reservation | None:
        """Set aside what an attempt may cost; a shared budget is asked for more, which another call may take first."""
        while True:
            try:
                return call.reserve()
            except BudgetExceededError:
                if not await budget.refill():
                    raise

    async def _get(
        self,
        lane: Lane,
        url: str,
        receive: Callable[[Attempt], Awaitable[T]],
        *,
        extra_headers: Mapping[str, str] | None = None,
    ) -> T:
        """Ask an endpoint for what it knows about itself, through the same pipeline."""
        loop, transport = self._life.enter()
        info = Info(request_id=self._request_id(extra_headers))
        call = Call(
            method="GET",
            targets=[Target(lane, url, None)],
            headers=self._headers(info, extra_headers),
            info=info,
            timeout=self.timeout,
            max_retry_after=self.retry.max_retry_after,
            started=loop.time(),
        )
        return await self._run(call, receive, loop, transport)

    async def _run(
        self,
        call: Call,
        receive: Callable[[Attempt], Awaitable[T]],
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
    ) -> T:
        """Try until there is an answer, the policy gives up, or the deadline passes."""
        info, pool = call.info, self._pool
        error: AimlasyncError | None = None
        deadlines, deadline = self._life.deadlines, call.deadline
        bound = None if deadline is None else deadlines.start(deadline)
        is_late = False
        try:
            if call.budget is not None:
                call.reservation = await self._reserve(call, call.budget)
            # A first attempt that need not wait for its turn is made in the instant in which the call was.
            admitted = pool.admit_nowait(call, call.started, loop)
            while True:
                target, permit = admitted or await pool.admit(call)
                admitted = None
                attempt = call.attempt(target, permit)
                delay = None if call.hedging is None else call.hedging.delay(call.kind)
                try:
                    if delay is None:
                        return await self._try(attempt, transport, receive)
                    return await self._hedged(attempt, delay, transport, receive)
                except AimlasyncError as failed:
                    error = failed
                await self._before_retry(call, target.lane, error)
                if call.budget is not None and call.reservation is None:
                    try:
                        call.reservation = await self._reserve(call, call.budget)
                    except BudgetExceededError as short:
                        error.explain(f"it is not tried again: {short.message}")
                        raise error.with_traceback(None) from None
        except asyncio.CancelledError:
            is_late, bound = bound is not None and deadlines.stop(bound), None
            if not is_late:
                raise
        finally:
            if bound is not None:
                deadlines.stop(bound)
        info.timing.total = loop.time() - call.started
        # Outside the `except`, so that nothing is chained to it.
        before = f"; before that: {error.message}" if error is not None else ""
        raise APITimeoutError(f"the call took longer than {call.timeout.total} s{before}", phase="total", info=info)

    async def _try(self, attempt: Attempt, transport: Transport, receive: Callable[[Attempt], Awaitable[T]]) -> T:
        """Make one attempt, and end it whichever way it goes."""
        call, lane, info = attempt.call, attempt.target.lane, attempt.info
        info.endpoint = lane.endpoint.name
        try:
            attempt.reply = reply = await self._send(transport, call, attempt.target)
            now = attempt.permit.loop.time()
            info.timing.first_byte = now - attempt.started
            info.saw_headers(reply.status, reply.headers)
            self._heed(lane, reply, now)
            if not 200 <= reply.status < 300 and reply.status != 304:
                raise await self._status_error(attempt, reply)
            return await receive(attempt)
        except AimlasyncError as failed:
            attempt.fail(failed)
            raise
        except BaseException:
            # Cancelled, or a bug: it says nothing about the server, and the body may be half read.
            attempt.abandon()
            raise

    async def _hedged(
        self, first: Attempt, delay: float, transport: Transport, receive: Callable[[Attempt], Awaitable[T]]
    ) -> T:
        """Make an attempt and, when it takes longer than `delay`, a second one beside it."""

        def second() -> Coroutine[Any, Any, T] | None:
            other = self._pool.spare(first.call, first)
            return None if other is None else self._try(other, transport, receive)

        return await race(self._try(first, transport, receive), second, delay=delay, drop=_drop)

    async def _before_retry(self, call: Call, lane: Lane, error: AimlasyncError) -> None:
        """Wait as long as the policy says, holding nothing, or raise `error` because there will be no other attempt."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if call.watch is not None:
            call.watch.stumbled(error, lane.endpoint.name)
        if isinstance(error, StaleConnectionError) and not call.replaced:
            call.paid = lane.quota.take(error)
            if call.paid is not None:
                call.replaced = True
                lane.counters.retries += 1
                return
        attempts = call.info.attempts - call.replaced
        others = any(t.lane not in call.tried and t.lane.health.allows(now) for t in call.targets)
        if others and attempts < self.retry.attempts and (error.retryable or isinstance(error, _ANOTHERS_TURN)):
            # Another endpoint may serve it at once, and owes nothing for this one's failure.
            _log.debug("%s failed (%s), another endpoint is next", lane.endpoint.name, type(error).__name__)
            return
        remaining = float("inf") if call.deadline is None else call.deadline - now
        delay = self.retry.delay(attempts, error, remaining=remaining)
        if delay is not None:
            call.paid = lane.quota.take(error)
            if call.paid is None:
                delay = await self._probe(call, lane, error, delay)
        if delay is None:
            call.info.timing.total = loop.time() - call.started
            # Its inner frames hold the body, which may echo the key, and tell the caller nothing.
            raise error.with_traceback(None)
        lane.counters.retries += 1
        _log.debug("%s failed (%s), next attempt in %.2f s", lane.endpoint.name, type(error).__name__, delay)
        try:
            await asyncio.sleep(delay)
        except BaseException:
            # The retry that was paid for will never be sent.
            if call.paid is not None:
                lane.quota.give_back(call.paid)
            if call.probing:
                lane.quota.probed(None)
            raise

    async def _probe(self, call: Call, lane: Lane, error: AimlasyncError, delay: float) -> float | None:
        """The retry quota is empty: interactive calls fail at once, bulk calls wait until one of them got through."""
        if call.priority != "bulk":
            return None
        while not lane.quota.probe(error):
            call.paid = lane.quota.take(error)
            if call.paid is not None:
                return 0.0
            await asyncio.sleep(self.retry.backoff(lane.quota.failed_probes + 1, error) or delay)
        call.probing = True
        return delay

    def _heed(self, lane: Lane, reply: RawReply, now: float) -> None:
        """Pause the endpoint when its headers say that a minute is used up."""
        if lane.gate.is_rated:
            # Our own count is finer than the server's word.
            return
        signal = signals.read(reply.headers, unit=lane.endpoint.provider.ratelimit_unit)
        if signal is None or signal.pause is None or signal.usd_remaining is not None:
            return
        pause = signal.pause
        requests_alone = signal.remaining_requests == 0 and signal.remaining_tokens != 0
        if requests_alone and signal.limit_requests and signal.reset_requests is not None:
            # The reset is when all of the limit is back (OpenAI); what is waited for is one request of it.
            pause = signal.reset_requests / signal.limit_requests
        lane.pause(pause, now)

    async def _send(self, transport: Transport, call: Call, target: Target) -> RawReply:
        """Send once."""
        headers, own, connect, first_token = target.lane.headers, call.headers, call.timeout.connect, call.first_token
        sent = transport.send(call.method, target.url, headers, own, target.body, connect=connect, fresh=call.replaced)
        if first_token is None:
            return await sent
        try:
            async with asyncio.timeout(first_token):
                return await sent
        except TimeoutError:
            pass
        raise APITimeoutError(f"no event within {first_token} s", phase="first_token")

    async def _status_error(self, attempt: Attempt, reply: RawReply) -> APIStatusError:
        """Read an error response, within bounds, into the error that it means."""
        lane, info = attempt.target.lane, attempt.info
        body = await beginning(reply, MAX_ERROR_BODY)
        provider = lane.endpoint.provider
        wait = signals.retry_after(reply.headers)
        if wait is None and reply.status == 429:
            signal = signals.read(reply.headers, unit=provider.ratelimit_unit)
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
            error.message += f"; {lane.endpoint.without_key}"
            error.args = (error.message,)
        return error

    def _headers(self, info: Info, extra: Mapping[str, str] | None) -> Headers:
        """What this call adds to an endpoint's headers; `extra` are checked, and all of them in one spelling."""
        headers = Headers(self._default_headers)
        if extra:
            headers.update(extra)
        headers[_CLIENT_REQUEST_ID] = info.request_id
        return headers

    def _request_id(self, extra_headers: Mapping[str, str] | None) -> str:
        if extra_headers and _CLIENT_REQUEST_ID in extra_headers:
            return check_request_id(extra_headers[_CLIENT_REQUEST_ID])
        return f"{self._id_prefix}-{next(self._ids):x}"

    async def forward(
        self, method: str, path: str, body: bytes | None = None, *, query: str = "", **options: Unpack[CallOptions]
    ) -> Forwarded:
        """Send a request that another client wrote, and return the answer's own bytes.

        POST to "chat/completions" and "responses" goes through limits, retries and failover as any call does, and
        raises what they raise. Another path below the base URL goes to the first endpoint, once, with its key; its
        answer is handed back whatever its status. Raises UnsupportedRequestError for what cannot be sent.
        """
        check_headers(options)
        from aimlasync.client.passthrough import forward

        return await forward(self, method, path, body, query, options)

    def observe(self, observer: Observer | None) -> None:
        """Let `observer` watch all chat and responses calls from now on, or (None) nobody.

        Raises RuntimeError when another one does already.
        """
        if observer is not None and self._life.observer is not None:
            raise RuntimeError("this client is observed already")
        self._life.observer = observer

    # Whole-account questions

    async def balance(self) -> Balance:
        """Return what is left on the account of the first endpoint that can tell, in US dollars.

        Raises NotImplementedError where no endpoint has such a question.
        """
        return await balance(self)

    @property
    def queued(self) -> int:
        """Calls that wait for an endpoint."""
        waiting = 0
        for lane in self._pool.lanes:
            waiting += lane.gate.waiting
        return waiting

    def statistics(self) -> list[EndpointStatistics]:
        """Return what each endpoint is doing and has done, in the order they were given."""
        now = self._life.now()
        return [lane.statistics(now) for lane in self._pool.lanes]


def _drop(result: object) -> None:
    """Of two answers one is taken; the other, if it is a stream, still holds its connection and permit."""
    abandon = getattr(result, "abandon", None)
    if abandon is not None:
        abandon()


# What one endpoint refuses for reasons of its own, and another may grant.
_ANOTHERS_TURN = (AuthenticationError, InsufficientCreditError, PermissionDeniedError, NotFoundError)
