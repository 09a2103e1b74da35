"""HTTP/1.1 responses: bytes in; status, fields and body out.

Law: pure; no I/O, no clock, no asyncio. Of RFC 9112 it knows what an API server sends: sections 4 (status line), 5
(fields), 6.2 and 6.3 (one Content-Length, or chunked and nothing else), 7.1 (chunks without extensions and trailers);
of RFC 9110 section 15.2 (1xx before the response), 15.3.5 and 15.4.5 (204 and 304 have no body).
It accepts only what it fully understands. Anything else raises OddResponseError, whose `replay` is what a complete
parser must read instead: that parser's verdict is then the only one, so the two together are never more lenient than
it. Two promises for every input: the result does not depend on how the bytes were cut, and time is linear in them.
"""

from __future__ import annotations

import re

from aimlasync.headers import Fields, _value

MAX_HEAD = 64 * 2**10
"""Bytes of a response's head, 1xx responses before it included; what has more is not read here."""

_STATUS_LINE = b"HTTP/1.1 "
# Names in a head in lower case. A line that is folded, has no name or a space before its colon is not found, and then
# there are fewer names than lines.
_NAMES = re.compile(r"\r\n([!#$%&'*+\-.^_`|~0-9a-z]+):")
_NOT_CONTROLS = b"\t" + bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_BEGUN_CHUNK_SIZE = re.compile(rb"(?:[0-9A-Fa-f]{1,8}\r?)?\Z")
# What decides where a response ends is said once.
_FRAMING = ("content-length", "transfer-encoding", "content-encoding", "connection")
# A longer number is no length, but an attempt to make somebody's integer overflow.
_LENGTH = re.compile(r"[0-9]{1,15}")


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


def _plain_fields(head: bytes) -> dict[str, str] | None:
    """Return the lines of a head by name in lower case, None unless all of it is as the grammar says."""
    if not head.startswith(_STATUS_LINE) or not head[9:12].isdigit() or head[12] not in b" \r":
        return None
    breaks = head.count(b"\r\n")
    # Besides one CR and LF for each line there is no control character, so there is no bare CR or LF either.
    if len(head.translate(None, _NOT_CONTROLS)) != 2 * breaks:
        return None
    text = head.decode("latin-1")
    names: list[str] = _NAMES.findall(text.lower())
    if len(names) != breaks - 2:
        return None
    lines = text.split("\r\n")[1:-2]
    fields = dict(zip(names, lines, strict=True))
    if len(fields) != len(names):
        if any(names.count(name) > 1 for name in _FRAMING):
            return None
        fields = dict(zip(reversed(names), reversed(lines), strict=True))
    return fields


