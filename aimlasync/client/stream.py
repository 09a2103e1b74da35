"""A streamed answer as its reader has it: typed pieces as they arrive, then the whole answer, or an error.

How the pieces are made of what the server sends, and where the answer ends, is in `stream_reading`. It may import
`call`, `stream_bounds`, `stream_reading` and what lies below. Nobody gets a stream before it has said
something: until then the call may be tried again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from aimlasync.client.call import Attempt
from aimlasync.client.stream_bounds import StreamBounds
from aimlasync.client.stream_reading import StreamReading
from aimlasync.errors import AimlasyncError, restored
from aimlasync.wire.base import Reply

if TYPE_CHECKING:
    from aimlasync.http_response import HttpResponse

P = TypeVar("P")
W = TypeVar("W", bound=Reply)
T = TypeVar("T")

# Pieces without anything in them that are held back; some servers send them to keep the connection open.
_MOST_HELD = 100


class Stream(StreamReading[P, W]):
    """An answer in pieces: iterate it, iterate `.text`, or `collect` the rest into one reply.

    Leaving it early (`async with`, or `await close()`) drops the connection, which is how the server learns that nobody
    listens; ByteSpike bills what it had produced. Raises from the iteration: TruncatedStreamError, StreamError,
    APITimeoutError, APIResponseValidationError, each with `.partial`.
    """

    # What a reader does

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> P:
        while not self._ready:
            if self._failure is not None:
                raise _copied(self._failure)
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
                raise _copied(self._failure)
            if self._ended:
                return []
            await self._fill()
        pieces = list(self._ready)
        self._ready.clear()
        return pieces

    @property
    def response(self) -> HttpResponse:
        """Status and headers of the response."""
        from aimlasync.http_response import HttpResponse

        return HttpResponse(self.info.status, self.info.headers, close=self.close)

    @property
    def text(self) -> AsyncIterator[str]:
        """The text of the (first) answer as it arrives, empty pieces left out; nothing more after a cancelled read."""
        return self._text()

    async def _text(self) -> AsyncIterator[str]:
        # Like the iteration, but a read at a time: no coroutine for a piece that is here already.
        while True:
            while self._ready:
                if delta := self.text_of(self._ready.popleft()):
                    yield delta
            if self._failure is not None:
                raise _copied(self._failure)
            if self._ended:
                return
            await self._fill()

    def so_far(self) -> W:
        """Return what has arrived so far, assembled into a reply."""
        return self._whole()

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
            raise _copied(self._failure)
        if self._ended:
            return False
        await self._fill()
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop reading; harmless after the end, and more than once."""
        self._leave()

    aclose = close

    def __del__(self) -> None:
        # A reader that breaks out of `async for` without closing must not keep the permit for ever.
        if not getattr(self, "_ended", True) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_give_back, self._attempt, self._bounds)

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open"
        return f"<{type(self).__name__} {state} {self.info.endpoint} {self.info.request_id}>"

    # What the pipeline does

    async def start(self) -> Self:
        """Wait until something is said, so that a failure before it can still be retried; raise that failure."""
        self._bounds.arm()
        while not (self._says_something or self._ended or len(self._ready) >= _MOST_HELD):
            await self._fill()
        failure = self._failure
        if failure is not None and not self._says_something:
            self._ready.clear()
            raise failure
        self._is_handed_over = True
        self._attempt.began()
        self._attempt.call.let_go()
        if self._watch is not None:
            self._tell(self._watch)
        if failure is not None:
            self._attempt.call.give_up(failure)
        return self

    async def gather(self) -> W:
        """Return the whole answer, for a caller who asked for nothing else; raise what it ended in instead."""
        self._bounds.arm()
        while not self._ended:
            await self._fill()
            self._ready.clear()
        if self._failure is not None:
            raise self._failure
        return self._whole()

    @property
    def whole_body(self) -> bytes:
        """The bytes of an answer that came whole though it was to be streamed; empty for one that was streamed."""
        return b"" if self._whole_reply is None else self._whole_reply.raw


def _copied(error: AimlasyncError) -> AimlasyncError:
    """Return an error to raise: with one that the stream keeps, its reader's frames would stay until the collector."""
    copied = restored(type(error), error.args)
    vars(copied).update(vars(error))
    return copied


def _give_back(attempt: Attempt, bounds: StreamBounds) -> None:
    bounds.stop()
    attempt.abandon()
    attempt.call.give_up(None)


class Opened(Generic[T]):
    """What is made of the answer to a call that `async with` begins; leaving the block closes it."""

    def __init__(self, ask: Callable[[], Any], read: Callable[[Any], T]) -> None:
        self._ask = ask
        self._read = read
        self._opened: Any = None

    async def __aenter__(self) -> T:
        self._opened = opened = self._read(await self._ask())
        return opened

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None:
            await self._opened.close()
