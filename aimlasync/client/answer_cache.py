"""`AsyncClient(cache=...)`: a request that was answered before is answered from a store, and nothing is sent.

The pipeline asks here in the place of `run`, behind the encoding of the body and before budget, permit and limits. A
client without a cache pays for one test. It may import `answer_keys`, `kept_answers` and what lies below `client`.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aimlasync.client.answer_keys import is_free_of_state, is_settled, keys_of
from aimlasync.client.call import Attempt, Call
from aimlasync.client.kept_answers import KeptAnswer, Recording, Replay, is_whole, read, replayed, written
from aimlasync.client.shared_streams import Receive, SharedStream
from aimlasync.config import CallOptions, is_given
from aimlasync.endpoints.providers import Api
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    StreamError,
    UnsupportedRequestError,
)
from aimlasync.store.cache import Cache
from aimlasync.store.protocol import Store, if_reachable

T = TypeVar("T")
R = TypeVar("R")

# Headers that no two calls have in common.
_OF_ONE_CALL = frozenset(("baggage", "idempotency-key", "traceparent", "tracestate", "x-client-request-id"))


class Answers:
    """The answers of one pipeline's calls: what a `Cache` keeps, and what equal calls in flight wait for."""

    __slots__ = ("_flights", "cache")

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        # Mutable: by their place.
        self._flights: dict[tuple[str, str], _Flight] = {}

    def apart(self) -> Answers:
        """Return the same for a pipeline with another key: an error of one key is none of another's."""
        return Answers(self.cache)

    async def answer(
        self,
        api: Api,
        call: Call,
        options: CallOptions | None,
        receive: Receive[T],
        run: Callable[[Receive[T]], Awaitable[T]],
    ) -> T:
        """Return the kept answer to `call`, else that of `run`, which is kept. Raises what `run` raises."""
        wish = options.get("cache") if options else None
        if wish not in (None, True, False, "refresh"):
            if is_given(wish):
                raise ValueError(f"cache must be True, False or 'refresh', not {wish!r}")
            wish = None
        body = call.body or {}
        if wish is False or not is_free_of_state(body) or not (self.cache.sampled or wish or is_settled(body)):
            return await run(receive)
        structured = options.get("structured") if options else None
        keys = await keys_of(api, call, family=self.cache.family, structured=structured)
        own = _Flight(call, keys)
        if wish == "refresh":
            return await self._ask(own, receive, run)
        while (flight := self._flights.get(own.place)) is not None:
            await _in_time(call, flight.landed.wait(), "for an equal call in flight")
            if flight.found is not None:
                self.cache.counts.shared += 1
                return await self._again(call, *flight.found, receive)
            if flight.error is not None and flight.asker == own.asker:
                raise _given_to(call, flight.error)
            if flight.is_answered:
                # What cannot be kept cannot be shared.
                return await run(receive)
        return await self._lead(own, receive, run)

    async def _lead(self, flight: _Flight, receive: Receive[T], run: Callable[[Receive[T]], Awaitable[T]]) -> T:
        """Look in the store, else ask, while equal calls wait; whoever is cancelled leaves that to the next of them."""
        call = flight.call
        self._flights[flight.place] = flight
        try:
            found = await self._find(call, flight.keys)
            if found is not None:
                self.cache.counts.hits += 1
                answer = await self._again(call, *found, receive)
                flight.found = found
                return answer
            self.cache.counts.misses += 1
            return await self._ask(flight, receive, run)
        except AimlasyncError as error:
            if _is_of_server(error):
                flight.error = error
            raise
        finally:
            if not flight.lands_later:
                self._land(flight)

    def _land(self, flight: _Flight) -> None:
        if self._flights.get(flight.place) is flight:
            del self._flights[flight.place]
        flight.landed.set()

    async def _find(self, call: Call, keys: list[str]) -> tuple[KeptAnswer, int] | None:
        """Return the answer that is kept for one of the targets, and the number of the target."""
        found = await _in_time(call, self._stored(self.cache.store.get(keys)), "for the store of answers")
        for at, data in enumerate(found or ()):
            answer = read(data)
            if answer is not None:
                return answer, at
        return None

    async def _again(self, call: Call, answer: KeptAnswer | SharedStream, at: int, receive: Receive[T]) -> T:
        if isinstance(answer, SharedStream):
            return await answer.join(call, call.targets[at], receive)
        return await receive(replayed(answer, call, call.targets[at], Replay))

    async def _ask(self, flight: _Flight, receive: Receive[T], run: Callable[[Receive[T]], Awaitable[T]]) -> T:
        """Make the call, and keep its answer."""
        if flight.call.streams:
            return await self._open(flight, receive, run)
        recordings: list[tuple[T, Recording]] = []

        async def recorded(attempt: Attempt) -> T:
            attempt.reply = recording = Recording(attempt)
            recordings.append((answer := await receive(attempt), recording))
            return answer

        answer = await run(recorded)
        recording = next(recording for each, recording in recordings if each is answer)
        kept = recording.kept() if is_whole(answer) else None
        flight.is_answered = True
        flight.found = None if kept is None else (kept, flight.at(recording))
        # They need not wait for the disk.
        flight.landed.set()
        if kept is not None:
            await self._keep(flight, recording, kept)
        return answer

    async def _open(self, flight: _Flight, receive: Receive[T], run: Callable[[Receive[T]], Awaitable[T]]) -> T:
        """Open a stream, which equal calls may read too, until it has ended and is kept."""
        opened: list[tuple[T, SharedStream]] = []

        def over(shared: SharedStream, stream: Any) -> None:
            if flight.found is None or flight.found[0] is not shared:
                # One beside it, or one that is not handed over yet.
                return
            if stream is None:
                flight.found = None
                self._land(flight)
            else:
                task = asyncio.get_running_loop().create_task(self._keep_stream(flight, shared, stream))
                self.cache.writing.add(task)
                task.add_done_callback(self.cache.writing.discard)

        async def shared_by(attempt: Attempt) -> T:
            shared = SharedStream(attempt, over)
            opened.append((stream := await shared.open(receive), shared))
            return stream

        stream = await run(shared_by)
        shared = next(shared for each, shared in opened if each is stream)
        flight.lands_later = True
        flight.found = shared, flight.at(shared)
        flight.landed.set()
        if shared.is_over:
            over(shared, stream if shared.is_whole else None)
        return stream

    async def _keep_stream(self, flight: _Flight, shared: SharedStream, stream: Any) -> None:
        try:
            if is_whole(stream.so_far()) and (kept := shared.kept()) is not None:
                await self._keep(flight, shared, kept)
        finally:
            self._land(flight)

    async def _keep(self, flight: _Flight, recording: Recording, kept: KeptAnswer) -> None:
        await self._stored(self._put(flight.keys[flight.at(recording)], written(kept)))

    async def _stored(self, work: Coroutine[Any, Any, R]) -> R | None:
        self.cache.waiting += 1
        try:
            return await if_reachable(self.cache.store, work)
        finally:
            self.cache.waiting -= 1

    async def _put(self, key: str, value: bytes) -> None:
        await self.cache.store.put(key, value)
        self.cache.counts.kept += 1


