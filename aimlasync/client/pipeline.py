"""The steps of a call, in the order in which they happen.

    encode once -> choose an upstream -> concurrency permit -> rate limiter -> attempt -> decode, or events
                -> settle, release the permit with an outcome; release before backoff

The order is fixed. The body is encoded before the retry loop and shared by every attempt. A call that waits before a
retry holds no permit. A permit is held until the last byte of the body. One deadline covers all steps.
It may import everything below `client` and the parts of this package that `resources` and `passthrough` do not own. It
knows no HTTP (`transport`), no JSON (`chat`, `responses`) and no arithmetic (`admission`, `resilience`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from aimlasync.client.attempts import Receive, ended, made, sent, within
from aimlasync.client.balancer import Balancer
from aimlasync.client.call import Attempt, Call, Settings
from aimlasync.client.drain import Waits, drained
from aimlasync.client.failures import begins_well, status_failure
from aimlasync.client.observer import Observer, Watching
from aimlasync.client.request_head import RequestIds, address, headers_of
from aimlasync.config import CallOptions, Priority, of_kind, priority_of
from aimlasync.cost.budget import Budget
from aimlasync.deadlines import Deadlines
from aimlasync.endpoints.providers import Api
from aimlasync.errors import AimlasyncError, BudgetExceededError, ClientClosedError
from aimlasync.event_loop import clock_of, no_loop
from aimlasync.resilience.hedging import Hedging, race
from aimlasync.transport import Transport, usual_transport
from aimlasync.wire.base import Reply

if TYPE_CHECKING:
    from aimlasync.client.answer_cache import Answers

T = TypeVar("T")


class Pipeline:
    """One client's way from a request to its reply.

    All copies of a client share it: loop, transport, upstreams, ids, budget and observer. What a copy has of its own
    comes with each call, as `Settings`.
    """

    __slots__ = (
        "_clock",
        "_loop",
        "_make_transport",
        "_owns_cache",
        "_owns_transport",
        "_process",
        "_transport",
        "_validate",
        "_waits",
        "answers",
        "balancer",
        "budget",
        "deadlines",
        "hedging",
        "ids",
        "is_closed",
        "observer",
    )

    def __init__(
        self,
        balancer: Balancer,
        *,
        transport: Transport | None = None,
        proxy: str | None = None,
        budget: Budget | None = None,
        hedging: Hedging | None = None,
        validate: bool = True,
        answers: Answers | None = None,
        owns_cache: bool = False,
    ) -> None:
        self.balancer = balancer
        self.budget = budget
        self.answers = answers
        self.hedging = hedging
        self.observer: Observer | None = None
        self.is_closed = False
        # Those of all copies of the client.
        self._waits = Waits()
        self._validate = validate
        # These begin with the first call, and so does the transport. One that was given is its giver's to close.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._clock: Callable[[], float]
        self.ids: RequestIds
        self.deadlines: Deadlines
        self._transport = transport
        self._owns_transport = transport is None
        self._owns_cache = owns_cache
        # Loaded now: with the first call, it would stop the loop for a tenth of a second.
        self._make_transport = usual_transport(proxy) if transport is None else lambda: transport

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A deep copy of what holds a client shares its connections and limits, as all copies of a client do.
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client cannot be pickled: make one in each process that uses it")

    def enter(self) -> tuple[asyncio.AbstractEventLoop, Transport]:
        """Return the loop and the transport. Raises ClientClosedError when closed, RuntimeError in another loop.

        A loop that was closed, as by `asyncio.run`, or that another process runs gives way to the one that runs now.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise no_loop(error) from None
        if self.is_closed:
            raise ClientClosedError("this client is closed; make a new one")
        if self._loop is not loop:
            self._begin_in(loop)
        if self._transport is None:
            self._transport = self._make_transport()
        return loop, self._transport

    def _begin_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            is_over = self._loop.is_closed() or self._process != os.getpid()
            # What is shared has connections of its own in the old loop.
            if not is_over or self.balancer.is_shared or type(self.budget) not in (Budget, type(None)):
                raise RuntimeError("this client belongs to another event loop; make one client per loop")
            self.balancer.begin_again()
            if self._owns_transport and self._transport is not None:
                if self._loop.is_closed():
                    _at_once(self._transport.close())
                else:
                    _INHERITED.append(self._transport)
                self._transport = None
            if self.answers is not None:
                self.answers = self.answers.apart()
        if self._process != (process := os.getpid()):
            # A parent and its other children count on with theirs.
            self.ids = RequestIds()
        self._loop, self._process, self._clock = loop, process, clock_of(loop)
        self.deadlines = Deadlines(loop)
        import_for_failures()

    def __del__(self) -> None:
        # Nobody can close the client any more; a stream of it may still be read.
        loop: asyncio.AbstractEventLoop | None = getattr(self, "_loop", None)
        if loop is not None and not loop.is_closed() and self._process == os.getpid():
            loop.call_soon_threadsafe(_forget, self.deadlines, self._transport if self._owns_transport else None)

    def to(self, balancer: Balancer, transport: Transport) -> Pipeline:
        """Return another way to send, with the same budget, hedging, cache and observer."""
        other = Pipeline(
            balancer,
            transport=transport,
            budget=self.budget,
            hedging=self.hedging,
            validate=self._validate,
            answers=None if self.answers is None else self.answers.apart(),
        )
        other.observer = self.observer
        return other

    def now(self) -> float:
        """Return the loop's time, 0.0 before there is a loop."""
        return 0.0 if self._loop is None else self._loop.time()

    async def close(self) -> None:
        """Close all connections, end the waits of calls, and give back what was leased; harmless more than once."""
        if not self.is_closed:
            self.is_closed = True
            self._waits.close()
            if self._owns_transport and self._transport is not None:
                await self._transport.close()
            if self._loop is not None and not self._loop.is_closed():
                self.deadlines.rest()
            if self.answers is not None:
                cache = self.answers.cache
                await (cache.close() if self._owns_cache else cache.written())
        await self.balancer.close()
        if self.budget is not None:
            await self.budget.give_back()

    # No coroutine of its own: each one that waits costs a call a thousand instructions, and the collector an object.
    def call(
        self,
        api: Api,
        body: Mapping[str, Any],
        receive: Receive[T],
        options: CallOptions,
        settings: Settings,
        priority: Priority = "interactive",
        *,
        written: bytes | None = None,
        path: str | None = None,
    ) -> Coroutine[Any, Any, T]:
        """Return what sends `body` to an upstream that serves `api`, to be awaited at once.

        Its result is what `receive` makes of the response. Raises UnsupportedRequestError for what cannot be sent, and
        ValueError for a priority that there is not.
        `priority` holds where the options name none.
        `written` is the body as bytes, where it is given as such: sent as it is wherever nothing has to be translated.
        `path` is the path below the base URLs, where it is not that of the api.
        """
        loop, transport = self.enter()
        if settings.waits.is_drained:
            raise drained()
        extra, timeout = (options.get("extra_headers"), options.get("timeout")) if options else (None, None)
        info = self.ids.info(str(body.get("model", "")), extra)
        call = Call(
            "POST",
            self.balancer.targets(api, body, info, self._validate, written),
            headers_of(info, settings, extra),
            info,
            settings.timeout if timeout is None else settings.timeout.but(timeout),
            settings.retry,
            self._clock(),
            body,
            bool(body.get("stream")),
            self.budget,
            self.hedging,
            settings.waits,
            priority,
        )
        if call.streams:
            import_for_streams(api)
        modes = None
        if options:
            if (structured := options.get("structured")) is not None:
                from aimlasync.client.answer_modes import answer_modes

                call.modes = modes = answer_modes(self.balancer, api, body, call, structured, validate=self._validate)
            if "priority" in options:
                call.priority = priority_of(options["priority"])
            call.tenant, call.affinity = options.get("tenant"), options.get("affinity")
            if "budget" in options:
                call.budget = of_kind("budget", options["budget"], Budget, "Budget(5.0)")
        if path is not None or settings.query or (options and options.get("extra_query")):
            address(call.targets, path, settings, options.get("extra_query"))
        if self.observer is not None:
            endpoints = [each.upstream.endpoint for each in call.targets]
            call.watch = Watching(partial(self.observer.began, api, body, info, endpoints))
            call.headers.update(call.watch.headers)
        if self.answers is None and modes is None and call.watch is None:
            return self.run(call, receive, loop, transport)
        return self._told(api, call, receive, options, loop, transport)

    async def _told(
        self,
        api: Api,
        call: Call,
        receive: Receive[T],
        options: CallOptions,
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
    ) -> T:
        """Do what `run` does, through the cache, and tell who wants to know how it ended."""
        try:
            if self.answers is None:
                answer = await self.run(call, receive, loop, transport)
            else:
                run = partial(self.run, call, loop=loop, transport=transport)
                answer = await self.answers.answer(api, call, options, receive, run)
        except BaseException as error:
            if call.watch is not None:
                call.watch.failed(error)
            raise
        if call.modes is not None and call.modes.fallen:
            call.modes.learn(call.targets, getattr(answer, "info", call.info))
        if call.watch is not None and isinstance(answer, Reply):
            call.watch.answered(answer)
        return answer

    async def run(self, call: Call, receive: Receive[T], loop: asyncio.AbstractEventLoop, transport: Transport) -> T:
        """Try until there is an answer, the policy gives up, or the deadline passes."""
        info, balancer = call.info, self.balancer
        error: AimlasyncError | None = None
        before = ""
        deadlines, deadline = self.deadlines, call.deadline
        if deadline is not None:
            deadlines.start(call, deadline)
        try:
            if call.budget is not None:
                try:
                    call.reservation = call.reserve()
                except BudgetExceededError:
                    # A shared budget may have more.
                    from aimlasync.client.retries import reserve

                    with call.waits, self._waits:
                        call.reservation = await reserve(call, call.budget)
            # A first attempt that need not wait for its turn is made in the instant in which the call was.
            attempt = balancer.admit_nowait(call, call.started, loop)
            if attempt is None:
                with call.waits, self._waits:
                    attempt = await balancer.admit(call)
            while True:
                delay = None if call.hedging is None else call.hedging.delay(call.kind)
                try:
                    if delay is not None:
                        second = partial(self._second, attempt, receive, transport)
                        return await race(made(attempt, receive, transport), second, delay=delay, timers=deadlines)
                    if call.timeout.attempt is not None and not call.streams:
                        whole = made(attempt, receive, transport)
                        return await within(
                            call.timeout.attempt, whole, what="whole answer", phase="attempt", info=info
                        )
                    # As `made` does it, without its coroutine, which would be a tenth of what a call in flight holds.
                    try:
                        attempt.reply = await sent(attempt, transport)
                        if begins_well(attempt, self._clock()):
                            return await receive(attempt)
                        raise await status_failure(attempt, attempt.response)
                    except BaseException as left:
                        ended(attempt, left)
                        raise
                except AimlasyncError as failed:
                    # Its frames tell the caller nothing, and hold the body, which may echo the key. This frame is one
                    # of them: with them, what was sent and who asked would stay until the collector comes.
                    error, before = failed.with_traceback(None), f"; before that: {failed.message}"
                # What would be tried again is told that its client is closed, and else why it failed.
                is_last = not error.retryable or info.attempts >= call.retry.attempts
                if call.waits.is_drained or (is_last and self.is_closed):
                    raise error
                # Loaded with the first failure.
                from aimlasync.client.retries import next_attempt

                with call.waits, self._waits:
                    further = await next_attempt(call, attempt, error, balancer, loop)
                if further is None:
                    raise error
                attempt = further
        except asyncio.CancelledError:
            if not deadlines.stop(call):
                raise
        finally:
            if call.task is not None:
                deadlines.stop(call)
            if call.reservation is not None:
                # Of an attempt that was not made.
                call.release()
            error = None
        info.timing.total = self._clock() - call.started
        # Outside the `except`, so that nothing is chained to it.
        raise call.too_late(before)

    async def _second(self, first: Attempt, receive: Receive[T], transport: Transport) -> T:
        """Make a second attempt beside a slow first one. Raises OverloadedError where there is no room for it."""
        return await made(self.balancer.spare(first), receive, transport)


def import_for_failures() -> None:
    """Import what a failing call needs, while files can be opened: macOS allows 256, and a call in flight takes one."""
    import aimlasync.client.retries
    import aimlasync.wire.key_search  # noqa: F401


def import_for_streams(api: Api) -> None:
    """Import what a stream is made with, for the same reason: when its response begins, it may be too late."""
    if api == "chat":
        import aimlasync.client.chat_stream
    else:
        import aimlasync.client.response_stream  # noqa: F401


# Transports of a parent's event loop: closing one would end what that loop polls.
_INHERITED: list[Transport] = []


def _at_once(closing: Coroutine[Any, Any, None]) -> None:
    """Close what belongs to a loop that is closed: there is nothing to wait for."""
    # RuntimeError is what a wait for the loop would end with.
    with suppress(StopIteration, RuntimeError):
        while True:
            closing.send(None)


def _forget(deadlines: Deadlines, transport: Transport | None) -> None:
    deadlines.rest()
    if (abandon := getattr(transport, "abandon", None)) is not None:
        abandon()
