"""The messages to a browser, and the protocols of what they are made from. It may import `failures` and structs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from aimlasync.chat.types import Usage
from aimlasync.errors import AimlasyncError
from aimlasync.info import Info
from aimlasync.relay.failures import Failure
from aimlasync.responses.types import ResponseUsage

Events = Literal["text", "raw"] | Callable[[Any], Any]
"""Which events of a stream are relayed, see `RelayOptions`."""

KEEP_ALIVE = b": keep-alive\n"
"""A comment, which a page never sees. No blank line follows it, because some clients take that for an empty event."""

# As numbers: one that is looked for in bytes takes a sixth of the time of a text of one byte.
_LF, _CR = b"\n\r"

HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""The headers of an event stream: no cache stores it, nothing compresses it, and nginx does not buffer it."""


class Named(msgspec.Struct, frozen=True):
    """A message with a name, which a page listens for; a function given as `events` may return one."""

    event: str | None
    """None is the name of a message without one, "message"."""
    data: Any
    """A value that is sent as JSON; `msgspec.Raw` is JSON already."""


def message(data: bytes, *, event: str | None = None, id: str | None = None) -> bytes:
    """Return one server-sent event; `data` is JSON, in which each line break is replaced by a space."""
    head = b""
    if id is not None:
        head = b"id: %b\n" % id.encode()
    if event is not None:
        head += b"event: %b\n" % event.encode()
    if _LF in data or _CR in data:
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"%bdata: %b\n\n" % (head, data)


def chosen(events: Callable[[Any], Any], pieces: Sequence[Any]) -> list[Named]:
    """Return the messages that a function makes of events."""
    values = [value for value in map(events, pieces) if value is not None]
    return [value if isinstance(value, Named) else Named(None, value) for value in values]


class Source(Protocol):
    """What a relay reads. All is asked of it in this order; `close` may come at any time, and more than once."""

    @property
    def id(self) -> str:
        """The id of the first message."""

    @property
    def info(self) -> Info | None:
        """The info of the call, None where there is none."""

    @property
    def run(self) -> Any:
        """The run of an agent, None for a call."""

    async def open(self) -> None:
        """Wait for the first event."""

    async def read_some(self) -> Sequence[Any]:
        """Return the events that have arrived, at least one; none at the end."""

    def messages_of(self, pieces: Sequence[Any]) -> list[Named]:
        """Return what is sent for these events."""

    async def end(self) -> tuple[Named | None, Usage | ResponseUsage | None]:
        """Return the last message, and the tokens of a whole answer."""

    def failure(self, error: AimlasyncError) -> Failure:
        """Return what is sent for an error that ended it."""

    async def close(self) -> None:
        """End it, if it has not ended."""


class Relayable(Protocol):
    """What can be relayed beside the streams of calls; `agents.RunStream` is one."""

    def relayed(self, events: Events) -> Source:
        """Return the source to read. Raises ValueError for `events` that it does not have."""
