"""One stream for all equal calls: what is read of it is a log, and each reader has a place of its own in it.

A reader that has come to the end of the log takes the turn and reads the next piece, and all who wait get it. So no
reader waits for another one to go on. One that leaves or is cancelled in its turn loses nothing, as `RawReply`
promises, and another one takes the turn. The attempt behind the log ends once: with the end or failure of the stream,
which the first reader that comes there finds, or when the last reader leaves. It may import `kept_answers`, `call` and
what lies below `client`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aimlasync.chat.types import Usage
from aimlasync.client.call import Attempt, Call
from aimlasync.client.kept_answers import Recording, Replay, replayed, without_permit
from aimlasync.client.target import Target
from aimlasync.errors import AimlasyncError, APIConnectionError
from aimlasync.responses.types import ResponseUsage
from aimlasync.transport.base import MAX_BODY, gathered
from aimlasync.wire.base import Meta

T = TypeVar("T")

Receive = Callable[[Attempt], Awaitable[T]]


class SharedStream(Recording):
    """A stream of one attempt, recorded as it is read, for any number of readers.

    `on_over` is called once, when nobody can join any more what is not whole: with the stream of the reader that came
    to the end, if it is handed over already, or with None.
    """

    def __init__(self, attempt: Attempt, on_over: Callable[[SharedStream, Any], None]) -> None:
        super().__init__(attempt)
        self._on_over = on_over
        # Mutable: those that have neither come to the end nor left.
        self.readers: set[Reader] = set()
        self.turn: Reader | None = None
        """Who reads the next piece."""
        self.failure: Exception | None = None
        """Why there will be no more pieces."""
        self.is_over = False
        self.is_whole = False
        """Whether a reader came to the end of the answer."""

    async def open(self, receive: Receive[T]) -> T:
        """Return what `receive` makes of the stream for the call that pays for it."""
        attempt = self.attempt
        reader = Reader(self)
        share = without_permit(Share, attempt.call, attempt.target, attempt.info, reader, attempt.sent_at)
        share.reader = reader
        answer = await _received(share, receive)
        attempt.began()
        return answer

    async def join(self, call: Call, target: Target, receive: Receive[T]) -> T:
        """Return what `receive` makes of the stream, from its beginning, for another call."""
        share = replayed(self.begun(), call, target, Share)
        reader = Reader(self)
        reader.headers = share.response.headers
        share.reply = share.reader = reader
        return await _received(share, receive)

    def end(self, reader: Reader) -> None:
        """A reader has come to the end of the answer: what follows is not wanted."""
        self.readers.discard(reader)
        if not self.is_over:
            self.is_whole = True
            self.finish()
            self.close(reader.answer())

    def leave(self, reader: Reader) -> None:
        """A reader will read no more; with the last one the connection goes, and a pending read fails."""
        self.readers.discard(reader)
        if not self.readers and not self.is_over:
            self.abort()
            self.close()

    def close(self, answer: object = None) -> None:
        """Let nobody join; harmless more than once."""
        if not self.is_over:
            self.is_over = True
            self._on_over(self, answer)


class Reader:
    """One reader's place in a shared stream, as `RawReply` promises."""

    def __init__(self, stream: SharedStream) -> None:
        self.stream = stream
        self.status = stream.status
        self.headers = stream.headers
        self.answer: Callable[[], Any] = _nothing
        """The stream that is made of it, once that is handed over: it must not be kept alive by its own reader."""
        self._at = 0
        self._task: asyncio.Task[Any] | None = None
        self._waiter: asyncio.Future[None] | None = None
        stream.readers.add(self)

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body."""
        return await gathered(self, max_bytes)

    async def read_some(self) -> bytes:
        """Return the next piece of the log, reading it or waiting for it if this reader has them all."""
        stream = self.stream
        pieces = stream.pieces
        if self._at < len(pieces):
            # Other calls have their turn, as they would while a server takes its time.
            await asyncio.sleep(0)
        while self in stream.readers:
            if self._at < len(pieces):
                self._at += 1
                return pieces[self._at - 1]
            if stream.failure is not None:
                raise stream.failure.with_traceback(None)
            if stream.turn is None:
                await self._take_turn()
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        raise APIConnectionError("its reader has left")

    async def _take_turn(self) -> None:
        stream = self.stream
        stream.turn = self
        self._task = task = asyncio.current_task()
        cancelling = task.cancelling() if task is not None else 0
        try:
            await stream.read_some()
        except asyncio.CancelledError:
            if self in stream.readers or task is None or task.uncancel() > cancelling:
                raise
            # It was `abort` alone.
        except Exception as error:  # noqa: BLE001  # raised to each reader
            stream.failure = error
        finally:
            # Its result may be the stream.
            self._task = None
            stream.turn = None
            for reader in stream.readers:
                reader.wake()

    def wake(self) -> None:
        """Let it look again, if it waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def abort(self) -> None:
        """Leave; a pending read fails."""
        stream = self.stream
        if self in stream.readers:
            stream.leave(self)
            if stream.turn is not self:
                self.wake()
            elif stream.readers and self._task is not None:
                # The connection is the others', and so is what this read would have brought.
                self._task.cancel()

    def finish(self) -> None:
        """Note the end of the answer."""
        self.stream.end(self)


class Share(Replay, kw_only=True):
    """What one reader reads a shared stream through: what it finds is told to the attempt behind it, once."""

    reader: Reader = None  # type: ignore[assignment]  # set by whoever makes one

    @property
    def source(self) -> Attempt:
        """The attempt that is paid for."""
        return self.reader.stream.attempt

    def charge(self, meta: Meta | None) -> None:
        """Note the cost as that of the call that pays."""
        self.source.charge(meta)

    def succeed(self, usage: Usage | ResponseUsage | None, cost: Any = None) -> None:
        """This reader came to the end; the first one ends the attempt."""
        self.source.succeed(usage, cost)

    def fail(self, error: AimlasyncError) -> None:
        """The stream is cut or broken, which all others will find too; or this reader had left: its time passed."""
        stream = self.reader.stream
        has_left = self.reader not in stream.readers
        self.reader.abort()
        if self.source.is_held and not (has_left and stream.readers):
            self.source.fail(error)
            stream.close()
        super().fail(error)

    def abandon(self) -> None:
        """This reader leaves; the last one takes the attempt with it."""
        self.reader.abort()
        if self.source.is_held and not self.reader.stream.readers:
            self.source.abandon()


async def _received(share: Share, receive: Receive[T]) -> T:
    try:
        answer = await receive(share)
    except BaseException:
        # Harmless where it has failed, or left, already.
        share.abandon()
        raise
    share.reader.answer = weakref.ref(answer)
    return answer


def _nothing() -> None:
    return None
