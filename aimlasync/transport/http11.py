"""HTTP/1.1 responses from bytes: status, fields and body.

Pure: no I/O, no clock, no asyncio; it imports `heads` and `headers`. Of RFC 9112 it reads what an API server
sends: sections 4 (status line), 5 (fields), 6.2 and 6.3 (one Content-Length, or chunked and nothing else), 7.1 (chunks
without extensions and trailers); of RFC 9110 section 15.2 (1xx before the response), 15.3.5 and 15.4.5 (204 and 304
have no body).
It accepts only what it fully understands. Anything else raises OddResponseError, whose `replay` a complete parser must
read instead: that parser's verdict is then the only one, so the two together are never more lenient than it. Two
promises hold for every input: the result does not depend on how the bytes were cut, and time is linear in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from aimlasync.headers import Fields
from aimlasync.transport.heads import Head, Heads

MAX_HEAD = 64 * 2**10
"""Bytes of a response's head, 1xx responses before it included; what has more is not read here."""

_STATUS_LINE = b"HTTP/1.1 "
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_BEGUN_CHUNK_SIZE = re.compile(rb"(?:[0-9A-Fa-f]{1,8}\r?)?\Z")
_NO_HEADERS = Fields({})


class OddResponseError(Exception):
    """Not what the reader understands, and perhaps a response all the same.

    `replay` begins like this response, goes on with what was not read of its body, and is to be followed by the bytes
    that come next. `is_framed` says that framing is no question, only the content is encoded.
    """

    def __init__(self, replay: bytes, *, is_framed: bool = False) -> None:
        super().__init__()
        self.replay = replay
        self.is_framed = is_framed


class MalformedResponseError(Exception):
    """What follows a chunk is not what its size promised: there is no telling where the next one begins."""


