"""One stream to one browser: its messages, its comments, and how it ends. It may import the whole package."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Literal, TypedDict, TypeVar

import msgspec

from aimlasync.chat.types import Usage
from aimlasync.client.chat_stream import ChatStream
from aimlasync.client.response_stream import ResponseStream
from aimlasync.errors import AimlasyncError
from aimlasync.info import Info
from aimlasync.logs import log_of
from aimlasync.relay.call_stream import CallStream
from aimlasync.relay.failures import INTERNAL, SHUTTING_DOWN, Failure, failure
from aimlasync.relay.messages import KEEP_ALIVE, Events, Named, Relayable, Source, message
from aimlasync.responses.types import ResponseUsage
from aimlasync.wire.base import encode

Streamed = ChatStream | ResponseStream | Relayable
T = TypeVar("T")

_log = log_of("aimlasync.relay")


class Relayed(msgspec.Struct, frozen=True, kw_only=True):
    """How a relay ended; `on_end` gets it."""

    outcome: Literal["finished", "failed", "left", "drained"]
    """The answer is complete; there was an error; the browser left; the server shut down before the end."""
    info: Info | None
    """The call's info; None when it ended without an answer or an error of its own."""
    usage: Usage | ResponseUsage | None
    """The tokens of a complete answer; None where they are unknown, as for an answer that was left."""
    error: AimlasyncError | None
    run: Any = None
    """The run of an agent, whichever way it ended, with its usage; None for a call."""


class RelayOptions(TypedDict, total=False):
    """Options of `Relay`, and so of `event_stream` in `aimlasync.starlette` and `aimlasync.aiohttp_web`."""

    events: Events
    """Which events are sent; "text" by default.

    * "text": `{"text": ...}` with the text of each read, then `{"truncated", "refusal", "usage"}`, named `done`;
    * "raw": each event as the vendor sent it, its stated cost included; after a chat also `[DONE]`;
    * a function: its value for each typed event as JSON, or a `Named` one; None is left out; then `done` as above.

    The messages of an agent's run are those of `agents.web_events`.
    """
    ping: float
    """Seconds between comments that keep the connection open, once the stream has its first event; 15 by default."""
    drain: float
    """Seconds that a stream has left when the server shuts down; 10 by default."""
    max_send: float | None
    """Seconds after which a browser that reads nothing counts as gone; 30 by default, None for no bound."""
    on_end: Callable[[Relayed], None] | None
    """Called once with how the relay ended; what it raises is logged."""


