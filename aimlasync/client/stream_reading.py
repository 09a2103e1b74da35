"""How a streamed answer is read: each read becomes events, these become pieces, and one of them is the end.

It owns the attempt, and with it the raw reply and the permit, from the first byte until the last, and ends it once. It
may import `call`, `failures`, `framing`, `incoming`, `observer`, `stream_bounds` and what lies below. An answer is
complete only at its terminal mark: `[DONE]` behind something that was said; or a finish_reason on every choice, or a
usage or cost tail, and then a clean end of the body; or a terminal `response.*` event. Half a tool call without a
finish_reason is never complete. Every other end is an error that carries what had arrived. All that a read brought is
delivered before the error that came with it.
"""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from aimlasync import sse
from aimlasync.client.call import Attempt
from aimlasync.client.failures import content_type, not_json
from aimlasync.client.framing import is_foreign, is_heartbeat, kind_of, values_in
from aimlasync.client.incoming import Incoming
from aimlasync.client.large import TOO_MANY, has_too_many
from aimlasync.client.observer import Watch
from aimlasync.client.stream_bounds import StreamBounds
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APIResponseValidationError,
    TruncatedStreamError,
)
from aimlasync.transport.base import LARGE_BODY, RawReply
from aimlasync.wire.base import Reply, plain
from aimlasync.wire.error_bodies import error_in_body, excerpt, is_error, status_in, stream_error
from aimlasync.wire.error_shapes import ErrorDetail, read_error
from aimlasync.wire.halves import Halves, has_half

P = TypeVar("P")
W = TypeVar("W", bound=Reply)

# An integer, as `startswith` takes four times as long.
_BRACKET = 0x5B
# What stands around the mark where a server writes it as a string.
_QUOTED = b"\"' \t\r\n"
_CANCELLED = (
    "a read of the stream was cancelled, which closed it; timeout=Timeout(idle=...) bounds a read, "
    "and asyncio.wait leaves the task of one alone"
)