class ResponseReader(msgspec.Struct, eq=False, gc=False):
    """Reads one response; that to a HEAD is `bodiless`.

    After a `feed`: `status` is 0 until the head is in, and with it `headers`; `take` returns what arrived of the body;
    `is_ended` says that the response is whole, `is_reusable` that another may follow.
    """

    bodiless: bool = False
    heads: Heads = msgspec.field(default_factory=Heads)
    """Of the server whose response it is."""
    status: int = 0
    headers: Mapping[str, str] = _NO_HEADERS
    # What of the body arrived and was not taken: mostly one piece, for which there is no list. Thousands of responses
    # may come in one turn of the loop, and the collector looks at each list.
    body: bytes = b""
    more: list[bytes] | None = None
    is_ended: bool = False
    is_reusable: bool = True
    # The head as it came, for a replay of chunks.
    _head: bytes = b""
    # Bytes of 1xx responses.
    _seen: int = 0
    # What cannot be read yet: of the head, or of the line before a chunk. Not joined with each new piece: a head in
    # single bytes would be copied over and over.
    _held: bytearray | None = None
    _chunked: bool = False
    # Bytes to come: of the body, or of one chunk and the CRLF after it.
    _left: int = 0
    # Whether the chunk of size 0 is in.
    _last: bool = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises OddResponseError and MalformedResponseError, after which it is of no more use."""
        if not self.status:
            rest = self._read_head(data)
            if rest is None:
                return
            data = rest
        elif self.is_ended:
            # Nobody asked for what this would answer.
            self.is_reusable = self.is_reusable and not data
            return
        if self._chunked:
            pieces: list[bytes] = []
            try:
                self._read_chunks(data, pieces)
            finally:
                if pieces:
                    self._add(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            return
        left = self._left - len(data)
        if left < 0:
            self.is_reusable = False
            data = data[:left]
        if data:
            self._add(data)
        if left > 0:
            self._left = left
        else:
            self.is_ended = True

    @property
    def has_begun(self) -> bool:
        """Whether anything of it has come."""
        return bool(self.status or self._held or self._seen)

    # The body

    def _add(self, piece: bytes) -> None:
        if not self.body:
            self.body = piece
        elif self.more is None:
            self.more = [piece]
        else:
            self.more.append(piece)

    def take(self) -> bytes:
        """Return what arrived of the body and was not taken."""
        body, self.body = self.body, b""
        if self.more is not None:
            body = b"".join([body, *self.more])
            self.more = None
        return body

    def __repr__(self) -> str:
        # Tracebacks may show it, and a response may echo the key.
        return f"<{type(self).__name__} {self.status}>"

    # The head

    def _read_head(self, data: bytes) -> bytes | None:
        """Read up to the end of the head and return what is to be read behind it, None for nothing yet, or any more."""
        held = self._held
        if held:
            begun = len(held)
            held += data
            if held.find(b"\r\n\r\n", max(0, begun - 3)) < 0:
                self._check_begun(held, begun)
                return None
            data = bytes(held)
            self._held = None
        head, end, rest = data.partition(b"\r\n\r\n")
        while end:
            seen = self._seen + len(head) + 4
            found = self.heads.read(head) if seen <= MAX_HEAD else None
            if found is None:
                raise OddResponseError(data)
            length = found.length
            if length is None or not found.is_plain or self.bodiless:
                status = found.status
                if status < 200:
                    if status < 100 or status == 101:
                        raise OddResponseError(data)
                    self._seen, data = seen, rest
                    head, end, rest = data.partition(b"\r\n\r\n")
                    continue
                length = self._length_of(found, data)
                if self._chunked:
                    self._head = head + end
            self.status, self.headers = found.status, found.headers
            if length != len(rest) or self._chunked:
                self._left = length
                return rest
            # All of it is here, as mostly.
            self.body, self.is_ended = rest, True
            return None
        self._held = held = bytearray(data)
        self._check_begun(held, 0)
        return None

    def _length_of(self, found: Head, data: bytes) -> int:
        """Return how long a body is that is none, comes in chunks, or is the last one; 0 for chunks."""
        if found.closes:
            self.is_reusable = False
        if self.bodiless or found.status in (204, 304):
            return 0
        if found.length is None and not found.is_chunked:
            # The end of the connection ends it.
            raise OddResponseError(data)
        if found.is_encoded:
            raise OddResponseError(data, is_framed=True)
        self._chunked = found.is_chunked
        return found.length or 0

    def _check_begun(self, held: bytearray, begun: int) -> None:
        """A head that can no longer become a plain one is not waited for: its end may look different."""
        if (
            len(held) + self._seen > MAX_HEAD
            or held[: len(_STATUS_LINE)] != _STATUS_LINE[: len(held)]
            or _BARE_LF.search(held, max(0, begun - 1))
        ):
            raise OddResponseError(bytes(held))

    # Chunks

    def _read_chunks(self, data: bytes, pieces: list[bytes]) -> None:
        """Add to `pieces` what is in the chunks."""
        if self._held:
            data = bytes(self._held) + data
            self._held = None
        at, end = 0, len(data)
        while at < end:
            if self._left:
                at = self._read_chunk(data, at, end, pieces)
            elif self._last:
                if data.startswith(b"\r\n", at):
                    self.is_ended = True
                    self.is_reusable = self.is_reusable and at + 2 == end
                elif data[at:] == b"\r":
                    self._held = bytearray(b"\r")
                else:
                    # Trailers. The last chunk is read again, and they with it.
                    raise OddResponseError(self._head + b"0\r\n" + data[at:])
                return
            else:
                size = _CHUNK_SIZE.match(data, at)
                if size is None:
                    if _BEGUN_CHUNK_SIZE.match(data, at):
                        self._held = bytearray(data[at:])
                        return
                    raise OddResponseError(self._head + data[at:])
                at = size.end()
                bytes_in_it = int(size[1], 16)
                if bytes_in_it:
                    stop = at + bytes_in_it
                    if data[stop : stop + 2] == b"\r\n":
                        # All of it is here, as mostly. `startswith` takes twice as long.
                        pieces.append(data[at:stop])
                        at = stop + 2
                    else:
                        self._left = bytes_in_it + 2
                else:
                    self._last = True

    def _read_chunk(self, data: bytes, at: int, end: int, pieces: list[bytes]) -> int:
        """Read on in a chunk and the CRLF after it; return where it, or `data`, ends."""
        stop = at + self._left
        if self._left > 2:
            piece = data[at : min(stop - 2, end)]
            pieces.append(piece)
            at += len(piece)
        # What has come of the CRLF.
        tail = data[at : min(stop, end)]
        self._left = stop - at - len(tail)
        if tail and tail != b"\r\n"[2 - len(tail) - self._left : 2 - self._left]:
            raise MalformedResponseError
        return at + len(tail)
