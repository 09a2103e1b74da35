"""`AsyncClient(cache=...)`: a request that was answered before is answered from a store, and nothing is sent.

The pipeline asks here in the place of `run`, behind the encoding of the body and before budget, permit and limits. A
client without a cache pays for one test. It may import `answer_keys`, `kept_answers` and what lies below `client`.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aimlasync.client.answer_keys import is_free_of_state, is_settled, keys_of
from aimlasync.client.call import Attempt, Call
from aimlasync.client.kept_answers import KeptAnswer, Recording, is_whole, read, replayed, written
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

# Headers that no two calls have in common.
_OF_ONE_CALL = frozenset(("baggage", "idempotency-key", "traceparent", "tracestate", "x-client-request-id"))

Receive = Callable[[Attempt], Awaitable[T]]


class Answers:
    """The answers of one pipeline's calls: what a `Cache` keeps, and what equal calls in flight wait for."""

    __slots__ = ("_flights", "cache")

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        # Mutable: by the key of their request.
        self._flights: dict[str, _Flight] = {}

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
        if wish == "refresh":
            return await self._ask(call, keys, receive, run)
        if call.streams:
            # Whoever waited for another's stream would get its first piece when the other one has read the last.
            found = await self._find(call, keys)
            if found is not None:
                self.cache.counts.hits += 1
                return await self._replay(call, *found, receive)
            self.cache.counts.misses += 1
            return await self._ask(call, keys, receive, run)
        place = keys[0]
        while (flight := self._flights.get(place)) is not None:
            await _in_time(call, flight.landed.wait(), "for an equal call in flight")
            if flight.found is not None:
                self.cache.counts.shared += 1
                return await self._replay(call, *flight.found, receive)
            if flight.error is not None and flight.asker == _asker(call):
                raise _given_to(call, flight.error)
            if flight.is_answered:
                # What cannot be kept cannot be shared.
                return await run(receive)
        return await self._lead(place, call, keys, receive, run)

    async def _lead(
        self,
        place: str,
        call: Call,
        keys: list[str],
        receive: Receive[T],
        run: Callable[[Receive[T]], Awaitable[T]],
    ) -> T:
        """Look in the store, else ask, while equal calls wait; whoever is cancelled leaves that to the next of them."""
        flight = self._flights[place] = _Flight()
        try:
            found = await self._find(call, keys)
            if found is not None:
                self.cache.counts.hits += 1
                answer = await self._replay(call, *found, receive)
                flight.found = found
                return answer
            self.cache.counts.misses += 1
            return await self._ask(call, keys, receive, run, flight)
        except AimlasyncError as error:
            if _is_of_server(error):
                flight.error, flight.asker = error, _asker(call)
            raise
        finally:
            self._land(place, flight)

    def _land(self, place: str, flight: _Flight) -> None:
        if self._flights.get(place) is flight:
            del self._flights[place]
        flight.landed.set()

    async def _find(self, call: Call, keys: list[str]) -> tuple[KeptAnswer, int] | None:
        """Return the answer that is kept for one of the targets, and the number of the target."""
        store = self.cache.store
        found = await _in_time(call, if_reachable(store, store.get(keys)), "for the store of answers")
        for at, data in enumerate(found or ()):
            answer = read(data)
            if answer is not None:
                return answer, at
        return None

    async def _replay(self, call: Call, answer: KeptAnswer, at: int, receive: Receive[T]) -> T:
        return await receive(replayed(answer, call, call.targets[at], asyncio.get_running_loop()))

    async def _ask(
        self,
        call: Call,
        keys: list[str],
        receive: Receive[T],
        run: Callable[[Receive[T]], Awaitable[T]],
        flight: _Flight | None = None,
    ) -> T:
        """Make the call, and keep its answer."""
        recordings: list[Recording] = []

        async def recorded(attempt: Attempt) -> T:
            attempt.reply = recording = Recording(attempt, on_end)
            recordings.append(recording)
            recording.answer = await receive(attempt)
            return recording.answer  # type: ignore[no-any-return]

        def on_end(recording: Recording) -> None:
            # A stream that ended before it was handed over is kept below.
            if recording.answer is not None and call.streams:
                task = asyncio.get_running_loop().create_task(self._keep_stream(call, keys, recording))
                self.cache.writing.add(task)
                task.add_done_callback(self.cache.writing.discard)

        answer = await run(recorded)
        recording = next(each for each in recordings if each.answer is answer)
        if call.streams:
            if recording.is_ended:
                await self._keep_stream(call, keys, recording)
            return answer
        kept = recording.kept() if is_whole(answer) else None
        if flight is not None:
            flight.is_answered = True
            flight.found = None if kept is None else (kept, call.targets.index(recording.attempt.target))
            # They need not wait for the disk.
            flight.landed.set()
        if kept is not None:
            await self._keep(call, keys, recording, kept)
        return answer

    async def _keep_stream(self, call: Call, keys: list[str], recording: Recording) -> None:
        if is_whole(recording.answer.so_far()) and (kept := recording.kept()) is not None:
            await self._keep(call, keys, recording, kept)

    async def _keep(self, call: Call, keys: list[str], recording: Recording, kept: KeptAnswer) -> None:
        key = keys[call.targets.index(recording.attempt.target)]
        await if_reachable(self.cache.store, self._put(key, written(kept)))

    async def _put(self, key: str, value: bytes) -> None:
        await self.cache.store.put(key, value)
        self.cache.counts.kept += 1


def answers_of(cache: Cache | Store | str | os.PathLike[str]) -> Answers:
    """Return what a pipeline asks. Raises ValueError for what cannot be a store."""
    return Answers(cache if isinstance(cache, Cache) else Cache(cache))


class _Flight:
    """A call that equal ones wait for, and what came of it; nothing, where whoever made it left or failed by itself."""

    def __init__(self) -> None:
        self.landed = asyncio.Event()
        self.found: tuple[KeptAnswer, int] | None = None
        self.error: AimlasyncError | None = None
        self.asker: dict[str, str] | None = None
        """Who made the call: an error of one key or organization is none of another's."""
        self.is_answered = False


def _asker(call: Call) -> dict[str, str]:
    """Return the headers of a call that all attempts of its caller have in common."""
    return {name.lower(): value for name, value in call.headers.items() if name.lower() not in _OF_ONE_CALL}


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
