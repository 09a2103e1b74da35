"""A streamed answer: typed pieces as they arrive, the whole answer at the end, and an honest account of how it ended.

Law: owns the attempt, and with it the raw reply and the permit, from the first byte until the last, and ends it once.
A stream is complete only at its terminal mark: `[DONE]`; or a finish_reason on every choice, or a usage or cost tail,
and then a clean end of the body; or a terminal `response.*` event. Every other end is an error that carries what had
arrived. Events are framed on bytes and decoded one by one; all that a read brought is delivered before the error that
came with it.
"""

from __future__ import annotations

import asyncio
import weakref
from codecs import BOM_UTF8
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

import msgspec

from aimlasync import sse
from aimlasync.client.call import Attempt
from aimlasync.client.observer import Watch
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    TruncatedStreamError,
)
from aimlasync.wire.base import Meta, Reply, decode
from aimlasync.wire.error_bodies import stream_error

P = TypeVar("P")
W = TypeVar("W", bound=Reply)

_Expiry = Literal["total", "first_token", "idle"]


class Stream(Generic[P, W]):
    """An answer in pieces: iterate it, iterate `.text`, or `collect` the rest into one reply.

    Leaving it early (`async with`, or `await close()`) drops the connection, which is how the server learns that nobody
    listens; ByteSpike bills what it had produced. Raises from the iteration: TruncatedStreamError, StreamError,
    APITimeoutError, APIResponseValidationError, each with `.partial`.
    """

    # Filled by the subclass: it knows what its events mean.
    _assembler: Any

    def __init__(self, attempt: Attempt) -> None:
        call = attempt.call
        self.info = attempt.info
        self._attempt = attempt
        self._reply = attempt.response
        self._loop = asyncio.get_running_loop()
        self._parser = sse.Parser(strict=False)
        # Pieces decoded but not yet taken by the reader, and what follows the last of them.
        self._ready: deque[P] = deque()
        self._failure: AimlasyncError | None = None
        self._ended = False
        self._deadline = call.deadline
        self._timeout = call.timeout
        self._watch = call.watch
        # Since when the reader waits for an event; None while it does not, since only the server's silence counts.
        self._waiting: float | None = None
        self._expired: _Expiry | None = None
        self._got_event = False
        # Whether a reader has it: from then on nothing is retried.
        self._is_handed_over = False
        self._timer: asyncio.TimerHandle | None = None

    # What a reader does

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> P:
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            await self._fill()
        return self._ready.popleft()

    async def read_some(self) -> list[P]:
        """Return the pieces that are here, of one read if none are: at least one, and none at the end.

        Who hands them on can do so at once, where iterating would hand on one after the other.
        """
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return []
            await self._fill()
        pieces = list(self._ready)
        self._ready.clear()
        return pieces

    @property
    def text(self) -> AsyncIterator[str]:
        """The text of the (first) answer as it arrives, empty pieces left out."""
        return self._text()

    async def _text(self) -> AsyncIterator[str]:
        # Like the iteration, but a read at a time: no coroutine for a piece that is here already.
        while True:
            while self._ready:
                if delta := self.text_of(self._ready.popleft()):
                    yield delta
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return
            await self._fill()

    async def collect(self) -> W:
        """Read the rest of the stream and return the whole answer, what was iterated before included."""
        while await self.read_on():
            pass
        return self._whole()

    async def read_on(self) -> bool:
        """Wait for what the server sends next, and leave its pieces to `collect`; False at the end.

        Raises like the iteration.
        """
        # The assembler has them.
        self._ready.clear()
        if self._failure is not None:
            raise self._failure
        if self._ended:
            return False
        await self._fill()
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop reading; harmless after the end, and more than once."""
        self._leave()

    aclose = close

    def __del__(self) -> None:
        # A reader that breaks out of `async for` without closing must not keep the permit for ever.
        if not getattr(self, "_ended", True) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_give_back, self._attempt, self._timer)

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open"
        return f"<{type(self).__name__} {state} {self.info.endpoint} {self.info.request_id}>"

    # What the pipeline does

    async def start(self) -> Self:
        """Wait for the first event, so that a failure before it can still be retried; raise that failure."""
        self._arm()
        while not self._ready and not self._ended:
            await self._fill()
        if self._failure is not None and not self._ready:
            raise self._failure
        self._is_handed_over = True
        self._attempt.began()
        return self

    def prefill(self, pieces: list[P]) -> None:
        """Become a stream of these pieces, whole."""
        for piece in pieces:
            self._assembler.add(piece)
            self._ready.append(piece)
        self._is_handed_over = True
        self._finish()
        if self._watch is not None:
            self._tell(self._watch)

    # One read

    async def _fill(self) -> None:
        """Wait for bytes and take in every event they complete."""
        if self._waiting is None:
            self._waiting = self._loop.time()
        try:
            data = await self._reply.read_some()
        except APIConnectionError as error:
            self._broken(error.message)
            return
        except BaseException:
            # Cancelled in the middle of a read: what the connection holds is unknown.
            self._leave()
            raise
        try:
            events = self._parser.feed(data) if data else self._parser.close()
        except sse.EventTooLargeError as error:
            self._fail(APIResponseValidationError(f"a stream event is too large: {error}", partial=self._whole()))
            return
        for event in events:
            if self._ended:
                # What a server sends after its terminal mark is not part of the answer, but may state its cost.
                self._after(event)
            elif event.data:
                self._take(event, cut=not data)
        if not data and not self._ended:
            self._closed()
        if self._watch is not None:
            self._tell(self._watch)
        if self._ready:
            self._waiting = None
            if not self._got_event:
                self._got_event = True
                if not self._ended:
                    # From here on it is `idle` that counts.
                    self._arm()

    def _tell(self, watch: Watch) -> None:
        """Tell what a read brought; the end last, since the cost may come behind the terminal mark."""
        if self._ready:
            watch.arrived(len(self._ready))
        if self._ended and self._failure is None:
            watch.answered(self._whole())

    def _take(self, event: sse.Event, *, cut: bool) -> None:
        """Take in one event: the end, or a piece; `cut` says that it ended with the body."""
        data = event.data
        if data[:1] == b"[" and data.strip() == b"[DONE]":
            self._finish()
            return
        try:
            piece = self._decode(data)
        except msgspec.DecodeError:
            if data.removeprefix(BOM_UTF8).strip() == b"[DONE]":
                self._finish()
            else:
                self._undecodable(event, cut=cut)
            return
        self._take_piece(piece, event)

    def _decode(self, data: bytes) -> P:
        raise NotImplementedError

    def _take_piece(self, piece: P, event: sse.Event) -> None:
        raise NotImplementedError

    def text_of(self, piece: P) -> str | None:
        """Return what a piece adds to the text of the (first) answer."""
        raise NotImplementedError

    def _whole(self) -> W:
        whole: W = self._assembler.whole()
        whole.__dict__["info"] = self.info
        return whole

    def _undecodable(self, event: sse.Event, *, cut: bool) -> None:
        """An event that is no JSON: half of one at the end of the body, or garbage in its middle."""
        if cut:
            return
        self._fail(
            APIResponseValidationError("a stream event is not valid JSON", raw=event.data, partial=self._whole())
        )

    def _after(self, event: sse.Event) -> None:
        try:
            tail = decode(event.data, _tail, _Tail)
        except msgspec.MsgspecError:
            return
        self._attempt.charge(tail.meta)

    # How it ends

    def _error(self, body: Any) -> None:
        """An error object in the stream."""
        self._fail(stream_error(body, partial=self._whole(), info=self.info, billed=self._attempt.billed))

    def _closed(self) -> None:
        """The body ended cleanly, without a terminal mark."""
        if self._assembler.finished:
            self._finish()
        elif not self._got_event and not self._ready:
            self._fail(TruncatedStreamError("the stream ended before its first event", partial=self._whole()))
        else:
            self._fail(TruncatedStreamError("the stream ended before the answer did", partial=self._whole()))

    def _broken(self, why: str) -> None:
        """The connection broke, or we broke it because a bound had passed."""
        phase = self._expired
        if phase is None:
            self._fail(TruncatedStreamError(f"the stream was cut: {why}", partial=self._whole()))
            return
        seconds = getattr(self._timeout, phase)
        said = {
            "total": f"the call took longer than {seconds} s",
            "first_token": f"no event within {seconds} s",
            "idle": f"no further event within {seconds} s",
        }[phase]
        self._fail(APITimeoutError(said, phase=phase, partial=self._whole()))

    def _finish(self) -> None:
        """The answer is whole: give back the connection and the permit."""
        self._end()
        self._reply.finish()
        self._attempt.succeed(self._assembler.usage)

    def _fail(self, error: AimlasyncError) -> None:
        """There will be no more: what is ready is delivered, then the error is raised."""
        self._failure = error
        self._end()
        self._attempt.fail(error)
        if self._is_handed_over:
            # Before that, the pipeline decides whether the call goes on.
            self._attempt.call.give_up(error)

    def abandon(self) -> None:
        """Drop the connection: nobody reads this, and the call may go on without it."""
        if not self._ended:
            self._ready.clear()
            self._failure = self._failure or AimlasyncError("the stream was closed", info=self.info)
            self._end()
            self._attempt.abandon()

    def _leave(self) -> None:
        """The reader left, and the call ends here."""
        if not self._ended:
            self.abandon()
            if self._is_handed_over:
                # Before that, the pipeline decides.
                self._attempt.call.give_up(None)

    def _end(self) -> None:
        self._ended = True
        self._waiting = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.info.timing.total = self._loop.time() - self._attempt.call.started

    # Bounds. One timer a stream, which looks at the clock when it rings instead of being moved with every event.

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        bound = self._bound()
        # A weak reference: a stream that its reader forgot must be collected, not kept alive by its own alarm.
        self._timer = None if bound is None else self._loop.call_at(bound[0], _ring, weakref.ref(self))

    def _bound(self) -> tuple[float, _Expiry] | None:
        """When the next bound passes if nothing arrives, and which one it is."""
        bounds: list[tuple[float, _Expiry]] = []
        if self._deadline is not None:
            bounds.append((self._deadline, "total"))
        if not self._got_event:
            if self._timeout.first_token is not None:
                bounds.append((self._attempt.started + self._timeout.first_token, "first_token"))
        elif self._timeout.idle is not None:
            since = self._loop.time() if self._waiting is None else self._waiting
            bounds.append((since + self._timeout.idle, "idle"))
        return min(bounds, default=None)

    def _ring(self) -> None:
        bound = self._bound()
        if bound is not None and bound[0] <= self._loop.time():
            self._timer = None
            self._expired = bound[1]
            # The pending read fails, or the next one does.
            self._reply.abort()
        else:
            self._arm()


def _ring(stream: weakref.ref[Stream[Any, Any]]) -> None:
    alive = stream()
    if alive is not None:
        alive._ring()


class _Tail(msgspec.Struct):
    meta: Meta | None = None


_tail = msgspec.json.Decoder(_Tail)


def _give_back(attempt: Attempt, timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
    attempt.abandon()
    attempt.call.give_up(None)