class ResponseReader:
    """Reads the responses of one connection, one after the other, each announced with `begin`.

    After a `feed`: `fields` is None until the head is in; `pieces` are the parts of the body that arrived, for the
    caller to take; `is_ended` says that the response is whole, `is_reusable` that another may follow.
    """

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_head",
        "_held",
        "_last",
        "_left",
        "_seen",
        "fields",
        "is_ended",
        "is_reusable",
        "pieces",
        "status",
    )

    def __init__(self) -> None:
        self.begin()

    def begin(self, *, bodiless: bool = False) -> None:
        """Get ready for the next response; that to a HEAD is `bodiless`."""
        self.status = 0
        self.fields: Fields | None = None
        self.pieces: list[bytes] = []
        self.is_ended = False
        self.is_reusable = True
        self._bodiless = bodiless
        # The head as it came, for a replay.
        self._head = b""
        # Bytes of heads, those of 1xx responses included.
        self._seen = 0
        # What cannot be read yet: of the head, or of the line before a chunk. Not joined with each new piece: a head
        # in single bytes would be copied over and over.
        self._held = bytearray()
        self._chunked = False
        # Bytes to come: of the body, or of one chunk and the CRLF after it.
        self._left = 0
        # Whether the chunk of size 0 is in.
        self._last = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises OddResponseError and MalformedResponseError, after which it is of no more use."""
        if self.is_ended:
            # Nobody asked for what this would answer.
            self.is_reusable = self.is_reusable and not data
            return
        if self.fields is None:
            rest = self._read_head(data)
            if rest is None:
                return
            data = rest
        if self._chunked:
            self._read_chunks(data)
            return
        left = self._left - len(data)
        if left < 0:
            self.is_reusable = False
            data = data[:left]
            left = 0
        self._left = left
        if data:
            self.pieces.append(data)
        self.is_ended = left == 0

    # The head

    def _read_head(self, data: bytes) -> bytes | None:
        """Read up to the end of the head and return what follows, None while it is not in."""
        if self._held:
            begun = len(self._held)
            self._held += data
            end = self._held.find(b"\r\n\r\n", max(0, begun - 3))
            if end < 0:
                self._check_begun(begun)
                return None
            data = bytes(self._held)
            self._held.clear()
        else:
            end = data.find(b"\r\n\r\n")
        while end >= 0:
            head, rest = data[: end + 4], data[end + 4 :]
            self._seen += len(head)
            lines = _plain_fields(head) if self._seen <= MAX_HEAD else None
            status = 0 if lines is None else int(head[9:12])
            if lines is None or status < 100 or status == 101:
                raise OddResponseError(data)
            if status >= 200:
                self._frame(status, lines, data, rest)
                self._head = head
                self.status, self.fields = status, Fields(lines)
                return rest
            data = rest
            end = data.find(b"\r\n\r\n")
        self._held += data
        self._check_begun(0)
        return None

    def _check_begun(self, begun: int) -> None:
        """A head that can no longer become a plain one is not waited for: its end may look different."""
        held = self._held
        if (
            len(held) + self._seen > MAX_HEAD
            or held[: len(_STATUS_LINE)] != _STATUS_LINE[: len(held)]
            or _BARE_LF.search(held, max(0, begun - 1))
        ):
            raise OddResponseError(bytes(held))

    def _frame(self, status: int, lines: dict[str, str], data: bytes, rest: bytes) -> None:
        """Find out where the body ends; `data` is the response as far as it is here, `rest` what follows its head."""
        kept = lines.get("connection")
        if kept is not None and _value(kept).lower() != "keep-alive":
            self.is_reusable = False
        length, coding = lines.get("content-length"), lines.get("transfer-encoding")
        if length is not None:
            digits = _value(length)
            if coding is not None or not _LENGTH.fullmatch(digits):
                raise OddResponseError(data)
            self._left = int(digits)
        elif coding is not None:
            if _value(coding).lower() != "chunked":
                raise OddResponseError(data)
            self._chunked = True
        # Checked all the same: what is said wrongly of a body that does not come is no less suspicious.
        if self._bodiless or status == 204 or status == 304:
            self._left, self._chunked = 0, False
            return
        if length is None and coding is None:
            # The end of the connection ends it.
            raise OddResponseError(data)
        encoding = lines.get("content-encoding")
        if encoding is not None and _value(encoding).lower() != "identity":
            raise OddResponseError(data, is_framed=True)

    # Chunks

    def _read_chunks(self, data: bytes) -> None:
        if self._held:
            data = bytes(self._held) + data
            self._held.clear()
        at, end = 0, len(data)
        while at < end:
            if self._left:
                at = self._read_chunk(data, at, end)
            elif self._last:
                if data.startswith(b"\r\n", at):
                    self.is_ended = True
                    self.is_reusable = self.is_reusable and at + 2 == end
                elif data[at:] == b"\r":
                    self._held += b"\r"
                else:
                    # Trailers. The last chunk is read again, and they with it.
                    raise OddResponseError(self._head + b"0\r\n" + data[at:])
                return
            else:
                size = _CHUNK_SIZE.match(data, at)
                if size is None:
                    if _BEGUN_CHUNK_SIZE.match(data, at):
                        self._held += data[at:]
                        return
                    raise OddResponseError(self._head + data[at:])
                at = size.end()
                bytes_in_it = int(size[1], 16)
                if bytes_in_it:
                    self._left = bytes_in_it + 2
                else:
                    self._last = True

    def _read_chunk(self, data: bytes, at: int, end: int) -> int:
        """Read on in a chunk and the CRLF after it; return where it, or `data`, ends."""
        stop = at + self._left
        if self._left > 2:
            piece = data[at : min(stop - 2, end)]
            self.pieces.append(piece)
            at += len(piece)
        # What has come of the CRLF.
        tail = data[at : min(stop, end)]
        self._left = stop - at - len(tail)
        if tail and tail != b"\r\n"[2 - len(tail) - self._left : 2 - self._left]:
            raise MalformedResponseError
        return at + len(tail)
