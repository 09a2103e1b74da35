"""The interface of a transport, which sends one attempt and returns its response, and what all transports share.

`connection_pool` has the default transport, `aiohttp_session` the one for proxies, and `over_httpx` one over an httpx
client; a user may give another one. A transport knows nothing of endpoints, retries, limits or JSON. It raises no
third-party exception, since those of aiohttp carry the request's headers and with them the key: each becomes an error
of `errors`, raised outside of the `except` block, so that it chains to nothing. It may import `errors`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping
from io import BytesIO
from typing import Protocol

from aimlasync.errors import AimlasyncError, APIConnectionError, APIResponseValidationError

MAX_BODY = 64 * 2**20
"""Largest body that is read, in bytes, after decompression."""

LARGE_BODY = 128 * 2**10
"""Bytes of a body, or an event, up to which it is decoded at once, whatever is in it."""

MAX_ERROR_BODY = 2**20
"""How much of the body of an error is read, in bytes; what is longer is cut there."""

# After a stream's end: how much is read, and for how long, to give the connection back instead of closing it.
DRAIN_BYTES = 64 * 2**10
DRAIN_SECONDS = 1.0


AT_ONCE = 0.2
"""Seconds after a request in which a kept connection that dies is taken for one that the server had closed before."""


class NoRoomError(APIConnectionError):
    """This process, or its machine, has no file left for another connection, which says nothing of the server."""


class StaleConnectionError(APIConnectionError):
    """A kept connection died as soon as it was used, without a byte: the server had probably closed it before.

    Probably: a server that reads a request and hangs up at once looks the same. So a call is sent again for it once.
    """


class RawReply(Protocol):
    """One response, its body still to be read."""

    status: int
    headers: Mapping[str, str]

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body.

        Raises APIResponseValidationError beyond `max_bytes`, APIConnectionError if it breaks.
        """

    async def read_some(self) -> bytes:
        """Return what has arrived, b"" at a clean end. Raises APIConnectionError if the body breaks.

        A read that is cancelled loses nothing: the next one returns what it would have.
        """

    def abort(self) -> None:
        """Drop the connection; a pending read fails. Harmless after the end."""

    def finish(self) -> None:
        """Give the connection back once the rest of the body, which nobody wants, has been read in the background."""


class Transport(Protocol):
    """Sends one attempt."""

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        own: Mapping[str, str],
        body: bytes | None,
        *,
        connect: float | None,
        fresh: bool = False,
    ) -> Awaitable[RawReply]:
        """Send a request, once, and return its response once the headers are in.

        `headers` are the endpoint's: the same object with every call, never changed, so that what is made of it can be
        kept. `own` are those of the call, and replace the endpoint's; names are spelled alike in both.
        `connect` bounds making a connection, in seconds, from the name's look-up to the end of the handshakes; `fresh`
        asks for a connection that was not used before. Raises APITimeoutError (connect), StaleConnectionError,
        APIConnectionError; ValueError for a header or URL that cannot be sent (`aimlasync.headers`).
        Redirects are never followed: they would carry the prompt to another host.
        """

    async def close(self) -> None:
        """Close all connections."""


async def gathered(reply: RawReply, max_bytes: int) -> bytes:
    """Return the rest of a body; beyond `max_bytes` the connection is dropped, and it is an error."""
    # To join a list at the end would hold up the loop for as long as all of it takes.
    body = BytesIO()
    size = 0
    while piece := await reply.read_some():
        size += len(piece)
        if size > max_bytes:
            reply.abort()
            raise too_large(max_bytes)
        body.write(piece)
    return body.getvalue()


# Bytes of a body that is here which are read at once, where its pieces have no other end.
_PART = 64 * 2**10


class ReadBody:
    """A response whose body is here: whole, or in pieces that end with a match of `ends`."""

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes, *, ends: re.Pattern[bytes] | None = None
    ) -> None:
        self.status = status
        self.headers = headers
        self._body = body
        self._ends = ends
        self._at = 0

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body."""
        return self._body if not self._at and len(self._body) <= max_bytes else await gathered(self, max_bytes)

    async def read_some(self) -> bytes:
        """Return the next piece."""
        at = self._at
        if at:
            # Other calls have their turn, as they would while a server takes its time.
            await asyncio.sleep(0)
        end = None if self._ends is None else self._ends.search(self._body, at)
        self._at = at + _PART if end is None else end.end()
        return self._body[at : self._at]

    def abort(self) -> None:
        """Do nothing: there is no connection."""

    def finish(self) -> None:
        """Do nothing: there is no connection."""


async def beginning(reply: RawReply, max_bytes: int) -> bytes:
    """Return a body as far as it comes: whole, cut at `max_bytes`, or up to where the connection broke."""
    pieces = []
    left = max_bytes
    try:
        while left > 0 and (piece := await reply.read_some()):
            pieces.append(piece[:left])
            left -= len(piece)
    except AimlasyncError:
        pass
    if left <= 0:
        # Harmless where it ended there.
        reply.abort()
    return b"".join(pieces)


def too_large(max_bytes: int) -> APIResponseValidationError:
    """The error of a body above its bound."""
    return APIResponseValidationError(f"the response is larger than {max_bytes} bytes and was not read further")