class StreamReading(Generic[P, W]):
    """What a stream knows of its answer, and how it learns it; `Stream` is what a reader sees of it."""

    # Filled by the subclass: it knows what its events mean, and how the data of one is decoded.
    _assembler: Any
    _decode: Callable[[bytes], P]

    def __init__(self, attempt: Attempt, body: RawReply | None = None) -> None:
        self.info = attempt.info
        self._attempt = attempt
        self._reply = attempt.response if body is None else body
        self._loop = asyncio.get_running_loop()
        self._incoming = Incoming(says_events=content_type(attempt.response) == "text/event-stream")
        # The last piece with nothing in it.
        self._unsaid = b""
        # Pieces decoded but not yet taken by the reader, and what follows the last of them.
        self._ready: deque[P] = deque()
        self._failure: AimlasyncError | None = None
        self._ended = False
        # Whether a task waits for the next read.
        self._is_read = False
        self._watch = attempt.call.watch
        self._bounds = StreamBounds(attempt, self._reply, self._loop)
        # Whether a piece had anything in it: text, a call, a reason to finish.
        self._says_something = False
        # Whether a reader has it: from then on nothing is retried.
        self._is_handed_over = False
        # The answer, where it came whole.
        self._whole_reply: W | None = None
        # What a piece ended with, where that was half a character.
        self._halves: Halves | None = None

    @property
    def is_lines(self) -> bool:
        """Whether the pieces came as JSON values, a line each, and not as events."""
        return self._incoming.body.kind == "json"

    @property
    def _framing(self) -> str:
        return "a JSON body" if self.is_lines else "a stream"

    # One read

    async def _fill(self) -> None:
        """Wait for bytes and take in every event they complete."""
        if self._is_read:
            # Before anything is touched: the stream is the other task's.
            raise RuntimeError("another task is reading this stream: let one read it, and hand on what it reads")
        self._is_read = True
        bounds = self._bounds
        if bounds.waiting is None:
            bounds.waiting = self._loop.time()
        held, incoming = len(self._ready), self._incoming
        try:
            if incoming.is_behind:
                await incoming.pause()
                found = incoming.more()
            else:
                found = incoming.read(await self._reply.read_some())
        except APIConnectionError as error:
            self._broken(error)
            return
        except sse.EventTooLargeError as error:
            self._fail(APIResponseValidationError(f"a stream event is too large: {error}", partial=self._whole()))
            return
        except BaseException:
            # Cancelled in the middle of a read: what the connection holds is unknown.
            self._failure = AimlasyncError(_CANCELLED, info=self.info)
            self._leave()
            raise
        finally:
            self._is_read = False
        for event, events in found:
            self._take_all(event, events)
        if self._ended:
            while incoming.is_behind:
                for event, events in incoming.more():
                    self._take_all(event, events)
        elif incoming.is_over and not incoming.is_behind:
            self._closed()
        if self._ended and self._failure is None:
            # Behind the terminal mark, what this read brought may have stated usage and cost.
            self._reply.finish()
            self._attempt.succeed(self._assembler.usage, self._assembler.cost)
        if self._watch is not None and self._is_handed_over:
            self._tell(self._watch)
        if len(self._ready) > held:
            bounds.waiting = None
            if not bounds.got_event:
                bounds.got_event = True
                if not self._ended:
                    # From here on it is `idle` that counts.
                    bounds.arm()

    def _tell(self, watch: Watch) -> None:
        """Tell what a read brought; the end last, since the cost may come behind the terminal mark."""
        if self._ready:
            watch.arrived(len(self._ready))
        if self._ended and self._failure is None:
            watch.answered(self._whole())

    def _take_all(self, event: str, events: list[bytes]) -> None:
        """Take in events of a type, by their data, in order."""
        at = 0
        while at < len(events):
            if self._ended:
                # What a server sends after its terminal mark is not part of the answer, but may state usage and cost.
                self._after(events[at])
            elif events[at]:
                if event != "error" and (pieces := self._take_alike(event, events[at:] if at else events)):
                    self._ready += pieces
                    at += len(pieces)
                    continue
                self._take(events[at], event)
            at += 1

    def _take_alike(self, event: str, events: list[bytes]) -> list[P]:
        """Take in the first of some events at once, as many as are of a kind with which that can be; return them."""
        raise NotImplementedError

    def _take(self, data: bytes, event: str) -> None:
        """Take in one event of a type, by its data: the end, or a piece."""
        if not data:
            return
        if data[0] == _BRACKET and data.strip() == b"[DONE]":
            self._done()
            return
        if len(data) > LARGE_BODY and has_too_many(data):
            self._fail(APIResponseValidationError(f"a stream event {TOO_MANY}", partial=self._whole()))
            return
        if data.find(b"\\u") >= 0:
            data = self._mended(data)
        try:
            piece = self._decode(data)
        except msgspec.DecodeError:
            if data.removeprefix(BOM_UTF8).strip(_QUOTED).upper() == b"[DONE]":
                self._done()
            else:
                self._undecodable(data, event)
            return
        self._take_piece(piece, data, event)

    def _take_piece(self, piece: P, data: bytes, event: str) -> None:
        raise NotImplementedError

    def text_of(self, piece: P) -> str | None:
        """Return what a piece adds to the text of the (first) answer."""
        raise NotImplementedError

    def _whole(self) -> W:
        whole: W = self._assembler.whole() if self._whole_reply is None else self._whole_reply
        whole.__dict__["info"] = self.info
        return whole

    def _undecodable(self, data: bytes, event: str) -> None:
        """An event that is no JSON object: a sign of life, words, half of one at the end of the body, or garbage."""
        # JSON that came outside of events may be no valid UTF-8.
        words = excerpt(data.decode("utf-8", "replace"))
        if event == "error":
            self._error({"message": words}, data)
            return
        if data.startswith(b":") or is_heartbeat(words.strip("[]: ")) or is_foreign(event, data):
            # The first is a comment that a gateway sends on as data.
            return
        if data.startswith(b"data:"):
            # A gateway that wraps the events of a server in events.
            self._take(data[5:].lstrip(), event)
            return
        if len(values := values_in(data)) > 1:
            for one in values:
                if self._ended:
                    self._after(one)
                else:
                    self._take(one, event)
            return
        try:
            value = plain(data)
        except msgspec.DecodeError:
            value = None
        if is_error(value):
            self._error(value, data)
        elif self.is_lines and self._is_first:
            self._fail(not_json(self._attempt, data))
        elif isinstance(value, (int, float)) or value in ([], ""):
            # A time, or nothing: the server is there.
            return
        elif not (self._incoming.is_over or self._assembler.finished):
            # Behind an answer that is whole, nothing costs it.
            said = f"a stream event is not valid JSON: {words}"
            self._fail(APIResponseValidationError(said, raw=data, partial=self._whole()))

    def _mended(self, data: bytes) -> bytes:
        """Return an event's data without halves of characters: see `wire.halves`."""
        if not has_half(data):
            return data
        self._halves = self._halves or Halves()
        return self._halves.mended(data)

    def _after(self, data: bytes) -> None:
        """Take in what an event behind the terminal mark states of usage and cost."""
        raise NotImplementedError

    # How it ends

    def _error(self, body: Any, raw: bytes) -> None:
        """An error object in the stream, or instead of it."""
        info, billed = self.info, self._attempt.billed
        if self.is_lines and self._is_first:
            self._fail(error_in_body(body, raw=raw, info=info, billed=billed))
        else:
            self._fail(stream_error(body, partial=self._whole(), info=info, billed=billed))

    @property
    def _is_first(self) -> bool:
        """Whether no piece has come before."""
        return not self._bounds.got_event and not self._ready

    def _done(self) -> None:
        """The server says that there is no more."""
        error = None
        if not self._assembler.finished:
            error = self._bare_error()
            if error is None and self._says_something:
                # What says this instead of an answer is told by `_no_answer`.
                error = self._error_aside()
        if error is not None:
            self._error(error, b"")
        elif self._is_cut():
            said = "the stream ended in the middle of a tool call, with no reason to finish"
            self._fail(TruncatedStreamError(said, partial=self._whole()))
        else:
            self._finish()

    def _is_cut(self) -> bool:
        """Whether what came cannot be all of an answer, though the server says so."""
        return False

    def _closed(self) -> None:
        """The body ended cleanly, without a terminal mark."""
        body = self._incoming.body
        if self._assembler.finished:
            self._finish()
        elif body.parser is None and (body.head or not body.says_events):
            # Neither events nor JSON.
            self._fail(not_json(self._attempt, bytes(body.head)))
        elif not self._says_something and (self.is_lines or status_in(self._last_said()) is not None):
            self._fail(self._no_answer())
        elif (error := self._bare_error() or (None if self._says_something else self._error_aside())) is not None:
            self._error(error, b"")
        elif self._is_first:
            began = excerpt(body.head.decode("utf-8", "replace"))
            said = f"the stream ended before its first event{began and f'; it began with: {began}'}"
            self._fail(TruncatedStreamError(said, partial=self._whole()))
        else:
            said = f"the stream ended before the answer did{self._last_words()}"
            cut = TruncatedStreamError(said, partial=self._whole())
            cut.retryable = not self._is_foreign()
            self._fail(cut)

    def _last_said(self) -> ErrorDetail:
        """Return what the last piece with nothing in it says: some servers tell of a failure in a way of their own."""
        try:
            return read_error(plain(self._unsaid))
        except msgspec.DecodeError:
            return read_error(None)

    def _last_words(self) -> str:
        said = self._last_said().message
        if not said and kind_of(between := self._incoming.between()) == "text":
            # Go's http.Error and others write what is wrong into a body that has begun.
            said = between.decode("utf-8", "replace")
        return f": {excerpt(said)}" if said else ""

    def _is_foreign(self) -> bool:
        """Whether the stream is a whole answer of another API, which would come again and be paid again."""
        return False

    def _error_aside(self) -> Any:
        """Return the last object if it tells of a failure though nothing in it is named "error", None without one."""
        return None

    def _bare_error(self) -> Any:
        """Return the error object that a server wrote between the events, None without one; it is in no `data:`.

        It is bare, or in a field that is named "error" (llama.cpp until late in 2025).
        """
        said = self._incoming.between()
        field = said.removeprefix(b"error:")
        try:
            value = plain(field)
        except msgspec.DecodeError:
            return None
        value = value if field is said else {"error": value}
        return value if is_error(value) else None

    def _no_answer(self) -> AimlasyncError:
        """The error of an answer in which nothing was said."""
        raise NotImplementedError

    def _broken(self, why: APIConnectionError) -> None:
        """The connection broke, or we broke it because a bound had passed."""
        partial = self._whole()
        late = self._bounds.error(partial)
        cut = TruncatedStreamError(f"the stream was cut: {why.message}", partial=partial)
        cut.retryable = why.retryable
        self._fail(late or cut)

    def _finish(self) -> None:
        """The answer is whole, if there is one; the connection and the permit go back after this read."""
        if not self._says_something:
            self._fail(self._no_answer())
            return
        self._end()

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
        self._bounds.waiting = None
        self._bounds.stop()
        self.info.timing.total = self._loop.time() - self._attempt.call.started