class Relay:
    """The relay of one stream to one browser.

    `call` is a stream, or an awaitable of one; `RelayOptions` explains the options. An error after the first message is
    the last message, named `error`, with a body as in `Failure`; an error before it is `failure`.
    Raises ValueError for `events` that is none of its kinds.
    """

    def __init__(
        self,
        call: Streamed | Awaitable[Streamed],
        *,
        events: Events = "text",
        ping: float = 15.0,
        drain: float = 10.0,
        max_send: float | None = 30.0,
        on_end: Callable[[Relayed], None] | None = None,
    ) -> None:
        if events not in ("text", "raw") and not callable(events):
            raise ValueError(f'events= is "text", "raw" or a function, not {events!r}')
        self._call = call
        self._events = events
        self._on_end = on_end
        self.ping = ping
        self.drain_seconds = drain
        self.max_send = max_send
        self.failure: Failure | None = None
        """The response to send when the call failed before the event stream began."""
        self.began = False
        """Whether the event stream has begun, with the first message or with a comment before it."""
        self.is_open = False
        """Whether the stream has its first event, after which comments may be sent."""
        self._source: Source | None = None if inspect.isawaitable(call) else _source_of(call, events)
        self._outcome: Literal["finished", "failed", "left", "drained"] = "left"
        self._error: AimlasyncError | None = None
        self._usage: Usage | ResponseUsage | None = None
        # The id for the next message; sent once, because a browser remembers it.
        self._id: str | None = None
        # The timeout of the read in progress, and the loop time of the shutdown, to which it is set.
        self._timeout: asyncio.Timeout | None = None
        self._shutdown_at: float | None = None
        self._ended = False

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Iterate the messages as bytes to send; events that arrived in one read are in one piece.

        Closing or cancelling the iteration cancels the call.
        """
        try:
            source = await self._open()
            read = source.read_some
            while pieces := await self._until_shutdown(read()):
                if made := source.messages_of(pieces):
                    data = b"".join([self._message(one) for one in made])
                    self.began = True
                    yield data
                # The traceback of an error that follows shows no part of the answer.
                pieces, made, data = [], [], b""
            last, self._usage = await source.end()
            self._outcome, self.began = "finished", True
            if last is not None:
                yield self._message(last)
            return
        except AimlasyncError as error:
            self._error, self._outcome = error, "failed"
            failed = failure(error) if self._source is None else self._source.failure(error)
        except Exception as error:
            if isinstance(error, TimeoutError) and self._shutdown_at is not None:
                # The timeout of the shutdown; a call's timeouts are AimlasyncErrors.
                self._outcome, failed = "drained", SHUTTING_DOWN
            else:
                self._outcome = "failed"
                if not self.began:
                    # The framework has its own answer to a mistake of the app.
                    raise
                _log.exception("a relay failed")
                failed = INTERNAL
        finally:
            await self.close()
        if self.began:
            yield self._message(Named("error", msgspec.Raw(failed.body)))
        else:
            self.failure = failed

    def comment(self) -> bytes:
        """Return the next comment, which keeps the connection open; it may be sent once `is_open`."""
        if self.began or not self.is_open or self._events == "raw":
            return KEEP_ALIVE
        # This comment begins the event stream, so it carries the id: a browser takes the id of an event without data
        # as well. Clients of raw events may not, but they do not reconnect by themselves.
        id, self._id = self._id, None
        return b"id: %b\n\n%b" % ((id or "").encode(), KEEP_ALIVE)

    def drain(self, seconds: float | None = None) -> None:
        """Give the stream `seconds` until it is cut with a last message that says so; None is the option `drain`."""
        self._shutdown_at = asyncio.get_running_loop().time() + (self.drain_seconds if seconds is None else seconds)
        if self._timeout is not None:
            self._timeout.reschedule(self._shutdown_at)

    async def close(self) -> None:
        """End the call if it has not ended. It may be called more than once, and without `messages` being iterated."""
        if self._ended:
            return
        self._ended = True
        source = self._source
        try:
            if source is not None:
                await source.close()
            elif inspect.iscoroutine(self._call):
                # Never awaited when nobody iterated; otherwise it has ended, and this does nothing.
                self._call.close()
        finally:
            if self._on_end is not None:
                info = None if source is None else source.info
                if info is None and self._error is not None:
                    info = self._error.info
                run = None if source is None else source.run
                ended = Relayed(outcome=self._outcome, info=info, usage=self._usage, error=self._error, run=run)
                try:
                    self._on_end(ended)
                except Exception:  # noqa: BLE001  # the browser's answer does not depend on it
                    _log.exception("on_end of a relay failed")

    async def _open(self) -> Source:
        """Wait for the source, which has its first event then."""
        if self._source is None:
            given: Any = self._call
            self._source = _source_of(await self._until_shutdown(given), self._events)
        await self._until_shutdown(self._source.open())
        self._id, self.is_open = self._source.id, True
        return self._source

    async def _until_shutdown(self, wanted: Awaitable[T]) -> T:
        """Await `wanted`. Raises TimeoutError when a shutdown ends the wait."""
        async with asyncio.timeout_at(self._shutdown_at) as self._timeout:
            try:
                return await wanted
            finally:
                self._timeout = None

    def _message(self, named: Named) -> bytes:
        id, self._id = self._id, None
        return message(encode(named.data), event=named.event, id=id)


def _source_of(given: Any, events: Events) -> Source:
    """Return what is read of a stream. Raises TypeError for what is none."""
    if isinstance(given, ChatStream | ResponseStream):
        return CallStream(given, events)
    relayed = getattr(given, "relayed", None)
    if relayed is None:
        raise TypeError(
            f"a stream is relayed, not a {type(given).__name__}: create(..., stream=True) or agents.stream(...)"
        )
    source: Source = relayed(events)
    return source