def answers_of(cache: Cache | Store | str | os.PathLike[str]) -> Answers:
    """Return what a pipeline asks. Raises ValueError for what cannot be a store."""
    return Answers(cache if isinstance(cache, Cache) else Cache(cache))


class _Flight:
    """A call that equal ones wait for, and what came of it; nothing, where whoever made it left or failed by itself."""

    def __init__(self, call: Call, keys: list[str]) -> None:
        self.call = call
        self.keys = keys
        # While a stream goes on, nobody knows if it will echo a key, or end in an error of whoever asked for it.
        self.place = keys[0], repr(sorted(self.asker.items())) if call.streams else ""
        self.landed = asyncio.Event()
        self.found: tuple[KeptAnswer | SharedStream, int] | None = None
        """The answer, or the stream that goes on, and the number of its target."""
        self.error: AimlasyncError | None = None
        self.is_answered = False
        self.lands_later = False
        """Whether others can join when the call has returned: a stream, until it has ended and is kept."""

    @property
    def asker(self) -> dict[str, str]:
        """Who makes the call, by the headers of all its attempts: an error of one key is none of another's."""
        headers = self.call.headers
        return {name.lower(): value for name, value in headers.items() if name.lower() not in _OF_ONE_CALL}

    def at(self, recording: Recording) -> int:
        """Return the number of the target that answered."""
        return self.call.targets.index(recording.attempt.target)


async def _in_time(call: Call, work: Awaitable[T], what: str) -> T:
    """Wait within the call's deadline, and as one of those whom a drained client cancels."""
    with call.waits:
        try:
            async with asyncio.timeout_at(call.deadline):
                return await work
        except TimeoutError:
            pass
    said = f"the call took longer than {call.bound} s, waiting {what}"
    raise APITimeoutError(said, phase="total", info=call.info, billed=False)


def _is_of_server(error: AimlasyncError) -> bool:
    """Whether an error would be that of an equal call, too: not the end of one caller's patience or money."""
    if isinstance(error, (APITimeoutError, UnsupportedRequestError)):
        return False
    return isinstance(error, (APIConnectionError, APIResponseValidationError, APIStatusError, StreamError))


def _given_to(call: Call, error: AimlasyncError) -> AimlasyncError:
    """Return the error of an equal call as that of `call`, for which nothing was sent."""
    own, info = copy.copy(error), call.info
    if error.info is not None:
        info.endpoint, info.vendor = error.info.endpoint, error.info.vendor
        info.status, info.headers = error.info.status, error.info.headers
    own.info, own.billed = info, False
    return own
