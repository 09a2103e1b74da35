"""Writes HTTP/1.1 responses to a connection, and breaks connections.

A response is one write of bytes to the transport of an aiohttp request. That is twice as fast as aiohttp's response
objects, and it lets a fault send a response that those objects would not send. It knows nothing of models and imports
only aiohttp.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

JSON = "application/json; charset=utf-8"
ERROR_PAGE = b"<!doctype html><html><head><title>502</title></head><body><h1>502 Bad Gateway</h1></body></html>"
EVENT_STREAM = "text/event-stream; charset=utf-8"

_REASON = {status.value: status.phrase for status in HTTPStatus}
# l_onoff=1, l_linger=0: close() then sends RST instead of FIN.
_NO_LINGER = struct.pack("ii", 1, 0)

Headers = Iterable[tuple[str, str]]


class _Written(web.StreamResponse):
    """Tells aiohttp that the response has been written already. It has no state, so one object serves all requests."""

    def __init__(self, *, kept: bool) -> None:
        super().__init__()
        self._kept = kept

    @property
    def keep_alive(self) -> bool:
        return self._kept

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


KEPT: web.StreamResponse = _Written(kept=True)
"""Return this from a handler that wrote its response: the connection serves the next request."""
CLOSED: web.StreamResponse = _Written(kept=False)
"""Return this from a handler that wrote its response, or none: the connection closes."""


def head(status: int, headers: Headers, *, keep_alive: bool) -> bytes:
    """Return the status line and the headers, with the blank line after them."""
    lines = [f"HTTP/1.1 {status} {_REASON.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append("Connection: keep-alive\r\n\r\n" if keep_alive else "Connection: close\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1", "replace")


def whole(status: int, content_type: str, body: bytes, headers: Headers, *, keep_alive: bool) -> bytes:
    """Return a complete response."""
    entity = (("Content-Type", content_type), ("Content-Length", str(len(body))))
    return head(status, (*entity, *headers), keep_alive=keep_alive) + body


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of the chunked transfer coding; empty data makes the last chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def proceed(request: web.BaseRequest) -> None:
    """Tell a client that waits for 100 Continue to send its body."""
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def reset(request: web.BaseRequest) -> None:
    """End the connection with a TCP reset; bytes that were written but not sent are lost."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
